package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// sweepFiles removes, at start only, what no commit speaks of: files in spool/ and, in the directories that have a
// mark, bodies without a record. It yields the greatest id seen.
func (s *Store) sweepFiles() (greatest trace.ID, err error) {
	see := func(name string) (trace.ID, bool) {
		id, err := trace.ParseID(name)
		greatest = max(greatest, id)
		return id, err == nil
	}
	spool := filepath.Join(s.dir, "spool")
	names, err := os.ReadDir(spool)
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		see(n.Name())
		if err := s.fs.Remove(filepath.Join(spool, n.Name())); err != nil {
			return 0, err
		}
	}
	spans, err := s.places.left()
	if err != nil {
		return 0, err
	}
	for _, span := range spans {
		if err := s.sweepSpan(filepath.Join(s.dir, "blobs", span), see); err != nil {
			return 0, err
		}
	}
	return greatest, s.places.unmark()
}

// sweepSpan removes bodies without a record from a directory; see is told each name. The removal is durable: the
// mark that led here goes next.
func (s *Store) sweepSpan(dir string, see func(string) (trace.ID, bool)) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the mark was made, the directory not yet
	} else if err != nil {
		return err
	}
	var ids []trace.ID
	for _, n := range names {
		if id, ok := see(n.Name()); ok {
			ids = append(ids, id)
		}
	}
	removed, err := s.sweepOrphans(ids)
	if err != nil {
		return err
	}
	if removed == len(names) {
		_ = s.fs.Remove(dir)
	} else if removed > 0 && !s.opt.NoSync {
		return s.fs.SyncDir(dir)
	}
	return nil
}

func (s *Store) sweepOrphans(ids []trace.ID) (removed int, err error) {
	var orphans []trace.ID
	err = s.view(func(get func(int, []byte) []byte) error {
		for _, id := range ids {
			if get(bktBlob, keyID(id)) == nil {
				orphans = append(orphans, id)
			}
		}
		return nil
	})
	for _, id := range orphans {
		err = errors.Join(err, s.fs.Remove(s.blobPath(id)))
	}
	if len(orphans) > 0 {
		s.log.Info("bodies without a record removed", "count", len(orphans))
	}
	return len(orphans), err
}

// forget takes a body away that is dead long enough, in two commits: the first takes its record and leaves it in the
// list of the dead as one whose file goes; the second, when the file is gone, takes that too. So no kill leaves a file
// that nothing speaks of.
type forget struct {
	id MessageID
	at time.Time
}

func (forget) isOp() {}

// What stands in the list of the dead.
var (
	deadWaits = []byte{1} // the body has a record
	deadGoes  = []byte{2} // it has none; its file goes, or is gone
)

func (a *apply) forgetBlob(op forget) error {
	k := keyDead(op.at, op.id)
	if bytes.Equal(a.get(bktDead, k), deadGoes) {
		a.emptied[spanOf(op.id)] = struct{}{}
		return a.del(bktDead, k)
	}
	rec, err := a.blob(op.id)
	if err != nil {
		return err
	}
	if rec.Refs != 0 || !rec.Dead.Equal(op.at) {
		return ErrInvalid // it came back to life
	}
	if err := a.put(bktDead, k, deadGoes); err != nil {
		return err
	}
	a.log.removed = append(a.log.removed, op.id)
	return a.del(bktBlob, keyID(op.id))
}

// forgetDead removes bodies that no BAL has any more; mail that can come back still has its BAL.
func (s *Store) forgetDead(ctx context.Context, done *Swept) error {
	for limit := s.now(); ; {
		if more, err := s.forgetSome(ctx, limit, done); err != nil || !more {
			return err
		}
	}
}

// forgetSome takes away some of the bodies that died before limit. While a Moment is open it takes none.
func (s *Store) forgetSome(ctx context.Context, limit time.Time, done *Swept) (more bool, err error) {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	if s.pins > 0 {
		return false, nil
	}
	waits, goes, err := s.deadUntil(limit)
	if err != nil || len(waits)+len(goes) == 0 {
		return false, err
	}
	if err := s.removeBodies(goes); err != nil {
		return false, err
	}
	var batch Batch
	for _, op := range append(goes, waits...) {
		batch.Ops = append(batch.Ops, op)
	}
	if _, err = s.commitPatiently(ctx, &batch); err != nil {
		return false, err
	}
	done.Bodies += len(goes)
	return true, nil
}

// deadUntil yields some of the bodies that died before limit: those that wait to be taken away, and those whose files
// go now.
func (s *Store) deadUntil(limit time.Time) (waits, goes []forget, err error) {
	err = s.read(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNames[bktDead]).Cursor()
		for k, v := c.First(); k != nil && len(waits) < 100 && len(goes) < 100; k, v = c.Next() {
			if !keyIs(k, 16) {
				continue // Check reports it
			}
			if timeOfKey(k).After(limit) {
				break
			}
			if f := (forget{idOfKey(k), timeOfKey(k)}); bytes.Equal(v, deadGoes) {
				goes = append(goes, f)
			} else {
				waits = append(waits, f)
			}
		}
		return nil
	})
	return waits, goes, err
}

// removeBodies removes files, durably.
func (s *Store) removeBodies(goes []forget) error {
	dirs := map[string]struct{}{}
	for _, f := range goes {
		path := s.blobPath(f.id)
		if err := s.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		} else if err == nil {
			dirs[filepath.Dir(path)] = struct{}{}
		}
		s.meta.forget(f.id)
	}
	if s.opt.NoSync {
		return nil
	}
	for dir := range dirs {
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}
