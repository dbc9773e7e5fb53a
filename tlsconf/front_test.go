package tlsconf_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// facade is a front with its files, a peer and the judge that looks at it.
type facade struct {
	*court
	cfg   tlsconf.FrontConfig
	front *tlsconf.Front
	peer  *tls.Config

	dialing  sync.Mutex
	listener net.Listener // guarded by dialing
}

func newFacade(t testing.TB, kind testpki.KeyKind, version uint16) *facade {
	c := newCourt(t)
	f := &facade{court: c, cfg: tlsconf.FrontConfig{
		Name: "operator", CertFile: filepath.Join(c.dir, "cert.pem"), KeyFile: filepath.Join(c.dir, "key.pem"),
		RequestClientCert: true, Now: func() time.Time { return c.now },
	}}
	f.write(t, c.server(t, kind))
	f.front = must(tlsconf.NewFront(f.cfg))(t)
	anchors := must(tlsconf.LoadAnchors([]string{c.anchors}))(t)
	roots, _ := anchors.Pools()
	client := must(c.pki.Issuing.Issue(testpki.Request{Subject: operator, Key: kind}))(t).TLS()
	f.peer = &tls.Config{RootCAs: roots, ServerName: "mx.test", Certificates: []tls.Certificate{client}, MaxVersion: version}
	return f
}

func (c *court) server(t testing.TB, kind testpki.KeyKind) *testpki.Identity {
	return must(c.pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{CN: "mx.test"}, Key: kind, DNSNames: []string{"mx.test"}}))(t)
}

func (f *facade) write(t testing.TB, id *testpki.Identity) {
	t.Helper()
	if err := id.WriteFiles(f.cfg.CertFile, f.cfg.KeyFile); err != nil {
		t.Fatal(err)
	}
}

// pipe is a connection over loopback. (net.Pipe has no buffer: both ends of a TLS handshake may write at once.)
func (f *facade) pipe(t testing.TB) (server, client net.Conn) {
	t.Helper()
	f.dialing.Lock()
	defer f.dialing.Unlock()
	if f.listener == nil {
		f.listener = must(net.Listen("tcp", "127.0.0.1:0"))(t)
		t.Cleanup(func() { f.listener.Close() })
	}
	client = must(net.Dial("tcp", f.listener.Addr().String()))(t)
	server = must(f.listener.Accept())(t)
	end := time.Now().Add(20 * time.Second)
	client.SetDeadline(end)
	server.SetDeadline(end)
	return server, client
}

// shake does one handshake and gives both ends' states. One octet goes to the peer, with the ticket before it.
func (f *facade) shake(t testing.TB) (server, client tls.ConnectionState, err error) {
	a, b := f.pipe(t)
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	srv, cl := tls.Server(a, f.front.Config()), tls.Client(b, f.peer)
	go func() {
		_, err := srv.Write([]byte("x"))
		done <- err
	}()
	_, err = io.ReadFull(cl, make([]byte, 1))
	b.Close()
	if wrote := <-done; err == nil {
		err = wrote
	}
	return srv.ConnectionState(), cl.ConnectionState(), err
}

// A resumed session still has the peer's certificates, and the judge gives the same verdict, then refuses it when it is
// revoked.
func TestResumedSessionsAreJudged(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			f := newFacade(t, testpki.P256, version)
			f.peer.ClientSessionCache = tls.NewLRUClientSessionCache(10)
			crl := f.crl(t, f.pki.Issuing, f.now.Add(-time.Hour), f.now.Add(time.Hour))
			j := f.judge(t, func(cfg *tlsconf.JudgeConfig) { cfg.CRLFiles = []string{crl} })
			for i := range 3 {
				s, _, err := f.shake(t)
				if err != nil {
					t.Fatal(err)
				}
				if s.Version != version || s.DidResume != (i > 0) || len(s.PeerCertificates) != 2 {
					t.Fatalf("handshake %d: version %x, resumed %v, %d certificates", i, s.Version, s.DidResume, len(s.PeerCertificates))
				}
				if v := j.Peer(s); !v.OK() || v.DN.IsZero() {
					t.Errorf("handshake %d: %s", i, v.Text())
				}
			}
			leaf := must(x509.ParseCertificate(f.peer.Certificates[0].Certificate[0]))(t)
			f.crl(t, f.pki.Issuing, f.now, f.now.Add(time.Hour), leaf.SerialNumber)
			if err := j.Reload(); err != nil {
				t.Fatal(err)
			}
			s, _, err := f.shake(t)
			if err != nil || !s.DidResume {
				t.Fatalf("resumed %v, %v", s.DidResume, err)
			}
			if v := j.Peer(s); v.Reason != tlsconf.Revoked {
				t.Errorf("revoked and resumed: %v", v.Reason)
			}
		})
	}
}

