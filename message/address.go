package message

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
)

// Address is a Mailbox in the sense of SMTP (RFC 5321, Section 4.1.2): local-part@domain. The local part of a
// patient is a national health number, so an Address prints and logs without it; string(a) is the whole.
type Address string

// ErrAddress is the answer of ParseAddress to text that is not an address. It does not repeat the text.
var ErrAddress = errors.New("message: not an address (RFC 5321)")

// RFC 5321, Sections 4.5.3.1.1 to 4.5.3.1.3; the path limit of 256 counts the angle brackets.
const (
	maxLocal   = 64
	maxDomain  = 255
	maxAddress = 254
	maxLabel   = 63
)

// ParseAddress reads an address without angle brackets, after the strict grammar of RFC 5321, Section 4.1.2:
// ASCII only, a dot-string or a quoted local part, a domain or an address literal.
func ParseAddress(s string) (Address, error) {
	if len(s) > maxAddress {
		return "", ErrAddress
	}
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at > maxLocal || len(s)-at-1 > maxDomain {
		return "", ErrAddress
	}
	local, domain := s[:at], s[at+1:]
	if !validDotString(local) && !validQuoted(local) {
		return "", ErrAddress
	}
	if !validDomain(domain) && !validLiteral(domain) {
		return "", ErrAddress
	}
	return Address(s), nil
}

// Local is the local part as written; it is not for logs.
func (a Address) Local() string {
	if i := strings.LastIndexByte(string(a), '@'); i >= 0 {
		return string(a[:i])
	}
	return string(a)
}

// Domain is the domain in lower case.
func (a Address) Domain() string {
	if i := strings.LastIndexByte(string(a), '@'); i >= 0 {
		return strings.ToLower(string(a[i+1:]))
	}
	return ""
}

// Lower is the whole address in lower case, the canonical form of this operator's addresses.
func (a Address) Lower() Address { return Address(strings.ToLower(string(a))) }

// String hides the local part, so that a careless print is safe. Use string(a) for the wire.
func (a Address) String() string {
	if a == "" {
		return "<>"
	}
	return "…@" + a.Domain()
}

// GoString hides the local part from %#v.
func (a Address) GoString() string { return a.String() }

// LogValue hides the local part.
func (a Address) LogValue() slog.Value { return slog.StringValue(a.String()) }

// atext of RFC 5322, Section 3.2.3.
func isAtext(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func validDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if !isAtext(atom[i]) {
				return false
			}
		}
	}
	return true
}

// validQuoted: DQUOTE *(qtextSMTP / "\" %d32-126) DQUOTE.
func validQuoted(s string) bool {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	s = s[1 : len(s)-1]
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			if i == len(s) {
				return false
			}
		} else if s[i] == '"' {
			return false
		}
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// validDomain: labels of letters, digits and inner hyphens.
func validDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if c != '-' && !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') {
				return false
			}
		}
	}
	return true
}

// validLiteral: [192.0.2.1] or [IPv6:2001:db8::1]; general literals have no registered tag and are refused.
func validLiteral(s string) bool {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return false
	}
	s = s[1 : len(s)-1]
	v6 := len(s) > 5 && strings.EqualFold(s[:5], "IPv6:")
	if v6 {
		s = s[5:]
	}
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Zone() == "" && ip.Is4() != v6
}
