package wire

import (
	"bytes"
	"errors"
	"io"
)

// Literal is the message of an APPEND, still in the stream. Close it, or the last one that Next gave, before the next
// ReadCommand.
type Literal struct {
	Size    int64
	NonSync bool // the client sends it without waiting
	Binary  bool // literal8, "~{n}" (RFC 3516)

	r       *reader
	left    int64
	open    bool // the client sends, or was asked to send
	several bool // more messages may follow
	utf8    bool // a parenthesis is open: UTF8 (~{n} ...)
	closed  bool
	err     error // of the stream: final
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
// send it, and reads the rest of the command. A *SyntaxError says that the command went on, which is nothing new to
// who refused this message. Any other error ends the connection. A second call, or one after Next, returns nil.
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

// Next reads what follows a message that was read to its end: the arguments of another one, whose literal comes next
// (RFC 3502), or the end of the command, where next is nil. So call it before anything is stored. A *SyntaxError refuses
// the command, whose rest is consumed; any other error ends the connection.
func (l *Literal) Next() (next *Literal, a Append, err error) {
	if l.err != nil || l.closed || !l.open || l.left > 0 {
		return nil, a, errNotAccepted
	}
	l.closed = true
	r := l.r
	// Command.Args points into the buffer: leave it alone.
	r.buf = nil
	m, err := r.segment()
	if err != nil {
		return nil, a, unexpected(err)
	}
	behind := l.closing()
	switch {
	case r.fault != nil:
	case m == nil && behind == len(r.text):
		return nil, a, nil
	case m == nil:
		r.refuse("Message literal missing")
	case !l.several:
		r.refuse("This command takes one message")
	case m.nonSync && m.size > r.lim.NonSync:
		return nil, a, errNonSync
	default:
		lex := &lexer{b: r.text[behind:m.at], lim: r.lim}
		if err := lex.appendOptions(&a); err == nil && m.suits(a) == nil {
			return &Literal{Size: m.size, NonSync: m.nonSync, Binary: m.binary, r: r, left: m.size, open: m.nonSync, several: true, utf8: a.UTF8}, a, nil
		}
		r.refuse("Malformed arguments of a further message")
	}
	return nil, Append{}, l.drop(m)
}

// closing is how many octets of the segment behind the message close what was opened before it.
func (l *Literal) closing() int {
	if !l.utf8 {
		return 0
	}
	if bytes.HasPrefix(l.r.text, []byte(")")) {
		return 1
	}
	l.r.refuse("Closing parenthesis missing")
	return 0
}

// finish reads what follows a message that was not wanted.
func (l *Literal) finish() error {
	r := l.r
	r.buf = nil
	m, err := r.segment()
	if err != nil {
		return unexpected(err)
	}
	if len(r.text) > l.closing() {
		r.refuse("The command went on after a message that was refused")
	}
	return l.drop(m)
}

// drop reads a refused command to its end, from a segment that ends in m on. What a literal of it carries is thrown
// away; one that the client would have to be asked for ends it.
func (l *Literal) drop(m *mark) error {
	r := l.r
	for m != nil {
		r.refuse("The command went on after its end")
		if more, err := r.literal(m); !more {
			return err
		}
		r.total -= int(m.size) // messages are not counted: Limits.Line bounds how many there are
		r.buf = r.buf[:0]
		var err error
		if m, err = r.segment(); err != nil {
			return unexpected(err)
		}
	}
	return r.fault
}
