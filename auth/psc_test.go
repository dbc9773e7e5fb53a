package auth_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mssd/auth"
	"mssd/auth/psctest"
	"mssd/store"
	"mssd/store/storetest"
)

// The persons of the tests: one holds both BALs, one holds team only, with an ADELI number.
const (
	anneID = "899900000052"
	lucID  = "0759900015"
)

// pscWorld is a store with two BALs behind a real OpenID provider.
type pscWorld struct {
	t   testing.TB
	st  *store.Store
	p   *psctest.Provider
	psc *auth.PSC
	a   *auth.Authenticator
	dir string

	mu    sync.Mutex
	ahead time.Duration // of our clock before the provider's
	still time.Time     // not zero: our clock stands
	log   bytes.Buffer
}

func (w *pscWorld) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.still.IsZero() {
		return w.still.Add(w.ahead)
	}
	return time.Now().Add(w.ahead)
}

// freeze lets our clock stand, or go on.
func (w *pscWorld) freeze(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.still = time.Time{}
	if on {
		w.still = time.Now()
	}
}

func (w *pscWorld) forward(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

func (w *pscWorld) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func newPSC(t testing.TB, change func(*auth.PSCConfig)) *pscWorld {
	t.Helper()
	w := &pscWorld{t: t, p: psctest.New(t), dir: t.TempDir()}
	w.st = storetest.Open(t, store.Options{Dir: filepath.Join(w.dir, "store"), Create: true, NoSync: true})
	storetest.AddBAL(t, w.st, pharmacy, store.ORG)
	storetest.AddBAL(t, w.st, team, store.ORG)
	for _, m := range []struct {
		a store.Address
		m store.Member
	}{
		{pharmacy, store.Member{ID: "rpps:99900000052", Role: store.Owner}},
		{team, store.Member{ID: "rpps:99900000052", Role: store.Reader}},
		{team, store.Member{ID: "adeli:759900015", Role: store.Writer}},
		{team, store.Member{ID: "rpps:99900000060", Role: store.Writer, Until: time.Now().Add(-time.Hour)}},
	} {
		if _, err := w.st.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.PutMember{Address: m.a, Member: m.m}}}); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := w.p.Config()
	cfg.Now, cfg.Log = w.now, log
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.psc, err = auth.NewPSC(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.psc.Close)
	w.a = auth.New(auth.Config{Store: w.st, PSC: w.psc, Argon: cheap, MaxSession: 4 * time.Hour, Now: w.now, Log: log})
	return w
}

func (w *pscWorld) login(address store.Address, token string) (*auth.Principal, error) {
	return w.a.Token(context.Background(), string(address), token, auth.Peer{Remote: office})
}

// in fails unless the login succeeds.
func (w *pscWorld) in(address store.Address, token string) *auth.Principal {
	w.t.Helper()
	p, err := w.login(address, token)
	if err != nil {
		w.t.Fatalf("%s: %v", address, err)
	}
	return p
}

// out fails unless the login is refused for a reason.
func (w *pscWorld) out(address store.Address, token, reason string) {
	w.t.Helper()
	p, err := w.login(address, token)
	var r *auth.Refusal
	if p != nil || !errors.As(err, &r) || !errors.Is(err, auth.ErrCredentials) || errors.Is(err, auth.ErrUnavailable) || r.Reason != reason {
		w.t.Fatalf("%s: %v, %v; want %s", address, p, err, reason)
	}
}

// later fails unless nobody can tell for now.
func (w *pscWorld) later(address store.Address, token string) {
	w.t.Helper()
	if p, err := w.login(address, token); p != nil || !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrCredentials) {
		w.t.Fatalf("%s: %v, %v; want ErrUnavailable", address, p, err)
	}
}

