package store

import (
	"fmt"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// Note writes an event into the trace of a store that nobody has open, for an act on its other files (the keys): one
// commit, durable when it returns. The number of commits grows, so that a copy that follows the store is made anew. An
// index at which a start would be refused is not touched: ErrCorrupt, and ErrLocked where somebody has the store open.
func Note(dir string, e trace.Event) error {
	path := filepath.Join(dir, "index.db")
	if err := soundIndex(path); err != nil {
		return err
	}
	db, err := openBolt(path, boltOptions{})
	if err != nil {
		return err
	}
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	g := guard{name: path}
	err = g.run(func() error {
		return db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketNames[bktSys])
			if b == nil || tx.Bucket(bucketNames[bktTrace]) == nil {
				return fmt.Errorf("%w: %s has no trace", ErrCorrupt, path)
			}
			sys, err := decodeSys(b.Get(sysKey))
			if err != nil {
				return err
			}
			sys.Commits++
			if err := putEvent(tx, &sys, e); err != nil {
				return err
			}
			return b.Put(sysKey, encodeSys(sys))
		})
	})
	if g.stuck.Load() {
		return err // the database hangs: it is left open
	}
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	return err
}
