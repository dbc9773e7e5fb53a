package store

import (
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
)

// The seams of the store, for fault tests.
type (
	FileSystem = fileSystem
	File       = file
)

var OpenWith = open

func (s *Store) SetCommit(f func(*bolt.Tx) error) { s.commitIndex = f }
func (s *Store) Flush() error                     { return s.flush() }

// CountCommits counts the commits of the index from now on.
func (s *Store) CountCommits(n *atomic.Int64) {
	s.commitIndex = func(tx *bolt.Tx) error { n.Add(1); return commitTx(tx) }
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
