package message

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What a text holds is never ruled out, be it long or short; what is cut rules nothing out.
func TestSieveNeverHides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SliceOfN(rapid.Byte(), 0, 400)
		text := Text{Header: word.Draw(t, "header"), Body: bytes.Repeat(word.Draw(t, "body"), rapid.IntRange(1, 60).Draw(t, "times"))}
		s := NewSieve(text)
		for _, part := range [][]byte{text.Header, text.Body} {
			from := rapid.IntRange(0, len(part)).Draw(t, "from")
			if needle := part[from:rapid.IntRange(from, len(part)).Draw(t, "to")]; !s.MayHold(needle) {
				t.Fatalf("%q is hidden", needle)
			}
		}
		needle := word.Draw(t, "needle")
		if found, _ := text.Contains(needle); found && !s.MayHold(needle) {
			t.Fatalf("%q is hidden", needle)
		}
		text.BodyCut = true
		if other := NewSieve(text); other != nil || !other.MayHold(needle) {
			t.Fatal("a text that is cut rules something out")
		}
	})
}

// A sieve is small, and still rules nearly all other words out.
func TestSieveRulesOut(t *testing.T) {
	var body strings.Builder
	for i := 0; body.Len() < 5000; i++ {
		body.WriteString([]string{"ordonnance ", "posologie ", "comprime ", "matin ", "soir ", "pharmacie ", "renouvellement ", "duree "}[i*i%8])
		body.WriteString(strings.Repeat(string(rune('a'+i%26)), 1+i%3))
	}
	s := NewSieve(Text{Header: []byte("subject: bilan\n"), Body: []byte(body.String())})
	if len(s) > 600 {
		t.Errorf("%d octets for a text of 5 KB", len(s))
	}
	ruled := 0
	names := []string{"dupont", "zacharie", "lefevre", "wagner", "bianchi", "kowalski", "martinez", "faure", "girard", "hubert"}
	for _, name := range names {
		if !s.MayHold([]byte(name)) {
			ruled++
		}
	}
	if ruled < 9 {
		t.Errorf("%d names of %d are ruled out", ruled, len(names))
	}
	for _, short := range []string{"", "a", "zq"} {
		if !s.MayHold([]byte(short)) {
			t.Errorf("%q is ruled out", short)
		}
	}
	if empty := NewSieve(Text{}); empty.MayHold([]byte("mot")) {
		t.Error("an empty text may hold a word")
	}
}

// The form is that of docs/format.md: 6513249·0x9e3779b1 modulo 2^32 is 126.4 parts of 512 of 2^32.
func TestSieveForm(t *testing.T) {
	want := make(Sieve, 64)
	want[15] = 64
	if got := NewSieve(Text{Body: []byte("abc")}); !bytes.Equal(got, want) {
		t.Errorf("%x", got)
	}
}
