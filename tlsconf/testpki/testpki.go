// Package testpki makes authorities, certificates and revocation lists of an invented trust space, for the tests, the
// demo, the self test and the benchmarks. Its names say TEST everywhere.
//
// New makes a root and an issuing authority below it; Server, Operator and Signer make what the fronts, the peers and the
// white list need; Issue makes anything else, the wrong things included. Files are written with WriteFiles and
// WriteAnchors; a key is readable by its owner only.
//
// It does not keep a register of what it issued, and it is never used for real mail: nothing in the daemon imports it
// but the demo and the self test.
package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"time"
)

// KeyKind is the kind of key of a new certificate.
type KeyKind uint8

const (
	P256 KeyKind = iota
	RSA2048
	RSA1024 // weak, for the tests that refuse it; GODEBUG rsa1024min=0 must be set to make it
)

// Authority issues certificates.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	Up   *Authority // nil for a root
}

// PKI is a root and one intermediate authority, which issues.
type PKI struct {
	Root, Issuing *Authority
}

// Subject has the attributes of the trust space's certificates. Empty ones are left out.
type Subject struct{ C, ST, L, O, OU, CN string }

// Request says what a certificate shall be; zero fields have sensible values.
type Request struct {
	Subject             Subject
	Key                 KeyKind
	DNSNames, Emails    []string
	IPs                 []string
	CRLPoints           []string  // URLs of revocation lists, as the certificate names them
	NotBefore, NotAfter time.Time // zero: an hour ago, a year from now
	Usages              []x509.ExtKeyUsage
	KeyUsage            x509.KeyUsage // zero: digitalSignature and keyEncipherment (certSign and crlSign for an authority)
	CA                  bool
}

// New makes a root and an issuing authority, valid from ten years ago for thirty years.
func New() (*PKI, error) {
	root, err := NewRoot("AC RACINE TEST ELEMENTAIRE", P256)
	if err != nil {
		return nil, err
	}
	issuing, err := root.Authority("AC TEST ELEMENTAIRE ORGANISATIONS", P256)
	if err != nil {
		return nil, err
	}
	return &PKI{Root: root, Issuing: issuing}, nil
}

// NewRoot makes a self-signed authority.
func NewRoot(cn string, kind KeyKind) (*Authority, error) {
	id, err := issue(nil, authorityRequest(cn, kind))
	if err != nil {
		return nil, err
	}
	return &Authority{Cert: id.Cert, Key: id.Key}, nil
}

// Authority makes an authority below a.
func (a *Authority) Authority(cn string, kind KeyKind) (*Authority, error) {
	id, err := issue(a, authorityRequest(cn, kind))
	if err != nil {
		return nil, err
	}
	return &Authority{Cert: id.Cert, Key: id.Key, Up: a}, nil
}

func authorityRequest(cn string, kind KeyKind) Request {
	return Request{
		Subject: Subject{C: "FR", O: "TEST-SANTE", OU: "0002 000000000", CN: cn}, Key: kind, CA: true,
		NotBefore: time.Now().AddDate(-10, 0, 0), NotAfter: time.Now().AddDate(20, 0, 0),
	}
}

// Issue makes a certificate as asked for, whether it makes sense or not.
func (a *Authority) Issue(r Request) (*Identity, error) { return issue(a, r) }

// SelfSigned makes a certificate that no authority stands behind.
func SelfSigned(r Request) (*Identity, error) { return issue(nil, r) }

// Server makes the certificate of one of our fronts. Names that are IP addresses become such.
func (p *PKI) Server(names ...string) (*Identity, error) {
	r := Request{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if net.ParseIP(n) != nil {
			r.IPs = append(r.IPs, n)
			continue
		}
		r.DNSNames = append(r.DNSNames, n)
	}
	r.Subject = Subject{C: "FR", ST: "Paris (75)", O: "OPERATEUR TEST", OU: "300000000000001", CN: "operateur.test"}
	if len(r.DNSNames) > 0 {
		r.Subject.CN = r.DNSNames[0]
	}
	return p.Issuing.Issue(r)
}

