package tlsconf_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// issuingPoint is the DER of an issuingDistributionPoint: a URL, "" none, and the flags of that tag numbers.
func issuingPoint(t testing.TB, url string, flags ...int) []byte {
	t.Helper()
	var body []byte
	tagged := func(tag int, compound bool, b []byte) []byte {
		return must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: b}))(t)
	}
	if url != "" {
		body = tagged(0, true, tagged(0, true, tagged(6, false, []byte(url))))
	}
	for _, f := range flags {
		body = append(body, tagged(f, false, map[bool][]byte{true: {0xff}, false: {7, 0x80}}[f != 3])...)
	}
	return must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: body}))(t)
}

// scoped makes a list with an issuingDistributionPoint and writes it to a file.
func (c *court) scoped(t testing.TB, name string, a *testpki.Authority, point []byte, revoked ...*big.Int) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: c.now.Add(-time.Hour), NextUpdate: c.now.Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: point}}}
	for _, n := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: c.now})
	}
	file := filepath.Join(c.dir, name)
	if err := os.WriteFile(file, must(x509.CreateRevocationList(rand.Reader, list, a.Cert, a.Key))(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A list of a part of the certificates says nothing of the others, and one of another kind is not taken.
func TestListsOfAPart(t *testing.T) {
	c := newCourt(t)
	const here, there = "http://crl.test/1.crl", "http://crl.test/2.crl"
	issue := func(points ...string) *testpki.Identity {
		return must(c.pki.Issuing.Issue(testpki.Request{Subject: operator, CRLPoints: points}))(t)
	}
	inHere, inThere, both, none := issue(here), issue(there), issue(there, here), issue()
	one := c.scoped(t, "1.crl", c.pki.Issuing, issuingPoint(t, here), inHere.Cert.SerialNumber)
	two := c.scoped(t, "2.crl", c.pki.Issuing, issuingPoint(t, there))
	users := c.scoped(t, "users.crl", c.pki.Issuing, issuingPoint(t, "", 1), inThere.Cert.SerialNumber)
	authors := c.scoped(t, "authors.crl", c.pki.Issuing, issuingPoint(t, "", 2))
	for _, tt := range []struct {
		name  string
		lists []string
		peer  *testpki.Identity
		want  tlsconf.Reason
	}{
		{"named by its list", []string{one}, inHere, tlsconf.Revoked},
		{"named by its list among two", []string{two, one}, inHere, tlsconf.Revoked},
		{"named by another list", []string{two, users}, inThere, tlsconf.Revoked},
		{"its list does not name it", []string{one, two}, inThere, tlsconf.OK},
		{"its list is missing", []string{one}, inThere, tlsconf.RevocationUnknown},
		{"one of its lists", []string{one}, both, tlsconf.OK},
		{"it has no place", []string{one, two}, none, tlsconf.RevocationUnknown},
		{"list of all but authorities", []string{users}, inThere, tlsconf.Revoked},
		{"list of all but authorities, not in it", []string{users}, none, tlsconf.OK},
		{"list of authorities", []string{authors}, none, tlsconf.RevocationUnknown},
	} {
		j := c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = tt.lists })
		if v := j.Certificates(tt.peer.Chain); v.Reason != tt.want {
			t.Errorf("%s: %v, want %v; %v", tt.name, v.Reason, tt.want, j.Usable())
		}
	}
	for want, point := range map[string][]byte{
		"indirect": issuingPoint(t, here, 4), "attribute certificates": issuingPoint(t, "", 5), "some reasons": issuingPoint(t, here, 3), "cannot be read": {4, 0},
	} {
		file := c.scoped(t, "bad.crl", c.pki.Issuing, point)
		j := c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = []string{file} })
		if err := j.Usable(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Usable: %v, want %q", err, want)
		}
	}
}

// Genuine lists that are not the one of this URL do not take its place.
func TestFetchedListKeepsItsKind(t *testing.T) {
	c, p := newCourt(t), newPoint(t)
	leaf := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator}))(t)
	j := c.judge(t, func(cfg *tlsconf.JudgeConfig) {
		cfg.CRLURLs, cfg.CRLDir = []string{p.URL}, filepath.Join(c.dir, "crl")
	})
	next := c.now.Add(24 * time.Hour)
	p.publish(must(c.pki.Issuing.CRL(c.now.Add(-time.Hour), next))(t))
	if err := j.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"of the root": must(c.pki.Root.CRL(c.now, next))(t),
		"delta list":  must(c.pki.Issuing.DeltaCRL(c.now.Add(-time.Hour), c.now, next, nil, nil))(t),
		"of a part":   must(os.ReadFile(c.scoped(t, "part.crl", c.pki.Issuing, issuingPoint(t, "http://crl.test/"))))(t),
	} {
		p.publish(b)
		if err := j.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "at one URL stands one list") {
			t.Errorf("%s: %v", name, err)
		}
		if v := j.Certificates(leaf.Chain); !v.OK() {
			t.Errorf("%s: the list held is lost: %s", name, v.Text())
		}
	}
}
