package tlsconf

import (
	"bytes"
	"crypto/x509"
	"slices"
)

// maxSignatures bounds the signatures that are checked to find out what of a chain is genuine.
const maxSignatures = 64

// certified finds, from our anchors down, which of the certificates shown behind the first an authority of ours has
// certified, directly or through others of them, and whether the first one is. Whatever a stranger made himself is left
// out at the price of a signature check or two, with a key of ours; else he could make us try chains by the thousand:
// what is left can only be a chain that our authorities have made.
func (t *trust) certified(shown []*x509.Certificate) (authorities []*x509.Certificate, leaf bool) {
	left := maxSignatures
	known := slices.Clone(t.anchors.Certs())
	by := func(c *x509.Certificate, issuers []*x509.Certificate) bool {
		for _, up := range issuers {
			if !bytes.Equal(up.RawSubject, c.RawIssuer) {
				continue
			}
			if left--; left < 0 {
				return false
			}
			if up.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
				return true
			}
		}
		return false
	}
	var open []*x509.Certificate // neither known nor looked at with all that is known
	for _, c := range shown[1:] {
		if !slices.ContainsFunc(known, c.Equal) && !slices.ContainsFunc(open, c.Equal) {
			open = append(open, c)
		}
	}
	for from := 0; from < len(known); { // each pair once
		issuers := known[from:]
		from = len(known)
		open = slices.DeleteFunc(open, func(c *x509.Certificate) bool {
			if !by(c, issuers) {
				return false
			}
			known = append(known, c)
			authorities = append(authorities, c)
			return true
		})
	}
	return authorities, t.anchors.has(shown[0]) || by(shown[0], known)
}
