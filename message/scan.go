package message

import (
	"bytes"
	"io"
)

const (
	// maxProbe is how much of a line is kept to tell whether it is a delimiter: "--", the boundary, "--" and some padding.
	maxProbe = 512
	// RFC 2046, Section 5.1.1 allows 70; others are seen, and one that does not fit a probe cannot be found.
	stdBoundary = 70
	maxBoundary = 256
	// maxStructure bounds the texts kept for BODYSTRUCTURE, octets.
	maxStructure  = 512 << 10
	maxHeaderText = 12 << 10 // of Text: the header's share
	maxNameText   = 4 << 10  // of Text: the share of attachment names
)

// Scanner reads a message in one pass. Write it the octets, then call Finish once.
type Scanner struct {
	from   []string // see FromDomains
	answer []string // see ReplyToDomains
	reply  bool     // see Reply
	origin Origin   // see Origin
	pos    int64    // octets consumed
	nl     int64    // line ends in all complete lines
	eol    int64    // octets of the last line end: 0 at the beginning, 1 or 2
	last   byte     // last octet consumed

	inHeader  bool
	at        lineState
	lineStart int64
	line      []byte // first octets of the line, while it may be a delimiter
	child     bool   // the delimiter line being skipped begins a part

	hdr     []byte // header block being read
	hdrLine int    // where the current line begins in hdr
	hdrCut  bool

	open   []entity // from the message down to the innermost open part
	waits  int      // how many of open are multiparts that wait for a delimiter
	parts  int
	budget int // octets left of maxStructure
	meta   Meta

	headers, names, body sink   // nil: not wanted
	field                string // not "": only the values of these header fields go to headers
	text                 writer // where the current body goes; nil when it is not read
}

type lineState uint8

const (
	atStart lineState = iota // at the beginning of a line
	probing                  // in a line that may be a delimiter, kept in line
	through                  // in any other line
	skipped                  // behind the boundary of a delimiter line
)

// entity is an open part.
type entity struct {
	part     *Part
	boundary []byte // nil when it is no multipart or its closing delimiter was seen
	multi    bool
	digest   bool  // multipart/digest: its parts are messages by default (RFC 2046, Section 5.1.5)
	message  bool  // the top or an embedded message
	nl       int64 // line ends before its body
}

// NewScanner returns a Scanner at the beginning of a message.
func NewScanner() *Scanner {
	s := newScanner()
	s.headers = &bounded{limit: maxHeaderText}
	s.names = &bounded{limit: maxNameText}
	s.body = &bounded{}
	return s
}

func newScanner() *Scanner {
	s := &Scanner{budget: maxStructure}
	s.meta.Version = metaVersion
	s.meta.Root = &Part{}
	s.parts = 1
	s.push(entity{part: s.meta.Root, message: true})
	return s
}

// Scan reads a message from r. The error is that of r.
func Scan(r io.Reader) (*Meta, Text, error) {
	s := NewScanner()
	// A buffer of our own: readers that offer WriteTo would choose the size.
	if _, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{r}, make([]byte, 64<<10)); err != nil {
		return nil, Text{}, err
	}
	m, t := s.Finish()
	return m, t, nil
}

// Write takes the next octets of the message. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if s.inHeader {
			p = s.header(p)
		} else {
			p = s.bodyOctets(p)
		}
	}
	return n, nil
}

// push makes e the innermost open part; its header begins here.
func (s *Scanner) push(e entity) {
	e.part.Header = s.pos
	s.open = append(s.open, e)
	s.inHeader, s.at = true, atStart
	s.hdr, s.hdrCut = s.hdr[:0], false
}

func (s *Scanner) fault(f Fault) { s.meta.Faults |= f }

// advance moves over the octets of seg, which ends a line when it ends in LF.
func (s *Scanner) advance(seg []byte) {
	if len(seg) == 0 {
		return
	}
	n := len(seg)
	s.pos += int64(n)
	if seg[n-1] == '\n' {
		before := s.last
		if n > 1 {
			before = seg[n-2]
		}
		s.nl++
		s.eol = 1
		if before == '\r' {
			s.eol = 2
		}
	}
	s.last = seg[n-1]
}

// keep adds seg to the probe.
func (s *Scanner) keep(seg []byte) {
	s.line = append(s.line, seg[:min(len(seg), maxProbe-len(s.line))]...)
}

// header takes octets of a header block, up to one line, and returns the rest.
func (s *Scanner) header(p []byte) []byte {
	seg, rest := cutLine(p)
	if s.at == atStart {
		s.at, s.lineStart, s.line, s.hdrLine = probing, s.pos, s.line[:0], len(s.hdr)
	}
	s.keep(seg)
	room := min(len(seg), MaxHeader-len(s.hdr))
	s.hdr = append(s.hdr, seg[:room]...)
	s.hdrCut = s.hdrCut || room < len(seg)
	if seg[len(seg)-1] != '\n' {
		s.advance(seg)
		return nil
	}
	s.headerLine(seg)
	return rest
}

