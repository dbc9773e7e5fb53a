package tlsconf_test

import (
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// court is a trust space on disk with a clock.
type court struct {
	pki          *testpki.PKI
	dir, anchors string
	now          time.Time
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newCourt(t testing.TB) *court {
	c := &court{pki: must(testpki.New())(t), dir: t.TempDir(), now: time.Now()}
	c.anchors = filepath.Join(c.dir, "anchors.pem")
	if err := c.pki.WriteAnchors(c.anchors); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *court) config() tlsconf.JudgeConfig {
	return tlsconf.JudgeConfig{AnchorFiles: []string{c.anchors}, Now: func() time.Time { return c.now }}
}

func (c *court) judge(t testing.TB, change func(*tlsconf.JudgeConfig)) *tlsconf.Judge {
	t.Helper()
	cfg := c.config()
	if change != nil {
		change(&cfg)
	}
	return must(tlsconf.NewJudge(cfg))(t)
}

var operator = testpki.Subject{C: "FR", ST: "Puy-de-Dôme (63)", O: "OPERATEUR  TEST", OU: "300000000000003", CN: "smtp.operateur.test"}

func TestVerdicts(t *testing.T) {
	c := newCourt(t)
	issue := func(r testpki.Request) []*x509.Certificate {
		r.Subject = operator
		return must(c.pki.Issuing.Issue(r))(t).Chain
	}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	other := must(testpki.New())(t)
	self := must(testpki.SelfSigned(testpki.Request{Subject: operator}))(t)
	limited := must(c.pki.Root.Authority("AC TEST FAIBLE", testpki.P256))(t)
	strict := func(cfg *tlsconf.JudgeConfig) { cfg.RequireClientAuth = true }
	year := 365 * 24 * time.Hour
	date := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	ended, starts := c.now.Add(-time.Hour), c.now.Add(time.Hour)
	for _, tt := range []struct {
		name   string
		chain  []*x509.Certificate
		change func(*tlsconf.JudgeConfig)
		want   tlsconf.Reason
		usage  string
		text   string
	}{
		{"good", issue(testpki.Request{Usages: client}), nil, tlsconf.OK, "clientAuth", "certificate accepted"},
		{"server usage", issue(testpki.Request{Usages: server}), nil, tlsconf.OK, "serverAuth", "certificate accepted"},
		{"both usages", issue(testpki.Request{Usages: append(server, client...)}), strict, tlsconf.OK, "clientAuth+serverAuth", "certificate accepted"},
		{"no usage", issue(testpki.Request{}), strict, tlsconf.OK, "none", "certificate accepted"},
		{"issuing authority not shown", issue(testpki.Request{})[:1], nil, tlsconf.OK, "none", "certificate accepted"},
		{"RSA", issue(testpki.Request{Key: testpki.RSA2048}), nil, tlsconf.OK, "none", "certificate accepted"},
		{"new authority under the root", must(limited.Issue(testpki.Request{Subject: operator}))(t).Chain, nil, tlsconf.OK, "none", "certificate accepted"},
		{"server usage, strict", issue(testpki.Request{Usages: server}), strict, tlsconf.WrongUsage, "serverAuth",
			"certificate is not made for this use: extended key usage is serverAuth, expected clientAuth"},
		{"mail usage", issue(testpki.Request{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}), nil, tlsconf.WrongUsage, "emailProtection",
			"certificate is not made for this use: extended key usage is emailProtection, expected clientAuth or serverAuth"},
		{"key usage", issue(testpki.Request{KeyUsage: x509.KeyUsageContentCommitment}), nil, tlsconf.WrongUsage, "none",
			"certificate is not made for this use: key usage lacks digitalSignature, keyEncipherment and keyAgreement"},
		{"none", nil, nil, tlsconf.NoCertificate, "", "no client certificate was presented"},
		{"foreign", must(other.Operator(operator))(t).Chain, nil, tlsconf.ForeignChain, "clientAuth+serverAuth", "certificate is not issued by a trusted authority"},
		{"foreign and expired", must(other.Issuing.Issue(testpki.Request{NotBefore: ended.Add(-year), NotAfter: ended}))(t).Chain, nil,
			tlsconf.ForeignChain, "none", "certificate is not issued by a trusted authority"},
		{"self-signed", self.Chain, nil, tlsconf.ForeignChain, "none", "certificate is not issued by a trusted authority: self-signed"},
		{"expired", issue(testpki.Request{NotBefore: ended.Add(-year), NotAfter: ended}), nil, tlsconf.Expired, "none", "certificate expired on " + date(ended)},
		{"not yet valid", issue(testpki.Request{NotBefore: starts, NotAfter: starts.Add(year)}), nil, tlsconf.NotYetValid, "none",
			"certificate not yet valid (valid from " + date(starts) + ")"},
		{"too many shown", append(issue(testpki.Request{}), repeat(c.pki.Issuing.Cert, 10)...), nil, tlsconf.ForeignChain, "none",
			"certificate is not issued by a trusted authority: too many certificates"},
		{"no anchors", issue(testpki.Request{}), func(cfg *tlsconf.JudgeConfig) { cfg.AnchorFiles = nil }, tlsconf.NotUsable, "none", "certificates cannot be checked now"},
		{"anchors missing", issue(testpki.Request{}), func(cfg *tlsconf.JudgeConfig) { cfg.AnchorFiles = []string{c.dir + "/none"} }, tlsconf.NotUsable, "none", "certificates cannot be checked now"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := c.judge(t, tt.change)
			for range 2 { // judged, then remembered
				v := j.Certificates(tt.chain)
				if v.Reason != tt.want || v.Usage != tt.usage || v.Text() != tt.text {
					t.Fatalf("got %v, usage %q, %q; want %v, usage %q, %q", v.Reason, v.Usage, v.Text(), tt.want, tt.usage, tt.text)
				}
				if v.OK() != (tt.want == tlsconf.OK) || v.Temporary() != (tt.want == tlsconf.NotUsable) {
					t.Errorf("OK %v, temporary %v", v.OK(), v.Temporary())
				}
			}
		})
	}
}

func repeat(c *x509.Certificate, n int) (out []*x509.Certificate) {
	for range n {
		out = append(out, c)
	}
	return out
}

func TestVerdictNamesTheSubject(t *testing.T) {
	c := newCourt(t)
	id := must(c.pki.Operator(operator))(t)
	v := c.judge(t, nil).Certificates(id.Chain)
	want := must(tlsconf.ParseDN(`CN=SMTP.operateur.test, OU=300000000000003, O="OPERATEUR TEST", ST=Puy-de-Dôme (63), C=FR`))(t)
	if !v.DN.Equal(want) || must(tlsconf.ParseDN(id.DN()))(t) != v.DN && !v.DN.Equal(must(tlsconf.ParseDN(id.DN()))(t)) {
		t.Errorf("DN %q, want %q", v.DN, want)
	}
}

// An accepted certificate is refused from the second it expires, remembered or not; the authority's expiry counts too.
func TestVerdictEndsWithValidity(t *testing.T) {
	c := newCourt(t)
	end := c.now.Add(30 * time.Second)
	id := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator, NotAfter: end}))(t)
	j := c.judge(t, nil)
	if v := j.Certificates(id.Chain); !v.OK() {
		t.Fatal(v.Text())
	}
	c.now = end.Add(2 * time.Second)
	if v := j.Certificates(id.Chain); v.Reason != tlsconf.Expired {
		t.Errorf("after its end: %v", v.Reason)
	}
	c.now = time.Now()
	long := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator, NotAfter: c.now.AddDate(40, 0, 0)}))(t)
	c.now = c.now.AddDate(25, 0, 0)
	v := j.Certificates(long.Chain)
	if v.Reason != tlsconf.Expired || !strings.Contains(v.Text(), "its authority on ") {
		t.Errorf("authority expired: %v, %q", v.Reason, v.Text())
	}
}