// Operator makes the certificate with which another operator connects to us.
func (p *PKI) Operator(s Subject) (*Identity, error) {
	r := Request{Subject: s, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if s.CN != "" {
		r.DNSNames = []string{s.CN}
	}
	return p.Issuing.Issue(r)
}

// Signer makes the certificate that signs a white list: of the S/MIME family, RSA, as the real one is.
func (p *PKI) Signer(cn, mail string) (*Identity, error) {
	return p.Issuing.Issue(Request{
		Subject: Subject{C: "FR", ST: "Paris (75)", O: "SIGNATAIRE TEST", OU: "300000000000002", CN: cn},
		Key:     RSA2048, Emails: []string{mail},
		Usages:   []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
	})
}

func newKey(kind KeyKind) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	}
	return nil, fmt.Errorf("testpki: unknown kind of key %d", kind)
}

func issue(up *Authority, r Request) (*Identity, error) {
	key, err := newKey(r.Key)
	if err != nil {
		return nil, err
	}
	t, err := template(r)
	if err != nil {
		return nil, err
	}
	parent, signer := t, key
	if up != nil {
		parent, signer = up.Cert, up.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("testpki: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("testpki: %w", err)
	}
	id := &Identity{Cert: cert, Key: key, Chain: []*x509.Certificate{cert}}
	for a := up; a != nil && a.Up != nil; a = a.Up {
		id.Chain = append(id.Chain, a.Cert)
	}
	return id, nil
}

func template(r Request) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	subject, err := r.Subject.raw()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, RawSubject: subject,
		NotBefore: r.NotBefore, NotAfter: r.NotAfter,
		DNSNames: r.DNSNames, EmailAddresses: r.Emails,
		ExtKeyUsage: r.Usages, KeyUsage: r.KeyUsage,
		BasicConstraintsValid: true, IsCA: r.CA, CRLDistributionPoints: r.CRLPoints,
	}
	for _, s := range r.IPs {
		ip := net.ParseIP(s)
		if ip == nil {
			return nil, fmt.Errorf("testpki: %q is not an IP address", s)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	if t.KeyUsage == 0 && r.CA {
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	} else if t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	return t, nil
}

// raw is the subject in the order of the trust space's certificates, one attribute each.
func (s Subject) raw() ([]byte, error) {
	var seq pkix.RDNSequence
	for _, a := range []struct {
		arc   int
		value string
	}{{6, s.C}, {8, s.ST}, {7, s.L}, {10, s.O}, {11, s.OU}, {3, s.CN}} {
		if a.value == "" {
			continue
		}
		typ := asn1.ObjectIdentifier{2, 5, 4, a.arc}
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: typ, Value: a.value}})
	}
	return asn1.Marshal(seq)
}

// CRL makes a revocation list of a's own, DER; the revoked certificates were revoked at thisUpdate.
func (a *Authority) CRL(thisUpdate, nextUpdate time.Time, revoked ...*big.Int) ([]byte, error) {
	list := &x509.RevocationList{
		Number: big.NewInt(thisUpdate.Unix()), ThisUpdate: thisUpdate, NextUpdate: nextUpdate,
	}
	for _, n := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: n, RevocationTime: thisUpdate})
	}
	return x509.CreateRevocationList(rand.Reader, list, a.Cert, a.Key)
}

// DeltaCRL makes a delta list of a's own (RFC 5280, Section 5.2.4), based on the full list made at base; lifted are the
// serial numbers that are no longer revoked.
func (a *Authority) DeltaCRL(base, thisUpdate, nextUpdate time.Time, revoked, lifted []*big.Int) ([]byte, error) {
	number, err := asn1.Marshal(big.NewInt(base.Unix()))
	if err != nil {
		return nil, err
	}
	list := &x509.RevocationList{Number: big.NewInt(thisUpdate.Unix()), ThisUpdate: thisUpdate, NextUpdate: nextUpdate,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: number}}}
	for _, n := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: thisUpdate})
	}
	for _, n := range lifted {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: thisUpdate, ReasonCode: 8})
	}
	return x509.CreateRevocationList(rand.Reader, list, a.Cert, a.Key)
}
