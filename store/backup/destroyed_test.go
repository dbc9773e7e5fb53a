package backup_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
)

// A destroyed BAL: each older generation is named that still opens it, the newer ones do not, a restore of an older one
// says that it is there again, and only when the older ones are gone is it called shredded.
func TestDestroyedBAL(t *testing.T) {
	w := newWorld(t)
	w.deliver(4)
	first := w.backup(backup.Options{})
	gone := w.bals[0]
	var ahead atomic.Int64 // of the clock, seconds: moments are told in seconds
	ahead.Store(2)
	must(t, w.s.Close())
	w.s = storetest.Open(t, store.Options{Dir: w.path("store"), MasterKey: w.key, RetainExpunged: -1, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) }})
	_, err := w.s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: gone.Address, State: store.Closed}}})
	must(t, err)
	d, err := w.s.DestroyBAL(context.Background(), gone.Address)
	must(t, err)
	if d.Shredded() || len(d.Backups) != 1 || d.Backups[0].ID.String() != first.Moment.ID {
		t.Errorf("destroyed: %+v, want one backup named", d)
	}
	ahead.Add(2)
	second := w.backup(backup.Options{})
	if len(second.Opens) != 1 || second.Opens[0].Generation != first.Generation || !slices.Equal(second.Opens[0].BALs, []store.Address{gone.Address}) ||
		second.DamagedAll+second.Locked > 0 {
		t.Errorf("second run: %+v", second)
	}
	r, err := w.restore(backup.RestoreOptions{Generation: first.Generation})
	if err != nil || !r.Sound() || !slices.Equal(r.Destroyed, []store.Address{gone.Address}) {
		t.Errorf("restore of the first: %+v %v", r, err)
	}
	if r, err = w.restore(backup.RestoreOptions{}); err != nil || !r.Sound() || len(r.Destroyed) > 0 {
		t.Errorf("restore of the second: %+v %v", r, err)
	}
	dir, err := backup.Open(w.path("backup"), backup.Write)
	must(t, err)
	defer dir.Close()
	p, err := backup.Prune(context.Background(), dir, 1, nil)
	must(t, err)
	for _, id := range p.IDs {
		must(t, backup.Local{Store: w.s}.Forget(context.Background(), id))
	}
	if d, err := w.s.Doom(gone.Address); err != nil || !d.Shredded() {
		t.Errorf("after the older backup is gone: %+v %v, want shredded", d, err)
	}
}

// TestClockAheadAtBackup: a backup is made while the clock is days ahead, then it is set right and a BAL destroyed. The
// backup has its key, and nobody is told that it is shredded.
func TestClockAheadAtBackup(t *testing.T) {
	w := newWorld(t)
	w.deliver(4)
	must(t, w.s.Close())
	var ahead atomic.Int64
	ahead.Store(int64(10 * 24 * time.Hour))
	w.s = storetest.Open(t, store.Options{Dir: w.path("store"), MasterKey: w.key, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	first := w.backup(backup.Options{})
	ahead.Store(0)
	gone := w.bals[0]
	_, err := w.s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: gone.Address, State: store.Closed}}})
	must(t, err)
	d, err := w.s.DestroyBAL(context.Background(), gone.Address)
	must(t, err)
	if d.Shredded() || len(d.Backups) != 1 || d.Backups[0].ID.String() != first.Moment.ID {
		t.Errorf("destroyed after the clock was set right: %+v, want the backup named", d)
	}
	ahead.Store(-int64(10 * 24 * time.Hour)) // a clock behind makes no later backup one that has the key
	second := w.backup(backup.Options{})
	if d, err = w.s.Doom(gone.Address); err != nil || len(d.Backups) != 1 || d.Backups[0].ID.String() == second.Moment.ID {
		t.Errorf("after a backup without the key: %+v %v, want only the first named", d, err)
	}
}

// TestLostHistory: what a store committed after the backup it was restored from is lost; the numbers of those commits are
// not given again, so a copy that followed it and the backups of it are not taken for those of the restored store.
func TestLostHistory(t *testing.T) {
	w := newWorld(t)
	w.deliver(4)
	first := w.backup(backup.Options{})
	w.deliver(5)
	second := w.backup(backup.Options{})
	lost := w.s.Commits()
	to := filepath.Join(t.TempDir(), "restored")
	_, err := w.restore(backup.RestoreOptions{Generation: first.Generation, To: to})
	must(t, err)
	s := storetest.Open(t, store.Options{Dir: to, MasterKey: w.key})
	if s.Commits() <= lost+1<<20 {
		t.Errorf("the restored store goes on at commit %d, the lost one was at %d", s.Commits(), lost)
	}
	if _, err := s.Follow(lost); !errors.Is(err, store.ErrBehind) {
		t.Errorf("a copy of the lost store follows the restored one: %v, want ErrBehind", err)
	}
	gone := w.bals[0].Address
	_, err = s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: gone, State: store.Closed}}})
	must(t, err)
	d, err := s.DestroyBAL(context.Background(), gone)
	must(t, err)
	// Both generations, and those in other folders that nobody knows of.
	has := func(id string) bool {
		return slices.ContainsFunc(d.Backups, func(b store.Backup) bool { return b.ID.String() == id })
	}
	if d.Shredded() || len(d.Backups) != 3 || !has(first.Moment.ID) || !has(second.Moment.ID) {
		t.Errorf("destroyed in the restored store: %+v, want both generations named", d.Backups)
	}
	must(t, s.Close())
	again := filepath.Join(t.TempDir(), "restored")
	_, err = w.restore(backup.RestoreOptions{Generation: first.Generation, To: again, Now: func() time.Time { return time.Now().Add(time.Minute) }})
	must(t, err)
	if s2 := storetest.Open(t, store.Options{Dir: again, MasterKey: w.key}); s2.Commits() < s.Commits() {
		t.Errorf("restored once more it goes on at commit %d, the first time at %d", s2.Commits(), s.Commits())
	}
}
