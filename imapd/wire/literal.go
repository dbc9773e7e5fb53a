package wire

import (
	"errors"
	"io"
)

// Literal is the message of an APPEND, still in the stream. Close it before the next ReadCommand.
type Literal struct {
	Size    int64
	NonSync bool // the client sends it without waiting
	Binary  bool // literal8, "~{n}" (RFC 3516)

	r      *reader
	left   int64
	open   bool // the client sends, or was asked to send
	closed bool
	err    error // of the stream: final
}

var errNotAccepted = errors.New("wire: literal not accepted, or closed")

// Accept asks for the octets of a synchronising literal, through ReadCommand's more.
func (l *Literal) Accept() error {
	if l.open || l.closed {
		return l.err
	}
	if l.r.more == nil {
		return errNotAccepted
	}
	if err := l.r.more(); err != nil {
		l.err = err
		return err
	}
	l.open = true
	return nil
}

// Read reads the message's octets: io.EOF after Size of them, io.ErrUnexpectedEOF when the stream ends before.
func (l *Literal) Read(p []byte) (int, error) {
	switch {
	case l.err != nil:
		return 0, l.err
	case !l.open || l.closed:
		return 0, errNotAccepted
	case l.left == 0:
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.br.Read(p)
	l.left -= int64(n)
	if err != nil {
		l.err = unexpected(err)
	}
	return n, l.err
}

// Close brings the stream to the next command: it discards what was not read, unless the client was never asked to
// send it, and reads the end of the line. A *SyntaxError says that the command went on (a second message: RFC 3502
// is not offered): answer BAD and store nothing. So call it before acting on the message. Any other error ends the
// connection. A second call returns nil.
func (l *Literal) Close() error {
	if l.closed {
		return nil
	}
	l.closed = true
	if l.err != nil {
		return l.err
	}
	if !l.open {
		return nil
	}
	if _, err := io.CopyN(io.Discard, l.r.br, l.left); err != nil {
		l.err = unexpected(err)
		return l.err
	}
	l.left = 0
	return l.finish()
}

// finish reads what follows the message, which must be the line's end.
func (l *Literal) finish() error {
	r := l.r
	// Command.Args points into the buffer: leave it alone.
	r.buf = nil
	m, err := r.segment()
	for ; err == nil; m, err = r.segment() {
		if len(r.text) > 0 {
			r.refuse("APPEND takes one message")
		}
		if m == nil {
			return r.fault
		}
		if more, err := r.literal(m); !more {
			return err
		}
	}
	return unexpected(err)
}
