package store_test

import (
	"path/filepath"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// TestRecentCount: what one session was told of is recent for no other, also after the next start; counted with the UIDs in memory
// and without.
func TestRecentCount(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	deliver := func(n int) {
		t.Helper()
		for range n {
			storetest.Deliver(t, s, b.ID, raw)
		}
	}
	check := func(when string, want uint32) {
		t.Helper()
		if n, err := s.RecentCount(in); err != nil || n != want {
			t.Errorf("%s: %d recent, %v; want %d", when, n, err, want)
		}
	}
	snapshot := func(claim bool) store.Snapshot {
		t.Helper()
		snap, err := s.Snapshot(in, claim)
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	restart := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = storetest.Open(t, store.Options{Dir: opt.Dir})
	}
	check("an empty mailbox", 0)
	deliver(3)
	check("nobody has opened it", 3)
	snapshot(false)
	check("only read", 3)
	if snap := snapshot(true); snap.Recent != 1 {
		t.Errorf("the first session: from UID %d, want 1", snap.Recent)
	}
	check("opened", 0)
	deliver(4)
	check("new ones", 4)
	if err := s.Expunge(ctx, store.Expunge{Ref: in, Runs: []store.Run{{First: 2, Count: 4}}, All: true}); err != nil {
		t.Fatal(err)
	}
	check("two of them and two others are gone", 2)
	restart()
	check("after the next start", 2)
	snapshot(false)
	check("the same, with the UIDs in memory", 2)
	if snap := snapshot(true); snap.Recent != 4 {
		t.Errorf("the next session: from UID %d, want 4", snap.Recent)
	}
	check("opened again", 0)
	restart()
	check("after the next start but one", 0)
	if _, err := s.RecentCount(store.Ref{BAL: b.ID, Mailbox: 999}); err == nil {
		t.Error("a mailbox that is not there has recent messages")
	}
}
