package mailfile

import (
	"archive/zip"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/flate"
	"golang.org/x/sys/unix"
)

// zipWriter writes a ZIP with a folder for each mailbox and an .eml file for each message, whose time is the internal
// date, and the manifest at its end. The list of entries is held in memory until the end, some 200 octets each.
type zipWriter struct {
	dest, part string
	f          *os.File
	buf        *bufio.Writer
	z          *zip.Writer
	log        *os.File // the manifest on its way; it has no name
	lines      manifestWriter
	folders    folders
	closed     bool
}

// NewZip begins a ZIP that will stand at dest. What a former export left unfinished beside it is removed.
func NewZip(dest string) (Writer, error) {
	if err := free(dest); err != nil {
		return nil, err
	}
	z := &zipWriter{dest: filepath.Clean(dest), part: partName(dest), folders: folders{fold: true}}
	if err := z.clear(); err != nil {
		return nil, err
	}
	var err error
	if z.f, err = os.OpenFile(z.part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	if err := lock(z.f); err != nil {
		return nil, errors.Join(err, z.f.Close())
	}
	if z.log, err = nameless(filepath.Dir(z.dest)); err != nil {
		z.Abort()
		return nil, err
	}
	z.lines.w = bufio.NewWriter(z.log)
	z.buf = bufio.NewWriterSize(z.f, 256<<10)
	z.z = zip.NewWriter(z.buf)
	var packer *flate.Writer // one for all entries, which come one after the other: its tables are large
	z.z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		if packer == nil {
			packer, err = flate.NewWriter(w, 3)
			return packer, err
		}
		packer.Reset(w)
		return packer, nil
	})
	return z, nil
}

// clear removes an unfinished export: a file that is empty or begins as a ZIP, and that nobody is writing.
func (z *zipWriter) clear() error {
	f, err := os.OpenFile(z.part, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: is there and is no unfinished export; move it away", z.part)
	}
	defer f.Close()
	var magic [4]byte
	n, _ := io.ReadFull(f, magic[:])
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || n != 0 && string(magic[:n]) != "PK\x03\x04" {
		return fmt.Errorf("%s: is there and is no unfinished export; move it away", z.part)
	}
	if err := lock(f); err != nil {
		return err
	}
	return os.Remove(z.part)
}

func (z *zipWriter) Head(h Head) error {
	return z.lines.line(manifestLine{Export: &exportLine{manifestVersion, h}})
}

func (z *zipWriter) Mailbox(b Mailbox) error {
	dir := z.folders.add(b.Name, zipFolder)
	if _, err := z.z.CreateHeader(&zip.FileHeader{Name: dir + "/"}); err != nil {
		return err
	}
	return z.lines.line(manifestLine{Mailbox: &mailboxLine{dir, b}})
}

func (z *zipWriter) Message(m Message, body io.Reader) (string, error) {
	dir, ok := z.folders.of[m.Mailbox]
	if !ok {
		return "", fmt.Errorf("a message of a mailbox that was not named")
	}
	name := fmt.Sprintf("%s/%010d.eml", dir, m.UID)
	w, err := z.create(name, m.Date)
	if err != nil {
		return "", err
	}
	sum, err := copyMessage(w, &m, body)
	var cause *ReadError
	if err != nil && !errors.As(err, &cause) {
		return "", err
	}
	m.Damaged = err != nil // what could be read is there, and is told to be no whole
	if lerr := z.lines.line(manifestLine{Message: &messageLine{Path: name, Message: m}}); lerr != nil {
		return "", lerr
	}
	return sum, err
}

// create begins an entry. Times before 1980 cannot be told there; the manifest has them.
func (z *zipWriter) create(name string, t time.Time) (io.Writer, error) {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	if y := t.UTC().Year(); y >= 1980 && y < 2038 {
		h.Modified = t.UTC()
	}
	h.SetMode(0o600)
	return z.z.CreateHeader(h)
}

func (z *zipWriter) Close() error {
	if err := z.lines.end(); err != nil {
		return err
	}
	if _, err := z.log.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w, err := z.create(manifestName, time.Now())
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, z.log); err != nil {
		return err
	}
	if err := z.z.Close(); err != nil {
		return err
	}
	if err := z.buf.Flush(); err != nil {
		return err
	}
	if err := z.f.Sync(); err != nil {
		return err
	}
	if err := publish(z.part, z.dest); err != nil {
		return err
	}
	z.closed = true
	return errors.Join(z.log.Close(), z.f.Close())
}

func (z *zipWriter) Abort() {
	if z.closed {
		return
	}
	z.closed = true
	_ = os.Remove(z.part) // still locked; what stays is removed by the next export
	z.f.Close()
	if z.log != nil {
		z.log.Close()
	}
}

// nameless makes a file that lives as long as it is open, so that a kill leaves nothing behind. Where the file system
// cannot do that (O_TMPFILE, open(2)) it has a name for a moment.
func nameless(dir string) (*os.File, error) {
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, "manifest")), nil
	}
	f, err := os.CreateTemp(dir, ".mssd-manifest-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
