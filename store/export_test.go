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
