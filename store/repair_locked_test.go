package store_test

import (
	"errors"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// TestRepairKeepsLockedBodies repairs an index that lost the records of the keys of a message while the key of its BAL
// does not open: the body is not taken for a dead one. When the key is brought back the message is there again.
func TestRepairKeepsLockedBodies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := storetest.Open(t, store.Options{Dir: dir, Create: true})
	a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	storetest.Deliver(t, s, storetest.AddBAL(t, s, "b@bal.example", store.ORG).ID, raw)
	deliverTo(t, s, letterTo(3), a)
	s.Close()
	back := spoilSlot(t, dir, a.ID)
	db, err := bolt.Open(filepath.Join(dir, "index.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("prefix"))
		k, _ := b.Cursor().First() // that of the first BAL
		return b.Delete(append([]byte(nil), k...))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := store.Repair(ctx, store.RepairOptions{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if s, err = store.Open(store.Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		for range 3 { // a dead body goes in two steps
			sweep(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	back()
	if _, err := store.Repair(ctx, store.RepairOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, store.Options{Dir: dir})
	if got := inboxOf(t, s, a.ID); len(got) != 1 || got[0] != letterTo(3) {
		t.Errorf("%q, want the message", got)
	}
}
