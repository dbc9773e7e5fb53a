package imapd

import (
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// outSize is how much the writer gathers before it writes: a few TLS records, one system call each.
const outSize = 64 << 10 // octets

// buffers holds the writers' buffers while their sessions are idle, so that an idle session costs none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, outSize); return &b }}

// errBody is a fault of reading a body after its length was announced: nothing can repair the stream.
var errBody = errors.New("imapd: a body could not be read to its end")

// out gathers responses and writes them in large pieces: one flush at the end of a command, or when the buffer
// is full. It is owned by the session's goroutine. After an error it swallows everything.
type out struct {
	nc      net.Conn
	timeout time.Duration // for one write
	buf     *[]byte       // nil while nothing waits
	packs   bool          // COMPRESS is active (compress.go)
	packed  *[]byte       // compressed and not yet written; nil while nothing is
	err     error
	written int64 // octets handed to the connection
}

// room returns the buffer with at least n octets free, for n up to outSize.
func (o *out) room(n int) []byte {
	if o.buf == nil {
		o.buf = buffers.Get().(*[]byte)
	}
	if cap(*o.buf)-len(*o.buf) < n {
		o.write()
	}
	return *o.buf
}

// add appends what f appends, which may be long.
func (o *out) add(f func([]byte) []byte) {
	b := f(o.room(1024))
	if cap(b) > 4*outSize {
		// A rare giant line: written at once, and its buffer is not kept.
		*o.buf = (*o.buf)[:0]
		o.send(b)
		return
	}
	*o.buf = b
	if len(b) >= outSize {
		o.write()
	}
}

func (o *out) str(s string) { o.add(func(b []byte) []byte { return append(b, s...) }) }

// line appends a whole response line.
func (o *out) line(s string) {
	o.add(func(b []byte) []byte { b = append(b, s...); return append(b, '\r', '\n') })
}

// number appends "* n NAME".
func (o *out) number(n uint32, name string) {
	o.add(func(b []byte) []byte {
		b = append(b, "* "...)
		b = strconv.AppendUint(b, uint64(n), 10)
		b = append(b, ' ')
		b = append(b, name...)
		return append(b, '\r', '\n')
	})
}

// stream copies n octets of r from off into the output, straight into the buffer. A fault of r in mid-literal
// is final: the client counts octets (spec: a blob read failing mid-literal closes the connection).
func (o *out) stream(r io.ReaderAt, off, n int64) error {
	for n > 0 && o.err == nil {
		b := o.room(min(int(min(n, outSize)), 4<<10))
		free := int(min(int64(cap(b)-len(b)), n))
		got, err := r.ReadAt(b[len(b):len(b)+free], off)
		if got < free {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			o.err = errors.Join(errBody, err)
			return o.err
		}
		*o.buf = b[:len(b)+free]
		off += int64(free)
		n -= int64(free)
	}
	return o.err
}

// write sends what is gathered and keeps the buffer.
func (o *out) write() {
	if o.buf != nil && len(*o.buf) > 0 {
		o.send(*o.buf)
		*o.buf = (*o.buf)[:0]
	}
	o.writePacked()
}

// apart says that what follows may stand in no window of compression with what came before.
func (o *out) apart() {
	if o.packs && o.buf != nil && len(*o.buf) > 0 {
		o.send(*o.buf)
		*o.buf = (*o.buf)[:0]
	}
}

// send writes b, or packs it: that is written as soon as it is much.
func (o *out) send(b []byte) {
	if !o.packs {
		o.put(b)
		return
	}
	if o.err != nil {
		return
	}
	if o.packed == nil {
		o.packed = buffers.Get().(*[]byte)
	}
	if *o.packed = appendPacked(*o.packed, b); len(*o.packed) >= outSize {
		o.writePacked()
	}
}

// writePacked writes what is packed. Each write ends where a block ends: what another goroutine writes then (hangUp) can
// be read.
func (o *out) writePacked() {
	if o.packed != nil && len(*o.packed) > 0 {
		o.put(*o.packed)
		*o.packed = (*o.packed)[:0]
	}
}

// put hands b to the connection.
func (o *out) put(b []byte) {
	if o.err != nil {
		return
	}
	// The guard sets its own deadline too; this one holds for a connection without guard.
	_ = o.nc.SetWriteDeadline(time.Now().Add(o.timeout))
	n, err := o.nc.Write(b)
	o.written += int64(n)
	o.err = err
}

// flush sends what is gathered and gives the buffer back.
func (o *out) flush() error {
	o.write()
	keep(o.buf)
	keep(o.packed)
	o.buf, o.packed = nil, nil
	return o.err
}

// keep gives a buffer back, unless a giant line has made it too large.
func keep(b *[]byte) {
	if b != nil && cap(*b) <= 4*outSize {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
