package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mssd/store"
	"mssd/tlsconf"
)

// CertMember is the family of member ids that stand for certificates: "cert:OU=300000000000009,CN=app.exemple.test". A
// certificate is this member if its subject has all these attributes, and, behind ";issuer=", its issuer all those.
const CertMember = "cert:"

const (
	issuerMark  = ";issuer="
	rejudge     = time.Minute // between two judgements on the certificate of a session
	anyOneOf    = "CN, OU or serialNumber"
	maxCertName = 512 // octets of a member id
)

// certName is what a certificate must carry to be a member.
type certName struct{ subject, issuer tlsconf.DN }

// ParseCertMember reads the id of a certificate and gives the form in which it is kept.
func ParseCertMember(id string) (string, error) {
	n, err := parseCertMember(id)
	if err != nil {
		return "", err
	}
	canonical := CertMember + n.subject.String()
	if !n.issuer.IsZero() {
		canonical += issuerMark + n.issuer.String()
	}
	return canonical, nil
}

func parseCertMember(id string) (certName, error) {
	text, ok := strings.CutPrefix(id, CertMember)
	if !ok || len(id) > maxCertName {
		return certName{}, fmt.Errorf("auth: not %s and a name of at most %d octets", CertMember, maxCertName)
	}
	subject, issuer, withIssuer := strings.Cut(text, issuerMark)
	var n certName
	var err error
	if n.subject, err = tlsconf.ParseDN(subject); err != nil {
		return n, fmt.Errorf("auth: subject: %w", err)
	}
	// "C=FR" alone would let every holder of a certificate in.
	if !slices.ContainsFunc([]string{"CN", "OU", "serialNumber"}, n.subject.Names) {
		return n, errors.New("auth: the subject needs one of " + anyOneOf)
	}
	if withIssuer {
		if n.issuer, err = tlsconf.ParseDN(issuer); err != nil || n.issuer.IsZero() {
			return n, errors.New("auth: the issuer is not a name")
		}
	}
	return n, nil
}

func (n certName) matches(subject, issuer tlsconf.DN) bool {
	return subject.Has(n.subject) && (n.issuer.IsZero() || issuer.Has(n.issuer))
}

// Certificate logs in to a BAL with the certificate of the peer. address "" is the only BAL that it opens.
func (a *Authenticator) Certificate(ctx context.Context, address string, peer Peer) (*Principal, error) {
	if a.cfg.JudgeCert == nil {
		return nil, &Refusal{Err: ErrCredentials, Reason: "NoCertificates"}
	}
	v := a.cfg.JudgeCert(ctx, peer.Certs)
	switch {
	case v.Temporary():
		return nil, fmt.Errorf("%w: %s", ErrUnavailable, v.Reason)
	case !v.OK():
		return nil, &Refusal{Err: ErrCredentials, Reason: "Certificate_" + v.Reason.String()}
	case !strings.Contains(v.Usage, "clientAuth"):
		return nil, &Refusal{Err: ErrCredentials, Reason: "Certificate_" + tlsconf.WrongUsage.String()}
	}
	issuer, err := tlsconf.DNFromRaw(v.Leaf.RawIssuer)
	if err != nil {
		return nil, &Refusal{Err: ErrCredentials, Reason: "Certificate_" + tlsconf.ForeignChain.String()}
	}
	now, subject := a.cfg.Now(), v.DN
	// Only who holds the key of a trusted certificate comes here: failures are counted for it, not for its address.
	key := CertMember + subject.Key()
	g, reason, err := a.certGrant(address, subject, issuer, now)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case reason != "" && a.persons.blocked(key, now):
		return nil, &Refusal{Err: ErrThrottled, Reason: "Throttled", Person: certPerson(subject), BAL: g.BAL.Address}
	case reason != "":
		a.persons.fail(key, guess{}, now)
		return nil, &Refusal{Err: ErrCredentials, Reason: reason, Person: certPerson(subject), BAL: g.BAL.Address}
	}
	p := &Principal{Person: g.member, Method: "certificate", Grants: []Grant{g}, Until: v.Leaf.NotAfter, certs: peer.Certs}
	p.judged.Store(now.UnixNano())
	return p, nil
}

// certPerson names who shows a certificate that is nobody's.
func certPerson(subject tlsconf.DN) string {
	name := CertMember + subject.String()
	return name[:min(len(name), maxCertName)]
}

// certGrant finds the BAL and the membership of a certificate, or the reason why there is none.
func (a *Authenticator) certGrant(address string, subject, issuer tlsconf.DN, now time.Time) (Grant, string, error) {
	if address == "" {
		return a.onlyBAL(subject, issuer, now)
	}
	if len(address) > maxUser {
		return Grant{}, "NoBAL", nil
	}
	bal, err := a.cfg.Store.BAL(store.Address(strings.ToLower(address)))
	g := Grant{BAL: bal}
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return g, "", err
	case err != nil:
		return Grant{}, "NoBAL", nil
	case bal.State != store.Active:
		return g, "BALNotActive", nil
	case !slices.Contains(a.cfg.CertKinds, bal.Kind):
		return g, "KindWithoutCertificates", nil
	}
	m, ok, over := a.certMember(bal.ID, subject, issuer, now)
	if !ok && over {
		return g, "RightNotInForce", nil
	}
	if !ok {
		return g, "NoRight", nil
	}
	g.Role, g.member = m.Role, m.ID
	return g, "", nil
}

// certMember is the membership of a certificate with the most rights; over tells that there was one.
func (a *Authenticator) certMember(bal store.BALID, subject, issuer tlsconf.DN, now time.Time) (best store.Member, ok, over bool) {
	for _, m := range a.cfg.Store.Members(bal) {
		if !strings.HasPrefix(m.ID, CertMember) {
			continue
		}
		n, err := parseCertMember(m.ID)
		switch {
		case err != nil || !n.matches(subject, issuer):
		case !m.Active(now):
			over = true
		case !ok || m.Role < best.Role: // roles count down
			best, ok = m, true
		}
	}
	return best, ok, over
}

// onlyBAL is the BAL that a certificate opens when it names none.
func (a *Authenticator) onlyBAL(subject, issuer tlsconf.DN, now time.Time) (found Grant, reason string, err error) {
	for _, bal := range a.cfg.Store.BALs() {
		if bal.State != store.Active || !slices.Contains(a.cfg.CertKinds, bal.Kind) {
			continue
		}
		m, ok, _ := a.certMember(bal.ID, subject, issuer, now)
		if !ok {
			continue
		}
		if found.member != "" {
			return Grant{}, "SeveralBALs", nil
		}
		found = Grant{BAL: bal, Role: m.Role, member: m.ID}
	}
	if found.member == "" {
		return found, "NoRight", nil
	}
	return found, "", nil
}

// stillTrusted judges the certificate of a session again, now and then: it may have been revoked. Where nobody can tell for
// now the session goes on. Once refused it stays so: whoever asks first may not be who ends the session.
func (a *Authenticator) stillTrusted(p *Principal, now time.Time) bool {
	if p.refused.Load() {
		return false
	}
	last := p.judged.Load()
	if len(p.certs) == 0 || now.UnixNano()-last < int64(rejudge) || !p.judged.CompareAndSwap(last, now.UnixNano()) {
		return true
	}
	v := a.cfg.JudgeCert(context.Background(), p.certs)
	if !v.OK() && !v.Temporary() {
		p.refused.Store(true)
	}
	return !p.refused.Load()
}

// leaf is the peer's own certificate, nil without one.
func (p Peer) leaf() *x509.Certificate {
	if len(p.Certs) == 0 {
		return nil
	}
	return p.Certs[0]
}
