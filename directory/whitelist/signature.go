package whitelist

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
)

const (
	listNS = "https://listeblanche.mssante.fr/schema"
	dsigNS = "http://www.w3.org/2000/09/xmldsig#"

	algC14N      = "http://www.w3.org/2001/10/xml-exc-c14n#"
	algRSASHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	algEnveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	algSHA256    = "http://www.w3.org/2001/04/xmlenc#sha256"

	maxSignerCerts = 5
	minSignerBits  = 2048
	maxSignerBits  = 8192 // RSA verification grows with the square
)

// ErrSignature says that a list is not what its signer signed.
var ErrSignature = errors.New("signature does not verify")

// signed is a document cut in two: what was signed, and the signature.
type signed struct {
	body       []byte // canonical form of the root without Signature
	signedInfo []byte // canonical form of SignedInfo
	digest     []byte
	value      []byte
	certs      []*x509.Certificate // the signer's first
}

// split reads the whole document once.
func split(doc []byte) (*signed, error) {
	s := &scanner{b: doc}
	if err := s.prolog(); err != nil {
		return nil, err
	}
	out := &signed{body: make([]byte, 0, len(doc))}
	root, err := s.next()
	if err != nil {
		return nil, err
	}
	if root.name != "ListeBlancheMSSante" || root.attr != "xmlns" || root.value != listNS || root.empty {
		return nil, s.fail(root.offset, `<ListeBlancheMSSante xmlns="`+listNS+`">`)
	}
	out.body = appendCanonical(out.body, root, "")
	for {
		t, err := s.next()
		switch {
		case err != nil:
			return nil, err
		case t.kind == tokEOF:
			if out.value == nil {
				return nil, s.fail(t.offset, "a Signature before the end of the root: the list is not signed")
			}
			return out, nil
		case t.kind == tokStart && t.name == "Signature":
			if len(s.stack) != 2 || out.value != nil {
				return nil, s.fail(t.offset, "one Signature only, as a child of the root")
			}
			if err := out.readSignature(s, t); err != nil {
				return nil, err
			}
			continue
		case t.kind == tokStart && t.attr != "":
			return nil, s.fail(t.offset, "<"+t.name+"> without attributes")
		case t.kind != tokText && len(s.stack) > 0 && out.value != nil:
			return nil, s.fail(t.offset, "the Signature as the last child of the root")
		}
		out.body = appendCanonical(out.body, t, "")
	}
}

// sigForm is the form of a Signature: its elements in order, the one attribute each must have, and what its text is.
// It leaves no choice but the three base64 values and the number of certificates.
type sigElement struct {
	name, attr, value string
	children          []sigElement
	base64            bool
}

var sigForm = sigElement{name: "Signature", attr: "xmlns", value: dsigNS, children: []sigElement{
	{name: "SignedInfo", children: []sigElement{
		{name: "CanonicalizationMethod", attr: "Algorithm", value: algC14N},
		{name: "SignatureMethod", attr: "Algorithm", value: algRSASHA256},
		{name: "Reference", attr: "URI", value: "", children: []sigElement{
			{name: "Transforms", children: []sigElement{
				{name: "Transform", attr: "Algorithm", value: algEnveloped},
				{name: "Transform", attr: "Algorithm", value: algC14N},
			}},
			{name: "DigestMethod", attr: "Algorithm", value: algSHA256},
			{name: "DigestValue", base64: true},
		}},
	}},
	{name: "SignatureValue", base64: true},
	{name: "KeyInfo", children: []sigElement{
		{name: "X509Data", children: []sigElement{{name: "X509Certificate", base64: true}}},
	}},
}}

func (e sigElement) tag() string {
	if e.attr == "" {
		return "<" + e.name + ">"
	}
	return "<" + e.name + " " + e.attr + `="` + e.value + `">`
}

func (out *signed) readSignature(s *scanner, start token) error {
	r := sigReader{s: s, out: out}
	if err := r.expectStart(start, sigForm); err != nil {
		return err
	}
	return r.inside(sigForm, start)
}

// sigReader follows sigForm through the document.
type sigReader struct {
	s    *scanner
	out  *signed
	info bool // within SignedInfo, which is copied in canonical form
}

