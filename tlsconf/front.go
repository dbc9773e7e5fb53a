package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"
)

// FrontConfig says what one listening front shows of itself.
type FrontConfig struct {
	Name              string           // of the front, for errors and logs
	CertFile, KeyFile string           // PEM; the certificate first, then its chain
	RequestClientCert bool             // ask the peer for a certificate, judge it later
	MinVersion        uint16           // zero is TLS 1.2; less is refused
	CipherSuites      []uint16         // of TLS 1.2; nil is DefaultSuites
	Log               *slog.Logger     // Optional.
	Now               func() time.Time // Optional.
}

// Front is the TLS side of one listener. Its certificate can be changed under open sessions.
type Front struct{}

// NewFront loads the certificate and the key.
func NewFront(cfg FrontConfig) (*Front, error) { return nil, errors.ErrUnsupported }

// Config is what the listener uses; it stays valid across Reload.
func (f *Front) Config() *tls.Config { return nil }

// Reload reads the files again. On an error the old certificate stays.
func (f *Front) Reload() error { return errors.ErrUnsupported }

// Leaf is the certificate shown to new peers.
func (f *Front) Leaf() *x509.Certificate { return nil }

// Warning says what is not right with the certificate in use, nil if nothing: expired, not yet valid, soon to expire.
func (f *Front) Warning() error { return nil }

// ParseSuites turns names of TLS 1.2 cipher suites into their numbers.
func ParseSuites(names []string) ([]uint16, error) { return nil, errors.ErrUnsupported }

// DefaultSuites are the suites of TLS 1.2 used when none are set.
func DefaultSuites() []uint16 { return nil }