// The handshake refuses no certificate: not a foreign one, not an expired one, not none.
func TestHandshakeGivesNoVerdict(t *testing.T) {
	f := newFacade(t, testpki.P256, 0)
	j := f.judge(t, nil)
	foreign := must(must(testpki.New())(t).Operator(operator))(t)
	expired := must(f.pki.Issuing.Issue(testpki.Request{NotBefore: f.now.Add(-2 * time.Hour), NotAfter: f.now.Add(-time.Hour)}))(t)
	for want, certs := range map[tlsconf.Reason][]tls.Certificate{
		tlsconf.NoCertificate: nil, tlsconf.ForeignChain: {foreign.TLS()}, tlsconf.Expired: {expired.TLS()},
	} {
		f.peer.Certificates = certs
		s, _, err := f.shake(t)
		if err != nil {
			t.Fatalf("%v: %v", want, err)
		}
		if v := j.Peer(s); v.Reason != want {
			t.Errorf("%v, want %v", v.Reason, want)
		}
	}
}

func TestReloadSwapsTheCertificate(t *testing.T) {
	f := newFacade(t, testpki.P256, 0)
	f.peer.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	first := f.front.Leaf()
	shown := func() *x509.Certificate {
		t.Helper()
		_, c, err := f.shake(t)
		if err != nil {
			t.Fatal(err)
		}
		return c.PeerCertificates[0]
	}
	if !shown().Equal(first) {
		t.Fatal("another certificate is shown")
	}
	next := f.server(t, testpki.P256)
	f.write(t, next)
	if err := f.front.Reload(); err != nil {
		t.Fatal(err)
	}
	if s, _, err := f.shake(t); err != nil || !s.DidResume {
		t.Errorf("sessions are not resumed across a reload: %v", err)
	}
	f.peer.ClientSessionCache = nil
	if !shown().Equal(next.Cert) {
		t.Error("the new certificate is not shown")
	}
	// A bad file is named with its fault, and the old certificate stays.
	other := f.server(t, testpki.P256)
	for _, tt := range []struct{ name, file, content, want string }{
		{"not a certificate", f.cfg.CertFile, "hello", "not a certificate"},
		{"certificate broken", f.cfg.CertFile, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "PEM block 1 is not a certificate"},
		{"no key", f.cfg.KeyFile, "hello", "no private key"},
		{"encrypted key", f.cfg.KeyFile, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"},
		{"broken key", f.cfg.KeyFile, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read"},
		{"too large", f.cfg.CertFile, strings.Repeat("x", 1<<20+1), "larger than"},
		{"key of another", "", "", "does not belong"},
		{"gone", f.cfg.KeyFile, "", "no such file"},
	} {
		f.write(t, next)
		switch {
		case tt.name == "gone":
			os.Remove(tt.file)
		case tt.file == "":
			if err := other.WriteFiles(filepath.Join(f.dir, "unused.pem"), f.cfg.KeyFile); err != nil {
				t.Fatal(err)
			}
			tt.file = f.cfg.KeyFile
		default:
			if err := os.WriteFile(tt.file, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := f.front.Reload()
		if err == nil || !strings.Contains(err.Error(), tt.file) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !shown().Equal(next.Cert) {
			t.Errorf("%s: the old certificate is not shown any more", tt.name)
		}
	}
}

// An expired certificate of ours is used all the same, with a warning.
func TestExpiredFrontWarns(t *testing.T) {
	f := newFacade(t, testpki.P256, 0)
	if err := f.front.Warning(); err != nil {
		t.Errorf("fresh: %v", err)
	}
	for months, want := range map[int]string{-240: "not valid before", 13: "expired on"} {
		f.now = time.Now().AddDate(0, months, 0)
		front, err := tlsconf.NewFront(f.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := front.Warning(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d months: %v, want %q", months, err, want)
		}
	}
	for days, want := range map[int]string{31: "", 29: "expires in 28 days, on ", 13: "expires in 12 days, on ", 7: "expires in 6 days, on ", 2: "expires in 1 day, on ", 1: "expires within a day, on "} {
		f.now = f.front.Leaf().NotAfter.AddDate(0, 0, -days).Add(time.Minute)
		if err := f.front.Warning(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d days before: %v, want %q", days, err, want)
		}
	}
}

// Ticket keys are the front's own, outlive one rotation and no second one.
func TestTicketKeys(t *testing.T) {
	f := newFacade(t, testpki.P256, tls.VersionTLS13)
	cache := &oneSession{}
	f.peer.ClientSessionCache = cache
	resumed := func() bool {
		t.Helper()
		s, _, err := f.shake(t)
		if err != nil {
			t.Fatal(err)
		}
		return s.DidResume
	}
	if resumed() || !resumed() {
		t.Fatal("no resumption")
	}
	ticket := len(must2(t, cache.state))
	t.Logf("ticket has %d octets", ticket)
	if ticket > 4096 {
		t.Errorf("ticket has %d octets", ticket)
	}
	cache.frozen = true
	f.now = f.now.Add(25 * time.Hour)
	if !resumed() {
		t.Error("a ticket of yesterday is not taken")
	}
	f.now = f.now.Add(25 * time.Hour)
	if resumed() {
		t.Error("a ticket of the day before yesterday is taken")
	}
	f.now = time.Now()
	cache.frozen = false
	resumed()
	f.front = must(tlsconf.NewFront(f.cfg))(t)
	if resumed() {
		t.Error("another front takes the ticket")
	}
}

func must2(t *testing.T, s *tls.ClientSessionState) []byte {
	t.Helper()
	ticket, _, err := s.ResumptionState()
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// oneSession is a peer's memory of one session, which can be frozen.
type oneSession struct {
	state  *tls.ClientSessionState
	frozen bool
}

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.state, o.state != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState) {
	if !o.frozen && s != nil {
		o.state = s
	}
}

func TestFloorAndSuites(t *testing.T) {
	f := newFacade(t, testpki.RSA2048, tls.VersionTLS12)
	f.peer.MinVersion, f.peer.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, _, err := f.shake(t); err == nil {
		t.Error("TLS 1.1 is taken")
	}
	f.peer.MaxVersion = tls.VersionTLS12
	f.peer.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}
	if _, _, err := f.shake(t); err == nil {
		t.Error("a suite without forward secrecy, or CBC, is taken")
	}
	suites, err := tlsconf.ParseSuites([]string{"tls_ecdhe_rsa_with_aes_256_gcm_sha384"})
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.CipherSuites = suites
	f.front, f.peer.CipherSuites = must(tlsconf.NewFront(f.cfg))(t), nil
	s, _, err := f.shake(t)
	if err != nil || s.CipherSuite != tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 {
		t.Errorf("suite %x, %v", s.CipherSuite, err)
	}
	for _, name := range []string{"", "TLS_RSA_WITH_RC4_128_SHA", "TLS_AES_128_GCM_SHA256", "x"} {
		if _, err := tlsconf.ParseSuites([]string{name}); err == nil {
			t.Errorf("suite %q is taken", name)
		}
	}
	f.cfg.MinVersion = tls.VersionTLS11
	if _, err := tlsconf.NewFront(f.cfg); err == nil {
		t.Error("a floor of TLS 1.1 is taken")
	}
}

func TestKeyFileMode(t *testing.T) {
	f := newFacade(t, testpki.P256, 0)
	st, err := os.Stat(f.cfg.KeyFile)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key has mode %v, %v", st.Mode(), err)
	}
}

// Both ends run here, over loopback, so the server alone does more.
func BenchmarkHandshake(b *testing.B) {
	for name, kind := range map[string]testpki.KeyKind{"P256": testpki.P256, "RSA2048": testpki.RSA2048} {
		for _, resume := range []bool{false, true} {
			mode := "/full"
			if resume {
				mode = "/resumed"
			}
			b.Run(name+mode, func(b *testing.B) {
				f := newFacade(b, kind, 0)
				j := f.judge(b, nil)
				if resume {
					f.peer.ClientSessionCache = tls.NewLRUClientSessionCache(4)
					f.shake(b)
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						s, _, err := f.shake(b)
						if err != nil || !j.Peer(s).OK() || s.DidResume != resume {
							b.Errorf("resumed %v, %v", s.DidResume, err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "handshakes/s")
			})
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	c := newCourt(b)
	chain := must(c.pki.Operator(operator))(b).Chain
	for name, step := range map[string]time.Duration{"remembered": 0, "anew": 2 * time.Minute} {
		b.Run(name, func(b *testing.B) {
			c.now = time.Now()
			end := c.now.AddDate(0, 11, 0)
			j := c.judge(b, nil)
			for b.Loop() {
				if c.now = c.now.Add(step); c.now.After(end) {
					c.now = time.Now()
				}
				if !j.Certificates(chain).OK() {
					b.Fatal("refused")
				}
			}
		})
	}
}
