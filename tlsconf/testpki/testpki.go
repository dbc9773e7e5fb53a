// Package testpki makes authorities and certificates for tests, the demo and benchmarks. Never for real mail.
package testpki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"time"
)

// KeyKind is the kind of key of a new certificate.
type KeyKind uint8

const (
	P256 KeyKind = iota
	RSA2048
	RSA1024 // weak, for the tests that refuse it
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

// Subject has the attributes of the trust space's certificates.
type Subject struct{ C, ST, L, O, OU, CN string }

// Request says what a certificate shall be; zero fields have sensible values.
type Request struct {
	Subject             Subject
	Key                 KeyKind
	DNSNames, Emails    []string
	IPs                 []string
	NotBefore, NotAfter time.Time // zero: an hour ago, a year from now
	Usages              []x509.ExtKeyUsage
	NoUsage             bool          // leave the extended key usage out
	KeyUsage            x509.KeyUsage // zero: digitalSignature
	CA                  bool
}

// Identity is a certificate with its key and the chain to show.
type Identity struct {
	Cert  *x509.Certificate
	Key   crypto.Signer
	Chain []*x509.Certificate // leaf first, without the root
}

func New() (*PKI, error)                                 { return nil, errors.ErrUnsupported }
func (a *Authority) Issue(r Request) (*Identity, error)  { return nil, errors.ErrUnsupported }
func SelfSigned(r Request) (*Identity, error)            { return nil, errors.ErrUnsupported }
func (p *PKI) Server(names ...string) (*Identity, error) { return nil, errors.ErrUnsupported }
func (p *PKI) Operator(s Subject) (*Identity, error)     { return nil, errors.ErrUnsupported }
func (p *PKI) Signer(cn, mail string) (*Identity, error) { return nil, errors.ErrUnsupported }
func (p *PKI) WriteAnchors(file string) error            { return errors.ErrUnsupported }
func (a *Authority) CRL(thisUpdate, nextUpdate time.Time, revoked ...*big.Int) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
func (id *Identity) TLS() tls.Certificate                      { return tls.Certificate{} }
func (id *Identity) DN() string                                { return "" } // as the white list prints it
func (id *Identity) WriteFiles(certFile, keyFile string) error { return errors.ErrUnsupported }
