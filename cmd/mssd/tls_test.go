package main

import (
	"crypto/tls"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the configuration says of certificates and suites is what a client meets, also after a reload.
func TestTLSAsConfigured(t *testing.T) {
	h := newHouse(t, "")
	other, err := h.pki.Server("imap.autre.test")
	must(t, err)
	must(t, other.WriteFiles(h.path("other.pem"), h.path("other.key")))
	h.configure("imap", `cipher_suites = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]`)
	h.configure("imap", `certificates = [{ cert = "other.pem", key = "other.key" }]`)
	h.start("--create")
	shake := func(name string, change func(*tls.Config)) (tls.ConnectionState, error) {
		t.Helper()
		cfg := &tls.Config{RootCAs: h.roots, ServerName: name, MaxVersion: tls.VersionTLS12}
		if change != nil {
			change(cfg)
		}
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", h.imaps, cfg)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer c.Close()
		return c.ConnectionState(), nil
	}
	for _, name := range []string{"localhost", "imap.autre.test"} { // the client checks the name
		if s, err := shake(name, nil); err != nil || !strings.Contains(tls.CipherSuiteName(s.CipherSuite), "AES_256_GCM") {
			t.Errorf("%s: %s, %v", name, tls.CipherSuiteName(s.CipherSuite), err)
		}
	}
	if s, err := shake("localhost", func(c *tls.Config) {
		c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}); err == nil {
		t.Errorf("a suite that was not named: %s", tls.CipherSuiteName(s.CipherSuite))
	}
	if s, err := shake("localhost", func(c *tls.Config) { c.MaxVersion = 0 }); err != nil || s.Version != tls.VersionTLS13 {
		t.Errorf("TLS 1.3: %x, %v", s.Version, err)
	}
	if _, err := shake("localhost", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	next, err := h.pki.Server("imap.autre.test")
	must(t, err)
	must(t, next.WriteFiles(h.path("other.pem"), h.path("other.key")))
	h.signal(syscall.SIGHUP)
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s, err := shake("imap.autre.test", nil)
		must(t, err)
		if s.PeerCertificates[0].Equal(next.Cert) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the renewed certificate is not shown")
		}
	}
	must(t, h.stop())
}
