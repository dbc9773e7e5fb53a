package message

import (
	"slices"
	"strconv"
	"strings"
)

// param is one parameter of a MIME field. After RFC 2231 joining, a name that ends in "*" has a value in its
// extended form: charset'language'percent-encoded.
type param struct{ name, value string }

const maxParams = 64

// parseValue reads the value of a MIME field: what stands before the first ";", without comments, and the
// parameters (RFC 2045, Section 5.1), leniently. fault holds FaultParameter when a strict reader would see
// something else, FaultRepeated when a name stands twice; the first one counts.
func parseValue(v string) (main string, params []param, fault Fault) {
	var vp valueParser
	main, rest := vp.cutValue(v)
	var segs []segment
	for rest != "" {
		var name, value string
		var f Fault
		name, value, rest, f = vp.nextParam(rest)
		fault |= f
		if name == "" {
			continue
		}
		if len(params)+len(segs) >= maxParams {
			return main, join(params, segs, &fault), fault | FaultParameter
		}
		if s, ok := parseSegment(name, value); ok {
			segs = append(segs, s)
		} else if has(params, name) {
			fault |= FaultRepeated
		} else {
			params = append(params, param{name, value})
		}
	}
	return main, join(params, segs, &fault), fault
}

func has(params []param, name string) bool {
	return slices.ContainsFunc(params, func(p param) bool { return p.name == name })
}

func lookup(params []param, name string) (string, bool) {
	for _, p := range params {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

// valueParser remembers that a comment was never closed: from then on parentheses are ordinary characters. Looking
// for their ends again and again would take quadratic time.
type valueParser struct{ unclosed bool }

// cutValue takes the main value off and returns what follows its ";".
func (vp *valueParser) cutValue(v string) (main, rest string) {
	var b strings.Builder
	for i := 0; i < len(v); {
		switch v[i] {
		case ';':
			return strings.TrimSpace(b.String()), v[i+1:]
		case '(':
			n := vp.skipComment(v, i)
			if n == i+1 {
				b.WriteByte('(')
			}
			i = n
		default:
			b.WriteByte(v[i])
			i++
		}
	}
	return strings.TrimSpace(b.String()), ""
}

func (vp *valueParser) skipComment(s string, i int) int {
	if vp.unclosed {
		return i + 1
	}
	n := skipComment(s, i)
	vp.unclosed = n == i+1
	return n
}

// skipComment returns the index behind the comment that begins at i; an unclosed one is no comment but its
// parenthesis alone, so that nothing behind it is lost.
func skipComment(s string, i int) int {
	depth := 0
	for j := i; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return j + 1
			}
		}
	}
	return i + 1
}

// skipSpace skips white space and comments.
func (vp *valueParser) skipSpace(s string) string {
	for s != "" {
		switch s[0] {
		case ' ', '\t', '\r', '\n':
			s = s[1:]
			continue
		case '(':
			if n := vp.skipComment(s, 0); n > 1 {
				s = s[n:]
				continue
			}
		}
		break
	}
	return s
}

// nextParam reads one parameter off the front of s, up to its ";".
func (vp *valueParser) nextParam(s string) (name, value, rest string, fault Fault) {
	s = vp.skipSpace(s)
	i := strings.IndexAny(s, "=;")
	if i < 0 {
		i = len(s)
	}
	name = strings.ToLower(strings.TrimSpace(s[:i]))
	if name != "" && !isToken(name) {
		fault = FaultParameter
	}
	if i == len(s) || s[i] == ';' {
		if name != "" {
			fault = FaultParameter // "charset" without a value
		}
		return "", "", s[min(i+1, len(s)):], fault
	}
	s = vp.skipSpace(s[i+1:])
	var f Fault
	if s != "" && s[0] == '"' {
		value, rest, f = vp.quotedValue(s)
	} else {
		value, rest, f = vp.bareValue(name, s)
	}
	return name, value, rest, fault | f
}

// quotedValue reads a quoted string and skips to behind the next ";".
func (vp *valueParser) quotedValue(s string) (value, rest string, fault Fault) {
	var b strings.Builder
	i := 1
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	if i == len(s) {
		return b.String(), "", FaultParameter // never closed
	}
	rest = vp.skipSpace(s[i+1:])
	if rest != "" && rest[0] != ';' {
		fault = FaultParameter
	}
	_, rest, _ = strings.Cut(rest, ";")
	return b.String(), rest, fault
}

