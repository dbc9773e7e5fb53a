package testpki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"
)

// OCSP says what a responder answers. Zero fields have sensible values.
type OCSP struct {
	Status     int // ocsp.Good, ocsp.Revoked, ocsp.Unknown
	RevokedAt  time.Time
	ThisUpdate time.Time         // zero: now
	NextUpdate time.Time         // zero: an hour after ThisUpdate
	By         *Identity         // a responder to which the authority delegated; nil: the authority itself
	Named      *x509.Certificate // the issuer that the answer names; nil: the authority
	Nonce      []byte            // in the answer; nil: none
}

// OCSPAnswer makes the signed answer of a's responder about the certificate of a serial number: DER.
func (a *Authority) OCSPAnswer(serial *big.Int, o OCSP) ([]byte, error) {
	t := ocsp.Response{Status: o.Status, SerialNumber: serial, ThisUpdate: o.ThisUpdate, NextUpdate: o.NextUpdate, RevokedAt: o.RevokedAt}
	if t.ThisUpdate.IsZero() {
		t.ThisUpdate = time.Now()
	}
	if t.NextUpdate.IsZero() {
		t.NextUpdate = t.ThisUpdate.Add(time.Hour)
	}
	by, key, named := a.Cert, a.Key, o.Named
	if o.By != nil {
		by, key, t.Certificate = o.By.Cert, o.By.Key, o.By.Cert
	}
	if named == nil {
		named = a.Cert
	}
	der, err := ocsp.CreateResponse(named, by, t, key)
	if err != nil || o.Nonce == nil {
		return der, err
	}
	return withNonce(der, o.Nonce, key)
}

// withNonce puts a nonce into an answer and signs it again (the library cannot); the key must be of a curve.
func withNonce(der, nonce []byte, key crypto.Signer) ([]byte, error) {
	var outer struct {
		Status   asn1.Enumerated
		Response struct {
			Type asn1.ObjectIdentifier
			Body []byte
		} `asn1:"explicit,tag:0"`
	}
	var basic struct {
		Data      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
		Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional,omitempty"`
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, fmt.Errorf("testpki: %w", err)
	}
	if _, err := asn1.Unmarshal(outer.Response.Body, &basic); err != nil {
		return nil, fmt.Errorf("testpki: %w", err)
	}
	value, err := asn1.Marshal(nonce)
	if err != nil {
		return nil, err
	}
	ext, err := asn1.MarshalWithParams([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, Value: value}}, "explicit,tag:1")
	if err != nil {
		return nil, err
	}
	data, err := asn1.Marshal(asn1.RawValue{Class: basic.Data.Class, Tag: basic.Data.Tag, IsCompound: true, Bytes: append(basic.Data.Bytes, ext...)})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	basic.Data, basic.Signature = asn1.RawValue{FullBytes: data}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	if outer.Response.Body, err = asn1.Marshal(basic); err != nil {
		return nil, err
	}
	return asn1.Marshal(outer)
}
