package store

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
)

// tailLen is how much of the end of a body is read when it is opened: a small one lies there whole.
const tailLen = 8 << 10

// tails hold the ends of open bodies.
var tails = sync.Pool{New: func() any { b := make([]byte, tailLen); return &b }}

// source is where a sealed body is read.
type source interface {
	io.ReaderAt
	Size() (int64, error)
}

// sealedEnd is the end of a sealed body, before any key.
type sealedEnd struct {
	src  source
	size int64 // octets of the file
	foot foot
	tail *[]byte // the last octets, from at on
	at   int64
}

// readEnd reads foot, and what stands before it as far as it fits.
func readEnd(src source) (e sealedEnd, err error) {
	if e.size, err = src.Size(); err != nil {
		return e, badMedia(err)
	}
	if e.size < footLen {
		return e, corrupt("end of a body")
	}
	e.src, e.tail = src, tails.Get().(*[]byte)
	*e.tail = (*e.tail)[:min(e.size, tailLen)]
	e.at = e.size - int64(len(*e.tail))
	err = readFull(src, *e.tail, e.at)
	if err == nil {
		e.foot, err = parseFoot((*e.tail)[len(*e.tail)-footLen:])
	}
	if err == nil && e.foot.header+e.foot.table+footLen > e.size {
		err = corrupt("end of a body")
	}
	if err != nil {
		e.release()
	}
	return e, err
}

func (e *sealedEnd) release() {
	if e.tail != nil {
		*e.tail = (*e.tail)[:tailLen]
		tails.Put(e.tail)
		e.tail = nil
	}
}

// octets are n octets of the file from off on, in buf or in the tail: never change them.
func (e *sealedEnd) octets(buf []byte, off, n int64) ([]byte, error) {
	if e.tail != nil && off >= e.at && off+n <= e.size {
		return (*e.tail)[off-e.at : off-e.at+n], nil
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	return buf[:n], readFull(e.src, buf[:n], off)
}

// header reads the header; its MAC is the caller's to verify.
func (e *sealedEnd) header(id uint64) (bodyHeader, error) {
	b, err := e.octets(nil, e.size-footLen-e.foot.header, e.foot.header)
	if err != nil {
		return bodyHeader{}, err
	}
	h, err := parseHeader(append([]byte(nil), b...))
	if err == nil && h.id != id {
		err = corrupt("header of a body: another name")
	}
	return h, err
}

// readFull fills p. A file that ends before is damaged.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return corrupt("body is cut off")
	}
	return badMedia(err)
}

// unsealer reads a sealed body by offset, one frame at a time. It is safe for concurrent use.
type unsealer struct {
	c    *codec
	id   uint64
	aead cipher.AEAD
	end  sealedEnd
	size int64   // octets of the body
	ends []int64 // where each frame ends in the file

	mu    sync.Mutex
	cache *[]byte // the frame last opened in part; nil none
	which int64   // its number
}

// newUnsealer opens the table. size is what the caller knows of the body; a negative one is not compared. After an
// error end is released.
func newUnsealer(c *codec, id uint64, key *secret, end sealedEnd, size int64) (_ *unsealer, err error) {
	u := &unsealer{c: c, id: id, aead: key.gcm("body frames"), end: end}
	defer func() {
		if err != nil {
			u.end.release()
		}
	}()
	frames := end.size - footLen - end.foot.header - end.foot.table // octets
	b, err := u.end.octets(nil, frames, end.foot.table)
	if err != nil {
		return nil, err
	}
	nonce, aad := frameNonce(uint64(end.foot.frames), true), frameAAD(id, uint64(end.foot.frames))
	plain, err := u.aead.Open(nil, nonce[:], b, aad[:])
	if err != nil {
		return nil, corrupt("table of a body")
	}
	if err := u.parseTable(plain, frames); err != nil {
		return nil, err
	}
	if size >= 0 && u.size != size {
		return nil, fmt.Errorf("%w: body has %d octets, not %d", ErrCorrupt, u.size, size)
	}
	return u, nil
}

// frameCount is how many frames a body of that size has.
func frameCount(size int64) int64 { return (size + frameLen - 1) / frameLen }

func (u *unsealer) parseTable(b []byte, frames int64) error {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > math.MaxInt64/2 {
		return corrupt("table of a body")
	}
	b = b[n:]
	u.size = int64(size)
	count := frameCount(u.size)
	if count != u.end.foot.frames || count > int64(len(b)) {
		return corrupt("table of a body")
	}
	u.ends = make([]int64, 0, count)
	var at int64
	for range count {
		l, n := binary.Uvarint(b)
		if n <= 0 || l <= 1+tagLen || l > maxSealed {
			return corrupt("table of a body")
		}
		b = b[n:]
		at += int64(l)
		u.ends = append(u.ends, at)
	}
	if len(b) != 0 || at != frames {
		return corrupt("table of a body")
	}
	return nil
}

// ReadAt reads the body (io.ReaderAt). ErrCorrupt: what stands there is not what was written.
func (u *unsealer) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: negative offset", ErrInvalid)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.end.tail == nil {
		return 0, fs.ErrClosed
	}
	for n < len(p) && off < u.size {
		m, err := u.readFrame(p[n:], off)
		if err != nil {
			return n, err
		}
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readFrame reads from the frame of an offset inside the body.
func (u *unsealer) readFrame(p []byte, off int64) (int, error) {
	i := off / frameLen
	from := int(off - i*frameLen)
	length := int(min(frameLen, u.size-i*frameLen))
	if from == 0 && len(p) >= length && (u.cache == nil || u.which != i) {
		return length, u.open(i, p[:length:length])
	}
	if u.cache == nil {
		u.cache, u.which = plainBuffers.Get().(*[]byte), -1
	}
	if u.which != i {
		u.which = -1
		*u.cache = (*u.cache)[:length]
		if err := u.open(i, *u.cache); err != nil {
			return 0, err
		}
		u.which = i
	}
	return copy(p, (*u.cache)[from:]), nil
}

// open opens a whole frame into dst, which has its length.
func (u *unsealer) open(i int64, dst []byte) error {
	var from int64
	if i > 0 {
		from = u.ends[i-1]
	}
	buf := sealedBuffers.Get().(*[]byte)
	defer sealedBuffers.Put(buf)
	in, err := u.end.octets(*buf, from, u.ends[i]-from)
	if err != nil {
		return err
	}
	nonce, aad := frameNonce(uint64(i), false), frameAAD(u.id, uint64(i))
	plain, err := u.aead.Open((*buf)[:0], nonce[:], in, aad[:])
	if err != nil || len(plain) == 0 {
		return corrupt("frame of a body")
	}
	switch kind, plain := plain[0], plain[1:]; {
	case kind == frameRaw && len(plain) == len(dst):
		copy(dst, plain)
		return nil
	case kind == frameZstd:
		out, err := u.c.dec.DecodeAll(plain, dst[:0:len(dst)])
		if err == nil && len(out) == len(dst) {
			return nil
		}
	}
	return corrupt("frame of a body")
}

// release gives the buffers back; nothing may be read afterwards.
func (u *unsealer) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cache != nil {
		plainBuffers.Put(u.cache)
		u.cache = nil
	}
	u.end.release()
}
