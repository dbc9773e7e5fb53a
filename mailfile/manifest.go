package mailfile

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The manifest is a text of JSON documents, one a line: an export line, a line for each mailbox, a line for each
// message in the order in which they were written, an end line. It is UTF-8 and may be read by any program.
const (
	manifestName    = "manifest.jsonl"      // in a ZIP
	maildirManifest = "mssd-manifest.jsonl" // in a Maildir
	manifestVersion = 1
)

type manifestLine struct {
	Export  *exportLine  `json:"export,omitempty"`
	Mailbox *mailboxLine `json:"mailbox,omitempty"`
	Message *messageLine `json:"message,omitempty"`
	End     *endLine     `json:"end,omitempty"`
}

type exportLine struct {
	Version int `json:"mssd_mail"`
	Head
}

type mailboxLine struct {
	Folder string `json:"folder"`
	Mailbox
}

type messageLine struct {
	// Path is the entry in a ZIP; in a Maildir folder/name without the flags at its end.
	Path string `json:"path"`
	Message
	size int64 // of the line, octets
}

type endLine struct {
	Messages int64 `json:"messages"`
}

// manifestWriter writes lines.
type manifestWriter struct {
	w        *bufio.Writer
	messages int64
}

func (m *manifestWriter) line(l manifestLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if l.Message != nil && !l.Message.Damaged {
		m.messages++
	}
	_, err = m.w.Write(append(b, '\n'))
	return err
}

func (m *manifestWriter) end() error {
	if err := m.line(manifestLine{End: &endLine{m.messages}}); err != nil {
		return err
	}
	return m.w.Flush()
}

// manifest reads lines, in their order; those that are asked for out of order are kept in memory.
type manifest struct {
	lines     *bufio.Scanner
	close     io.Closer
	head      Head
	mailboxes []mailboxLine
	next      *messageLine // read, not asked for
	stash     map[string]*messageLine
	room      int64 // octets of lines that may be kept yet; each gives back what it took
	ended     bool
}

// readManifest reads the lines before the messages.
func readManifest(r io.ReadCloser) (*manifest, error) {
	m := &manifest{room: maxStashed, lines: bufio.NewScanner(io.LimitReader(r, maxManifest)), close: r}
	m.lines.Buffer(make([]byte, 0, 4096), maxLine)
	for first := true; ; first = false {
		l, err := m.read()
		switch {
		case err != nil:
			return nil, errors.Join(err, r.Close())
		case first && (l.Export == nil || l.Export.Version != manifestVersion):
			return nil, errors.Join(fmt.Errorf("%w: the manifest is none of mssd, or of another version", ErrSource), r.Close())
		case first:
			m.head = l.Export.Head
		case l.Mailbox != nil:
			if len(m.mailboxes) == maxMailboxes {
				return nil, errors.Join(fmt.Errorf("%w: more than %d mailboxes", ErrSource, maxMailboxes), r.Close())
			}
			l.Mailbox.Name = cleanName(strings.Split(l.Mailbox.Name, "/"))
			m.mailboxes = append(m.mailboxes, *l.Mailbox)
		default:
			m.next = l.Message
			return m, nil
		}
	}
}

// read reads a line; none is left where all of its fields are nil.
func (m *manifest) read() (manifestLine, error) {
	var l manifestLine
	if !m.lines.Scan() {
		m.ended = true
		if err := m.lines.Err(); err != nil {
			return l, fmt.Errorf("%w: manifest: %w", ErrSource, err)
		}
		return l, nil
	}
	if err := json.Unmarshal(m.lines.Bytes(), &l); err != nil {
		return l, fmt.Errorf("%w: manifest: %w", ErrSource, err)
	}
	if l.Message != nil { // many short words would take more memory than the line
		l.Message.Keywords, l.Message.Flags = keywords(l.Message.Keywords), systemOnes(l.Message.Flags)
		l.Message.size = int64(len(m.lines.Bytes()))
	}
	return l, nil
}

// message finds the line of a path, nil where there is none.
func (m *manifest) message(path string) (*messageLine, error) {
	if m == nil {
		return nil, nil
	}
	if l, ok := m.stash[path]; ok {
		delete(m.stash, path)
		m.room += l.size
		return l, nil
	}
	for {
		l := m.next
		m.next = nil
		if l == nil && !m.ended {
			line, err := m.read()
			if err != nil {
				return nil, err
			}
			if l = line.Message; l == nil {
				continue // the end, or what a later version adds
			}
		}
		switch {
		case l == nil:
			return nil, nil
		case l.Path == path:
			return l, nil
		case len(m.stash) == maxStash, l.size > m.room:
			return nil, fmt.Errorf("%w: the manifest is in another order than the mail", ErrSource)
		}
		if m.stash == nil {
			m.stash = map[string]*messageLine{}
		}
		m.stash[l.Path] = l // a path told twice keeps its room
		m.room -= l.size
	}
}

func (m *manifest) Close() error {
	if m == nil {
		return nil
	}
	return m.close.Close()
}

// folder is the mailbox that stands in a folder, as the manifest says.
func (m *manifest) folder(dir string) (Mailbox, bool) {
	if m != nil {
		for _, b := range m.mailboxes {
			if b.Folder == dir {
				return b.Mailbox, true
			}
		}
	}
	return Mailbox{}, false
}

// told takes over what a line says of a message, cleaned.
func (l *messageLine) told(m *Message) {
	if !l.Date.IsZero() {
		m.Date = l.Date
	}
	m.SaveDate, m.UID, m.UIDValidity, m.BareLF, m.Damaged = l.SaveDate, l.UID, l.UIDValidity, l.BareLF, l.Damaged
	m.SHA256 = l.SHA256
	m.Keywords = l.Keywords
	m.Flags = l.Flags
}

// systemFlags are those that Maildir knows, with their letters.
var systemFlags = []struct {
	letter byte
	name   string
}{{'D', `\Draft`}, {'F', `\Flagged`}, {'R', `\Answered`}, {'S', `\Seen`}, {'T', `\Deleted`}}

// systemOnes keeps the flags that there are, each once.
func systemOnes(flags []string) []string {
	var out []string
	for _, f := range systemFlags {
		if slices.ContainsFunc(flags, func(s string) bool { return strings.EqualFold(s, f.name) }) {
			out = append(out, f.name)
		}
	}
	return out
}

// keywords keeps what can be a keyword (RFC 9051, Section 9, flag-keyword), each once.
func keywords(words []string) []string {
	var out []string
	for _, w := range words {
		bad := w == "" || len(w) > 100 || strings.ContainsFunc(w, func(r rune) bool {
			return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r)
		})
		if !bad && len(out) < 100 && !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, w) }) {
			out = append(out, w)
		}
	}
	return out
}
