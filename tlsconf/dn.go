package tlsconf

import (
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxDNText  = 4096 // octets; the white list of 2025 has at most 130
	maxDNRaw   = 16 << 10
	maxDNAttrs = 64
)

// DN is a distinguished name, parsed once and compared attribute by attribute. Two names are equal when they have the
// same sequence of relative names, each with the same attribute types and the same values, where a value is taken
// without case, with every run of white space as one blank, and without quotes around the whole of it (RFC 4518,
// Section 2.6.1, does the blanks). L and ST are distinct types and stay so.
//
// The zero DN is no name at all; it equals only itself.
type DN struct {
	key  string // canonical, in certificate order: what is compared
	text string // RFC 4514 form, most specific attribute first: what people read
}

// attr is one attribute of a name: its type as a dotted OID and its decoded value. A value that is no text is raw: its
// DER in hexadecimal, which no text equals.
type attr struct {
	oid, value string
	raw        bool
}

// key is the form in which attributes are compared.
func (a attr) key() string {
	if a.raw {
		return a.oid + "#" + a.value
	}
	return a.oid + "=" + foldValue(a.value)
}

func (a attr) String() string {
	if a.raw {
		return typeName(a.oid) + "=#" + a.value
	}
	return typeName(a.oid) + "=" + escapeValue(a.value)
}

// rdn is one relative name; nearly always it has one attribute.
type rdn []attr

// Equal says whether both names have the same attributes with the same values.
func (d DN) Equal(o DN) bool { return d.key == o.key }

// Key is the canonical form, for use as a map key only.
func (d DN) Key() string { return d.key }

// String is the name in the form of RFC 4514, most specific attribute first, as the white list prints it.
func (d DN) String() string { return d.text }

// IsZero says that there is no name.
func (d DN) IsZero() bool { return d.key == "" }

// ParseDN reads a name as the white list prints it: most specific attribute first, separated by commas, with or without
// a blank after them. It takes RFC 4514 (escapes, hexadecimal values, several attributes joined by "+") and what
// printers of names really do: outer quotes, runs of blanks, quotes inside a value, and a comma, semicolon or plus sign
// that nothing like "type=" follows.
func ParseDN(s string) (DN, error) {
	if len(s) > maxDNText {
		return DN{}, fmt.Errorf("name has %d octets, at most %d are read", len(s), maxDNText)
	}
	if !utf8.ValidString(s) {
		return DN{}, errors.New("name is not UTF-8")
	}
	p := dnParser{s: s}
	rdns, err := p.parse()
	if err != nil {
		return DN{}, err
	}
	// RFC 4514, Section 2.1: the text starts with the last element of the sequence.
	for i, j := 0, len(rdns)-1; i < j; i, j = i+1, j-1 {
		rdns[i], rdns[j] = rdns[j], rdns[i]
	}
	return newDN(rdns), nil
}

// DNFromRaw reads the DER of a subject, such as x509.Certificate.RawSubject. (pkix.Name would lose the order.)
func DNFromRaw(raw []byte) (DN, error) {
	if len(raw) > maxDNRaw {
		return DN{}, fmt.Errorf("name has %d octets, at most %d are read", len(raw), maxDNRaw)
	}
	var seq []asn1.RawValue
	rest, err := asn1.Unmarshal(raw, &seq)
	if err != nil {
		return DN{}, fmt.Errorf("name is not an RDNSequence: %w", err)
	}
	if len(rest) > 0 {
		return DN{}, errors.New("octets after the name")
	}
	var rdns []rdn
	n := 0
	for _, set := range seq {
		r, err := rdnFromRaw(set.FullBytes)
		if err != nil {
			return DN{}, err
		}
		if n += len(r); n > maxDNAttrs {
			return DN{}, fmt.Errorf("name has more than %d attributes", maxDNAttrs)
		}
		rdns = append(rdns, r)
	}
	return newDN(rdns), nil
}

