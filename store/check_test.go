package store_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// TestCheckFinds damages a store in one place at a time: Check must name the invariant.
func TestCheckFinds(t *testing.T) {
	var s *store.Store // of the case that runs
	first := func(b *bolt.Bucket) ([]byte, []byte) { return b.Cursor().First() }
	change := func(bucket string, f func(v []byte) []byte) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error {
			k, v := first(tx.Bucket([]byte(bucket)))
			return tx.Bucket([]byte(bucket)).Put(k, f(append([]byte(nil), v...)))
		}
	}
	remove := func(bucket string) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error {
			k, _ := first(tx.Bucket([]byte(bucket)))
			return tx.Bucket([]byte(bucket)).Delete(k)
		}
	}
	cases := []struct {
		name   string
		damage func(*bolt.Tx) error
		want   int
	}{
		{"row of another length", change("row", func(v []byte) []byte { return v[:30] }), 1},
		{"event that cannot be read", change("trace", func(v []byte) []byte { return v[:1] }), 1},
		{"UID above UIDNEXT", func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("row"))
			k, v := first(b)
			k = append([]byte(nil), k...)
			binary.BigEndian.PutUint32(k[8:], 5000)
			return b.Put(k, v)
		}, 2},
		{"MODSEQ above the highest", change("row", func(v []byte) []byte { v[9] = 1; return v }), 3},
		{"tombstone of a living message", change("gone", func(v []byte) []byte { return []byte{2, 1} }), 3},
		{"row gone", remove("row"), 4},
		{"prefix counts too many", change("prefix", func(v []byte) []byte { v[0]++; return v }), 6},
		{"prefix gone", remove("prefix"), 6},
		{"expunged record gone", remove("expunged"), 6},
		{"expunged record cut short", change("expunged", func(v []byte) []byte { return v[:37] }), 1},
		{"expunged name altered", change("expunged", func(v []byte) []byte { v[len(v)-1] ^= 1; return v }), 14},
		{"expunged size", change("expunged", func(v []byte) []byte { v[37]++; return v }), 14},
		{"expunged keyword set", change("expunged", func(v []byte) []byte { v[13] = 99; return v }), 14},
		{"expunged and still there", func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("expunged"))
			k, v := first(b)
			k = append([]byte(nil), k...)
			k[19] = 2
			return b.Put(k, append([]byte(nil), v...))
		}, 14},
		{"expunged of a UID to come", func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("expunged"))
			k, v := first(b)
			k = append([]byte(nil), k...)
			k[18] = 2
			return b.Put(k, append([]byte(nil), v...))
		}, 14},
		{"expunged of no BAL", func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("expunged"))
			k, v := first(b)
			k = append([]byte(nil), k...)
			k[3] = 99
			return b.Put(k, append([]byte(nil), v...))
		}, 14},
		{"body counts too many", change("blob", func(v []byte) []byte { v[1]++; return v }), 7},
		{"size of a row", change("row", func(v []byte) []byte { v[37]++; return v }), 8},
		{"keyword set gone", change("row", func(v []byte) []byte { v[21] = 99; return v }), 9},
		{"BAL counts too many", change("bal", func(v []byte) []byte { v[len(v)-48] += 2; return v }), 5},
		{"two mailboxes of one name", func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("mailbox"))
			c := b.Cursor()
			c.First()
			k, v := c.Next()
			k = append([]byte(nil), k...)
			return b.Put(k, s.NamedBox(k, v, "INBOX"))
		}, 10},
		{"a row of no mailbox", func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("row"))
			k, v := first(b)
			k = append([]byte(nil), k...)
			k[7] = 99
			return b.Put(k, append([]byte(nil), v...))
		}, 10},
		{"a delivery twice among the unconfirmed", func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("once"))
			k, v := first(b)
			k = append([]byte(nil), k...)
			k[7]++
			return b.Put(k, append([]byte(nil), v...))
		}, 11},
		{"event gone", func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("trace"))
			c := b.Cursor()
			c.First()
			k, _ := c.Next()
			return b.Delete(k)
		}, 12},
		{"another address", change("bal", func(v []byte) []byte { v[1] = 'z'; return v }), 15},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
			s = storetest.Open(t, opt)
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			in := box(t, s, b.ID, "INBOX")
			storetest.Deliver(t, s, b.ID, raw)
			storetest.Deliver(t, s, b.ID, raw)
			do(t, s, store.StoreFlags{Ref: in.Ref, Runs: one(1), Mode: store.Add, Flags: store.Deleted}, store.Expunge{Ref: in.Ref, Runs: one(1)})
			if _, err := s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(t, s, raw), Once: &store.Once{Key: [32]byte{1}}, Ops: []store.Op{store.AddMessage{Ref: in.Ref}}}); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				s.Record(trace.Event{Kind: trace.Login})
			}
			s.Close()
			db, err := bolt.Open(filepath.Join(opt.Dir, "index.db"), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Update(c.damage); err != nil {
				t.Fatal(err)
			}
			db.Close()
			wantProblem(t, opt, c.want)
		})
	}
	t.Run("body gone", func(t *testing.T) {
		opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
		s := storetest.Open(t, opt)
		storetest.Deliver(t, s, storetest.AddBAL(t, s, "a@bal.example", store.ORG).ID, raw)
		s.Close()
		files, _ := filepath.Glob(filepath.Join(opt.Dir, "blobs", "*", "*"))
		os.Truncate(files[0], 5)
		wantProblem(t, opt, 8)
	})
}