func TestTokenOpensTheBALsOfItsPerson(t *testing.T) {
	w := newPSC(t, nil)
	anne, luc := w.p.Token(psctest.Claims{NameID: anneID, Username: anneID}), w.p.Token(psctest.Claims{Username: lucID})
	p := w.in(pharmacy, anne)
	if p.Person != "rpps:99900000052" || p.Grants[0].Role != store.Owner || p.Grants[0].BAL.Address != pharmacy || p.Method != "psc" {
		t.Errorf("anne at the pharmacy: %+v", p)
	}
	if p := w.in("Equipe@OFFICINE.test", anne); p.Grants[0].Role != store.Reader {
		t.Errorf("anne in the team: %+v", p)
	}
	if p := w.in(team, luc); p.Person != "adeli:759900015" || p.Grants[0].Role != store.Writer {
		t.Errorf("luc in the team: %+v", p)
	}
	w.out(pharmacy, luc, "NoRight")
	w.out("nobody@officine.test", anne, "NoBAL")
	w.out(store.Address(strings.Repeat("a", 10000)), anne, "NoBAL")
	w.out(team, w.p.Token(psctest.Claims{Username: "899900000060"}), "RightNotInForce")
	// PSC tells SubjectNameID by introspection only.
	w.in(pharmacy, w.p.Token(psctest.Claims{NameID: anneID, Hide: true}))
}

func TestTokenRefused(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) {
		c.Parties, c.Audiences = []string{psctest.Software}, []string{"mss"}
	})
	ok := psctest.Claims{Username: anneID, Audience: []string{"autre", "mss"}}
	w.in(pharmacy, w.p.Token(ok))
	change := func(f func(*psctest.Claims)) string {
		c := ok
		f(&c)
		return w.p.Token(c)
	}
	for name, c := range map[string]struct{ token, reason string }{
		"expired":         {change(func(c *psctest.Claims) { c.Expires = time.Now().Add(-time.Minute) }), "TokenExpired"},
		"wrong audience":  {change(func(c *psctest.Claims) { c.Audience = []string{"autre"} }), "TokenForAnotherAudience"},
		"no audience":     {change(func(c *psctest.Claims) { c.Audience = nil }), "TokenForAnotherAudience"},
		"wrong party":     {change(func(c *psctest.Claims) { c.Client = "autre-logiciel" }), "TokenOfAnotherParty"},
		"ID token":        {change(func(c *psctest.Claims) { c.Extra = map[string]any{"typ": "ID"} }), "TokenOfAnotherType"},
		"other kind":      {change(func(c *psctest.Claims) { c.Username = "3750000001/42" }), "TokenWithoutPerson"},
		"nobody":          {change(func(c *psctest.Claims) { c.Username = "" }), "TokenWithoutPerson"},
		"two persons":     {change(func(c *psctest.Claims) { c.NameID = "899900000060" }), "TokenOfTwoPersons"},
		"RPPS too long":   {change(func(c *psctest.Claims) { c.Username = anneID + "1" }), "TokenWithoutPerson"},
		"empty":           {"", "TokenSize"},
		"huge":            {strings.Repeat("a", 20<<10), "TokenSize"},
		"huge but signed": {change(func(c *psctest.Claims) { c.Extra = map[string]any{"x": strings.Repeat("x", 14<<10)} }), "TokenSize"},
		"words":           {"not a token", "TokenMalformed"},
		"dots":            {"..", "TokenMalformed"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func(old testing.TB) { w.t = old }(w.t)
			w.t = t
			w.out(pharmacy, c.token, c.reason)
		})
	}
}

