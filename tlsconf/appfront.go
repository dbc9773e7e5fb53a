package tlsconf

import (
	"crypto/tls"
	"strings"
)

// AppFront is a front of applications: its clients are asked for a certificate, which is their login. On the addresses of
// the front of persons these are the clients that name it in their TLS handshake (SNI, RFC 6066, Section 3); who names
// nothing meets the other. A nil AppFront serves nobody.
type AppFront struct {
	Hostname   string   // needed, unless Alone
	Alone      bool     // it has the addresses of its server to itself: whatever name a client says
	TLS        *Front   // needed: it asks for certificates
	Mechanisms []string // SASL mechanisms, needed. PLAIN and LOGIN, and the command LOGIN, name the BAL; their password is not looked at
}

// Config chooses the front of a handshake. The fronts have ticket keys of their own: a session of one is not resumed on
// the other, so that nobody brings a certificate along.
func (f *AppFront) Config(persons *Front) *tls.Config {
	switch {
	case f == nil:
		return persons.Config()
	case f.Alone:
		return f.TLS.Config()
	}
	cfg := persons.Config().Clone()
	other, apps := cfg.GetConfigForClient, f.TLS.Config().GetConfigForClient
	cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if f.Serves(h.ServerName) {
			return apps(h)
		}
		return other(h)
	}
	return cfg
}

// Serves says whether a client that named name in its handshake is on this front.
func (f *AppFront) Serves(name string) bool {
	return f != nil && (f.Alone || strings.EqualFold(strings.TrimSuffix(name, "."), f.Hostname))
}