func (r *sigReader) expectStart(t token, e sigElement) error {
	if t.kind != tokStart || t.name != e.name || t.attr != e.attr || t.value != e.value {
		return r.s.fail(t.offset, e.tag())
	}
	return nil
}

func (r *sigReader) next() (token, error) {
	t, err := r.s.next()
	if err == nil && r.info {
		r.out.signedInfo = appendCanonical(r.out.signedInfo, t, "")
	}
	return t, err
}

// inside reads what follows the start of e, its end included.
func (r *sigReader) inside(e sigElement, start token) error {
	if e.base64 {
		return r.base64Value(e, start)
	}
	t, err := r.skipBlank()
	for i := 0; i < len(e.children) && err == nil; {
		if err = r.expectStart(t, e.children[i]); err != nil {
			return err
		}
		if err = r.child(e.children[i], t); err != nil {
			return err
		}
		t, err = r.skipBlank()
		// Certificates may follow one another, the signer's first.
		if err == nil && e.name == "X509Data" && t.kind == tokStart && len(r.out.certs) < maxSignerCerts {
			continue
		}
		i++
	}
	if err != nil {
		return err
	}
	if t.kind != tokEnd {
		return r.s.fail(t.offset, "</"+e.name+">")
	}
	return nil
}

// child reads one element; SignedInfo gets the namespace that it inherits (Exclusive XML Canonicalization, Section 3).
func (r *sigReader) child(e sigElement, start token) error {
	if e.name != "SignedInfo" {
		return r.inside(e, start)
	}
	r.out.signedInfo = appendCanonical(nil, start, dsigNS)
	r.info = true
	defer func() { r.info = false }()
	return r.inside(e, start)
}

// skipBlank gives the next token that is not white space between elements: line feeds and blanks only.
func (r *sigReader) skipBlank() (token, error) {
	t, err := r.next()
	if err != nil || t.kind != tokText {
		return t, err
	}
	// White space outside SignedInfo is not signed, so none is allowed there.
	if !r.info || len(bytes.Trim(t.text, " \n")) > 0 {
		return t, r.s.fail(t.offset, "no text between the elements of the Signature")
	}
	return r.next()
}

func (r *sigReader) base64Value(e sigElement, start token) error {
	t, err := r.next()
	if err != nil {
		return err
	}
	if t.kind != tokText {
		return r.s.fail(t.offset, "base64 in "+e.name)
	}
	b, ok := decodeBase64(t.text)
	if !ok {
		return r.s.fail(t.offset, "base64 in "+e.name)
	}
	switch e.name {
	case "DigestValue":
		r.out.digest = b
	case "SignatureValue":
		r.out.value = b
	case "X509Certificate":
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return r.s.fail(t.offset, "a certificate in X509Certificate ("+err.Error()+")")
		}
		r.out.certs = append(r.out.certs, c)
	}
	if t, err = r.next(); err == nil && t.kind != tokEnd {
		err = r.s.fail(t.offset, "</"+e.name+">")
	}
	return err
}

// decodeBase64 takes lines ended by CR LF or LF, as XML signers write them, and nothing else that is not base64: what
// stands here is not covered by the signature, so nothing is tolerated that could be changed without notice.
func decodeBase64(text []byte) ([]byte, bool) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	var joined []byte
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if len(line) == 0 || bytes.IndexByte(line, '\r') >= 0 {
			return nil, false
		}
		joined = append(joined, line...)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(string(joined))
	return b, err == nil && len(b) > 0
}

// verify checks digest and signature value; whether the signer may sign is another question.
func (d *signed) verify() error {
	sum := sha256.Sum256(d.body)
	if subtle.ConstantTimeCompare(sum[:], d.digest) != 1 {
		return fmt.Errorf("%w: the list was changed after it was signed (digest)", ErrSignature)
	}
	key, ok := d.certs[0].PublicKey.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: signer's key is not RSA", ErrSignature)
	}
	if n := key.N.BitLen(); n < minSignerBits || n > maxSignerBits {
		return fmt.Errorf("%w: signer's key has %d bits, expected %d to %d", ErrSignature, n, minSignerBits, maxSignerBits)
	}
	info := sha256.Sum256(d.signedInfo)
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, info[:], d.value); err != nil {
		return fmt.Errorf("%w: not made by the key of %s", ErrSignature, d.certs[0].Subject)
	}
	return nil
}
