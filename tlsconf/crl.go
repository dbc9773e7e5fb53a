package tlsconf

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"
)

const (
	maxCRLFile      = 64 << 20 // octets
	defaultCRLGrace = 24 * time.Hour
)

// crl is one authority's list, checked and indexed. It never changes.
type crl struct {
	issuer     *x509.Certificate
	scope      crlScope
	thisUpdate time.Time
	nextUpdate time.Time
	number     *big.Int             // RFC 5280, Section 5.2.3; nil: it has none
	base       *big.Int             // of a delta list (Section 5.2.4), the number of the full list below it; nil: a full list
	revoked    map[string]time.Time // by serial number, its octets
	lifted     []string             // of a delta list: serial numbers that are no longer revoked
}

// crlSet holds at most one list for each authority and scope: the newest, with what delta lists add to it.
type crlSet []*crl

// loadCRLs reads lists, DER or PEM, each signed by one of the anchors. Every fault is reported.
func loadCRLs(files []string, anchors *Anchors) ([]*crl, error) {
	var lists []*crl
	var faults []error
	for _, name := range files {
		c, err := loadCRL(name, anchors)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		lists = append(lists, c)
	}
	return lists, errors.Join(faults...)
}

// combine takes the newest full list of each authority, and the newest delta list that belongs to it. notes tell of
// delta lists that could not be used.
func combine(lists []*crl) (set crlSet, notes []error) {
	for _, c := range lists {
		if c.base == nil {
			set = set.add(c)
		}
	}
	deltas := make([]*crl, len(set))
	for _, d := range lists {
		if d.base == nil {
			continue
		}
		i := slices.IndexFunc(set, func(o *crl) bool { return o.sameKind(d) })
		switch {
		case i < 0 || set[i].number == nil || set[i].number.Cmp(d.base) < 0:
			notes = append(notes, fmt.Errorf("delta revocation list %v of %s: the full list that it is based on (number %v or later) is missing", d.number, subjectText(d.issuer), d.base))
		case set[i].number.Cmp(d.number) >= 0: // the full list is newer
		case deltas[i] == nil || deltas[i].number.Cmp(d.number) < 0:
			deltas[i] = d
		}
	}
	for i, d := range deltas {
		if d != nil {
			set[i] = set[i].with(d)
		}
	}
	return set, notes
}

// with is a full list with what a delta list of it says.
func (c *crl) with(d *crl) *crl {
	sum := *c
	sum.number, sum.thisUpdate = d.number, d.thisUpdate
	if d.nextUpdate.After(sum.nextUpdate) {
		sum.nextUpdate = d.nextUpdate
	}
	sum.revoked = maps.Clone(c.revoked)
	maps.Copy(sum.revoked, d.revoked)
	for _, serial := range d.lifted {
		delete(sum.revoked, serial)
	}
	return &sum
}

func (s crlSet) add(c *crl) crlSet {
	for i, o := range s {
		if o.sameKind(c) {
			if c.newer(o) {
				s[i] = c
			}
			return s
		}
	}
	return append(s, c)
}

// sameKind says whether two lists are about the same certificates.
func (c *crl) sameKind(o *crl) bool {
	return c.issuer.Equal(o.issuer) && c.scope.identity == o.scope.identity
}

// newer compares two lists of one authority, by number where both have one.
func (c *crl) newer(o *crl) bool {
	if c.number != nil && o.number != nil && c.number.Cmp(o.number) != 0 {
		return c.number.Cmp(o.number) > 0
	}
	return c.thisUpdate.After(o.thisUpdate)
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
	if block, rest := pem.Decode(b); block != nil {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("PEM block %q, expected \"X509 CRL\"", block.Type)
		}
		if bytes.Contains(rest, []byte("-----BEGIN ")) {
			return nil, errors.New("more than one PEM block in this file: expected one revocation list in a file")
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
	var base *big.Int
	var scope crlScope
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRL):
			if rest, err := asn1.Unmarshal(e.Value, &base); err != nil || len(rest) > 0 || base == nil || list.Number == nil {
				return nil, errors.New("delta revocation list without its numbers (RFC 5280, Section 5.2.4)")
			}
		case e.Id.Equal(oidIssuingPoint):
			if scope, err = readCRLScope(e.Value); err != nil {
				return nil, err
			}
		case e.Critical:
			// RFC 5280, Section 5.2: a list with a critical extension that is not understood (list of a part of the
			// certificates, indirect list) must not be taken for a whole one.
			return nil, fmt.Errorf("revocation list with critical extension %v%s: expected a full or a delta list of its issuer", e.Id, crlExtensions[e.Id.String()])
		}
	}
	for _, e := range list.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical { // Section 5.3: certificateIssuer, of an indirect list
				return nil, fmt.Errorf("revocation list with critical extension %v%s of an entry: expected a list of its issuer's own certificates", x.Id, crlExtensions[x.Id.String()])
			}
		}
	}
	issuer, err := crlIssuer(list, anchors)
	if err != nil {
		return nil, err
	}
	c := indexCRL(list, issuer)
	c.base, c.scope = base, scope
	return c, nil
}

var oidDeltaCRL = asn1.ObjectIdentifier{2, 5, 29, 27}

// crlExtensions names those that are refused.
var crlExtensions = map[string]string{"2.5.29.29": " (certificateIssuer)"}

const removeFromCRL = 8 // RFC 5280, Section 5.3.1

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
		issuer: issuer, thisUpdate: list.ThisUpdate, nextUpdate: list.NextUpdate, number: list.Number,
		revoked: make(map[string]time.Time, len(list.RevokedCertificateEntries)),
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.ReasonCode == removeFromCRL {
			c.lifted = append(c.lifted, string(e.SerialNumber.Bytes()))
			continue
		}
		c.revoked[string(e.SerialNumber.Bytes())] = e.RevocationTime
	}
	return c
}

// of gives the list of an authority that is about a certificate, the one that lasts longest; nil: none is.
func (s crlSet) of(issuer, cert *x509.Certificate) (best *crl) {
	for _, c := range s {
		if c.by(issuer) && c.scope.covers(cert) && (best == nil || c.nextUpdate.After(best.nextUpdate)) {
			best = c
		}
	}
	return best
}

// revoked says since when a certificate is revoked by its issuer. A stale list still says who was, and a list of other
// certificates too.
func (s crlSet) revoked(issuer, cert *x509.Certificate) (when time.Time, ok bool) {
	serial := cert.SerialNumber.Bytes()
	for _, c := range s {
		if at, named := c.revoked[string(serial)]; named && c.by(issuer) && (!ok || at.Before(when)) {
			when, ok = at, true
		}
	}
	return when, ok
}

// by says whether a list is of this authority, which may be certified twice with the same key and name.
func (c *crl) by(issuer *x509.Certificate) bool {
	return bytes.Equal(c.issuer.RawSubject, issuer.RawSubject) && bytes.Equal(c.issuer.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo)
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
		if when, ok := t.crls.revoked(chain[i+1], chain[i]); ok {
			return when, true
		}
	}
	return time.Time{}, false
}
