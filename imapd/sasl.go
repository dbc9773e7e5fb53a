package imapd

import (
	"errors"
	"slices"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
	"mssd/trace"
)

// errNoPasswords: LOGIN where this front takes none.
var errNoPasswords = no("", "Passwords are not taken here")

// offers says whether a mechanism is offered. Without a list, PLAIN is.
func (s *Server) offers(mechanism string) bool {
	if s.Mechanisms == nil {
		return mechanism == auth.Plain
	}
	return slices.Contains(s.Mechanisms, mechanism)
}

// capsLogin is what is advertised to who has TLS and is not logged in. RFC 9051, Section 6.2.3: LOGINDISABLED where
// LOGIN cannot succeed.
func (c *conn) capsLogin() []string {
	if c.srv.Mechanisms == nil {
		return []string{"AUTH=" + auth.Plain}
	}
	var caps []string
	for _, m := range c.srv.Mechanisms {
		caps = append(caps, "AUTH="+m)
	}
	if !c.srv.offers(auth.Plain) {
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
	if !c.srv.offers(args.Mechanism) {
		return response{}, auth.ErrMechanism
	}
	x, err := c.srv.Auth.Begin(args.Mechanism, c.peer())
	if err != nil {
		return response{}, err
	}
	msg := args.Initial
	if !args.HasInitial {
		if msg, err = c.challenge(nil); err != nil {
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
	p := auth.Peer{Remote: c.remote}
	if certs := c.tls.ConnectionState().PeerCertificates; len(certs) > 0 {
		p.Cert = certs[0]
	}
	return p
}

// welcome begins the session of who has logged in.
func (c *conn) welcome(p *auth.Principal) (response, error) {
	if len(p.Grants) == 0 {
		return c.loginFailed(auth.ErrCredentials)
	}
	c.loggedIn(p)
	c.log.Info("login", "user", p)
	c.record(trace.Login, store.Ref{BAL: c.home().ID}, "", trace.Attr{Key: trace.KeyMethod, Value: p.Method},
		trace.Attr{Key: trace.KeyRemote, Value: c.remote.String()})
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
