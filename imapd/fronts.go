package imapd

import (
	"crypto/tls"
	"slices"
	"strings"

	"mssd/auth"
	"mssd/tlsconf"
)

// AppFront is the front of applications: its clients are asked for a certificate, which is their login. On the addresses of
// the front of persons these are the clients that name it in their TLS handshake (SNI, RFC 6066, Section 3); who names
// nothing meets the other.
type AppFront struct {
	Hostname   string         // needed, unless Alone
	Alone      bool           // it has the addresses of this server to itself: whatever name a client says
	TLS        *tlsconf.Front // needed: it asks for certificates
	Mechanisms []string       // needed. PLAIN, LOGIN and the command LOGIN name the BAL; their password is not looked at
}

// tlsConfig chooses the front of a handshake. The fronts have ticket keys of their own: a session of one is not resumed on
// the other, so that nobody brings a certificate along.
func (s *Server) tlsConfig() *tls.Config {
	switch {
	case s.App == nil:
		return s.TLS.Config()
	case s.App.Alone:
		return s.App.TLS.Config()
	}
	cfg := s.TLS.Config()
	cfg = cfg.Clone()
	persons, apps := cfg.GetConfigForClient, s.App.TLS.Config().GetConfigForClient
	cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if s.App.named(h.ServerName) {
			return apps(h)
		}
		return persons(h)
	}
	return cfg
}

func (f *AppFront) named(name string) bool {
	return strings.EqualFold(strings.TrimSuffix(name, "."), f.Hostname)
}

// app is the front of applications when the client is on it, else nil.
func (c *conn) app() *AppFront {
	a := c.srv.App
	if a != nil && c.tls != nil && (a.Alone || a.named(c.tls.ConnectionState().ServerName)) {
		return a
	}
	return nil
}

// mechanisms are those of the client's front. Without a list, PLAIN is offered.
func (c *conn) mechanisms() []string {
	switch app := c.app(); {
	case app != nil:
		return app.Mechanisms
	case c.srv.Mechanisms == nil:
		return []string{auth.Plain}
	}
	if c.tls == nil {
		return c.srv.Mechanisms
	}
	cs := c.tls.ConnectionState()
	return auth.Carried(&cs, c.srv.Mechanisms)
}

func (c *conn) offers(mechanism string) bool { return slices.Contains(c.mechanisms(), mechanism) }

// takesLogin says whether LOGIN, the command, can succeed.
func (c *conn) takesLogin() bool { return c.offers(auth.Plain) || c.offers(auth.Login) }
