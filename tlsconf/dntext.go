package tlsconf

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// attrTypes are the short names of attribute types: RFC 4514, Section 3, RFC 4519 and what Java and OpenSSL print.
// The first name of an OID is the one printed.
var attrTypes = []struct{ name, oid string }{
	{"CN", "2.5.4.3"}, {"SN", "2.5.4.4"}, {"SURNAME", "2.5.4.4"}, {"SERIALNUMBER", "2.5.4.5"}, {"C", "2.5.4.6"},
	{"L", "2.5.4.7"}, {"ST", "2.5.4.8"}, {"S", "2.5.4.8"}, {"STREET", "2.5.4.9"}, {"O", "2.5.4.10"},
	{"OU", "2.5.4.11"}, {"TITLE", "2.5.4.12"}, {"T", "2.5.4.12"}, {"DESCRIPTION", "2.5.4.13"}, {"POSTALCODE", "2.5.4.17"},
	{"GN", "2.5.4.42"}, {"GIVENNAME", "2.5.4.42"}, {"INITIALS", "2.5.4.43"}, {"GENERATION", "2.5.4.44"},
	{"DNQ", "2.5.4.46"}, {"DNQUALIFIER", "2.5.4.46"}, {"ORGANIZATIONIDENTIFIER", "2.5.4.97"},
	{"UID", "0.9.2342.19200300.100.1.1"}, {"DC", "0.9.2342.19200300.100.1.25"},
	{"EMAILADDRESS", "1.2.840.113549.1.9.1"}, {"EMAIL", "1.2.840.113549.1.9.1"}, {"E", "1.2.840.113549.1.9.1"},
}

func typeName(oid string) string {
	for _, t := range attrTypes {
		if t.oid == oid {
			return t.name
		}
	}
	return oid
}

// typeOID gives the OID of a name, a dotted OID or "OID.1.2.3".
func typeOID(name string) (string, bool) {
	for _, t := range attrTypes {
		if strings.EqualFold(t.name, name) {
			return t.oid, true
		}
	}
	if len(name) > 4 && strings.EqualFold(name[:4], "oid.") {
		name = name[4:]
	}
	return name, isOID(name)
}

// isOID says whether s is numbers joined by dots, at least two of them, without leading zeros.
func isOID(s string) bool {
	parts := strings.Split(s, ".")
	for _, p := range parts {
		if p == "" || strings.Trim(p, "0123456789") != "" || len(p) > 1 && p[0] == '0' {
			return false
		}
	}
	return len(parts) > 1
}