// TestCheckComparesMemory changes the index behind the back of the memory.
func TestCheckComparesMemory(t *testing.T) {
	for _, bucket := range []string{"mailbox", "sub", "keywords"} {
		t.Run(bucket, func(t *testing.T) {
			s, err := store.Open(store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			storetest.Deliver(t, s, b.ID, raw)
			do(t, s, store.StoreFlags{Ref: box(t, s, b.ID, "INBOX").Ref, Runs: one(1), Mode: store.Add, Keywords: []string{"x"}})
			storetest.Check(t, s)
			s.SetCommit(func(tx *bolt.Tx) error {
				k, _ := tx.Bucket([]byte(bucket)).Cursor().Last()
				if err := tx.Bucket([]byte(bucket)).Delete(append([]byte(nil), k...)); err != nil {
					return err
				}
				return tx.Commit()
			})
			s.Record(trace.Event{Kind: trace.Login})
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			problems, err := s.Check(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range problems {
				if p.Invariant == 13 {
					return
				}
			}
			t.Errorf("memory is not blamed: %v", problems)
		})
	}
}

func wantProblem(t *testing.T, opt store.Options, want int) {
	t.Helper()
	s, err := store.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	problems, err := s.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range problems {
		if p.Invariant == want {
			return
		}
		all = append(all, p.String())
	}
	t.Errorf("invariant %d is not among the problems:\n%s", want, strings.Join(all, "\n"))
}

// TestTombstonesBounded expunges more often than tombstones are kept: a session that was away still learns all.
func TestTombstonesBounded(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	const n = 1100
	batch := &store.Batch{Blob: storetest.NewBlob(t, s, raw)}
	for range n + 1 {
		batch.Ops = append(batch.Ops, store.AddMessage{Ref: in.Ref, Flags: store.Deleted})
	}
	if _, err := s.Commit(ctx, batch); err != nil {
		t.Fatal(err)
	}
	since := box(t, s, b.ID, "INBOX").HighestModSeq
	batch = &store.Batch{}
	for uid := range store.UID(n) {
		batch.Ops = append(batch.Ops, store.Expunge{Ref: in.Ref, Runs: one(uid + 1)})
	}
	if _, err := s.Commit(ctx, batch); err != nil {
		t.Fatal(err)
	}
	ch, err := s.Changes(in.Ref, since)
	if err != nil || len(ch.Vanished) != 1 || ch.Vanished[0] != (store.Run{First: 1, Count: n}) || len(ch.Rows) != 0 {
		t.Errorf("%d rows, vanished %v, %v", len(ch.Rows), ch.Vanished, err)
	}
}

// TestSessionsFollow has two sessions follow one mailbox while others deliver, flag and expunge.
func TestSessionsFollow(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	const writers, each = 8, 24
	done := make(chan struct{})
	var sessions, work sync.WaitGroup
	for range 2 {
		w := s.Watch(in.Ref)
		sessions.Go(func() {
			defer w.Close()
			snap, err := s.Snapshot(in.Ref, true)
			if err != nil {
				t.Error(err)
				return
			}
			seen := map[store.UID]bool{}
			for _, r := range snap.Runs {
				for i := range r.Count {
					seen[r.First+store.UID(i)] = true
				}
			}
			since := snap.HighestModSeq
			for last := false; ; {
				ch, err := s.Changes(in.Ref, since)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range ch.Vanished {
					for i := range r.Count {
						delete(seen, r.First+store.UID(i))
					}
				}
				for _, r := range ch.Rows {
					seen[r.UID] = true
				}
				since = ch.Mailbox.HighestModSeq
				if last {
					break
				}
				select {
				case <-w.C:
				case <-done:
					last = true
				}
			}
			if len(seen) != writers*each/2 {
				t.Errorf("the session sees %d messages, want %d", len(seen), writers*each/2)
			}
		})
	}
	for range writers {
		work.Go(func() {
			for i := range each {
				_, uid := storetest.Deliver(t, s, b.ID, raw)
				if i%2 == 0 {
					_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.StoreFlags{Ref: in.Ref, Runs: one(uid), Mode: store.Add, Flags: store.Deleted}, store.Expunge{Ref: in.Ref, Runs: one(uid)}}})
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	work.Wait()
	close(done)
	sessions.Wait()
}
