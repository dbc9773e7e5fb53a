package wire

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// lexer walks over the arguments of a command.
type lexer struct {
	b   []byte // what is left
	lim Limits
}

func (c *Command) lexer() *lexer { return &lexer{b: c.Args, lim: c.Limits.filled()} }

// RFC 9051, Section 9: ATOM-CHAR.
func isAtomChar(ch byte) bool {
	switch ch {
	case '(', ')', '{', ' ', '%', '*', '"', '\\', ']':
		return false
	}
	return ch > 0x20 && ch < 0x7f
}

func isAStringChar(ch byte) bool { return isAtomChar(ch) || ch == ']' }

func isListChar(ch byte) bool { return isAStringChar(ch) || ch == '%' || ch == '*' }

// parseUint reads decimal digits, the whole of b, up to max.
func parseUint(b []byte, max uint64) (uint64, bool) {
	var n uint64
	for _, ch := range b {
		d := uint64(ch - '0')
		if ch < '0' || ch > '9' || n > (max-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(b) > 0 && n <= max
}

func (l *lexer) peek(ch byte) bool { return len(l.b) > 0 && l.b[0] == ch }

// take consumes ch if it is next.
func (l *lexer) take(ch byte) bool {
	if !l.peek(ch) {
		return false
	}
	l.b = l.b[1:]
	return true
}

func (l *lexer) need(ch byte) error {
	if !l.take(ch) {
		switch ch {
		case ' ':
			return bad("Argument missing")
		case ')':
			return bad("Closing parenthesis missing")
		case '(':
			return bad("Opening parenthesis missing")
		}
		return bad("Malformed arguments")
	}
	return nil
}

func (l *lexer) space() error { return l.need(' ') }

// end requires that nothing is left.
func (l *lexer) end() error {
	if len(l.b) > 0 {
		return bad("Too many arguments")
	}
	return nil
}

// span consumes the longest run of octets that ok takes.
func (l *lexer) span(ok func(byte) bool) []byte {
	i := 0
	for i < len(l.b) && ok(l.b[i]) {
		i++
	}
	s := l.b[:i]
	l.b = l.b[i:]
	return s
}

func (l *lexer) atom() (string, error) {
	s := l.span(isAtomChar)
	if len(s) == 0 {
		return "", bad("Atom expected")
	}
	return string(s), nil
}

// word is an atom in upper case: the name of an option.
func (l *lexer) word() (string, error) {
	s, err := l.atom()
	return strings.ToUpper(s), err
}

// takeWord consumes the atom w if it is next, compared without case. w is upper case.
func (l *lexer) takeWord(w string) bool {
	if len(l.b) < len(w) || !strings.EqualFold(string(l.b[:len(w)]), w) {
		return false
	}
	if len(l.b) > len(w) && isAStringChar(l.b[len(w)]) {
		return false
	}
	l.b = l.b[len(w):]
	return true
}

func (l *lexer) number(max uint64) (uint64, error) {
	n, ok := parseUint(l.span(isDigit), max)
	if !ok {
		return 0, bad("Number missing or out of range")
	}
	return n, nil
}

func isDigit(ch byte) bool { return ch >= '0' && ch <= '9' }

// quotedOrLiteral reads a string (RFC 9051, Section 4.3).
func (l *lexer) quotedOrLiteral() (string, error) {
	if l.peek('"') {
		return l.quoted()
	}
	return l.literal()
}

// quoted reads a quoted string. RFC 9755, Section 3: octets beyond ASCII in it are UTF-8, or BAD.
func (l *lexer) quoted() (string, error) {
	s, err := l.unquoted()
	if err == nil && !utf8.ValidString(s) {
		err = errNotUTF8
	}
	return s, err
}

func (l *lexer) unquoted() (string, error) {
	b := l.b[1:]
	end := bytes.IndexAny(b, `"\`)
	if end >= 0 && b[end] == '"' {
		l.b = b[end+1:]
		return string(b[:end]), nil
	}
	var s []byte
	for i := 0; i < len(b); i++ {
		switch ch := b[i]; ch {
		case '"':
			l.b = b[i+1:]
			return string(s), nil
		case '\\':
			i++
			if i == len(b) || b[i] != '"' && b[i] != '\\' {
				return "", bad("Malformed quoted string")
			}
			s = append(s, b[i])
		default:
			s = append(s, ch)
		}
	}
	return "", bad("Quoted string without end")
}

// literal reads an inlined literal. ReadCommand has bounded it.
func (l *lexer) literal() (string, error) {
	if !l.take('{') {
		return "", bad("String expected")
	}
	n, err := l.number(uint64(len(l.b)))
	l.take('+')
	if err != nil || !bytes.HasPrefix(l.b, []byte("}\r\n")) || n > uint64(len(l.b)-3) {
		return "", bad("Malformed literal")
	}
	s := string(l.b[3 : 3+n])
	l.b = l.b[3+n:]
	return s, nil
}

// astring reads an atom (with "]") or a string.
func (l *lexer) astring() (string, error) {
	return l.charsOr(isAStringChar)
}

func (l *lexer) charsOr(ok func(byte) bool) (string, error) {
	if l.peek('"') || l.peek('{') {
		return l.quotedOrLiteral()
	}
	s := l.span(ok)
	if len(s) == 0 {
		return "", bad("Atom or string expected")
	}
	return string(s), nil
}

var errNotUTF8 error = &SyntaxError{Msg: "Text is not UTF-8"}

// text reads an astring that must be UTF-8.
func (l *lexer) text() (string, error) {
	s, err := l.astring()
	if err == nil && !utf8.ValidString(s) {
		err = errNotUTF8
	}
	return s, err
}

// mailbox reads a mailbox name and returns it in UTF-8, INBOX in capitals (RFC 9051, Section 5.1).
func (l *lexer) mailbox() (string, error) {
	s, err := l.astring()
	if err != nil {
		return "", err
	}
	s, err = decodeName(s, l.lim.UTF8)
	if strings.EqualFold(s, "INBOX") {
		s = "INBOX"
	}
	return s, err
}

// list reads "(" item *(SP item) ")", possibly empty, of at most Limits.Keys items.
func (l *lexer) list(item func() error) error {
	if err := l.need('('); err != nil {
		return err
	}
	if l.take(')') {
		return nil
	}
	for n := 0; ; n++ {
		if n == l.lim.Keys {
			return bad("List too long")
		}
		if err := item(); err != nil {
			return err
		}
		if l.take(')') {
			return nil
		}
		if !l.take(' ') {
			return bad("Malformed list")
		}
	}
}
