package tlsconf

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

const (
	minRSABits   = 2048
	minCurveBits = 256
)

// judge goes from what is worst to what is least: chain, dates, keys, usage, revocation.
func (j *Judge) judge(t *trust, shown []*x509.Certificate, now time.Time) Verdict {
	leaf := shown[0]
	v := t.verdictOn(leaf)
	if t.anchors.Empty() {
		return v.because(NotUsable, "", time.Time{})
	}
	if weak := weakSignature(leaf); weak != "" {
		return v.because(WeakKey, weak, time.Time{})
	}
	chains, at := t.chains(shown, now)
	if len(chains) == 0 {
		return v.because(ForeignChain, t.foreignDetail(shown), time.Time{})
	}
	// Cross-certified authorities give several chains: one good chain is enough.
	var worst Verdict
	for i, chain := range chains {
		w := j.judgeChain(t, v, chain, at, now)
		if w.OK() {
			return w
		}
		if i == 0 || w.Temporary() {
			worst = w
		}
	}
	return worst
}

func (j *Judge) judgeChain(t *trust, v Verdict, chain []*x509.Certificate, at, now time.Time) Verdict {
	if !at.Equal(now) {
		return datesVerdict(v, chain, now)
	}
	for i, c := range chain {
		// The signature of an anchor upon itself is not relied upon, but its key is.
		if weak := weakKey(c); weak != "" {
			return v.because(WeakKey, authority(i)+weak, time.Time{})
		}
	}
	if detail := j.usageFault(chain); detail != "" {
		return v.because(WrongUsage, detail, time.Time{})
	}
	return j.revocation(t, v, chain, now)
}

// chains builds chains valid now; failing that, chains that were or will be valid at another time, which is given back:
// so an expired certificate of ours is told from a foreign one.
func (t *trust) chains(shown []*x509.Certificate, now time.Time) ([][]*x509.Certificate, time.Time) {
	authorities, genuine := t.certified(shown)
	if !genuine {
		return nil, now
	}
	roots, configured := t.anchors.Pools()
	intermediates := configured.Clone()
	for _, c := range authorities {
		intermediates.AddCert(c)
	}
	for _, at := range t.moments(shown[0], authorities, now) {
		chains, err := shown[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: at,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // looked at later, to say what is wrong
		})
		if err == nil {
			return chains, at
		}
	}
	return nil, now
}

// moments are the times at which a chain may hold: now, then the moments at which the leaf's and the authorities'
// validities begin or end. Chains hold over intervals, so if one holds ever it holds at one of these.
func (t *trust) moments(leaf *x509.Certificate, authorities []*x509.Certificate, now time.Time) []time.Time {
	ms := []time.Time{now}
	within := func(at time.Time) {
		if !at.Before(leaf.NotBefore) && !at.After(leaf.NotAfter) && !slices.ContainsFunc(ms, at.Equal) {
			ms = append(ms, at)
		}
	}
	within(leaf.NotAfter)
	within(leaf.NotBefore)
	for _, c := range slices.Concat(authorities, t.anchors.Certs()) {
		if len(ms) >= 24 {
			break
		}
		within(c.NotAfter)
		within(c.NotBefore)
	}
	return ms
}

// datesVerdict says which certificate of a chain fails now.
func datesVerdict(v Verdict, chain []*x509.Certificate, now time.Time) Verdict {
	for i, c := range chain {
		if now.After(c.NotAfter) {
			return v.because(Expired, trimColon(authority(i)), c.NotAfter)
		}
		if now.Before(c.NotBefore) {
			return v.because(NotYetValid, trimColon(authority(i)), c.NotBefore)
		}
	}
	return v.because(ForeignChain, "authorities not valid at one time", time.Time{})
}

// authority begins a detail that is about the i-th certificate of a chain.
func authority(i int) string {
	if i == 0 {
		return ""
	}
	return "its authority: "
}

func trimColon(s string) string {
	if s == "" {
		return ""
	}
	return s[:len(s)-2]
}

func (t *trust) foreignDetail(shown []*x509.Certificate) string {
	leaf := shown[0]
	if bytes.Equal(leaf.RawSubject, leaf.RawIssuer) && selfSigned(leaf) {
		return "self-signed"
	}
	if len(leaf.UnhandledCriticalExtensions) > 0 {
		return "unknown critical extension"
	}
	issuer := func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, leaf.RawIssuer) }
	if !slices.ContainsFunc(shown[1:], issuer) && !slices.ContainsFunc(t.anchors.Certs(), issuer) {
		return "the certificate of its issuer was not sent and is not among our anchors"
	}
	return ""
}

func weakSignature(c *x509.Certificate) string {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return "signature " + c.SignatureAlgorithm.String()
	}
	return ""
}

func weakKey(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits {
			return fmt.Sprintf("RSA key of %d bits", n)
		}
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < minCurveBits {
			return fmt.Sprintf("curve of %d bits", n)
		}
	case ed25519.PublicKey:
	default:
		return "unknown kind of key"
	}
	return ""
}

// usageFault says what forbids the leaf of a chain to be used for TLS, "" if nothing.
func (j *Judge) usageFault(chain []*x509.Certificate) string {
	// RFC 5280, Section 4.2.1.3: without the extension the key may be used for anything.
	const forTLS = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	if ku := chain[0].KeyUsage; ku != 0 && ku&forTLS == 0 {
		return "key usage lacks digitalSignature, keyEncipherment and keyAgreement"
	}
	// RFC 5280, Section 4.2.1.12; an authority that has the extension limits what is below it.
	for i, c := range chain {
		if i == len(chain)-1 && i > 0 {
			break // an anchor
		}
		if !j.usageAllowed(c) {
			return authority(i) + "extended key usage is " + usageText(c) + ", expected " + j.usageWanted()
		}
	}
	return ""
}

func (j *Judge) usageAllowed(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.ContainsFunc(c.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
		return u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageAny ||
			u == x509.ExtKeyUsageServerAuth && !j.cfg.RequireClientAuth
	})
}

func (j *Judge) usageWanted() string {
	if j.cfg.RequireClientAuth {
		return "clientAuth"
	}
	return "clientAuth or serverAuth"
}

// revocation looks each certificate of the chain up in its issuer's list. The leaf's issuer must have a current one when
// lists are configured at all; that of the authorities is used when it is there.
func (j *Judge) revocation(t *trust, v Verdict, chain []*x509.Certificate, now time.Time) Verdict {
	unknown, above := false, false
	for i := 0; i < len(chain)-1 && j.looksAtRevocation(); i++ {
		if when, ok := t.crls.revoked(chain[i+1], chain[i]); ok {
			return v.because(Revoked, trimColon(authority(i)), when)
		}
		list := t.crls.of(chain[i+1], chain[i])
		if list == nil {
			unknown = unknown || i == 0
			continue
		}
		if list.stale(now, j.cfg.CRLGrace) {
			unknown, above = true, above || i > 0
		}
	}
	if len(chain) > 1 && !above {
		v.issuer = chain[1]
	}
	if unknown {
		return v.because(RevocationUnknown, "", time.Time{})
	}
	return v.because(OK, "", time.Time{})
}
