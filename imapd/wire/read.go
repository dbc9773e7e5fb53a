package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

const (
	maxTag  = 128      // octets
	maxName = 32       // octets of a command's name
	chunk   = 16 << 10 // octets by which the room for a literal grows: a claim of size costs nothing
)

var (
	errBareLF  = &FatalError{Msg: "Lines must end in CRLF"}
	errLong    = &FatalError{Msg: "Command too long", TooLong: true}
	errTail    = &FatalError{Msg: "Cannot tell where the command ends"}
	errNonSync = &FatalError{Msg: "Non-synchronizing literal too large", TooLong: true}
)

// reader takes one command off the stream, segment by segment: a segment is text up to a CRLF, and a literal may
// follow it.
type reader struct {
	br    *bufio.Reader
	lim   Limits
	more  func() error
	line  int    // octets of text read so far
	total int    // octets read so far
	text  []byte // the segment at hand, without CRLF; part of buf
	buf   []byte // everything kept
	fault error  // first reason to refuse the command; what follows it is read and dropped
	value bool   // the command has values, which may be literal8
}

// mark is the announcement of a literal at the end of a segment.
type mark struct {
	at      int // where it starts in the segment
	size    int64
	nonSync bool
	binary  bool
}

// ReadCommand reads one command. more is called to have "+ " sent and flushed before a synchronising literal is
// read; nil refuses such literals. With a *SyntaxError or *FatalError the Command is not nil and holds the tag and
// the name as far as they could be read. After a *SyntaxError the stream stands at the next command; a *FatalError
// and the errors of br and more end the connection. io.EOF comes only between commands.
func ReadCommand(br *bufio.Reader, lim Limits, more func() error) (*Command, error) {
	r := &reader{br: br, lim: lim.filled(), more: more}
	c := &Command{Limits: r.lim}
	m, err := r.segment()
	if err != nil {
		if !errors.Is(err, ErrFatal) {
			return nil, err
		}
		r.head(c)
		return c, err
	}
	start := r.head(c)
	r.value = c.Name == "SETMETADATA" // RFC 5464, Section 5: value = nstring / literal8
	for {
		if m == nil {
			if r.fault != nil {
				return c, r.fault
			}
			c.Args = r.buf[start:]
			return c, nil
		}
		if r.fault == nil && hasMessage(c.Name) {
			if done := r.message(c, start, m); done {
				return c, nil
			}
		}
		if more, err := r.literal(m); !more {
			return c, err
		}
		if m, err = r.segment(); err != nil {
			return c, unexpected(err)
		}
	}
}

// ReadLine reads one line outside of commands (DONE, a SASL response) of at most max octets, line end included, and
// returns it without its CRLF. A longer line or a bare LF is a *FatalError.
func ReadLine(br *bufio.Reader, max int) ([]byte, error) {
	r := &reader{br: br, lim: Limits{Line: max, Total: max}}
	if err := r.readText(); err != nil {
		return nil, err
	}
	return r.text, nil
}

