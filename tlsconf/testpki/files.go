package testpki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"strings"
)

// Identity is a certificate with its key and the chain to show.
type Identity struct {
	Cert  *x509.Certificate
	Key   crypto.Signer
	Chain []*x509.Certificate // leaf first, without the root
}

// TLS is the identity as crypto/tls takes it.
func (id *Identity) TLS() tls.Certificate {
	c := tls.Certificate{PrivateKey: id.Key, Leaf: id.Cert}
	for _, cert := range id.Chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// DN is the subject as the white list prints it: reversed, without escapes.
func (id *Identity) DN() string {
	names := map[string]string{"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU"}
	var parts []string
	attrs := id.Cert.Subject.Names // in the order of the certificate
	for i := len(attrs) - 1; i >= 0; i-- {
		v, _ := attrs[i].Value.(string)
		parts = append(parts, names[attrs[i].Type.String()]+"="+v)
	}
	return strings.Join(parts, ",")
}

// WriteFiles writes the certificate with its chain, and the key for its owner only. Both may be the same file.
func (id *Identity) WriteFiles(certFile, keyFile string) error {
	der, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		return err
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	chain := certsPEM(id.Chain...)
	if err := os.Remove(keyFile); err != nil && !errors.Is(err, os.ErrNotExist) { // its mode would stay
		return err
	}
	if certFile == keyFile {
		return os.WriteFile(keyFile, append(chain, key...), 0o600)
	}
	if err := os.WriteFile(certFile, chain, 0o644); err != nil {
		return err
	}
	return os.WriteFile(keyFile, key, 0o600)
}

// WriteAnchors writes the root and the issuing authority into one PEM file.
func (p *PKI) WriteAnchors(file string) error {
	return os.WriteFile(file, certsPEM(p.Root.Cert, p.Issuing.Cert), 0o644)
}

// WriteCerts writes certificates into one PEM file.
func WriteCerts(file string, certs ...*x509.Certificate) error {
	return os.WriteFile(file, certsPEM(certs...), 0o644)
}

func certsPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// CRLPEM is a revocation list as PEM.
func CRLPEM(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}) }
