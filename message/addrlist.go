package message

import "strings"

// mailAddress is one entry of an address field, or the beginning or end of a group, as ENVELOPE shows them
// (RFC 9051, Section 7.5.2).
type mailAddress struct {
	name, route, mailbox, host string
	group                      groupMark
}

type groupMark uint8

const (
	noGroup groupMark = iota
	groupStart
	groupEnd
)

// parseAddresses reads an address list (RFC 5322, Section 3.4) and never gives up: what is no address becomes an
// entry with the text as its mailbox. It is one pass over v.
func parseAddresses(v string) []mailAddress {
	p := addressParser{s: v}
	for p.i < len(p.s) {
		p.step()
	}
	p.flush()
	if p.inGroup {
		p.out = append(p.out, mailAddress{group: groupEnd})
	}
	return p.out
}

type addressParser struct {
	s       string
	i       int
	out     []mailAddress
	inGroup bool

	text    []byte // phrase or bare address so far, quotes removed
	at      int    // place of the last "@" outside quotes in text, -1 before
	space   bool   // white space before what comes next
	comment string // last comment
	begun   bool   // at is valid
	quoted  bool   // a quoted string was seen, perhaps an empty one
}

func (p *addressParser) reset() {
	p.text, p.at, p.space, p.comment, p.begun, p.quoted = p.text[:0], -1, false, "", true, false
}

func (p *addressParser) step() {
	if !p.begun {
		p.reset()
	}
	switch c := p.s[p.i]; c {
	case ' ', '\t', '\r', '\n':
		p.space = true
		p.i++
	case '(':
		if end := skipComment(p.s, p.i); end > p.i+1 {
			p.comment = commentText(p.s[p.i+1 : end-1])
			p.i = end
			p.space = true
		} else {
			p.i = len(p.s) // never closed: nothing behind it can be told from the comment
		}
	case '"':
		p.quoted = true
		p.quote()
	case '<':
		p.angle()
	case ',':
		p.flush()
		p.i++
	case ';':
		p.flush()
		if p.inGroup {
			p.out = append(p.out, mailAddress{group: groupEnd})
			p.inGroup = false
		}
		p.i++
	case ':':
		if p.inGroup || p.at >= 0 {
			p.add(c)
			break
		}
		p.out = append(p.out, mailAddress{mailbox: string(p.text), group: groupStart})
		p.inGroup = true
		p.reset()
		p.i++
	case '@':
		p.space = false
		p.at = len(p.text)
		p.add(c)
	default:
		p.add(c)
	}
}

func (p *addressParser) add(c byte) {
	// Around dots and "@" of an address white space has no meaning (RFC 5322, Section 4.4).
	if n := len(p.text); p.space && n > 0 && !(p.at >= 0 && (c == '.' || p.text[n-1] == '.' || p.text[n-1] == '@')) {
		p.text = append(p.text, ' ')
	}
	p.space = false
	p.text = append(p.text, c)
	p.i++
}

func (p *addressParser) quote() {
	if p.space && len(p.text) > 0 {
		p.text = append(p.text, ' ')
	}
	p.space = false
	for p.i++; p.i < len(p.s) && p.s[p.i] != '"'; p.i++ {
		if p.s[p.i] == '\\' && p.i+1 < len(p.s) {
			p.i++
		}
		p.text = append(p.text, p.s[p.i])
	}
	p.i++
	p.i = min(p.i, len(p.s))
}

// angle reads <route:local@domain>; an unclosed one ends at the next comma.
func (p *addressParser) angle() {
	name := string(p.text)
	p.i++
	inner := addressParser{s: p.s, i: p.i, begun: true, at: -1}
	route := ""
	for inner.i < len(inner.s) {
		c := inner.s[inner.i]
		if c == '>' || c == ',' && (route != "" || len(inner.text) == 0 || inner.text[0] != '@') {
			break
		}
		switch {
		case c == '"' || c == '(' || c == ' ' || c == '\t' || c == '@':
			inner.step()
		case c == ':' && len(inner.text) > 0 && inner.text[0] == '@' && route == "":
			route = string(inner.text)
			inner.text, inner.at = inner.text[:0], -1
			inner.i++
		default:
			inner.add(c)
		}
	}
	p.i = inner.i
	if p.i < len(p.s) && p.s[p.i] == '>' {
		p.i++
	}
	a := inner.address()
	a.name, a.route = name, route
	for p.i < len(p.s) && p.s[p.i] != ',' && p.s[p.i] != ';' {
		p.tail()
	}
	if a.name == "" {
		a.name = p.comment
	}
	p.out = append(p.out, a)
	p.reset()
}

// tail skips what stands between ">" and the comma; a comment may hold the name.
func (p *addressParser) tail() {
	switch p.s[p.i] {
	case '(':
		if end := skipComment(p.s, p.i); end > p.i+1 {
			p.comment = commentText(p.s[p.i+1 : end-1])
			p.i = end
		} else {
			p.i = len(p.s)
		}
	case '"':
		p.quote()
	default:
		p.i++
	}
}

// flush ends an address without angle brackets.
func (p *addressParser) flush() {
	if p.begun && (len(p.text) > 0 || p.quoted) {
		a := p.address()
		a.name = p.comment
		p.out = append(p.out, a)
	}
	p.reset()
}

const missingDomain = "MISSING_DOMAIN"

// address splits what was read at its last "@". IMAP needs both halves: a NIL host means a group. The words for a missing one
// are those of Dovecot, which clients know.
func (p *addressParser) address() mailAddress {
	a := mailAddress{mailbox: string(p.text)}
	if p.at >= 0 {
		a.mailbox, a.host = string(p.text[:p.at]), string(p.text[p.at+1:])
	}
	if a.mailbox == "" {
		a.mailbox = "MISSING_MAILBOX"
	}
	if a.host == "" {
		a.host = missingDomain
	}
	return a
}

func commentText(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return strings.TrimSpace(s)
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return strings.TrimSpace(string(b))
}