func (c *court) crl(t testing.TB, a *testpki.Authority, at, next time.Time, revoked ...*big.Int) string {
	t.Helper()
	name := filepath.Join(c.dir, "list.crl")
	if err := os.WriteFile(name, must(a.CRL(at, next, revoked...))(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRevocation(t *testing.T) {
	c := newCourt(t)
	good, bad := must(c.pki.Operator(operator))(t), must(c.pki.Operator(operator))(t)
	at, next := c.now.Add(-time.Hour), c.now.Add(time.Hour)
	file := c.crl(t, c.pki.Issuing, at, next)
	j := c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = []string{file} })
	check := func(when string, chain []*x509.Certificate, want tlsconf.Reason) tlsconf.Verdict {
		t.Helper()
		v := j.Certificates(chain)
		if v.Reason != want {
			t.Errorf("%s: %v, want %v", when, v.Reason, want)
		}
		return v
	}
	check("before", bad.Chain, tlsconf.OK)
	generation := j.Generation()
	c.crl(t, c.pki.Issuing, at, next, bad.Cert.SerialNumber)
	if err := j.Reload(); err != nil || j.Generation() == generation {
		t.Fatalf("reload: %v, generation %d", err, j.Generation())
	}
	v := check("revoked", bad.Chain, tlsconf.Revoked)
	want := "certificate revoked on " + at.UTC().Format(time.DateOnly) + " (serial " + v.Serial + ")"
	if v.Text() != want || len(v.Serial) < 20 {
		t.Errorf("text %q, want %q", v.Text(), want)
	}
	check("another", good.Chain, tlsconf.OK)

	c.now = next.Add(23 * time.Hour)
	check("within the grace", good.Chain, tlsconf.OK)
	c.now = next.Add(25 * time.Hour)
	if v := check("stale", good.Chain, tlsconf.RevocationUnknown); !v.Temporary() || j.Usable() == nil {
		t.Errorf("temporary %v, usable %v", v.Temporary(), j.Usable())
	}
	check("stale, but named", bad.Chain, tlsconf.Revoked)
	c.now = time.Now()

	// A bad file is named, and the old one stays.
	for name, put := range map[string]func(){
		"garbage":        func() { os.WriteFile(file, []byte("x"), 0o600) },
		"foreign issuer": func() { c.crl(t, must(testpki.New())(t).Root, at, next) },
		"gone":           func() { os.Remove(file) },
	} {
		put()
		if err := j.Reload(); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		check(name, bad.Chain, tlsconf.Revoked)
	}
	// A start without it knows nothing, and says so for a time only.
	j = c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = []string{file} })
	check("never read", good.Chain, tlsconf.RevocationUnknown)
	// The root's list alone says nothing about the leaf.
	c.crl(t, c.pki.Root, at, next)
	j = c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = []string{file} })
	check("root's list only", good.Chain, tlsconf.RevocationUnknown)
	// A revoked authority revokes what is below it.
	c.crl(t, c.pki.Root, at, next, c.pki.Issuing.Cert.SerialNumber)
	j = c.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = []string{file} })
	if v := check("authority revoked", good.Chain, tlsconf.Revoked); !strings.Contains(v.Text(), "its authority") {
		t.Errorf("text %q", v.Text())
	}
}

