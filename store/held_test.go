package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// TestHeldBy: what a person holds is known after each change, after a restart, and not of a BAL that was destroyed; of
// damaged BALs nobody claims to know. (Check, at each close, compares the register with the index.)
func TestHeldBy(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "store"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	commit := func(ops ...store.Op) {
		t.Helper()
		if _, err := s.Commit(t.Context(), &store.Batch{Ops: ops}); err != nil {
			t.Fatal(err)
		}
	}
	const anne = "adeli:7599A0015"
	want := func(member string, list ...string) {
		t.Helper()
		held, err := s.HeldBy(member)
		var got []string
		for _, h := range held {
			got = append(got, fmt.Sprint(h.BAL.Address, " ", h.Member.Role, " ", h.Member.Ended))
		}
		if err != nil || !slices.Equal(got, list) {
			t.Fatalf("%s holds %q, %v; want %q", member, got, err, list)
		}
	}
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		opt.Create = false
		s = storetest.Open(t, opt)
	}
	want(anne)
	var bals []store.BAL
	for _, a := range []store.Address{"b@bal.example", "a@bal.example", "c@bal.example"} {
		bals = append(bals, storetest.AddBAL(t, s, a, store.ORG))
	}
	commit(store.PutMember{Address: "b@bal.example", Member: store.Member{ID: strings.ToLower(anne), Role: store.Owner}},
		store.PutMember{Address: "c@bal.example", Member: store.Member{ID: "local:zoe", Role: store.Owner}})
	commit(store.PutMember{Address: "a@bal.example", Member: store.Member{ID: anne, Role: store.Reader}})
	want(anne, "a@bal.example reader false", "b@bal.example owner false")
	want("local:zoe", "c@bal.example owner false")
	// A batch that is undone leaves nothing.
	if _, err := s.Commit(t.Context(), &store.Batch{Ops: []store.Op{
		store.PutMember{Address: "c@bal.example", Member: store.Member{ID: anne, Role: store.Reader}},
		store.EndMember{Address: "c@bal.example", Member: "local:nobody"}}}); !errors.Is(err, store.ErrNoMember) {
		t.Fatal(err)
	}
	commit(store.PutMember{Address: "a@bal.example", Member: store.Member{ID: anne, Role: store.Writer}})
	want(anne, "a@bal.example writer false", "b@bal.example owner false")
	commit(store.EndMember{Address: "a@bal.example", Member: anne})
	want(anne, "a@bal.example writer true", "b@bal.example owner false")
	reopen()
	want(anne, "a@bal.example writer true", "b@bal.example owner false")
	want("local:zoe", "c@bal.example owner false")

	commit(store.SetBALState{Address: "a@bal.example", State: store.Closed})
	if _, err := s.DestroyBAL(t.Context(), "a@bal.example"); err != nil {
		t.Fatal(err)
	}
	want(anne, "b@bal.example owner false")
	reopen()
	want(anne, "b@bal.example owner false")

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	back := swapRecord(t, opt.Dir, "member", bals[0].ID, flipLast)
	damaged, err := store.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := damaged.HeldBy(anne); len(held) != 0 || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("beside a damaged BAL: %v, %v; want ErrUnavailable", held, err)
	}
	if held, err := damaged.HeldBy("local:zoe"); len(held) != 1 || err != nil {
		t.Errorf("of a BAL that is not damaged: %v, %v", held, err)
	}
	if err := damaged.Close(); err != nil {
		t.Fatal(err)
	}
	back()
	s = storetest.Open(t, opt)
	want(anne, "b@bal.example owner false")
}
