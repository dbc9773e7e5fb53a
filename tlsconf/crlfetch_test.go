package tlsconf_test

import (
	"crypto/sha256"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// point is a distribution point of revocation lists.
type point struct {
	*httptest.Server
	mu     sync.Mutex
	body   []byte // nil: 503
	served int    // times that it was sent whole
}

func newPoint(t *testing.T) *point {
	p := &point{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.body == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		tag := fmt.Sprintf(`"%x"`, sha256.Sum256(p.body))
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		p.served++
		w.Write(p.body)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *point) publish(body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.body = body
}

// A list that is fetched comes into force when it verifies and is not older; whatever else the place serves, and
// whatever becomes of the network, what was held stays, also over a restart.
func TestFetchedCRL(t *testing.T) {
	c, p := newCourt(t), newPoint(t)
	dir := filepath.Join(c.dir, "crl")
	open := func() *tlsconf.Judge {
		return c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLURLs, cfg.CRLDir = []string{p.URL + "/issuing.crl"}, dir })
	}
	leaf := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator}))(t)
	serial := leaf.Cert.SerialNumber
	j := open()
	want := func(r tlsconf.Reason) {
		t.Helper()
		if v := j.Certificates(leaf.Chain); v.Reason != r {
			t.Fatalf("verdict %v (%s), want %v", v.Reason, v.Text(), r)
		}
	}
	fetch := func(fault string) {
		t.Helper()
		err := j.Fetch(t.Context())
		if (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Fatalf("fetch: %v, want %q", err, fault)
		}
		if warning := j.Warning(); fault != "" && (warning == nil || !strings.Contains(warning.Error(), fault)) {
			t.Errorf("nobody is warned: %v", warning)
		}
	}
	list := func(age time.Duration, revoked ...*big.Int) []byte {
		return must(c.pki.Issuing.CRL(c.now.Add(-age), c.now.Add(24*time.Hour), revoked...))(t)
	}

	want(tlsconf.RevocationUnknown) // nothing is known yet: temporary
	fetch("503")
	want(tlsconf.RevocationUnknown)
	first := list(3 * time.Hour)
	p.publish(first)
	fetch("")
	want(tlsconf.OK)
	generation := j.Generation()
	fetch("")
	if p.served != 1 || j.Generation() != generation {
		t.Errorf("an unchanged list was sent %d times, %d reloads", p.served, j.Generation()-generation)
	}
	p.publish(list(2*time.Hour, serial))
	fetch("")
	want(tlsconf.Revoked)
	p.publish(first)
	fetch("older")
	want(tlsconf.Revoked)
	p.publish([]byte("<html>Portail captif</html>"))
	fetch("not a revocation list")
	p.publish(must(must(testpki.New())(t).Issuing.CRL(c.now, c.now.Add(time.Hour)))(t))
	fetch("does not verify")
	p.publish(make([]byte, 65<<20))
	fetch("too large")
	want(tlsconf.Revoked)

	p.Close() // the network is away at the next start
	j = open()
	want(tlsconf.Revoked)
	fetch("refused")
	want(tlsconf.Revoked)

	c.now = c.now.Add(24*time.Hour + time.Minute) // past nextUpdate, within the grace
	other := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator, NotBefore: c.now.Add(-time.Hour), NotAfter: c.now.AddDate(1, 0, 0)}))(t)
	if v := j.Certificates(other.Chain); v.Reason != tlsconf.OK {
		t.Errorf("within the grace: %v", v.Reason)
	}
	if err := j.Warning(); err == nil || !strings.Contains(err.Error(), "was to be renewed") {
		t.Errorf("nobody is warned of a list that ends: %v", err)
	}
	c.now = c.now.Add(25 * time.Hour)
	if v := j.Certificates(other.Chain); !v.Temporary() {
		t.Errorf("after the grace: %v, want a temporary answer", v.Reason)
	}
}

// What is left of an interrupted or damaged copy is fetched anew.
func TestDamagedCopyIsFetchedAgain(t *testing.T) {
	c, p := newCourt(t), newPoint(t)
	dir := filepath.Join(c.dir, "crl")
	config := func(cfg *tlsconf.JudgeConfig) { cfg.CRLURLs, cfg.CRLDir = []string{p.URL}, dir }
	leaf := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator}))(t)
	p.publish(must(c.pki.Issuing.CRL(c.now, c.now.Add(time.Hour)))(t))
	if err := c.judge(t, config).Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	copies, _ := filepath.Glob(filepath.Join(dir, "*.crl"))
	if len(copies) != 1 {
		t.Fatalf("copies: %q", copies)
	}
	if err := os.WriteFile(copies[0], []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := c.judge(t, config)
	if v := j.Certificates(leaf.Chain); v.Reason != tlsconf.RevocationUnknown {
		t.Errorf("with a damaged copy: %v", v.Reason)
	}
	if err := j.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := j.Certificates(leaf.Chain); v.Reason != tlsconf.OK {
		t.Errorf("fetched again: %v", v.Reason)
	}
}

