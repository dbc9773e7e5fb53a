package imapd

import (
	"io"

	"mssd/imapd/wire"
	"mssd/message"
	"mssd/store"
)

// maxFields bounds the header that is read to cut fields out of it; fields beyond are not seen. The scanner
// itself reads message.MaxHeader.
const maxFields = 1 << 20 // octets

// piece is the octets that a section names: a stretch of the message (prefix and blob), octets of their own, or
// nothing at all (a part that does not exist).
type piece struct {
	off, n int64
	data   []byte // instead of off
	none   bool
}

// cut applies a partial (RFC 9051, Section 6.4.5: beyond the end there is an empty string).
func (p piece) cut(part *wire.Partial) piece {
	if part == nil || p.none {
		return p
	}
	start := min(part.Offset, p.n)
	n := min(part.Size, p.n-start)
	if p.data != nil {
		p.data = p.data[start : start+n]
	}
	p.off, p.n = p.off+start, n
	return p
}

// section finds the octets of a section. Offsets of the structure count in the blob, those of the content count
// the prefix of this BAL too, which belongs to the top header.
func (m *source) section(s wire.Section) (piece, error) {
	prefix := int64(len(m.content.Prefix()))
	if len(s.Part) == 0 {
		return m.top(s, prefix)
	}
	part, ok := m.meta.Part(s.Part)
	if !ok {
		return piece{none: true}, nil
	}
	switch s.Text {
	case wire.SectionAll:
		return piece{off: prefix + part.Offset, n: part.Len}, nil
	case wire.SectionMIME:
		return piece{off: prefix + part.Header, n: part.HeaderLen}, nil
	}
	// HEADER, TEXT and their kin need a message inside the part (RFC 9051, Section 6.4.5.1).
	in := part.Embedded
	if in == nil {
		return piece{none: true}, nil
	}
	if s.Text == wire.SectionText {
		return piece{off: prefix + in.Offset, n: in.Len}, nil
	}
	return m.headerOf(s, prefix+in.Header, in.HeaderLen)
}

// top is a section of the message itself.
func (m *source) top(s wire.Section, prefix int64) (piece, error) {
	size := m.content.Size()
	if s.Text == wire.SectionAll {
		return piece{n: size}, nil
	}
	end := min(prefix+m.meta.HeaderLen, size)
	if s.Text == wire.SectionText {
		return piece{off: end, n: size - end}, nil
	}
	return m.headerOf(s, 0, end)
}

// headerOf is a header, or the fields of it that were asked for.
func (m *source) headerOf(s wire.Section, off, n int64) (piece, error) {
	if s.Text == wire.SectionHeader {
		return piece{off: off, n: n}, nil
	}
	header, err := readAt(m.content, off, min(n, maxFields))
	if err != nil {
		return piece{}, err
	}
	data := message.SelectFields(header, s.Fields, s.Text == wire.SectionHeaderFieldsNot)
	if data == nil {
		data = []byte{}
	}
	return piece{data: data, n: int64(len(data))}, nil
}

func readAt(c *store.Content, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := c.ReadAt(b, off)
	if int64(got) == n {
		return b, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}
