package audit

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"mssd/directory/whitelist"
	"mssd/tlsconf/testpki"
)

// A Stage is one start of the instance, with trust settings of its own, and the cases that are played against it.
type Stage struct {
	Name string
	// Anchors, CRLs and CRLURLs are the settings of the same names; the list's signer is judged under Trust.Anchors.
	Anchors, CRLs, CRLURLs []string
	// OCSPURL is where the responder is asked, whose answer is then required; "": none is asked.
	OCSPURL string
	cases   []func(*player)
}

// Stages are all cases, in the order of the report. nowhere is the URL of a place where nobody listens.
func (t *Trust) Stages(nowhere string) []Stage {
	return []Stage{
		{Name: "as installed", Anchors: []string{t.Anchors}, CRLs: t.CRLs, cases: []func(*player){
			accepts, certificates, names, channel, recipients, resumption, keptConnection, renegotiation, badLists, removal, oldSigner, oldCRL}},
		{Name: "only the root is an anchor", Anchors: []string{t.Root}, cases: []func(*player){missingIntermediate}},
		{Name: "no revocation list can be had", Anchors: []string{t.Anchors}, CRLURLs: []string{nowhere}, cases: []func(*player){noCRL}},
		{Name: "OCSP is required, no responder answers", Anchors: []string{t.Anchors}, CRLs: t.CRLs, OCSPURL: nowhere, cases: []func(*player){noOCSP}},
	}
}

// Play plays a stage against the instance at addr. When ctx ends, what was not played has failed.
func (t *Trust) Play(ctx context.Context, s Stage, addr string, w Witness) []Result {
	p := &player{ctx: ctx, trust: t, witness: w, front: front{addr: addr, name: Hostname, roots: t.roots()}}
	for _, play := range s.cases {
		play(p)
	}
	return p.finish()
}

// one is a case of a single mail.
func (p *player) one(name, audit string, m mail, w want) {
	p.begin(name, audit)
	p.try("", m, w)
}

// from is mail of a peer to the BAL that takes it.
func (p *player) from(who, sender string) mail {
	cert := p.trust.peers[who].TLS()
	return mail{as: &cert, from: sender, to: Active}
}

const (
	sender   = "medecin@" + partnerDomain
	notBound = "550 5.7.1 certificate not bound to the sender's domain in the white list"
	foreign  = "550 5.7.1 certificate is not issued by a trusted authority"
	unknown  = "451 4.7.1 revocation of the certificate cannot be checked now"
)

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func accepts(p *player) {
	p.one("valid certificate, bound to the sender's domain", "cert-valide-audit", p.from("partner", sender), accepted)
	p.one("the operator itself, with its own certificate", "tests-operateur", p.from("own", Active), accepted)
	p.one("null sender, from an operator of the list", "", p.from("partner", ""), accepted)
	p.one("DN that the list writes with quotes, double spaces and in another case", "", p.from("spelt", "dr@ecriture.test"), accepted)
	p.begin("domain that stands twice in the list, for two operators", "")
	p.try("the first", p.from("other", "dr@deux.test"), accepted)
	p.try("the second", p.from("spelt", "dr@deux.test"), accepted)
}

func certificates(p *player) {
	cert := func(who string) *testpki.Identity { return p.trust.peers[who] }
	p.one("expired certificate", "cert-expire-audit", p.from("expired", "dr@expire.test"),
		refused("550 5.7.1 certificate expired on "+date(cert("expired").Cert.NotAfter)))
	p.one("revoked certificate", "cert-revoque-audit", p.from("revoked", "dr@revoque.test"),
		refused(fmt.Sprintf("550 5.7.1 certificate revoked on %s (serial %X)", date(p.trust.revokedAt), cert("revoked").Cert.SerialNumber.Bytes())))
	p.one("certificate of a foreign authority of the same name", "cert-non-igc-audit", p.from("foreign", sender), refused(foreign))
	p.one("certificate that is not in the white list", "cert-no-match-audit", p.from("unlisted", sender), refused(notBound))
	p.one("CN of the list, another DN", "cert-cn-diff-dn-audit", p.from("moved", sender), refused(notBound))
	p.one("self-signed certificate with the DN of the list", "", p.from("alone", sender), refused(foreign+": self-signed"))
	p.one("certificate not made for TLS (emailProtection)", "", p.from("mailonly", "dr@usage.test"),
		refused("550 5.7.1 certificate is not made for this use: extended key usage is emailProtection"))
	p.one("certificate not yet valid", "", p.from("early", "dr@futur.test"),
		refused("550 5.7.1 certificate not yet valid (valid from "+date(cert("early").Cert.NotBefore)+")"))
	p.one("no client certificate", "", mail{from: sender, to: Active}, refused("550 5.7.1 no client certificate was presented"))
}

