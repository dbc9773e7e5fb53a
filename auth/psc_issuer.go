package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"mssd/tlsconf/fetch"
)

// Bounds of what the issuer is asked and may answer.
const (
	maxAsking     = 32               // questions at a time
	maxDocument   = 512 << 10        // octets of an answer
	maxKeys       = 64               // in a set
	keysFresh     = 10 * time.Minute // after which the keys are asked for again, in the background
	keysUsable    = 24 * time.Hour   // after which keys that could not be renewed are believed no longer
	keysPause     = 2 * time.Second  // between two readings that an unknown key asks for
	metadataFresh = time.Hour
)

// issuer is the OpenID provider as it is known for now.
type issuer struct {
	cfg     *PSCConfig
	client  *http.Client
	turns   chan struct{} // one slot per question
	breaker breaker
	flight  singleflight.Group // readings of the documents

	mu       sync.Mutex
	keys     []jose.JSONWebKey // guarded by mu, as are the next; the slice is replaced, never changed
	keysAt   time.Time         // when they were read; zero: never
	found    metadata
	foundAt  time.Time
	renewing bool // in the background
}

// metadata is what is read of the discovery document (OpenID Connect Discovery 1.0, Section 3).
type metadata struct {
	Issuer           string `json:"issuer"`
	JWKSURL          string `json:"jwks_uri"`
	IntrospectionURL string `json:"introspection_endpoint"`
	UserinfoURL      string `json:"userinfo_endpoint"`
}

func newIssuerClient(cfg PSCConfig) *http.Client {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: cfg.Timeout}).DialContext,
		TLSHandshakeTimeout:    cfg.Timeout,
		ResponseHeaderTimeout:  cfg.Timeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    maxAsking,
		MaxConnsPerHost:        maxAsking,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cert := cfg.ClientCert; cert != nil {
		t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert() }
	}
	if cfg.Roots != nil {
		// The pool is looked up at each handshake: anchors are read again while we run.
		t.Proxy = nil // a proxy would be dialled in the same way
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			own := t.TLSClientConfig.Clone()
			own.ServerName, own.RootCAs = host, cfg.Roots()
			if own.RootCAs == nil {
				own.RootCAs = x509.NewCertPool() // nil would be those of the system
			}
			d := tls.Dialer{NetDialer: &net.Dialer{Timeout: cfg.Timeout}, Config: own}
			return d.DialContext(ctx, network, addr)
		}
	}
	// A token sent to where a redirection points to would be given away.
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// verified calls verify with the key named kid, or, where the token names none, with each; it gives what verify gave. A key
// that is not known is asked for, at most once in keysPause.
func (i *issuer) verified(ctx context.Context, kid string, verify func(*jose.JSONWebKey) ([]byte, error)) ([]byte, error) {
	for try := 0; ; try++ {
		keys, at := i.current()
		age := i.cfg.Now().Sub(at)
		usable := !at.IsZero() && age < keysUsable
		if usable {
			for k := range keys {
				if kid != "" && keys[k].KeyID != kid {
					continue
				}
				if payload, err := verify(&keys[k]); err == nil {
					if age > keysFresh {
						i.renewSoon()
					}
					return payload, nil
				} else if kid != "" {
					return nil, forged("TokenSignature")
				}
			}
		}
		if try > 0 || usable && age < keysPause {
			// Not a guess for sure: an issuer may sign with a key before it publishes it.
			return nil, refused("TokenKeyUnknown", "")
		}
		if err := i.renew(ctx); err != nil {
			return nil, err
		}
	}
}

func (i *issuer) current() ([]jose.JSONWebKey, time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys, i.keysAt
}

// renewSoon reads the keys again without anybody waiting.
func (i *issuer) renewSoon() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.renewing {
		return
	}
	i.renewing = true
	go func() {
		_ = i.renew(context.Background()) // what failed is told by the breaker
		i.mu.Lock()
		i.renewing = false
		i.mu.Unlock()
	}()
}

// renew reads the keys; many who wait for them share one reading.
func (i *issuer) renew(ctx context.Context) error {
	done := i.flight.DoChan("keys", func() (any, error) { return nil, i.readKeys() })
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("%w: the keys of the issuer have not come within %v", ErrUnavailable, i.cfg.Timeout)
	}
}

func (i *issuer) readKeys() error {
	ctx, cancel := context.WithTimeout(context.Background(), i.cfg.Timeout)
	defer cancel()
	where := i.cfg.JWKSURL
	if where == "" {
		m, err := i.discover(ctx)
		if err != nil {
			return err
		}
		where = m.JWKSURL
	}
	var keys []jose.JSONWebKey
	asked := i.cfg.Now() // an answer may be as old as the question
	err := i.ask(ctx, "keys", http.MethodGet, where, nil, func(body []byte) error {
		var set struct {
			Keys []json.RawMessage `json:"keys"`
		}
		if err := json.Unmarshal(body, &set); err != nil {
			return errors.New("not a set of keys")
		}
		if len(set.Keys) > maxKeys {
			return fmt.Errorf("%d keys, %d are allowed", len(set.Keys), maxKeys)
		}
		for _, raw := range set.Keys {
			var k jose.JSONWebKey // one of a kind that is not known here does not spoil the others (RFC 7517, Section 5)
			if json.Unmarshal(raw, &k) == nil && usableKey(&k) {
				keys = append(keys, k)
			}
		}
		if len(keys) == 0 {
			return errors.New("no usable key in the set")
		}
		return nil
	})
	if err != nil {
		return err
	}
	i.mu.Lock()
	i.keys, i.keysAt = keys, asked
	i.mu.Unlock()
	return nil
}

