package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// forgetDead removes bodies that no BAL has any more; mail that can come back still has its BAL. What cannot be taken
// away keeps nothing else: it is passed over until the next sweep, and the error says how many there are.
func (s *Store) forgetDead(ctx context.Context, done *Swept) error {
	d := deadWalk{s: s, limit: s.now(), passed: map[forget]bool{}}
	for {
		if more, err := d.some(ctx, done); err != nil || !more {
			return errors.Join(err, d.faults.err("bodies that nobody has cannot be taken away"))
		}
	}
}

// deadWalk goes once through the list of the dead. One goroutine uses it.
type deadWalk struct {
	s      *Store
	limit  time.Time
	from   []byte // nothing before this key is left to do
	passed map[forget]bool
	faults passedOver
}

func (d *deadWalk) pass(f forget, err error) {
	d.passed[f] = true
	d.faults.add(fmt.Errorf("body %s: %w", f.id, err))
}

// some takes away some of the bodies that died before the limit. While a Moment is open it takes none.
func (d *deadWalk) some(ctx context.Context, done *Swept) (more bool, err error) {
	s := d.s
	select {
	case s.removing <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-s.removing }()
	if s.pins.Load() > 0 {
		return false, nil
	}
	waits, goes, err := d.next()
	if err != nil || len(waits)+len(goes) == 0 {
		return false, err
	}
	goes = d.removeFiles(goes)
	n := len(goes)
	err = commitEach(ctx, s, append(goes, waits...), func(part []forget) error {
		var b Batch
		for _, op := range part {
			b.Ops = append(b.Ops, op)
		}
		_, err := s.commitPatiently(ctx, &b)
		return err
	}, d.pass)
	if err == nil {
		done.Bodies += n
	}
	return err == nil, err
}

// next yields some of the bodies that died before the limit: those that wait to be taken away, and those whose files go
// now.
func (d *deadWalk) next() (waits, goes []forget, err error) {
	err = d.s.read(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNames[bktDead]).Cursor()
		for k, v := c.Seek(d.from); k != nil && len(waits) < 100 && len(goes) < 100; k, v = c.Next() {
			if !keyIs(k, 16) {
				continue // Check reports it
			}
			if timeOfKey(k).After(d.limit) {
				break
			}
			f := forget{idOfKey(k), timeOfKey(k)}
			switch {
			case d.passed[f]:
				if len(waits)+len(goes) == 0 {
					d.from = bytes.Clone(k)
				}
			case bytes.Equal(v, deadGoes):
				goes = append(goes, f)
			default:
				waits = append(waits, f)
			}
		}
		return nil
	})
	return waits, goes, err
}

// removeFiles removes the files of bodies, durably, and yields those that are gone.
func (d *deadWalk) removeFiles(goes []forget) []forget {
	s := d.s
	dirs := map[string]error{}
	for _, f := range goes {
		path := s.blobPath(f.id)
		if err := s.fs.Remove(path); err == nil {
			dirs[filepath.Dir(path)] = nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			d.pass(f, err)
		}
		s.meta.forget(f.id)
	}
	if !s.opt.NoSync {
		for dir := range dirs {
			dirs[dir] = s.fs.SyncDir(dir)
		}
	}
	return slices.DeleteFunc(goes, func(f forget) bool {
		if err := dirs[filepath.Dir(s.blobPath(f.id))]; err != nil && !d.passed[f] {
			d.pass(f, err)
		}
		return d.passed[f]
	})
}
