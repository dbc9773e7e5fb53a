package message

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What is found is what bytes.Contains finds, whatever the needle's octets are and wherever it stands.
func TestContains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SampledFrom([]string{"ab", "e ", "es\n", "kze", "\x00\xffa", "0123456789 ,"}).Draw(t, "letters")
		text := rapid.SliceOfN(rapid.SampledFrom([]byte(letters)), 0, 300).Draw(t, "text")
		needle := rapid.SliceOfN(rapid.SampledFrom([]byte(letters)), 0, 12).Draw(t, "needle")
		if len(text) > 0 && rapid.Bool().Draw(t, "inside") {
			from := rapid.IntRange(0, len(text)-1).Draw(t, "from")
			needle = text[from:rapid.IntRange(from, len(text)).Draw(t, "to")]
		}
		if got, want := contains(text, needle), bytes.Contains(text, needle); got != want {
			t.Fatalf("%q in %q: %v, want %v", needle, text, got, want)
		}
	})
}

// A text that is made to be slow costs no more than any other, by far.
func BenchmarkContains(b *testing.B) {
	prose := []byte(strings.Repeat("prendre un comprime matin et soir pendant la duree du traitement ", 80))
	for _, c := range []struct {
		name         string
		text, needle []byte
	}{
		{"prose", prose, []byte("introuvable")},
		{"common", prose, []byte("en te")},
		{"hostile", bytes.Repeat([]byte("a"), 5000), []byte(strings.Repeat("a", 499) + "e" + strings.Repeat("a", 499))},
		{"all-the-same", bytes.Repeat([]byte("ab"), 2500), bytes.Repeat([]byte("ba"), 2499)},
	} {
		for _, f := range []struct {
			name string
			f    func(text, needle []byte) bool
		}{{"ours", contains}, {"bytes", bytes.Contains}} {
			b.Run(c.name+"/"+f.name, func(b *testing.B) {
				for b.Loop() {
					f.f(c.text, c.needle)
				}
			})
		}
	}
}
