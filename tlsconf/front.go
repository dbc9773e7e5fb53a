package tlsconf

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxPEMFile     = 1 << 20 // octets of a certificate or key file
	ticketRotation = 24 * time.Hour
	ticketKeysKept = 2 // a ticket is good for one to two days
	expiryWarning  = 30 * 24 * time.Hour
)

// FrontConfig says what one listening front shows of itself.
type FrontConfig struct {
	Name              string           // of the front, for errors and logs
	CertFile, KeyFile string           // PEM; the certificate first, then its chain
	More              []CertFiles      // for other names, or for peers that cannot use the first
	RequestClientCert bool             // ask the peer for a certificate, to be judged after the handshake
	MinVersion        uint16           // zero is TLS 1.2; less is refused
	CipherSuites      []uint16         // of TLS 1.2; nil is DefaultSuites
	Log               *slog.Logger     // Optional.
	Now               func() time.Time // Optional; a test's clock.
}

// Front is the TLS side of one listener. Its certificate can be changed under open sessions.
//
// The key exchange is Go's default: X25519MLKEM768 first, then X25519 and the NIST curves.
type Front struct {
	cfg    FrontConfig
	outer  *tls.Config
	loaded atomic.Pointer[frontState]
	more   []*Front // further certificates

	mu      sync.Mutex // guards what follows, and what is loaded while it is replaced
	revoked time.Time  // our own certificate, as its responder says; zero: it is not known to be
	keys    [][32]byte // newest first
	rotated time.Time
}

// frontState is what one load of the files gave. The config in it is used by handshakes and never changed, but for its
// ticket keys, which tls.Config guards itself.
type frontState struct {
	config *tls.Config
	leaf   *x509.Certificate
}

// NewFront loads the certificate and the key. An expired certificate is no error, see Warning.
func NewFront(cfg FrontConfig) (*Front, error) {
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	if cfg.MinVersion < tls.VersionTLS12 {
		return nil, fmt.Errorf("front %s: TLS 1.2 is the least version allowed", cfg.Name)
	}
	if cfg.CipherSuites == nil {
		cfg.CipherSuites = DefaultSuites()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Front{cfg: cfg}
	if err := errors.Join(f.reload(), f.addMore()); err != nil {
		return nil, err
	}
	// The outer config answers nothing itself. Only its client certificate policy and floor are given here too, so
	// that whoever looks at it sees the truth.
	f.outer = &tls.Config{
		MinVersion: cfg.MinVersion, CipherSuites: cfg.CipherSuites, ClientAuth: f.clientAuth(), Time: cfg.Now,
		GetConfigForClient: f.configForClient,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &f.loaded.Load().config.Certificates[0], nil
		},
	}
	return f, nil
}

// Config is what the listener uses; it stays valid across Reload.
func (f *Front) Config() *tls.Config { return f.outer }

// Leaf is the first certificate.
func (f *Front) Leaf() *x509.Certificate { return f.loaded.Load().leaf }

func (f *Front) clientAuth() tls.ClientAuthType {
	if f.cfg.RequestClientCert {
		return tls.RequestClientCert
	}
	return tls.NoClientCert
}

// configForClient is asked at each handshake.
func (f *Front) configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	return f.pick(hello).current()
}

// current is the config of this certificate.
func (f *Front) current() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.loaded.Load()
	if f.cfg.Now().Sub(f.rotated) >= ticketRotation {
		if err := f.rotate(); err != nil {
			return nil, err
		}
		s.config.SetSessionTicketKeys(f.keys)
	}
	return s.config, nil
}

// rotate puts a new ticket key before the others; mu is held. RFC 8446, Section 2.2: whoever has the key has the
// sessions, so it is never written anywhere and never shared with another front.
func (f *Front) rotate() error {
	var k [32]byte
	if _, err := rand.Read(k[:]); err != nil {
		return err
	}
	f.keys = append([][32]byte{k}, f.keys...)
	f.keys = f.keys[:min(len(f.keys), ticketKeysKept)]
	f.rotated = f.cfg.Now()
	return nil
}

// reload reads the files again. On an error, which names the file and its fault, the old certificate stays.
func (f *Front) reload() error {
	cert, err := loadPair(f.cfg.CertFile, f.cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("front %s: %w", f.cfg.Name, err)
	}
	if err := f.replace(cert); err != nil {
		return err
	}
	if err := f.warning(); err != nil {
		f.cfg.Log.Warn("certificate needs attention", "front", f.cfg.Name, "err", err)
	}
	return nil
}

// replace shows another certificate; the OCSP answer about the same one stays.
func (f *Front) replace(cert *tls.Certificate) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.keys) == 0 {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	if old := f.loaded.Load(); old != nil && old.leaf.Equal(cert.Leaf) {
		cert.OCSPStaple = old.config.Certificates[0].OCSPStaple
	} else {
		f.revoked = time.Time{}
	}
	f.install(cert)
	return nil
}

func (f *Front) warning() error {
	leaf, now := f.Leaf(), f.cfg.Now()
	f.mu.Lock()
	revoked := f.revoked
	f.mu.Unlock()
	switch {
	case !revoked.IsZero():
		return fmt.Errorf("%s: certificate was revoked on %s, says its authority", f.cfg.CertFile, day(revoked))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("%s: certificate expired on %s", f.cfg.CertFile, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("%s: certificate is not valid before %s", f.cfg.CertFile, day(leaf.NotBefore))
	case leaf.NotAfter.Sub(now) < expiryWarning:
		return fmt.Errorf("%s: certificate expires %s", f.cfg.CertFile, inDays(leaf.NotAfter.Sub(now), leaf.NotAfter))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// loadPair reads a certificate with its chain, and the key that belongs to it.
func loadPair(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := readBounded(certFile, maxPEMFile)
	if err != nil {
		return nil, err
	}
	chain, err := parseCerts(certPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	keyPEM, err := readBounded(keyFile, maxPEMFile)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%s: key does not belong to the first certificate of %s (%s)", keyFile, certFile, subjectText(chain[0]))
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// readBounded reads a whole file of at most limit octets.
func readBounded(name string, limit int64) ([]byte, error) {
	if name == "" {
		return nil, errors.New("no file is configured")
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: larger than %d octets", name, limit)
	}
	return b, nil
}
