package message

import (
	"strings"
)

// maxWord bounds the search for the end of an encoded word; RFC 2047, Section 2 allows 75 characters, some
// senders write one word for the whole subject.
const maxWord = 2048

// decodeWords turns the encoded words of a field into UTF-8 (RFC 2047). It is lenient: words may stand anywhere,
// be too long, lack padding, and a character may be split between words of the same charset.
func decodeWords(s string) []byte {
	if !strings.Contains(s, "=?") {
		return validUTF8([]byte(s))
	}
	var out, run []byte
	charset, inRun := "", false
	flush := func() {
		if inRun {
			out = append(out, toUTF8(run, charset)...)
			run, inRun = run[:0], false
		}
	}
	for len(s) > 0 {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		cs, text, n := decodeWord(s[i:])
		if n == 0 {
			flush()
			out = append(out, validUTF8([]byte(s[:i+2]))...)
			s = s[i+2:]
			continue
		}
		// White space between two encoded words is not part of the text (RFC 2047, Section 6.2).
		if gap := s[:i]; !inRun || strings.Trim(gap, " \t") != "" {
			flush()
			out = append(out, validUTF8([]byte(gap))...)
		}
		if !strings.EqualFold(cs, charset) {
			flush()
		}
		charset, inRun = cs, true
		run = append(run, text...)
		s = s[i+n:]
	}
	flush()
	return append(out, validUTF8([]byte(s))...)
}

// decodeWord reads the encoded word at the beginning of s; n is its length, 0 when there is none.
func decodeWord(s string) (charset string, text []byte, n int) {
	s = s[:min(len(s), maxWord)]
	cs, rest, ok := strings.Cut(s[2:], "?")
	if !ok || len(rest) < 2 || rest[1] != '?' || cs == "" || len(cs) > 64 || strings.ContainsAny(cs, " \t\"<>") {
		return "", nil, 0
	}
	end := strings.Index(rest[2:], "?=")
	if end < 0 {
		return "", nil, 0
	}
	body := rest[2 : 2+end]
	switch rest[0] {
	case 'b', 'B':
		text = decodeBase64(body)
	case 'q', 'Q':
		text = decodeQ(body)
	default:
		return "", nil, 0
	}
	cs, _, _ = strings.Cut(cs, "*") // language (RFC 2231, Section 5)
	return cs, text, len(s) - len(rest) + 2 + end + 2
}

func decodeBase64(s string) []byte {
	out := make([]byte, 0, len(s)*3/4)
	var acc uint32
	var bits uint
	for i := range len(s) {
		d := base64Value(s[i])
		if d == 0xff {
			if s[i] == '=' {
				acc, bits = 0, 0
			}
			continue
		}
		acc = acc<<6 | uint32(d)
		if bits += 6; bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
	}
	return out
}

func decodeQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '_':
			out = append(out, ' ')
		case s[i] == '=' && i+2 < len(s) && unhex(s[i+1]) < 16 && unhex(s[i+2]) < 16:
			out = append(out, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return out
}
