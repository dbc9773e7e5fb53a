package delivery

import (
	"bytes"
	"time"

	"mssd/trace"
)

// Originate has a Spool make a message whole that a member sends for the first time. The fields that a message must have and
// its sender left out are added: Date and Message-ID (RFC 5322, Section 3.6; RFC 6409, Sections 8.2 and 8.3). They come last in
// the header. Left out are those that would tell the recipients of each other, and those that only who delivers may set: see
// notSent. The message is from then on the one that comes out: what the store, the readers and later a relay see is one and
// the same.
type Originate struct {
	Hostname string           // of the Message-ID
	Now      func() time.Time // nil: time.Now
}

// messageID is made of the ID of the message, so that a repetition of it gets the same.
func (o *Originate) messageID(id trace.ID) string { return "<" + id.String() + "@" + o.Hostname + ">" }

// fields are those to be added.
func (o *Originate) fields(id trace.ID, date, messageID bool) []byte {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	var b []byte
	if !date {
		b = append(b, "Date: "+now().Format("Mon, 2 Jan 2006 15:04:05 -0700")+"\r\n"...)
	}
	if !messageID {
		b = append(b, "Message-ID: "+o.messageID(id)+"\r\n"...)
	}
	return b
}

// notSent are the fields that are left out of a message, in lower case, with all their lines.
var notSent = map[string]bool{
	"bcc":                    true, // recipients who are not to know of each other (RFC 5322, Section 3.6.3)
	"resent-bcc":             true,
	"return-path":            true, // RFC 5321, Section 4.4
	"authentication-results": true, // another's word about a message that begins here (RFC 8601, Section 5)
	"original-recipient":     true, // RFC 8098, Section 2.3
	"original-envelope-id":   true,
	"x-mssd-receipts":        true,
}

// maxName is longer than the name of every field that is looked for, octets.
const maxName = 24

// A completer passes a message on, leaves out the fields of notSent, and puts fields in front of the empty line that ends its
// header. Its pieces may be cut anywhere; their line ends were checked.
type completer struct {
	add  func(date, messageID bool) []byte // the fields, given which of them there are
	done bool                              // the header is over

	line   []byte // beginning of a line whose name is not known yet, held back: at most maxName octets
	inLine bool   // the name is known, and the line is not over
	drop   bool   // the field is left out
	last   byte   // last octet passed on

	date, messageID bool
}

// feed passes p on to keep.
func (c *completer) feed(p []byte, keep func([]byte) error) error {
	if c.done {
		return keepSome(p, keep)
	}
	out := make([]byte, 0, len(p)+len(c.line))
	for i := 0; i < len(p); {
		if c.inLine {
			n := bytes.IndexByte(p[i:], '\n') + 1
			if c.inLine = n == 0; c.inLine {
				n = len(p) - i
			}
			if !c.drop {
				out = append(out, p[i:i+n]...)
			}
			i += n
			continue
		}
		c.line = append(c.line, p[i])
		i++
		switch {
		case string(c.line) == "\r\n":
			c.done = true
			out = append(append(out, c.add(c.date, c.messageID)...), "\r\n"...)
			return keep(append(out, p[i:]...))
		case c.named():
			if !c.drop {
				out = append(out, c.line...)
			}
			c.inLine = p[i-1] != '\n'
			c.line = c.line[:0]
		}
	}
	if len(out) > 0 {
		c.last = out[len(out)-1]
	}
	return keepSome(out, keep)
}

// named reports whether the octets held back tell what becomes of the line. A name ends at its colon, or at the space before
// it, which is obsolete (RFC 5322, Section 4.5.8).
func (c *completer) named() bool {
	n := len(c.line) - 1
	switch end := c.line[n]; {
	case n == 0 && (end == ' ' || end == '\t'): // the field before goes on
	case end == ' ', end == '\t', end == ':':
		name := string(bytes.ToLower(c.line[:n]))
		c.drop = notSent[name]
		c.date = c.date || name == "date"
		c.messageID = c.messageID || name == "message-id"
	case end == '\n', n == maxName: // no field, or another
		c.drop = false
	default:
		return false
	}
	return true
}

// finish ends a message, which may be all header.
func (c *completer) finish(keep func([]byte) error) error {
	if c.done {
		return nil
	}
	c.done = true
	out := c.line
	if len(out) > 0 {
		c.last = out[len(out)-1]
	}
	if c.last != 0 && c.last != '\n' {
		out = append(out, "\r\n"...) // the last line had no end (RFC 3030, Section 2)
	}
	return keepSome(append(out, c.add(c.date, c.messageID)...), keep)
}

func keepSome(p []byte, keep func([]byte) error) error {
	if len(p) == 0 {
		return nil
	}
	return keep(p)
}
