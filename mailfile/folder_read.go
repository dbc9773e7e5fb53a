package mailfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// folderSource reads what lies in a folder: Maildirs of any layout (Maildir++ as Dovecot makes it, one folder in the
// other as mbsync does) and .eml files. Each folder with mail is a mailbox; the top is INBOX.
type folderSource struct {
	root     *os.Root
	name     string
	boxes    []folderBox
	manifest bool
	eml      bool
	total    int64
	left     int64
}

// folderBox is a folder with mail.
type folderBox struct {
	Mailbox
	dir     string // path below the root; "." the root
	maildir bool
}

func openFolder(name string) (Source, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	f := &folderSource{root: root, name: name}
	if err := f.find(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), root.Close())
	}
	return f, nil
}

// find looks for folders with mail and counts the mail.
func (f *folderSource) find() error {
	m, err := f.openManifest()
	if err != nil {
		return err
	}
	defer m.Close()
	f.manifest = m != nil
	if err := f.walk(".", 0); err != nil {
		return err
	}
	if len(f.boxes) == 0 {
		return fmt.Errorf("%w: no Maildir (a folder with cur, new and tmp) and no .eml file in it", ErrSource)
	}
	subs := subscribedNames(string(f.small("subscriptions")))
	for i := range f.boxes {
		b := &f.boxes[i]
		dir := b.dir
		if dir == "." {
			dir = "" // as the writer calls it
		}
		if told, ok := m.folder(dir); ok {
			b.Mailbox = told
		} else {
			b.Name = maildirName(b.dir)
			b.Subscribed = len(subs) == 0 || subs[b.Name]
		}
	}
	slices.SortStableFunc(f.boxes, func(a, b folderBox) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (f *folderSource) walk(dir string, depth int) error {
	if depth > maxDepth {
		f.left++
		return nil
	}
	box := folderBox{dir: dir}
	mail := int64(0)
	var below []string
	err := f.list(dir, func(e fs.DirEntry) error {
		switch {
		case e.IsDir() && (e.Name() == "cur" || e.Name() == "new"):
			box.maildir = true
			return f.list(path.Join(dir, e.Name()), func(e fs.DirEntry) error {
				f.see(e, &mail, isMaildirFile)
				return nil
			})
		case e.IsDir() && e.Name() == "tmp": // what was never delivered
		case e.IsDir():
			if len(below) == maxMailboxes {
				return fmt.Errorf("%w: more than %d folders", ErrSource, maxMailboxes)
			}
			below = append(below, e.Name())
		case isEML(e.Name()):
			f.see(e, &mail, isEML)
			f.eml = true
		case !e.Type().IsRegular():
			f.left++
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.total += mail
	if box.maildir || mail > 0 {
		if len(f.boxes) == maxMailboxes || f.total > maxMessages {
			return fmt.Errorf("%w: more than %d mailboxes or %d messages", ErrSource, maxMailboxes, maxMessages)
		}
		f.boxes = append(f.boxes, box)
	}
	slices.Sort(below)
	for _, name := range below {
		if err := f.walk(path.Join(dir, name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// see counts an entry as mail or as left alone.
func (f *folderSource) see(e fs.DirEntry, mail *int64, is func(string) bool) {
	switch {
	case is(e.Name()) && e.Type().IsRegular():
		*mail++
	case !e.IsDir() && (!e.Type().IsRegular() || !strings.HasPrefix(e.Name(), ".")):
		f.left++
	}
}

func isEML(name string) bool         { return strings.EqualFold(path.Ext(name), ".eml") }
func isMaildirFile(name string) bool { return !strings.HasPrefix(name, ".") }

// list calls fn for each entry of a folder, some at a time.
func (f *folderSource) list(dir string, fn func(fs.DirEntry) error) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(1000)
		for _, e := range entries {
			if err := fn(e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// open opens a regular file and nothing else: no link, no device, no pipe.
func (f *folderSource) open(name string) (*os.File, error) {
	before, err := f.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: no regular file", name)
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	if st, err := file.Stat(); err != nil || !os.SameFile(before, st) {
		return nil, errors.Join(fmt.Errorf("%s: changed while it was opened", name), file.Close())
	}
	return file, nil
}

// small reads a small file, nothing where there is none.
func (f *folderSource) small(name string) []byte {
	file, err := f.open(name)
	if err != nil {
		return nil
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxSmall))
	if err != nil {
		return nil
	}
	return b
}

func (f *folderSource) openManifest() (*manifest, error) {
	file, err := f.open(maildirManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return readManifest(file)
}

func (f *folderSource) What() string {
	switch {
	case f.manifest:
		return "a Maildir of mssd bal export"
	case f.eml:
		return "a folder with .eml files"
	}
	return "a Maildir"
}

func (f *folderSource) Mailboxes() []Mailbox {
	var list []Mailbox
	for _, b := range f.boxes {
		list = append(list, b.Mailbox)
	}
	return list
}

func (f *folderSource) Total() int64 { return f.total }
func (f *folderSource) Left() int64  { return f.left }
func (f *folderSource) Close() error { return f.root.Close() }

func (f *folderSource) Each(fn func(Message, func() (io.ReadCloser, error)) error) error {
	m, err := f.openManifest()
	if err != nil {
		return err
	}
	defer m.Close()
	for _, b := range f.boxes {
		if err := f.box(b, m, fn); err != nil {
			return err
		}
	}
	return nil
}

func (f *folderSource) box(b folderBox, m *manifest, fn func(Message, func() (io.ReadCloser, error)) error) error {
	names, err := f.names(b)
	if err != nil {
		return err
	}
	letters := parseLetters(f.small(path.Join(b.dir, "dovecot-keywords")))
	for _, name := range names {
		msg := Message{Mailbox: b.Name, File: path.Join(b.dir, name)}
		base, info, _ := strings.Cut(path.Base(name), ":2,")
		line, err := m.message(strings.TrimPrefix(path.Join(b.dir, base), "./"))
		if err != nil {
			return err
		}
		if line != nil {
			line.told(&msg)
		}
		if path.Dir(name) == "cur" || line != nil {
			msg.told(info, letters)
		}
		msg.Keywords = keywords(msg.Keywords)
		if msg.Date.IsZero() {
			if st, err := f.root.Lstat(msg.File); err == nil {
				msg.Date = st.ModTime()
			}
		}
		open := func() (io.ReadCloser, error) {
			file, err := f.open(msg.File)
			if err != nil {
				return nil, err
			}
			return struct {
				io.Reader
				io.Closer
			}{&bounded{file, MaxMessage}, file}, nil
		}
		if err := fn(msg, open); err != nil {
			return err
		}
	}
	return nil
}

// names are the files of a mailbox in the order in which they came, as far as their names tell. They are all held in
// memory, a mailbox at a time.
func (f *folderSource) names(b folderBox) ([]string, error) {
	var names []string
	collect := func(sub string, is func(string) bool) error {
		err := f.list(path.Join(b.dir, sub), func(e fs.DirEntry) error {
			if e.Type().IsRegular() && is(e.Name()) {
				if names = append(names, path.Join(sub, e.Name())); len(names) > maxMessages {
					return fmt.Errorf("%w: more than %d messages", ErrSource, maxMessages)
				}
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := collect(".", isEML); err != nil {
		return nil, err
	}
	if b.maildir {
		for _, sub := range []string{"cur", "new"} {
			if err := collect(sub, isMaildirFile); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(number(a), number(b)), strings.Compare(path.Base(a), path.Base(b)), strings.Compare(a, b))
	})
	return names, nil
}

// number is what the name of a file begins with: in a Maildir the time of delivery.
func number(name string) uint64 {
	base := path.Base(name)
	end := strings.IndexFunc(base, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(base)
	}
	n, _ := strconv.ParseUint(base[:end], 10, 64)
	return n
}

// told takes the flags over that stand in the name of a file: they may be younger than the manifest.
func (m *Message) told(info string, letters []string) {
	m.Flags = nil
	for _, f := range systemFlags {
		if strings.IndexByte(info, f.letter) >= 0 {
			m.Flags = append(m.Flags, f.name)
		}
	}
	words := slices.DeleteFunc(slices.Clone(m.Keywords), func(w string) bool { return slices.Contains(letters, w) })
	for i := range len(info) {
		if c := info[i]; c >= 'a' && c <= 'z' && int(c-'a') < len(letters) && letters[c-'a'] != "" {
			words = append(words, letters[c-'a'])
		}
	}
	if strings.IndexByte(info, 'P') >= 0 {
		words = append(words, "$Forwarded")
	}
	m.Keywords = words
}

// parseLetters reads a dovecot-keywords file: lines of a number, from 0 for a, and a keyword.
func parseLetters(text []byte) []string {
	letters := make([]string, maxLetters)
	for l := range bytes.Lines(text) {
		no, word, ok := strings.Cut(strings.TrimRight(string(l), "\r\n"), " ")
		if n, err := strconv.Atoi(no); ok && err == nil && n >= 0 && n < maxLetters {
			letters[n] = word
		}
	}
	return letters
}
