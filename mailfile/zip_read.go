package mailfile

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// zipSource reads a ZIP of .eml files: of ours, or of any other maker. Folders are mailboxes; what lies in none is
// INBOX.
type zipSource struct {
	f         *os.File
	files     []*zip.File // messages, mailbox by mailbox
	manifest  *zip.File
	mailboxes []Mailbox
	byFolder  map[string]string // folder → name of the mailbox
	left      int64
}

func openZip(name string) (Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	z, err := readZip(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	z.f = f
	return z, nil
}

// readZip reads the list of entries. None of them is read yet, but for the manifest.
func readZip(f interface {
	io.ReaderAt
	Stat() (os.FileInfo, error)
}) (*zipSource, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	bound := &budget{f, maxDirectory}
	r, err := zip.NewReader(bound, st.Size())
	bound.left = -1
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	z := &zipSource{byFolder: map[string]string{}}
	packed := uint64(0)
	for _, e := range r.File {
		packed += e.CompressedSize64
		// Entries that share octets unpack to any size.
		if packed > uint64(st.Size()) || len(z.files) == maxMessages {
			return nil, fmt.Errorf("%w: its entries lie over each other, or are more than %d", ErrSource, maxMessages)
		}
		switch {
		case e.Name == manifestName && e.Mode().IsRegular() && z.manifest == nil:
			z.manifest = e
		case strings.HasSuffix(e.Name, "/"): // a folder; those of ours stand in the manifest
		case e.Mode().IsRegular() && strings.EqualFold(path.Ext(e.Name), ".eml") && e.Flags&1 == 0:
			z.files = append(z.files, e)
		default:
			z.left++
		}
	}
	return z, z.sort()
}

// budget bounds what reading the list of entries may read, and so the memory that it takes: three times the list or
// so. Sizes that a ZIP tells are no bound. Negative: none.
type budget struct {
	r    io.ReaderAt
	left int64
}

func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.r.ReadAt(p, off)
	if b.left < 0 {
		return n, err
	}
	if b.left -= int64(n); b.left < 0 {
		b.left = 0
		return 0, fmt.Errorf("its list of entries is larger than %d octets", maxDirectory)
	}
	return n, err
}

// sort names the mailboxes and puts the messages of each together, in the order of the ZIP.
func (z *zipSource) sort() error {
	m, err := z.openManifest()
	if err != nil {
		return err
	}
	defer m.Close()
	order := map[string]int{}
	add := func(folder string, b Mailbox) error {
		if len(order) == maxMailboxes {
			return fmt.Errorf("%w: more than %d mailboxes", ErrSource, maxMailboxes)
		}
		order[folder] = len(order)
		z.byFolder[folder] = b.Name
		z.mailboxes = append(z.mailboxes, b)
		return nil
	}
	if m != nil {
		for _, b := range m.mailboxes {
			if err := add(b.Folder, b.Mailbox); err != nil {
				return err
			}
		}
	}
	for _, e := range z.files {
		if dir := path.Dir(e.Name); z.byFolder[dir] == "" {
			if err := add(dir, Mailbox{Name: foreignName(dir), Subscribed: true}); err != nil {
				return err
			}
		}
	}
	slices.SortStableFunc(z.files, func(a, b *zip.File) int { return order[path.Dir(a.Name)] - order[path.Dir(b.Name)] })
	return nil
}

// foreignName is the mailbox of a folder whose maker is not known; "..", "\" and the like mean nothing here.
func foreignName(dir string) string {
	var levels []string
	for l := range strings.SplitSeq(strings.ReplaceAll(dir, `\`, "/"), "/") {
		if l != "." && l != ".." {
			levels = append(levels, l)
		}
	}
	return cleanName(levels)
}

func (z *zipSource) openManifest() (*manifest, error) {
	if z.manifest == nil {
		return nil, nil
	}
	r, err := z.manifest.Open()
	if err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrSource, err)
	}
	return readManifest(r)
}

func (z *zipSource) What() string {
	if z.manifest != nil {
		return "a ZIP of mssd bal export"
	}
	return "a ZIP of .eml files"
}

func (z *zipSource) Mailboxes() []Mailbox { return z.mailboxes }
func (z *zipSource) Total() int64         { return int64(len(z.files)) }
func (z *zipSource) Left() int64          { return z.left }
func (z *zipSource) Close() error         { return z.f.Close() }

func (z *zipSource) Each(fn func(Message, func() (io.ReadCloser, error)) error) error {
	m, err := z.openManifest()
	if err != nil {
		return err
	}
	defer m.Close()
	for _, e := range z.files {
		msg := Message{Mailbox: z.byFolder[path.Dir(e.Name)], Date: e.Modified, File: e.Name}
		if msg.Date.Year() < 1980 {
			msg.Date = time.Time{} // none was told
		}
		if !utf8.ValidString(msg.File) {
			msg.File = strings.ToValidUTF8(msg.File, "_")
		}
		line, err := m.message(e.Name)
		if err != nil {
			return err
		}
		if line != nil {
			line.told(&msg)
		}
		msg.Keywords = keywords(msg.Keywords)
		if err := fn(msg, func() (io.ReadCloser, error) { return openEntry(e) }); err != nil {
			return err
		}
	}
	return nil
}

// openEntry opens an entry. The reader below fails where the octets are not as many, or not those, that were told.
func openEntry(e *zip.File) (io.ReadCloser, error) {
	if e.UncompressedSize64 > MaxMessage {
		return nil, errTooLarge
	}
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&bounded{r, MaxMessage}, r}, nil
}
