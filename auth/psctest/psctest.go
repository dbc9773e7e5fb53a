// Package psctest is an OpenID provider for tests, in the process of the test: zitadel/oidc with the claims of Pro Santé
// Connect. Discovery, keys, access tokens and introspection are that library's; what a test bends (a key withdrawn, an
// answer that comes late or never) is bent here.
package psctest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"mssd/auth"
)

// The account under which the operator introspects.
const (
	ClientID     = "operateur"
	ClientSecret = "secret d'essai : 1%"
)

// Software is the client id that tokens carry unless a test says otherwise.
const Software = "logiciel-officine"

// Provider is a running issuer. Its methods may be called at any time.
type Provider struct {
	URL string // the issuer

	t      testing.TB
	server *httptest.Server
	op     *op.Provider

	mu      sync.Mutex
	keys    []*key // the newest signs
	tokens  map[string]Claims
	revoked map[string]bool
	calls   map[string]int
	hold    chan struct{} // not nil: no request is answered before it is closed
	broken  int           // status of every answer; 0: none
}

// Claims are what a token says. Zero values are left out, or take what Token says.
type Claims struct {
	NameID   string // SubjectNameID; told by introspection only where Hide says so
	Username string // preferred_username
	Hide     bool
	Client   string // client_id; Software
	Audience []string
	Expires  time.Time // in 5 minutes
	Extra    map[string]any
	Info     map[string]any // told by the endpoint of user information, beside the person
}

type key struct {
	id      string
	private *rsa.PrivateKey
}

func (k *key) ID() string                                  { return k.id }
func (k *key) Algorithm() jose.SignatureAlgorithm          { return jose.RS256 }
func (k *key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *key) Use() string                                 { return "sig" }

type publicKey struct{ *key }

func (k publicKey) Key() any { return k.private.Public() }

type privateKey struct{ *key }

func (k privateKey) Key() any { return &jose.JSONWebKey{Key: k.private, KeyID: k.id} }

// New starts a provider, which ends with the test.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{t: t, tokens: map[string]Claims{}, revoked: map[string]bool{}, calls: map[string]int{}}
	k, err := firstKey()
	if err != nil {
		t.Fatalf("key: %v", err)
	}
	p.use(k, false)
	p.server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	p.URL = p.server.URL
	t.Cleanup(func() { p.Answer(); p.server.Close() })
	p.op, err = op.NewProvider(&op.Config{SupportedScopes: []string{"openid", "scope_all"}}, &storage{p: p}, op.StaticIssuer(p.URL))
	if err != nil {
		t.Fatalf("provider: %v", err)
	}
	return p
}

// Config is what makes an operator believe this provider and introspect.
func (p *Provider) Config() auth.PSCConfig {
	roots := x509.NewCertPool()
	roots.AddCert(p.server.Certificate())
	return auth.PSCConfig{Issuer: p.URL, Introspect: true, ClientID: ClientID, ClientSecret: ClientSecret,
		Roots: func() *x509.CertPool { return roots }, Timeout: 20 * time.Second}
}

// Certificate is that of the provider's server.
func (p *Provider) Certificate() *x509.Certificate { return p.server.Certificate() }

// Token makes an access token, signed by the newest key.
func (p *Provider) Token(c Claims) string {
	p.t.Helper()
	if c.Client == "" {
		c.Client = Software
	}
	if c.Expires.IsZero() {
		c.Expires = time.Now().Add(5 * time.Minute)
	}
	id := rand.Text()
	p.mu.Lock()
	p.tokens[id] = c
	p.mu.Unlock()
	token, err := op.CreateJWT(context.Background(), p.URL, &request{c, id}, c.Expires, id, client{c.Client}, p.op.Storage())
	if err != nil {
		p.t.Fatalf("token: %v", err)
	}
	return token
}

// firstKey is made once: keys are slow.
var firstKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// Rotate brings a new key into use; the former ones are withdrawn, or stay good.
func (p *Provider) Rotate(withdraw bool) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		p.t.Fatal(err)
	}
	p.use(k, withdraw)
}

