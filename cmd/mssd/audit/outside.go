package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Outside is a front elsewhere, and the operator whose certificate is shown to it.
type Outside struct {
	Addr  string         // host:port
	Name  string         // that its certificate must carry
	Roots *x509.CertPool // authorities of its certificate; nil: it is not verified, and nothing is sent
	Cert  tls.Certificate
	From  string // an address of a domain that the list binds to Cert
	Rcpt  string // of the front; "": its postmaster
	Send  bool   // one message to Rcpt, without content, and only if Roots is set
}

// permanent is the want of a refusal from outside: which words another operator uses is not known.
const permanent = "a refusal before DATA: 5xx, 421 4.7.1 or a TLS alert after the handshake"

// PlayOutside plays the cases that need no authority of ours: what the front lets in and what it refuses, up to RCPT.
func PlayOutside(ctx context.Context, o Outside) []Result {
	v := &visitor{ctx: ctx, o: o, front: front{addr: o.Addr, name: o.Name, roots: o.Roots}}
	good := v.mail(&o.Cert)
	good.noData = !o.Send || o.Roots == nil
	want, text := "RCPT", "MAIL and RCPT are answered 250; no message is sent"
	if !good.noData {
		want, text = "DATA", "the message is answered 250"
	}
	accepted := v.one("the operator's own certificate", "cert-valide-audit", good, text, func(s seen) bool {
		return s.At == want && strings.HasPrefix(s.Reply, "250")
	})
	plain := v.mail(nil)
	plain.clear = true
	v.one("no TLS: mail without STARTTLS", "sans-tls-audit", plain, permanent, isRefused)
	if !accepted {
		v.proven = "the good certificate was not accepted: a refusal of a bad one would prove nothing"
	}
	old := v.mail(&o.Cert)
	old.version = tls.VersionTLS11
	v.one("TLS 1.1 only", "", old, "a TLS alert", func(s seen) bool { return s.At == "STARTTLS" && strings.HasPrefix(s.Reply, alertPrefix) })
	v.one("no client certificate", "", v.mail(nil), permanent, isRefused)
	v.forged("self-signed certificate with the operator's DN", "", selfSigned)
	v.forged("certificate of a foreign authority of the same name", "cert-non-igc-audit", foreignIssued)
	for _, domain := range v.foreignDomains() {
		m := v.mail(&o.Cert)
		m.from = "autotest@" + domain
		v.one("sender of a domain that is not the operator's: "+domain, "cert-no-match-audit", m, permanent, isRefused)
	}
	return v.results
}

// visitor plays from outside.
type visitor struct {
	ctx     context.Context
	o       Outside
	front   front
	proven  string // why what follows would prove nothing, "" if it does
	results []Result
}

func (v *visitor) mail(cert *tls.Certificate) mail {
	to := v.o.Rcpt
	if to == "" {
		to = "postmaster" // RFC 5321, Section 4.5.1: there is always one
	}
	return mail{as: cert, from: v.o.From, to: to, noData: true}
}

// one plays a case of one connection.
func (v *visitor) one(name, audit string, m mail, expected string, pass func(seen) bool) bool {
	r := Result{Name: name, Audit: audit}
	if v.proven != "" {
		r.Outcome, r.Why = NotPlayed, v.proven
		v.results = append(v.results, r)
		return false
	}
	s := v.try(m)
	st := Step{Expected: expected, Seen: s.text()}
	if !pass(s) {
		st.Faults = append(st.Faults, "another reply than expected")
	}
	if s.fault != nil {
		st.Faults = append(st.Faults, s.fault.Error())
	}
	r.Steps = []Step{st}
	r.judge(v.ctx.Err())
	v.results = append(v.results, r)
	return r.Outcome == Pass
}

func (v *visitor) try(m mail) seen {
	c, err := v.front.dial(v.ctx)
	if err != nil {
		return seen{At: "connect", Reply: broken(err).Error()}
	}
	defer c.close()
	s := c.open(v.front, m)
	if s.At != "" {
		return s
	}
	if s = c.deliver(m, fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: autotest\r\nMessage-ID: <%d@%s>\r\nDate: %s\r\n\r\nMessage d'essai, sans contenu.\r\n",
		m.from, m.to, time.Now().UnixNano(), domainOf(m.from), time.Now().UTC().Format(time.RFC1123Z))); strings.HasPrefix(s.Reply, "250") {
		_, _ = c.cmd("RSET")
		_, _ = c.cmd("QUIT")
	}
	return s
}

// isRefused takes a refusal that can be told from a fault: a 5xx to the mail; an alert during or just after the handshake;
// there also 421 4.7.1 (RFC 3463, Section 3.8: not authorized), which is how Postfix says that it does not trust a certificate.
func isRefused(s seen) bool {
	switch s.At {
	case "MAIL", "RCPT":
		return strings.HasPrefix(s.Reply, "5")
	case "EHLO":
		return strings.HasPrefix(s.Reply, "5") || strings.HasPrefix(s.Reply, "421 4.7.1 ") || strings.HasPrefix(s.Reply, alertPrefix)
	case "STARTTLS":
		return strings.HasPrefix(s.Reply, alertPrefix)
	}
	return false
}

// forged plays a certificate that is made for the case.
func (v *visitor) forged(name, audit string, make func(*x509.Certificate) (*tls.Certificate, error)) {
	cert, err := make(v.o.Cert.Leaf)
	if err != nil {
		v.results = append(v.results, Result{Name: name, Audit: audit, Outcome: NotPlayed, Why: err.Error()})
		return
	}
	v.one(name, audit, v.mail(cert), permanent, isRefused)
}

// foreignDomains are those whose mail the operator must not bring: one that does not exist, and the front's own.
func (v *visitor) foreignDomains() []string {
	list := []string{"autotest.invalid"} // RFC 6761, Section 6.4
	if d := domainOf(v.o.Rcpt); d != "" && !strings.EqualFold(d, domainOf(v.o.From)) {
		list = append(list, d)
	}
	return list
}

func domainOf(address string) string {
	_, domain, _ := strings.Cut(address, "@")
	return domain
}

// selfSigned has the subject of the real one.
func selfSigned(leaf *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return forge(leaf.RawSubject, leaf, key, nil, nil)
}

// foreignIssued has the subject of the real one, under an authority that has the name of the real one's.
func foreignIssued(leaf *x509.Certificate) (*tls.Certificate, error) {
	up, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca, err := forge(leaf.RawIssuer, leaf, up, nil, nil)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return forge(leaf.RawSubject, leaf, key, ca.Leaf, up)
}

// forge makes a certificate that lasts as long as like; up nil: it signs itself, as an authority would.
func forge(subject []byte, like *x509.Certificate, key *ecdsa.PrivateKey, up *x509.Certificate, upKey *ecdsa.PrivateKey) (*tls.Certificate, error) {
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), RawSubject: subject, NotBefore: like.NotBefore, NotAfter: like.NotAfter,
		DNSNames: like.DNSNames, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: up == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	parent, signer := t, key
	if up != nil {
		parent, signer, t.KeyUsage = up, upKey, x509.KeyUsageDigitalSignature
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	if up != nil {
		cert.Certificate = append(cert.Certificate, up.Raw)
	}
	return cert, nil
}
