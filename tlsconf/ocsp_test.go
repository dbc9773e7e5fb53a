package tlsconf_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// responder answers questions as a test says.
type responder struct {
	url   string
	asked atomic.Int32
	mu    sync.Mutex
	serve http.HandlerFunc
}

func newResponder(t testing.TB) *responder {
	r := &responder{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.asked.Add(1)
		r.mu.Lock()
		h := r.serve
		r.mu.Unlock()
		h(w, q)
	}))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

func (r *responder) set(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serve = h
}

// says makes the responder answer every question with o, signed by a's responder.
func (r *responder) says(t testing.TB, a *testpki.Authority, o testpki.OCSP) {
	r.set(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		req, err := ocsp.ParseRequest(body)
		if err != nil || q.Method != "POST" || q.Header.Get("Content-Type") != "application/ocsp-request" {
			t.Errorf("question cannot be read: %v", err)
			return
		}
		der, err := a.OCSPAnswer(req.SerialNumber, o)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(der)
	})
}

func peerOf(chain []*x509.Certificate) tls.ConnectionState {
	return tls.ConnectionState{PeerCertificates: chain}
}

func (c *court) asking(t testing.TB, mode tlsconf.OCSPMode, url string, lists ...string) *tlsconf.Judge {
	return c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.OCSP, cfg.OCSPURL, cfg.CRLFiles = mode, url, lists })
}

func TestOCSPAnswers(t *testing.T) {
	c := newCourt(t)
	peer := must(c.pki.Operator(operator))(t)
	signing := []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	issue := func(r testpki.Request) *testpki.Identity { return must(c.pki.Issuing.Issue(r))(t) }
	delegate := issue(testpki.Request{Subject: testpki.Subject{CN: "repondeur.test"}, Usages: signing})
	gone := issue(testpki.Request{Usages: signing, NotBefore: c.now.AddDate(-1, 0, 0), NotAfter: c.now.Add(-time.Minute)})
	revokedOne := issue(testpki.Request{Usages: signing})
	another := issue(testpki.Request{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageAny}})
	ofRoot := must(c.pki.Root.Issue(testpki.Request{Usages: signing}))(t)
	foreign := must(testpki.New())(t)
	list := c.crl(t, c.pki.Issuing, c.now.Add(-time.Hour), c.now.Add(time.Hour), revokedOne.Cert.SerialNumber)
	at := c.now.Add(-48 * time.Hour).UTC().Truncate(time.Second)
	for _, tt := range []struct {
		name string
		by   *testpki.Authority
		o    testpki.OCSP
		want tlsconf.Reason // when it counts; RevocationUnknown: it does not
	}{
		{"good", c.pki.Issuing, testpki.OCSP{}, tlsconf.OK},
		{"revoked", c.pki.Issuing, testpki.OCSP{Status: ocsp.Revoked, RevokedAt: at}, tlsconf.Revoked},
		{"unknown to it", c.pki.Issuing, testpki.OCSP{Status: ocsp.Unknown}, tlsconf.RevocationUnknown},
		{"delegated", c.pki.Issuing, testpki.OCSP{By: delegate}, tlsconf.OK},
		{"delegated, revoked", c.pki.Issuing, testpki.OCSP{By: delegate, Status: ocsp.Revoked, RevokedAt: at}, tlsconf.Revoked},
		{"by a peer of the same authority", c.pki.Issuing, testpki.OCSP{By: another}, tlsconf.RevocationUnknown},
		{"by the peer itself", c.pki.Issuing, testpki.OCSP{By: peer}, tlsconf.RevocationUnknown},
		{"responder's certificate ended", c.pki.Issuing, testpki.OCSP{By: gone}, tlsconf.RevocationUnknown},
		{"responder's certificate revoked", c.pki.Issuing, testpki.OCSP{By: revokedOne}, tlsconf.RevocationUnknown},
		{"responder of the root", c.pki.Issuing, testpki.OCSP{By: ofRoot}, tlsconf.RevocationUnknown},
		{"by the root", c.pki.Root, testpki.OCSP{Named: c.pki.Issuing.Cert}, tlsconf.RevocationUnknown},
		{"by foreign authority", foreign.Issuing, testpki.OCSP{Named: c.pki.Issuing.Cert}, tlsconf.RevocationUnknown},
		{"about another authority's certificate", c.pki.Issuing, testpki.OCSP{Named: foreign.Issuing.Cert}, tlsconf.RevocationUnknown},
		{"old", c.pki.Issuing, testpki.OCSP{ThisUpdate: c.now.Add(-48 * time.Hour), NextUpdate: c.now.Add(-time.Hour)}, tlsconf.RevocationUnknown},
		{"of tomorrow", c.pki.Issuing, testpki.OCSP{ThisUpdate: c.now.Add(24 * time.Hour)}, tlsconf.RevocationUnknown},
		{"to another question", c.pki.Issuing, testpki.OCSP{Nonce: []byte("another question")}, tlsconf.RevocationUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newResponder(t)
			r.says(t, tt.by, tt.o)
			require := c.asking(t, tlsconf.OCSPRequire, r.url, list)
			v := require.PeerNow(t.Context(), peerOf(peer.Chain))
			if v.Reason != tt.want {
				t.Errorf("required: %s (%v), want %v; %v", v.Text(), v.Reason, tt.want, require.Warning())
			}
			if tt.want == tlsconf.Revoked && !strings.HasPrefix(v.Text(), "certificate revoked on "+at.Format(time.DateOnly)+" (serial ") {
				t.Errorf("text %q", v.Text())
			}
			if tt.want == tlsconf.RevocationUnknown && (!v.Temporary() || require.Warning() == nil) {
				t.Errorf("our failure must be temporary and warned of: %v", require.Warning())
			}
			want := tt.want
			if want == tlsconf.RevocationUnknown {
				want = tlsconf.OK // the list says so
			}
			if v := c.asking(t, tlsconf.OCSPPrefer, r.url, list).PeerNow(t.Context(), peerOf(peer.Chain)); v.Reason != want {
				t.Errorf("preferred: %s, want %v", v.Text(), want)
			}
		})
	}
}

