package directory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The changes of an image, <feed>.changes: changesMagic, SHA-256 of the image's file, then records: length and CRC-32C of
// what follows (32 bits each, big endian), time (nanoseconds since 1970, varint), cookie, and for each change its key, the
// number of its rows and their fields, in the order of the kept image; octets stand behind their length (uvarint).
//
// A record is written in one step and not synced. What a power cut takes from the end is told again by the server, for the
// cookie that is left is older; a record is never read behind one that is not whole.
const (
	changesMagic  = "mssd directory changes 1\n"
	maxRecord     = 16 << 20 // octets
	recordHeader  = 8
	changesHeader = len(changesMagic) + 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func changesPath(dir, feed string) string { return filepath.Join(dir, feed+".changes") }

// appendRecord writes a record for changes.
func appendRecord(dst []byte, at time.Time, cookie []byte, cs []change) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, recordHeader)...)
	dst = binary.AppendVarint(dst, at.UnixNano())
	dst = appendField(dst, cookie)
	dst = binary.AppendUvarint(dst, uint64(len(cs)))
	for _, c := range cs {
		dst = appendField(dst, []byte(c.key))
		dst = binary.AppendUvarint(dst, uint64(len(c.rows)))
		for _, f := range c.rows {
			for _, v := range f {
				dst = appendField(dst, v)
			}
		}
	}
	body := dst[start+recordHeader:]
	binary.BigEndian.PutUint32(dst[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(dst[start+4:], crc32.Checksum(body, castagnoli))
	return dst
}

// journal is the open file of changes.
type journal struct {
	file *os.File
	size int64 // octets of whole records and what stands before them
}

// newJournal begins the changes of an image; the former ones, of another image, are gone.
func newJournal(path string, sum [32]byte) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(append([]byte(changesMagic), sum[:]...)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &journal{f, int64(changesHeader)}, nil
}

// append writes a record; after an error the journal must not be used any more.
func (j *journal) append(record []byte) error {
	if _, err := j.file.WriteAt(record, j.size); err != nil {
		return err
	}
	j.size += int64(len(record))
	return nil
}

func (j *journal) close() {
	if j != nil {
		_ = j.file.Close()
	}
}

// openJournal reads the changes of an image, as far as they are whole, and makes the image that follows from them. What is
// not whole at the end is cut off. With no changes the journal is nil.
func openJournal(path string, img *image) (*image, *journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return img, nil, nil
	}
	if err != nil {
		return img, nil, err
	}
	next, size, err := replay(f, img)
	if err == nil && size > 0 {
		err = f.Truncate(size)
	}
	if err != nil || size == 0 {
		return next, nil, errors.Join(err, f.Close())
	}
	return next, &journal{f, size}, nil
}

// replay gives the image after all whole records, and how far they reach; 0: these are not the changes of this image.
func replay(r io.ReaderAt, img *image) (*image, int64, error) {
	head := make([]byte, changesHeader)
	if _, err := r.ReadAt(head, 0); err != nil {
		if err == io.EOF {
			err = nil
		}
		return img, 0, err
	}
	if string(head[:len(changesMagic)]) != changesMagic || [32]byte(head[len(changesMagic):]) != img.sum {
		return img, 0, nil
	}
	at := int64(changesHeader)
	last := img.generated
	latest := map[string]change{}
	var order []string
	var cookie []byte
	told := false
	for {
		body, err := readRecord(r, at)
		if err != nil {
			return img, 0, err
		}
		if body == nil {
			break
		}
		when, c, cs, err := parseRecord(body)
		if err != nil {
			break // its checksum is right and its form is not: nobody knows what it says
		}
		for _, one := range cs {
			if _, ok := latest[one.key]; !ok {
				order = append(order, one.key)
			}
			latest[one.key] = one
		}
		at += int64(recordHeader + len(body))
		last, cookie, told = when, c, true
	}
	if !told {
		return img, at, nil
	}
	cs := make([]change, len(order))
	for i, k := range order {
		cs[i] = latest[k]
	}
	next := img.with(cs)
	next.generated, next.cookie = last, cookie
	if len(cs) > 0 {
		next.changed = last
	}
	return next, at, nil
}

// readRecord gives the octets of a record; nil if it is not whole.
func readRecord(r io.ReaderAt, at int64) ([]byte, error) {
	var head [recordHeader]byte
	if _, err := r.ReadAt(head[:], at); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxRecord {
		return nil, nil
	}
	body := make([]byte, n)
	if _, err := r.ReadAt(body, at+recordHeader); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, nil
	}
	return body, nil
}

// cursor reads what appendRecord wrote.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) number() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

// count reads a number of things, each of which takes at least least octets.
func (c *cursor) count(least int) int {
	v := c.number()
	if v > uint64(len(c.b)/least) {
		c.bad = true
		return 0
	}
	return int(v)
}

func (c *cursor) field() []byte {
	l := c.number()
	if l > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	v := c.b[:l:l]
	c.b = c.b[l:]
	return v
}

func parseRecord(body []byte) (at time.Time, cookie []byte, cs []change, err error) {
	c := cursor{b: body}
	nano, n := binary.Varint(c.b)
	if n <= 0 {
		return at, nil, nil, fmt.Errorf("%w: record of changes", ErrImage)
	}
	c.b = c.b[n:]
	cookie = c.field()
	cs = make([]change, c.count(2))
	for i := range cs {
		key := c.field()
		rows := make([]*record, c.count(recordFields))
		for j := range rows {
			var f record
			for k := range f {
				f[k] = c.field()
			}
			rows[j] = &f
		}
		if cs[i] = (change{string(key), rows}); !c.bad && !cs[i].valid() {
			c.bad = true
		}
	}
	if c.bad || len(c.b) > 0 {
		return at, nil, nil, fmt.Errorf("%w: record of changes", ErrImage)
	}
	return time.Unix(0, nano).UTC(), cookie, cs, nil
}

// valid reports whether a change keeps to the bounds of a row.
func (c change) valid() bool {
	if c.key == "" || len(c.key) > maxKey || len(c.rows) > maxHolders {
		return false
	}
	for _, f := range c.rows {
		for _, v := range f[:entryFields] {
			if len(v) > maxField/2 {
				return false
			}
		}
	}
	return true
}