// bareValue reads a value without quotes. A strict reader takes a token; we take, up to the ";", the whole of a
// file name and otherwise everything up to the next space.
func (vp *valueParser) bareValue(name, s string) (value, rest string, fault Fault) {
	n := 0
	for n < len(s) && isTokenByte(s[n]) {
		n++
	}
	tail := vp.skipSpace(s[n:])
	if tail == "" || tail[0] == ';' {
		if n == 0 {
			fault = FaultParameter // nothing after the "="
		}
		return s[:n], strings.TrimPrefix(tail, ";"), fault
	}
	value, rest, _ = strings.Cut(s, ";")
	value = strings.TrimSpace(value)
	if base, _, _ := strings.Cut(name, "*"); base != "filename" && base != "name" {
		if i := strings.IndexAny(value, " \t"); i >= 0 {
			value = value[:i]
		}
	}
	return value, rest, FaultParameter
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// isTokenByte: RFC 2045, Section 5.1.
func isTokenByte(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, c) < 0
}

// segment is a piece of a parameter in the manner of RFC 2231, Section 3: name*2*=….
type segment struct {
	base     string
	n        int
	extended bool
	value    string
}

func parseSegment(name, value string) (segment, bool) {
	base, tail, ok := strings.Cut(name, "*")
	if !ok || base == "" {
		return segment{}, false
	}
	s := segment{base: base, value: value}
	if tail == "" { // name*=
		s.extended = true
		return s, true
	}
	tail, s.extended = strings.CutSuffix(tail, "*")
	n, err := strconv.Atoi(tail)
	s.n = n
	return s, err == nil && n >= 0 && n < maxParams
}

// join puts the segments together, in their order, each behind the plain parameters.
func join(params []param, segs []segment, fault *Fault) []param {
	for len(segs) > 0 {
		base := segs[0].base
		var own, others []segment
		for _, s := range segs {
			if s.base == base {
				own = append(own, s)
			} else {
				others = append(others, s)
			}
		}
		segs = others
		p, ok := joinOne(base, own)
		if !ok || has(params, p.name) {
			*fault |= FaultParameter
		}
		if !has(params, p.name) {
			params = append(params, p)
		}
	}
	return params
}

func joinOne(base string, own []segment) (param, bool) {
	slices.SortStableFunc(own, func(a, b segment) int { return a.n - b.n })
	whole := true
	extended := slices.ContainsFunc(own, func(s segment) bool { return s.extended })
	var b strings.Builder
	for i, s := range own {
		if s.n != i { // a gap or the same number twice
			whole = false
		}
		if extended && !s.extended {
			appendPercent(&b, s.value)
		} else {
			b.WriteString(s.value)
		}
	}
	if extended {
		base += "*"
		if own[0].extended && strings.Count(own[0].value, "'") < 2 || !own[0].extended {
			whole = false
		}
	}
	return param{base, b.String()}, whole
}

func appendPercent(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; isAlnum(c) || c == '.' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}

// paramText is the text of a parameter for people: the extended form before the plain one, RFC 2047 words
// decoded although they are not allowed there, control characters dropped.
func paramText(params []param, name string) string {
	if v, ok := lookup(params, name+"*"); ok {
		return clean(decodeExtended(v))
	}
	v, _ := lookup(params, name)
	return clean(decodeWords(v))
}

func decodeExtended(v string) []byte {
	charset, rest, ok := strings.Cut(v, "'")
	if ok {
		_, rest, ok = strings.Cut(rest, "'")
	}
	if !ok {
		charset, rest = "", v
	}
	b := make([]byte, 0, len(rest))
	for i := 0; i < len(rest); i++ {
		if rest[i] == '%' && i+2 < len(rest) && unhex(rest[i+1]) < 16 && unhex(rest[i+2]) < 16 {
			b = append(b, unhex(rest[i+1])<<4|unhex(rest[i+2]))
			i += 2
		} else {
			b = append(b, rest[i])
		}
	}
	return toUTF8(b, charset)
}

// maxName bounds a file name, octets.
const maxName = 1024

func clean(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, string(b))
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "")
	}
	return s
}
