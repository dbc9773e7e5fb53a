package fetch

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// server is a TLS server and a source that trusts it.
func server(t *testing.T, h http.HandlerFunc) (*httptest.Server, *Source) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	return srv, &Source{URL: srv.URL + "/list.xml", Roots: func() *x509.CertPool { return pool }, MaxSize: 1000, Timeout: 20 * time.Second}
}

func TestConditionalGet(t *testing.T) {
	version, full := "un", 0
	_, s := server(t, func(w http.ResponseWriter, r *http.Request) {
		tag := `"` + version + `"`
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		full++
		fmt.Fprint(w, version)
	})
	body, tag, err := s.Get(t.Context(), Tag{})
	if err != nil || string(body) != "un" {
		t.Fatalf("%q, %v", body, err)
	}
	if body, _, err = s.Get(t.Context(), tag); err != nil || body != nil || full != 1 {
		t.Errorf("asked again: %q, %v, sent %d times", body, err, full)
	}
	version = "deux"
	if body, _, err = s.Get(t.Context(), tag); err != nil || string(body) != "deux" {
		t.Errorf("after a change: %q, %v", body, err)
	}
	// Whoever kept nothing gets it whole, and an empty document is not "unchanged".
	version = ""
	if body, _, err = s.Get(t.Context(), Tag{}); err != nil || body == nil {
		t.Errorf("empty document: %v, %v", body, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    http.HandlerFunc
		want error
		text string
	}{
		{"too large, announced", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1001)) }, ErrTooLarge, ""},
		{"too large, not announced", func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				w.Write(make([]byte, 100))
				w.(http.Flusher).Flush()
			}
		}, ErrTooLarge, ""},
		{"not found", http.NotFound, ErrStatus, "404"},
		{"304 that nobody asked for", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, ErrStatus, "304"},
		{"another host", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.test/x", http.StatusFound)
		}, nil, "evil.test"},
		{"in clear", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+r.Host+"/x", http.StatusFound)
		}, nil, "http://"},
		{"for ever", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, nil, "redirected"},
		{"cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "500")
			w.Write(make([]byte, 100))
		}, nil, "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, s := server(t, tc.h)
			body, _, err := s.Get(t.Context(), Tag{})
			if body != nil || err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%d octets, %v; want %v %s", len(body), err, tc.want, tc.text)
			}
		})
	}
}

// A server that is silent, and one that our anchors do not know.
func TestSlowAndForeign(t *testing.T) {
	hold := make(chan struct{})
	_, s := server(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(hold) })
	s.Timeout = 100 * time.Millisecond
	if _, _, err := s.Get(t.Context(), Tag{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent server: %v", err)
	}
	_, s = server(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })
	s.Roots = func() *x509.CertPool { return x509.NewCertPool() }
	if _, _, err := s.Get(t.Context(), Tag{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("server of a foreign authority: %v", err)
	}
}

// The anchors are looked up at each connection.
func TestRootsAreReadAnew(t *testing.T) {
	srv, s := server(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })
	pool := x509.NewCertPool()
	s.Roots = func() *x509.CertPool { return pool }
	if _, _, err := s.Get(t.Context(), Tag{}); err == nil {
		t.Fatal("trusted without an anchor")
	}
	pool = x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	if body, _, err := s.Get(t.Context(), Tag{}); err != nil || !bytes.Equal(body, []byte("x")) {
		t.Errorf("with the new anchor: %q, %v", body, err)
	}
}

func TestCheck(t *testing.T) {
	for raw, ok := range map[string][2]bool{ // https only, http too
		"https://list.test/a.xml": {true, true}, "http://crl.test/a.crl": {false, true}, "ldap://crl.test/": {false, false},
		"https://": {false, false}, "https://u:p@list.test/": {false, false}, "file:///etc/passwd": {false, false}, "::": {false, false},
	} {
		if got := Check(raw, false) == nil; got != ok[0] {
			t.Errorf("%s: %v", raw, got)
		}
		if got := Check(raw, true) == nil; got != ok[1] {
			t.Errorf("%s, http too: %v", raw, got)
		}
	}
}

func TestPace(t *testing.T) {
	p := Pace{Every: time.Hour}
	fault := errors.New("away")
	in := func(d, max time.Duration) {
		t.Helper()
		if d > max || d < max*9/10 {
			t.Errorf("wait %v, want about %v", d, max)
		}
	}
	in(p.Next(nil), time.Hour)
	in(p.Next(fault), 30*time.Second)
	in(p.Next(fault), time.Minute)
	for range 100 {
		p.Next(fault)
	}
	in(p.Next(fault), time.Hour)
	in(p.Next(nil), time.Hour)
	in(p.Next(fault), 30*time.Second)
}

// TestHeadAndSave: a large document is asked about before it is fetched, and goes to a writer.
func TestHeadAndSave(t *testing.T) {
	var gets int
	name := `attachment; filename=Liste_202611220413.zip`
	_, s := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"un"`)
		w.Header().Set("Content-Disposition", name)
		if r.Header.Get("If-None-Match") == `"un"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if r.Method == http.MethodGet {
			gets++
		}
		fmt.Fprint(w, "corps")
	})
	info, err := s.Head(t.Context())
	if err != nil || info.Name != "Liste_202611220413.zip" || info.ETag != `"un"` || gets != 0 {
		t.Fatalf("%+v, %v, %d bodies sent", info, err, gets)
	}
	var b bytes.Buffer
	got, ok, err := s.Save(t.Context(), Tag{}, &b)
	if err != nil || !ok || b.String() != "corps" || got.Size != 5 || got.Name != info.Name {
		t.Fatalf("%+v, %v, %v: %q", got, ok, err, b.String())
	}
	if _, ok, err = s.Save(t.Context(), got.Tag, &b); err != nil || ok || b.Len() != 5 {
		t.Errorf("unchanged: %v, %v, %q", ok, err, b.String())
	}
	s.MaxSize = 4
	if _, _, err = s.Save(t.Context(), Tag{}, io.Discard); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	s.MaxSize = 1000
	for hostile, want := range map[string]string{
		`attachment; filename="../../etc/passwd"`: "passwd", `attachment; filename="a\b.txt"`: "b.txt", `attachment; filename=".."`: "", "": "",
		`attachment; filename*=UTF-8''x%0ay.txt`: "", `attachment; filename="/"`: "",
	} {
		name = hostile
		if info, err := s.Head(t.Context()); err != nil || info.Name != want {
			t.Errorf("%q: %q, %v", hostile, info.Name, err)
		}
	}
}

func TestSisters(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"static.data.example.org", "www.data.example.org", true}, {"STATIC.data.example.org", "www.data.example.org", true},
		{"x.static.data.example.org", "www.data.example.org", false}, {"evil.org", "www.example.org", false},
		{"evil.example.org", "www.example.org", false}, {"static.data.example.org:8443", "www.data.example.org", false},
		{"static.data.example.org", "www.data.example.org:8443", false}, {"data.example.org", "www.data.example.org", false},
	} {
		if got := sisters(c.a, c.b); got != c.want {
			t.Errorf("%s, configured %s: %v", c.a, c.b, got)
		}
	}
}
