package auth_test

import (
	"fmt"
	"testing"

	"mssd/auth/psctest"
	"mssd/store"
)

// BenchmarkCheck is what each operation of a session asks, in a BAL with thirty members.
func BenchmarkCheck(b *testing.B) {
	w := newPSC(b, nil)
	for i := range 30 {
		w.commit(store.PutMember{Address: pharmacy, Member: store.Member{ID: fmt.Sprintf("local:p%d", i), Role: store.Writer}})
	}
	p := w.in("", w.p.Token(psctest.Claims{Username: anneID}))
	b.ReportAllocs()
	for b.Loop() {
		if err := w.a.Check(p, p.Grants[0]); err != nil {
			b.Fatal(err)
		}
	}
}
