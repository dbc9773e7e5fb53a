package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// staplePKI is one authority and one certificate that names a responder. (testpki imports this package.)
type staplePKI struct {
	root      *x509.Certificate
	rootKey   *ecdsa.PrivateKey
	leaf      *x509.Certificate
	url       string
	cert, key string // files
}

func newStaplePKI(t *testing.T, url string) *staplePKI {
	t.Helper()
	return newStaplePKIIn(t, url, t.TempDir())
}

func newStaplePKIIn(t testing.TB, url, dir string) *staplePKI {
	t.Helper()
	p := &staplePKI{url: url, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "AC TEST"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign}
	p.rootKey, p.root = p.make(t, tmpl, tmpl, nil)
	p.write(t)
	return p
}

func (p *staplePKI) make(t testing.TB, tmpl, up *x509.Certificate, upKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if upKey == nil {
		upKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, up, key.Public(), upKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, c
}

// write makes a new certificate for the front.
func (p *staplePKI) write(t testing.TB) {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "mx.test"}, DNSNames: []string{"mx.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 6, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	if p.url != "" {
		tmpl.OCSPServer = []string{"ldap://repondeur.test/", p.url}
	}
	key, leaf := p.make(t, tmpl, p.root, p.rootKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.leaf = leaf
	for file, block := range map[string]*pem.Block{p.cert: {Type: "CERTIFICATE", Bytes: leaf.Raw}, p.key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *staplePKI) answer(t testing.TB, status int, this, next time.Time) []byte {
	t.Helper()
	der, err := ocsp.CreateResponse(p.root, p.root, ocsp.Response{Status: status, SerialNumber: p.leaf.SerialNumber, ThisUpdate: this, NextUpdate: next, RevokedAt: this}, p.rootKey)
	if err != nil {
		t.Error(err)
	}
	return der
}
