package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mssd/store"
)

// Refusal is a login that was refused, with what the trace says of it. It wraps ErrCredentials or ErrThrottled.
type Refusal struct {
	Err    error
	Reason string        // a name: TokenExpired, NoRight …
	Person string        // member id of who tried, "" where nobody knows
	BAL    store.Address // that was named, "" where it is none of ours
}

func (r *Refusal) Error() string { return r.Err.Error() + ": " + r.Reason }

// Text is what the client is told; whether the BAL exists is no part of it.
func (r *Refusal) Text() string {
	switch reason, cert := strings.CutPrefix(r.Reason, "Certificate_"); {
	case cert:
		return "The client certificate was refused: " + strings.ReplaceAll(reason, "_", " ")
	case strings.HasPrefix(r.Reason, "ChannelBinding"):
		return "The login is not bound to this connection"
	case strings.HasPrefix(r.Reason, "Token"):
		return "The access token was refused"
	case strings.HasPrefix(r.Person, CertMember):
		return "This certificate opens no such mailbox"
	}
	return "This person may not open such a mailbox"
}

func (r *Refusal) Unwrap() error { return r.Err }

// Peer is who is at the other end of a connection.
type Peer struct {
	Remote netip.Addr
	Certs  []*x509.Certificate // shown over TLS, the peer's own first; nobody has judged them
	// ByCertificate: the front takes certificates only.
	ByCertificate bool
	// Binding gives what only the two ends of this connection know (tls-exporter, RFC 9266); nil: it has no such thing.
	Binding func() ([]byte, error)
	// Plus: the front offers SCRAM-SHA-256-PLUS on this connection.
	Plus bool
}

// Carried are those of the mechanisms that a TLS connection can carry.
func Carried(cs *tls.ConnectionState, mechanisms []string) []string {
	if slices.Contains(mechanisms, ScramSHA256Plus) && TLSBinding(cs) == nil {
		return slices.DeleteFunc(slices.Clone(mechanisms), func(m string) bool { return m == ScramSHA256Plus })
	}
	return mechanisms
}

// TLSBinding is the Binding of a TLS connection; nil where it has none: TLS 1.2 without extended master secret (RFC 7627).
func TLSBinding(cs *tls.ConnectionState) func() ([]byte, error) {
	export := func() ([]byte, error) { return cs.ExportKeyingMaterial(bindLabel, nil, 32) }
	if _, err := export(); err != nil {
		return nil
	}
	return export
}

// Token checks an access token with which somebody wants to open a BAL, or, as themselves, all they hold (isThemselves). The
// token says who it is, the members of the BALs whether they may.
func (a *Authenticator) Token(ctx context.Context, user, token string, peer Peer) (*Principal, error) {
	var grants []Grant
	id, err := a.holder(ctx, token, peer, func(person string, now time.Time) (bal store.Address, reason string, err error) {
		grants, bal, reason, err = a.grantsOf(user, person, now)
		return bal, reason, err
	})
	if err != nil {
		return nil, err
	}
	a.advise(id, token, grants)
	p := &Principal{Person: grants[0].member, Method: "psc", Grants: grants}
	if a.cfg.MaxSession > 0 {
		p.Until = a.cfg.Now().Add(a.cfg.MaxSession)
	}
	return p, nil
}

// Holder says which BAL an address names and which membership in force the person of an access token has there. Nothing is
// opened by it: who acts on the answer holds the act to the membership once more. A peer without an address is one of ours.
func (a *Authenticator) Holder(ctx context.Context, address, token string, peer Peer) (bal store.BAL, m store.Member, err error) {
	_, err = a.holder(ctx, token, peer, func(person string, now time.Time) (_ store.Address, reason string, err error) {
		bal, m, reason, err = a.memberOf(address, person, now)
		return bal.Address, reason, err
	})
	if err != nil {
		return store.BAL{}, store.Member{}, err
	}
	return bal, m, nil
}

// holder says whose token it is, if find gives no reason why this person may not do what they want with bal, which is "" where
// none of ours is named.
func (a *Authenticator) holder(ctx context.Context, token string, peer Peer,
	find func(person string, now time.Time) (bal store.Address, reason string, err error)) (identity, error) {
	if a.cfg.PSC == nil {
		return identity{}, &Refusal{Err: ErrCredentials, Reason: "NoIssuer"}
	}
	now, addrKey := a.cfg.Now(), throttleAddr(peer.Remote)
	// Whoever has forged tokens waits; a good one from behind the same address, seen before, does not.
	if peer.Remote.IsValid() && a.forgers.blocked(addrKey, now) && !a.cfg.PSC.known(token) {
		return identity{}, &Refusal{Err: ErrThrottled, Reason: "Throttled"}
	}
	id, err := a.cfg.PSC.identify(ctx, token, peer.leaf())
	var fault *tokenFault
	switch {
	case errors.As(err, &fault):
		// A token that the issuer signed is no guess, however often a workstation brings it when it is over.
		if !fault.signed && peer.Remote.IsValid() {
			a.forgers.fail(addrKey, guess{}, now)
		}
		return identity{}, &Refusal{Err: ErrCredentials, Reason: fault.reason, Person: fault.person}
	case err != nil:
		return identity{}, err
	}
	bal, reason, err := find(id.person, now)
	if err != nil {
		return identity{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if reason != "" {
		// Who may open the BAL never comes here: nobody is kept from theirs by what their software tries elsewhere.
		if a.persons.blocked(id.person, now) {
			return identity{}, &Refusal{Err: ErrThrottled, Reason: "Throttled", Person: id.person, BAL: bal}
		}
		a.persons.fail(id.person, guess{}, now)
		return identity{}, &Refusal{Err: ErrCredentials, Reason: reason, Person: id.person, BAL: bal}
	}
	return id, nil
}

// memberOf finds the membership of a person in a BAL, or the reason why it opens nothing.
func (a *Authenticator) memberOf(address, person string, now time.Time) (bal store.BAL, m store.Member, reason string, err error) {
	if len(address) > maxUser {
		return bal, m, "NoBAL", nil
	}
	bal, err = a.cfg.Store.BAL(store.Address(strings.ToLower(address)))
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return bal, m, "", err
	case err != nil:
		return store.BAL{}, m, "NoBAL", nil
	case bal.State != store.Active:
		return bal, m, "BALNotActive", nil
	}
	reason = "NoRight"
	for _, o := range a.cfg.Store.Members(bal.ID) {
		switch {
		case !strings.EqualFold(o.ID, person):
		case o.Active(now):
			return bal, o, "", nil
		default:
			reason = "RightNotInForce"
		}
	}
	return bal, m, reason, nil
}
