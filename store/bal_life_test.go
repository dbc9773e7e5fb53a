package store_test

import (
	"errors"
	"path/filepath"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// The kind of a BAL never changes, and its address is never given again: not while it is closed, not after it was
// destroyed, not by another start.
func TestKindAndAddressAreForEver(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	const addr = "pharmacie@bal.example"
	bal := storetest.AddBAL(t, s, addr, store.ORG)
	put := func(s *store.Store, kind store.Kind, create bool) error {
		_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutBAL{Create: create,
			BAL: store.BAL{Address: addr, Kind: kind, State: store.Active, Listing: store.Published}}}})
		return err
	}
	if err := put(s, store.PER, false); !errors.Is(err, store.ErrBALFixed) {
		t.Errorf("another kind: %v", err)
	}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.SetBALState{Address: addr, State: store.Closed}}}); err != nil {
		t.Fatal(err)
	}
	if err := put(s, store.ORG, true); !errors.Is(err, store.ErrBALExists) {
		t.Errorf("the address of a closed BAL: %v", err)
	}
	if _, err := s.DestroyBAL(ctx, addr); err != nil {
		t.Fatal(err)
	}
	if err := s.FinishDestroying(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, create := range []bool{true, false} {
			if err := put(s, store.ORG, create); err == nil {
				t.Errorf("the address of a destroyed BAL is given again (create %t)", create)
			}
		}
		if b, err := s.BAL(addr); err != nil || b.ID != bal.ID || b.Kind != store.ORG || b.State != store.Destroyed {
			t.Errorf("%+v, %v", b, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		opt.Create = false
		s = storetest.Open(t, opt)
	}
}
