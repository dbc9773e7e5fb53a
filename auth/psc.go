package auth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"mssd/tlsconf/fetch"
)

// maxToken is the longest access token looked at, octets; a SASL line of 16 KiB holds no longer one.
const maxToken = 12 << 10

// PSCConfig says whose tokens are believed, and how the issuer is asked. Zero values take the default named.
type PSCConfig struct {
	Issuer string // "iss" of its tokens, exactly; https. Needed
	// DiscoveryURL is the document that names the issuer's endpoints (OpenID Connect Discovery 1.0, Section 4). "":
	// .well-known/openid-configuration under the issuer. It is not asked where the endpoints in use are given.
	DiscoveryURL string
	// JWKSURL and IntrospectionURL are the endpoints; "": as discovered.
	JWKSURL, IntrospectionURL string
	// Introspect asks the issuer about each token that its signature does not refuse (RFC 7662), as ClientID, with
	// ClientSecret, or, without one, with ClientCert (RFC 8705, Section 2).
	Introspect bool
	// Userinfo asks the issuer, after a login and without anybody waiting, what structures the person works in, at
	// UserinfoURL; "": as discovered. Without it, only what the token or the introspection says of them is looked at.
	Userinfo               bool
	UserinfoURL            string
	ClientID, ClientSecret string
	ClientCert             func() (*tls.Certificate, error) // shown when the issuer asks; nil: none
	Roots                  func() *x509.CertPool            // of the issuer's certificate; nil: those of the system

	Parties   []string      // "azp" or "client_id" of which a token must carry one; empty: any client of the issuer
	Audiences []string      // "aud" of which a token must carry one; empty: any
	Skew      time.Duration // by which the issuer's clock may differ from ours; 30 s, negative none
	CacheFor  time.Duration // how long an answer about a token is remembered; 1 min, negative not at all
	Timeout   time.Duration // that a login waits for the issuer in all; 2 s
	Bound     BoundMode     // token-bound certificates

	Log *slog.Logger // nil: none
	Now func() time.Time
}

// BoundMode says what is made of the certificate that a token is bound to (RFC 8705, Section 3).
type BoundMode uint8

const (
	BoundIgnored  BoundMode = iota // not looked at
	BoundMatched                   // a token that names a certificate is good only over TLS with that one
	BoundRequired                  // as before, and a token that names none is refused
)

// identity is what a token that is good says.
type identity struct {
	person  string    // "rpps:…" or "adeli:…"
	expires time.Time // zero skew
	bound   [sha256.Size]byte
	isBound bool
	places  []string // structures that this person works in; nil: not told
}

// PSC verifies access tokens of Pro Santé Connect, or of any issuer with the same claims. It is safe for use by many
// goroutines. No token is kept: the cache holds hashes.
type PSC struct {
	cfg    PSCConfig
	client *http.Client
	issuer issuer
	cache  tokenCache
	asking singleflight.Group // introspections, by hash of the token

	asides  sync.Mutex
	aside   int  // questions for user information; guarded by asides, as is the next
	closed  bool // none is begun any more
	running sync.WaitGroup
}