func (p *Provider) use(k *rsa.PrivateKey, withdraw bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if withdraw {
		p.keys = nil
	}
	p.keys = append([]*key{{rand.Text(), k}}, p.keys...)
}

// Signer signs whatever a test likes with the key in use and its id.
func (p *Provider) Signer() (*rsa.PrivateKey, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[0].private, p.keys[0].id
}

// RevokeAll makes introspection say of each token made so far that it is not active.
func (p *Provider) RevokeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.tokens {
		p.revoked[id] = true
	}
}

// Hold lets requests wait until Answer.
func (p *Provider) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = make(chan struct{})
}

// Answer ends Hold and Break.
func (p *Provider) Answer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = 0
	if p.hold != nil {
		close(p.hold)
		p.hold = nil
	}
}

// Break answers every request with a status.
func (p *Provider) Break(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = status
}

// Calls is how many requests came for a path ("/keys", "/oauth/introspect").
func (p *Provider) Calls(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[path]
}

func (p *Provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls[r.URL.Path]++
	hold, broken := p.hold, p.broken
	p.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	if broken != 0 {
		http.Error(w, "broken for a test", broken)
		return
	}
	p.op.ServeHTTP(w, r)
}

// request is what a token is made of.
type request struct {
	Claims
	id string
}

func (r *request) GetSubject() string    { return "f:0b5a4f6e:" + r.Username + r.NameID }
func (r *request) GetAudience() []string { return r.Audience }
func (r *request) GetScopes() []string   { return []string{"openid", "scope_all"} }

type client struct{ id string }

func (c client) GetID() string                { return c.id }
func (c client) ClockSkew() time.Duration     { return 0 }
func (c client) GrantTypes() []oidc.GrantType { return nil }
func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}

// storage is what the library asks for. Methods that no test needs are those of the nil interface.
type storage struct {
	op.Storage
	p *Provider
}

var errUnknown = errors.New("psctest: unknown")

func (s *storage) Health(context.Context) error { return nil }

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return privateKey{s.p.keys[0]}, nil
}

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	var set []op.Key
	for _, k := range s.p.keys {
		set = append(set, publicKey{k})
	}
	return set, nil
}

func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if id != ClientID || secret != ClientSecret {
		return fmt.Errorf("%w client", errUnknown)
	}
	return nil
}

// GetPrivateClaimsFromRequest is what a token says besides the registered claims.
func (s *storage) GetPrivateClaimsFromRequest(_ context.Context, r op.TokenRequest, _ []string) (map[string]any, error) {
	c := r.(*request).Claims
	m := map[string]any{"typ": "Bearer", "azp": c.Client, "preferred_username": c.Username}
	if c.NameID != "" && !c.Hide {
		m["SubjectNameID"] = c.NameID
	}
	for k, v := range c.Extra {
		m[k] = v
	}
	return m, nil
}

func (s *storage) SetUserinfoFromToken(_ context.Context, u *oidc.UserInfo, id, subject, _ string) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	c, ok := s.p.tokens[id]
	if !ok || s.p.revoked[id] {
		return fmt.Errorf("%w token", errUnknown)
	}
	u.Subject, u.PreferredUsername = subject, c.Username
	for k, v := range c.Info {
		u.AppendClaims(k, v)
	}
	return nil
}

func (s *storage) SetIntrospectionFromToken(_ context.Context, r *oidc.IntrospectionResponse, id, subject, _ string) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	c, ok := s.p.tokens[id]
	if !ok || s.p.revoked[id] {
		return fmt.Errorf("%w token", errUnknown)
	}
	r.Subject, r.ClientID, r.Issuer = subject, c.Client, s.p.URL
	r.Expiration, r.Audience, r.PreferredUsername = oidc.FromTime(c.Expires), c.Audience, c.Username
	r.Claims = map[string]any{"azp": c.Client, "typ": "Bearer"}
	if c.NameID != "" {
		r.Claims["SubjectNameID"] = c.NameID
	}
	return nil
}
