package store_test

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// openCounter counts the bodies that are opened.
type openCounter struct {
	store.FileSystem
	bodies *atomic.Int64
}

func (c openCounter) Open(p string) (store.File, error) {
	if strings.Contains(p, "blobs") {
		c.bodies.Add(1)
	}
	return c.FileSystem.Open(p)
}

// TestMetaWhole: after a clean end nobody looks for what meta.db lacks; after a kill, and where meta.db is another one,
// what it lacks is derived.
func TestMetaWhole(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s, err := store.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	first, _ := storetest.Deliver(t, s, b.ID, raw)
	s.CatchUp()
	var killed string
	s.SetCommit(func(tx *bolt.Tx) error {
		err := tx.Commit()
		killed = copied(t, s) // meta.db comes later
		return err
	})
	second, _ := storetest.Deliver(t, s, b.ID, raw)
	s.SetCommit(func(tx *bolt.Tx) error { return tx.Commit() })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What is missing here nobody can know: the mark says that nothing is.
	db, err := bolt.Open(filepath.Join(opt.Dir, "meta.db"), 0o600, nil)
	if err == nil {
		if err = db.Update(func(tx *bolt.Tx) error {
			k, _ := tx.Bucket([]byte("meta")).Cursor().First()
			return tx.Bucket([]byte("meta")).Delete(k)
		}); err == nil {
			err = db.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir string
		first     bool // whether it is there
		opened    int64
	}{{"clean end", opt.Dir, false, 0}, {"kill", killed, true, 1}} {
		t.Run(c.name, func(t *testing.T) {
			var n atomic.Int64
			s, err := store.OpenWith(store.Options{Dir: c.dir}, func(f store.FileSystem) store.FileSystem { return openCounter{f, &n} })
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.CatchUp()
			if s.InMeta(first) != c.first || !s.InMeta(second) {
				t.Errorf("meta.db has the first message: %v, the second: %v", s.InMeta(first), s.InMeta(second))
			}
			if c.opened == 0 && n.Load() > 0 || n.Load() < c.opened {
				t.Errorf("%d bodies read, want %d", n.Load(), c.opened)
			}
			if _, err := s.Meta(ctx, first); err != nil { // derived when it is asked for
				t.Error(err)
			}
		})
	}
}