func names(p *player) {
	p.one("certificate that is listed for another domain", "", p.from("other", sender), refused(notBound))
	p.one("sub-domain of a listed domain", "", p.from("partner", "medecin@sous."+partnerDomain),
		refused("550 5.7.1 sender's domain is not in the white list"))
	p.one("domain that is not listed", "", p.from("partner", "medecin@inconnu.test"), refused("550 5.7.1 sender's domain is not in the white list"))
	p.one("null sender, certificate that is not in the list", "", p.from("unlisted", ""), refused(notBound))
	p.one("null sender, no client certificate", "", mail{to: Active}, refused("550 5.7.1 no client certificate was presented"))
}

func channel(p *player) {
	p.one("no TLS: mail without STARTTLS", "sans-tls-audit", mail{clear: true, from: sender, to: Active}, refused("530 5.7.0"))
	p.begin("TLS 1.1 and 1.0 only", "")
	for _, v := range []uint16{tls.VersionTLS11, tls.VersionTLS10} {
		m := p.from("partner", sender)
		m.version = v
		w := handshake
		w.reply += "protocol version not supported"
		p.try(tls.VersionName(v), m, w)
	}
}

func recipients(p *player) {
	for _, c := range []struct{ name, to, reply string }{
		{"recipient that does not exist", nobody, "550 5.1.1"},
		{"recipient declared, not opened", Declared, "550 5.1.1"},
		{"recipient suspended", Suspended, "450 4.2.1"},
		{"recipient closed", Closed, "550 5.2.1"},
		{"recipient of another operator (relaying)", "dr@autre.test", "550 5.7.1 relaying denied"},
	} {
		m := p.from("partner", sender)
		m.to = c.to
		p.one(c.name, "", m, want{at: "RCPT", reply: c.reply})
	}
	m := p.from("partner", sender)
	m.to = Full
	p.begin("recipient whose quota is used up", "")
	p.try("the message that uses it up", m, accepted)
	p.try("the next one", m, want{at: "RCPT", reply: "452 4.2.2"})
}

// revoked is what a peer reads that was revoked in mid-play.
func (p *player) revoked(who string) want {
	return refused(fmt.Sprintf("550 5.7.1 certificate revoked on %s (serial %X)", date(p.trust.revokedAt), p.trust.peers[who].Cert.SerialNumber.Bytes()))
}

// revoke puts the revocation of one more peer in force.
func (p *player) revoke(who string) {
	if err := p.trust.revoke(who); err != nil {
		p.fail("revocation", err)
		return
	}
	p.reload(false)
}

// resumption: a ticket of before the revocation opens nothing.
func resumption(p *player) {
	p.resume("resumed12", "dr@reprise12.test", tls.VersionTLS12)
	p.resume("resumed13", "dr@reprise13.test", tls.VersionTLS13)
}

func (p *player) resume(who, from string, version uint16) {
	p.begin("session resumed after the revocation, "+tls.VersionName(version), "cert-revoque-audit")
	m := p.from(who, from)
	m.version, m.session = version, tls.NewLRUClientSessionCache(1)
	p.try("before the revocation", m, accepted)
	p.revoke(who)
	if s := p.try("the same session, resumed", m, p.revoked(who)); !s.resumed {
		p.fail("resumption", errors.New("the session was not resumed: nothing was tested"))
	}
}

// keptConnection: a connection that was there before the revocation brings no more mail.
func keptConnection(p *player) {
	p.begin("connection kept open over the revocation", "cert-revoque-audit")
	m := p.from("kept", "dr@garde.test")
	var c *peer
	p.step("before the revocation", accepted, func(f front) (s seen) {
		var err error
		if c, err = f.dial(p.ctx); err != nil {
			return seen{At: "connect", Reply: broken(err).Error()}
		}
		if s = c.open(f, m); s.At != "" {
			return s
		}
		return c.deliver(m, p.trust.message(m, p.plays))
	})
	if c == nil {
		return
	}
	defer c.close()
	p.revoke("kept")
	n := len(p.proofs)
	p.step("the next message on the same connection", p.revoked("kept"), func(front) seen {
		return c.deliver(m, p.trust.message(m, p.plays))
	})
	if n > 0 && len(p.proofs) > n { // its trace names the address of the first step
		p.proofs[n].source = p.proofs[n-1].source
	}
}

