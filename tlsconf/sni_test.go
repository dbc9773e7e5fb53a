package tlsconf_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// named makes a certificate for a name, in files.
func (f *facade) named(t testing.TB, name string, kind testpki.KeyKind) tlsconf.CertFiles {
	t.Helper()
	p := tlsconf.CertFiles{CertFile: filepath.Join(f.dir, name+f.kindText(kind)+".pem"), KeyFile: filepath.Join(f.dir, name+f.kindText(kind)+".key")}
	id := must(f.pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{CN: name}, Key: kind, DNSNames: []string{name}}))(t)
	if err := id.WriteFiles(p.CertFile, p.KeyFile); err != nil {
		t.Fatal(err)
	}
	return p
}

func (f *facade) kindText(k testpki.KeyKind) string {
	if k == testpki.RSA2048 {
		return "-rsa"
	}
	return ""
}

// Each peer is shown the certificate of the name that it asks for, and one that it can use; it resumes a session under the name
// of that session only; a pair that is at fault stays as it was while the others are taken.
func TestCertificateByName(t *testing.T) {
	for version, old := range map[uint16]bool{tls.VersionTLS12: true, tls.VersionTLS13: false} {
		f := newFacade(t, testpki.P256, version) // mx.test, elliptic
		f.cfg.More = []tlsconf.CertFiles{f.named(t, "mx.test", testpki.RSA2048), f.named(t, "autre.test", testpki.P256)}
		f.front = must(tlsconf.NewFront(f.cfg))(t)
		f.peer.InsecureSkipVerify = true // which certificate is shown is looked at below
		shown := func(name string, onlyRSA bool) (string, string, bool) {
			t.Helper()
			f.peer.ServerName = name
			f.peer.CipherSuites = nil
			if onlyRSA {
				f.peer.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
			}
			_, c, err := f.shake(t)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			leaf := c.PeerCertificates[0]
			return leaf.Subject.CommonName, leaf.PublicKeyAlgorithm.String(), c.DidResume
		}
		for name, want := range map[string]string{"mx.test": "mx.test", "autre.test": "autre.test", "nobody.test": "mx.test", "": "mx.test"} {
			if cn, key, _ := shown(name, false); cn != want || key != "ECDSA" {
				t.Errorf("%x, asked for %q: %s, %s; want %s, ECDSA", version, name, cn, key, want)
			}
		}
		if old { // the suites of TLS 1.3 say nothing of the kind of key
			for _, name := range []string{"mx.test", "autre.test", ""} { // autre.test has no RSA one: better another name than no TLS
				if cn, key, _ := shown(name, true); cn != "mx.test" || key != "RSA" {
					t.Errorf("asked for %q with RSA alone: %s, %s", name, cn, key)
				}
			}
		}
		f.peer.ClientSessionCache = tls.NewLRUClientSessionCache(10)
		for i, name := range []string{"mx.test", "autre.test", "mx.test", "autre.test"} {
			if _, _, resumed := shown(name, false); resumed != (i >= 2) {
				t.Errorf("%x, %s: resumed %v", version, name, resumed)
			}
		}
		f.peer.ClientSessionCache = nil

		// One pair is renewed, another spoiled.
		f.write(t, must(f.pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{CN: "mx.test"}, DNSNames: []string{"mx.test"}, NotAfter: f.now.AddDate(0, 0, 3)}))(t))
		if err := os.WriteFile(f.cfg.More[1].CertFile, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.front.Reload(); err == nil || !strings.Contains(err.Error(), f.cfg.More[1].CertFile) {
			t.Errorf("reload of a spoiled file: %v", err)
		}
		if cn, _, _ := shown("autre.test", false); cn != "autre.test" {
			t.Errorf("the spoiled one: %s is shown", cn)
		}
		if err := f.front.Warning(); err == nil || !strings.Contains(err.Error(), "in 3 days") && !strings.Contains(err.Error(), "in 2 days") || f.front.EndsFirst().After(f.now.AddDate(0, 0, 4)) {
			t.Errorf("the one that was renewed for three days: %v, %v", err, f.front.EndsFirst())
		}
		whats := 0
		for _, d := range f.front.Dates() {
			if d.What == "certificate of operator" {
				whats++
			}
		}
		if whats != 3 {
			t.Errorf("%d certificates have a date", whats)
		}
	}
	f := newFacade(t, testpki.P256, 0)
	f.cfg.More = []tlsconf.CertFiles{{CertFile: f.cfg.CertFile, KeyFile: filepath.Join(f.dir, "none.key")}}
	if _, err := tlsconf.NewFront(f.cfg); err == nil || !strings.Contains(err.Error(), "none.key") {
		t.Errorf("a missing key: %v", err)
	}
}

// A front bears the names of all its certificates, those that a star stands for too.
func TestFrontBears(t *testing.T) {
	f := newFacade(t, testpki.P256, tls.VersionTLS13) // mx.test
	f.cfg.More = []tlsconf.CertFiles{f.named(t, "*.autre.test", testpki.P256)}
	f.front = must(tlsconf.NewFront(f.cfg))(t)
	for _, name := range []string{"mx.test", "MX.test", "imap.autre.test"} {
		if err := f.front.Bears(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"nobody.test", "autre.test", "a.b.autre.test"} {
		if err := f.front.Bears(name); err == nil || !strings.Contains(err.Error(), "is for mx.test") || !strings.Contains(err.Error(), "*.autre.test; expected "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.write(t, must(f.pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{CN: "mx.test"}}))(t))
	f.cfg.More = nil
	if err := must(tlsconf.NewFront(f.cfg))(t).Bears("mx.test"); err == nil || !strings.Contains(err.Error(), "names no host") {
		t.Errorf("a name that is the CN alone: %v", err)
	}
}
