package auth

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// TestScramVector: the exchange of RFC 7677, Section 3.
func TestScramVector(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	v, err := newVerifier("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	const nonces = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	messages := "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonces + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" + nonces
	proof, _ := base64.StdEncoding.DecodeString("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	if !v.proves(messages, proof) {
		t.Error("the proof of the RFC is refused")
	}
	if got := base64.StdEncoding.EncodeToString(hmacOf(v.serverKey, messages)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server signature %s", got)
	}
	for i := range proof {
		proof[i] ^= 0x40
		if v.proves(messages, proof) {
			t.Errorf("taken with octet %d changed", i)
		}
		proof[i] ^= 0x40
	}
	if v.proves(messages+" ", proof) {
		t.Error("taken for other messages")
	}
	back, err := parseVerifier(v.String())
	if err != nil || back.String() != v.String() || !back.proves(messages, proof) {
		t.Errorf("%s: %v", v, err)
	}
	for _, bad := range []string{"", "x", strings.Replace(v.String(), "4096", "100", 1), strings.Replace(v.String(), "4096", "99999999", 1), v.String() + "A", v.String()[:40]} {
		if _, err := parseVerifier(bad); !errors.Is(err, ErrHash) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzScram: whatever a client says first and then, nobody is logged in, and what stands in a message is read as its grammar has it.
func FuzzScram(f *testing.F) {
	f.Add("n,,n=user,r=fyko", "c=biws,r=x,p=AAAA")
	f.Add("p=tls-exporter,a=a@b.test,n=a=3Db=2C@b.test,r=x,z=1", "c=,r=,p=")
	f.Add("y,,m=x,n=u,r=x", "m=,c=biws,r=x,p=AAAA")
	f.Fuzz(func(t *testing.T, first, final string) {
		s := newScram(false)
		s.nonce = func() string { return "ours" }
		if err := s.begin(first, Peer{}); err != nil {
			var r *Refusal
			if !errors.Is(err, ErrMessage) && !errors.Is(err, ErrIdentity) && !errors.As(err, &r) {
				t.Fatalf("%q: %v", first, err)
			}
			return
		}
		if s.user == "" || !strings.HasSuffix(s.nonces, "ours") || s.gs2+s.bare != first || strings.ContainsRune(s.user, 0) {
			t.Fatalf("%q: %+v", first, s)
		}
		if attrs, ok := attributes(final); ok {
			var parts []string
			for _, a := range attrs {
				parts = append(parts, string(a.name)+"="+a.value)
			}
			if strings.Join(parts, ",") != final {
				t.Fatalf("%q is read as %q", final, parts)
			}
		}
	})
}