// signed makes a token by hand: what no honest issuer makes.
func signed(t testing.TB, alg jose.SignatureAlgorithm, key any, kid string, c map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := o.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTokenForged(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) { c.Introspect = false })
	issuerKey, kid := w.p.Signer()
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := map[string]any{"iss": w.p.URL, "exp": time.Now().Add(time.Hour).Unix(), "preferred_username": anneID, "typ": "Bearer"}
	w.in(pharmacy, signed(t, jose.RS256, issuerKey, kid, c))
	w.in(pharmacy, signed(t, jose.RS256, issuerKey, "", c))
	with := func(k string, v any) map[string]any {
		m := map[string]any{}
		for key, value := range c {
			m[key] = value
		}
		m[k] = v
		return m
	}
	parts := strings.Split(signed(t, jose.RS256, issuerKey, kid, c), ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"` + kid + `"}`))
	public, err := x509.MarshalPKIXPublicKey(issuerKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	embedded := signedEmbedded(t, own, c)
	for name, f := range map[string]struct{ token, reason string }{
		"none":              {none + "." + parts[1] + ".", "TokenMalformed"},
		"none with a tail":  {none + "." + parts[1] + "." + parts[2], "TokenMalformed"},
		"HS256 of the key":  {signed(t, jose.HS256, public, kid, c), "TokenMalformed"},
		"RS512":             {signed(t, jose.RS512, issuerKey, kid, c), "TokenMalformed"},
		"own key, their id": {signed(t, jose.RS256, own, kid, c), "TokenSignature"},
		"own key, own id":   {signed(t, jose.RS256, own, "mine", c), "TokenKeyUnknown"},
		"own key, no id":    {signed(t, jose.RS256, own, "", c), "TokenKeyUnknown"},
		"own key in it":     {embedded, "TokenKeyUnknown"},
		"EC under RSA's id": {signed(t, jose.ES256, ec, kid, c), "TokenSignature"},
		"payload changed":   {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"preferred_username":"899900000060"}`)) + "." + parts[2], "TokenSignature"},
		"signature cut":     {parts[0] + "." + parts[1] + "." + parts[2][:20], "TokenSignature"},
		"other issuer":      {signed(t, jose.RS256, issuerKey, kid, with("iss", "https://autre.test")), "TokenOfAnotherIssuer"},
		"no issuer":         {signed(t, jose.RS256, issuerKey, kid, with("iss", "")), "TokenOfAnotherIssuer"},
		"active by itself":  {signed(t, jose.RS256, issuerKey, kid, map[string]any{"active": true, "exp": c["exp"], "preferred_username": anneID}), "TokenOfAnotherIssuer"},
		"no end":            {signed(t, jose.RS256, issuerKey, kid, with("exp", 0)), "TokenWithoutEnd"},
		"not yet":           {signed(t, jose.RS256, issuerKey, kid, with("nbf", time.Now().Add(time.Hour).Unix())), "TokenNotYetValid"},
		"key's other use":   {signed(t, jose.PS256, issuerKey, kid, c), "TokenSignature"},
		"absurd end":        {signed(t, jose.RS256, issuerKey, kid, with("exp", 1e300)), "TokenMalformed"},
		"end is a word":     {signed(t, jose.RS256, issuerKey, kid, with("exp", "demain")), "TokenMalformed"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func(old testing.TB) { w.t = old }(w.t)
			w.t = t
			w.out(pharmacy, f.token, f.reason)
		})
	}
}

// signedEmbedded carries the key that it is signed with in its header.
func signedEmbedded(t testing.TB, key *rsa.PrivateKey, c map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(c)
	o, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := o.CompactSerialize()
	return text
}

func TestKeyRotation(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) { c.CacheFor = -1 })
	old := w.p.Token(psctest.Claims{Username: anneID})
	w.in(pharmacy, old)
	w.forward(11 * time.Second)
	w.p.Rotate(false)
	w.in(pharmacy, w.p.Token(psctest.Claims{Username: anneID}))
	w.in(pharmacy, old)
	// A key that is withdrawn is believed no longer than until the next reading.
	w.forward(11 * time.Second)
	w.p.Rotate(true)
	w.in(pharmacy, w.p.Token(psctest.Claims{Username: anneID}))
	w.forward(-11 * time.Second)
	w.out(pharmacy, old, "TokenKeyUnknown")

	// Keys that nobody knows make one question in a while, not one each.
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	w.freeze(true)
	before := w.p.Calls("/keys")
	c := map[string]any{"iss": w.p.URL, "exp": w.now().Add(time.Hour).Unix(), "preferred_username": anneID}
	for i := range 20 {
		w.out(pharmacy, signed(t, jose.RS256, own, fmt.Sprint("kid", i), c), "TokenKeyUnknown")
	}
	if n := w.p.Calls("/keys") - before; n > 1 {
		t.Errorf("%d readings of the keys for 20 unknown ones", n)
	}
}

