package smtpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/auth/psctest"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

const (
	password   = "mot de passe"
	readerBAL  = "lecture@officine.test"
	laboratory = "labo@officine.test"
	appHost    = "app.operateur.test"
	pharmacist = "rpps:99900000052" // owner of pharmacy
	preparer   = "rpps:99900000060" // reader of pharmacy
)

// members is a submission front: pharmacy has an owner with a password, one with tokens, and a reader with tokens; readerBAL
// a reader with a password; laboratory is opened by a certificate.
type members struct {
	*world
	psc  *psctest.Provider
	pkis []*testpki.PKI // of the fronts' certificates
	app  *tlsconf.AppFront
}

func newMembers(t testing.TB, change func(*Server)) *members {
	t.Helper()
	m := &members{psc: psctest.New(t)}
	m.world = newWorld(t, func(s *Server) {
		dir := t.TempDir()
		file := func(name string) string { return filepath.Join(dir, name) }
		front := func(name, host string, ask bool) *tlsconf.Front {
			pki := must(testpki.New())(t)
			id := must(pki.Server(host, "127.0.0.1"))(t)
			check(t, id.WriteFiles(file(name+".pem"), file(name+".key")))
			m.pkis = append(m.pkis, pki)
			return must(tlsconf.NewFront(tlsconf.FrontConfig{Name: name, CertFile: file(name + ".pem"), KeyFile: file(name + ".key"), RequestClientCert: ask}))(t)
		}
		psc := must(auth.NewPSC(m.psc.Config()))(t)
		t.Cleanup(psc.Close)
		cheap := auth.Params{Time: 1, MemoryKiB: 64, Threads: 1}
		hash := must(auth.HashPassword(cheap, password))(t)
		member := must(auth.ParseCertMember("cert:OU=300000000000017,CN=logiciel.labo.test"))(t)
		ops := []store.Op{}
		for _, b := range []store.BAL{{Address: readerBAL, Kind: store.ORG}, {Address: laboratory, Kind: store.APP}} {
			b.State, b.Listing = store.Active, store.Published
			ops = append(ops, store.PutBAL{BAL: b, Create: true})
		}
		for _, m := range []struct {
			bal store.Address
			m   store.Member
		}{
			{pharmacy, store.Member{ID: "local:anne", Role: store.Owner, PasswordHash: hash}},
			{pharmacy, store.Member{ID: pharmacist, Role: store.Owner}},
			{pharmacy, store.Member{ID: preparer, Role: store.Reader}},
			{readerBAL, store.Member{ID: pharmacist, Role: store.Writer}},
			{readerBAL, store.Member{ID: "local:zoe", Role: store.Reader, PasswordHash: hash}},
			{laboratory, store.Member{ID: member, Role: store.Writer}},
		} {
			ops = append(ops, store.PutMember{Address: m.bal, Member: m.m})
		}
		must(s.Store.Commit(t.Context(), &store.Batch{Ops: ops}))(t)
		s.TLS = front("submission", "mx.operateur.test", false)
		m.app = &tlsconf.AppFront{Hostname: appHost, TLS: front("submission.app", appHost, true), Mechanisms: []string{auth.External, auth.Plain}}
		judge := s.Judge
		s.Submission = &Submission{App: m.app, Mechanisms: []string{auth.XOAuth2, auth.OAuthBearer, auth.Plain, auth.Login},
			Auth: auth.New(auth.Config{Store: s.Store, Argon: cheap, PSC: psc, MaxSession: 4 * time.Hour, Now: s.Now, Log: s.Log, CertKinds: []store.Kind{store.APP},
				JudgeCert: func(_ context.Context, shown []*x509.Certificate) tlsconf.Verdict { return judge.Certificates(shown) }})}
		s.Judge, s.MaxMessage = nil, 1_000_000
		if change != nil {
			change(s)
		}
	})
	for _, p := range m.pkis {
		m.roots.AddCert(p.Root.Cert)
	}
	m.peers["labo"] = must(m.pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{C: "FR", O: "LABO TEST", OU: "300000000000017", CN: "logiciel.labo.test"},
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}))(t)
	return m
}

