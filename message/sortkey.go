package message

import (
	"bytes"
	"strings"
)

// maxSubject bounds the subject of which the base is looked for, octets: what stands behind it is not compared.
const maxSubject = 1000

// sortFields is what of a message SORT and THREAD look at: texts decoded to UTF-8, "" where a field is missing.
type sortFields struct {
	Subject            string
	From, To, Cc       correspondent // the first of each
	MessageID, ReplyTo string        // Message-ID and In-Reply-To as they stand
}

// correspondent is one address of a message.
type correspondent struct {
	Name          string // display name, decoded
	Mailbox, Host string
}

// Display is what a person sees of an address (RFC 5957, Section 3): the name, else the address.
func (c correspondent) Display() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.Host != "":
		return c.Mailbox + "@" + c.Host
	}
	return c.Mailbox
}

// sortFields reads the fields out of Envelope, in which they stand ready for the wire.
func (m *Meta) sortFields() sortFields {
	e := envelopeReader{b: m.Envelope}
	var f sortFields
	e.open()
	e.str() // date
	f.Subject = decoded(e.str(), maxSubject)
	f.From = e.first()
	e.first() // sender
	e.first() // reply-to
	f.To = e.first()
	f.Cc = e.first()
	e.first() // bcc
	f.ReplyTo = e.str()
	f.MessageID = e.str()
	return f
}

// decoded is a text without its encoded words, at most n octets of it.
func decoded(s string, n int) string {
	s = string(decodeWords(s[:min(len(s), 4*n)]))
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

// envelopeReader walks over an ENVELOPE that this package wrote. Octets that it does not expect end the walk: all
// further fields are empty.
type envelopeReader struct{ b []byte }

func (e *envelopeReader) open() bool {
	e.b = bytes.TrimLeft(e.b, " ")
	if len(e.b) == 0 || e.b[0] != '(' {
		return false
	}
	e.b = e.b[1:]
	return true
}

// str reads a string, or NIL as "".
func (e *envelopeReader) str() string {
	e.b = bytes.TrimLeft(e.b, " ")
	switch {
	case bytes.HasPrefix(e.b, []byte("NIL")):
		e.b = e.b[3:]
		return ""
	case len(e.b) > 0 && e.b[0] == '"':
		return e.quoted()
	case len(e.b) > 0 && e.b[0] == '{':
		return e.literal()
	}
	e.b = nil
	return ""
}

func (e *envelopeReader) quoted() string {
	var s []byte
	for i := 1; i < len(e.b); i++ {
		switch c := e.b[i]; {
		case c == '"':
			e.b = e.b[i+1:]
			return string(s)
		case c == '\\' && i+1 < len(e.b):
			i++
			s = append(s, e.b[i])
		default:
			s = append(s, c)
		}
	}
	e.b = nil
	return ""
}

func (e *envelopeReader) literal() string {
	n, i := 0, 1
	for ; i < len(e.b) && e.b[i] >= '0' && e.b[i] <= '9' && n <= len(e.b); i++ {
		n = 10*n + int(e.b[i]-'0')
	}
	rest, ok := bytes.CutPrefix(e.b[i:], []byte("}\r\n"))
	if !ok || n > len(rest) {
		e.b = nil
		return ""
	}
	e.b = rest[n:]
	return string(rest[:n])
}

// first reads a list of addresses and keeps the first of them.
func (e *envelopeReader) first() correspondent {
	var c correspondent
	e.b = bytes.TrimLeft(e.b, " ")
	if bytes.HasPrefix(e.b, []byte("NIL")) {
		e.b = e.b[3:]
		return c
	}
	if !e.open() {
		e.b = nil
		return c
	}
	for i := 0; e.open(); i++ {
		name, _, mailbox, host := e.str(), e.str(), e.str(), e.str()
		if i == 0 {
			c = correspondent{decoded(name, maxSubject), mailbox, host}
		}
		e.shut()
	}
	e.shut()
	return c
}

func (e *envelopeReader) shut() {
	if len(e.b) == 0 || e.b[0] != ')' {
		e.b = nil
		return
	}
	e.b = e.b[1:]
}

// BaseSubject takes the marks of replies and forwarding off a decoded subject (RFC 5256, Section 2.1); reply says
// whether there were any. The base is not folded.
func BaseSubject(s string) (base string, reply bool) {
	s = strings.Join(strings.FieldsFunc(s[:min(len(s), maxSubject)], func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }), " ")
	for {
		s = trimTrailers(s, &reply)
		for {
			was := s
			s = trimLeader(s, &reply)
			if rest, ok := cutBlob(s); ok && rest != "" {
				s = rest
			}
			if s == was {
				break
			}
		}
		inner, ok := cutForwarded(s)
		if !ok {
			return s, reply
		}
		s, reply = inner, true
	}
}

// trimTrailers takes "(fwd)" and spaces off the end: step 2.
func trimTrailers(s string, reply *bool) string {
	for {
		s = strings.TrimRight(s, " ")
		n := len(s) - len("(fwd)")
		if n < 0 || !strings.EqualFold(s[n:], "(fwd)") {
			return s
		}
		s, *reply = s[:n], true
	}
}

// trimLeader takes "re:", "fw:", "fwd:", with what may stand in brackets before and within, and spaces off the
// beginning, once: step 3.
func trimLeader(s string, reply *bool) string {
	s = strings.TrimLeft(s, " ")
	rest := s
	for {
		r, ok := cutBlob(rest)
		if !ok {
			break
		}
		rest = r
	}
	for _, mark := range [...]string{"re", "fwd", "fw"} {
		if len(rest) < len(mark) || !strings.EqualFold(rest[:len(mark)], mark) {
			continue
		}
		r := strings.TrimLeft(rest[len(mark):], " ")
		if b, ok := cutBlob(r); ok {
			r = b
		}
		if strings.HasPrefix(r, ":") {
			*reply = true
			return strings.TrimLeft(r[1:], " ")
		}
	}
	return s
}

// cutBlob takes "[…]" and the spaces behind it off the beginning.
func cutBlob(s string) (string, bool) {
	if !strings.HasPrefix(s, "[") {
		return s, false
	}
	end := strings.IndexAny(s[1:], "[]")
	if end < 0 || s[1+end] != ']' {
		return s, false
	}
	return strings.TrimLeft(s[end+2:], " "), true
}

// cutForwarded is what stands within "[fwd: …]": step 6.
func cutForwarded(s string) (string, bool) {
	const head = "[fwd:"
	if len(s) > len(head) && strings.EqualFold(s[:len(head)], head) && strings.HasSuffix(s, "]") {
		return s[len(head) : len(s)-1], true
	}
	return s, false
}