func cutLine(p []byte) (seg, rest []byte) {
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return p[:i+1], p[i+1:]
	}
	return p, nil
}

// headerLine ends a header line; tail is its last piece, not yet counted, empty at the end of the message.
func (s *Scanner) headerLine(tail []byte) {
	if e, closing, ok := s.delimiter(s.line); ok {
		// The delimiter ends the header and the part (RFC 2046, Section 5.1.1).
		s.hdr = s.hdr[:s.hdrLine]
		s.fault(FaultHeaderEnd)
		s.endHeaders(s.lineStart)
		s.endPart(e, closing)
		s.advance(tail)
		s.lineDone()
		return
	}
	s.advance(tail)
	s.at = atStart
	if l := string(s.line); l == "\r\n" || l == "\n" {
		s.endHeader(s.pos)
	}
}

// endHeaders ends the header being read, and the empty one of a message that would begin behind it.
func (s *Scanner) endHeaders(bodyStart int64) {
	for s.inHeader {
		s.endHeader(bodyStart)
		if s.inHeader {
			s.open[len(s.open)-1].part.Header = bodyStart
		}
	}
}

// endHeader reads the header block: what follows is the body of the innermost part.
func (s *Scanner) endHeader(bodyStart int64) {
	e := &s.open[len(s.open)-1]
	e.part.HeaderLen, e.part.Offset, e.nl = bodyStart-e.part.Header, bodyStart, s.nl
	h := s.hdr
	if s.hdrCut {
		s.fault(FaultHeaderLong)
		h = h[:bytes.LastIndexByte(h, '\n')+1]
	}
	s.inHeader, s.at, s.text = false, atStart, nil
	s.describe(e, h)
}

// bodyOctets takes octets of a body. Lines that do not begin with "--" are no delimiters and pass in one go.
func (s *Scanner) bodyOctets(p []byte) []byte {
	switch s.at {
	case atStart:
		return s.lines(p)
	case probing:
		return s.probe(p)
	}
	seg, rest := cutLine(p)
	if s.at == through {
		s.emit(seg)
	}
	s.advance(seg)
	if seg[len(seg)-1] == '\n' {
		s.at = atStart
		if s.child {
			s.lineDone()
		}
	}
	return rest
}

// lines passes whole lines until one begins with "-" or p ends.
func (s *Scanner) lines(p []byte) []byte {
	i := 0
	if s.waits == 0 { // nothing can end this body
		i = len(p)
		s.nl += int64(bytes.Count(p, lf))
	}
	nl := int64(0)
	for i < len(p) && p[i] != '-' {
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			i = len(p)
			s.at = through
			break
		}
		i += n + 1
		nl++
	}
	if i > 0 {
		s.emit(p[:i])
		if s.at == atStart && s.waits > 0 {
			nl--
			s.advance(p[:i]) // counts the last line
		} else {
			s.pos += int64(i)
			s.last = p[i-1]
		}
		s.nl += nl
	}
	if i < len(p) {
		s.at, s.lineStart, s.line = probing, s.pos, s.line[:0]
	}
	return p[i:]
}

var lf = []byte{'\n'}

// probe keeps a line that begins with "-" until it is known whether it is a delimiter.
func (s *Scanner) probe(p []byte) []byte {
	seg, rest := cutLine(p)
	if room := maxProbe - len(s.line); len(seg) > room {
		seg, rest = p[:room], p[room:]
	}
	s.line = append(s.line, seg...)
	complete := seg[len(seg)-1] == '\n'
	switch {
	case len(s.line) > 1 && s.line[1] != '-':
	case !complete && len(s.line) < maxProbe:
		s.advance(seg)
		return rest
	default:
		if e, closing, ok := s.delimiter(s.line); ok {
			s.endPart(e, closing)
			s.advance(seg)
			s.at = skipped
			if complete {
				s.lineDone()
			}
			return rest
		}
	}
	s.emit(s.line)
	s.advance(seg)
	s.at = through
	if complete {
		s.at = atStart
	}
	return rest
}

// delimiter finds the multipart whose delimiter this line is. As RFC 2046, Section 5.1.1 has it, a line needs only to begin
// with the boundary; where several match, an exact match counts before the longest, the innermost before the outer.
func (s *Scanner) delimiter(line []byte) (index int, closing, ok bool) {
	if s.waits == 0 || len(line) < 2 || line[0] != '-' || line[1] != '-' {
		return 0, false, false
	}
	line = bytes.TrimRight(line[2:], " \t\r\n")
	best := -1
	for i := len(s.open) - 1; i >= 0; i-- {
		b := s.open[i].boundary
		if b == nil || !bytes.HasPrefix(line, b) {
			continue
		}
		if tail := line[len(b):]; len(tail) == 0 || string(tail) == "--" {
			best = i
			break
		}
		if best < 0 || len(b) > len(s.open[best].boundary) {
			best = i
		}
	}
	if best < 0 {
		return 0, false, false
	}
	tail := line[len(s.open[best].boundary):]
	closing = bytes.HasPrefix(tail, []byte("--"))
	if len(tail) > 0 && string(tail) != "--" {
		s.fault(FaultBoundaryTail)
	}
	return best, closing, true
}

