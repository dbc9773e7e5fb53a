package store

import (
	"time"

	bolt "go.etcd.io/bbolt"
)

// LastBackup is the moment that the latest whole backup holds, as far as the store knows of it and it was not destroyed;
// zero: there is none. What stands for backups that nobody knows of has no
// commits and does not count.
func (s *Store) LastBackup() (last time.Time, err error) {
	err = s.read(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketNames[bktBackup]).ForEach(func(k, v []byte) error {
			b, err := decodeBackup(k, v)
			if err == nil && !b.Done.IsZero() && b.Forgotten.IsZero() && b.Commits > 0 && b.Began.After(last) {
				last = b.Began
			}
			return nil // Check reports what is damaged
		})
	})
	return last, err
}