// TestKeysAreRenewed: a withdrawn key is found out although no token with an unknown key comes.
func TestKeysAreRenewed(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) { c.CacheFor = -1; c.Introspect = false })
	old := w.p.Token(psctest.Claims{Username: anneID, Expires: time.Now().Add(48 * time.Hour)})
	w.in(pharmacy, old)
	w.p.Rotate(true)
	w.forward(11 * time.Minute)
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, err := w.login(pharmacy, old)
		if errors.Is(err, auth.ErrCredentials) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the withdrawn key is still believed: %v", err)
		}
	}
	// With keys of yesterday and no issuer nobody can tell.
	w.p.Break(http.StatusBadGateway)
	w.forward(25 * time.Hour)
	w.later(pharmacy, w.p.Token(psctest.Claims{Username: anneID, Expires: time.Now().Add(48 * time.Hour)}))
}

func TestClockSkew(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) { c.Introspect = false })
	token := w.p.Token(psctest.Claims{Username: anneID, Expires: time.Now().Add(time.Minute)})
	w.forward(-20 * time.Second) // our clock is behind: the token is of the future
	w.in(pharmacy, token)
	w.forward(-20 * time.Second)
	w.out(pharmacy, w.p.Token(psctest.Claims{Username: anneID}), "TokenNotYetValid")
	w.forward(40*time.Second + 80*time.Second) // 20 s past its end
	w.in(pharmacy, token)
	w.forward(20 * time.Second)
	w.out(pharmacy, token, "TokenExpired")
}

// TestReplay: a token that is brought again is as good as it was, no longer than until its end, and for a short time only
// after the issuer has taken it back.
func TestReplay(t *testing.T) {
	w := newPSC(t, nil)
	token := w.p.Token(psctest.Claims{Username: anneID, Expires: time.Now().Add(10 * time.Minute)})
	for range 10 {
		w.in(pharmacy, token)
	}
	if n := w.p.Calls("/oauth/introspect"); n != 1 {
		t.Errorf("%d introspections of one token", n)
	}
	w.p.RevokeAll()
	w.in(pharmacy, token)
	w.forward(61 * time.Second)
	w.out(pharmacy, token, "TokenInactive")
	w.out(pharmacy, token, "TokenInactive")
	if n := w.p.Calls("/oauth/introspect"); n != 2 {
		t.Errorf("%d introspections, want 2", n)
	}
	short := w.p.Token(psctest.Claims{Username: anneID, Expires: w.now().Add(5 * time.Second)})
	w.in(pharmacy, short)
	w.forward(40 * time.Second)
	w.out(pharmacy, short, "TokenExpired")
}

