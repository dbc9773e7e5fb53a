package mailfile

import "io"

// CRLF reads a message with every bare LF as CRLF, as mail travels (RFC 5322, Section 2.3): programs that keep mail
// in files often write LF alone.
type CRLF struct {
	R      io.Reader
	Mended bool // a bare LF was there

	in, out []byte
	rest    []byte // of out
	cr      bool   // the octet before was CR
	err     error
}

const chunk = 32 << 10

func (c *CRLF) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		if c.in == nil {
			c.in, c.out = make([]byte, chunk), make([]byte, 0, 2*chunk)
		}
		var n int
		n, c.err = c.R.Read(c.in)
		c.out = c.out[:0]
		for _, o := range c.in[:n] {
			if o == '\n' && !c.cr {
				c.out, c.Mended = append(c.out, '\r'), true
			}
			c.out, c.cr = append(c.out, o), o == '\r'
		}
		c.rest = c.out
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// bareLF looks for line ends that CRLF would mend, in what is written to it.
type bareLF struct{ cr, found bool }

func (b *bareLF) Write(p []byte) (int, error) {
	for _, o := range p {
		b.found = b.found || o == '\n' && !b.cr
		b.cr = o == '\r'
	}
	return len(p), nil
}

// bounded is a reader that fails where a message is larger than any may be.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}
