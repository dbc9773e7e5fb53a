package auth_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"mssd/auth"
	"mssd/store"
)

// TestScramRight: the right password opens nothing once the membership is over, ended or taken away, nor a BAL that is not
// active; the trace is told whose BAL it was.
func TestScramRight(t *testing.T) {
	anne := scramClient{user: "anne%" + string(team), password: secret2}
	for name, c := range map[string]struct {
		change func(w *world)
		reason string
	}{
		"over":      {func(w *world) { w.now = start.Add(2 * time.Hour) }, "RightNotInForce"},
		"ended":     {func(w *world) { w.commit(store.EndMember{Address: team, Member: "local:anne"}) }, "NoSuchMember"},
		"suspended": {func(w *world) { w.commit(store.SetBALState{Address: team, State: store.Suspended}) }, "BALNotActive"},
		"other password": {func(w *world) {
			w.scrams(team, store.Member{ID: "local:anne", Role: store.Writer, Until: start.Add(time.Hour)}, secret)
		}, "WrongPassword"},
		"password alone": {func(w *world) {
			w.put(team, store.Member{ID: "local:anne", Role: store.Writer, Until: start.Add(time.Hour)}, secret2)
		}, "NoVerifier"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newScramWorld(t)
			if p, err := anne.login(t, w, auth.Peer{}); err != nil || p == nil {
				t.Fatalf("before: %v", err) // and is remembered
			}
			c.change(w)
			p, err := anne.login(t, w, auth.Peer{})
			var named *auth.NamedRefusal
			if p != nil || !errors.Is(err, auth.ErrCredentials) || !errors.As(err, &named) || named.Reason != c.reason || named.BAL != team {
				t.Errorf("%+v, %v (%+v), want %s", p, err, named, c.reason)
			}
		})
	}
}

// TestScramReplay: what one exchange carried opens nothing in another: each has a nonce of the server's own.
func TestScramReplay(t *testing.T) {
	w := newScramWorld(t)
	const first = "n,,n=" + string(pharmacy) + ",r=fyko+d2lbbFgONRv9qkxdawL"
	seen := map[string]bool{}
	for range 20 {
		x, err := w.a.Begin(auth.ScramSHA256, auth.Peer{Remote: office})
		if err != nil {
			t.Fatal(err)
		}
		challenge, _, err := x.Next(t.Context(), []byte(first))
		if err != nil || seen[string(challenge)] {
			t.Fatalf("%q twice, %v", challenge, err)
		}
		seen[string(challenge)] = true
	}
}

// TestScramGuesses: guesses by SCRAM alone are bounded, of one user from many addresses and of many users from one address.
func TestScramGuesses(t *testing.T) {
	throttled := func(guess func(i int) (user string, remote netip.Addr)) (int, *world) {
		w := newScramWorld(t)
		w.a = auth.New(auth.Config{Store: w.st, Argon: cheap, Now: func() time.Time { return w.now }, AddrFree: 20,
			Log: slog.New(slog.DiscardHandler)})
		for i := range 60 {
			user, remote := guess(i)
			x, err := w.a.Begin(auth.ScramSHA256, auth.Peer{Remote: remote})
			if err != nil {
				t.Fatal(err)
			}
			challenge, _, err := x.Next(t.Context(), []byte("n,,n="+user+",r=abc"))
			if err != nil {
				t.Fatal(err)
			}
			var nonce string
			if _, err := fmt.Sscanf(string(challenge), "r=%50s", &nonce); err != nil {
				t.Fatal(err)
			}
			nonce = nonce[:len("abc")+24]
			_, p, err := x.Next(t.Context(), []byte("c=biws,r="+nonce+",p="+b64(make([]byte, 32))))
			if p != nil || err == nil || errors.Is(err, auth.ErrMessage) {
				t.Fatalf("%v, %v", p, err)
			}
			if errors.Is(err, auth.ErrThrottled) {
				return i, w
			}
		}
		return -1, w
	}
	n, w := throttled(func(i int) (string, netip.Addr) {
		return string(pharmacy), netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
	})
	if n < 3 || n > 10 {
		t.Errorf("one user from many addresses: throttled at guess %d", n)
	}
	if _, err := w.login(string(pharmacy), secret); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("then by password, from elsewhere: %v", err)
	}
	n, w = throttled(func(i int) (string, netip.Addr) { return fmt.Sprintf("personne%d@officine.test", i), office })
	if n < 15 || n > 30 {
		t.Errorf("many users from one address: throttled at guess %d", n)
	}
	if _, err := (scramClient{user: string(pharmacy), password: secret}).login(t, w, auth.Peer{}); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("then the right one from there, never seen before: %v", err)
	}
}

// TestScramOfOlderMembers: a client that chooses SCRAM for a password without a verifier does not lock its owner out of PLAIN.
func TestScramOfOlderMembers(t *testing.T) {
	w := newScramWorld(t)
	const user = "99900000052%equipe@officine.test"
	var err error
	for i := 0; i < 100 && !errors.Is(err, auth.ErrThrottled); i++ {
		_, err = scramClient{user: user, password: secret}.login(t, w, auth.Peer{})
		var named *auth.NamedRefusal
		if !errors.As(err, &named) || !errors.Is(err, auth.ErrThrottled) && named.Reason != "NoVerifier" {
			t.Fatalf("attempt %d: %v, %+v", i, err, named)
		}
	}
	if !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("never throttled: %v", err)
	}
	if p, err := w.login(user, secret); err != nil || p.Person != "rpps:99900000052" {
		t.Errorf("by password after that: %v, %v", p, err)
	}
	if _, err := w.login(string(pharmacy), secret); err != nil {
		t.Errorf("a colleague at the same address: %v", err)
	}
}