func TestOCSPTransportFailures(t *testing.T) {
	c := newCourt(t)
	peer := must(c.pki.Operator(operator))(t)
	elsewhere := newResponder(t)
	elsewhere.says(t, c.pki.Issuing, testpki.OCSP{})
	for name, h := range map[string]http.HandlerFunc{
		"500":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"no OCSP":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"empty":    func(http.ResponseWriter, *http.Request) {},
		"try late": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(ocsp.TryLaterErrorResponse) },
		"endless":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
		"sent elsewhere": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, elsewhere.url, http.StatusTemporaryRedirect)
		},
	} {
		r := newResponder(t)
		r.set(h)
		if v := c.asking(t, tlsconf.OCSPRequire, r.url).PeerNow(t.Context(), peerOf(peer.Chain)); v.Reason != tlsconf.RevocationUnknown {
			t.Errorf("%s, required: %v", name, v.Reason)
		}
		if v := c.asking(t, tlsconf.OCSPPrefer, r.url).PeerNow(t.Context(), peerOf(peer.Chain)); !v.OK() {
			t.Errorf("%s, preferred: %v", name, v.Reason)
		}
	}
	if n := elsewhere.asked.Load(); n > 0 {
		t.Errorf("a redirection was followed %d times", n)
	}
	for _, url := range []string{"", "ldap://x/", "http://"} {
		cfg := c.config()
		cfg.OCSP, cfg.OCSPURL = tlsconf.OCSPPrefer, url
		if _, err := tlsconf.NewJudge(cfg); err == nil {
			t.Errorf("URL %q was taken", url)
		}
	}
}

// What a list says no responder lifts, and a list that is missing a responder makes up for; a list above the leaf not.
func TestOCSPAndLists(t *testing.T) {
	c := newCourt(t)
	peer := must(c.pki.Operator(operator))(t)
	r := newResponder(t)
	r.says(t, c.pki.Issuing, testpki.OCSP{})
	day := 24 * time.Hour
	names := func() string {
		return c.crl(t, c.pki.Issuing, c.now.Add(-time.Hour), c.now.Add(day), peer.Cert.SerialNumber)
	}
	stale := func() string { return c.crl(t, c.pki.Issuing, c.now.Add(-9*day), c.now.Add(-2*day)) }
	staleRoot := func() string { return c.crl(t, c.pki.Root, c.now.Add(-9*day), c.now.Add(-2*day)) }
	for _, tt := range []struct {
		name string
		list func() string
		want tlsconf.Reason
	}{{"list names it", names, tlsconf.Revoked}, {"list is stale", stale, tlsconf.OK}, {"list above is stale", staleRoot, tlsconf.RevocationUnknown}} {
		for _, mode := range []tlsconf.OCSPMode{tlsconf.OCSPPrefer, tlsconf.OCSPRequire} {
			if v := c.asking(t, mode, r.url, tt.list()).PeerNow(t.Context(), peerOf(peer.Chain)); v.Reason != tt.want {
				t.Errorf("%s, mode %d: %v, want %v", tt.name, mode, v.Reason, tt.want)
			}
		}
	}
	before := r.asked.Load()
	other := must(testpki.New())(t)
	for _, chain := range [][]*x509.Certificate{nil, must(other.Operator(operator))(t).Chain} {
		c.asking(t, tlsconf.OCSPRequire, r.url).PeerNow(t.Context(), peerOf(chain))
	}
	c.asking(t, tlsconf.OCSPOff, "").PeerNow(t.Context(), peerOf(peer.Chain))
	if n := r.asked.Load() - before; n != 0 {
		t.Errorf("%d questions about peers that are refused anyway", n)
	}
}

