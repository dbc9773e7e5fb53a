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

const sweepEvery = time.Hour

// sweepFiles removes, at start only, what no commit speaks of: files in spool/ and bodies without a record. It
// yields the greatest id seen.
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
	dirs, err := os.ReadDir(filepath.Join(s.dir, "blobs"))
	if err != nil {
		return 0, err
	}
	for _, d := range dirs {
		dir := filepath.Join(s.dir, "blobs", d.Name())
		names, err := os.ReadDir(dir)
		if err != nil {
			return 0, err
		}
		var ids []trace.ID
		for _, n := range names {
			if id, ok := see(n.Name()); ok {
				ids = append(ids, id)
			}
		}
		if err := s.sweepOrphans(ids); err != nil {
			return 0, err
		}
		if len(names) == 0 {
			_ = s.fs.Remove(dir) // a full one refuses
		}
	}
	return greatest, nil
}

func (s *Store) sweepOrphans(ids []trace.ID) error {
	var orphans []trace.ID
	err := s.view(func(get func(int, []byte) []byte) error {
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
	return err
}

// forget removes the record of a body that is dead long enough; its file goes after the commit.
type forget struct {
	id MessageID
	at time.Time
}

func (forget) isOp() {}

func (a *apply) forgetBlob(op forget) error {
	rec, err := a.blob(op.id)
	if err != nil {
		return err
	}
	if rec.Refs != 0 || !rec.Dead.Equal(op.at) {
		return ErrInvalid // it came back to life
	}
	if err := a.del(bktDead, keyDead(op.at, op.id)); err != nil {
		return err
	}
	return a.del(bktBlob, keyID(op.id))
}

// sweepDead removes bodies that no BAL has, some time after the last row went; at start and every hour.
func (s *Store) sweepDead(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if err := s.sweepOnce(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
			s.log.Warn("sweep of expunged bodies", "err", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) sweepOnce(ctx context.Context) error {
	retain := s.opt.RetainExpunged
	switch {
	case retain == 0:
		retain = defaultRetain
	case retain < 0:
		retain = 0
	}
	for limit := s.now().Add(-retain); ; {
		var batch Batch
		err := s.read(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucketNames[bktDead]).Cursor()
			for k, _ := c.First(); k != nil && len(batch.Ops) < 100; k, _ = c.Next() {
				if !keyIs(k, 16) {
					continue // Check reports it
				}
				if timeOfKey(k).After(limit) {
					break
				}
				k = bytes.Clone(k)
				batch.Ops = append(batch.Ops, forget{idOfKey(k), timeOfKey(k)})
			}
			return nil
		})
		if err != nil || len(batch.Ops) == 0 {
			return err
		}
		if _, err := s.Commit(ctx, &batch); err != nil {
			return err
		}
		for _, op := range batch.Ops {
			id := op.(forget).id
			if err := s.fs.Remove(s.blobPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			s.meta.forget(id)
		}
	}
}
