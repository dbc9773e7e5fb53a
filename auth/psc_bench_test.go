package auth_test

import (
	"fmt"
	"runtime"
	"testing"

	"mssd/auth"
	"mssd/auth/psctest"
	"mssd/store"
	"mssd/store/storetest"
)

// BenchmarkWarmToken is a login with a token that was found good a moment ago.
func BenchmarkWarmToken(b *testing.B) {
	w := newPSC(b, nil)
	token := w.p.Token(psctest.Claims{Username: anneID})
	w.in(pharmacy, token)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.login(pharmacy, token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmTokenOfPerson is the same for somebody who comes as themselves, beside 2,000 BALs of others.
func BenchmarkWarmTokenOfPerson(b *testing.B) {
	w := newPSC(b, nil)
	for i := range 2000 {
		a := store.Address(fmt.Sprintf("x%d@officine.test", i))
		storetest.AddBAL(b, w.st, a, store.ORG)
		w.commit(store.PutMember{Address: a, Member: store.Member{ID: fmt.Sprintf("rpps:%011d", i), Role: store.Owner}})
	}
	token := w.p.Token(psctest.Claims{Username: anneID})
	w.in("", token)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.login("", token); err != nil {
			b.Fatal(err)
		}
	}
}

// TestTokensInMemory: 10,000 tokens remembered take less than 20 MB, a part of them that part.
func TestTokensInMemory(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) { c.Introspect = false })
	w.in(pharmacy, w.p.Token(psctest.Claims{Username: anneID}))
	n := 400 // signing takes the time of this test; a part of the tokens takes that part of the room
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	key, kid := w.p.Signer()
	last := ""
	for i := range n {
		last = signed(t, "RS256", key, kid, map[string]any{"iss": w.p.URL, "exp": w.now().Unix() + 300, "preferred_username": anneID, "jti": fmt.Sprint(i)})
		w.in(pharmacy, last)
	}
	if grown := heap() - before; grown > 20<<20*int64(n)/10_000 {
		t.Errorf("%d tokens take %d octets", n, grown)
	}
	runtime.KeepAlive(w)
}