// escapeValue prints a value so that ParseDN reads it back (RFC 4514, Section 2.4).
func escapeValue(v string) string {
	var b strings.Builder
	for i, r := range v {
		first, last := i == 0, i+utf8.RuneLen(r) == len(v)
		switch {
		case strings.ContainsRune(`"+,;<>\=`, r), first && (r == '#' || r == ' '), last && r == ' ':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsControl(r) || unicode.IsSpace(r) && r != ' ':
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\%02X`, c)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// dnParser walks over the text of a name.
type dnParser struct {
	s string
	i int
}

func (p *dnParser) parse() ([]rdn, error) {
	var rdns []rdn
	var r rdn
	for n := 1; ; n++ {
		if n > maxDNAttrs {
			return nil, fmt.Errorf("name has more than %d attributes", maxDNAttrs)
		}
		a, err := p.attribute()
		if err != nil {
			return nil, fmt.Errorf("attribute %d of the name: %w", n, err)
		}
		r = append(r, a)
		if p.i < len(p.s) && p.s[p.i] == '+' {
			p.i++
			continue
		}
		rdns, r = append(rdns, r), nil
		if p.i >= len(p.s) {
			return rdns, nil
		}
		p.i++ // the separator: value stops at nothing else
	}
}

func (p *dnParser) attribute() (attr, error) {
	name, next, ok := p.typeAt(p.i)
	if !ok {
		return attr{}, errors.New("expected an attribute type and \"=\"")
	}
	oid, ok := typeOID(name)
	if !ok {
		return attr{}, fmt.Errorf("unknown attribute type %q", name)
	}
	p.i = next
	v, raw, err := p.value()
	if err == nil && v == "" {
		err = errors.New("empty value")
	}
	if err != nil {
		return attr{}, fmt.Errorf("%s: %w", typeName(oid), err)
	}
	return attr{oid, v, raw}, nil
}

// typeAt reads `  type  =` at i and gives the type and the place after "=".
func (p *dnParser) typeAt(i int) (name string, next int, ok bool) {
	for i < len(p.s) && p.s[i] == ' ' {
		i++
	}
	start := i
	for i < len(p.s) && isTypeByte(p.s[i]) {
		i++
	}
	name = p.s[start:i]
	for i < len(p.s) && p.s[i] == ' ' {
		i++
	}
	if name == "" || i >= len(p.s) || p.s[i] != '=' {
		return "", 0, false
	}
	return name, i + 1, true
}

func isTypeByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-'
}

// separatorAt says whether the value ends at i: at the end of the text or at a separator that a type follows.
func (p *dnParser) separatorAt(i int) bool {
	if i >= len(p.s) {
		return true
	}
	if c := p.s[i]; c != ',' && c != ';' && c != '+' {
		return false
	}
	_, _, ok := p.typeAt(i + 1)
	// A separator at the very end must not become part of the value: it is a name cut off.
	return ok || strings.Trim(p.s[i+1:], " ") == ""
}

// value reads a value; raw says that it is no text but DER.
func (p *dnParser) value() (v string, raw bool, err error) {
	for p.i < len(p.s) && p.s[p.i] == ' ' {
		p.i++
	}
	if p.i < len(p.s) && p.s[p.i] == '#' {
		return p.hexValue()
	}
	if v, ok := p.quotedValue(); ok {
		return v, false, nil
	}
	v, err = p.plainValue()
	return v, false, err
}

// hexValue reads "#" and the BER of the value (RFC 4514, Section 2.4).
func (p *dnParser) hexValue() (v string, raw bool, err error) {
	start := p.i + 1
	for p.i = start; !p.separatorAt(p.i); p.i++ {
	}
	der, err := hex.DecodeString(strings.TrimRight(p.s[start:p.i], " "))
	if err != nil {
		return "", false, errors.New("expected hexadecimal digits after \"#\"")
	}
	var one asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &one); err != nil || len(rest) > 0 {
		return "", false, errors.New("expected one BER value after \"#\"")
	}
	if s, ok := asn1Text(one); ok {
		return s, false, nil
	}
	return hex.EncodeToString(der), true, nil
}

// quotedValue reads "…" when a separator follows the closing quote; anything else is a plain value with quotes inside.
func (p *dnParser) quotedValue() (string, bool) {
	if p.i >= len(p.s) || p.s[p.i] != '"' {
		return "", false
	}
	var b strings.Builder
	for i := p.i + 1; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			n, ok := unescape(&b, p.s[i:])
			if !ok {
				return "", false
			}
			i += n - 1
		case '"':
			end := i + 1
			for end < len(p.s) && p.s[end] == ' ' {
				end++
			}
			if !p.separatorAt(end) || !utf8.ValidString(b.String()) {
				return "", false
			}
			p.i = end
			return b.String(), true
		default:
			b.WriteByte(p.s[i])
		}
	}
	return "", false
}

func (p *dnParser) plainValue() (string, error) {
	var b strings.Builder
	keep := 0 // length of b that must stay when blanks are cut off at the end
	for !p.separatorAt(p.i) {
		if p.s[p.i] != '\\' {
			b.WriteByte(p.s[p.i])
			if p.s[p.i] != ' ' {
				keep = b.Len()
			}
			p.i++
			continue
		}
		n, ok := unescape(&b, p.s[p.i:])
		if !ok {
			return "", errors.New("bad escape")
		}
		keep = b.Len()
		p.i += n
	}
	v := b.String()[:keep]
	if !utf8.ValidString(v) {
		return "", errors.New("escapes do not give UTF-8")
	}
	return v, nil
}

// unescape writes what the escape at the start of s means and gives its length (RFC 4514, Section 3, pair).
func unescape(b *strings.Builder, s string) (n int, ok bool) {
	if len(s) >= 3 {
		if c, err := hex.DecodeString(s[1:3]); err == nil {
			b.WriteByte(c[0])
			return 3, true
		}
	}
	if len(s) >= 2 && strings.IndexByte(`"+,;<>\=# `, s[1]) >= 0 {
		b.WriteByte(s[1])
		return 2, true
	}
	return 0, false
}
