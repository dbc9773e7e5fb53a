package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"mssd/trace"
)

// Bodies on their way over the socket: 8 octets of id, 1 of status, 8 of size, 32 of SHA-256, then the file where it is
// sent; a body with the id 0 ends them.
const frameLen = 8 + 1 + 8 + 32

// Frames writes bodies.
type Frames struct{ w *bufio.Writer }

// NewFrames writes to w.
func NewFrames(w io.Writer) *Frames { return &Frames{bufio.NewWriterSize(w, 64<<10)} }

// Body writes one body; content nil: without its file.
func (f *Frames) Body(b Body, content io.Reader) error {
	e := append(be64(make([]byte, 0, frameLen), uint64(b.ID)), byte(b.Status))
	e = append(be64(e, uint64(b.Octets)), b.Sum[:]...)
	if _, err := f.w.Write(e); err != nil || content == nil {
		return err
	}
	n, err := io.Copy(f.w, content)
	if err == nil && n != b.Octets {
		err = fmt.Errorf("body %s: %w", b.ID, io.ErrUnexpectedEOF)
	}
	return err
}

// End writes what tells that all were sent.
func (f *Frames) End() error {
	if err := f.Body(Body{}, nil); err != nil {
		return err
	}
	return f.w.Flush()
}

// ReadFrames reads what Frames wrote, to the end. With contents the file of each body that is there follows it.
func ReadFrames(r io.Reader, contents bool, fn func(Body, io.Reader) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		var e [frameLen]byte
		if _, err := io.ReadFull(br, e[:]); err != nil {
			return errors.Join(errors.New("the answer broke off"), err)
		}
		b := Body{ID: trace.ID(u64(e[:])), Status: Status(e[8]), Octets: int64(u64(e[9:])), Sum: [32]byte(e[17:])}
		if b.ID == 0 {
			return nil
		}
		if b.Status < Good || b.Status > Missing || b.Octets < 0 {
			return errors.New("the answer cannot be read")
		}
		if !contents || !b.Status.There() {
			if err := fn(b, nil); err != nil {
				return err
			}
			continue
		}
		content := io.LimitReader(br, b.Octets)
		if err := fn(b, content); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, content); err != nil { // what was not taken
			return err
		}
	}
}
