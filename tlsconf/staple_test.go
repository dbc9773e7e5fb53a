package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// stapled is what a client is shown beside the certificate.
func stapled(t *testing.T, f *Front, roots *x509.CertPool) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _ = tls.Server(a, f.Config()).Handshake() }()
	c := tls.Client(b, &tls.Config{RootCAs: roots, ServerName: "mx.test"})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().OCSPResponse
}

func TestStaple(t *testing.T) {
	var answer func() []byte
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		body, _ := io.ReadAll(r.Body)
		if _, err := ocsp.ParseRequest(body); err != nil {
			t.Errorf("question: %v", err)
		}
		_, _ = w.Write(answer())
	}))
	defer s.Close()
	p := newStaplePKI(t, s.URL)
	now := time.Now()
	f, err := NewFront(FrontConfig{Name: "smtp", CertFile: p.cert, KeyFile: p.key, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	anchors := NewAnchors(p.root)
	roots, _ := anchors.Pools()
	var st stapling
	look := func() { f.staple(t.Context(), &st, anchors) }

	answer = func() []byte { return []byte("nonsense") }
	look()
	if got := stapled(t, f, roots); got != nil || asked != 1 {
		t.Fatalf("%d octets shown after %d questions, want none: the answer was nonsense", len(got), asked)
	}
	look()
	if asked != 1 {
		t.Fatalf("asked %d times at once after a failure", asked)
	}
	now = now.Add(6 * time.Minute)
	good := p.answer(t, ocsp.Good, now, now.Add(4*time.Hour))
	answer = func() []byte { return good }
	look()
	if got := stapled(t, f, roots); string(got) != string(good) {
		t.Fatalf("%d octets shown, want the responder's %d", len(got), len(good))
	}
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	if stapled(t, f, roots) == nil {
		t.Error("a reload of the same certificate forgot the answer")
	}
	// The responder is away until the answer has ended: nothing old is shown.
	answer = func() []byte { return nil }
	now = now.Add(3 * time.Hour)
	look()
	if stapled(t, f, roots) == nil || asked != 3 {
		t.Errorf("asked %d times; the answer held is still good", asked)
	}
	now = now.Add(61 * time.Minute)
	look()
	if stapled(t, f, roots) != nil {
		t.Error("an answer that has ended is shown")
	}
	now = now.Add(24 * time.Hour)
	answer = func() []byte { return p.answer(t, ocsp.Revoked, now, now.Add(4*time.Hour)) }
	look()
	if err := f.Warning(); err == nil || !strings.Contains(err.Error(), "revoked") || stapled(t, f, roots) != nil {
		t.Errorf("our certificate is revoked: %v", err)
	}
	p.write(t) // the certificate that takes its place
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := f.Warning(); err != nil {
		t.Errorf("a new certificate is warned of: %v", err)
	}
}

func TestNoResponderNoStaple(t *testing.T) {
	p := newStaplePKI(t, "")
	f, err := NewFront(FrontConfig{Name: "smtp", CertFile: filepath.Clean(p.cert), KeyFile: p.key})
	if err != nil {
		t.Fatal(err)
	}
	var st stapling
	f.staple(t.Context(), &st, nil)
	if f.loaded.Load().config.Certificates[0].OCSPStaple != nil || st.fails != 0 {
		t.Error("a certificate that names no responder needs none")
	}
}