// endPart ends all parts inside the multipart open[i] before the delimiter line that begins at lineStart.
func (s *Scanner) endPart(i int, closing bool) {
	s.closeTo(i+1, s.lineStart, s.nl, s.eol)
	e := &s.open[i]
	if !closing {
		s.child = true
		return
	}
	e.boundary = nil
	s.waits--
	if len(e.part.Parts) == 0 {
		s.fault(FaultNoParts)
	}
}

// lineDone begins the part that a delimiter line announced.
func (s *Scanner) lineDone() {
	s.at = atStart
	if !s.child {
		return
	}
	s.child = false
	if s.parts >= MaxParts {
		s.fault(FaultParts)
		return // what follows passes as if it were a preamble
	}
	s.parts++
	parent := s.open[len(s.open)-1].part
	c := &Part{}
	parent.Parts = append(parent.Parts, c)
	s.push(entity{part: c})
}

// closeTo closes open[n:] at offset end, where nl line ends have passed; eol octets before end belong to the
// delimiter. A part never ends before its own header does, nor before its children.
func (s *Scanner) closeTo(n int, end, nl, eol int64) {
	if s.text != nil && len(s.open) > n {
		s.text.end()
		s.text = nil
	}
	end -= eol
	if eol > 0 {
		nl--
	}
	for len(s.open) > n {
		e := &s.open[len(s.open)-1]
		if e.part.Offset > end {
			end, nl = e.part.Offset, e.nl
		}
		e.part.Len, e.part.Lines = end-e.part.Offset, nl-e.nl
		if e.multi {
			s.endMultipart(e)
		}
		s.open = s.open[:len(s.open)-1]
	}
}

func (s *Scanner) endMultipart(e *entity) {
	p := e.part
	if e.boundary != nil {
		s.waits--
		s.fault(FaultUnclosed)
	}
	if len(p.Parts) == 0 {
		// The grammar of BODYSTRUCTURE knows no multipart without parts; Dovecot shows an empty text.
		s.fault(FaultNoParts)
		p.Parts = []*Part{{Type: "text", Subtype: "plain", Encoding: "7bit", Header: p.Offset, Offset: p.Offset,
			wire: &wireParts{head: []byte(emptyHead), ext: []byte(emptyExt)}}}
	}
}

// emit gives octets of a body to whoever reads it.
func (s *Scanner) emit(p []byte) {
	if s.text != nil && !s.body.done() {
		s.text.write(p)
	}
}

// Finish ends the message. The Scanner must not be used again.
func (s *Scanner) Finish() (*Meta, Text) {
	s.end()
	m := &s.meta
	m.Size = s.pos
	m.HeaderLen = m.Root.HeaderLen
	m.Envelope = m.Root.wire.envelope
	m.Body = appendBody(nil, m.Root, false)
	m.BodyStructure = appendBody(nil, m.Root, true)
	m.attach(m.Root, nil, true)
	forget(m.Root)
	return m, s.textOf()
}

func (s *Scanner) end() {
	switch {
	case s.inHeader && s.at == probing:
		s.headerLine(nil)
	case !s.inHeader && s.at == probing && len(s.line) > 0:
		if i, closing, ok := s.delimiter(s.line); ok {
			s.endPart(i, closing)
		} else {
			s.emit(s.line)
		}
	}
	if s.child {
		s.lineDone()
	}
	s.endHeaders(s.pos)
	s.closeTo(0, s.pos, s.nl, 0)
}

// textOf joins what the sinks hold.
func (s *Scanner) textOf() Text {
	h, ok := s.headers.(*bounded)
	if !ok {
		return Text{}
	}
	n, b := s.names.(*bounded), s.body.(*bounded)
	body := b.buf
	if len(n.buf) > 0 {
		body = append(n.buf, b.buf...)
	}
	return Text{Header: h.buf, Body: body, HeaderCut: h.cut, BodyCut: n.cut || b.cut}
}

// attach lists the parts that a person sees as files.
func (m *Meta) attach(p *Part, path []int, top bool) {
	if p.Multipart() {
		for i, c := range p.Parts {
			m.attach(c, append(path[:len(path):len(path)], i+1), false)
		}
		return
	}
	if top {
		path = append(path[:len(path):len(path)], 1)
	}
	if w := p.wire; w.attached || w.name != "" || p.Type != "text" {
		m.Attachments = append(m.Attachments, Attachment{w.name, p.Type + "/" + p.Subtype, p.Len, path})
	}
	if p.Embedded != nil {
		m.attach(p.Embedded, path, true)
	}
}

func forget(p *Part) {
	p.wire = nil
	for _, c := range p.Parts {
		forget(c)
	}
	if p.Embedded != nil {
		forget(p.Embedded)
	}
}
