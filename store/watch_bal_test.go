package store_test

import (
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// TestWatchBAL: a change of who may open a BAL is told, once for each look; mail and mailboxes are not.
func TestWatchBAL(t *testing.T) {
	s := storetest.New(t)
	const addr = "pharmacie@exemple.test"
	bal := storetest.AddBAL(t, s, addr, store.ORG)
	commit := func(op store.Op) {
		t.Helper()
		if _, err := s.Commit(t.Context(), &store.Batch{Ops: []store.Op{op}}); err != nil {
			t.Fatal(err)
		}
	}
	told := func(w *store.Watcher) bool {
		select {
		case <-w.C:
			return true
		default:
			return false
		}
	}
	member := store.Member{ID: "local:anne", Role: store.Owner}
	w := s.WatchBAL(bal.ID)
	for _, c := range []struct {
		name string
		op   store.Op
		want bool
	}{
		{"new member", store.PutMember{Address: addr, Member: member}, true},
		{"the same member again", store.PutMember{Address: addr, Member: member}, false},
		{"a mailbox", store.CreateMailbox{BAL: bal.ID, Name: "Patients"}, false},
		{"a subscription", store.Subscribe{BAL: bal.ID, Name: "Patients", On: true}, false},
		{"a member ended", store.EndMember{Address: addr, Member: member.ID}, true},
		{"suspended", store.SetBALState{Address: addr, State: store.Suspended}, true},
		{"active again", store.SetBALState{Address: addr, State: store.Active}, true},
	} {
		commit(c.op)
		if got := told(w); got != c.want {
			t.Errorf("%s: told %v, want %v", c.name, got, c.want)
		}
	}
	w.Close()
	commit(store.SetBALState{Address: addr, State: store.Suspended})
	if told(w) {
		t.Error("a closed watcher was told")
	}
	if w := s.WatchBAL(bal.ID + 7); !told(w) {
		t.Error("the watcher of a BAL that does not exist was not told")
	}
}
