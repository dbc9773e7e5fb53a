package store_test

import (
	"path/filepath"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// ruledOut says of which messages the sieves say that they do not hold the needle.
func ruledOut(t *testing.T, s *store.Store, ids []store.MessageID, needle string) (out []bool) {
	t.Helper()
	sieves, err := s.Sieves(ctx, ids)
	if err != nil || len(sieves) != len(ids) {
		t.Fatalf("%d sieves, %v", len(sieves), err)
	}
	for _, v := range sieves {
		out = append(out, !v.MayHold([]byte(needle)))
	}
	return out
}

// Sieves rule messages out while they wait to be written, from the file, from memory, and never one that is not known.
func TestSieves(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	with, _ := storetest.Deliver(t, s, b.ID, "Subject: x\r\n\r\nordonnance\r\n")
	without, _ := storetest.Deliver(t, s, b.ID, "Subject: x\r\n\r\nautre\r\n")
	ids := []store.MessageID{with, without, 1 << 60}
	check := func(when string) {
		t.Helper()
		for range 2 {
			if out := ruledOut(t, s, ids, "ordonnance"); out[0] || !out[1] || out[2] {
				t.Errorf("%s: %v", when, out)
			}
		}
	}
	check("waiting")
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	check("from the file")
}

// Of a destroyed BAL no sieve is left, neither in memory nor to be opened; what was being read meanwhile is not kept either.
func TestSievesOfDestroyed(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	id, _ := storetest.Deliver(t, s, b.ID, "Subject: x\r\n\r\nautre\r\n")
	ids := []store.MessageID{id}
	if out := ruledOut(t, s, ids, "ordonnance"); !out[0] {
		t.Fatal("no sieve")
	}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.SetBALState{Address: "a@bal.example", State: store.Closed}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DestroyBAL(ctx, "a@bal.example"); err != nil {
		t.Fatal(err)
	}
	if out := ruledOut(t, s, ids, "ordonnance"); out[0] {
		t.Error("the sieve of a destroyed BAL is still there")
	}
	if store.KeptAfterClear() {
		t.Error("what was read before all was forgotten is kept")
	}
}

// A meta.db of before sieves gets them at the first start.
func TestSievesOfBefore(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	var ids []store.MessageID
	for range 20 {
		id, _ := storetest.Deliver(t, s, b.ID, "Subject: x\r\n\r\nautre\r\n")
		ids = append(ids, id)
	}
	s.Close()
	store.DropSieves(t, opt.Dir)
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	s.CatchUp()
	if out := ruledOut(t, s, ids, "ordonnance"); !out[0] || !out[19] {
		t.Errorf("%v", out)
	}
}
