package store

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/message"
	"mssd/trace"
)

// The seams of the store, for fault tests.
type (
	FileSystem = fileSystem
	File       = file
)

var OpenWith = open

func (s *Store) SetCommit(f func(*bolt.Tx) error) { s.commitIndex.Store(&f) }
func (s *Store) Flush() error                     { return s.flush(context.Background()) }

// CountCommits counts the commits of the index from now on.
func (s *Store) CountCommits(n *atomic.Int64) {
	s.SetCommit(func(tx *bolt.Tx) error { n.Add(1); return commitTx(tx) })
}

func (s *Store) Dir() string { return s.dir }

// SetNextUID sets UIDNEXT of a mailbox on disk; close the store afterwards.
func (s *Store) SetNextUID(r Ref, next UID) {
	_ = s.index.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNames[bktMailbox])
		rec, err := decodeBox(keyBox(r), b.Get(keyBox(r)))
		if err != nil {
			return err
		}
		rec.UIDNext = next
		return b.Put(keyBox(r), encodeBox(&rec))
	})
}

// SetKeywordRoom sets how many octets of keyword sets the store takes.
func (s *Store) SetKeywordRoom(n int) { s.keywordRoom = n }

// SetSyncFew sets how many bodies are synced one by one.
func (s *Store) SetSyncFew(n int) { s.syncFew = n }

// NamedBox is the record of a mailbox under another name.
func (s *Store) NamedBox(k, v []byte, name string) []byte {
	r, err := decodeBox(k, v)
	if err != nil {
		panic(err)
	}
	r.Name = name
	if err := s.keys.sealBox(&r); err != nil {
		panic(err)
	}
	return encodeBox(&r)
}

// SlotPlace is where the key of a BAL stands in the file keys.
func SlotPlace(id BALID) (off, length int64) { return keysHead + int64(id)*slotLen, slotLen }

// SweepNow sweeps.
func (s *Store) SweepNow() error { _, err := s.Sweep(context.Background(), false); return err }

// SetLogRoom sets how many octets of commits are kept for followers.
func (s *Store) SetLogRoom(n int) { s.batchLog.room = n }

// KeptCommits is how many commits are kept for followers.
func (s *Store) KeptCommits() int {
	s.batchLog.mu.Lock()
	defer s.batchLog.mu.Unlock()
	return len(s.batchLog.kept)
}

// CopyIndex writes the index at one moment, and its number, while the store is in use.
func (s *Store) CopyIndex(path string) (number uint64, err error) {
	err = s.index.View(func(tx *bolt.Tx) error {
		sys, err := decodeSys(tx.Bucket(bucketNames[bktSys]).Get(sysKey))
		number = sys.Commits
		return errors.Join(err, tx.CopyFile(path, 0o600))
	})
	return number, err
}

// Dump is all that stands in the index, by bucket.
func (s *Store) Dump() map[string]map[string]string { return dump(s.index) }

// Dump is all that stands in the index of the copy, by bucket.
func (r *Replica) Dump() map[string]map[string]string { return dump(r.index) }

func dump(db *bolt.DB) map[string]map[string]string {
	all := map[string]map[string]string{}
	_ = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			m := map[string]string{}
			all[string(name)] = m
			return b.ForEach(func(k, v []byte) error { m[string(k)] = string(v); return nil })
		})
	})
	return all
}

// View runs fn in a guarded reading transaction of the index.
func (s *Store) View(fn func(*bolt.Tx) error) error { return s.read(fn) }

// SetUptime sets the monotonic clock of the sweep.
func (s *Store) SetUptime(f func() time.Duration) {
	s.sweepMu.Lock()
	defer s.sweepMu.Unlock()
	s.clockMu.Lock()
	defer s.clockMu.Unlock()
	s.uptime = f
}

// HoldCommitter keeps the committer from working until so many batches are queued.
func (s *Store) HoldCommitter() (release func(batches int)) {
	commit, held, entered := *s.commitIndex.Load(), make(chan struct{}), make(chan struct{}, 1)
	s.SetCommit(func(tx *bolt.Tx) error {
		s.SetCommit(commit)
		entered <- struct{}{}
		<-held
		return commit(tx)
	})
	s.Record(trace.Event{Kind: trace.Login})
	<-entered
	return func(batches int) {
		for len(s.queue) < batches {
			time.Sleep(time.Millisecond)
		}
		close(held)
	}
}

// HoldNextCommit lets the next commit of a batch wait until it is let go.
func (s *Store) HoldNextCommit() (let func()) {
	commit, held := *s.commitIndex.Load(), make(chan struct{})
	s.SetCommit(func(tx *bolt.Tx) error {
		s.SetCommit(commit)
		<-held
		return commit(tx)
	})
	return sync.OnceFunc(func() { close(held) })
}

// HoldRemoval lets commits wait that take bodies away, until they are let go.
func (s *Store) HoldRemoval() (let func()) {
	commit, held := *s.commitIndex.Load(), make(chan struct{})
	s.SetCommit(func(tx *bolt.Tx) error {
		if s.Removing() {
			<-held
		}
		return commit(tx)
	})
	return sync.OnceFunc(func() { close(held) })
}

// RebuildBy is Rebuild with so many bodies in one commit.
var RebuildBy = rebuildBy

// Index is the database of the index, without its guard.
func (s *Store) Index() *bolt.DB { return s.index }

// Fail gives the store up, as a fault of its disk does.
func (s *Store) Fail(err error) { s.fail(err) }

// Removing reports that bodies are being removed.
func (s *Store) Removing() bool { return len(s.removing) > 0 }

// OpenBolt opens a database for a moment.
func OpenBolt(path string) error {
	db, err := openBolt(path, boltOptions{})
	if err == nil {
		err = db.Close()
	}
	return err
}

// SortKeysKept is of how many messages memory holds the sort keys.
func (s *Store) SortKeysKept() int {
	n, _ := kept(&s.meta.sort)
	return n
}

// KeepSortKeys says how many of n alike sort keys, and how many octets, a memory of them holds that was given them.
func (s *Store) KeepSortKeys(n int, k message.SortKeys) (held, octets int) {
	c := derivedCache[message.SortKeys]{room: s.meta.sort.room, size: s.meta.sort.size}
	for i := range n {
		c.keep(MessageID(i), k, c.now())
	}
	return kept(&c)
}

func kept[T any](c *derivedCache[T]) (n, octets int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.kept), c.octets
}

// PackText and UnpackText are the stored form of a text.
func PackText(raw []byte) []byte                           { return packText(raw) }
func (s *Store) UnpackText(v []byte) (message.Text, error) { return s.meta.unpack(v) }

// DropSieves makes the meta.db of a closed store one of before sieves.
func DropSieves(t testing.TB, dir string) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bolt.Tx) error {
		whole := tx.Bucket(bktMetaSys).Get(wholeKey)
		if whole == nil {
			return errors.New("not whole")
		}
		return errors.Join(tx.DeleteBucket(bktSieve), tx.Bucket(bktMetaSys).Put(wholeKey, bytes.Clone(whole[:9])))
	}); err != nil {
		t.Fatal(err)
	}
}

// KeptAfterClear tries to keep what was read before a cache was cleared.
func KeptAfterClear() bool {
	c := derivedCache[int]{room: 100, size: func(int) int { return 1 }}
	era := c.now()
	c.clear()
	c.keep(1, 1, era)
	return len(c.kept) > 0
}
