package message

import (
	"strconv"
	"strings"
)

// Texts in the form of RFC 9051, Section 9 (string, nstring), append style.

// appendString writes a quoted string, or a literal where quoting is not allowed: 8-bit octets and line ends.
func appendString(b []byte, s string) []byte {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "") // NUL cannot be sent at all
	}
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || c == '\r' || c == '\n' {
			b = append(b, '{')
			b = strconv.AppendInt(b, int64(len(s)), 10)
			b = append(b, "}\r\n"...)
			return append(b, s...)
		}
	}
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// appendOr writes s, or NIL when it is empty.
func appendOr(b []byte, s string) []byte {
	if s == "" {
		return append(b, "NIL"...)
	}
	return appendString(b, s)
}

func appendParams(b []byte, params []param) []byte {
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	for i, p := range params {
		b = append(b, " ("[b2i(i == 0)])
		b = appendString(b, p.name)
		b = append(b, ' ')
		b = appendString(b, p.value)
	}
	return append(b, ')')
}

func b2i(v bool) int {
	if v {
		return 1
	}
	return 0
}

// wireParts are the texts of one part for BODYSTRUCTURE, without what is known only at its end.
type wireParts struct {
	head     []byte // `"text" "plain" ("charset" "utf-8") NIL NIL "7bit"`; of a multipart `"mixed"`
	ext      []byte // extension data, with a space before
	envelope []byte // of a message, for the message/rfc822 part that holds it
	name     string // file name
	attached bool   // Content-Disposition: attachment
}

const (
	emptyHead = `"text" "plain" ("charset" "us-ascii") NIL NIL "7bit"`
	emptyExt  = ` NIL NIL NIL NIL`
)

// appendBody writes BODY, or BODYSTRUCTURE with extended set (RFC 9051, Section 7.5.2). Its depth is that of the
// tree, which the scanner bounds.
func appendBody(b []byte, p *Part, extended bool) []byte {
	b = append(b, '(')
	w := p.wire
	if p.Multipart() {
		for _, c := range p.Parts {
			b = appendBody(b, c, extended)
		}
		b = append(b, ' ')
		b = append(b, w.head...)
	} else {
		b = append(b, w.head...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, p.Len, 10)
		if p.Embedded != nil {
			b = append(b, ' ')
			b = append(b, p.Embedded.wire.envelope...)
			b = append(b, ' ')
			b = appendBody(b, p.Embedded, extended)
		}
		if p.Embedded != nil || p.Type == "text" {
			b = append(b, ' ')
			b = strconv.AppendInt(b, p.Lines, 10)
		}
	}
	if extended {
		b = append(b, w.ext...)
	}
	return append(b, ')')
}

// envelope collects the fields of ENVELOPE. A field that stands twice: the first text counts, address lists are
// joined.
type envelope struct {
	date, subject, inReplyTo, messageID *string
	from, sender, replyTo, to, cc, bcc  *[]mailAddress
	reply                               bool // see Scanner.Reply
}

// maxAddressList bounds the wire form of one address field, octets.
const maxAddressList = 128 << 10

func (e *envelope) append(b []byte) (_ []byte, cut bool) {
	b = append(b, '(')
	b = appendText(b, e.date)
	b = append(b, ' ')
	b = appendText(b, e.subject)
	// RFC 9051, Section 7.5.2: sender and reply-to default to from when missing or empty.
	if e.sender == nil || len(*e.sender) == 0 {
		e.sender = e.from
	}
	if e.replyTo == nil || len(*e.replyTo) == 0 {
		e.replyTo = e.from
	}
	for _, list := range []*[]mailAddress{e.from, e.sender, e.replyTo, e.to, e.cc, e.bcc} {
		var c bool
		b = append(b, ' ')
		b, c = appendAddresses(b, list)
		cut = cut || c
	}
	b = append(b, ' ')
	b = appendText(b, e.inReplyTo)
	b = append(b, ' ')
	b = appendText(b, e.messageID)
	return append(b, ')'), cut
}

// appendText: a missing field is NIL, an empty one "".
func appendText(b []byte, s *string) []byte {
	if s == nil {
		return append(b, "NIL"...)
	}
	return appendString(b, *s)
}

func appendAddresses(b []byte, list *[]mailAddress) (_ []byte, cut bool) {
	if list == nil || len(*list) == 0 {
		return append(b, "NIL"...), false
	}
	start := len(b)
	open := false
	b = append(b, '(')
	for _, a := range *list {
		if len(b)-start > maxAddressList {
			if cut = true; !open {
				break
			}
			if a.group != groupEnd {
				continue // the group that was begun must end
			}
		}
		switch a.group {
		case groupStart:
			open = true
			b = append(b, "(NIL NIL "...)
			b = appendString(b, a.mailbox)
			b = append(b, " NIL)"...)
			continue
		case groupEnd:
			open = false
			b = append(b, "(NIL NIL NIL NIL)"...)
			continue
		}
		b = append(b, '(')
		b = appendOr(b, a.name)
		b = append(b, ' ')
		b = appendOr(b, a.route)
		b = append(b, ' ')
		b = appendString(b, a.mailbox)
		b = append(b, ' ')
		b = appendString(b, a.host)
		b = append(b, ')') // RFC 9051, Section 9: env-from = "(" 1*address ")", no space between
	}
	return append(b, ')'), cut
}