// NewPSC checks the configuration; the issuer is first asked when a token comes.
func NewPSC(cfg PSCConfig) (*PSC, error) {
	if err := fetch.Check(cfg.Issuer, false); err != nil {
		return nil, fmt.Errorf("auth: issuer: %w", err)
	}
	for _, u := range []string{cfg.DiscoveryURL, cfg.JWKSURL, cfg.IntrospectionURL, cfg.UserinfoURL} {
		if err := fetch.Check(u, false); u != "" && err != nil {
			return nil, fmt.Errorf("auth: endpoint of the issuer: %w", err)
		}
	}
	if cfg.Introspect && (cfg.ClientID == "" || cfg.ClientSecret == "" && cfg.ClientCert == nil) {
		return nil, errors.New("auth: introspection needs a client id, and a secret or a certificate")
	}
	setDefault(&cfg.Skew, 30*time.Second)
	setDefault(&cfg.CacheFor, time.Minute)
	setDefault(&cfg.Timeout, 2*time.Second)
	cfg.Skew = max(cfg.Skew, 0)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &PSC{cfg: cfg, client: newIssuerClient(cfg)}
	p.issuer = issuer{cfg: &p.cfg, client: p.client, turns: make(chan struct{}, maxAsking)}
	p.cache.max = maxTokens
	return p, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Close waits for the questions that nobody waits for, and lets go of the connections to the issuer.
func (p *PSC) Close() {
	p.asides.Lock()
	p.closed = true
	p.asides.Unlock()
	p.running.Wait()
	p.client.CloseIdleConnections()
}

// Warning says what is wrong with the issuer, nil if nothing is known to be.
func (p *PSC) Warning() error { return p.issuer.breaker.warning() }

// identify says whose token it is. The error is a *tokenFault for a token that is not good, and wraps ErrUnavailable where
// nobody can tell for now. cert is the certificate that the client showed over TLS, possibly nil.
func (p *PSC) identify(ctx context.Context, token string, cert *x509.Certificate) (identity, error) {
	if token == "" || len(token) > maxToken {
		return identity{}, forged("TokenSize")
	}
	key := sha256.Sum256([]byte(token))
	now := p.cfg.Now()
	answer, ok := p.cache.get(key, now)
	if !ok {
		var err error
		if answer, err = p.ask(ctx, token, key); err != nil {
			return identity{}, err
		}
	}
	if answer.fault != nil {
		return identity{}, answer.fault
	}
	return answer.id, p.bound(answer.id, cert)
}

// known reports whether a token was found good lately, so that no work is left to do for it.
func (p *PSC) known(token string) bool {
	if len(token) > maxToken {
		return false
	}
	a, ok := p.cache.get(sha256.Sum256([]byte(token)), p.cfg.Now())
	return ok && a.fault == nil
}

// ask verifies a token and remembers the answer. What is refused without the issuer's word is not remembered: it costs
// little to refuse it again.
func (p *PSC) ask(ctx context.Context, token string, key [sha256.Size]byte) (tokenAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	c, err := p.verify(ctx, token)
	if err != nil {
		return tokenAnswer{}, err
	}
	id, err := c.identity()
	if !p.cfg.Introspect {
		if err != nil {
			return tokenAnswer{}, err
		}
		return p.remember(key, tokenAnswer{id: id}), nil
	}
	// Many connections of one workstation bring the same new token at once: one of them asks.
	done := p.asking.DoChan(string(key[:]), func() (any, error) {
		if a, ok := p.cache.get(key, p.cfg.Now()); ok {
			return a, nil // the one before has just been answered
		}
		id, err := p.introspect(c, token)
		var fault *tokenFault
		if errors.As(err, &fault) {
			return p.remember(key, tokenAnswer{fault: fault}), nil
		}
		if err != nil {
			return tokenAnswer{}, err
		}
		return p.remember(key, tokenAnswer{id: id}), nil
	})
	select {
	case r := <-done:
		return r.Val.(tokenAnswer), r.Err
	case <-ctx.Done():
		return tokenAnswer{}, fmt.Errorf("%w: the issuer of tokens has not answered within %v", ErrUnavailable, p.cfg.Timeout)
	}
}

// remember keeps an answer as long as it may be repeated without asking.
func (p *PSC) remember(key [sha256.Size]byte, a tokenAnswer) tokenAnswer {
	now := p.cfg.Now()
	a.until = now.Add(p.cfg.CacheFor)
	if end := a.id.expires.Add(p.cfg.Skew); a.fault == nil && end.Before(a.until) {
		a.until = end
	}
	if most := now.Add(refusalKept); a.fault != nil && most.Before(a.until) {
		a.until = most
	}
	p.cache.put(key, a, now)
	return a
}

// bound holds a token to the certificate that it names (RFC 8705, Section 3).
func (p *PSC) bound(id identity, cert *x509.Certificate) error {
	switch {
	case p.cfg.Bound == BoundIgnored, !id.isBound && p.cfg.Bound == BoundMatched:
		return nil
	case !id.isBound:
		return refused("TokenNotBound", id.person)
	case cert == nil || sha256.Sum256(cert.Raw) != id.bound:
		return refused("TokenOfAnotherCertificate", id.person)
	}
	return nil
}
