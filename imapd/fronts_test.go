package imapd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
	"mssd/trace"
)

const (
	appHost = "app.exemple.test"
	labo    = "labo@exemple.test"
	labo2   = "labo2@exemple.test"
)

var clientAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}

// application is a certificate of the software of a laboratory.
func application(t testing.TB, change func(*testpki.Request)) tls.Certificate {
	t.Helper()
	p, err := pki()
	if err != nil {
		t.Fatal(err)
	}
	r := testpki.Request{Subject: testpki.Subject{C: "FR", O: "LABO TEST", OU: "300000000000009", CN: "logiciel.labo.test"}, Usages: clientAuth}
	if change != nil {
		change(&r)
	}
	id, err := p.Issuing.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return id.TLS()
}

// newAppWorld is a front of persons and one of applications on one address. labo is an APP BAL that the certificate of
// application opens, labo2 another.
func newAppWorld(t testing.TB, change ...func(*tlsconf.AppFront)) *world {
	t.Helper()
	dir := t.TempDir()
	p, err := pki()
	if err != nil {
		t.Fatal(err)
	}
	id := must[*testpki.Identity](t, "certificate")(p.Server(appHost))
	cert, key, anchors := filepath.Join(dir, "app.pem"), filepath.Join(dir, "app.key"), filepath.Join(dir, "anchors.pem")
	if err := errors.Join(id.WriteFiles(cert, key), p.WriteAnchors(anchors)); err != nil {
		t.Fatal(err)
	}
	judge := must[*tlsconf.Judge](t, "judge")(tlsconf.NewJudge(tlsconf.JudgeConfig{AnchorFiles: []string{anchors}}))
	w := newWorld(t, func(s *Server) {
		s.Auth = auth.New(auth.Config{Store: s.Store, Argon: auth.Params{Time: 1, MemoryKiB: 64, Threads: 1}, Log: s.Log,
			CertKinds: []store.Kind{store.APP},
			JudgeCert: func(_ context.Context, shown []*x509.Certificate) tlsconf.Verdict { return judge.Certificates(shown) }})
		s.App = &tlsconf.AppFront{Hostname: appHost, Mechanisms: []string{auth.External, auth.Plain, auth.Login},
			TLS: must[*tlsconf.Front](t, "front")(tlsconf.NewFront(tlsconf.FrontConfig{Name: "imap.app", CertFile: cert, KeyFile: key, RequestClientCert: true}))}
		for _, f := range change {
			f(s.App)
		}
	})
	member := must[string](t, "member")(auth.ParseCertMember("cert:ou=300000000000009, CN=logiciel.labo.test"))
	ops := []store.Op{store.PutMember{Address: balAddress, Member: store.Member{ID: member, Role: store.Owner}}} // an ORG BAL
	for _, a := range []store.Address{labo, labo2} {
		ops = append(ops, store.PutBAL{BAL: store.BAL{Address: a, Kind: store.APP, State: store.Active, Listing: store.Unlisted}, Create: true})
	}
	w.commit(append(ops, store.PutMember{Address: labo, Member: store.Member{ID: member, Role: store.Writer}})...)
	return w
}

// dialAs connects with a server name and certificates.
func (w *world) dialAs(name string, certs ...tls.Certificate) *session {
	w.t.Helper()
	cfg := w.client.Clone()
	cfg.ServerName, cfg.Certificates = name, certs
	nc, err := tls.Dial("tcp", w.addr, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { nc.Close() })
	return newSession(w.t, nc)
}

func TestCertificateLogin(t *testing.T) {
	w := newAppWorld(t)
	cert := application(t, nil)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, dialogue := range map[string][]string{
		"EXTERNAL naming the BAL": {"AUTHENTICATE EXTERNAL " + b64(labo)},
		"EXTERNAL in two steps":   {"AUTHENTICATE EXTERNAL", "+ ", b64(labo)},
		"EXTERNAL naming none":    {"AUTHENTICATE EXTERNAL ="},
		"EXTERNAL, an empty line": {"AUTHENTICATE EXTERNAL", "+ ", ""},
		"PLAIN with any password": {"AUTHENTICATE PLAIN " + b64("\x00"+labo+"\x00x")},
		"SASL LOGIN":              {"AUTHENTICATE LOGIN", "+ " + b64("Username:"), b64(labo), "+ " + b64("Password:"), b64("x")},
		"the command LOGIN":       {`LOGIN "` + labo + `" ""`},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.dialAs(appHost, cert)
			if l := s.line(); !strings.Contains(l, "AUTH=EXTERNAL AUTH=PLAIN AUTH=LOGIN]") {
				t.Errorf("greeting %q", l)
			}
			s.tag++
			tag := fmt.Sprintf("t%d", s.tag)
			s.send(tag + " " + dialogue[0] + "\r\n")
			for i := 1; i < len(dialogue); i += 2 {
				if l := s.line(); l != dialogue[i] {
					s.fail("got %q, want %q", l, dialogue[i])
				}
				s.send(dialogue[i+1] + "\r\n")
			}
			if _, end := s.until(tag); !strings.HasPrefix(end, "OK ") {
				s.fail("%q", end)
			}
			s.ok("SELECT INBOX")
			s.ok("LOGOUT")
		})
	}
}

