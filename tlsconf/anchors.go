package tlsconf

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
)

const maxAnchorFile = 8 << 20 // octets

// Anchors are the authorities that this operator trusts, and no others. Several generations may stand side by side.
// A nil *Anchors is empty.
type Anchors struct {
	certs                []*x509.Certificate
	roots, intermediates *x509.CertPool
}

// LoadAnchors reads authorities' certificates, roots and intermediates in any order, from PEM or DER files. An
// intermediate authority whose own issuer is in none of the files is an anchor itself. Every fault is reported.
func LoadAnchors(files []string) (*Anchors, error) {
	var certs []*x509.Certificate
	var faults []error
	for _, name := range files {
		found, err := loadAuthorities(name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		certs = append(certs, found...)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return NewAnchors(certs...), nil
}

func loadAuthorities(name string) ([]*x509.Certificate, error) {
	b, err := readBounded(name, maxAnchorFile)
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i, c := range certs {
		if !c.IsCA {
			return nil, fmt.Errorf("%s: certificate %d (%s) is not an authority's: expected basicConstraints CA:TRUE", name, i+1, subjectText(c))
		}
	}
	return certs, nil
}

// NewAnchors makes anchors of certificates at hand.
func NewAnchors(certs ...*x509.Certificate) *Anchors {
	a := &Anchors{roots: x509.NewCertPool(), intermediates: x509.NewCertPool()}
	for _, c := range certs {
		if !a.has(c) {
			a.certs = append(a.certs, c)
		}
	}
	for _, c := range a.certs {
		if selfSigned(c) || !a.hasIssuerOf(c) {
			a.roots.AddCert(c)
		} else {
			a.intermediates.AddCert(c)
		}
	}
	return a
}

func (a *Anchors) has(c *x509.Certificate) bool {
	for _, o := range a.certs {
		if o.Equal(c) {
			return true
		}
	}
	return false
}

func (a *Anchors) hasIssuerOf(c *x509.Certificate) bool {
	for _, o := range a.certs {
		if o != c && bytes.Equal(o.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(o) == nil {
			return true
		}
	}
	return false
}

// selfSigned compares names first, so that most certificates cost no signature check.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// Pools gives the certificates where chains end, and those that may stand between.
func (a *Anchors) Pools() (roots, intermediates *x509.CertPool) {
	if a == nil {
		return x509.NewCertPool(), x509.NewCertPool()
	}
	return a.roots, a.intermediates
}

// Empty says that nothing can be trusted.
func (a *Anchors) Empty() bool { return a == nil || len(a.certs) == 0 }

// Certs are all the certificates, each once.
func (a *Anchors) Certs() []*x509.Certificate {
	if a == nil {
		return nil
	}
	return a.certs
}