func TestAnchors(t *testing.T) {
	c := newCourt(t)
	next := must(testpki.New())(t)
	write := func(name string, certs ...*x509.Certificate) string {
		path := filepath.Join(c.dir, name)
		if err := testpki.WriteCerts(path, certs...); err != nil {
			t.Fatal(err)
		}
		return path
	}
	leaf := must(c.pki.Operator(operator))(t)
	// Two generations at once, roots and intermediates in files of their own, one in DER.
	der := filepath.Join(c.dir, "root.der")
	if err := os.WriteFile(der, next.Root.Cert.Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	j := c.judge(t, func(cfg *tlsconf.JudgeConfig) {
		cfg.AnchorFiles = append(cfg.AnchorFiles, der, write("next.pem", next.Issuing.Cert))
	})
	for _, id := range []*testpki.Identity{leaf, must(next.Operator(operator))(t)} {
		if v := j.Certificates(id.Chain[:1]); !v.OK() {
			t.Errorf("two generations: %s", v.Text())
		}
	}
	// An intermediate alone is an anchor.
	only := must(tlsconf.LoadAnchors([]string{write("only.pem", c.pki.Issuing.Cert)}))(t)
	roots, _ := only.Pools()
	if _, err := leaf.Cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("intermediate as anchor: %v", err)
	}
	for name, content := range map[string]string{
		"empty": "", "text": "hello", "no certificate": "-----BEGIN X-----\nAAAA\n-----END X-----\n",
		"broken": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		path := filepath.Join(c.dir, "bad.pem")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tlsconf.LoadAnchors([]string{c.anchors, path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := tlsconf.LoadAnchors([]string{write("leaf.pem", leaf.Cert), filepath.Join(c.dir, "none")})
	if err == nil || !strings.Contains(err.Error(), "CA:TRUE") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("every fault is to be reported: %v", err)
	}
	if a, err := tlsconf.LoadAnchors(nil); err != nil || !a.Empty() {
		t.Errorf("no files: %v", err)
	}
	// A reload that fails changes nothing.
	if err := os.WriteFile(c.anchors, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Reload(); err == nil || j.Usable() != nil || !j.Certificates(leaf.Chain).OK() {
		t.Errorf("reload of a bad file: %v, usable %v", err, j.Usable())
	}
}

func TestWeakKeys(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	c := newCourt(t)
	id := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator, Key: testpki.RSA1024}))(t)
	if v := c.judge(t, nil).Certificates(id.Chain); v.Reason != tlsconf.WeakKey || v.Text() != "certificate is too weak: RSA key of 1024 bits" {
		t.Errorf("%v: %q", v.Reason, v.Text())
	}
	id = must(c.pki.Operator(operator))(t)
	old := *id.Cert
	old.SignatureAlgorithm = x509.SHA1WithRSA
	if v := c.judge(t, nil).Certificates([]*x509.Certificate{&old}); v.Reason != tlsconf.WeakKey || v.Text() != "certificate is too weak: signature SHA1-RSA" {
		t.Errorf("%v: %q", v.Reason, v.Text())
	}
}

// Whatever the verdict, its text is one line of ASCII.
func TestVerdictTexts(t *testing.T) {
	for r := tlsconf.Reason(0); r < 12; r++ {
		v := tlsconf.Verdict{Reason: r, Serial: "0A1B", At: time.Date(2026, 5, 3, 0, 0, 0, 0, time.UTC)}
		for _, c := range v.Text() {
			if c < ' ' || c > '~' {
				t.Errorf("%v: %q", r, v.Text())
			}
		}
		if v.Text() == "" || r.String() == "" {
			t.Errorf("reason %d has no words", r)
		}
	}
}
