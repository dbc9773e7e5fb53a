package imapd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mssd/store"
)

// wordMaker makes words out of syllables, so that texts have the trigrams that French has.
type wordMaker struct {
	r     *rand.Rand
	words []string
}

func newWordMaker() *wordMaker {
	m := &wordMaker{r: rand.New(rand.NewPCG(1, 2))}
	syllables := strings.Fields("or don nan ce po so lo gie com pri mé ma tin soir phar ma cie re nou vel le ment doc teur pa tient du rée " +
		"a mo xi cil li ne cli ni que sang ten sion ar té ri el glu co se bi lan con sul ta tion chi rur ra dio é cho car di o")
	for range 3000 {
		var w strings.Builder
		for range 1 + m.r.IntN(4) {
			w.WriteString(syllables[m.r.IntN(len(syllables))])
		}
		m.words = append(m.words, w.String())
	}
	return m
}

// letter is a message of about 5 KB; one in a hundred names Zacharie, all of them the Commune.
func (m *wordMaker) letter(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "From: Labo %s <labo%d@operator.test>\r\nTo: pharmacie@officines.test\r\nSubject: bilan %s\r\nMessage-ID: <w%d@operator.test>\r\n\r\n", m.words[i%3000], i%40, m.words[i%2999], i)
	if i%100 == 7 {
		b.WriteString("Zacharie\r\n")
	}
	for b.Len() < 5000 {
		for range 9 {
			b.WriteString(m.words[m.r.IntN(len(m.words))])
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d\r\n", m.r.IntN(10000))
	}
	b.WriteString("Commune\r\n")
	return b.String()
}

// BenchmarkWords: SEARCH among the words of 10,000 and of 50,000 different messages of 5 KB, the first time after a start and later
// (at most 150 ms for 50,000: issue 6).
func BenchmarkWords(b *testing.B) {
	for _, n := range []int{10_000, 50_000} {
		w := newWorldOn(b, nil, store.Options{NoSync: true})
		w.commit(createOp(w, "B"))
		maker := newWordMaker()
		for i := range n {
			w.deliver("B", maker.letter(i))
		}
		gone := 0
		s := w.login(ownerName, "B").forBench()
		for _, c := range []struct{ name, key string }{
			{"nowhere", "TEXT introuvable"},
			{"one-in-100", "BODY zacharie"},
			{"short", "TEXT zac"},
			{"everywhere", "TEXT commune"},
			{"from", "FROM labo7@"},
			{"not", "NOT TEXT introuvable"},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				for b.Loop() {
					s.pipe(b, "UID SEARCH RETURN (COUNT) "+c.key)
				}
			})
			b.Run(fmt.Sprintf("%d/%s/cold", n, c.name), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					gone++
					w.forgetWords(gone)
					b.StartTimer()
					s.pipe(b, "UID SEARCH RETURN (COUNT) "+c.key)
				}
			})
		}
	}
}

// forgetWords makes the store forget what words it has in memory: it does when a BAL is destroyed.
func (w *world) forgetWords(i int) {
	a := store.Address(fmt.Sprintf("gone%d@officines.test", i))
	w.commit(store.PutBAL{BAL: store.BAL{Address: a, Kind: store.ORG, State: store.Closed, Listing: store.Published}, Create: true})
	if _, err := w.store.DestroyBAL(context.Background(), a); err != nil {
		w.t.Fatal(err)
	}
}