// logged is a session of pharmacy with a password.
func (m *members) logged(t testing.TB) *peer {
	t.Helper()
	p := m.as(t).secure("none")
	p.cmd("AUTH PLAIN "+b64("\x00"+pharmacy+"\x00"+password), "235 2.7.0 ")
	return p
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func xoauth2(bal, token string) string {
	return b64("user=" + bal + "\x01auth=Bearer " + token + "\x01\x01")
}

func bearer(bal, token string) string {
	return b64("n,a=" + bal + ",\x01host=mx.operateur.test\x01port=587\x01auth=Bearer " + token + "\x01\x01")
}

func (m *members) commit(ops ...store.Op) {
	m.t.Helper()
	must(m.store.Commit(context.Background(), &store.Batch{Ops: ops}))(m.t)
}

const note = "From: <" + pharmacy + ">\r\nTo: <" + doctor + ">\r\nSubject: Question secrete\r\n\r\nBonjour.\r\n"

// Tokens, in both mechanisms, with the first message in the command and after it, long ones too.
func TestSubmissionByToken(t *testing.T) {
	m := newMembers(t, nil)
	long := psctest.Claims{NameID: "899900000052", Extra: map[string]any{"filler": strings.Repeat("x", 7000)}}
	for name, c := range map[string]struct {
		claims psctest.Claims
		form   func(bal, token string) string
	}{"XOAUTH2": {psctest.Claims{NameID: "899900000052"}, xoauth2}, "OAUTHBEARER": {psctest.Claims{NameID: "899900000052"}, bearer}, "xoauth2": {long, xoauth2}} {
		msg := c.form(pharmacy, m.psc.Token(c.claims))
		p := m.secure("none")
		p.cmd("AUTH "+name+" "+msg, "235 2.7.0 ")
		p.deliver(pharmacy, doctor, note+name+"\r\n")
		p = m.secure("none")
		p.cmd("AUTH "+name, "334 ")
		p.cmd(msg, "235 2.7.0 ")
		p.deliver(pharmacy, doctor, note+"encore "+name+"\r\n")
		p.cmd("QUIT", "221 ")
	}
	// Long lines are for AUTH alone, and not for ever.
	p := m.secure("none")
	p.cmd("AUTH XOAUTH2 "+strings.Repeat("A", maxSASL), "500 5.5.6 ")
	p.gone()
	p = m.secure("none")
	p.cmd("NOOP "+strings.Repeat("A", maxLine), "500 5.5.6 ")
	p.gone()
	p = m.logged(t)
	p.cmd("AUTH "+strings.Repeat("A", maxLine), "500 5.5.6 ")
	p.gone()

	got := m.inbox(doctor)
	if len(got) != 6 {
		t.Fatalf("%d messages arrived", len(got))
	}
	for _, msg := range got {
		for _, want := range []string{"auth=pass\r\n smtp.auth=" + pharmacy, "with ESMTPSA", "Return-Path: <" + pharmacy + ">"} {
			if !strings.Contains(strings.ReplaceAll(msg, "\r\n ESMTPSA", " ESMTPSA"), want) {
				t.Errorf("no %q in:\n%s", want, msg)
			}
		}
		if strings.Contains(msg, "99900000052") {
			t.Errorf("the recipient learns who of the pharmacy wrote:\n%s", msg)
		}
	}
	m.wantEvent(t, "Kind:submitted .*Person:"+pharmacist+" .*BAL:"+pharmacy)
	m.wantEvent(t, "Kind:login .*Person:"+pharmacist+" .*BAL:"+pharmacy+".*Value:psc")
	if s := m.logs.String() + m.events.String(); strings.Contains(s, "eyJ") || strings.Contains(s, "Question secrete") {
		t.Error("the log or the trace holds a token or a subject")
	}
}

// Who has logged in as themselves sends from each BAL that they hold, one at a time.
func TestSubmissionFromSeveralBALs(t *testing.T) {
	m := newMembers(t, nil)
	p := m.secure("none")
	p.cmd("AUTH XOAUTH2 "+xoauth2("", m.psc.Token(psctest.Claims{NameID: "899900000052"})), "235 2.7.0 ")
	p.deliver(pharmacy, doctor, note)
	p.deliver(readerBAL, doctor, strings.ReplaceAll(note, pharmacy, readerBAL))
	p.deliver("", doctor, "From: "+readerBAL+"\r\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n--b--\r\n")
	p.cmd("MAIL FROM:<"+doctor+">", "550 5.7.1 ")
	p.cmd("MAIL FROM:<"+readerBAL+">", "250 ")
	p.cmd("RCPT TO:<"+doctor+">", "250 ")
	p.cmd("DATA", "354")
	p.send(note + ".\r\n")
	p.expect("550 5.7.1 From")
	m.commit(store.PutMember{Address: readerBAL, Member: store.Member{ID: pharmacist, Role: store.Reader}})
	p.cmd("MAIL FROM:<"+readerBAL+">", "550 5.7.1 ")
	p.cmd("MAIL FROM:<"+pharmacy+">", "250 ")
	p.cmd("QUIT", "221 ")
	if got := m.inbox(doctor); len(got) != 3 || !strings.Contains(got[2], "smtp.auth="+readerBAL) {
		t.Errorf("%d messages, want 3, the last from %s", len(got), readerBAL)
	}
}

// A person whose number is written in capitals in one BAL and in small letters in another is the same person.
func TestSubmissionOfOneWrittenTwice(t *testing.T) {
	m := newMembers(t, nil)
	m.commit(store.PutMember{Address: pharmacy, Member: store.Member{ID: "adeli:7599a0015", Role: store.Owner}},
		store.PutMember{Address: readerBAL, Member: store.Member{ID: "adeli:7599A0015", Role: store.Writer}})
	p := m.secure("none")
	p.cmd("AUTH XOAUTH2 "+xoauth2("", m.psc.Token(psctest.Claims{NameID: "07599A0015"})), "235 2.7.0 ")
	p.deliver(readerBAL, doctor, strings.ReplaceAll(note, pharmacy, readerBAL))
	p.deliver(pharmacy, doctor, note)
}

// wantEvent looks for an event of the trace.
func (m *members) wantEvent(t testing.TB, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if re.MatchString(m.events.String()) {
			return
		}
	}
	t.Errorf("no event like %s in:\n%s", pattern, m.events.String())
}

