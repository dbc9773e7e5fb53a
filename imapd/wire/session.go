package wire

import (
	"encoding/base64"
	"strings"
)

// maxID bounds an ID command (RFC 2971, Section 3.3: at most 30 pairs, names to 30 and values to 1024 octets).
const maxID = 30

// ParseNone is for commands without arguments.
func ParseNone(c *Command) error { return c.lexer().end() }

// ParseLogin reads the arguments of LOGIN (RFC 9051, Section 6.2.3).
func ParseLogin(c *Command) (Login, error) {
	l := c.lexer()
	user, err := l.text()
	if err != nil {
		return Login{}, err
	}
	if err = l.space(); err != nil {
		return Login{}, err
	}
	password, err := l.text()
	if err != nil {
		return Login{}, err
	}
	if err = l.end(); err != nil {
		return Login{}, err
	}
	return Login{User: user, Password: password}, nil
}

// ParseCompress reads the argument of COMPRESS, in upper case (RFC 4978, Section 5).
func ParseCompress(c *Command) (string, error) {
	l := c.lexer()
	mechanism, err := l.word()
	if err != nil {
		return "", err
	}
	return mechanism, l.end()
}

// ParseAuthenticate reads the arguments of AUTHENTICATE (RFC 9051, Section 6.2.2).
func ParseAuthenticate(c *Command) (Authenticate, error) {
	l := c.lexer()
	mech, err := l.word()
	if err != nil {
		return Authenticate{}, err
	}
	a := Authenticate{Mechanism: mech}
	if l.take(' ') {
		a.HasInitial = true
		if !l.take('=') {
			var ok bool
			if a.Initial, ok = decodeBase64(l.b); !ok || len(l.b) == 0 {
				return Authenticate{}, bad("Malformed base64")
			}
			l.b = nil
		}
	}
	if err = l.end(); err != nil {
		return Authenticate{}, err
	}
	return a, nil
}

// DecodeSASL decodes the line that a client sends during AUTHENTICATE; cancelled when it is "*".
func DecodeSASL(line []byte) (data []byte, cancelled bool, err error) {
	if string(line) == "*" {
		return nil, true, nil
	}
	data, ok := decodeBase64(line)
	if !ok {
		return nil, false, bad("Malformed base64")
	}
	return data, false, nil
}

func decodeBase64(b []byte) ([]byte, bool) {
	// The decoder skips CR and LF; base64 has none here.
	if strings.ContainsAny(string(b), "\r\n") {
		return nil, false
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	return out[:n], err == nil
}

// ParseID reads the argument of ID; NIL gives none (RFC 2971, Section 3.1).
func ParseID(c *Command) ([]IDField, error) {
	l := c.lexer()
	if l.takeWord("NIL") {
		return nil, l.end()
	}
	var fields []IDField
	err := l.list(func() error {
		if len(fields) == maxID {
			return bad("ID has too many fields")
		}
		f, err := l.idField()
		fields = append(fields, f)
		return err
	})
	if err == nil {
		err = l.end()
	}
	if err != nil {
		return nil, err
	}
	return fields, nil
}

func (l *lexer) idField() (IDField, error) {
	name, err := l.quotedOrLiteral()
	if err != nil {
		return IDField{}, err
	}
	if err = l.space(); err != nil {
		return IDField{}, err
	}
	if l.takeWord("NIL") {
		return IDField{Name: name, Nil: true}, nil
	}
	value, err := l.quotedOrLiteral()
	if err == nil && (len(name) > 30 || len(value) > 1024) {
		err = bad("ID field too long")
	}
	return IDField{Name: name, Value: value}, err
}

// ParseEnable reads the capabilities of ENABLE, in upper case (RFC 5161, Section 3.1).
func ParseEnable(c *Command) ([]string, error) {
	l := c.lexer()
	var caps []string
	for len(caps) < l.lim.Keys {
		w, err := l.word()
		if err != nil {
			return nil, err
		}
		caps = append(caps, w)
		if !l.take(' ') {
			return caps, l.end()
		}
	}
	return nil, bad("Too many capabilities")
}
