package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// spoilFile does to a file that is in use what bad media and accidents do.
var spoilFile = map[string]func(path string) error{
	"cut to nothing":      func(p string) error { return os.Truncate(p, 0) },
	"cut behind its head": func(p string) error { return os.Truncate(p, 2*4096) },
	"cut in the middle":   func(p string) error { return os.Truncate(p, 8*4096) },
	"zeros":               func(p string) error { return overwrite(p, 0) },
	"ones":                func(p string) error { return overwrite(p, 0xff) },
}

// overwrite fills all pages but the two of the head.
func overwrite(path string, octet byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{octet}, int(st.Size())-2*4096), 2*4096)
	return err
}

// within fails the test when fn takes longer than a slow machine needs: something hangs.
func within(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// TestIndexSpoiltInUse damages index.db under an open store that many read and write: each gets an error, the store has
// failed and says what to do, the process lives, Close comes back, and with the file of before nothing is lost.
func TestIndexSpoiltInUse(t *testing.T) {
	for name, spoil := range spoilFile {
		t.Run(name, func(t *testing.T) {
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
			s, err := store.Open(opt)
			if err != nil {
				t.Fatal(err)
			}
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			in := box(t, s, b.ID, "INBOX")
			for i := range 60 { // so that the index has more than a few pages
				storetest.AddBAL(t, s, store.Address(fmt.Sprintf("b%d@bal.example", i)), store.ORG)
			}
			id, _ := storetest.Deliver(t, s, b.ID, raw)
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(opt.Dir, "index.db")
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 20 {
						if c, err := s.OpenMessage(b.ID, id); err == nil {
							c.Close()
						}
						_, _ = s.Snapshot(in.Ref, false)
						_ = s.Rows(ctx, in.Ref, one(1), func(store.Row) bool { return true })
					}
				})
				wg.Go(func() { _, _ = tryDeliver(s, in.Ref, raw) })
			}
			within(t, "reading and writing", wg.Wait)
			_, err = s.OpenMessage(b.ID, id)
			_, werr := tryDeliver(s, in.Ref, raw)
			problems, cerr := s.Check(ctx)
			for what, err := range map[string]error{"reading": err, "writing": werr, "Check": cerr, "Err": s.Err()} {
				if !errors.Is(err, store.ErrFailed) || !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "fsck --repair") {
					t.Errorf("%s: %v (%v); want ErrFailed and ErrCorrupt with what to do", what, err, problems)
				}
			}
			select {
			case <-s.Failed():
			default:
				t.Error("Failed is not closed")
			}
			within(t, "Close", func() { _ = s.Close() })

			// The lock of a store that fell in its own head goes with the process only: look at a copy.
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			s = storetest.Open(t, store.Options{Dir: opt.Dir})
			if got := read(t, s, b.ID, id); !strings.HasSuffix(got, raw) {
				t.Errorf("reads %q", got)
			}
		})
	}
}

// TestIndexTakenAway removes or replaces index.db under an open store: what would be written now would be gone at the
// next start, so nothing is acknowledged any more.
func TestIndexTakenAway(t *testing.T) {
	for name, take := range map[string]func(p string) error{
		"removed": os.Remove,
		"replaced": func(p string) error {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if err := os.WriteFile(p+".x", b, 0o600); err != nil {
				return err
			}
			return os.Rename(p+".x", p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
			s, err := store.Open(opt)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			in := box(t, s, b.ID, "INBOX")
			if err := take(filepath.Join(opt.Dir, "index.db")); err != nil {
				t.Fatal(err)
			}
			if _, err := tryDeliver(s, in.Ref, raw); !errors.Is(err, store.ErrFailed) {
				t.Errorf("a delivery was answered %v, want ErrFailed", err)
			}
		})
	}
}

// TestMetaSpoiltInUse damages or removes meta.db under an open store that many use: structure and words come from the
// bodies, mail goes on, and the next start has a sound file.
func TestMetaSpoiltInUse(t *testing.T) {
	ways := map[string]func(string) error{"removed": os.Remove}
	for n, f := range spoilFile {
		ways[n] = f
	}
	for name, spoil := range ways {
		t.Run(name, func(t *testing.T) {
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
			s := storetest.Open(t, opt)
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			var ids []store.MessageID
			for range 10 {
				id, _ := storetest.Deliver(t, s, b.ID, raw)
				ids = append(ids, id)
			}
			s.Close() // meta.db is written
			s = storetest.Open(t, store.Options{Dir: opt.Dir})
			path := filepath.Join(opt.Dir, "meta.db")
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			faults := make(chan error, 1000)
			for range 8 {
				wg.Go(func() {
					for _, id := range ids {
						m, err := s.Meta(ctx, id)
						if err == nil && strings.Trim(m.MessageID, "<>") != "m1@labo.example" {
							err = fmt.Errorf("structure of another message: %q", m.MessageID)
						}
						if err != nil {
							faults <- err
						}
						if txt, err := s.Text(ctx, id); err != nil {
							faults <- err
						} else if found, _ := txt.Contains([]byte("bonjour")); !found {
							faults <- errors.New("no words")
						}
					}
				})
			}
			within(t, "reading", wg.Wait)
			close(faults)
			for err := range faults {
				t.Error(err)
			}
			id, _ := storetest.Deliver(t, s, b.ID, raw)
			ids = append(ids, id)
			if s.Err() != nil {
				t.Errorf("the store failed: %v", s.Err())
			}
			within(t, "Close", func() { storetest.Check(t, s); s.Close() })
			s = storetest.Open(t, store.Options{Dir: opt.Dir})
			for _, id := range ids {
				if _, err := s.Meta(ctx, id); err != nil {
					t.Error(err)
				}
			}
			s.Close()
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			_ = db.View(func(tx *bolt.Tx) error {
				for err := range tx.Check() {
					t.Errorf("meta.db after the next start: %v", err)
				}
				if n := tx.Bucket([]byte("meta")).Stats().KeyN; n != 11 {
					t.Errorf("meta.db has %d of 11 messages again", n)
				}
				return nil
			})
		})
	}
}

// A fault of our own code is not taken for damage.
func TestOwnPanicIsNoDamage(t *testing.T) {
	s := storetest.New(t)
	for name, fn := range map[string]func(){
		"panic":          func() { panic("ours") },
		"index of slice": func() { var b []byte; _ = b[len(name3)] },
		"nil":            func() { var p *store.Store; _ = p.Err() },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was swallowed", name)
				}
			}()
			_ = s.View(func(*bolt.Tx) error { fn(); return nil })
		}()
	}
	if s.Err() != nil {
		t.Errorf("the store failed: %v", s.Err())
	}
}

const name3 = "abc"

// BenchmarkGuard is what a reading transaction costs with and without its guard.
func BenchmarkGuard(b *testing.B) {
	s := storetest.New(b)
	nothing := func(*bolt.Tx) error { return nil }
	b.Run("guarded", func(b *testing.B) {
		for b.Loop() {
			_ = s.View(nothing)
		}
	})
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			_ = s.Index().View(nothing)
		}
	})
}
