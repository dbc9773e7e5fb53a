package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// The stored forms: a version octet, then numbers as varints, texts with their length before them.
var (
	ErrDamaged = errors.New("message: damaged record")
	ErrVersion = errors.New("message: unknown version of record")
)

const textVersion = 1

// Limits of parsing. Structures are as large as the scanner makes them, with each multipart and message bringing a
// part that was not counted.
const (
	maxNodes    = 2*MaxParts + 2*MaxDepth + 2
	maxTreeDeep = 2*MaxDepth + 4
)

// AppendBinary appends the stored form of m to b.
func (m *Meta) AppendBinary(b []byte) ([]byte, error) {
	if m.Root == nil {
		return b, ErrDamaged
	}
	b = append(b, metaVersion)
	b = binary.AppendUvarint(b, uint64(m.Size))
	b = binary.AppendUvarint(b, uint64(m.HeaderLen))
	b = binary.AppendUvarint(b, uint64(m.Faults))
	if m.SentDate.IsZero() {
		b = append(b, 0)
	} else {
		_, offset := m.SentDate.Zone()
		b = append(b, 1)
		b = binary.AppendVarint(b, m.SentDate.Unix())
		b = binary.AppendVarint(b, int64(offset))
	}
	b = appendBytes(b, m.MessageID)
	b = appendBytes(b, m.Envelope)
	b = appendBytes(b, m.Body)
	b = appendBytes(b, m.BodyStructure)
	b = appendPart(b, m.Root)
	b = binary.AppendUvarint(b, uint64(len(m.Attachments)))
	for _, a := range m.Attachments {
		b = appendBytes(b, a.Name)
		b = appendBytes(b, a.Type)
		b = binary.AppendUvarint(b, uint64(a.Size))
		b = binary.AppendUvarint(b, uint64(len(a.Part)))
		for _, n := range a.Part {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b, nil
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendPart(b []byte, p *Part) []byte {
	b = appendBytes(b, p.Type)
	b = appendBytes(b, p.Subtype)
	b = appendBytes(b, p.Encoding)
	b = appendBytes(b, p.Charset)
	for _, n := range []int64{p.Header, p.HeaderLen, p.Offset - p.Header - p.HeaderLen, p.Len, p.Lines} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	children := uint64(len(p.Parts)) << 1
	if p.Embedded != nil {
		children |= 1
	}
	b = binary.AppendUvarint(b, children)
	for _, c := range p.Parts {
		b = appendPart(b, c)
	}
	if p.Embedded != nil {
		b = appendPart(b, p.Embedded)
	}
	return b
}

// ParseMeta reads what AppendBinary wrote. It allocates no more than a small multiple of len(b).
func ParseMeta(b []byte) (*Meta, error) {
	if len(b) == 0 {
		return nil, ErrDamaged
	}
	if b[0] != metaVersion {
		return nil, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	r := reader{b: b[1:], nodes: maxNodes}
	m := &Meta{Version: b[0], Size: r.size(), HeaderLen: r.size()}
	faults := r.size()
	if faults > math.MaxUint32 || m.HeaderLen > m.Size {
		r.bad = true
	}
	m.Faults = Fault(faults)
	m.SentDate = r.date()
	m.MessageID = r.text()
	m.Envelope, m.Body, m.BodyStructure = r.bytes(), r.bytes(), r.bytes()
	m.Root = r.part(0, 0, m.Size)
	m.Attachments = r.attachments()
	if r.bad || len(r.b) > 0 {
		return nil, ErrDamaged
	}
	return m, nil
}

// AppendBinary appends the stored form of t to b.
func (t Text) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, textVersion, byte(b2i(t.HeaderCut)|b2i(t.BodyCut)<<1))
	b = appendBytes(b, t.Header)
	return appendBytes(b, t.Body), nil
}

// ParseText reads what AppendBinary wrote. The Text lies within b, which the caller gives away.
func ParseText(b []byte) (Text, error) {
	if len(b) < 2 {
		return Text{}, ErrDamaged
	}
	if b[0] != textVersion {
		return Text{}, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	r := reader{b: b[2:]}
	t := Text{Header: r.inside(), Body: r.inside(), HeaderCut: b[1]&1 != 0, BodyCut: b[1]&2 != 0}
	if r.bad || len(r.b) > 0 || b[1] > 3 {
		return Text{}, ErrDamaged
	}
	return t, nil
}

// reader takes values off the front of b; after the first fault it is bad and yields zeros.
type reader struct {
	b     []byte
	nodes int // parts that may still come
	bad   bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// size reads a number that is an offset or a length inside a blob.
func (r *reader) size() int64 {
	v := r.uvarint()
	if v > math.MaxInt64/8 { // sums of a few cannot overflow
		r.bad = true
		return 0
	}
	return int64(v)
}

// count reads how many elements of at least one octet each follow.
func (r *reader) count() int {
	v := r.uvarint()
	if v > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(v)
}

// take returns the next text without copying it.
func (r *reader) take() []byte {
	n := r.count()
	if r.bad {
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string { return string(r.take()) }

func (r *reader) bytes() []byte {
	if v := r.take(); len(v) > 0 {
		return append([]byte(nil), v...)
	}
	return nil
}

// inside is bytes without the copy.
func (r *reader) inside() []byte {
	v := r.take()
	if len(v) == 0 {
		return nil
	}
	return v[:len(v):len(v)]
}

func (r *reader) date() time.Time {
	switch r.uvarint() {
	case 0:
		return time.Time{}
	case 1:
		sec, offset := r.varint(), r.varint()
		if sec < -1<<40 || sec > 1<<40 || offset < -86400 || offset > 86400 {
			r.bad = true
			return time.Time{}
		}
		return time.Unix(sec, 0).In(time.FixedZone("", int(offset)))
	}
	r.bad = true
	return time.Time{}
}

// part reads a part that must lie inside [from, to).
func (r *reader) part(depth int, from, to int64) *Part {
	if r.nodes--; r.nodes < 0 || depth > maxTreeDeep || r.bad {
		r.bad = true
		return nil
	}
	p := &Part{Type: r.text(), Subtype: r.text(), Encoding: r.text(), Charset: r.text()}
	p.Header, p.HeaderLen = r.size(), r.size()
	p.Offset = p.Header + p.HeaderLen + r.size()
	p.Len, p.Lines = r.size(), r.size()
	children := r.uvarint()
	if r.bad || p.Header < from || p.End() > to || children>>1 > uint64(min(r.nodes, len(r.b))) {
		r.bad = true
		return nil
	}
	for range children >> 1 {
		c := r.part(depth+1, p.Offset, p.End())
		if r.bad {
			return nil
		}
		p.Parts = append(p.Parts, c)
	}
	if children&1 != 0 {
		p.Embedded = r.part(depth+1, p.Offset, p.End())
	}
	return p
}

func (r *reader) attachments() []Attachment {
	n := r.count()
	if n > maxNodes {
		r.bad = true
	}
	var out []Attachment
	for i := 0; i < n && !r.bad; i++ {
		a := Attachment{Name: r.text(), Type: r.text(), Size: r.size()}
		steps := r.count()
		if steps > maxTreeDeep {
			r.bad = true
		}
		for j := 0; j < steps && !r.bad; j++ {
			v := r.uvarint()
			if v > MaxParts+1 {
				r.bad = true
			}
			a.Part = append(a.Part, int(v))
		}
		out = append(out, a)
	}
	return out
}
