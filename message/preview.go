package message

import (
	"errors"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxPreview    = 200      // characters (RFC 8970, Section 3.3 asks for 200, 256 at most)
	previewOctets = 16 << 10 // octets of a part that are looked at for it
)

// ErrEncoding is a part in a Content-Transfer-Encoding that nobody knows.
var ErrEncoding = errors.New("message: unknown transfer encoding")

// DecodePart gives the octets of a part, r, without its transfer encoding (RFC 2045, Section 6) to emit, piece by piece,
// until that is false. It is as lenient as the search. Errors are ErrEncoding, before anything was read, and those of r.
func DecodePart(r io.Reader, encoding string, emit func([]byte) bool) error {
	last := &plainWriter{emit: emit}
	var w writer = last
	switch encoding {
	case "", "7bit", "8bit", "binary":
	case "base64":
		w = &base64Writer{next: last, done: last.isDone}
	case "quoted-printable":
		w = &quotedWriter{next: last, done: last.isDone}
	default:
		return ErrEncoding
	}
	return feed(w, r, last)
}

// feed reads r to its end, or until last has enough.
func feed(w writer, r io.Reader, last *plainWriter) error {
	buf := make([]byte, 32<<10)
	for !last.stop {
		n, err := r.Read(buf)
		w.write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	w.end()
	return nil
}

// plainWriter hands what it is given on.
type plainWriter struct {
	emit func([]byte) bool
	stop bool
}

func (p *plainWriter) write(b []byte) {
	if len(b) > 0 && !p.stop {
		p.stop = !p.emit(b)
	}
}

func (p *plainWriter) end()         {}
func (p *plainWriter) isDone() bool { return p.stop }

// Preview is the first words of a message's text, plain or HTML: decoded, in one line, at most 200 characters. blob is the message without prefix. It is empty when there is no text.
func Preview(m *Meta, blob *io.SectionReader) (string, error) {
	part := textPart(m.Root)
	if part == nil {
		return "", nil
	}
	var text []byte
	last := &plainWriter{emit: func(b []byte) bool {
		text = append(text, b...)
		return len(text) < previewOctets
	}}
	var w writer = last
	if part.Subtype == "html" {
		w = &stripper{next: w}
	}
	if t := charsetDecoder(part.Charset); t != nil {
		w = &charsetWriter{next: w, t: t, done: last.isDone}
	}
	switch part.Encoding {
	case "base64":
		w = &base64Writer{next: w, done: last.isDone}
	case "quoted-printable":
		w = &quotedWriter{next: w, done: last.isDone}
	}
	if err := feed(w, io.NewSectionReader(blob, part.Offset, min(part.Len, previewOctets)), last); err != nil {
		return "", err
	}
	return oneLine(text), nil
}

// textPart is the first part with text that can be read, outside of messages that are attached. Of alternatives the
// first is the plainest (RFC 2046, Section 5.1.4).
func textPart(p *Part) *Part {
	if p == nil {
		return nil
	}
	if p.Type == "text" && (p.Subtype == "plain" || p.Subtype == "html") && len(p.Parts) == 0 {
		switch p.Encoding {
		case "", "7bit", "8bit", "binary", "base64", "quoted-printable":
			return p
		}
	}
	for _, c := range p.Parts {
		if found := textPart(c); found != nil {
			return found
		}
	}
	return nil
}

// oneLine joins words by single spaces, without characters that cannot be seen.
func oneLine(text []byte) string {
	var b strings.Builder
	n, space := 0, false
	for len(text) > 0 && n < maxPreview {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		switch {
		case unicode.IsSpace(r):
			space = n > 0
			continue
		case r == utf8.RuneError && size == 1, unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			continue
		}
		if space {
			if n++; n == maxPreview {
				break
			}
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
		n++
	}
	return strings.TrimRight(b.String(), " ")
}
