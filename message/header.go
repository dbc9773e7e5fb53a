package message

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// eachField calls fn for each field of a header block, in order, with its name as written and its value from
// the colon to the line end, folding included. Lines that are no field are skipped, together with their
// continuation lines, and reported: one bad line must not hide the others.
func eachField(h []byte, fn func(name, value []byte)) (junk bool) {
	for len(h) > 0 {
		n := fieldLen(h)
		f := h[:n]
		h = h[n:]
		name, value, ok := splitField(f)
		if !ok {
			junk = junk || len(bytes.TrimRight(f, "\r\n")) > 0
			continue
		}
		fn(name, value)
	}
	return junk
}

// fieldLen is the length of the first field with its continuation lines (RFC 5322, Section 2.2.3).
func fieldLen(h []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(h[n:], '\n')
		if i < 0 {
			return len(h)
		}
		n += i + 1
		if n == len(h) || h[n] != ' ' && h[n] != '\t' {
			return n
		}
	}
}

// splitField parts name and value. White space before the colon is obsolete but allowed (RFC 5322, Section 4.5).
func splitField(f []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(f, ':')
	if i < 1 {
		return nil, nil, false
	}
	name = bytes.TrimRight(f[:i], " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return nil, nil, false
		}
	}
	return name, f[i+1:], len(name) > 0
}

// unfold gives the value as one line without surrounding space (RFC 5322, Section 2.2.3). NULs vanish: they
// cannot be sent in IMAP.
func unfold(v []byte) string {
	v = bytes.Trim(v, " \t\r\n")
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 && bytes.IndexByte(v, 0) < 0 {
		return string(v)
	}
	b := make([]byte, 0, len(v))
	for _, c := range v {
		if c != '\r' && c != '\n' && c != 0 {
			b = append(b, c)
		}
	}
	return string(b)
}

// lowerName writes name in lower case into buf; names longer than buf are of no interest and give nil.
func lowerName(buf *[48]byte, name []byte) []byte {
	if len(name) > len(buf) {
		return nil
	}
	for i, c := range name {
		buf[i] = lowerASCII(c)
	}
	return buf[:len(name)]
}

// validUTF8 reads octets that are not UTF-8 as windows-1252.
func validUTF8(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/2)
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			r = charmap.Windows1252.DecodeByte(b[i])
		}
		out = utf8.AppendRune(out, r)
		i += n
	}
	return out
}

// SelectFields copies the fields of a header whose names are in names (or, with not, are not), in order and
// octet by octet, and the empty line at the end, where the header has one, as BODY[HEADER.FIELDS …] does (RFC 9051,
// Section 6.4.5.1). Lines that are no field have no name: only not yields them.
func SelectFields(header []byte, names []string, not bool) []byte {
	var out []byte
	// A set: the fields come from a sender, the names from a client, and both may be very many.
	wanted := make(map[string]bool, len(names))
	longest := 0
	for _, n := range names {
		wanted[strings.ToLower(n)] = true
		longest = max(longest, len(n))
	}
	lower := make([]byte, 0, longest)
	for len(header) > 0 {
		n := fieldLen(header)
		f := header[:n]
		header = header[n:]
		if l := string(f); l == "\r\n" || l == "\n" {
			return append(out, f...)
		}
		name, _, ok := splitField(f)
		if ok = ok && len(name) <= longest; ok {
			lower = lower[:0]
			for _, c := range name {
				lower = append(lower, lowerASCII(c))
			}
			ok = wanted[string(lower)]
		}
		if ok != not {
			out = append(out, f...)
		}
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, "\r\n"...) // a field ends in CRLF, also where the message ends in it
	}
	return out
}
