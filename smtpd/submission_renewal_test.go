package smtpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/tlsconf/testpki"
)

// TestSubmissionRenewal: two certificates send for a BAL while one replaces the other; the old one's right ends, its session
// with it, and the new one's goes on.
func TestSubmissionRenewal(t *testing.T) {
	m := newMembers(t, nil)
	m.peers["renewed"] = must(m.pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{C: "FR", O: "LABO TEST", OU: "300000000000017", CN: "logiciel2.labo.test"},
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}))(t)
	dial := func(who, want string) *peer {
		p := m.dial()
		p.expect("220 ")
		p.cmd("EHLO labo.test", "250 ")
		p.cmd("STARTTLS", "220 ")
		cfg := m.clientConfig(who)
		cfg.ServerName = appHost
		c := tls.Client(p.conn, cfg)
		check(t, c.Handshake())
		p.br.Reset(c)
		p = &peer{t, c, p.br}
		p.cmd("EHLO labo.test", "250 ")
		p.cmd("AUTH EXTERNAL "+b64(laboratory), want)
		return p
	}
	dial("renewed", "535 5.7.8 ") // not bound yet
	old := must(auth.ParseCertMember("cert:OU=300000000000017,CN=logiciel.labo.test"))(t)
	renewed := must(auth.ParseCertMember("cert:OU=300000000000017,CN=logiciel2.labo.test"))(t)
	m.commit(store.PutMember{Address: laboratory, Member: store.Member{ID: renewed, Role: store.Writer}})
	letter := strings.ReplaceAll(note, pharmacy, laboratory)
	before, after := dial("labo", "235 "), dial("renewed", "235 ")
	before.deliver(laboratory, doctor, letter)
	after.deliver(laboratory, doctor, letter)

	m.commit(store.EndMember{Address: laboratory, Member: old})
	before.cutOff()
	after.deliver(laboratory, doctor, letter)
	dial("labo", "535 5.7.8 ")
	if got := m.inbox(doctor); len(got) != 3 {
		t.Errorf("%d messages, want 3", len(got))
	}
	// The trace has which of the two it was, and why the old one was refused.
	for _, member := range []string{old, renewed} {
		m.wantEvent(t, "Kind:submitted .*Person:"+regexp.QuoteMeta(member)+" .*BAL:"+laboratory+" ")
	}
	m.wantEvent(t, "Kind:loginrefused .*CN=logiciel.labo.test.*RightNotInForce")
}

// TestNoBindingWithoutExtendedSecret: over TLS 1.2 without extended master secret (RFC 7627) another may hold the same secrets
// on two connections, so that nothing binds (RFC 9266, Section 3): PLUS is neither offered nor taken, and a client that says
// it saw none of it is believed.
func TestNoBindingWithoutExtendedSecret(t *testing.T) {
	openssl := program(t, "openssl")
	m := newMembers(t, func(s *Server) {
		s.Submission.Mechanisms = []string{auth.ScramSHA256Plus, auth.ScramSHA256}
	})
	plain := filepath.Join(t.TempDir(), "openssl.cnf")
	check(t, os.WriteFile(plain, []byte("openssl_conf = i\n[i]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\nOptions = -ExtendedMasterSecret\n"), 0o600))
	for name, c := range map[string]struct {
		conf         string
		secret       string // what openssl says of the secret
		offered      bool
		plus, scramY string
	}{
		"with":    {os.DevNull, "Extended master secret: yes", true, "334 ", "535 5.7.8"},
		"without": {plain, "Extended master secret: no", false, "504 5.5.4", "334 "},
	} {
		ask := func(auth string) string {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, openssl, "s_client", "-starttls", "smtp", "-connect", m.addr, "-servername", "mx.operateur.test", "-tls1_2", "-ign_eof", "-crlf")
			cmd.Env = append(os.Environ(), "OPENSSL_CONF="+c.conf)
			cmd.Stdin = strings.NewReader("EHLO openssl.test\nAUTH " + auth + "\n*\nQUIT\n")
			out, _ := cmd.CombinedOutput() // its own verdict of our certificate is not asked
			if !strings.Contains(string(out), c.secret) {
				t.Fatalf("%s: openssl does not say %q:\n%s", name, c.secret, out)
			}
			return string(out)
		}
		out := ask("SCRAM-SHA-256-PLUS " + b64("p=tls-exporter,,n="+pharmacy+",r=fyko"))
		if offered := strings.Contains(out, "SCRAM-SHA-256-PLUS"); offered != c.offered || !strings.Contains(out, "\n"+c.plus) {
			t.Errorf("%s: offered %v, want %v, and %q to PLUS:\n%s", name, offered, c.offered, c.plus, out)
		}
		out = ask("SCRAM-SHA-256 " + b64("y,,n="+pharmacy+",r=fyko"))
		if !strings.Contains(out, "\n"+c.scramY) {
			t.Errorf("%s: want %q to who saw no PLUS:\n%s", name, c.scramY, out)
		}
	}
}