// readText reads up to CRLF into r.text.
func (r *reader) readText() error {
	start := len(r.buf)
	r.text = nil
	for {
		part, err := r.br.ReadSlice('\n')
		r.line += len(part)
		r.total += len(part)
		if r.line > r.lim.Line || r.total > r.lim.Total {
			r.text = r.buf[start:]
			return errLong
		}
		if err != nil && err != bufio.ErrBufferFull {
			if err == io.EOF && r.line > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		r.buf = append(r.buf, part...)
		if err == nil {
			break
		}
	}
	r.text = bytes.TrimSuffix(r.buf[start:], []byte("\n"))
	// RFC 9051, Section 2.2: lines end in CRLF. What a quoting peer took for data must not start a command here.
	text, ok := bytes.CutSuffix(r.text, []byte("\r"))
	if !ok {
		return errBareLF
	}
	r.text = text
	return nil
}

// segment reads text up to CRLF, judges its octets and finds the literal that it announces. r.buf keeps the text
// without the line end.
func (r *reader) segment() (*mark, error) {
	if err := r.readText(); err != nil {
		return nil, err
	}
	r.buf = r.buf[:len(r.buf)-2]
	if bytes.IndexByte(r.text, 0) >= 0 {
		r.refuse("NUL is not allowed")
	}
	if bytes.IndexByte(r.text, '\r') >= 0 {
		r.refuse("CR is not allowed within a line")
	}
	quoted := false
	for i := 0; i < len(r.text); i++ {
		switch ch := r.text[i]; {
		case ch == '"':
			quoted = !quoted
		case ch == '\\' && quoted:
			i++
		}
	}
	m, err := findMark(r.text, quoted)
	var syn *SyntaxError
	if errors.As(err, &syn) {
		r.refuse(syn.Msg)
		err = nil
	}
	if quoted {
		r.refuse("Quoted string without end")
	}
	return m, err
}

// refuse notes why the command is refused, once; the room taken is given back when the command ends.
func (r *reader) refuse(msg string) {
	if r.fault == nil {
		r.fault = bad(msg)
	}
}

// findMark finds "{n}", "{n+}" or "~{n}" at the end of text. An end in "+}" that is no literal to us may be one to
// the client, whose octets would then be read as commands: that is fatal.
func findMark(text []byte, quoted bool) (*mark, error) {
	if len(text) == 0 || text[len(text)-1] != '}' {
		return nil, nil
	}
	doubt := func() error {
		if bytes.HasSuffix(text, []byte("+}")) {
			return errTail
		}
		return bad("Malformed literal") // a client that meant one waits for a continuation and sees BAD
	}
	open := bytes.LastIndexByte(text, '{')
	if quoted {
		return nil, doubt()
	}
	// "}" may end an atom: a password, a keyword.
	if open < 0 || bytes.ContainsAny(text[open:], `" `) {
		return nil, nil
	}
	m := &mark{at: open}
	digits := text[open+1 : len(text)-1]
	digits, m.nonSync = bytes.CutSuffix(digits, []byte("+"))
	size, ok := parseUint(digits, 1<<63-1)
	if !ok {
		return nil, doubt()
	}
	m.size = int64(size)
	if open > 0 && text[open-1] == '~' {
		m.binary = true
		m.at--
	}
	return m, nil
}

// head takes tag and name off the first segment and returns where the arguments start in r.buf.
func (r *reader) head(c *Command) int {
	tag, rest, found := bytes.Cut(r.text, []byte(" "))
	if !isTag(tag) {
		r.refuse("Tag missing or malformed")
		return len(r.text)
	}
	c.Tag = string(tag)
	name, rest, args := bytes.Cut(rest, []byte(" "))
	if !found || !isName(name) {
		r.refuse("Command name missing or malformed")
		return len(r.text)
	}
	c.Name = strings.ToUpper(string(name))
	if c.Name == "UID" {
		name, rest, args = bytes.Cut(rest, []byte(" "))
		if !isName(name) {
			r.refuse("UID must be followed by a command")
			return len(r.text)
		}
		c.Name, c.UID = "UID "+strings.ToUpper(string(name)), true
	}
	if !args {
		return len(r.text)
	}
	return len(r.text) - len(rest)
}

// hasMessage says which commands end in a message, which is streamed.
func hasMessage(name string) bool {
	return name == "APPEND" || name == "REPLACE" || name == "UID REPLACE"
}

// message tells whether the literal at hand is APPEND's message, and if so leaves it in the stream.
func (r *reader) message(c *Command, start int, m *mark) bool {
	before := len(r.buf) - len(r.text) + m.at
	if before <= start {
		return false // the mailbox's name
	}
	c.Args = r.buf[start:before:before]
	a, err := parseAppend(c)
	if err == nil {
		err = m.suits(a)
	}
	if err != nil {
		c.Args = nil
		var syn *SyntaxError
		if errors.As(err, &syn) {
			r.refuse(syn.Msg)
		}
		return false
	}
	if m.nonSync && m.size > r.lim.NonSync {
		return false // literal answers it
	}
	c.Literal = &Literal{Size: m.size, NonSync: m.nonSync, Binary: m.binary, r: r, left: m.size, open: m.nonSync, several: c.Name == "APPEND", utf8: a.UTF8}
	return true
}

// suits says whether the literal that m announces may follow these arguments (RFC 6855, Section 4).
func (m *mark) suits(a Append) error {
	if a.UTF8 && !m.binary {
		return bad("UTF8 takes a literal8")
	}
	return nil
}

// literal reads the literal that m announces, inlining it or, in a refused command, dropping it. false: the command
// ends here, with err.
func (r *reader) literal(m *mark) (bool, error) {
	if m.nonSync && m.size > r.lim.NonSync {
		return false, errNonSync
	}
	if m.nonSync && m.size > int64(r.lim.Total-r.total) {
		return false, errLong
	}
	if m.binary && !r.value {
		r.refuse("literal8 is only for the message of APPEND and the values of SETMETADATA")
	}
	if !m.nonSync {
		switch {
		case r.fault != nil:
			return false, r.fault // the client has not sent it, and will not
		case m.size > r.lim.Literal || m.size > int64(r.lim.Total-r.total):
			return false, &SyntaxError{Msg: "Literal too large", TooBig: true}
		case r.more == nil:
			return false, bad("Literals are not accepted here")
		}
		if err := r.more(); err != nil {
			return false, err
		}
	}
	r.total += int(m.size)
	if r.fault != nil {
		r.buf = r.buf[:0]
		_, err := io.CopyN(io.Discard, r.br, m.size)
		return err == nil, unexpected(err)
	}
	r.buf = append(r.buf, '\r', '\n')
	err := r.inline(m.size, m.binary)
	return err == nil, unexpected(err)
}

// inline appends the n octets of a literal to r.buf, growing it only as they come.
func (r *reader) inline(n int64, binary bool) error {
	for n > 0 {
		k := int(min(n, chunk))
		at := len(r.buf)
		r.buf = append(r.buf, make([]byte, k)...)
		if _, err := io.ReadFull(r.br, r.buf[at:]); err != nil {
			return err
		}
		// RFC 9051, Section 9: CHAR8 is any octet but NUL; a literal8 has any octet.
		if !binary && bytes.IndexByte(r.buf[at:], 0) >= 0 {
			r.refuse("NUL is not allowed")
		}
		n -= int64(k)
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func isTag(b []byte) bool {
	for _, ch := range b {
		if !isAStringChar(ch) || ch == '+' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxTag
}

func isName(b []byte) bool {
	for _, ch := range b {
		if !(ch|0x20 >= 'a' && ch|0x20 <= 'z' || ch >= '0' && ch <= '9' || ch == '-' || ch == '.') {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxName
}