// A list that was kept and could not be put in force, because another file was bad just then, is put in force as soon as
// that file is whole, although the place says 304 to it: else a revoked peer would be let in for hours.
func TestKeptCRLIsTakenLater(t *testing.T) {
	c, p := newCourt(t), newPoint(t)
	dir := filepath.Join(c.dir, "crl")
	leaf := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator}))(t)
	p.publish(must(c.pki.Issuing.CRL(c.now.Add(-2*time.Hour), c.now.Add(24*time.Hour)))(t))
	j := c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLURLs, cfg.CRLDir = []string{p.URL}, dir })
	if err := j.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	anchors := must(os.ReadFile(c.anchors))(t)
	put := func(b []byte) {
		if err := os.WriteFile(c.anchors, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(anchors[:len(anchors)/2])
	p.publish(must(c.pki.Issuing.CRL(c.now.Add(-time.Hour), c.now.Add(24*time.Hour), leaf.Cert.SerialNumber))(t))
	for range 2 { // fetched, then 304
		if err := j.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "not in force") || j.Warning() == nil {
			t.Errorf("fetch with a bad file of anchors: %v, warning %v", err, j.Warning())
		}
	}
	put(anchors)
	if err := j.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := j.Certificates(leaf.Chain); v.Reason != tlsconf.Revoked {
		t.Errorf("verdict %v, want revoked", v.Reason)
	}
	generation := j.Generation()
	if err := j.Fetch(t.Context()); err != nil || j.Generation() != generation || p.served != 2 {
		t.Errorf("%v; %d reloads more, the list was sent %d times", err, j.Generation()-generation, p.served)
	}
}

// A kill in the middle of a copy leaves a file that nobody would ever remove.
func TestHalfCopiesGo(t *testing.T) {
	c, p := newCourt(t), newPoint(t)
	dir := filepath.Join(c.dir, "crl")
	open := func() *tlsconf.Judge {
		return c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLURLs, cfg.CRLDir = []string{p.URL}, dir })
	}
	p.publish(must(c.pki.Issuing.CRL(c.now, c.now.Add(time.Hour)))(t))
	if err := open().Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"0011.crl.123", "0011.crl.json.4", "0011.crl.old", "notes.5"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open()
	var names []string
	for _, e := range must(os.ReadDir(dir))(t) {
		names = append(names, e.Name())
	}
	if len(names) != 4 || !slices.Contains(names, "0011.crl.old") || !slices.Contains(names, "notes.5") {
		t.Errorf("left: %q, want the copy, its tag and what is not ours", names)
	}
}

// Delta lists add to the full list that they are based on, take back what they lift, and are nothing without it.
func TestDeltaCRL(t *testing.T) {
	c := newCourt(t)
	a := c.pki.Issuing
	hold := must(a.Issue(testpki.Request{Subject: operator}))(t)
	fresh := must(a.Issue(testpki.Request{Subject: operator}))(t)
	base, day := c.now.Add(-10*time.Hour), c.now.Add(24*time.Hour)
	file := func(name string, b []byte) string {
		t.Helper()
		f := filepath.Join(c.dir, name)
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	full := file("full.crl", must(a.CRL(base, day, hold.Cert.SerialNumber))(t))
	newer := file("newer.crl", must(a.CRL(c.now.Add(-time.Hour), day))(t))
	add := file("add.crl", must(a.DeltaCRL(base, base.Add(time.Hour), day, []*big.Int{fresh.Cert.SerialNumber}, nil))(t))
	lift := file("lift.crl", must(a.DeltaCRL(base, base.Add(2*time.Hour), day, []*big.Int{fresh.Cert.SerialNumber}, []*big.Int{hold.Cert.SerialNumber}))(t))
	far := file("far.crl", must(a.DeltaCRL(c.now, c.now.Add(time.Minute), day, []*big.Int{fresh.Cert.SerialNumber}, nil))(t))
	for _, tc := range []struct {
		name        string
		files       []string
		hold, fresh tlsconf.Reason
		note        bool
	}{
		{"full", []string{full}, tlsconf.Revoked, tlsconf.OK, false},
		{"full and delta", []string{full, add}, tlsconf.Revoked, tlsconf.Revoked, false},
		{"the newest of several, in any order", []string{lift, add, full}, tlsconf.OK, tlsconf.Revoked, false},
		{"a newer full list", []string{full, lift, newer}, tlsconf.OK, tlsconf.OK, false},
		{"delta alone", []string{add}, tlsconf.RevocationUnknown, tlsconf.RevocationUnknown, true},
		{"delta of a later list", []string{full, far}, tlsconf.Revoked, tlsconf.OK, true},
	} {
		j := c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = tc.files })
		if got := j.Certificates(hold.Chain).Reason; got != tc.hold {
			t.Errorf("%s: held certificate %v, want %v", tc.name, got, tc.hold)
		}
		if got := j.Certificates(fresh.Chain).Reason; got != tc.fresh {
			t.Errorf("%s: other certificate %v, want %v", tc.name, got, tc.fresh)
		}
		if err := j.Warning(); (err != nil) != tc.note {
			t.Errorf("%s: warning %v", tc.name, err)
		}
	}
}