func TestSubmissionLoginRefused(t *testing.T) {
	m := newMembers(t, nil)
	refused := func(form func(bal, token string) string, mechanism, bal string, c psctest.Claims) {
		t.Helper()
		p := m.secure("none")
		p.cmd("AUTH "+mechanism+" "+form(bal, m.psc.Token(c)), "334 ")
		p.cmd("AQ==", "535 5.7.8 ")
		p.cmd("AUTH XOAUTH2 "+xoauth2(pharmacy, m.psc.Token(psctest.Claims{NameID: "899900000052"})), "235 ") // the connection was kept
	}
	refused(xoauth2, "XOAUTH2", doctor, psctest.Claims{NameID: "899900000052"})
	refused(bearer, "OAUTHBEARER", "personne@officine.test", psctest.Claims{NameID: "899900000052"})
	refused(xoauth2, "XOAUTH2", pharmacy, psctest.Claims{NameID: "899900000052", Expires: time.Now().Add(-time.Hour)})
	m.wantEvent(t, "Kind:loginrefused .*Person:"+pharmacist+" .*BAL:"+doctor+" .*Value:NoRight")

	p := m.secure("none")
	for range 4 {
		p.cmd("AUTH PLAIN "+b64("\x00"+pharmacy+"\x00secret-que-personne-ne-lit"), "535 5.7.8 ")
	}
	p.cmd("AUTH PLAIN "+b64("\x00"+pharmacy+"\x00secret-que-personne-ne-lit"), "535 5.7.8 ")
	p.expect("421 4.7.0 ")
	p.gone()
	m.wantEvent(t, "Kind:loginrefused .*BAL:"+pharmacy+" .*Value:WrongPassword")

	m.psc.Break(503)
	p = m.secure("none")
	p.cmd("AUTH XOAUTH2 "+xoauth2(pharmacy, m.psc.Token(psctest.Claims{NameID: "899900000052"})), "454 4.7.0 ")
	p.cmd("NOOP", "250 ")
	m.psc.Answer()
	if s := m.logs.String() + m.events.String(); strings.Contains(s, "secret-que") || strings.Contains(s, "eyJ") {
		t.Error("the log or the trace holds a password or a token")
	}
}

