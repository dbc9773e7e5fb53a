package imapd

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"mssd/imapd/wire"
)

// COMPRESS=DEFLATE (RFC 4978). What the server sends is packed batch by batch (out.pack), each batch with a window of its
// own and flushed to a whole octet, so that
//   - a response never waits for a later one,
//   - a session holds no compressor while it is idle, nor while a slow client reads: a few serve all,
//   - the texts of two messages never share a window (out.apart). What one sender writes can so not be used to guess, by
//     the lengths on the wire, what another wrote (the attacks known as CRIME and BREACH). Passwords and tokens come
//     before the compression, in the other direction.
//
// What the client sends has one window for the whole connection, as its own compressor decides. It is unpacked as it is
// read, a few KiB at a time (inflate.go), so that the bounds of lines, literals and messages hold for the octets unpacked.

// packLevel is the fastest one that looks for what was said before.
const packLevel = 1

// packers holds compressors, some 800 KB each. One is taken for as long as it runs, never while the network is waited for.
var packers = sync.Pool{New: func() any { return &packer{w: newPackWriter(packLevel), plain: newPackWriter(flate.HuffmanOnly)} }}

func newPackWriter(level int) *flate.Writer {
	w, err := flate.NewWriter(nil, level)
	if err != nil {
		panic(err) // the levels are constants
	}
	return w
}

// packer is a compressor that appends to a slice.
type packer struct {
	w     *flate.Writer
	plain *flate.Writer // looks at the frequency of octets alone
	to    []byte
}

func (p *packer) Write(b []byte) (int, error) {
	p.to = append(p.to, b...)
	return len(b), nil
}

func (p *packer) pack(w *flate.Writer, b []byte) {
	w.Reset(p)
	_, err := w.Write(b)
	if err = errors.Join(err, w.Flush()); err != nil {
		panic(err) // Write above never fails
	}
}

// appendPacked appends b to dst as DEFLATE blocks (RFC 1951) that end at an octet and refer to nothing before them.
func appendPacked(dst, b []byte) []byte {
	p := packers.Get().(*packer)
	p.to = dst
	p.pack(p.w, b)
	// Base64 repeats nothing and is left as it stands; by its 64 letters alone it shrinks by a quarter.
	if len(b) >= 1024 && len(p.to)-len(dst) > len(b)-len(b)/16 {
		p.to = p.to[:len(dst)]
		p.pack(p.plain, b)
	}
	dst, p.to = p.to, nil
	packers.Put(p)
	return dst
}

// RFC 4978, Section 3. Octets that came behind the command are packed ones, never commands as they stand.
func (c *conn) cmdCompress(cmd *wire.Command) (response, error) {
	mechanism, err := wire.ParseCompress(cmd)
	if err != nil {
		return response{}, err
	}
	if c.out.packs {
		return response{}, no("COMPRESSIONACTIVE", "DEFLATE is active already")
	}
	if mechanism != "DEFLATE" {
		return response{}, bad("", "The only mechanism is DEFLATE")
	}
	c.finish(cmd.Tag, okay("DEFLATE active"))
	if err := c.out.flush(); err != nil {
		return response{}, nil
	}
	early := make([]byte, c.in.br.Buffered())
	if _, err := io.ReadFull(c.in.br, early); err != nil {
		return response{}, err
	}
	c.in.giveBack()
	c.in = in{nc: newInflater(&replay{Conn: c.nc, early: bytes.NewReader(early)})}
	c.out.packs = true
	c.guard.OnHangUp(c.hangUp(c.nc))
	return response{}, nil
}
