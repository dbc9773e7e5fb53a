package directory

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A kept image, <feed>.image: imageMagic; the rows, each as the seven fields that are held in memory, its key and the other
// fields, all of them as length (uvarint) and octets; trailer (JSON), its length (32 bits, big endian), and SHA-256 of all
// before. <feed>.previous is the one that was in force before, <feed>.refused a reading that was not taken.
const (
	imageMagic = "mssd directory image 2\n"
	maxTrailer = 1 << 20 // octets
	tailOctets = 4 + sha256.Size
)

type trailer struct {
	Source     string         `json:"source"`
	Generation uint64         `json:"generation"`
	Generated  time.Time      `json:"generated"`
	Changed    time.Time      `json:"changed,omitzero"`
	Stamp      string         `json:"stamp,omitempty"`
	Cookie     []byte         `json:"cookie,omitempty"`
	Faults     int            `json:"faults,omitempty"`
	FirstFault string         `json:"first_fault,omitempty"`
	Kinds      map[string]int `json:"kinds"`
	Rows       int            `json:"rows"`
	Octets     int64          `json:"octets"` // of the rows
	Keyed      bool           `json:"keyed,omitempty"`
	Reference  reference      `json:"reference,omitzero"`
	Refused    string         `json:"refused,omitempty"` // why it was not taken
	RefusedAt  time.Time      `json:"refused_at,omitzero"`

	RefusedChanges bool `json:"refused_changes,omitempty"` // not a whole reading: changes
}

func imagePath(dir, feed string) string    { return filepath.Join(dir, feed+".image") }
func previousPath(dir, feed string) string { return filepath.Join(dir, feed+".previous") }
func refusedPath(dir, feed string) string  { return filepath.Join(dir, feed+".refused") }

// draft is the file of an image that is being built. Its faults do not stop the building: the image is right without a
// file, only a restart would find the former one. A nil draft keeps nothing.
type draft struct {
	file *os.File
	out  *bufio.Writer
	sum  hash.Hash
	size int64
	text []byte // of the row that is being written
	err  error  // the first fault
}

// newDraft begins a file in dir; "" keeps nothing.
func newDraft(dir, feed string) *draft {
	if dir == "" {
		return nil
	}
	d := &draft{sum: sha256.New()}
	if d.err = os.MkdirAll(dir, 0o700); d.err != nil {
		return d
	}
	if d.file, d.err = os.CreateTemp(dir, feed+".new*"); d.err != nil {
		return d
	}
	d.out = bufio.NewWriterSize(io.MultiWriter(d.file, d.sum), readerSize)
	d.write([]byte(imageMagic))
	return d
}

func (d *draft) write(b []byte) {
	if d.err == nil {
		_, d.err = d.out.Write(b)
		d.size += int64(len(b))
	}
}

// row writes one row: its part of the arena, then the rest of the record.
func (d *draft) row(core []byte, f *record) {
	if d == nil {
		return
	}
	d.text = appendText(d.text[:0], f)
	d.write(core)
	d.write(d.text)
}

// raw writes a row that was written before.
func (d *draft) raw(core, text []byte) {
	if d != nil {
		d.write(core)
		d.write(text)
	}
}

// finish writes the end and syncs; the file is whole then, under its temporary name.
func (d *draft) finish(t trailer) (sum [32]byte, err error) {
	t.Octets = d.size - int64(len(imageMagic))
	raw, err := json.Marshal(t)
	if err != nil {
		return sum, err
	}
	if len(raw) > maxTrailer {
		return sum, fmt.Errorf("%w: trailer of %d octets", ErrTooLarge, len(raw))
	}
	d.write(raw)
	d.write(binary.BigEndian.AppendUint32(nil, uint32(len(raw))))
	if d.err == nil {
		d.err = d.out.Flush()
	}
	if d.err == nil {
		d.sum.Sum(sum[:0])
		_, d.err = d.file.Write(sum[:])
	}
	if d.err == nil {
		d.err = d.file.Sync()
	}
	if d.err == nil {
		d.err = d.file.Close()
	}
	return sum, d.err
}

