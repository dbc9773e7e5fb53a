package delivery

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// What is wrong with the octets of a message. The first fault is sticky.
var (
	ErrBareCR   = errors.New("delivery: bare CR in the message")
	ErrBareLF   = errors.New("delivery: bare LF in the message")
	ErrNUL      = errors.New("delivery: NUL in the message")
	ErrTooLarge = errors.New("delivery: message too large")
	ErrHops     = errors.New("delivery: too many Received fields")
	errSpent    = errors.New("delivery: spool already finished or aborted")
)

// Limits of a message. Zero values mean the defaults named beside each.
type Limits struct {
	Size     int64 // octets; 0: 150 MiB
	Received int   // Received fields in the top header; 0: 100 (RFC 5321, Section 6.3)
	DKIM     *DKIM // verifies signatures; nil: nobody does

	Originate *Originate // adds what a member's software left out, takes away what recipients must not see; nil: the octets stay as they came
}

// A Spool takes in one message: an io.Writer whose memory does not depend on the size of the message.
// It is used by one goroutine at a time.
type Spool struct {
	lim    Limits
	blob   *store.Blob
	check  lineCheck
	sum    hash.Hash
	scan   *message.Scanner
	fields *completer // nil: nothing is added
	taken  int64      // octets that came
	size   int64      // octets kept
	err    error      // sticky
	done   bool
	digest [32]byte
	meta   *message.Meta
	dkim   dkimTap
	signed []Signature
}

// NewSpool opens a spool file in st. With strict false the rules on line ends are not applied
// (messages that a client appends, which are not relayed).
func NewSpool(st *store.Store, strict bool, lim Limits) (*Spool, error) {
	if lim.Size <= 0 {
		lim.Size = 150 << 20
	}
	if lim.Received <= 0 {
		lim.Received = 100
	}
	blob, err := st.NewBlob()
	if err != nil {
		return nil, fmt.Errorf("delivery: spool: %w", err)
	}
	sp := &Spool{
		lim: lim, blob: blob, sum: sha256.New(), scan: message.NewScanner(), dkim: dkimTap{d: lim.DKIM},
		check: lineCheck{strict: strict, maxReceived: lim.Received, header: true},
	}
	if o := lim.Originate; o != nil {
		sp.fields = &completer{add: func(date, messageID bool) []byte { return o.fields(blob.ID(), date, messageID) }}
	}
	return sp, nil
}

// Write takes the next octets. p is not kept.
func (s *Spool) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if err := s.write(p); err != nil {
		s.err = err
		return 0, err
	}
	s.taken += int64(len(p))
	return len(p), nil
}

func (s *Spool) write(p []byte) error {
	if s.done {
		return errSpent
	}
	if s.taken+int64(len(p)) > s.lim.Size {
		return ErrTooLarge
	}
	if err := s.check.feed(p); err != nil {
		return err
	}
	s.sum.Write(p)
	s.dkim.write(p)
	if s.fields != nil {
		return s.fields.feed(p, s.keep)
	}
	return s.keep(p)
}

// keep has the octets read and spooled.
func (s *Spool) keep(p []byte) error {
	if _, err := s.scan.Write(p); err != nil {
		return fmt.Errorf("delivery: scan: %w", err)
	}
	if _, err := s.blob.Write(p); err != nil {
		return fmt.Errorf("delivery: spool: %w", err)
	}
	s.size += int64(len(p))
	return nil
}

// Finish ends the message. After an error the Spool is aborted.
func (s *Spool) Finish() error {
	if s.err == nil && s.done {
		s.err = errSpent
	}
	if s.err == nil {
		s.err = s.check.finish()
	}
	if s.err == nil && s.fields != nil {
		s.err = s.fields.finish(s.keep)
	}
	if s.err == nil {
		s.done = true
		s.sum.Sum(s.digest[:0])
		var text message.Text
		s.meta, text = s.scan.Finish()
		s.signed = s.dkim.finish()
		if err := s.blob.Finish(s.meta, text); err != nil {
			s.err = fmt.Errorf("delivery: spool: %w", err)
		}
	}
	if s.err != nil {
		s.Abort()
	}
	return s.err
}

// Abort removes the spool file; after a commit it does nothing.
func (s *Spool) Abort() {
	if s.err == nil {
		s.err = errSpent
	}
	s.dkim.abort()
	s.blob.Abort()
}

// ID names the message from the start on.
func (s *Spool) ID() trace.ID { return s.blob.ID() }

