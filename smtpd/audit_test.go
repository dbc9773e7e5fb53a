package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"mssd/directory/whitelist"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// stays says that a refusal is an answer and no hang-up: the session goes on and ends in good order.
func (p *peer) stays() {
	p.t.Helper()
	p.cmd("RCPT TO:<"+pharmacy+">", "503 5.5.1")
	p.cmd("NOOP", "250")
	p.cmd("QUIT", "221")
	p.gone()
}

// The cases of the audit domains of the trust space, and those beside them, as the operator of the peer reads them.
func TestAuditCases(t *testing.T) {
	w := newWorld(t, nil)
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	revoked := must(w.pki.Operator(testpki.Subject{C: "FR", O: "REVOQUE TEST", CN: "mail.revoque.test"}))(t)
	w.peers["revoked"] = revoked
	at := time.Date(2026, 5, 3, 12, 0, 0, 0, time.UTC)
	w.revoke(at, revoked.Cert.SerialNumber)
	for _, tt := range []struct{ name, who, from, want string }{
		{"valid", "patient", patient, "250 2.1.0"},
		{"expired", "expired", "dr@expire.test", "550 5.7.1 certificate expired on " + day(w.peers["expired"].Cert.NotAfter)},
		{"revoked", "revoked", "dr@revoque.test", fmt.Sprintf("550 5.7.1 certificate revoked on 2026-05-03 (serial %X)", revoked.Cert.SerialNumber.Bytes())},
		{"foreign authority", "foreign", patient, "550 5.7.1 certificate is not issued by a trusted authority"},
		{"DN not in the list", "stranger", patient, "550 5.7.1 certificate not bound to the sender's domain in the white list"},
		{"CN right, DN different", "moved", patient, "550 5.7.1 certificate not bound to the sender's domain in the white list"},
		{"self test", "self", "nous@officine.test", "250 2.1.0"},

		{"no certificate", "none", patient, "550 5.7.1 no client certificate was presented"},
		{"self-signed", "alone", patient, "550 5.7.1 certificate is not issued by a trusted authority: self-signed"},
		{"issuer not sent, but an anchor", "leaf", patient, "250 2.1.0"},
		{"not yet valid", "early", patient, "550 5.7.1 certificate not yet valid (valid from " + day(w.peers["early"].Cert.NotBefore) + ")"},
		{"wrong usage", "mail", patient, "550 5.7.1 certificate is not made for this use: extended key usage is emailProtection"},
		{"listed for another domain", "other", patient, "550 5.7.1 certificate not bound"},
		{"sub-domain of a listed one", "patient", "a@sous.patient.mssante.test", "550 5.7.1 sender's domain is not in the white list"},
		{"domain above a listed one", "patient", "a@mssante.test", "550 5.7.1 sender's domain is not in the white list"},
		{"case of the domain", "patient", patientINS + "@PATIENT.mssante.TEST", "250 2.1.0"},
		{"null sender", "patient", "", "250 2.1.0"},
		{"null sender of a stranger", "stranger", "", "550 5.7.1"},
		{"null sender, no certificate", "none", "", "550 5.7.1 no client certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := w.as(t).secure(tt.who)
			p.cmd("MAIL FROM:<"+tt.from+">", tt.want)
			if strings.HasPrefix(tt.want, "5") {
				p.stays()
			}
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		p := w.as(t).dial()
		p.expect("220")
		p.cmd("EHLO client.test", "250")
		p.cmd("MAIL FROM:<"+patient+">", "530 5.7.0")
		p.cmd("QUIT", "221")
	})
	t.Run("TLS 1.1", func(t *testing.T) { // RFC 8996; inside the handshake there is no other answer than an alert
		p := w.as(t).dial()
		p.expect("220")
		p.cmd("STARTTLS", "220")
		cfg := w.clientConfig("patient")
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if err := tls.Client(p.conn, cfg).Handshake(); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("handshake: %v, want an alert that names the protocol version", err)
		}
	})
}

