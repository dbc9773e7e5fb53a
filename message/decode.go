package message

import (
	"strings"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/transform"
)

// writer is a stage of the way from a part's octets to folded text. Each stage holds a bounded state, and what
// it yields does not depend on how its input was cut.
type writer interface {
	write(p []byte)
	end()
}

// newTextWriter builds the stages: transfer encoding, charset, tags, folding.
func newTextWriter(encoding, charset string, html bool, to sink) writer {
	var w writer = &folded{to: to}
	if html {
		w = &stripper{next: w}
	}
	if t := charsetDecoder(charset); t != nil {
		w = &charsetWriter{next: w, t: t, done: to.done}
	}
	switch encoding {
	case "base64":
		w = &base64Writer{next: w, done: to.done}
	case "quoted-printable":
		w = &quotedWriter{next: w, done: to.done}
	}
	return w
}

// charsetDecoder returns nil for UTF-8 and ASCII, for charsets that are not known and for those that a browser refuses:
// their octets pass as they are.
func charsetDecoder(label string) transform.Transformer {
	enc, err := htmlindex.Get(label)
	if err != nil {
		return nil
	}
	switch name, _ := htmlindex.Name(enc); name {
	case "utf-8", "replacement", "x-user-defined":
		return nil
	}
	if l := strings.ToLower(strings.TrimSpace(label)); l == "us-ascii" || l == "ascii" {
		return nil
	}
	return enc.NewDecoder()
}

// toUTF8 converts a short text; what is not valid in its charset becomes U+FFFD.
func toUTF8(b []byte, charset string) []byte {
	t := charsetDecoder(charset)
	if t == nil {
		return validUTF8(b)
	}
	out, _, err := transform.Bytes(t, b)
	if err != nil {
		return validUTF8(b)
	}
	return out
}

// base64Writer is lenient (RFC 2045, Section 6.8): characters outside the alphabet are skipped, padding may stand
// anywhere.
type base64Writer struct {
	next writer
	done func() bool
	acc  uint32
	bits uint
	buf  [1024]byte
}

func (w *base64Writer) write(p []byte) {
	n := 0
	for _, c := range p {
		d := base64Value(c)
		if d == 0xff {
			if c == '=' {
				w.acc, w.bits = 0, 0
			}
			continue
		}
		w.acc = w.acc<<6 | uint32(d)
		w.bits += 6
		if w.bits < 8 {
			continue
		}
		w.bits -= 8
		w.buf[n] = byte(w.acc >> w.bits)
		if n++; n == len(w.buf) {
			if w.next.write(w.buf[:n]); w.done() {
				return
			}
			n = 0
		}
	}
	if n > 0 {
		w.next.write(w.buf[:n])
	}
}

func (w *base64Writer) end() { w.next.end() }

func base64Value(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c - 'A'
	case 'a' <= c && c <= 'z':
		return c - 'a' + 26
	case '0' <= c && c <= '9':
		return c - '0' + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return 0xff
}

// quotedWriter decodes quoted-printable (RFC 2045, Section 6.7); a "=" that begins no code stands for itself.
type quotedWriter struct {
	next writer
	done func() bool
	code []byte // "=", and what followed it so far
	pad  []byte // white space that is not of the text if the line ends behind it
	out  []byte
}

// maxPad is more white space than a line may have in all (RFC 2045, Section 6.7): a longer run is of the text.
const maxPad = 998

func (w *quotedWriter) write(p []byte) {
	for _, c := range p {
		w.octet(c)
		if len(w.out) >= 1024 {
			if w.flush(); w.done() {
				return
			}
		}
	}
	w.flush()
}

func (w *quotedWriter) octet(c byte) {
	if len(w.code) == 0 {
		w.plain(c)
		return
	}
	first := len(w.code) == 1
	switch {
	case first && unhex(c) < 16:
		w.code = append(w.code, c)
	case !first && unhex(w.code[1]) < 16 && unhex(c) < 16:
		w.out = append(w.out, unhex(w.code[1])<<4|unhex(c))
		w.code = w.code[:0]
	case c == '\n' && (first || unhex(w.code[1]) >= 16): // soft line break
		w.code = w.code[:0]
	case (c == ' ' || c == '\t' || c == '\r') && (first || unhex(w.code[1]) >= 16):
		// White space between "=" and the line end; one octet of it stands for all.
		w.code = append(w.code[:1], c)
	default:
		w.out = append(w.out, w.code...)
		w.code = w.code[:0]
		w.octet(c)
	}
}

// plain takes an octet outside of a code. White space at the end of a line was added on the way (RFC 2045, Section 6.7, rule 3).
func (w *quotedWriter) plain(c byte) {
	switch {
	case (c == ' ' || c == '\t') && len(w.pad) < maxPad:
		w.pad = append(w.pad, c)
		return
	case c == '\r', c == '\n':
	default:
		w.out = append(w.out, w.pad...)
	}
	w.pad = w.pad[:0]
	if c == '=' {
		w.code = append(w.code, c)
	} else {
		w.out = append(w.out, c)
	}
}

func (w *quotedWriter) flush() {
	w.next.write(w.out)
	w.out = w.out[:0]
}

func (w *quotedWriter) end() {
	w.out = append(w.out, w.code...)
	w.code = w.code[:0]
	w.flush()
	w.next.end()
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// charsetWriter turns octets of a charset into UTF-8.
type charsetWriter struct {
	next writer
	done func() bool
	t    transform.Transformer
	hold []byte // octets of a character that is not complete
	out  [2048]byte
}

const maxHold = 32 // octets; no charset of htmlindex needs more to go on

func (w *charsetWriter) write(p []byte) {
	for len(p) > 0 && !w.done() {
		n := min(len(p), 1024)
		w.piece(append(w.hold, p[:n]...), false)
		p = p[n:]
	}
}

func (w *charsetWriter) piece(p []byte, final bool) {
	for {
		nd, ns, err := w.t.Transform(w.out[:], p, final)
		w.next.write(w.out[:nd])
		p = p[ns:]
		switch {
		case err == transform.ErrShortDst && nd+ns > 0:
		case err == transform.ErrShortSrc && len(p) <= maxHold && !final || err == nil:
			w.hold = append(w.hold[:0:0], p...)
			return
		case len(p) == 0:
			w.hold = nil
			return
		default:
			p = p[1:] // cannot be read: go on behind it
		}
	}
}

func (w *charsetWriter) end() {
	w.piece(w.hold, true)
	w.next.end()
}