func TestCertificateRefused(t *testing.T) {
	w := newAppWorld(t)
	good := application(t, nil)
	foreign, err := testpki.SelfSigned(testpki.Request{Subject: testpki.Subject{OU: "300000000000009", CN: "logiciel.labo.test"}, Usages: clientAuth})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		certs []tls.Certificate
		bal   string
	}{
		"none":           {nil, labo},
		"self-signed":    {[]tls.Certificate{foreign.TLS()}, labo},
		"expired":        {[]tls.Certificate{application(t, func(r *testpki.Request) { r.NotAfter = time.Now().Add(-time.Minute) })}, labo},
		"of a server":    {[]tls.Certificate{application(t, func(r *testpki.Request) { r.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, labo},
		"of another OU":  {[]tls.Certificate{application(t, func(r *testpki.Request) { r.Subject.OU = "300000000000010" })}, labo},
		"of another CN":  {[]tls.Certificate{application(t, func(r *testpki.Request) { r.Subject.CN = "autre.labo.test" })}, labo},
		"with half a CN": {[]tls.Certificate{application(t, func(r *testpki.Request) { r.Subject.CN = "logiciel.labo.test.autre" })}, labo},
		"another's BAL":  {[]tls.Certificate{good}, labo2},
		"an ORG BAL":     {[]tls.Certificate{good}, balAddress}, // the certificate is its member, but the kind is not allowed
		"no BAL":         {[]tls.Certificate{good}, "nobody@exemple.test"},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.dialAs(appHost, c.certs...)
			s.line()
			s.want("AUTHENTICATE EXTERNAL "+base64.StdEncoding.EncodeToString([]byte(c.bal)), "NO [AUTHENTICATIONFAILED]")
			s.want(`LOGIN "`+c.bal+`" "`+password+`"`, "NO [AUTHENTICATIONFAILED]")
			s.ok("NOOP")
		})
	}
	// On the front of applications a password is no login, right as it may be.
	s := w.dialAs(appHost)
	s.line()
	s.want(`LOGIN "`+ownerName+`" "`+password+`"`, "NO [AUTHENTICATIONFAILED]")
}

