package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// What is registered of backups outlives a start, a destroyed one is named for a year, and nonsense is refused.
func TestBackupsAreRegistered(t *testing.T) {
	now := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	var clock atomic.Pointer[time.Time] // the store looks at it by itself, too
	set := func(t time.Time) { now = t; clock.Store(&t) }
	set(now)
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "store"), Create: true, Now: func() time.Time { return *clock.Load() }}
	s := storetest.Open(t, opt)
	commit := func(ops ...store.Op) error {
		_, err := s.Commit(context.Background(), &store.Batch{Ops: ops})
		return err
	}
	one := store.Backup{ID: s.NewID(), Label: "/mnt/backup", Began: now, Commits: 7, Events: 9, HighestBAL: 3}
	two := store.Backup{ID: s.NewID(), Label: "/mnt/backup", Began: now, Done: now.Add(time.Minute), Commits: 8, HighestBAL: 4}
	for _, bad := range []store.Backup{{}, {ID: 1, Label: "x"}, {ID: 1, Began: now}} {
		if err := commit(store.PutBackup{Backup: bad}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("PutBackup(%+v): %v, want ErrInvalid", bad, err)
		}
	}
	if err := commit(store.PutBackup{Backup: one}, store.PutBackup{Backup: two}); err != nil {
		t.Fatal(err)
	}
	if err := commit(store.ForgetBackup{ID: trace.ID(99)}); !errors.Is(err, store.ErrNoBackup) {
		t.Errorf("forgetting an unknown backup: %v, want ErrNoBackup", err)
	}
	if err := commit(store.ForgetBackup{ID: one.ID}); err != nil {
		t.Fatal(err)
	}
	storetest.Check(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	set(now.Add(24 * time.Hour))
	s = storetest.Open(t, opt)
	one.Forgotten = now.Add(-24 * time.Hour)
	got, err := s.Backups()
	if err != nil || len(got) != 2 || got[0] != one || got[1] != two {
		t.Fatalf("after a start: %+v %v, want %+v and %+v", got, err, one, two)
	}
	set(now.Add(401 * 24 * time.Hour))
	two.Done = now
	if err := commit(store.PutBackup{Backup: two}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Backups(); err != nil || len(got) != 1 || got[0] != two {
		t.Errorf("a year later: %+v %v, want only %+v", got, err, two)
	}
}

// TestHolds: numbers of commits decide who has a key, whatever the clock said; of records without a number only the careful
// answer is right.
func TestHolds(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	b := store.Backup{ID: 7, Label: "x", Began: at, Commits: 100, HighestBAL: 4}
	forgotten := b
	forgotten.Forgotten = at
	gone := func(after time.Duration, commit uint64) store.Destruction {
		return store.Destruction{At: at.Add(after), KeyGone: true, Commit: commit}
	}
	for _, c := range []struct {
		name  string
		b     store.Backup
		id    store.BALID
		d     store.Destruction
		holds bool
	}{
		{"a BAL in use", b, 4, store.Destruction{}, true},
		{"a BAL made later", b, 5, store.Destruction{}, false},
		{"a backup that is destroyed", forgotten, 4, store.Destruction{}, false},
		{"decided, the key is there still", b, 4, store.Destruction{At: at.Add(-10 * day)}, true},
		{"destroyed by a later commit", b, 4, gone(day, 101), true},
		{"destroyed by a later commit, the clock ran ahead at the backup", b, 4, gone(-10*day, 101), true},
		{"destroyed before", b, 4, gone(-day, 100), false},
		{"destroyed before, the clock ran ahead then", b, 4, gone(10*day, 99), false},
		{"an old record, destroyed later", b, 4, gone(day, 0), true},
		{"an old record, destroyed shortly before", b, 4, gone(-day, 0), true},
		{"an old record, destroyed long before", b, 4, gone(-3*day, 0), false},
	} {
		if got := c.b.Holds(store.BAL{ID: c.id, Destroyed: c.d}); got != c.holds {
			t.Errorf("%s: Holds %v, want %v", c.name, got, c.holds)
		}
	}
}

// TestLostCounters: the record with the number of commits is lost. After a repair the numbers are above those that any
// backup of before can have, so a BAL that is destroyed then is not called shredded while such a backup is there.
func TestLostCounters(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	bal := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	// A store that was restored before has numbers as great as the clock allows.
	before := uint64(time.Now().Unix()) << 20
	do(t, s, store.PutBackup{Backup: store.Backup{ID: s.NewID(), Label: "/mnt/backup", Began: time.Now(), Done: time.Now(), Commits: before, HighestBAL: bal.ID}},
		store.SetBALState{Address: bal.Address, State: store.Closed})
	s.Close()
	db, err := bolt.Open(filepath.Join(opt.Dir, "index.db"), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("sys")).Delete([]byte("sys")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Repair(context.Background(), store.RepairOptions{Dir: opt.Dir, Now: func() time.Time { return time.Now().Add(time.Minute) }}); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	if d, err := s.DestroyBAL(context.Background(), bal.Address); err != nil || d.Shredded() || len(d.Backups) != 1 {
		t.Errorf("%+v, %v; want the backup named", d, err)
	}
}
