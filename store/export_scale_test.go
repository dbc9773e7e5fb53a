package store

import (
	"context"
	"os"
)

// SetMaxFree sets how many free pages the list may have that each commit writes down.
func (s *Store) SetMaxFree(n int) { s.maxFree = n }

// FreeListAt is where the list of free pages begins in an index, ok false where there is none.
func FreeListAt(path string) (at int64, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	h, ok := readHead(f)
	return int64(h.freelist) * h.pageSize, ok && h.freelist != boltNoList
}

// CatchUp derives what is missing in meta.db.
func (s *Store) CatchUp() { s.meta.catchUp(context.Background()) }

// InMeta tells whether meta.db has the structure of a message, or will have it soon.
func (s *Store) InMeta(id MessageID) bool {
	_, ok, err := s.meta.get(id, bktMeta)
	return ok && err == nil
}

// OpenReplicaNoSync is OpenReplica without any sync.
func OpenReplicaNoSync(dir string) (*Replica, error) { return openReplica(dir, true) }