// discover is where the endpoints are.
func (i *issuer) discover(ctx context.Context) (metadata, error) {
	i.mu.Lock()
	m, at := i.found, i.foundAt
	i.mu.Unlock()
	if !at.IsZero() && i.cfg.Now().Sub(at) < metadataFresh {
		return m, nil
	}
	where := i.cfg.DiscoveryURL
	if where == "" {
		where = strings.TrimSuffix(i.cfg.Issuer, "/") + "/.well-known/openid-configuration"
	}
	var fresh metadata
	err := i.ask(ctx, "discovery", http.MethodGet, where, nil, func(body []byte) error {
		if err := json.Unmarshal(body, &fresh); err != nil {
			return errors.New("not a discovery document")
		}
		// OpenID Connect Discovery 1.0, Section 4.3.
		if fresh.Issuer != i.cfg.Issuer {
			return errors.New("the document names another issuer than the one configured")
		}
		for _, u := range []string{fresh.JWKSURL, fresh.IntrospectionURL} {
			if u != "" && fetch.Check(u, false) != nil {
				return errors.New("the document names an endpoint that is not https")
			}
		}
		if fresh.JWKSURL == "" || i.cfg.Introspect && i.cfg.IntrospectionURL == "" && fresh.IntrospectionURL == "" {
			return errors.New("the document names no endpoint for keys, or none for introspection")
		}
		return nil
	})
	if err != nil {
		if !at.IsZero() {
			return m, nil // endpoints hardly ever change: the former ones are asked
		}
		return m, err
	}
	i.mu.Lock()
	i.found, i.foundAt = fresh, i.cfg.Now()
	i.mu.Unlock()
	return fresh, nil
}

// introspect asks the issuer about a token whose claims are c (RFC 7662), and says whose it is.
func (p *PSC) introspect(c *claims, token string) (identity, error) {
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Timeout)
	defer cancel()
	where := p.cfg.IntrospectionURL
	if where == "" {
		m, err := p.issuer.discover(ctx)
		if err != nil {
			return identity{}, err
		}
		where = m.IntrospectionURL
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if p.cfg.ClientSecret == "" {
		form.Set("client_id", p.cfg.ClientID) // RFC 8705, Section 2: the certificate is the proof
	}
	var told claims
	err := p.issuer.ask(ctx, "introspection", http.MethodPost, where, form, func(body []byte) error {
		if err := json.Unmarshal(body, &told); err != nil {
			return errors.New("not an answer to introspection")
		}
		return nil
	})
	switch {
	case err != nil:
		return identity{}, err
	case !told.Active:
		return identity{}, refused("TokenInactive", "")
	case told.Subject != "" && c.Subject != "" && told.Subject != c.Subject:
		return identity{}, refused("TokenOfTwoPersons", "")
	}
	if err := p.judge(&told, true); err != nil {
		return identity{}, err
	}
	return merge(c, &told)
}

// merge is the identity of token and answer together: each may leave out what the other says, neither may contradict it.
func merge(token, told *claims) (identity, error) {
	all := *token
	if told.RefPro != nil {
		all.RefPro = told.RefPro
	}
	if told.Expires != 0 && told.Expires < all.Expires {
		all.Expires = told.Expires
	}
	for _, f := range []struct {
		into *string
		told string
	}{{&all.NameID, told.NameID}, {&all.Username, told.Username}, {&all.Confirm.Thumbprint, told.Confirm.Thumbprint}} {
		if f.told == "" {
			continue
		}
		if *f.into != "" && *f.into != f.told {
			return identity{}, refused("TokenOfTwoPersons", "")
		}
		*f.into = f.told
	}
	return all.identity()
}

// ask sends one request and reads its answer with read. Failures count for the breaker; none tells the token or the secret.
func (i *issuer) ask(ctx context.Context, what, method, where string, form url.Values, read func([]byte) error) error {
	if !i.breaker.allow(i.cfg.Now()) {
		return fmt.Errorf("%w: the issuer of tokens does not answer", ErrUnavailable)
	}
	select {
	case i.turns <- struct{}{}:
		defer func() { <-i.turns }()
	case <-ctx.Done():
		i.breaker.abandon()
		return fmt.Errorf("%w: too many questions to the issuer of tokens at a time", ErrUnavailable)
	}
	body, err := i.exchange(ctx, method, where, form)
	if err == nil {
		err = read(body)
	}
	if i.breaker.record(err, what, i.cfg.Now()) {
		i.cfg.Log.Warn("the issuer of tokens cannot be used", "cmd", what, "err", err)
	}
	if err != nil {
		return fmt.Errorf("%w: %s of the issuer: %w", ErrUnavailable, what, err)
	}
	return nil
}

func (i *issuer) exchange(ctx context.Context, method, where string, form url.Values) ([]byte, error) {
	var content io.Reader
	if form != nil {
		content = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, where, content)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if i.cfg.ClientSecret != "" {
			// RFC 6749, Section 2.3.1: both are form-encoded first.
			req.SetBasicAuth(url.QueryEscape(i.cfg.ClientID), url.QueryEscape(i.cfg.ClientSecret))
		}
	}
	return i.do(req)
}

// exchangeAs asks in the name of who holds a token (RFC 6750, Section 2.1). It does not count for the breaker.
func (i *issuer) exchangeAs(ctx context.Context, where, token string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return i.do(req)
}

func (i *issuer) do(req *http.Request) ([]byte, error) {
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "mssd")
	resp, err := i.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
		return nil, fmt.Errorf("status %d, expected 200", resp.StatusCode)
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, maxDocument+1)); err != nil {
		return nil, err
	}
	if buf.Len() > maxDocument {
		return nil, fmt.Errorf("more than %d octets", maxDocument)
	}
	return buf.Bytes(), nil
}