// Without the certificate of its issuer, sent or held, a peer reads what is missing.
func TestAuditMissingIntermediate(t *testing.T) {
	w := newWorld(t, nil)
	check(t, testpki.WriteCerts(filepath.Join(w.root, "anchors.pem"), w.pki.Root.Cert))
	w.srv.Judge = must(tlsconf.NewJudge(tlsconf.JudgeConfig{AnchorFiles: []string{filepath.Join(w.root, "anchors.pem")}}))(t)
	p := w.secure("leaf")
	p.cmd("MAIL FROM:<"+patient+">", "550 5.7.1 certificate is not issued by a trusted authority: the certificate of its issuer was not sent")
	p.stays()
	w.secure("patient").cmd("MAIL FROM:<"+patient+">", "250 2.1.0")
}

// A list that is no longer good, at the place of a good one: the good one stays in force, but no peer is refused for good
// while nobody knows what the newest says.
func TestAuditBadLists(t *testing.T) {
	w := newWorld(t, nil)
	file := filepath.Join(w.root, "list.xml")
	good := must(os.ReadFile(file))(t)
	rows := []whitelist.Binding{{Domain: "autre.test", DN: w.peers["stranger"].DN(), Description: "faux"}}
	made := func(pki *testpki.PKI, name string, at time.Time) []byte {
		signer := must(pki.Signer(name, "liste@mssante.test"))(t)
		var b bytes.Buffer
		check(t, whitelist.Make(&b, rows, signer.Cert, signer.Key, at))
		return b.Bytes()
	}
	unsigned := append(bytes.Clone(good[:bytes.Index(good, []byte("<Signature"))]), "</ListeBlancheMSSante>"...)
	for name, b := range map[string][]byte{
		"broken":            bytes.Replace(good, []byte("autre.test"), []byte("autra.test"), 1),
		"cut off":           good[:len(good)/2],
		"unsigned":          unsigned,
		"older":             made(w.pki, "signataire.test", time.Now().AddDate(0, 0, -3)),
		"wrong signer":      made(w.pki, "autre-signataire.test", time.Now()),
		"foreign authority": made(must(testpki.New())(t), "signataire.test", time.Now()),
		"lost most domains": made(w.pki, "signataire.test", time.Now()),
	} {
		t.Run(name, func(t *testing.T) {
			check(t, os.WriteFile(file, b, 0o600))
			if err := w.srv.List.Reload(context.Background()); err == nil {
				t.Fatal("the list was taken")
			}
			w := w.as(t)
			w.secure("patient").cmd("MAIL FROM:<"+patient+">", "250 2.1.0")
			p := w.secure("stranger")
			p.cmd("MAIL FROM:<dr@autre.test>", "451 4.7.1 white list cannot be checked now")
			p.stays()
		})
	}
	check(t, os.WriteFile(file, good, 0o600))
	check(t, w.srv.List.Reload(context.Background()))
	w.secure("stranger").cmd("MAIL FROM:<dr@autre.test>", "550 5.7.1 certificate not bound")
}

// A revocation list that is old or missing is our failure: the peer keeps the mail.
func TestRevocationListMissingIsTemporary(t *testing.T) {
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	t.Cleanup(down.Close)
	dir := t.TempDir()
	for name, change := range map[string]func(*tlsconf.JudgeConfig){
		"file missing":    func(c *tlsconf.JudgeConfig) { c.CRLFiles = []string{filepath.Join(dir, "none.crl")} },
		"never fetched":   func(c *tlsconf.JudgeConfig) { c.CRLURLs, c.CRLDir = []string{down.URL}, filepath.Join(dir, "crl") },
		"grace over":      func(c *tlsconf.JudgeConfig) { c.CRLFiles = []string{filepath.Join(dir, "old.crl")} },
		"of another only": func(c *tlsconf.JudgeConfig) { c.CRLFiles = []string{filepath.Join(dir, "root.crl")} },
		"OCSP required": func(c *tlsconf.JudgeConfig) {
			c.OCSP, c.OCSPURL, c.CRLFiles = tlsconf.OCSPRequire, down.URL, []string{filepath.Join(dir, "good.crl")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			now := time.Now()
			for file, b := range map[string][]byte{
				"old.crl":  must(w.pki.Issuing.CRL(now.AddDate(0, 0, -9), now.AddDate(0, 0, -2)))(t),
				"root.crl": must(w.pki.Root.CRL(now.Add(-time.Hour), now.AddDate(0, 0, 2)))(t),
				"good.crl": must(w.pki.Issuing.CRL(now.Add(-time.Hour), now.AddDate(0, 0, 2)))(t),
			} {
				check(t, os.WriteFile(filepath.Join(dir, file), b, 0o600))
			}
			cfg := tlsconf.JudgeConfig{AnchorFiles: []string{filepath.Join(w.root, "anchors.pem")}}
			change(&cfg)
			w.srv.Judge = must(tlsconf.NewJudge(cfg))(t)
			_ = w.srv.Judge.Fetch(t.Context())
			p := w.secure("patient")
			p.cmd("MAIL FROM:<"+patient+">", "451 4.7.1 ")
			p.stays()
			w.secure("foreign").cmd("MAIL FROM:<"+patient+">", "550 5.7.1 certificate is not issued by a trusted authority")
		})
	}
}

