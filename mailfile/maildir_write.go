package mailfile

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mssd/imapd/wire"
)

// maildirWriter writes a Maildir++ as Dovecot and mbsync read it: INBOX is the top, other mailboxes are folders
// whose names begin with a dot; a message is a file in cur/ whose name ends in its flags and whose time of change is the
// internal date; up to 26 keywords of a mailbox have letters in dovecot-keywords.
type maildirWriter struct {
	dest, part string
	log        *os.File // the manifest
	lines      manifestWriter
	folders    folders
	letters    map[string][]string // keywords by folder: the first is a, …
	subscribed []string
	closed     bool
}

const maxLetters = 26 // keywords of a mailbox that Maildir can hold

// NewMaildir begins a Maildir++ that will stand at dest. What a former export left unfinished beside it is removed.
func NewMaildir(dest string) (Writer, error) {
	if err := free(dest); err != nil {
		return nil, err
	}
	m := &maildirWriter{dest: filepath.Clean(dest), part: partName(dest), letters: map[string][]string{}}
	if err := m.clear(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(m.part, 0o700); err != nil {
		return nil, err
	}
	var err error
	if m.log, err = os.OpenFile(filepath.Join(m.part, maildirManifest), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	if err := lock(m.log); err != nil {
		return nil, errors.Join(err, m.log.Close())
	}
	m.lines.w = bufio.NewWriter(m.log)
	return m, nil
}

// clear removes an unfinished export: an empty folder, or one with our manifest that nobody is writing.
func (m *maildirWriter) clear() error {
	if st, err := os.Lstat(m.part); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	} else if !st.IsDir() {
		return fmt.Errorf("%s: is there and is no unfinished export; move it away", m.part)
	}
	if os.Remove(m.part) == nil {
		return nil // it was empty
	}
	f, err := os.OpenFile(filepath.Join(m.part, maildirManifest), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("%s: is there and is no unfinished export; move it away", m.part)
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return err
	}
	return os.RemoveAll(m.part)
}

func (m *maildirWriter) Head(h Head) error {
	if err := m.lines.line(manifestLine{Export: &exportLine{manifestVersion, h}}); err != nil {
		return err
	}
	return m.make("")
}

// make makes the folders of a mailbox.
func (m *maildirWriter) make(dir string) error {
	if dir != "" {
		if err := os.Mkdir(filepath.Join(m.part, dir), 0o700); err != nil {
			return err
		}
		// Maildir++ marks folders below the top so.
		if err := os.WriteFile(filepath.Join(m.part, dir, "maildirfolder"), nil, 0o600); err != nil {
			return err
		}
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.Mkdir(filepath.Join(m.part, dir, sub), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (m *maildirWriter) Mailbox(b Mailbox) error {
	dir := m.folders.add(b.Name, maildirFolder)
	if err := m.lines.line(manifestLine{Mailbox: &mailboxLine{dir, b}}); err != nil {
		return err
	}
	if b.Subscribed {
		if dir == "" {
			m.subscribed = append(m.subscribed, "INBOX")
		} else {
			m.subscribed = append(m.subscribed, dir[1:])
		}
	}
	if dir == "" {
		return nil
	}
	return m.make(dir)
}

func (m *maildirWriter) Message(msg Message, body io.Reader) (string, error) {
	dir, ok := m.folders.of[msg.Mailbox]
	if !ok {
		return "", fmt.Errorf("a message of a mailbox that was not named")
	}
	// The number first: readers take the order of messages from it.
	base := fmt.Sprintf("%010d.V%d.mssd,S=%d", msg.UID, msg.UIDValidity, msg.Size)
	path := filepath.Join(m.part, dir, "cur", base+":2,"+m.info(dir, msg))
	sum, err := m.write(path, &msg, body)
	var cause *ReadError
	if errors.As(err, &cause) {
		if err := os.Remove(path); err != nil {
			return "", err
		}
		msg.Damaged = true
	} else if err != nil {
		return "", err
	}
	return sum, cmp.Or(err, m.lines.line(manifestLine{Message: &messageLine{Path: filepath.Join(dir, base), Message: msg}}))
}

// write writes a message and completes what is known of it.
func (m *maildirWriter) write(path string, msg *Message, body io.Reader) (string, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	sum, err := copyMessage(f, msg, body)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return sum, os.Chtimes(path, msg.Date, msg.Date)
}

// copyMessage copies octets and notes their hash, number and line ends.
func copyMessage(w io.Writer, msg *Message, body io.Reader) (string, error) {
	sum, ends := sha256.New(), &bareLF{}
	n, err := io.Copy(io.MultiWriter(w, sum, ends), reading{body})
	if err != nil {
		return "", err
	}
	msg.Size, msg.SHA256, msg.BareLF = n, hex.EncodeToString(sum.Sum(nil)), ends.found
	return msg.SHA256, nil
}

// info is the end of a file's name: letters in the order of ASCII.
func (m *maildirWriter) info(dir string, msg Message) string {
	var b strings.Builder
	for _, f := range systemFlags {
		if slices.Contains(msg.Flags, f.name) {
			b.WriteByte(f.letter)
		}
	}
	var letters []byte
	for _, w := range msg.Keywords {
		i := slices.Index(m.letters[dir], w)
		if i < 0 && len(m.letters[dir]) < maxLetters {
			i = len(m.letters[dir])
			m.letters[dir] = append(m.letters[dir], w)
		}
		if i >= 0 {
			letters = append(letters, byte('a'+i))
		}
	}
	slices.Sort(letters)
	b.Write(letters)
	return b.String()
}

func (m *maildirWriter) Close() error {
	for dir, words := range m.letters {
		var b strings.Builder
		for i, w := range words {
			fmt.Fprintf(&b, "%d %s\n", i, w)
		}
		if err := os.WriteFile(filepath.Join(m.part, dir, "dovecot-keywords"), []byte(b.String()), 0o600); err != nil {
			return err
		}
	}
	if len(m.subscribed) > 0 {
		text := strings.Join(m.subscribed, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(m.part, "subscriptions"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := m.lines.end(); err != nil {
		return err
	}
	// One sync for all of the files: there may be a million.
	if err := unix.Syncfs(int(m.log.Fd())); err != nil {
		return fmt.Errorf("%s: %w", m.part, err)
	}
	if err := publish(m.part, m.dest); err != nil {
		return err
	}
	m.closed = true
	return m.log.Close()
}

func (m *maildirWriter) Abort() {
	if !m.closed {
		m.closed = true
		_ = os.RemoveAll(m.part) // still locked; what stays is removed by the next export
		m.log.Close()
	}
}

// subscribedNames reads the list that Dovecot keeps beside a Maildir: names with dots between levels, one a line, in
// version 2 behind a header and with tabs.
func subscribedNames(text string) map[string]bool {
	names := map[string]bool{}
	sep := "."
	for i, l := range strings.Split(text, "\n") {
		if i == 0 && strings.HasPrefix(l, "V\t") {
			sep = "\t"
			continue
		}
		if l == "" {
			continue
		}
		levels := strings.Split(l, sep)
		for i := range levels {
			if l, err := wire.DecodeUTF7(levels[i]); err == nil {
				levels[i] = l
			}
		}
		names[cleanName(levels)] = true
	}
	return names
}
