package auth_test

import (
	"bytes"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/auth/psctest"
)

func TestDeadIssuer(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) { c.Timeout = 200 * time.Millisecond })
	warm := w.p.Token(psctest.Claims{Username: anneID})
	for deadline := time.Now().Add(30 * time.Second); ; { // the first answers may be slow on a loaded machine
		if _, err := w.login(pharmacy, warm); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		w.forward(time.Second)
	}
	w.p.Hold()
	cold := w.p.Token(psctest.Claims{Username: anneID})
	w.freeze(true)
	for began := time.Now(); w.psc.Warning() == nil; {
		one := time.Now()
		w.later(pharmacy, cold)
		if d := time.Since(one); d > 10*time.Second || time.Since(began) > 60*time.Second {
			t.Fatalf("a client waited %v; nobody is told that the issuer is dead", d)
		}
	}
	w.in(pharmacy, warm) // the others pay nothing
	w.out(pharmacy, "x.y.z", "TokenMalformed")
	// The breaker is open: not a question is asked.
	before := w.p.Calls("/oauth/introspect")
	for i := range 50 {
		w.later(pharmacy, w.p.Token(psctest.Claims{Username: anneID, Extra: map[string]any{"n": i}}))
	}
	if n := w.p.Calls("/oauth/introspect") - before; n != 0 {
		t.Errorf("%d questions to a dead issuer", n)
	}
	w.p.Answer()
	w.freeze(false)
	for deadline := time.Now().Add(30 * time.Second); ; {
		w.forward(31 * time.Second)
		if _, err := w.login(pharmacy, w.p.Token(psctest.Claims{Username: anneID, Expires: w.now().Add(time.Minute)})); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("it is back, and nobody noticed: %v", err)
		}
	}
	if err := w.psc.Warning(); err != nil {
		t.Errorf("still warned: %v", err)
	}
}

// TestIssuerNeverSeen: without keys nobody can tell, and once they come everybody can.
func TestIssuerNeverSeen(t *testing.T) {
	w := newPSC(t, nil)
	w.p.Break(http.StatusInternalServerError)
	token := w.p.Token(psctest.Claims{Username: anneID})
	w.later(pharmacy, token)
	w.later(pharmacy, token)
	w.p.Answer()
	w.in(pharmacy, token)
}

// TestOurOwnSecretIsWrong: a client is never refused for a fault of the operator's.
func TestOurOwnSecretIsWrong(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) { c.ClientSecret = "wrong" })
	w.later(pharmacy, w.p.Token(psctest.Claims{Username: anneID}))
}

// TestSingleflight: many connections with one new token ask once.
func TestSingleflight(t *testing.T) {
	w := newPSC(t, nil)
	w.in(pharmacy, w.p.Token(psctest.Claims{Username: anneID}))
	token := w.p.Token(psctest.Claims{Username: anneID})
	before := w.p.Calls("/oauth/introspect")
	w.p.Hold()
	results := make(chan error, 30)
	for range cap(results) {
		go func() {
			_, err := w.login(pharmacy, token)
			results <- err
		}()
	}
	for w.p.Calls("/oauth/introspect") == before {
		time.Sleep(time.Millisecond)
	}
	w.p.Answer()
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	// Whoever began after the answer finds it in the cache; nobody asks for what is being asked.
	if n := w.p.Calls("/oauth/introspect") - before; n > 1 {
		t.Errorf("%d introspections", n)
	}
}

// TestHostileIssuer: answers of a wrong size or kind are failures, never refusals or panics.
func TestHostileIssuer(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"huge":    func(rw http.ResponseWriter, _ *http.Request) { rw.Write(bytes.Repeat([]byte(" "), 2<<20)) },
		"no JSON": func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("<html>")) },
		"no keys": func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`)) },
		"too many": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Write([]byte(`{"keys":[` + strings.Repeat("{},", 100) + `{}]}`))
		},
		"moved": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://autre.test/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewTLSServer(http.HandlerFunc(answer))
			defer srv.Close()
			w := newPSC(t, func(c *auth.PSCConfig) {
				c.JWKSURL = srv.URL + "/keys"
				roots := x509.NewCertPool()
				roots.AddCert(srv.Certificate())
				c.Roots = func() *x509.CertPool { return roots }
			})
			w.later(pharmacy, w.p.Token(psctest.Claims{Username: anneID}))
		})
	}
}

// TestIssuerOfAnotherAuthority: a server that the anchors do not know is not believed.
func TestIssuerOfAnotherAuthority(t *testing.T) {
	for name, roots := range map[string]*x509.CertPool{"other": x509.NewCertPool(), "none": nil} {
		t.Run(name, func(t *testing.T) {
			w := newPSC(t, func(c *auth.PSCConfig) { c.Roots = func() *x509.CertPool { return roots } })
			w.later(pharmacy, w.p.Token(psctest.Claims{Username: anneID}))
			if n := w.p.Calls("/keys") + w.p.Calls("/.well-known/openid-configuration"); n != 0 {
				t.Errorf("%d questions were asked", n)
			}
		})
	}
}

func certsOf(c *x509.Certificate) []*x509.Certificate {
	if c == nil {
		return nil
	}
	return []*x509.Certificate{c}
}