// A peer that its authority's responder calls revoked, during a kept connection, is refused at its next MAIL.
func TestOCSPAtMail(t *testing.T) {
	w := newWorld(t, nil)
	at := time.Date(2026, 5, 3, 12, 0, 0, 0, time.UTC)
	var answer atomic.Pointer[testpki.OCSP]
	answer.Store(&testpki.OCSP{})
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		req := must(ocsp.ParseRequest(body))(t)
		_, _ = rw.Write(must(w.pki.Issuing.OCSPAnswer(req.SerialNumber, *answer.Load()))(t))
	}))
	t.Cleanup(s.Close)
	w.srv.Judge = must(tlsconf.NewJudge(tlsconf.JudgeConfig{AnchorFiles: []string{filepath.Join(w.root, "anchors.pem")},
		OCSP: tlsconf.OCSPRequire, OCSPURL: s.URL, Now: w.now}))(t)
	p := w.secure("patient")
	p.deliver(patient, pharmacy, prescription)
	w.ahead.Store(int64(15 * time.Minute))
	answer.Store(&testpki.OCSP{Status: ocsp.Revoked, RevokedAt: at, ThisUpdate: w.now()})
	p.cmd("MAIL FROM:<"+patient+">", "550 5.7.1 certificate revoked on 2026-05-03 (serial ")
	p.stays()
}

// A ticket of before the revocation opens nothing, with TLS 1.2 and 1.3.
func TestResumptionAfterRevocation(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newWorld(t, nil)
		cfg := w.clientConfig("patient")
		cfg.MaxVersion, cfg.ClientSessionCache = version, tls.NewLRUClientSessionCache(4)
		open := func(want string) bool {
			p := w.dial()
			p.expect("220")
			p.cmd("STARTTLS", "220")
			c := tls.Client(p.conn, cfg)
			check(t, c.Handshake())
			p.conn = c
			p.br.Reset(c)
			p.cmd("EHLO x", "250")
			p.cmd("MAIL FROM:<"+patient+">", want)
			p.cmd("QUIT", "221")
			return c.ConnectionState().DidResume
		}
		open("250 2.1.0")
		w.revoke(time.Now().Add(-time.Minute), w.peers["patient"].Cert.SerialNumber)
		if !open("550 5.7.1 certificate revoked on ") {
			t.Errorf("%s: no session was resumed: nothing was tested", tls.VersionName(version))
		}
	}
}

// A second handshake inside the first (TLS 1.2) is not begun: nobody changes its certificate in mid-session.
func TestRenegotiationIsRefused(t *testing.T) {
	openssl := program(t, "openssl")
	w := newWorld(t, nil)
	cert, key, ca := w.files("other")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, openssl, "s_client", "-starttls", "smtp", "-connect", w.addr, "-CAfile", ca, "-servername", "mx.operateur.test",
		"-cert", cert, "-key", key, "-crlf", "-tls1_2")
	in, stdout := must(cmd.StdinPipe())(t), must(cmd.StdoutPipe())(t)
	var said syncBuffer
	cmd.Stderr = &said
	check(t, cmd.Start())
	defer in.Close()
	must(io.WriteString(in, "EHLO openssl.test\n"))(t)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "RCPTMAX") {
	}
	must(io.WriteString(in, "R\n"))(t) // alone, R asks for a new handshake
	for lines.Scan() {
	}
	_ = cmd.Wait()
	if ctx.Err() != nil || !strings.Contains(said.String(), "RENEGOTIATING") {
		t.Errorf("the session went on after a renegotiation, or none was tried:\n%s", said.String())
	}
	w.secure("other").cmd("MAIL FROM:<dr@autre.test>", "250 2.1.0")
}
