package tlsconf

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"
)

// The library neither sends nor reads nonces, and finds an answer by its serial number alone: this file does.

var (
	oidSHA1      = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidOCSPNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
)

// ocspID names a certificate: RFC 6960, Section 4.1.1, CertID. SHA-1 is what every responder knows; it protects nothing
// here.
type ocspID struct {
	HashAlgorithm pkix.AlgorithmIdentifier
	NameHash      []byte
	KeyHash       []byte
	Serial        *big.Int
}

type ocspSingleRequest struct{ Cert ocspID }

type ocspTBSRequest struct {
	List       []ocspSingleRequest
	Extensions []pkix.Extension `asn1:"explicit,tag:2,optional,omitempty"`
}

type ocspRequest struct{ TBS ocspTBSRequest }

// ocspData begins ResponseData: RFC 6960, Section 4.2.1. Elements at the end of a sequence are passed over.
type ocspData struct {
	Version    int `asn1:"optional,default:0,explicit,tag:0"`
	Responder  asn1.RawValue
	ProducedAt time.Time `asn1:"generalized"`
	Responses  []ocspSingleRequest
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

// ocspQuestion is one question about one certificate.
type ocspQuestion struct {
	leaf, issuer *x509.Certificate
	id           ocspID
	nonce        []byte // nil: none
	der          []byte
}

func newOCSPQuestion(leaf, issuer *x509.Certificate, nonce bool) (*ocspQuestion, error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil, fmt.Errorf("key of %s: %w", subjectText(issuer), err)
	}
	name, key := sha1.Sum(leaf.RawIssuer), sha1.Sum(spki.Key.RightAlign())
	q := &ocspQuestion{leaf: leaf, issuer: issuer, id: ocspID{
		HashAlgorithm: pkix.AlgorithmIdentifier{Algorithm: oidSHA1, Parameters: asn1.NullRawValue},
		NameHash:      name[:], KeyHash: key[:], Serial: leaf.SerialNumber,
	}}
	req := ocspRequest{ocspTBSRequest{List: []ocspSingleRequest{{q.id}}}}
	if nonce {
		q.nonce = make([]byte, 16) // RFC 8954, Section 2.1: 1 to 32 octets
		if _, err := rand.Read(q.nonce); err != nil {
			return nil, err
		}
		value, err := asn1.Marshal(q.nonce)
		if err != nil {
			return nil, err
		}
		req.TBS.Extensions = []pkix.Extension{{Id: oidOCSPNonce, Value: value}}
	}
	var err error
	q.der, err = asn1.Marshal(req)
	return q, err
}

// answered says whether an answer is one to this question.
func (q *ocspQuestion) answered(r *ocsp.Response) error {
	var d ocspData
	if rest, err := asn1.Unmarshal(r.TBSResponseData, &d); err != nil || len(rest) > 0 {
		return errors.New("cannot be read")
	}
	for _, s := range d.Responses {
		if s.Cert.Serial == nil || s.Cert.Serial.Cmp(q.id.Serial) != 0 {
			continue
		}
		// The library has taken the first of this serial number.
		if !s.Cert.HashAlgorithm.Algorithm.Equal(oidSHA1) || !bytes.Equal(s.Cert.NameHash, q.id.NameHash) || !bytes.Equal(s.Cert.KeyHash, q.id.KeyHash) {
			return errors.New("is about a certificate of another authority")
		}
		break
	}
	for _, e := range d.Extensions {
		if e.Id.Equal(oidOCSPNonce) {
			var got []byte
			if _, err := asn1.Unmarshal(e.Value, &got); q.nonce != nil && (err != nil || !bytes.Equal(got, q.nonce)) {
				return errors.New("is to another question (nonce)")
			}
		} else if e.Critical {
			return fmt.Errorf("has the unknown critical extension %v", e.Id)
		}
	}
	return nil
}
