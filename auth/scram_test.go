package auth_test

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/store"
)

// scramClient is the client's side of an exchange, with what a test makes of its messages.
type scramClient struct {
	user, password string
	flag, authz    string                   // of the GS2 header; "" n and none
	binding        []byte                   // sent with the proof
	first, final   func(string) string      // change a message before it is sent, final without its proof
	proof          func(p []byte) []byte    // changes the proof
	served         func(salt string, i int) // is told what the server said
	plus           bool
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

var b64 = base64.StdEncoding.EncodeToString

// login carries the exchange out, and checks the server's signature.
func (c scramClient) login(t *testing.T, w *world, peer auth.Peer) (*auth.Principal, error) {
	t.Helper()
	mechanism := auth.ScramSHA256
	if c.plus {
		mechanism = auth.ScramSHA256Plus
	}
	if !peer.Remote.IsValid() {
		peer.Remote = office
	}
	x, err := w.a.Begin(mechanism, peer)
	if err != nil {
		return nil, err
	}
	if c.flag == "" {
		c.flag = "n"
	}
	gs2 := c.flag + "," + c.authz + ","
	bare := "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.user) + ",r=fyko+d2lbbFgONRv9qkxdawL"
	if c.first != nil {
		bare = c.first(bare)
	}
	challenge, p, err := x.Next(t.Context(), []byte(gs2+bare))
	if err != nil || p != nil {
		return p, err
	}
	var nonce, salt string
	var count int
	if _, err := fmt.Sscanf(strings.ReplaceAll(string(challenge), ",", " "), "r=%s s=%s i=%d", &nonce, &salt, &count); err != nil || !strings.HasPrefix(nonce, "fyko+d2lbbFgONRv9qkxdawL") || len(nonce) < 24+24 {
		t.Fatalf("the server says %q: %v", challenge, err)
	}
	if c.served != nil {
		c.served(salt, count)
	}
	raw, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, c.password, raw, count, 32)
	if err != nil {
		t.Fatal(err)
	}
	final := "c=" + b64(append([]byte(gs2), c.binding...)) + ",r=" + nonce
	if c.final != nil {
		final = c.final(final)
	}
	messages := bare + "," + string(challenge) + "," + final
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	proof := mac(stored[:], messages)
	for i := range proof {
		proof[i] ^= key[i]
	}
	if c.proof != nil {
		proof = c.proof(proof)
	}
	challenge, p, err = x.Next(t.Context(), []byte(final+",p="+b64(proof)))
	if err != nil || p != nil {
		return p, err
	}
	if want := "v=" + b64(mac(mac(salted, "Server Key"), messages)); string(challenge) != want {
		t.Errorf("the server does not prove that it knows the password: %q, want %q", challenge, want)
	}
	_, p, err = x.Next(t.Context(), nil)
	return p, err
}

// scrams gives members a password with a verifier.
func (w *world) scrams(a store.Address, m store.Member, password string) {
	w.t.Helper()
	v, err := auth.HashSCRAM(w.st, a, password)
	if err != nil || v == "" {
		w.t.Fatalf("%q, %v", v, err)
	}
	m.SCRAM = v
	w.put(a, m, password)
}

var bound = auth.Peer{Plus: true, Binding: func() ([]byte, error) { return []byte("what the two ends know"), nil }}

func newScramWorld(t *testing.T) *world {
	w := newWorld(t)
	w.scrams(pharmacy, store.Member{ID: "rpps:99900000052", Role: store.Owner}, secret)
	w.scrams(team, store.Member{ID: "local:anne", Role: store.Writer, Until: start.Add(time.Hour)}, secret2)
	return w
}