// named reports, after Finish, whether the message came with something that tells it from another of the same words.
func (s *Spool) named() bool { return s.fields == nil || s.fields.date || s.fields.messageID }

// AddedID is the Message-ID that was added to the message stored under id, of which this is the first copy or a repetition;
// "" when the message had one. It is known after Finish.
func (s *Spool) AddedID(id trace.ID) string {
	if s.fields == nil || s.fields.messageID {
		return ""
	}
	return s.lim.Originate.messageID(id)
}

// Size is the number of octets kept so far.
func (s *Spool) Size() int64 { return s.size }

// SHA256 is the hash of the octets that came, after Finish.
func (s *Spool) SHA256() [32]byte { return s.digest }

// Meta is the structure of the message, after Finish; nil before.
func (s *Spool) Meta() *message.Meta { return s.meta }

// Signatures are those that were verified, after Finish.
func (s *Spool) Signatures() []Signature { return s.signed }

// FromDomains are the domains of the addresses in From, after Finish; see message.Scanner.
func (s *Spool) FromDomains() []string { return s.scan.FromDomains() }

// ReplyToDomains are the domains of the addresses to which answers go, after Finish; see message.Scanner.
func (s *Spool) ReplyToDomains() []string { return s.scan.ReplyToDomains() }

// Origin is who wrote the message, as its header has it, after Finish; see message.Scanner.
func (s *Spool) Origin() message.Origin { return s.scan.Origin() }

// Begins reports whether the message answers none and is no report of what became of one, after Finish.
func (s *Spool) Begins() bool {
	if m := s.meta; m != nil && m.Root != nil && m.Root.Type == "multipart" && m.Root.Subtype == "report" {
		return false // RFC 6522: a receipt names the message in its body
	}
	return !s.scan.Reply()
}

// lineCheck holds the rules on line ends (RFC 5321, Section 2.3.8: CR and LF only together; no NUL:
// RFC 5322, Section 4) and counts the Received fields of the top header, in windows of any size.
type lineCheck struct {
	strict      bool
	maxReceived int

	cr       bool // the last octet was CR
	header   bool // still in the top header
	name     [len(received) + 1]byte
	nameLen  int // octets of the present line in name; used in the header only
	received int
}

const received = "received"

func (c *lineCheck) feed(p []byte) error {
	if c.strict {
		if err := c.strictEnds(p); err != nil {
			return err
		}
	} else if len(p) > 0 {
		c.cr = p[len(p)-1] == '\r'
	}
	for c.header && len(p) > 0 {
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			c.headerPart(p, false)
			return nil
		}
		if err := c.headerPart(p[:n], true); err != nil {
			return err
		}
		p = p[n+1:]
	}
	return nil
}

// strictEnds checks that p has CR and LF only as pairs, the first octet being judged with the last
// one of the window before.
func (c *lineCheck) strictEnds(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if bytes.IndexByte(p, 0) >= 0 {
		return ErrNUL
	}
	pairs, rest := 0, p
	if c.cr {
		if rest[0] != '\n' {
			return ErrBareCR
		}
		rest = rest[1:]
	}
	for at := rest; ; pairs++ {
		n := bytes.IndexByte(at, '\n')
		if n < 0 {
			break
		}
		if n == 0 || at[n-1] != '\r' {
			return ErrBareLF
		}
		at = at[n+1:]
	}
	c.cr = p[len(p)-1] == '\r'
	crs := bytes.Count(rest, []byte{'\r'})
	if c.cr {
		crs--
	}
	if crs != pairs {
		return ErrBareCR
	}
	return nil
}

// headerPart sees a piece of a header line without its LF; end says that the LF follows.
func (c *lineCheck) headerPart(piece []byte, end bool) error {
	c.nameLen += copy(c.name[c.nameLen:], piece)
	if !end {
		return nil
	}
	line := c.name[:c.nameLen]
	c.nameLen = 0
	if len(line) == 0 || (len(line) == 1 && line[0] == '\r') {
		c.header = false
		return nil
	}
	if len(line) == len(c.name) && bytes.EqualFold(line[:len(received)], []byte(received)) {
		if last := line[len(received)]; last == ':' || last == ' ' || last == '\t' {
			c.received++
		}
	}
	if c.received > c.maxReceived {
		return ErrHops
	}
	return nil
}

// finish judges what only the end shows. A message may end without CRLF (RFC 3030, Section 2).
func (c *lineCheck) finish() error {
	if c.strict && c.cr {
		return ErrBareCR
	}
	return nil
}
