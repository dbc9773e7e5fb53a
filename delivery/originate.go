package delivery

import (
	"bytes"
	"time"

	"mssd/trace"
)

// Originate has a Spool add the fields that a message must have and its sender left out: Date and Message-ID (RFC 5322,
// Section 3.6; RFC 6409, Sections 8.2 and 8.3). They come last in the header, and the message is from then on the one with
// them: what the store, the readers and later a relay see is one and the same.
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

// A completer passes a message on and puts fields in front of the empty line that ends its header. Its pieces may be cut
// anywhere; their line ends were checked.
type completer struct {
	add  func(date, messageID bool) []byte // the fields, given which of them there are
	done bool                              // the header is over

	line [32]byte // beginning of the present line of the header
	n    int      // octets of it
	held bool     // the CR that began the line was not passed on yet: LF would make it the empty line

	date, messageID bool
}

// feed passes p on to keep.
func (c *completer) feed(p []byte, keep func([]byte) error) error {
	if c.done || len(p) == 0 {
		return keepSome(p, keep)
	}
	if c.held {
		c.held = false
		if p[0] == '\n' {
			return c.end(nil, append([]byte("\r"), p...), keep)
		}
		c.line[0], c.n = '\r', 1
		if err := keep([]byte("\r")); err != nil {
			return err
		}
	}
	for at := 0; at < len(p); {
		if c.n == 0 && p[at] == '\r' {
			switch {
			case at+1 == len(p):
				c.held = true
				return keepSome(p[:at], keep)
			case p[at+1] == '\n':
				return c.end(p[:at], p[at:], keep)
			}
		}
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			c.n += copy(c.line[c.n:], p[at:])
			break
		}
		c.n += copy(c.line[c.n:], p[at:at+i])
		c.seen()
		at += i + 1
	}
	return keep(p)
}

// end passes on what stands before the fields, the fields, and what stands behind them.
func (c *completer) end(before, behind []byte, keep func([]byte) error) error {
	c.done = true
	for _, p := range [][]byte{before, c.add(c.date, c.messageID), behind} {
		if err := keepSome(p, keep); err != nil {
			return err
		}
	}
	return nil
}

// finish ends a message, which may be all header.
func (c *completer) finish(keep func([]byte) error) error {
	if c.done {
		return nil
	}
	var before []byte
	if c.n > 0 {
		c.seen()
		before = []byte("\r\n") // the last line had no end (RFC 3030, Section 2)
	}
	return c.end(before, nil, keep)
}

// seen notes the name of the line, which is complete.
func (c *completer) seen() {
	if name, _, ok := bytes.Cut(c.line[:c.n], []byte(":")); ok {
		name = bytes.TrimRight(name, " \t") // RFC 5322, Section 4.5.8
		c.date = c.date || bytes.EqualFold(name, []byte("date"))
		c.messageID = c.messageID || bytes.EqualFold(name, []byte("message-id"))
	}
	c.n = 0
}

func keepSome(p []byte, keep func([]byte) error) error {
	if len(p) == 0 {
		return nil
	}
	return keep(p)
}
