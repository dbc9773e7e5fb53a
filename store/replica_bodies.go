package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// absentName begins the names of marks in state/ of a copy: a body that could not be had when its commit came.
const absentName = "absent-"

func (r *Replica) absentMark(id MessageID) string {
	return filepath.Join(r.dir, "state", absentName+id.String())
}

// isAbsent notes, durably, that a body is not there: before the index of the copy speaks of it.
func (r *Replica) isAbsent(id MessageID) error {
	f, err := r.fs.Create(r.absentMark(id))
	switch {
	case errors.Is(err, fs.ErrExist):
	case err != nil:
		return err
	default:
		if !r.noSync {
			err = f.Sync()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if !r.noSync {
		if err := r.fs.SyncDir(filepath.Join(r.dir, "state")); err != nil {
			return err
		}
	}
	r.absent[id] = true
	return nil
}

// loadAbsent reads the marks; those of bodies that are there, or that the index does not speak of, are taken away.
func (r *Replica) loadAbsent() error {
	names, err := os.ReadDir(filepath.Join(r.dir, "state"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, n := range names {
		text, ok := strings.CutPrefix(n.Name(), absentName)
		id, perr := trace.ParseID(text)
		if !ok || perr != nil {
			continue
		}
		_, there := os.Lstat(filepath.Join(r.dir, BodyFile(id)))
		if there == nil || !r.spokenOf(id) {
			err = errors.Join(err, r.fs.Remove(r.absentMark(id)))
			continue
		}
		r.absent[id] = true
	}
	return err
}

func (r *Replica) spokenOf(id MessageID) (ok bool) {
	_ = r.index.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNames[bktBlob])
		ok = b != nil && b.Get(keyID(id)) != nil
		return nil
	})
	return ok
}

// going are the bodies whose last trace, the entry in the list of the dead that says that their files go, a commit takes
// away.
func (r *Replica) going(changes []Change) (ids []MessageID) {
	_ = r.index.View(func(tx *bolt.Tx) error {
		dead := tx.Bucket(bucketNames[bktDead])
		for _, c := range changes {
			if dead != nil && c.Bucket == string(bucketNames[bktDead]) && c.Value == nil && keyIs(c.Key, 16) && bytes.Equal(dead.Get(c.Key), deadGoes) {
				ids = append(ids, idOfKey(c.Key))
			}
		}
		return nil
	})
	return ids
}

// remove removes the files of bodies, durably, and what marks them as absent.
func (r *Replica) remove(ids []MessageID) error {
	dirs := map[string]bool{}
	for _, id := range ids {
		path := filepath.Join(r.dir, BodyFile(id))
		if err := r.fs.Remove(path); err == nil {
			dirs[filepath.Dir(path)] = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !r.absent[id] {
			continue
		}
		delete(r.absent, id)
		if err := r.fs.Remove(r.absentMark(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for dir := range dirs {
		if r.noSync {
			break
		}
		if err := r.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}
