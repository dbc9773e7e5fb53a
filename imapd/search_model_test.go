package imapd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mssd/message"
)

// wordKey is a search key with the answer that the octets of a message give.
type wordKey struct {
	text string
	in   func(raw string) bool
}

func contains(place message.Place, field, needle string) func(raw string) bool {
	folded := message.Fold(nil, []byte(needle))
	return func(raw string) bool {
		found, err := message.SearchBlob(strings.NewReader(raw), folded, place, field)
		return found && err == nil
	}
}

// drawKey makes a key of words that the messages have, of parts of them, and of others.
func drawKey(t *rapid.T, raws []string, depth int) wordKey {
	kinds := []string{"TEXT", "BODY", "SUBJECT", "FROM"}
	if depth > 0 {
		kinds = append(kinds, "NOT", "OR", "()")
	}
	switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
	case "NOT":
		k := drawKey(t, raws, depth-1)
		return wordKey{"NOT " + k.text, func(raw string) bool { return !k.in(raw) }}
	case "OR", "()":
		a, b := drawKey(t, raws, depth-1), drawKey(t, raws, depth-1)
		if kind == "OR" {
			return wordKey{"OR " + a.text + " " + b.text, func(raw string) bool { return a.in(raw) || b.in(raw) }}
		}
		return wordKey{"(" + a.text + " " + b.text + ")", func(raw string) bool { return a.in(raw) && b.in(raw) }}
	default:
		words := strings.Fields(rapid.SampledFrom(raws).Draw(t, "message"))
		word := rapid.SampledFrom(words).Draw(t, "word")
		if rapid.Bool().Draw(t, "part") {
			runes := []rune(word)
			from := rapid.IntRange(0, len(runes)-1).Draw(t, "from")
			word = string(runes[from : from+rapid.IntRange(1, len(runes)-from).Draw(t, "len")])
		}
		word += rapid.SampledFrom([]string{"", "", "", "zq"}).Draw(t, "tail")
		word = strings.NewReplacer(`"`, "", `\`, "").Replace(word)
		place := map[string]message.Place{"TEXT": message.PlaceText, "BODY": message.PlaceBody}
		at, whole := place[kind]
		if !whole {
			at = message.PlaceField
		}
		return wordKey{kind + ` "` + word + `"`, contains(at, kind, word)}
	}
}

// TestSearchWordsModel: whatever keys of words are joined, SEARCH finds what a reading of all octets finds: in short messages and in
// those whose words are not all stored, whether sieves and headers are in memory or not.
func TestSearchWordsModel(t *testing.T) {
	w := newWorld(t, nil)
	w.commit(createOp(w, "B"))
	maker := newWordMaker()
	r := rand.New(rand.NewPCG(3, 4))
	var raws []string
	for i := range 40 {
		raw := maker.letter(i)
		switch i % 8 {
		case 3: // short
			raw = raw[:600+r.IntN(800)] + "\r\n"
		case 5: // more words than are stored
			for range 9 {
				raw += maker.letter(i)[200:]
			}
			raw += "derrière\r\n"
		}
		raws = append(raws, raw)
		w.deliver("B", raw)
	}
	s := w.login(ownerName, "B")
	gone := 0
	rapid.Check(t, func(t *rapid.T) {
		k := drawKey(t, raws, 2)
		if !strings.Contains(k.text, " \"\"") {
			if rapid.IntRange(0, 9).Draw(t, "forget") == 0 {
				gone++
				w.forgetWords(gone)
			}
			var want []string
			for i, raw := range raws {
				if k.in(raw) {
					want = append(want, fmt.Sprint(i+1))
				}
			}
			un := s.ok("SEARCH " + k.text)
			got := strings.Fields(strings.TrimPrefix(un[len(un)-1], "* SEARCH"))
			if !slices.Equal(got, want) {
				t.Fatalf("SEARCH %s: %v, want %v", k.text, got, want)
			}
		}
	})
}
