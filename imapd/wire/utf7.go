package wire

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxMailbox is the longest mailbox name, in octets of UTF-8.
const maxMailbox = 1024

// RFC 3501, Section 5.1.3: base64 with "," for "/" and without padding.
const base64Chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"

var errName error = &SyntaxError{Msg: "Malformed mailbox name", Name: true}

// decodeName turns a name as a client sent it into UTF-8 without control characters.
func decodeName(s string, inUTF8 bool) (string, error) {
	if len(s) > 4*maxMailbox {
		return "", &SyntaxError{Msg: "Mailbox name too long", Name: true}
	}
	if !inUTF8 {
		var err error
		if s, err = DecodeUTF7(shiftUTF8(s)); err != nil {
			return "", err
		}
	}
	if len(s) > maxMailbox {
		return "", &SyntaxError{Msg: "Mailbox name too long", Name: true}
	}
	if !utf8.ValidString(s) {
		return "", errName
	}
	for _, r := range s {
		if isControl(r) {
			return "", errName
		}
	}
	return s, nil
}

// shiftUTF8 brings what stands in UTF-8 in a name into modified UTF-7. Clients that see IMAP4rev2 offered send names so
// without having enabled it (RFC 9051, Section 5.1 asks for that); which mailbox is meant is plain.
func shiftUTF8(s string) string {
	if isPrintable(s) || !utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		n := strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
		if n < 0 {
			n = len(s)
		}
		b.WriteString(s[:n])
		s = s[n:]
		if n = strings.IndexFunc(s, func(r rune) bool { return r < utf8.RuneSelf }); n < 0 {
			n = len(s)
		}
		b.WriteString(EncodeUTF7(s[:n]))
		s = s[n:]
	}
	return b.String()
}

// isControl: C0 and C1 controls, and the separators that RFC 9051, Section 5.1, Point 3 warns of.
func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029
}

// DecodeUTF7 turns a name in modified UTF-7 (RFC 3501, Section 5.1.3) into UTF-8. Only the one canonical form of a
// name is taken: two spellings of one mailbox would be two mailboxes to somebody.
func DecodeUTF7(s string) (string, error) {
	plain := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return "", errName
		}
		plain = plain && s[i] != '&'
	}
	if plain {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	shifted := false // the octet before ended a base64 run
	for i := 0; i < len(s); i++ {
		if s[i] != '&' {
			out = append(out, s[i])
			shifted = false
			continue
		}
		n := strings.IndexByte(s[i:], '-')
		if n < 0 {
			return "", errName
		}
		run := s[i+1 : i+n]
		i += n
		if run == "" {
			out = append(out, '&')
			shifted = false
			continue
		}
		var ok bool
		if out, ok = decodeRun(out, run); !ok || shifted {
			return "", errName
		}
		shifted = true
	}
	return string(out), nil
}

// decodeRun appends the characters of one base64 run.
func decodeRun(out []byte, run string) ([]byte, bool) {
	var bits uint32
	var n uint    // bits held
	var high rune // surrogate waiting for its other half
	for i := 0; i < len(run); i++ {
		v := strings.IndexByte(base64Chars, run[i])
		if v < 0 {
			return out, false
		}
		bits = bits<<6 | uint32(v)
		if n += 6; n < 16 {
			continue
		}
		n -= 16
		r := rune(bits >> n & 0xffff)
		bits &= 1<<n - 1
		switch {
		case high != 0:
			if r = utf16.DecodeRune(high, r); r == utf8.RuneError {
				return out, false
			}
			high = 0
		case r >= 0xd800 && r < 0xdc00:
			high = r
			continue
		case r >= 0xdc00 && r < 0xe000, r >= 0x20 && r < 0x7f, isControl(r):
			return out, false
		}
		out = utf8.AppendRune(out, r)
	}
	return out, high == 0 && n < 6 && bits == 0
}

// EncodeUTF7 is the reverse of DecodeUTF7. What is not UTF-8 becomes U+FFFD.
func EncodeUTF7(name string) string { return string(appendUTF7(nil, name)) }

func appendUTF7(dst []byte, name string) []byte {
	var bits uint32
	var n uint
	in := false // within a base64 run
	put := func(u uint16) {
		bits = bits<<16 | uint32(u)
		for n += 16; n >= 6; {
			n -= 6
			dst = append(dst, base64Chars[bits>>n&63])
		}
		bits &= 1<<n - 1
	}
	leave := func() {
		if !in {
			return
		}
		if n > 0 {
			dst = append(dst, base64Chars[bits<<(6-n)&63])
		}
		dst = append(dst, '-')
		in, n, bits = false, 0, 0
	}
	for _, r := range name {
		switch {
		case r == '&':
			leave()
			dst = append(dst, "&-"...)
		case r >= 0x20 && r < 0x7f:
			leave()
			dst = append(dst, byte(r))
		default:
			if !in {
				dst = append(dst, '&')
				in = true
			}
			if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
				put(uint16(hi))
				put(uint16(lo))
			} else {
				put(uint16(r))
			}
		}
	}
	leave()
	return dst
}