// An answer is remembered, renewed, and outlives a responder that fails, until its own end.
func TestOCSPAnswerIsKept(t *testing.T) {
	c := newCourt(t)
	peer := must(c.pki.Operator(operator))(t)
	r := newResponder(t)
	r.says(t, c.pki.Issuing, testpki.OCSP{ThisUpdate: c.now, NextUpdate: c.now.Add(2 * time.Hour)})
	j := c.asking(t, tlsconf.OCSPRequire, r.url)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if v := j.PeerNow(context.Background(), peerOf(peer.Chain)); !v.OK() {
				t.Errorf("verdict %s", v.Text())
			}
		})
	}
	all.Wait()
	if n := r.asked.Load(); n != 1 {
		t.Errorf("%d questions, want 1 for 20 peers at once", n)
	}
	r.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	c.now = c.now.Add(time.Hour)
	for range 10 {
		if v := j.PeerNow(t.Context(), peerOf(peer.Chain)); !v.OK() {
			t.Fatalf("the answer held is good for another hour: %s", v.Text())
		}
	}
	if n := r.asked.Load(); n != 4 {
		t.Errorf("%d questions, want 4: after three failures the responder is left alone", n)
	}
	c.now = c.now.Add(61 * time.Minute)
	if v := j.PeerNow(t.Context(), peerOf(peer.Chain)); v.Reason != tlsconf.RevocationUnknown {
		t.Errorf("the answer held has ended: %s", v.Text())
	}
	// The responder is back, and has something to say.
	r.says(t, c.pki.Issuing, testpki.OCSP{Status: ocsp.Revoked, RevokedAt: c.now, ThisUpdate: c.now})
	c.now = c.now.Add(6 * time.Minute)
	if v := j.PeerNow(t.Context(), peerOf(peer.Chain)); v.Reason != tlsconf.Revoked {
		t.Errorf("revoked meanwhile: %s", v.Text())
	}
	if err := j.Warning(); err != nil {
		t.Errorf("all is well again: %v", err)
	}
}

// A peer waits no longer than its session lives, though the responder hangs.
func TestOCSPHangingResponder(t *testing.T) {
	c := newCourt(t)
	peer := must(c.pki.Operator(operator))(t)
	r := newResponder(t)
	free := make(chan struct{})
	r.set(func(_ http.ResponseWriter, q *http.Request) {
		select {
		case <-free:
		case <-q.Context().Done():
		}
	})
	j := c.asking(t, tlsconf.OCSPRequire, r.url)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v := j.PeerNow(ctx, peerOf(peer.Chain)); !v.Temporary() {
		t.Errorf("verdict %s", v.Text())
	}
	close(free)
}

// openssl is a responder that others wrote: delegated, and with nonces.
func TestOCSPOfOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("openssl is missing")
	}
	c := newCourt(t)
	good, bad := must(c.pki.Operator(operator))(t), must(c.pki.Operator(operator))(t)
	delegate := must(c.pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{CN: "repondeur.test"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}))(t)
	file := func(name string) string { return filepath.Join(c.dir, name) }
	if err := errors.Join(delegate.WriteFiles(file("r.pem"), file("r.key")), testpki.WriteCerts(file("ca.pem"), c.pki.Issuing.Cert),
		os.WriteFile(file("index.txt"), fmt.Appendf(nil, "V\t400101000000Z\t\t%X\tunknown\t/CN=a\nR\t400101000000Z\t260503120000Z\t%X\tunknown\t/CN=b\n",
			good.Cert.SerialNumber.Bytes(), bad.Cert.SerialNumber.Bytes()), 0o600)); err != nil {
		t.Fatal(err)
	}
	nonces := 0
	r := newResponder(t)
	r.set(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		_ = os.WriteFile(file("req.der"), body, 0o600)
		out, err := exec.Command(openssl, "ocsp", "-index", file("index.txt"), "-CA", file("ca.pem"), "-rsigner", file("r.pem"), "-rkey", file("r.key"),
			"-reqin", file("req.der"), "-respout", file("resp.der"), "-ndays", "1", "-req_text", "-resp_text").CombinedOutput()
		if err != nil {
			t.Errorf("openssl ocsp: %v\n%s", err, out)
		}
		nonces += bytes.Count(out, []byte("OCSP Nonce"))
		der, _ := os.ReadFile(file("resp.der"))
		_, _ = w.Write(der)
	})
	j := c.asking(t, tlsconf.OCSPRequire, r.url)
	if v := j.PeerNow(t.Context(), peerOf(good.Chain)); !v.OK() {
		t.Errorf("good: %s: %v", v.Text(), j.Warning())
	}
	if v := j.PeerNow(t.Context(), peerOf(bad.Chain)); v.Reason != tlsconf.Revoked || !strings.Contains(v.Text(), "2026-05-03") {
		t.Errorf("revoked: %s: %v", v.Text(), j.Warning())
	}
	if nonces != 4 {
		t.Errorf("%d nonces in two questions and two answers, want 4", nonces)
	}
}