func TestScram(t *testing.T) {
	w := newScramWorld(t)
	for name, c := range map[string]struct {
		client scramClient
		peer   auth.Peer
		person string
	}{
		"address":        {client: scramClient{user: string(pharmacy), password: secret}, person: "rpps:99900000052"},
		"case":           {client: scramClient{user: "Pharmacie@OFFICINE.test", password: secret}, person: "rpps:99900000052"},
		"member":         {client: scramClient{user: "anne%" + string(team), password: secret2}, person: "local:anne"},
		"own identity":   {client: scramClient{user: string(pharmacy), authz: "a=" + string(pharmacy), password: secret}, person: "rpps:99900000052"},
		"extensions":     {client: scramClient{user: string(pharmacy), password: secret, first: func(s string) string { return s + ",x=y" }, final: func(s string) string { return s + ",z=1" }}, person: "rpps:99900000052"},
		"could bind":     {client: scramClient{user: string(pharmacy), password: secret, flag: "y"}, person: "rpps:99900000052"},
		"need not bind":  {client: scramClient{user: string(pharmacy), password: secret}, peer: bound, person: "rpps:99900000052"},
		"bound":          {client: scramClient{user: string(pharmacy), password: secret, plus: true, flag: "p=tls-exporter", binding: []byte("what the two ends know")}, peer: bound, person: "rpps:99900000052"},
		"password alone": {client: scramClient{user: "99900000052%" + string(team), password: secret}}, // set before SCRAM was offered
	} {
		p, err := c.client.login(t, w, c.peer)
		if c.person == "" {
			if !errors.Is(err, auth.ErrCredentials) {
				t.Errorf("%s: %v, %v", name, p, err)
			}
			continue
		}
		if err != nil || p == nil || p.Person != c.person || p.Method != "scram" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	// The same password opens in the other way too, and one way remembered is not the other.
	if p, err := w.login(string(pharmacy), secret); err != nil || p.Method != "password" {
		t.Errorf("password: %v, %v", p, err)
	}
	if s := w.log.String(); strings.Contains(s, "fyko") || strings.Contains(s, secret) {
		t.Errorf("the log holds secrets:\n%s", s)
	}
}

// TestScramHostile: what does not prove a password opens nothing, and what is no message is told so.
func TestScramHostile(t *testing.T) {
	w := newScramWorld(t)
	mine := func(c scramClient) scramClient {
		c.user, c.password = string(pharmacy), secret
		return c
	}
	message := map[string]scramClient{
		"must be understood":     mine(scramClient{first: func(s string) string { return "m=x," + s }}),
		"must, in the final":     mine(scramClient{final: func(s string) string { return s + ",m=x" }}),
		"without a nonce":        mine(scramClient{first: func(s string) string { return strings.Split(s, ",")[0] }}),
		"nonce of others":        mine(scramClient{final: func(s string) string { return s + "x" }}),
		"nonce cut off":          mine(scramClient{final: func(s string) string { return s[:len(s)-1] }}),
		"huge nonce":             mine(scramClient{first: func(s string) string { return s + strings.Repeat("x", 600) }}),
		"huge message":           mine(scramClient{first: func(s string) string { return s + ",x=" + strings.Repeat("x", 5000) }}),
		"control in the nonce":   mine(scramClient{first: func(s string) string { return s + "\x01" }}),
		"NUL":                    mine(scramClient{first: func(s string) string { return s + ",x=\x00" }}),
		"wrong escape":           {user: "x", first: func(string) string { return "n=a=2x,r=abcdefgh" }},
		"empty name":             {user: "", password: secret},
		"another header":         mine(scramClient{flag: "q"}),
		"PLUS without PLUS":      mine(scramClient{flag: "p=tls-exporter"}),
		"short proof":            mine(scramClient{proof: func(p []byte) []byte { return p[:31] }}),
		"proof of nothing":       mine(scramClient{proof: func([]byte) []byte { return nil }}),
		"identity malformed":     mine(scramClient{authz: "x=y"}),
		"final without a header": mine(scramClient{final: func(s string) string { return s[strings.Index(s, ",")+1:] }}),
	}
	for name, c := range message {
		if p, err := c.login(t, w, auth.Peer{}); !errors.Is(err, auth.ErrMessage) || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if p, err := mine(scramClient{authz: "a=" + string(team)}).login(t, w, auth.Peer{}); !errors.Is(err, auth.ErrIdentity) || p != nil {
		t.Errorf("another identity: %v, %v", p, err)
	}
	for name, c := range map[string]struct {
		client scramClient
		peer   auth.Peer
	}{
		"wrong password":     {client: scramClient{user: string(pharmacy), password: "autre"}},
		"other proof":        {client: mine(scramClient{proof: func(p []byte) []byte { p[31] ^= 1; return p }})},
		"nobody":             {client: scramClient{user: "personne@officine.test", password: secret}},
		"several members":    {client: scramClient{user: string(team), password: secret}},
		"huge name":          {client: scramClient{user: strings.Repeat("a", 2000) + "@officine.test", password: secret}},
		"header changed":     {client: mine(scramClient{final: func(s string) string { return "c=" + b64([]byte("y,,")) + s[strings.Index(s, ","):] }})},
		"downgraded":         {client: mine(scramClient{flag: "y"}), peer: bound},
		"unbound in PLUS":    {client: mine(scramClient{plus: true}), peer: bound},
		"other binding":      {client: mine(scramClient{plus: true, flag: "p=tls-exporter", binding: []byte("another connection")}), peer: bound},
		"no octets of it":    {client: mine(scramClient{plus: true, flag: "p=tls-exporter"}), peer: bound},
		"other kind of bind": {client: mine(scramClient{plus: true, flag: "p=tls-unique", binding: []byte("what the two ends know")}), peer: bound},
	} {
		p, err := c.client.login(t, w, c.peer)
		if !errors.Is(err, auth.ErrCredentials) || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
		w.now = w.now.Add(time.Hour) // past the throttle
	}
	for _, peer := range []auth.Peer{{}, {ByCertificate: true, Binding: bound.Binding}} {
		if _, err := w.a.Begin(auth.ScramSHA256Plus, peer); !errors.Is(err, auth.ErrMechanism) {
			t.Errorf("PLUS for %+v: %v", peer, err)
		}
	}
	x, _ := w.a.Begin(auth.ScramSHA256, auth.Peer{Remote: elsewhere})
	if _, p, err := x.Next(t.Context(), []byte("n,,n="+string(pharmacy)+",r=abc")); err != nil || p != nil {
		t.Fatal(p, err)
	}
	for range 3 { // nothing is proven by silence
		if _, p, err := x.Next(t.Context(), nil); !errors.Is(err, auth.ErrMessage) || p != nil {
			t.Errorf("silence: %v, %v", p, err)
		}
	}
}

// TestScramTellsNothing: who asks learns neither whether there is such a BAL or member, nor who of them has SCRAM.
func TestScramTellsNothing(t *testing.T) {
	w := newScramWorld(t)
	salts := map[string]string{}
	ask := func(user string) (salt string, count int) {
		t.Helper()
		_, _ = scramClient{user: user, password: "x", served: func(s string, i int) { salt, count = s, i }}.login(t, w, auth.Peer{})
		w.now = w.now.Add(time.Hour)
		return salt, count
	}
	for _, users := range [][]string{
		{string(pharmacy), "99900000052%" + string(pharmacy), "personne%" + string(pharmacy), "PHARMACIE@officine.test"},
		{string(team), "anne%" + string(team), "99900000052%" + string(team), "personne%" + string(team)},
		{"personne@officine.test", "anne%personne@officine.test", "Personne@Officine.test"},
		{"x"},
	} {
		first := ""
		for _, u := range users {
			salt, count := ask(u)
			again, _ := ask(u)
			if first == "" {
				first = salt
			}
			if salt == "" || salt != first || salt != again || count != 65536 {
				t.Errorf("%s: salt %q, then %q, others of this address %q; %d iterations", u, salt, again, first, count)
			}
		}
		if other, twice := salts[first]; twice {
			t.Errorf("%s has the salt of %s", users[0], other)
		}
		salts[first] = users[0]
	}
}

// TestScramThrottle: guesses by SCRAM and by password are counted together; who is in already goes on.
func TestScramThrottle(t *testing.T) {
	w := newScramWorld(t)
	good := scramClient{user: string(pharmacy), password: secret}
	if _, err := good.login(t, w, auth.Peer{}); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; i < 100 && !errors.Is(err, auth.ErrThrottled); i++ {
		if i%2 == 0 {
			_, err = scramClient{user: string(pharmacy), password: "autre"}.login(t, w, auth.Peer{Remote: office})
		} else {
			_, err = w.from(elsewhere, string(pharmacy), fmt.Sprint("autre", i))
		}
	}
	var named *auth.NamedRefusal
	if !errors.Is(err, auth.ErrThrottled) || !errors.As(err, &named) || named.BAL != pharmacy || named.Member != "rpps:99900000052" {
		t.Fatalf("after 100 guesses: %v", err)
	}
	if _, err := w.from(elsewhere, string(pharmacy), secret); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("the right password, never seen from there: %v", err)
	}
	if p, err := w.login(string(pharmacy), secret); err != nil || p == nil {
		t.Errorf("by password, from where somebody was in before: %v", err)
	}
	if p, err := good.login(t, w, auth.Peer{}); err != nil || p == nil {
		t.Errorf("who was in before: %v", err)
	}
	w.scrams(pharmacy, store.Member{ID: "rpps:99900000052", Role: store.Owner}, secret2)
	if _, err := good.login(t, w, auth.Peer{}); err == nil {
		t.Error("the former password opens")
	}
}

// TestScramPasswords: a password is the same however it is typed; one that SCRAM cannot carry has no verifier.
func TestScramPasswords(t *testing.T) {
	w := newWorld(t)
	for typed, same := range map[string]string{"été": "e\u0301te\u0301", "a\u00a0b": "a b", "\u2168": "IX", "a\u00adb": "ab", "קוד": "קוד"} {
		a, err := auth.HashSCRAM(w.st, pharmacy, typed)
		b, err2 := auth.HashSCRAM(w.st, pharmacy, same)
		if err != nil || err2 != nil || a == "" || a != b {
			t.Errorf("%q and %q: %v %v", typed, same, err, err2)
		}
	}
	for _, bad := range []string{"", "a\tb", "a\x7f", "\u200e", "קa", "\ufffd", "\ufffc", "\u2ff0", "\xff"} {
		if v, err := auth.HashSCRAM(w.st, pharmacy, bad); err != nil || v != "" {
			t.Errorf("%q: %q, %v", bad, v, err)
		}
	}
}