// badLists: a list that is no good at the place of a good one. The good one stays, and nobody is refused for good while
// nobody knows what the newest says.
func badLists(p *player) {
	t := p.trust
	good, err := t.good()
	if err != nil {
		p.begin("white lists that are no good", "")
		p.fail("", err)
		return
	}
	made := func(pki *testpki.PKI, signer string, at time.Time) ([]byte, error) {
		id, err := t.signerOf(pki, signer, t.began.Add(300*day))
		if err != nil {
			return nil, err
		}
		return t.listOf(t.rows, id, at)
	}
	for _, c := range []struct {
		name string
		list func() ([]byte, error)
	}{
		{"broken: an octet differs from what was signed", func() ([]byte, error) {
			return bytes.Replace(good, []byte("autre.test"), []byte("autra.test"), 1), nil
		}},
		{"cut off", func() ([]byte, error) { return good[:len(good)/2], nil }},
		{"unsigned", func() ([]byte, error) {
			return append(bytes.Clone(good[:max(0, bytes.Index(good, []byte("<Signature")))]), "</ListeBlancheMSSante>"...), nil
		}},
		{"older than the one in force", func() ([]byte, error) { return t.listOf(t.rows, t.signer, t.began.Add(-3*day)) }},
		{"signed by another name of the authority", func() ([]byte, error) { return made(t.authority, "un-autre.autotest.test", t.began) }},
		{"signed under a foreign authority", func() ([]byte, error) { return made(t.impostor, ListSigner, t.began) }},
		{"most domains are gone", func() ([]byte, error) { return t.listOf(t.rows[:3], t.signer, t.began) }},
	} {
		p.begin("white list "+c.name, "")
		p.fail("the list is put in place", t.writeList(c.list()))
		p.reload(true)
		p.try("a partner of the list in force", p.from("partner", sender), accepted)
		p.try("a certificate that the list does not have", p.from("unlisted", sender), refused("451 4.7.1 white list cannot be checked now"))
	}
	p.begin("the good white list again", "")
	p.fail("the list is put in place", t.writeList(good, nil))
	p.reload(false)
	p.try("", p.from("unlisted", sender), refused(notBound))
}

// removal: a newer list without a partner.
func removal(p *player) {
	p.begin("partner that a newer white list no longer has", "cert-no-match-audit")
	t := p.trust
	p.try("before", p.from("leaving", "dr@sortant.test"), accepted)
	var rows []whitelist.Binding
	for _, r := range t.rows {
		if r.Domain != "sortant.test" {
			rows = append(rows, r)
		}
	}
	p.fail("the list is put in place", t.writeList(t.listOf(rows, t.signer, t.began.Add(-time.Minute))))
	p.reload(false)
	p.try("after", p.from("leaving", "dr@sortant.test"), refused("550 5.7.1 sender's domain is not in the white list"))
}

// oldSigner: a list is judged at the date it was made; who signed it may have expired since.
func oldSigner(p *player) {
	t := p.trust
	p.begin("white list whose signer has expired since", "")
	signer, err := t.signerOf(t.authority, ListSigner, t.began.Add(-10*time.Second))
	if err != nil {
		p.fail("signer", err)
		return
	}
	p.fail("the list is put in place", t.writeList(t.listOf(t.rows, signer, t.began.Add(-30*time.Second))))
	p.reload(false)
	p.try("a partner that only the new list has again", p.from("leaving", "dr@sortant.test"), accepted)
}

// oldCRL: past nextUpdate and the grace nobody can tell; that is the fault of who reads the list, not of the peer.
func oldCRL(p *player) {
	t := p.trust
	put := func(this, next time.Duration) {
		p.fail("revocation list", t.writeCRL(t.began.Add(this), t.began.Add(next)))
		p.reload(false)
	}
	p.begin("revocation list past its nextUpdate, within the grace", "")
	put(-8*day, -time.Hour)
	p.try("", p.from("partner", sender), accepted)
	p.begin("revocation list expired, past the grace", "")
	put(-9*day, -2*day)
	p.try("a certificate that nothing is known of", p.from("partner", sender), refused(unknown))
	p.try("a certificate that even the old list calls revoked", p.from("revoked", "dr@revoque.test"), refused("550 5.7.1 certificate revoked on "))
	p.begin("revocation list renewed", "")
	put(-time.Hour, 7*day)
	p.try("", p.from("partner", sender), accepted)
}

func missingIntermediate(p *player) {
	p.begin("certificate of the issuing authority not sent", "")
	p.try("the chain is whole", p.from("partner", sender), accepted)
	p.try("the peer's own certificate only", p.from("leaf", sender), refused(foreign+": the certificate of its issuer was not sent"))
}

func noCRL(p *player) {
	p.begin("revocation list unreachable, none held", "")
	p.try("a good certificate", p.from("partner", sender), refused(unknown))
	p.try("a certificate of a foreign authority", p.from("foreign", sender), refused(foreign))
}

func noOCSP(p *player) {
	p.begin("OCSP responder unreachable, its answer required", "")
	p.try("a good certificate", p.from("partner", sender), refused(unknown))
	p.try("a certificate that the revocation list names", p.from("revoked", "dr@revoque.test"), refused("550 5.7.1 certificate revoked on "))
}
