package tlsconf

import "errors"

// DN is a distinguished name, parsed once and compared attribute by attribute.
// The zero DN is no name at all; it equals only itself. A DN is comparable, but Equal says what is meant.
type DN struct {
	key  string // canonical, in certificate order: what is compared
	text string // RFC 4514 form, most specific attribute first: what people read
}

// Equal says whether both names have the same attributes with the same values.
func (d DN) Equal(o DN) bool { return d.key == o.key }

// Key is the canonical form, for use as a map key only.
func (d DN) Key() string { return d.key }

// String is the name in the form of RFC 4514, most specific attribute first.
func (d DN) String() string { return d.text }

// IsZero says that there is no name.
func (d DN) IsZero() bool { return d.key == "" }

// ParseDN reads a name as the white list prints it.
func ParseDN(s string) (DN, error) { return DN{}, errors.ErrUnsupported }

// DNFromRaw reads the DER of a subject (x509.Certificate.RawSubject).
func DNFromRaw(raw []byte) (DN, error) { return DN{}, errors.ErrUnsupported }
