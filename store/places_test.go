package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// copied is a copy of the directory of a store in use: what a kill at this moment leaves.
func copied(t *testing.T, s *store.Store) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(dir, os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	return dir
}

func marks(t *testing.T, dir string) []string {
	t.Helper()
	m, err := filepath.Glob(filepath.Join(dir, "state", "bodies-*"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func bodies(t *testing.T, dir string) (names []string) {
	t.Helper()
	n, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range n {
		names = append(names, filepath.Base(p))
	}
	return names
}

// TestMarks kills the store between the rename of a body and the commit: the start finds the body in the marked
// directory and removes it, and looks into no other.
func TestMarks(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	if m := marks(t, s.Dir()); len(m) != 0 {
		t.Errorf("marks before the first body: %q", m)
	}
	id, _ := storetest.Deliver(t, s, b.ID, raw)
	var dir string
	s.SetCommit(func(tx *bolt.Tx) error {
		dir = copied(t, s) // renamed, not committed
		return tx.Commit()
	})
	second, _ := storetest.Deliver(t, s, b.ID, raw)
	if got := bodies(t, dir); !slices.Contains(got, second.String()) {
		t.Fatalf("the body is not in its place before the commit: %q", got)
	}
	// A directory of long ago, which nobody has touched since, holds a file that nothing speaks of.
	old := filepath.Join(dir, "blobs", "1", store.MessageID(1<<42).String())
	if err := errors.Join(os.MkdirAll(filepath.Dir(old), 0o700), os.WriteFile(old, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	after := storetest.Open(t, store.Options{Dir: dir})
	if got := bodies(t, dir); !slices.Equal(got, []string{filepath.Base(old), id.String()}) {
		t.Errorf("after the start: %q, want the one that was committed, %s", got, id)
	}
	if m := marks(t, dir); len(m) != 0 {
		t.Errorf("marks after the start: %q", m)
	}
	storetest.Deliver(t, after, b.ID, raw)
	if m := marks(t, dir); len(m) != 1 {
		t.Errorf("marks after a delivery: %q", m)
	}
	storetest.Check(t, after)
	if err := after.Close(); err != nil {
		t.Fatal(err)
	}
	if m := marks(t, dir); len(m) != 0 {
		t.Errorf("marks after a clean end: %q", m)
	}
	os.RemoveAll(filepath.Join(dir, "blobs", "1"))
}

// TestMarkFaults lets the making of a mark fail: nothing is acknowledged, and no body stands in a place without one.
func TestMarkFaults(t *testing.T) {
	for _, step := range []string{"create", "sync", "syncdir"} {
		t.Run(step, func(t *testing.T) {
			fault := &markFault{step: step}
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
			s, err := store.OpenWith(opt, func(f store.FileSystem) store.FileSystem { return markFS{f, fault} })
			if err != nil {
				t.Fatal(err)
			}
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			in := box(t, s, b.ID, "INBOX").Ref
			fault.armed = true
			if _, err := tryDeliver(s, in, "during"); err == nil {
				t.Fatal("the delivery went through")
			}
			fault.armed = false
			if got := bodies(t, s.Dir()); len(got) != 0 {
				t.Errorf("bodies without a mark: %q", got)
			}
			_, err = tryDeliver(s, in, "after")
			if step == "create" && err != nil || step != "create" && !errors.Is(err, store.ErrFailed) {
				t.Errorf("after a failed %s: %v", step, err)
			}
			s.Close()
			s = storetest.Open(t, opt)
			if _, err := tryDeliver(s, in, "again"); err != nil {
				t.Error(err)
			}
		})
	}
}

type markFault struct {
	step  string
	armed bool
}

func (f *markFault) hit(step string) bool { return f.armed && f.step == step }

// markFS fails what concerns marks.
type markFS struct {
	store.FileSystem
	f *markFault
}

func (x markFS) Create(p string) (store.File, error) {
	mark := strings.HasPrefix(filepath.Base(p), "bodies-")
	if mark && x.f.hit("create") {
		return nil, errInjected
	}
	f, err := x.FileSystem.Create(p)
	if mark && err == nil {
		return markFile{f, x.f}, nil
	}
	return f, err
}

func (x markFS) SyncDir(p string) error {
	if filepath.Base(p) == "state" && x.f.hit("syncdir") {
		return errInjected
	}
	return x.FileSystem.SyncDir(p)
}

type markFile struct {
	store.File
	f *markFault
}

func (x markFile) Sync() error {
	if x.f.hit("sync") {
		return errInjected
	}
	return x.File.Sync()
}

// TestSweepKilled kills the store at each step of taking a dead body away: no file is left that nothing speaks of, no
// record without its file.
func TestSweepKilled(t *testing.T) {
	var dirs []string
	var later atomic.Int64 // how far the clock is ahead
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, RetainExpunged: time.Hour,
		Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }}
	s, err := store.OpenWith(opt,
		func(f store.FileSystem) store.FileSystem { return &sweepFS{FileSystem: f, t: t, dirs: &dirs} })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	kept, _ := storetest.Deliver(t, s, b.ID, raw)
	_, uid := storetest.Deliver(t, s, b.ID, raw)
	in := box(t, s, b.ID, "INBOX").Ref
	do(t, s, store.StoreFlags{Ref: in, Runs: one(uid), Mode: store.Add, Flags: store.Deleted}, store.Expunge{Ref: in, Runs: one(uid)})
	s.SetCommit(func(tx *bolt.Tx) error {
		dirs = append(dirs, copied(t, s))
		err := tx.Commit()
		dirs = append(dirs, copied(t, s))
		return err
	})
	later.Store(int64(2 * time.Hour))
	if err := s.SweepNow(); err != nil {
		t.Fatal(err)
	}
	s.SetCommit(func(tx *bolt.Tx) error { return tx.Commit() })
	if len(dirs) < 5 { // two commits and the removal of the file
		t.Fatalf("%d moments", len(dirs))
	}
	for i, dir := range dirs {
		// A clean end in between: the next start finds no mark.
		for _, m := range marks(t, dir) {
			os.Remove(m)
		}
		later.Store(0) // so that it does not sweep by itself
		opt.Dir = dir
		after := storetest.Open(t, opt)
		later.Store(int64(2 * time.Hour))
		if err := after.SweepNow(); err != nil {
			t.Fatal(err)
		}
		if got := bodies(t, dir); !slices.Equal(got, []string{kept.String()}) {
			t.Errorf("killed at moment %d: bodies %q, want %s alone", i, got, kept)
		}
		for bucket, m := range after.Dump() {
			if bucket == "dead" && len(m) > 0 {
				t.Errorf("killed at moment %d: %d in the list of the dead", i, len(m))
			}
		}
	}
}

// sweepFS takes a copy when a body was removed.
type sweepFS struct {
	store.FileSystem
	t    *testing.T
	dirs *[]string
}

func (x *sweepFS) Remove(p string) error {
	err := x.FileSystem.Remove(p)
	if st, serr := os.Stat(filepath.Dir(filepath.Dir(p))); serr == nil && st.Name() == "blobs" && !errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Join(x.t.TempDir(), "killed")
		if err := os.CopyFS(dir, os.DirFS(filepath.Dir(filepath.Dir(filepath.Dir(p))))); err != nil {
			x.t.Error(err)
		}
		*x.dirs = append(*x.dirs, dir)
	}
	return err
}
