package tlsconf

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
)

var oidIssuingPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// crlScope says which certificates of its issuer a list is about: RFC 5280, Section 5.2.5. The zero value: all.
type crlScope struct {
	points   []string // places, of which the certificate must name one as a distribution point of its own; nil: any
	users    bool     // only those that are no authorities
	authors  bool     // only authorities
	identity string   // tells one scope from another
}

// covers says whether the absence of a certificate from a list of this scope means anything.
func (s crlScope) covers(c *x509.Certificate) bool {
	if s.users && c.IsCA || s.authors && !c.IsCA {
		return false
	}
	return s.points == nil || slices.ContainsFunc(s.points, func(p string) bool { return slices.Contains(c.CRLDistributionPoints, p) })
}

// readCRLScope reads an issuingDistributionPoint. Lists of others' certificates and lists of some reasons only are
// refused: they cannot be taken for the whole.
func readCRLScope(der []byte) (s crlScope, err error) {
	var p struct {
		Point struct {
			FullName []asn1.RawValue `asn1:"optional,tag:0"`
			Relative asn1.RawValue   `asn1:"optional,tag:1"`
		} `asn1:"optional,tag:0"`
		Users      bool           `asn1:"optional,tag:1"`
		Authors    bool           `asn1:"optional,tag:2"`
		Reasons    asn1.BitString `asn1:"optional,tag:3"`
		Indirect   bool           `asn1:"optional,tag:4"`
		Attributes bool           `asn1:"optional,tag:5"`
	}
	rest, err := asn1.Unmarshal(der, &p)
	switch {
	case err != nil || len(rest) > 0:
		return s, errors.New("revocation list with an issuingDistributionPoint that cannot be read (RFC 5280, Section 5.2.5)")
	case p.Indirect:
		return s, errors.New("indirect revocation list: expected a list of its issuer's own certificates")
	case p.Attributes:
		return s, errors.New("revocation list of attribute certificates only")
	case len(p.Reasons.Bytes) > 0:
		return s, errors.New("revocation list of some reasons only: expected one of all reasons")
	case len(p.Point.Relative.FullBytes) > 0:
		return s, errors.New("revocation list whose distribution point is a relative name: expected a URL")
	}
	s = crlScope{users: p.Users, authors: p.Authors, identity: string(der)}
	for _, n := range p.Point.FullName {
		if n.Class == asn1.ClassContextSpecific && n.Tag == 6 { // uniformResourceIdentifier
			s.points = append(s.points, string(n.Bytes))
		}
	}
	if len(p.Point.FullName) > 0 && s.points == nil {
		return s, errors.New("revocation list whose distribution point has no URL")
	}
	return s, nil
}

// String names a scope in errors.
func (s crlScope) String() string {
	var parts []string
	if s.users {
		parts = append(parts, "not of authorities")
	}
	if s.authors {
		parts = append(parts, "of authorities only")
	}
	return strings.Join(append(parts, s.points...), ", ")
}