func TestBoundTokens(t *testing.T) {
	for _, c := range []struct {
		mode                   auth.BoundMode
		free, right, wrong, no string // reasons; "" in
	}{
		{auth.BoundIgnored, "", "", "", ""},
		{auth.BoundMatched, "", "", "TokenOfAnotherCertificate", "TokenOfAnotherCertificate"},
		{auth.BoundRequired, "TokenNotBound", "", "TokenOfAnotherCertificate", "TokenOfAnotherCertificate"},
	} {
		w := newPSC(t, func(p *auth.PSCConfig) { p.Bound = c.mode })
		cert := w.p.Certificate()
		sum := sha256.Sum256(cert.Raw)
		bound := w.p.Token(psctest.Claims{Username: anneID, Extra: map[string]any{"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}}})
		other := &x509.Certificate{Raw: []byte("another")}
		for _, l := range []struct {
			token  string
			cert   *x509.Certificate
			reason string
		}{{w.p.Token(psctest.Claims{Username: anneID}), cert, c.free}, {bound, cert, c.right}, {bound, other, c.wrong}, {bound, nil, c.no}, {bound, cert, c.right}} {
			_, err := w.a.Token(context.Background(), string(pharmacy), l.token, auth.Peer{Remote: office, Certs: certsOf(l.cert)})
			var r *auth.Refusal
			if errors.As(err, &r) && r.Reason != l.reason || err == nil && l.reason != "" || err != nil && r == nil {
				t.Errorf("mode %d: %v, want %q", c.mode, err, l.reason)
			}
		}
	}
}

// TestTokensOfASharedAddress: thirty workstations behind one address bring tokens that are over, again and again; nobody is shut out.
// Whoever brings forged ones is, from that address, but for those who are in.
func TestTokensOfASharedAddress(t *testing.T) {
	w := newPSC(t, nil)
	over := make([]string, 30)
	for i := range over {
		over[i] = w.p.Token(psctest.Claims{Username: anneID, Expires: time.Now().Add(-time.Minute), Extra: map[string]any{"n": i}})
	}
	for range 30 {
		for _, token := range over {
			w.out(pharmacy, token, "TokenExpired")
		}
	}
	good := w.p.Token(psctest.Claims{Username: anneID})
	w.in(pharmacy, good)
	for range 101 {
		_, _ = w.login(pharmacy, "x.y.z")
	}
	if _, err := w.login(pharmacy, "x.y.z"); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("forged tokens without end: %v", err)
	}
	w.in(pharmacy, good)
	if _, err := w.a.Token(context.Background(), string(pharmacy), w.p.Token(psctest.Claims{Username: anneID}), auth.Peer{Remote: netip.MustParseAddr("198.51.100.9")}); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
}

// TestPersonTriesOthersBALs: a person without a right is slowed down, not kept from their own BAL.
func TestPersonTriesOthersBALs(t *testing.T) {
	w := newPSC(t, nil)
	luc := w.p.Token(psctest.Claims{Username: lucID})
	for range 61 {
		w.out(pharmacy, luc, "NoRight")
	}
	if _, err := w.login(pharmacy, luc); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("the 62nd: %v", err)
	}
	w.in(team, luc)
}

func TestSessionsEnd(t *testing.T) {
	w := newPSC(t, nil)
	p := w.in(pharmacy, w.p.Token(psctest.Claims{Username: anneID}))
	w.forward(3*time.Hour + 59*time.Minute) // the token has long been over
	if err := w.a.Check(p, p.Grants[0]); err != nil {
		t.Errorf("within the maximum: %v", err)
	}
	w.forward(2 * time.Minute)
	if err := w.a.Check(p, p.Grants[0]); !errors.Is(err, auth.ErrSessionOver) {
		t.Errorf("past the maximum: %v", err)
	}
	w.forward(-4 * time.Hour)
	if _, err := w.st.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.EndMember{Address: pharmacy, Member: p.Person}}}); err != nil {
		t.Fatal(err)
	}
	if err := w.a.Check(p, p.Grants[0]); !errors.Is(err, auth.ErrWithdrawn) {
		t.Errorf("after the right was withdrawn: %v", err)
	}
	w.out(pharmacy, w.p.Token(psctest.Claims{Username: anneID, Expires: w.now().Add(time.Hour)}), "RightNotInForce")
}

// TestTokensAreNotKept: no token stands in the log, in an error, or in a file of the store.
func TestTokensAreNotKept(t *testing.T) {
	w := newPSC(t, nil)
	good := w.p.Token(psctest.Claims{Username: anneID})
	over := w.p.Token(psctest.Claims{Username: anneID, Expires: time.Now().Add(-time.Hour)})
	tokens := []string{good, over, "eyJhbGciOiJSUzI1NiJ9.eyJmb3JnZWQiOjF9.Zm9yZ2VkIHNpZ25hdHVyZQ"}
	var said strings.Builder
	try := func() {
		for _, token := range tokens {
			for _, a := range []store.Address{pharmacy, "nobody@officine.test"} {
				p, err := w.login(a, token)
				fmt.Fprintf(&said, "%v %+v %#v\n", err, err, p)
			}
		}
	}
	try()
	w.p.Break(http.StatusBadGateway)
	w.forward(2 * time.Minute)
	tokens = append(tokens, w.p.Token(psctest.Claims{Username: anneID}))
	try()
	fmt.Fprint(&said, w.psc.Warning())
	said.Write(w.log.Bytes())
	if err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		said.WriteString(path)
		said.Write(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	all := said.String()
	for _, token := range append(tokens, psctest.ClientSecret) {
		parts := strings.Split(token, ".")
		if strings.Contains(all, token) || strings.Contains(all, parts[len(parts)-1]) {
			t.Errorf("a token or the secret was written: %.20s…", token)
		}
	}
	if !strings.Contains(all, "the issuer of tokens cannot be used") {
		t.Error("nothing was captured: this test cannot fail")
	}
}
