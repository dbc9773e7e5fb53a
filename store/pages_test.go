package store_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// TestFreeList damages the list of free pages in each way that could make bbolt write over pages in use: the start is
// refused with the name of the file.
func TestFreeList(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	for range 20 {
		storetest.Deliver(t, s, b.ID, raw)
	}
	s.Close()
	path := filepath.Join(opt.Dir, "index.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list, ok := store.FreeListAt(path)
	if !ok {
		t.Fatal("no list of free pages after a clean end")
	}
	le := binary.LittleEndian
	if n := le.Uint16(good[list+10:]); n < 3 {
		t.Fatalf("%d free pages", n)
	}
	for name, spoil := range map[string]func([]byte){
		"another kind of page": func(b []byte) { b[list+8] = 2 },
		"another number":       func(b []byte) { b[list]++ },
		"a page in the head":   func(b []byte) { le.PutUint64(b[list+16:], 1) },
		"twice the same":       func(b []byte) { copy(b[list+16:], b[list+24:list+32]) },
		"behind the end":       func(b []byte) { le.PutUint64(b[list+16+8*(int64(le.Uint16(b[list+10:]))-1):], 1<<40) },
		"more than there are":  func(b []byte) { le.PutUint16(b[list+10:], 0xfff0) },
	} {
		t.Run(name, func(t *testing.T) {
			bad := slices.Clone(good)
			spoil(bad)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(store.Options{Dir: opt.Dir})
			if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "index.db") || !strings.Contains(err.Error(), "fsck") {
				t.Errorf("%v, want ErrCorrupt with the name and the ways out", err)
			}
			if err == nil {
				s.Close()
			}
		})
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	storetest.Open(t, opt)
}

// TestFreeListLeftOut makes the list longer than what each commit writes down: it stands in the file after a clean end,
// not after a kill, and both start.
func TestFreeListLeftOut(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s, err := store.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	s.SetMaxFree(0)
	var killed string
	for i := range 10 {
		if i == 9 {
			s.SetCommit(func(tx *bolt.Tx) error {
				err := tx.Commit()
				killed = copied(t, s)
				return err
			})
		}
		storetest.Deliver(t, s, b.ID, raw)
	}
	s.SetCommit(func(tx *bolt.Tx) error { return tx.Commit() })
	storetest.Check(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := store.FreeListAt(filepath.Join(opt.Dir, "index.db")); !ok {
		t.Error("no list of free pages after a clean end")
	}
	if _, ok := store.FreeListAt(filepath.Join(killed, "index.db")); ok {
		t.Error("a list of free pages though it is too long")
	}
	for _, dir := range []string{opt.Dir, killed} {
		s := storetest.Open(t, store.Options{Dir: dir})
		storetest.Deliver(t, s, b.ID, raw)
		if got := box(t, s, b.ID, "INBOX").Messages; got != 11 {
			t.Errorf("%d messages, want 11", got)
		}
	}
}
