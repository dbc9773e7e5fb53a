package imapd

import (
	"errors"
	"fmt"
	"io"

	"mssd/imapd/wire"
	"mssd/message"
)

// decodedPart is what is known of the decoded octets of a part before they are sent.
type decodedPart struct {
	size int64
	nul  bool // a literal cannot hold them: literal8 can
	none bool // there is no such part
}

// whole says that the octets of a section need no decoding: the message itself.
func whole(it wire.FetchItem) bool { return len(it.Section.Part) == 0 }

// measure decodes a part once to know how long it is: the length stands before the octets. ErrEncoding: nobody knows how.
func (m *source) measure(it wire.FetchItem) error {
	key := fmt.Sprint(it.Section.Part)
	if _, ok := m.decoded[key]; ok {
		return nil
	}
	var d decodedPart
	r, encoding, ok := m.binaryPart(it)
	if d.none = !ok; ok {
		err := message.DecodePart(r, encoding, func(p []byte) bool {
			d.size += int64(len(p))
			for _, c := range p {
				d.nul = d.nul || c == 0
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if m.decoded == nil {
		m.decoded = map[string]decodedPart{}
	}
	m.decoded[key] = d
	return nil
}

// binaryPart is the octets of a part as transferred, and how they are encoded (RFC 3516, Section 4.3).
func (m *source) binaryPart(it wire.FetchItem) (r io.Reader, encoding string, ok bool) {
	if whole(it) {
		return io.NewSectionReader(m.content, 0, m.content.Size()), "binary", true
	}
	part, ok := m.meta.Part(it.Section.Part)
	if !ok {
		return nil, "", false
	}
	encoding = part.Encoding
	if part.Multipart() || part.Embedded != nil {
		encoding = "binary" // RFC 2045, Section 6.4: what holds parts is not encoded itself
	}
	return io.NewSectionReader(m.content, int64(len(m.content.Prefix()))+part.Offset, part.Len), encoding, true
}

// binary writes a decoded part, or its size. What the client did not ask for is decoded and thrown away.
func (f *fetch) binary(m *source, it wire.FetchItem) error {
	d := m.decoded[fmt.Sprint(it.Section.Part)]
	f.out.str(it.Label + " ")
	if it.Kind == wire.FetchBinarySize {
		f.out.str(itoa(d.size))
		return f.out.err
	}
	if d.none {
		f.out.str("NIL")
		return f.out.err
	}
	p := piece{n: d.size}.cut(it.Partial)
	f.out.add(func(b []byte) []byte {
		if d.nul {
			return wire.AppendLiteral8Head(b, p.n)
		}
		return wire.AppendLiteralHead(b, p.n)
	})
	r, encoding, _ := m.binaryPart(it)
	skip, left := p.off, p.n
	err := message.DecodePart(r, encoding, func(b []byte) bool {
		n := min(skip, int64(len(b)))
		skip -= n
		b = b[n:]
		b = b[:min(left, int64(len(b)))]
		left -= int64(len(b))
		f.out.add(func(dst []byte) []byte { return append(dst, b...) })
		return left > 0 && f.out.err == nil
	})
	if err == nil && left > 0 && f.out.err == nil {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		f.out.err = errors.Join(errBody, err) // octets were promised: nothing can repair the stream
	}
	return f.out.err
}

// preview writes the first words of a message (RFC 8970, Section 3).
func (f *fetch) preview(m *source) error {
	text, err := message.Preview(m.meta, io.NewSectionReader(m.content, int64(len(m.content.Prefix())), m.content.Size()-int64(len(m.content.Prefix()))))
	if err != nil {
		f.log.Error("no preview of a message", "uid", uint32(m.row.UID), "mailbox", uint32(f.sel.ref.Mailbox), "err", err)
		f.out.str(`PREVIEW ""`) // NIL is for LAZY alone (RFC 8970, Section 3.2)
		return f.out.err
	}
	f.out.add(func(b []byte) []byte { return wire.AppendString(append(b, "PREVIEW "...), text) })
	return f.out.err
}
