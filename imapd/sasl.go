package imapd

import (
	"errors"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/trace"
)

// errNoPasswords: LOGIN where this front takes none.
var errNoPasswords = no("", "Passwords are not taken here")

// capsLogin is what is advertised to who has TLS and is not logged in. RFC 9051, Section 6.2.3: LOGINDISABLED where
// LOGIN cannot succeed.
func (c *conn) capsLogin() []string {
	var caps []string
	for _, m := range c.mechanisms() {
		caps = append(caps, "AUTH="+m)
	}
	if !c.takesLogin() {
		caps = append(caps, "LOGINDISABLED")
	}
	return caps
}

// AUTHENTICATE: RFC 9051, Section 6.2.2; RFC 4959 for the initial response.
func (c *conn) cmdAuthenticate(cmd *wire.Command) (response, error) {
	if c.tls == nil {
		return response{}, auth.ErrPrivacy
	}
	args, err := wire.ParseAuthenticate(cmd)
	if err != nil {
		return response{}, err
	}
	if !c.offers(args.Mechanism) {
		return response{}, auth.ErrMechanism
	}
	x, err := c.srv.Auth.Begin(args.Mechanism, c.peer())
	if err != nil {
		return response{}, err
	}
	msg := args.Initial
	if !args.HasInitial {
		if msg, err = c.challenge(x.First()); err != nil {
			return response{}, err
		}
	}
	for {
		challenge, p, err := x.Next(c.ctx, msg)
		switch {
		case errors.Is(err, auth.ErrMessage), errors.Is(err, auth.ErrIdentity):
			return response{}, err
		case err != nil:
			return c.loginFailed(err)
		case p != nil:
			return c.welcome(p)
		}
		// What a client answers to being refused is of no matter, a cancellation included: it is told the refusal.
		if msg, err = c.challenge(challenge); err != nil && (!x.Refusing() || c.bye || c.out.err != nil) {
			return response{}, err
		}
	}
}

// peer is who is at the other end.
func (c *conn) peer() auth.Peer {
	cs := c.tls.ConnectionState()
	return auth.Peer{Remote: c.remote, Certs: cs.PeerCertificates, ByCertificate: c.app() != nil, Binding: auth.TLSBinding(&cs),
		Plus: c.offers(auth.ScramSHA256Plus)}
}

// welcome begins the session of who has logged in.
func (c *conn) welcome(p *auth.Principal) (response, error) {
	if len(p.Grants) == 0 {
		return c.loginFailed(auth.ErrCredentials)
	}
	c.loggedIn(p)
	c.log.Info("login", "user", p)
	c.recordLogin()
	return response{statusOK, "CAPABILITY " + c.capabilities(), "Logged in"}, nil
}

// refusedWho is whose refusals are alike in the trace: a person whom a token names, else whoever is behind an address.
func (c *conn) refusedWho(err error) (who, person, bal string) {
	var r *auth.Refusal
	if errors.As(err, &r) && r.Person != "" {
		return r.Person + " " + string(r.BAL), r.Person, string(r.BAL)
	}
	return trace.Network(c.remote), "", ""
}
