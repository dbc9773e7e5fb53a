package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// Mechanisms that a front may offer.
const (
	Plain       = "PLAIN"       // RFC 4616
	XOAuth2     = "XOAUTH2"     // as every wave-2 client speaks it
	OAuthBearer = "OAUTHBEARER" // RFC 7628
	Login       = "LOGIN"       // draft-murchison-sasl-login-00: PLAIN in two messages, for old clients
	External    = "EXTERNAL"    // RFC 4422, Appendix A: the certificate of the TLS connection
)

// Errors of an exchange, for errors.Is.
var (
	ErrMechanism = errors.New("auth: mechanism not offered")
	ErrMessage   = errors.New("auth: not a message of this mechanism")
)

// tokenRefused is the challenge that tells a client why its token does not do (RFC 7628, Section 3.2.2; XOAUTH2 has the
// same). The client answers it, whatever with, and gets the refusal then: who is refused without it reports a fault of the
// protocol to its user.
var tokenRefused = map[string]string{
	XOAuth2:     `{"status":"401","schemes":"bearer","scope":"mail"}`,
	OAuthBearer: `{"status":"invalid_token","scope":"openid"}`,
}

// Exchange is one SASL dialogue, on the side of the server. It knows nothing of how its messages are written on the wire.
type Exchange struct {
	auth      *Authenticator
	mechanism string
	peer      Peer
	user      string // of LOGIN, once it was said
	named     bool   // user is set
	pending   error  // the refusal that follows the answer to tokenRefused
	scram     *scram // of the mechanisms of that name
}

// Begin begins an exchange. The caller has made sure that the front offers the mechanism.
func (a *Authenticator) Begin(mechanism string, peer Peer) (*Exchange, error) {
	switch mechanism {
	case Plain, Login:
	case External:
		if a.cfg.JudgeCert == nil {
			return nil, ErrMechanism
		}
	case XOAuth2, OAuthBearer:
		if a.cfg.PSC == nil {
			return nil, ErrMechanism
		}
	case ScramSHA256, ScramSHA256Plus:
		if peer.ByCertificate || mechanism == ScramSHA256Plus && peer.Binding == nil {
			return nil, ErrMechanism
		}
		return &Exchange{auth: a, mechanism: mechanism, peer: peer, scram: newScram(mechanism == ScramSHA256Plus)}, nil
	default:
		return nil, ErrMechanism
	}
	return &Exchange{auth: a, mechanism: mechanism, peer: peer}, nil
}

// Refusing reports whether the exchange has failed and waits only for the client's answer to be told so: any answer does,
// one that cannot be decoded too.
func (x *Exchange) Refusing() bool { return x.pending != nil }

// Next takes a message of the client and gives what comes then: the next challenge, where both principal and error are nil; or
// who logged in; or why nobody did.
func (x *Exchange) Next(ctx context.Context, message []byte) (challenge []byte, p *Principal, err error) {
	if x.pending != nil {
		return nil, nil, x.pending
	}
	switch x.mechanism {
	case ScramSHA256, ScramSHA256Plus:
		return x.scram.next(ctx, x.auth, x.peer, message)
	case External:
		p, err = x.auth.Certificate(ctx, string(message), x.peer)
		return nil, p, err
	case Login:
		if !x.named {
			x.user, x.named = string(message), true
			return []byte("Password:"), nil, nil
		}
		p, err = x.password(ctx, x.user, string(message))
		return nil, p, err
	case Plain:
		user, password, err := parsePlain(message)
		if err != nil {
			return nil, nil, err
		}
		p, err = x.password(ctx, user, password)
		return nil, p, err
	}
	user, token, err := parseBearer(x.mechanism, message)
	if err != nil {
		return nil, nil, err
	}
	p, err = x.auth.Token(ctx, user, token, x.peer)
	if errors.Is(err, ErrCredentials) {
		x.pending = err
		return []byte(tokenRefused[x.mechanism]), nil, nil
	}
	return nil, p, err
}

// First is the challenge for a client that has not sent an initial response.
func (x *Exchange) First() []byte {
	if x.mechanism == Login {
		return []byte("Username:")
	}
	return nil
}

// password checks a user name and a password; from a peer that must show a certificate, the name alone.
func (x *Exchange) password(ctx context.Context, user, password string) (*Principal, error) {
	return x.auth.PasswordFrom(ctx, user, password, x.peer)
}

// PasswordFrom is Password for any peer. Where certificates are the login, the user name says which BAL it is for and the
// password is not looked at: old clients know no other way to name it.
func (a *Authenticator) PasswordFrom(ctx context.Context, user, password string, peer Peer) (*Principal, error) {
	if peer.ByCertificate {
		if user == "" {
			return nil, &Refusal{Err: ErrCredentials, Reason: "NoBAL"}
		}
		return a.Certificate(ctx, user, peer)
	}
	return a.Password(ctx, user, password, peer.Remote)
}

// parsePlain reads a message of PLAIN. Acting for somebody else is a matter of grants, not of the authorisation identity.
func parsePlain(message []byte) (user, password string, err error) {
	parts := bytes.Split(message, []byte{0})
	switch {
	case len(parts) != 3 || len(parts[1]) == 0:
		return "", "", fmt.Errorf("%w: PLAIN", ErrMessage)
	case len(parts[0]) > 0 && !bytes.EqualFold(parts[0], parts[1]):
		return "", "", ErrIdentity
	}
	return string(parts[1]), string(parts[2]), nil
}

// ErrIdentity: the authorisation identity is somebody else.
var ErrIdentity = errors.New("auth: the authorisation identity must be the login name")

// parseBearer reads a message of XOAUTH2 ("user=" name ^A "auth=Bearer " token ^A ^A) or OAUTHBEARER, which has a GS2 header
// with the name before it (RFC 7628, Section 3.1). The name may be empty: then it is the person of the token.
func parseBearer(mechanism string, message []byte) (user, token string, err error) {
	bad := fmt.Errorf("%w: %s", ErrMessage, mechanism)
	text, ok := strings.CutSuffix(string(message), "\x01\x01")
	if !ok || strings.Contains(text, "\x00") {
		return "", "", bad
	}
	if mechanism == OAuthBearer {
		head, rest, found := strings.Cut(text, "\x01")
		if !found {
			return "", "", bad
		}
		if user, ok = gs2Name(head); !ok {
			return "", "", bad
		}
		text = rest
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(text, "\x01") {
		key, value, found := strings.Cut(pair, "=")
		key = strings.ToLower(key)
		if !found || seen[key] {
			return "", "", bad
		}
		seen[key] = true
		switch {
		case key == "user" && mechanism == XOAuth2:
			user = value
		case key == "auth":
			scheme, t, found := strings.Cut(value, " ")
			if !found || !strings.EqualFold(scheme, "Bearer") {
				return "", "", bad
			}
			token = strings.Trim(t, " ")
		}
	}
	if token == "" || mechanism == XOAuth2 && !seen["user"] {
		return "", "", bad
	}
	return user, token, nil
}

// gs2Name is the authorisation identity of a GS2 header without channel binding (RFC 5801, Section 4): "n,a=name,", or "n,,"
// without one.
func gs2Name(head string) (string, bool) {
	parts := strings.Split(head, ",")
	if len(parts) != 3 || parts[0] != "n" && parts[0] != "y" || parts[2] != "" {
		return "", false
	}
	if parts[1] == "" {
		return "", true
	}
	name, found := strings.CutPrefix(parts[1], "a=")
	if !found {
		return "", false
	}
	return saslName(name)
}