func rdnFromRaw(der []byte) (rdn, error) {
	var set []struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	if _, err := asn1.UnmarshalWithParams(der, &set, "set"); err != nil {
		return nil, fmt.Errorf("element of the name: %w", err)
	}
	var r rdn
	for _, a := range set {
		v, ok := asn1Text(a.Value)
		if !ok {
			v = hex.EncodeToString(a.Value.FullBytes)
		}
		r = append(r, attr{a.Type.String(), v, !ok})
	}
	if len(r) == 0 {
		return nil, errors.New("empty element in the name")
	}
	return r, nil
}

// asn1Text decodes the string types of RFC 5280, Section 4.1.2.4. T61String is read as Latin-1, as everybody does. What
// is no text in its own type is none: two values that are broken in two ways must not become one.
func asn1Text(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return "", false
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString:
		if utf8.Valid(v.Bytes) {
			return string(v.Bytes), true
		}
	case asn1.TagT61String:
		rs := make([]rune, len(v.Bytes))
		for i, b := range v.Bytes {
			rs[i] = rune(b)
		}
		return string(rs), true
	case asn1.TagBMPString:
		if len(v.Bytes)%2 == 0 {
			u := make([]uint16, len(v.Bytes)/2)
			for i := range u {
				u[i] = uint16(v.Bytes[2*i])<<8 | uint16(v.Bytes[2*i+1])
			}
			rs := utf16.Decode(u)
			if !slices.Equal(utf16.Encode(rs), u) { // half a surrogate pair
				return "", false
			}
			return string(rs), true
		}
	case 28: // UniversalString
		if len(v.Bytes)%4 == 0 {
			var b strings.Builder
			for i := 0; i < len(v.Bytes); i += 4 {
				r := rune(binary.BigEndian.Uint32(v.Bytes[i:]))
				if !utf8.ValidRune(r) {
					return "", false
				}
				b.WriteRune(r)
			}
			return b.String(), true
		}
	}
	return "", false
}

// newDN makes the name of a sequence in certificate order.
func newDN(rdns []rdn) DN {
	if len(rdns) == 0 {
		return DN{}
	}
	var key strings.Builder
	texts := make([]string, len(rdns))
	for i, r := range rdns {
		// The attributes of one relative name are a set: their order says nothing.
		folded := make([]string, len(r))
		shown := make([]string, len(r))
		for j, a := range r {
			folded[j], shown[j] = a.key(), a.String()
		}
		sort.Strings(folded)
		sort.Strings(shown)
		// foldValue leaves no control character, so \x01 and \x02 cannot stand inside a value.
		key.WriteString(strings.Join(folded, "\x02"))
		key.WriteByte('\x01')
		texts[len(rdns)-1-i] = strings.Join(shown, "+")
	}
	return DN{key: key.String(), text: strings.Join(texts, ",")}
}

// foldValue is the form in which values are compared. It is idempotent.
func foldValue(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	blank := false
	for _, r := range s {
		// RFC 4518, Section 2.2: control characters and separators count as blanks.
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			blank = b.Len() > 0
			continue
		}
		if blank {
			b.WriteByte(' ')
			blank = false
		}
		b.WriteRune(foldRune(r))
	}
	return stripQuotes(b.String())
}

// foldRune gives one letter for all cases of it.
func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return unicode.ToLower(least)
}

// stripQuotes takes off the quotes around the whole of a value; a value with further quotes inside is left alone.
func stripQuotes(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	in := s[1 : len(s)-1]
	if strings.Contains(in, `"`) {
		return s
	}
	return strings.TrimSpace(in)
}

// Has says whether d has every attribute of part, in whatever order and whatever else it has. No name has the zero DN.
func (d DN) Has(part DN) bool {
	if part.IsZero() {
		return false
	}
	split := func(r rune) bool { return r == '\x01' || r == '\x02' }
	own := strings.FieldsFunc(d.key, split)
	for _, a := range strings.FieldsFunc(part.key, split) {
		if !slices.Contains(own, a) {
			return false
		}
	}
	return true
}

// Names says whether one of the attributes is of a type, by its short name ("CN").
func (d DN) Names(short string) bool {
	oid, ok := typeOID(short)
	return ok && slices.ContainsFunc(strings.FieldsFunc(d.key, func(r rune) bool { return r == '\x01' || r == '\x02' }),
		func(a string) bool { return strings.HasPrefix(a, oid+"=") })
}