// drop removes a file that was not taken.
func (d *draft) drop() {
	if d != nil && d.file != nil {
		_ = d.file.Close()
		_ = os.Remove(d.file.Name())
		d.file = nil
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (img *image) trailer() trailer {
	return trailer{Source: img.source, Generation: img.generation, Generated: img.generated, Changed: img.changed, Stamp: img.stamp,
		Cookie: img.cookie, Faults: img.faults, FirstFault: img.firstFault, Kinds: img.kinds, Rows: img.n, Keyed: img.byKey != nil,
		Reference: img.reference}
}

// loadImage reads a kept image. The error names the file; it is fs.ErrNotExist if there is none.
func loadImage(path string) (*image, trailer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, trailer{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, trailer{}, err
	}
	img, t, err := readImage(f, st.Size())
	if err != nil {
		return nil, t, fmt.Errorf("%s: %w", path, err)
	}
	return img, t, nil
}

// loadTrailer reads the end of a kept image only; what stands in it is not proven to be whole.
func loadTrailer(path string) (trailer, error) {
	f, err := os.Open(path)
	if err != nil {
		return trailer{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return trailer{}, err
	}
	t, _, err := readTrailer(f, st.Size())
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return t, err
}

// readTrailer reads the end of a file and says where the rows end.
func readTrailer(r io.ReaderAt, size int64) (t trailer, rows int64, err error) {
	bad := func(what string) (trailer, int64, error) { return t, 0, fmt.Errorf("%w: %s", ErrImage, what) }
	if size < int64(len(imageMagic))+tailOctets || size > 4*maxArena {
		return bad("not a directory image")
	}
	magic := make([]byte, len(imageMagic))
	if _, err := r.ReadAt(magic, 0); err != nil {
		return t, 0, err
	}
	if string(magic) != imageMagic {
		return bad("not a directory image of this version")
	}
	var length [4]byte
	if _, err := r.ReadAt(length[:], size-tailOctets); err != nil {
		return t, 0, err
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
	rows = size - tailOctets - n
	if n > maxTrailer || rows < int64(len(imageMagic)) {
		return bad("trailer too long")
	}
	raw := make([]byte, n)
	if _, err := r.ReadAt(raw, rows); err != nil {
		return t, 0, err
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return bad("trailer: " + err.Error())
	}
	// A row takes its lengths at least.
	if t.Octets != rows-int64(len(imageMagic)) || t.Rows < 0 || int64(t.Rows) > t.Octets/(recordFields+1) {
		return bad("rows are not as the trailer says")
	}
	return t, rows, nil
}

// readImage reads a whole file, and believes nothing before its checksum was right.
func readImage(r io.ReaderAt, size int64) (*image, trailer, error) {
	t, end, err := readTrailer(r, size)
	if err != nil {
		return nil, t, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, size-sha256.Size)); err != nil {
		return nil, t, err
	}
	var want [32]byte
	if _, err := r.ReadAt(want[:], size-sha256.Size); err != nil {
		return nil, t, err
	}
	if !bytes.Equal(sum.Sum(nil), want[:]) {
		return nil, t, fmt.Errorf("%w: checksum differs", ErrImage)
	}
	b := newBuilder(t.Rows)
	err = eachRow(io.NewSectionReader(r, int64(len(imageMagic)), end-int64(len(imageMagic))), func(core, _ []byte) error {
		if len(b.arena)+len(core) > maxArena {
			return fmt.Errorf("%w: rows of more than %d octets", ErrTooLarge, maxArena)
		}
		b.arena = append(b.arena, core...)
		return nil
	})
	if err != nil {
		return nil, t, err
	}
	b.n, b.kinds = t.Rows, t.Kinds
	if t.Keyed {
		b.keys = 1
	}
	img, err := b.image()
	if err != nil {
		return nil, t, err
	}
	img.source, img.generation, img.generated, img.changed = t.Source, t.Generation, t.Generated, t.Changed
	img.stamp, img.cookie, img.faults, img.firstFault, img.reference = t.Stamp, t.Cookie, t.Faults, t.FirstFault, t.Reference
	img.sum = want
	return img, t, nil
}

// eachRow calls fn with each row of a kept image: the part that is held in memory, and the rest. Both are fn's only until
// it returns.
func eachRow(r io.Reader, fn func(core, text []byte) error) error {
	br := bufio.NewReaderSize(r, readerSize)
	var buf []byte
	for {
		buf = buf[:0]
		split := 0
		for i := range recordFields + 1 {
			l, err := binary.ReadUvarint(br)
			if err == io.EOF && i == 0 {
				return nil
			}
			if err != nil || l > maxField {
				return fmt.Errorf("%w: a row is cut off or too long", ErrImage)
			}
			buf = binary.AppendUvarint(buf, l)
			at := len(buf)
			buf = append(buf, make([]byte, l)...)
			if _, err := io.ReadFull(br, buf[at:]); err != nil {
				return fmt.Errorf("%w: a row is cut off", ErrImage)
			}
			if i == entryFields {
				split = len(buf)
			}
		}
		if err := fn(buf[:split], buf[split:]); err != nil {
			return err
		}
	}
}

// keptRows calls fn with each row of the file of an image, if it is still that image's.
func keptRows(path string, sum [32]byte, fn func(core, text []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	_, end, err := readTrailer(f, st.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var got [32]byte
	if _, err := f.ReadAt(got[:], st.Size()-sha256.Size); err != nil {
		return err
	}
	if got != sum {
		return fmt.Errorf("%s: %w: not the image in force", path, ErrImage)
	}
	from := int64(len(imageMagic))
	return eachRow(io.NewSectionReader(f, from, end-from), fn)
}

// sweepDrafts removes what a killed process was writing.
func sweepDrafts(dir string) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, n := range names {
		if strings.Contains(n.Name(), ".new") && n.Type()&fs.ModeType == 0 {
			_ = os.Remove(filepath.Join(dir, n.Name()))
		}
	}
}
