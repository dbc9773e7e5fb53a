package backup_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
)

// A store that was restored does not give an address that may have been somebody's after the backup, unless it is vouched for, or all of
// them are; it names those that the keys of the lost store tell.
func TestAddressesAfterRestore(t *testing.T) {
	w := newWorld(t)
	w.backup(backup.Options{})
	const made store.Address = "since@test.mssante.fr"
	add := func(s *store.Store, a store.Address, vouched bool) error {
		_, err := s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.PutBAL{Create: true, AfterRestore: vouched,
			BAL: store.BAL{Address: a, Kind: store.ORG, State: store.Active, Listing: store.Published}}}})
		return err
	}
	settle := func(s *store.Store) {
		t.Helper()
		_, err := s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.AddressesSettled{}}})
		must(t, err)
	}
	settle(w.s) // does nothing to a store that was not restored
	must(t, add(w.s, made, false))
	for _, lost := range []string{w.path("store"), ""} {
		to := filepath.Join(t.TempDir(), "restored")
		must(t, w.s.Close())
		r, err := w.restore(backup.RestoreOptions{To: to, LostFrom: lost})
		must(t, err)
		w.open()
		var want []store.Address
		if lost != "" {
			want = []store.Address{made}
		}
		if !slices.Equal(r.Made, want) {
			t.Errorf("made since: %v, want %v", r.Made, want)
		}
		opt := store.Options{Dir: to, MasterKey: w.key}
		s := storetest.Open(t, opt)
		for _, a := range []store.Address{made, "other@test.mssante.fr"} {
			if err := add(s, a, false); !errors.Is(err, store.ErrRestored) {
				t.Errorf("%s is given after the restore: %v", a, err)
			}
		}
		if err := add(s, w.bals[0].Address, true); !errors.Is(err, store.ErrBALExists) {
			t.Errorf("an address that is there: %v", err)
		}
		must(t, add(s, made, true))
		if err := add(s, "other@test.mssante.fr", false); !errors.Is(err, store.ErrRestored) {
			t.Errorf("vouched for one, and another is given: %v", err)
		}
		settle(s)
		must(t, s.Close())
		s = storetest.Open(t, opt)
		must(t, add(s, "other@test.mssante.fr", false))
		mark, ok, err := s.Restored()
		if err != nil || !ok || mark.Settled.IsZero() || mark.Settling() || mark.Backup.String() != r.Manifest.ID {
			t.Errorf("mark %+v, %v, %v", mark, ok, err)
		}
	}
}
