package whitelist

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/tlsconf/fetch"
)

// site publishes a list over HTTPS.
type site struct {
	*httptest.Server
	mu     sync.Mutex
	doc    []byte // nil: 503
	served int    // times that it was sent whole
}

func (s *site) publish(doc []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc = doc
}

// overHTTPS makes the list of a bench one that is fetched.
func overHTTPS(b *bench) *site {
	s := &site{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.doc == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		tag := fmt.Sprintf(`"%x"`, sha256.Sum256(s.doc))
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		s.served++
		w.Write(s.doc)
	}))
	b.t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	b.cfg.File = ""
	b.cfg.Source = &fetch.Source{URL: s.URL, Roots: func() *x509.CertPool { return pool }, MaxSize: MaxSize}
	return s
}

// A list that is fetched proves itself current by 200 and by 304; when the place is away what was held stays, grows
// old, and is asked for again when a question would be answered with no.
func TestKeeperOverHTTPS(t *testing.T) {
	b := newBench(t)
	s := overHTTPS(b)
	if _, err := NewKeeper(b.cfg); !errors.Is(err, ErrNoListYet) {
		t.Fatalf("first start without a list: %v", err)
	}
	s.publish(b.s.list(t, domains(3), b.base))
	k := b.keeper()
	name := dn(t, "CN=smtp.test,O=A,C=FR")
	judge := func(domain string, want Answer) {
		t.Helper()
		if a := k.Judge(t.Context(), domain, name, b.now()); a != want {
			t.Errorf("%s: %v, want %v", domain, a, want)
		}
	}
	judge("d.test", Bound)

	b.pass(2 * time.Hour)
	if age := k.Age(); age != 2*time.Hour {
		t.Errorf("age %v", age)
	}
	if err := k.Reload(t.Context()); err != nil || k.Age() != 0 || s.served != 1 {
		t.Errorf("an unchanged list: %v, age %v, sent %d times", err, k.Age(), s.served)
	}

	// A domain that is new at the place is bound before anybody is refused.
	b.pass(2 * time.Minute)
	s.publish(b.s.list(t, domains(4), b.base.Add(time.Hour)))
	judge("dxxx.test", Bound)
	b.pass(2 * time.Minute)
	judge("nowhere.test", NotListed)

	// Away: yes is still said, no is not.
	s.publish(nil)
	b.pass(2 * time.Minute)
	judge("d.test", Bound)
	judge("nowhere.test", CannotTell)
	if err := k.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "503") || k.Warning() == nil {
		t.Errorf("reload: %v, warning %v", err, k.Warning())
	}

	// A restart while the place is away; then the age policy.
	k = b.keeper()
	judge("d.test", Bound)
	b.pass(8 * 24 * time.Hour)
	judge("d.test", CannotTell)
	s.publish(b.s.list(t, domains(4), b.base.Add(time.Hour)))
	b.pass(2 * time.Minute)
	judge("d.test", Bound)
	if s.served != 2 {
		t.Errorf("the same list was sent %d times; its validator must survive a restart", s.served)
	}
}

// Whatever else the place serves is refused, and asked for again: nothing that was refused counts as known.
func TestKeeperRefusesWhatIsFetched(t *testing.T) {
	b := newBench(t)
	s := overHTTPS(b)
	s.publish(b.s.list(t, domains(10), b.base))
	k := b.keeper()
	for name, doc := range map[string][]byte{
		"portal": []byte("<html/>"), "empty": {}, "fewer": b.s.list(t, domains(3), b.base.Add(time.Hour)),
		"older": b.s.list(t, domains(10), b.base.Add(-time.Hour)), "altered": bytes.Replace(b.s.list(t, domains(10), b.base.Add(time.Hour)), []byte("CN=smtp.test"), []byte("CN=evil.test"), 1),
	} {
		s.publish(doc)
		for range 2 {
			before := s.served
			if err := k.Reload(t.Context()); err == nil || !strings.HasPrefix(err.Error(), s.URL) || s.served != before+1 {
				t.Errorf("%s: %v, sent %d times", name, err, s.served-before)
			}
		}
	}
	if k.Current().Domains() != 10 {
		t.Errorf("%d domains in force", k.Current().Domains())
	}
	// An operator takes the short one; the place serves it too, and it proves itself.
	s.publish(b.s.list(t, domains(3), b.base.Add(time.Hour)))
	file := filepath.Join(t.TempDir(), "list.xml")
	if err := os.WriteFile(file, s.doc, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Accept(t.Context(), file); err != nil || k.Current().Domains() != 3 {
		t.Fatalf("accept: %v", err)
	}
	b.pass(time.Hour)
	if err := k.Reload(t.Context()); err != nil || k.Age() != 0 {
		t.Errorf("after accept: %v, age %v", err, k.Age())
	}
}

// Run asks at once where a copy was taken up, and ends with its context.
func TestKeeperRunAsksAtOnce(t *testing.T) {
	b := newBench(t)
	s := overHTTPS(b)
	s.publish(b.s.list(t, domains(3), b.base))
	b.keeper()
	s.publish(b.s.list(t, domains(4), b.base.Add(time.Hour)))
	k := b.keeper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	for end := time.Now().Add(20 * time.Second); k.Current().Domains() != 4 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil || k.Current().Domains() != 4 {
		t.Errorf("%v, %d domains", err, k.Current().Domains())
	}
}
