package tlsconf

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const maxCertsInFile = 1000

// parseCerts reads one DER certificate or the certificates of a PEM file, at least one.
func parseCerts(b []byte) ([]*x509.Certificate, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("not a certificate, neither PEM nor DER: %w", err)
		}
		return []*x509.Certificate{c}, nil
	}
	var certs []*x509.Certificate
	blocks := bytes.Count(b, []byte("-----BEGIN "))
	for n := 1; ; n++ {
		block, rest := pem.Decode(b)
		if block == nil {
			// pem.Decode passes over what it cannot read: an authority would be missing and nobody told.
			if n <= blocks {
				return nil, fmt.Errorf("%d of %d PEM blocks cannot be read: expected whole blocks, from -----BEGIN to -----END", blocks-n+1, blocks)
			}
			break
		}
		b = rest
		if block.Type == "PKCS7" {
			return nil, errors.New(`PKCS#7 is not read: convert it with "openssl pkcs7 -print_certs"`)
		}
		if block.Type == "TRUSTED CERTIFICATE" {
			return nil, errors.New(`TRUSTED CERTIFICATE is not read: convert it with "openssl x509"`)
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d is not a certificate: %w", n, err)
		}
		if certs = append(certs, c); len(certs) > maxCertsInFile {
			return nil, fmt.Errorf("more than %d certificates", maxCertsInFile)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in this PEM file")
	}
	return certs, nil
}

// parseKey reads the first private key of a PEM file.
func parseKey(b []byte) (crypto.Signer, error) {
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, errors.New("no private key in this file, expected PEM")
		}
		b = rest
		if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") || block.Type == "ENCRYPTED PRIVATE KEY" {
			return nil, errors.New("private key is encrypted, expected one without a passphrase")
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		// The parsers' errors may quote the key: none of them is repeated.
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if s, ok := k.(crypto.Signer); ok {
				return s, nil
			}
			return nil, fmt.Errorf("private key of a kind that does not sign (%T)", k)
		}
		if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return k, nil
		}
		if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return k, nil
		}
		return nil, errors.New("private key cannot be read: expected PKCS#8, PKCS#1 or SEC 1")
	}
}

// subjectText names a certificate in errors and logs.
func subjectText(c *x509.Certificate) string {
	dn, err := DNFromRaw(c.RawSubject)
	if err != nil || dn.IsZero() {
		return fmt.Sprintf("serial %X", c.SerialNumber)
	}
	return dn.String()
}
