package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// Replica is a copy of a store that is brought up to date with the commits of the first (Store.Follow). It needs no
// master key. Closed, its directory is a store that can be opened. One goroutine uses it.
type Replica struct {
	dir    string
	fs     fileSystem
	index  *bolt.DB
	keys   *os.File
	at     uint64 // the last commit done
	places *places
	absent map[MessageID]bool
	noSync bool
}

// OpenReplica opens a copy: a directory that holds a store nobody else has open.
func OpenReplica(dir string) (*Replica, error) { return openReplica(dir, false) }

// openReplica takes noSync for tests.
func openReplica(dir string, noSync bool) (_ *Replica, err error) {
	v, err := os.ReadFile(filepath.Join(dir, "VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoStore, dir)
	} else if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if string(v) != versionLine {
		return nil, fmt.Errorf("%w: %s says %q, this program reads version %d", ErrVersion, filepath.Join(dir, "VERSION"), clip(v), FormatVersion)
	}
	r := &Replica{dir: dir, fs: &osFiles{}, noSync: noSync, absent: map[MessageID]bool{}}
	r.places = newPlaces(r.fs, dir, !noSync)
	if r.index, err = openBolt(filepath.Join(dir, "index.db"), boltOptions{mmap: mmapSize, noSync: noSync}); err != nil {
		return nil, err
	}
	if r.keys, err = os.OpenFile(filepath.Join(dir, "keys"), os.O_RDWR, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %w", err), r.index.Close())
	}
	err = r.index.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNames[bktSys])
		if b == nil {
			return fmt.Errorf("%w: %s", ErrCorrupt, filepath.Join(dir, "index.db"))
		}
		sys, err := decodeSys(b.Get(sysKey))
		r.at = sys.Commits
		return err
	})
	if err == nil {
		err = r.loadAbsent()
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Commits is the number of the last commit that the copy holds.
func (r *Replica) Commits() uint64 { return r.at }

// Apply does the next commit to the copy, durably; one that it holds already is left out. body opens the file of a
// body as it stands, sealed, in the first store (BodyFile); fs.ErrNotExist says that it went again meanwhile, as a
// later commit will say too (Absent). After an error, open the copy again: it holds the commit
// whole or not at all.
func (r *Replica) Apply(c *Commit, body func(MessageID) (io.ReadCloser, error)) error {
	if c.Number <= r.at {
		return nil
	}
	if c.Number != r.at+1 {
		return fmt.Errorf("%w: commit %d after %d", ErrBehind, c.Number, r.at)
	}
	for _, id := range c.Stored {
		err := r.store(id, body)
		if errors.Is(err, fs.ErrNotExist) {
			err = r.isAbsent(id)
		}
		if err != nil {
			return fmt.Errorf("body %s: %w", id, err)
		}
	}
	// A kill behind the commit that took their records may have left their files: nothing speaks of them from now on.
	if err := r.remove(r.going(c.Changes)); err != nil {
		return err
	}
	for _, s := range c.Slots {
		if len(s.Octets) != slotLen {
			return fmt.Errorf("%w: slot %d", ErrInvalid, s.Number)
		}
		if _, err := r.keys.WriteAt(s.Octets, keysHead+int64(s.Number)*slotLen); err != nil {
			return err
		}
	}
	if len(c.Slots) > 0 && !r.noSync {
		if err := r.keys.Sync(); err != nil {
			return err
		}
	}
	if err := r.index.Update(func(tx *bolt.Tx) error { return applyChanges(tx, c.Changes) }); err != nil {
		return err
	}
	r.at = c.Number
	return r.remove(c.Removed)
}

func applyChanges(tx *bolt.Tx, changes []Change) error {
	for _, ch := range changes {
		b := tx.Bucket([]byte(ch.Bucket))
		var err error
		if b == nil && slices.ContainsFunc(bucketNames[bktExpunged:], func(n []byte) bool { return string(n) == ch.Bucket }) {
			b, err = tx.CreateBucket([]byte(ch.Bucket)) // the copy was begun before this bucket was known
		}
		if b == nil {
			return errors.Join(fmt.Errorf("%w: bucket %s", ErrInvalid, ch.Bucket), err)
		}
		if ch.Value == nil {
			err = b.Delete(ch.Key)
		} else {
			err = b.Put(ch.Key, ch.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// store brings a body to its place, durably.
func (r *Replica) store(id MessageID, body func(MessageID) (io.ReadCloser, error)) error {
	in, err := body(id)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := filepath.Join(r.dir, "spool", id.String())
	if err := r.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := r.fs.Create(tmp)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	if err == nil && !r.noSync {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	dir, err := r.places.dir(id)
	if err != nil {
		return err
	}
	if err := r.fs.Rename(tmp, filepath.Join(dir, id.String())); err != nil {
		return err
	}
	if r.noSync {
		return nil
	}
	return r.fs.SyncDir(dir)
}

// Absent is how many bodies could not be had and are still spoken of: 0 in a copy that is whole.
func (r *Replica) Absent() int { return len(r.absent) }

// Close lets the copy go. It is then a store like any other.
func (r *Replica) Close() error { return errors.Join(r.index.Close(), r.keys.Close()) }
