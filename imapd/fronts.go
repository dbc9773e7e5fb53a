package imapd

import (
	"slices"

	"mssd/auth"
	"mssd/tlsconf"
)

// app is the front of applications when the client is on it, else nil.
func (c *conn) app() *tlsconf.AppFront {
	a := c.srv.App
	if a != nil && c.tls != nil && a.Serves(c.tls.ConnectionState().ServerName) {
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
