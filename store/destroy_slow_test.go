package store_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// TestDestroySlow: the disk hangs while it is decided that a BAL is destroyed, and nobody waits for the answer. When the
// disk answers, the key is overwritten at once, not with the next sweep of an hour later.
func TestDestroySlow(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, CommitWait: 100 * time.Millisecond})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	storetest.Deliver(t, s, b.ID, raw)
	b.State = store.Closed
	do(t, s, store.PutBAL{BAL: b})
	let := s.HoldNextCommit()
	defer let()
	if _, err := s.DestroyBAL(ctx, b.Address); !errors.Is(err, store.ErrSlow) {
		t.Fatalf("%v, want ErrSlow", err)
	}
	let()
	eventually(t, "the key is overwritten and nothing is left", func() bool {
		b, err := s.BAL(b.Address)
		return err == nil && b.Destroyed.KeyGone && b.Destroyed.Wiped
	})
}
