package auth

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

var cheap = Params{Time: 1, MemoryKiB: 64, Threads: 1}

func TestHash(t *testing.T) {
	s, err := HashPassword(cheap, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^\$argon2id\$v=19\$m=64,t=1,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`).MatchString(s) {
		t.Errorf("not a PHC string: %s", s)
	}
	h, err := parsePHC(s)
	if err != nil || !h.matches("correct horse") || h.matches("correct horsf") || h.matches("") {
		t.Errorf("%v", err)
	}
	if other, _ := HashPassword(cheap, "correct horse"); other == s {
		t.Error("two hashes have one salt")
	}
	for _, p := range []string{"", strings.Repeat("x", maxPassword+1)} {
		if _, err := HashPassword(cheap, p); err == nil {
			t.Errorf("a password of %d octets is taken", len(p))
		}
	}
}

// TestKnownHash is a vector of the reference implementation (argon2 -id -t 2 -m 16 -p 1, password "password", salt
// "somesalt"), so that hashes of other software are read.
func TestKnownHash(t *testing.T) {
	h, err := parsePHC("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	if err != nil || !h.matches("password") || h.matches("passwore") {
		t.Errorf("%v", err)
	}
}

func TestBadHashes(t *testing.T) {
	const salt, tag = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, s := range []string{"", "plain", "$argon2i$v=19$m=64,t=1,p=1$" + salt + "$" + tag, "$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=4294967295,t=1,p=1$" + salt + "$" + tag, "$argon2id$v=19$m=64,t=0,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=9999,p=1$" + salt + "$" + tag, "$argon2id$v=19$m=64,t=1,p=0$" + salt + "$" + tag,
		"$argon2id$v=19$m=8,t=1,p=16$" + salt + "$" + tag, "$argon2id$v=19$m=64,t=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1$$" + tag, "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$", "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + tag + "==",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 600)} {
		if _, err := parsePHC(s); !errors.Is(err, ErrHash) {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parsePHC(s)
		if err != nil {
			return
		}
		if h.check() != nil || len(h.tag) > 64 || len(h.salt) > 64 {
			t.Fatalf("%q is taken: %+v", s, h.Params)
		}
		back, err := parsePHC(format(h))
		if err != nil || string(back.tag) != string(h.tag) || back.Params != h.Params {
			t.Fatalf("%q does not come back: %v", s, err)
		}
	})
}

func TestGeneratePassword(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		p := GeneratePassword()
		if !regexp.MustCompile(`^[a-km-z2-9]{5}(-[a-km-z2-9]{5}){4}$`).MatchString(p) || seen[p] {
			t.Fatalf("%q", p)
		}
		seen[p] = true
	}
}