// TestFrontsAreApart: who does not name the front of applications is on that of persons, certificate or not.
func TestFrontsAreApart(t *testing.T) {
	w := newAppWorld(t)
	cert := application(t, nil)
	for _, name := range []string{"localhost", "127.0.0.1"} { // an address is not sent: no SNI
		s := w.dialAs(name, cert)
		if l := s.line(); !strings.Contains(l, "AUTH=PLAIN]") || strings.Contains(l, "EXTERNAL") {
			t.Errorf("greeting %q", l)
		}
		s.want("AUTHENTICATE EXTERNAL "+base64.StdEncoding.EncodeToString([]byte(labo)), "NO This mechanism is not offered")
		s.want(`LOGIN "`+labo+`" "x"`, "NO [AUTHENTICATIONFAILED]")
		s.ok(`LOGIN "` + ownerName + `" "` + password + `"`)
	}
	// A TLS session of one front is none of the other.
	held := &oneTicket{}
	dial := func(name string, certs ...tls.Certificate) *tls.Conn {
		cfg := w.client.Clone()
		cfg.ServerName, cfg.Certificates, cfg.ClientSessionCache = name, certs, held
		nc, err := tls.Dial("tcp", w.addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		s := newSession(t, nc)
		s.line()
		s.ok("LOGOUT")
		return nc
	}
	dial(appHost, cert).Close()
	if nc := dial(appHost, cert); !nc.ConnectionState().DidResume {
		t.Error("the session was not resumed on its own front: this test cannot fail")
	}
	if nc := dial("localhost"); nc.ConnectionState().DidResume {
		t.Error("a session of the front of applications was resumed on that of persons")
	}
}

// TestFrontOfApplicationsAlone: on addresses of its own everybody is on the front of applications, whatever name they say.
func TestFrontOfApplicationsAlone(t *testing.T) {
	w := newAppWorld(t, func(f *tlsconf.AppFront) { f.Alone = true })
	cert := application(t, nil)
	w.client.InsecureSkipVerify = true // its certificate has one name, which this test does not say
	for _, name := range []string{"localhost", "127.0.0.1"} {
		s := w.dialAs(name, cert)
		if l := s.line(); !strings.Contains(l, "AUTH=EXTERNAL") {
			t.Errorf("greeting %q", l)
		}
		s.want(`LOGIN "`+ownerName+`" "`+password+`"`, "NO [AUTHENTICATIONFAILED]")
		s.ok("AUTHENTICATE EXTERNAL " + base64.StdEncoding.EncodeToString([]byte(labo)))
	}
	s := w.dialAs("localhost")
	s.line()
	s.want("AUTHENTICATE EXTERNAL "+base64.StdEncoding.EncodeToString([]byte(labo)), "NO [AUTHENTICATIONFAILED]")
}

// oneTicket keeps the last session, whatever server it is of.
type oneTicket struct{ s *tls.ClientSessionState }

func (o *oneTicket) Get(string) (*tls.ClientSessionState, bool) { return o.s, o.s != nil }
func (o *oneTicket) Put(_ string, s *tls.ClientSessionState)    { o.s = s }

// TestCertificateRenewal: two certificates open a BAL while one replaces the other; the old one's right ends, and its session
// with it.
func TestCertificateRenewal(t *testing.T) {
	w := newAppWorld(t)
	renewed := application(t, func(r *testpki.Request) { r.Subject.CN = "logiciel2.labo.test" })
	p, err := pki()
	if err != nil {
		t.Fatal(err)
	}
	member := must[string](t, "member")(auth.ParseCertMember("cert:CN=logiciel2.labo.test;issuer=CN=" + p.Issuing.Cert.Subject.CommonName))
	w.commit(store.PutMember{Address: labo, Member: store.Member{ID: member, Role: store.Writer}})
	external := "AUTHENTICATE EXTERNAL " + base64.StdEncoding.EncodeToString([]byte(labo))
	var sessions []*session
	for _, c := range []tls.Certificate{application(t, nil), renewed} {
		s := w.dialAs(appHost, c)
		s.line()
		s.ok(external)
		s.ok("SELECT INBOX")
		if _, l := s.start("IDLE"); l != "+ idling" {
			s.fail("%q", l)
		}
		sessions = append(sessions, s)
	}
	old := must[string](t, "member")(auth.ParseCertMember("cert:CN=logiciel.labo.test,OU=300000000000009"))
	for _, m := range w.store.Members(must[store.BAL](t, "bal")(w.store.BAL(labo)).ID) {
		if m.ID != member {
			old = m.ID
		}
	}
	w.commit(store.EndMember{Address: labo, Member: old})
	if l := sessions[0].line(); !strings.HasPrefix(l, "* BYE ") {
		sessions[0].fail("%q", l)
	}
	sessions[1].send("DONE\r\n")
	if _, end := sessions[1].until("t3"); !strings.HasPrefix(end, "OK") {
		sessions[1].fail("%q", end)
	}
	sessions[1].ok("NOOP")
	s := w.dialAs(appHost, application(t, nil))
	s.line()
	s.want(external, "NO [AUTHENTICATIONFAILED]")
	// The trace has the certificate as the person.
	w.commit(store.SetBALState{Address: balAddress, State: store.Active})
	w.mu.Lock()
	defer w.mu.Unlock()
	in, out := false, false
	for _, e := range w.events {
		in = in || e.Kind == trace.Login && e.BAL == labo && e.Person == member && e.Attr(trace.KeyMethod) == "certificate"
		out = out || e.Kind == trace.LoginRefused && e.BAL == labo && strings.Contains(e.Person, "CN=logiciel.labo.test") && e.Attr(trace.KeyReason) == "RightNotInForce"
	}
	if !in || !out {
		t.Errorf("the trace tells of the login %v, of the refusal %v", in, out)
	}
}
