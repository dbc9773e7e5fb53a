package tlsconf

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

const (
	maxCRLFile      = 64 << 20 // octets
	defaultCRLGrace = 24 * time.Hour
)

// crl is one authority's list, checked and indexed.
type crl struct {
	issuer     *x509.Certificate
	thisUpdate time.Time
	nextUpdate time.Time
	revoked    map[string]time.Time // by serial number, its octets
}

// crlSet holds at most one list for each authority: the newest.
type crlSet []*crl

// loadCRLs reads lists, DER or PEM, each signed by one of the anchors. Every fault is reported.
func loadCRLs(files []string, anchors *Anchors) (crlSet, error) {
	var set crlSet
	var faults []error
	for _, name := range files {
		c, err := loadCRL(name, anchors)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		set = set.add(c)
	}
	return set, errors.Join(faults...)
}

func (s crlSet) add(c *crl) crlSet {
	for i, o := range s {
		if o.issuer.Equal(c.issuer) {
			if c.thisUpdate.After(o.thisUpdate) {
				s[i] = c
			}
			return s
		}
	}
	return append(s, c)
}

func loadCRL(name string, anchors *Anchors) (*crl, error) {
	b, err := readBounded(name, maxCRLFile)
	if err != nil {
		return nil, err
	}
	c, err := parseCRL(b, anchors)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func parseCRL(b []byte, anchors *Anchors) (*crl, error) {
	if block, _ := pem.Decode(b); block != nil {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("PEM block %q, expected \"X509 CRL\"", block.Type)
		}
		b = block.Bytes
	}
	list, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, fmt.Errorf("not a revocation list: %w", err)
	}
	if list.NextUpdate.IsZero() {
		return nil, errors.New("revocation list without nextUpdate (RFC 5280, Section 5.1.2.5)")
	}
	for _, e := range list.Extensions {
		// RFC 5280, Section 5.2: a list with a critical extension that is not understood (delta list, list of a part
		// of the certificates) must not be taken for a whole one.
		if e.Critical {
			return nil, fmt.Errorf("revocation list with critical extension %v: expected a full list of its issuer", e.Id)
		}
	}
	issuer, err := crlIssuer(list, anchors)
	if err != nil {
		return nil, err
	}
	return indexCRL(list, issuer), nil
}

func crlIssuer(list *x509.RevocationList, anchors *Anchors) (*x509.Certificate, error) {
	named := false
	for _, c := range anchors.Certs() {
		if !bytes.Equal(c.RawSubject, list.RawIssuer) {
			continue
		}
		named = true
		if list.CheckSignatureFrom(c) == nil {
			return c, nil
		}
	}
	if named {
		return nil, fmt.Errorf("signature of the revocation list of %s does not verify", list.Issuer)
	}
	return nil, fmt.Errorf("issuer of the revocation list is not among the anchors: %s", list.Issuer)
}

func indexCRL(list *x509.RevocationList, issuer *x509.Certificate) *crl {
	c := &crl{
		issuer: issuer, thisUpdate: list.ThisUpdate, nextUpdate: list.NextUpdate,
		revoked: make(map[string]time.Time, len(list.RevokedCertificateEntries)),
	}
	for _, e := range list.RevokedCertificateEntries {
		c.revoked[string(e.SerialNumber.Bytes())] = e.RevocationTime
	}
	return c
}

// of gives the list of an authority; one certified twice with the same key and name has one list.
func (s crlSet) of(issuer *x509.Certificate) *crl {
	for _, c := range s {
		if bytes.Equal(c.issuer.RawSubject, issuer.RawSubject) && bytes.Equal(c.issuer.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) {
			return c
		}
	}
	return nil
}

// stale says whether nothing can be concluded any more from a certificate's absence.
func (c *crl) stale(now time.Time, grace time.Duration) bool {
	return now.After(c.nextUpdate.Add(grace))
}

// RevokedIn says whether a list names a certificate of this chain (leaf first, anchor last), and since when. It answers
// no when there is no list to ask.
func (j *Judge) RevokedIn(chain []*x509.Certificate) (time.Time, bool) {
	t := j.trust.Load()
	for i := 0; i < len(chain)-1; i++ {
		list := t.crls.of(chain[i+1])
		if list == nil {
			continue
		}
		if when, ok := list.revoked[string(chain[i].SerialNumber.Bytes())]; ok {
			return when, true
		}
	}
	return time.Time{}, false
}