// The person who logged in answers for From: no form of header shows another sender.
func TestSubmissionFrom(t *testing.T) {
	m := newMembers(t, nil)
	const other = "<medecin@officine.test>"
	for name, c := range map[string]struct{ header, want string }{
		"plain":                  {"From: " + pharmacy, "250 2.0.0 "},
		"name and case":          {"From: \"Pharmacie, du Centre\" <PHARMACIE@Officine.test>", "250 2.0.0 "},
		"encoded name":           {"From: =?utf-8?Q?Pharmacie_=C3=A9?= <" + pharmacy + ">", "250 2.0.0 "},
		"sender, the same":       {"From: " + pharmacy + "\r\nSender: " + pharmacy, "250 2.0.0 "},
		"reply to somebody else": {"From: " + pharmacy + "\r\nReply-To: " + other, "250 2.0.0 "},
		"none":                   {"To: " + doctor, "550 5.7.1 From"},
		"somebody else":          {"From: " + other, "550 5.7.1 From"},
		"two addresses":          {"From: " + pharmacy + ", " + other, "550 5.7.1 From"},
		"twice the same":         {"From: " + pharmacy + ", " + pharmacy, "550 5.7.1 From"},
		"two fields":             {"From: " + pharmacy + "\r\nFrom: " + other, "550 5.7.1 From"},
		"two fields, first bad":  {"From: " + other + "\r\nfrom : " + pharmacy, "550 5.7.1 From"},
		"group":                  {"From: Officine: " + pharmacy + ";", "550 5.7.1 From"},
		"group of others":        {"From: " + pharmacy + ", Autres: " + other + ";", "550 5.7.1 From"},
		"comment":                {"From: (" + other + ") " + pharmacy, "550 5.7.1 From"},
		"name like an address":   {"From: \"medecin@officine.test\" <" + pharmacy + ">", "550 5.7.1 From"},
		"sender somebody else":   {"From: " + pharmacy + "\r\nSender: " + other, "550 5.7.1 Sender"},
		"stray line":             {"From: " + pharmacy + "\r\nstray\r\nFrom: " + other, "550 5.6.0 "},
	} {
		p := m.logged(t)
		p.cmd("MAIL FROM:<"+pharmacy+">", "250")
		p.cmd("RCPT TO:<"+doctor+">", "250")
		p.cmd("DATA", "354")
		p.send(c.header + "\r\nSubject: x\r\n\r\n" + name + "\r\n.\r\n")
		if r, err := p.reply(); err != nil || !strings.HasPrefix(r, c.want) {
			t.Errorf("%s: %q %v, want %s", name, r, err, c.want)
		}
		p.cmd("NOOP", "250 ")
		p.conn.Close()
	}
	for _, msg := range m.inbox(doctor) {
		if strings.Contains(msg, "From: "+other) {
			t.Errorf("stored:\n%s", msg)
		}
	}
	if left := m.spooled(); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// A reader by token is refused at MAIL; what is sent to other operators is answered without a word of the address.
func TestSubmissionRefusals(t *testing.T) {
	m := newMembers(t, func(s *Server) {
		s.MaxMessage, s.PatientDomains, s.Submission.MaxPatient = 4000, []string{"patient.mssante.test"}, 2000
	})
	p := m.secure("none")
	p.cmd("AUTH XOAUTH2 "+xoauth2(pharmacy, m.psc.Token(psctest.Claims{NameID: "899900000060"})), "235 ")
	p.cmd("MAIL FROM:<"+pharmacy+">", "550 5.7.1 ")
	p = m.logged(t)
	p.cmd("MAIL FROM:<"+pharmacy+"> SIZE=4001", "552 5.3.4 ")
	p.cmd("MAIL FROM:<"+pharmacy+"> SIZE=2001", "250 ")
	answers := p.cmd("RCPT TO:<"+patient+">", "552 5.3.4 ")
	p.cmd("RSET", "250 ")
	p.cmd("MAIL FROM:<"+pharmacy+"> SIZE=2000", "250 ")
	answers += p.cmd("RCPT TO:<"+patient+">", "550 5.3.3 ")
	answers += p.cmd("RCPT TO:<quelquun@nulle-part.test>", "550 5.7.1 ")
	p.cmd("RCPT TO:<"+doctor+">", "250 ")
	p.cmd("DATA", "354")
	p.send(note + strings.Repeat("x\r\n", 2000) + ".\r\n")
	p.expect("552 5.3.4 ")
	p.cmd("QUIT", "221 ")
	m.wantEvent(t, "Kind:refused .*550 5.3.3")
	for _, s := range []string{answers, m.logs.String(), m.events.String()} {
		if strings.Contains(s, patientINS) || strings.Contains(s, "quelquun") || strings.Contains(s, "nulle-part") {
			t.Errorf("the address is repeated in:\n%s", s)
		}
	}
}

// What a message lacks is added and told; a repetition whose 250 was not confirmed is the first message.
func TestSubmissionCompletes(t *testing.T) {
	m := newMembers(t, nil)
	note := "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\n" + note
	p := m.logged(t)
	p.cmd("MAIL FROM:<"+pharmacy+">", "250 ")
	p.cmd("RCPT TO:<"+doctor+">", "250 ")
	p.cmd("DATA", "354")
	p.send(note + ".\r\n")
	first := p.expect("250 2.0.0 ")
	p.conn.Close() // nobody knows whether the 250 was read
	p = m.logged(t)
	p.cmd("MAIL FROM:<"+pharmacy+">", "250 ")
	p.cmd("RCPT TO:<"+doctor+">", "250 ")
	p.cmd("DATA", "354")
	p.send(note + ".\r\n")
	if again := p.expect("250 2.0.0 "); again != first {
		t.Errorf("repetition: %q, want %q", again, first)
	}
	p.cmd("QUIT", "221 ")
	got := m.inbox(doctor)
	if len(got) != 1 {
		t.Fatalf("%d messages, want 1", len(got))
	}
	id := strings.Fields(first)[3]
	if strings.Count(got[0], "\r\nMessage-ID: "+id+"\r\n") != 1 || strings.Count(got[0], "\r\nDate: ") != 1 {
		t.Errorf("no Message-ID %s, or no Date:\n%s", id, got[0])
	}
}

// A right that ends, ends the session: idle, and in the middle of a message, which is not stored.
func TestSubmissionRightEnds(t *testing.T) {
	for name, end := range map[string]func(*members){
		"member": func(m *members) { m.commit(store.EndMember{Address: pharmacy, Member: "local:anne"}) },
		"role": func(m *members) {
			m.commit(store.PutMember{Address: pharmacy, Member: store.Member{ID: "local:anne", Role: store.Reader}})
		},
		"BAL":     func(m *members) { m.commit(store.SetBALState{Address: pharmacy, State: store.Suspended}) },
		"session": func(m *members) { m.ahead.Store(int64(5 * time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMembers(t, nil)
			login := func() *peer {
				p := m.logged(t)
				if name == "session" { // only those by token have an end
					p = m.secure("none")
					p.cmd("AUTH XOAUTH2 "+xoauth2(pharmacy, m.psc.Token(psctest.Claims{NameID: "899900000052"})), "235 ")
				}
				return p
			}
			idle, busy := login(), login()
			busy.cmd("MAIL FROM:<"+pharmacy+">", "250 ")
			busy.cmd("RCPT TO:<"+doctor+">", "250 ")
			busy.cmd("DATA", "354")
			busy.send(note)
			end(m)
			idle.expect("421 4.7.0 ")
			idle.gone()
			busy.cutOff()
			if n := len(m.inbox(doctor)); n != 0 {
				t.Errorf("%d messages were stored", n)
			}
			m.wantEvent(t, "Kind:logout .*BAL:"+pharmacy)
			if name == "role" || name == "BAL" {
				return
			}
			p := m.secure("none")
			p.cmd("MAIL FROM:<"+pharmacy+">", "530 ")
		})
	}
}

// cutOff says that the server ends the connection in the middle of a message. What the server has not read when it closes may
// make the system forget its last words.
func (p *peer) cutOff() {
	p.t.Helper()
	if r, err := p.reply(); isTimeout(err) || err == nil && !strings.HasPrefix(r, "421 4.7.0 ") {
		p.t.Errorf("reply %q (%v), want 421 4.7.0", r, err)
	}
}

// A session whose right ends while its message is being stored gets its answer first; one whose right ended before stores
// nothing, although Watch has not looked yet.
func TestCutOff(t *testing.T) {
	m := newMembers(t, nil)
	p := m.logged(t)
	p.cmd("MAIL FROM:<"+pharmacy+">", "250 ")
	p.cmd("RCPT TO:<"+doctor+">", "250 ")
	p.cmd("DATA", "354")
	p.send(note)
	m.commit(store.EndMember{Address: pharmacy, Member: "local:anne"})
	_, _ = p.conn.Write([]byte(".\r\n")) // Watch may have been first
	p.cutOff()
	if n := len(m.inbox(doctor)); n != 0 {
		t.Errorf("%d messages were stored", n)
	}

	w := &wire{}
	if err := w.beginCommit(); err != nil || !w.committing {
		t.Fatalf("beginCommit: %v", err)
	}
	w.endCommit()
	w.over = errRight
	if err := w.beginCommit(); err != errRight || w.committing {
		t.Errorf("beginCommit of a session that is over: %v", err)
	}
}

// Applications log in with their certificate, on the front that they name.
func TestSubmissionOfApplications(t *testing.T) {
	m := newMembers(t, nil)
	dial := func(host, who string) *peer {
		p := m.dial()
		p.expect("220 ")
		p.cmd("EHLO labo.test", "250 ")
		p.cmd("STARTTLS", "220 ")
		cfg := m.clientConfig(who)
		cfg.ServerName = host
		c := tls.Client(p.conn, cfg)
		check(t, c.Handshake())
		return &peer{t, c, p.br}
	}
	hello := func(p *peer) string {
		p.br.Reset(p.conn)
		return p.cmd("EHLO labo.test", "250 ")
	}
	p := dial(appHost, "labo")
	if caps := hello(p); !strings.Contains(caps, "250-AUTH EXTERNAL PLAIN\r\n") {
		t.Errorf("the front of applications offers:\n%s", caps)
	}
	p.cmd("AUTH EXTERNAL "+b64(doctor), "535 5.7.8 ")
	p.cmd("AUTH EXTERNAL "+b64(laboratory), "235 ")
	p.deliver(laboratory, doctor, strings.ReplaceAll(note, pharmacy, laboratory))
	for _, first := range []string{"AUTH EXTERNAL =", "AUTH PLAIN " + b64("\x00"+laboratory+"\x00n'importe quoi")} {
		p = dial(appHost, "labo")
		hello(p)
		p.cmd(first, "235 ")
		p.cmd("MAIL FROM:<"+pharmacy+">", "550 5.7.1 ")
	}
	for who, want := range map[string]string{"none": "535 5.7.8 ", "stranger": "535 5.7.8 ", "foreign": "535 5.7.8 "} {
		p = dial(appHost, who)
		hello(p)
		p.cmd("AUTH EXTERNAL "+b64(laboratory), want)
		p.cmd("AUTH PLAIN "+b64("\x00"+pharmacy+"\x00"+password), "535 5.7.8 ") // no password opens anything here
	}
	p = dial("mx.operateur.test", "labo") // persons are not asked for certificates
	hello(p)
	p.cmd("AUTH EXTERNAL "+b64(laboratory), "504 5.5.4 ")
	p.cmd("AUTH PLAIN "+b64("\x00"+laboratory+"\x00x"), "535 5.7.8 ")
	if got := m.inbox(doctor); len(got) != 1 {
		t.Errorf("%d messages, want 1", len(got))
	}
	m.wantEvent(t, "Kind:submitted .*Person:cert:.*BAL:"+laboratory+" .*Value:certificate")
}

// TLS from the first octet: the greeting is above it.
func TestSubmissionImplicit(t *testing.T) {
	m := newMembers(t, func(s *Server) { s.Submission.Implicit = true })
	p := m.dial()
	p.upgrade(m.world, "none")
	p.expect("220 mx.operateur.test ESMTP")
	if caps := p.cmd("EHLO poste.test", "250 "); !strings.Contains(caps, "250-AUTH XOAUTH2 ") || strings.Contains(caps, "STARTTLS") {
		t.Errorf("offered:\n%s", caps)
	}
	p.cmd("AUTH PLAIN "+b64("\x00"+pharmacy+"\x00"+password), "235 ")
	p.deliver(pharmacy, doctor, note)
	p.cmd("QUIT", "221 ")
	p.gone()
	if got := m.inbox(doctor); len(got) != 1 {
		t.Errorf("%d messages, want 1", len(got))
	}
}

// Whoever does not log in does not stay.
func TestSubmissionLoginTime(t *testing.T) {
	m := newMembers(t, func(s *Server) { s.Submission.LoginTime = 300 * time.Millisecond })
	p := m.dial()
	p.expect("220 ")
	p.cmd("STARTTLS", "220 ")
	p.upgrade(m.world, "none")
	p.expect("421 4.4.2 ")
	p.gone()
}

// FuzzSubmission sends any octets to a submission front after TLS, those of a SASL dialogue among them. Each reply is well
// formed, the connection ends, nobody gets in, and nothing is stored.
func FuzzSubmission(f *testing.F) {
	for _, s := range []string{
		"EHLO x\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@b>\r\n", "EHLO x\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\nQUIT\r\n", "AUTH\r\nEHLO x\r\nAUTH PLAIN =\r\nAUTH PLAIN\r\n*\r\n",
		"EHLO x\r\nAUTH XOAUTH2 " + xoauth2(pharmacy, "x") + "\r\n\r\nNOOP\r\n", "EHLO x\r\nAUTH OAUTHBEARER\r\n" + bearer(pharmacy, "x") + "\r\nAQ==\r\n",
		"EHLO x\r\nauth xoauth2 " + strings.Repeat("A", 9000) + "\r\n" + strings.Repeat("B", 9000) + "\r\n", "EHLO x\r\nBDAT 9 LAST\r\nEHLO y\r\n", "HELO x\r\nAUTH EXTERNAL =\r\n",
	} {
		f.Add([]byte(s))
	}
	m := newMembers(f, func(s *Server) {
		s.MaxMessage, s.MinRate = 10_000, -1
		s.Submission.MaxFailures = 3
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		p := m.as(t).secure("none")
		p.hostile(t, in, "235", "354")
	})
}
