package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// spansOf are the directories of bodies, oldest first.
func spansOf(dir string) ([]string, error) {
	names, err := os.ReadDir(filepath.Join(dir, "blobs"))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	type span struct {
		n    uint64
		name string
	}
	var spans []span
	for _, d := range names {
		if n, err := strconv.ParseUint(d.Name(), 16, 64); err == nil && d.IsDir() {
			spans = append(spans, span{n, d.Name()})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.n, b.n) })
	out := make([]string, len(spans))
	for i, s := range spans {
		out[i] = s.name
	}
	return out, nil
}

// bodiesIn are the bodies of one directory after an id, ascending.
func bodiesIn(dir, span string, after MessageID) ([]MessageID, error) {
	names, err := os.ReadDir(filepath.Join(dir, "blobs", span))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	var ids []MessageID
	for _, n := range names {
		if id, err := trace.ParseID(n.Name()); err == nil && id > after && spanOf(id) == span {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (r *rebuild) bodies(ctx context.Context, after MessageID) error {
	spans, err := spansOf(r.opt.Dir)
	if err != nil {
		return err
	}
	for _, span := range spans { // first only counted
		ids, err := bodiesIn(r.opt.Dir, span, 0)
		if err != nil {
			return err
		}
		r.total += int64(len(ids))
		i, _ := slices.BinarySearch(ids, after+1)
		r.done += int64(i)
	}
	for _, span := range spans {
		ids, err := bodiesIn(r.opt.Dir, span, after)
		if err != nil {
			return err
		}
		for page := range slices.Chunk(ids, r.batch) {
			if err := ctx.Err(); err != nil {
				return err
			}
			r.opt.Progress.tell("reading headers of bodies", r.done, r.total)
			if err := r.page(page); err != nil {
				return err
			}
			r.done += int64(len(page))
		}
	}
	r.opt.Progress.tell("reading headers of bodies", r.done, r.total)
	return nil
}

// found is what a body says of itself.
type found struct {
	size int64
	key  secret
	time time.Time
	to   []BALID // whose keys open it
	err  error
}

// page makes the rows of some bodies, in one commit.
func (r *rebuild) page(ids []MessageID) error {
	all := lookAll(r.opt.Dir, r.codec, r.keys, ids)
	for i := range all {
		if err := all[i].err; refusedByDisk(err) && !errors.Is(badMedia(err), ErrCorrupt) {
			return fmt.Errorf("body %s: %w; nothing of it is lost: run this again", ids[i], err)
		}
		// An address with two slots belongs to the later one.
		all[i].to = slices.DeleteFunc(all[i].to, func(id BALID) bool { return r.bals[id] == nil })
		if all[i].err == nil && len(all[i].to) == 0 {
			all[i].err = errors.New("none of its BALs is known")
		}
	}
	// Before the commit: what is noted as done and still lay there would be taken for an orphan.
	if err := r.setAsideLost(ids, all); err != nil {
		return err
	}
	return r.db.Update(func(tx *bolt.Tx) error {
		for _, n := range []int{bktBlob, bktRow, bktPrefix} {
			tx.Bucket(bucketNames[n]).FillPercent = 0.9
		}
		for i, id := range ids {
			if err := r.add(tx, id, &all[i]); err != nil {
				return err
			}
		}
		for _, w := range r.bals {
			if !w.touched {
				continue
			}
			w.touched = false
			err := errors.Join(tx.Bucket(bucketNames[bktBAL]).Put(keyBAL(w.bal.ID), encodeBAL(w.bal)),
				tx.Bucket(bucketNames[bktMailbox]).Put(keyBox(w.inbox.Ref), encodeBox(&w.inbox)))
			if err != nil {
				return err
			}
		}
		r.sys.LastID = max(r.sys.LastID, ids[len(ids)-1])
		return errors.Join(tx.Bucket(bucketNames[bktSys]).Put(sysKey, encodeSys(r.sys)), tx.Bucket(rebuildBucket).Put(rebuildBucket, keyID(ids[len(ids)-1])))
	})
}

// add makes the rows of one body.
func (r *rebuild) add(tx *bolt.Tx, id MessageID, f *found) error {
	if f.err != nil {
		return nil
	}
	for _, bal := range f.to {
		w := r.bals[bal]
		p, err := r.keys.sealPrefix(bal, id, &f.key, nil)
		if err != nil {
			return err
		}
		b := &w.inbox
		b.HighestModSeq++
		row := Row{UID: b.UIDNext, ModSeq: b.HighestModSeq, Message: id, Date: f.time, SaveDate: f.time, Size: f.size}
		b.UIDNext++
		b.tally(&row, 1)
		w.bal.Messages++
		w.bal.Octets += row.Size
		w.touched = true
		r.out.Messages++
		err = errors.Join(tx.Bucket(bucketNames[bktRow]).Put(keyRow(b.Ref, row.UID), encodeRow(&row)),
			tx.Bucket(bucketNames[bktPrefix]).Put(keyPrefix(bal, id), encodePrefix(p)))
		if err != nil {
			return err
		}
	}
	r.out.Bodies++
	return tx.Bucket(bucketNames[bktBlob]).Put(keyID(id), encodeBlob(blobRec{Size: f.size, Refs: uint32(len(f.to))}))
}

// lookAll looks at bodies on all processors.
func lookAll(dir string, c *codec, keys *keyring, ids []MessageID) []found {
	all := make([]found, len(ids))
	workers := min(2*runtime.GOMAXPROCS(0), len(ids))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(ids); i += workers {
				all[i] = lookAt(filepath.Join(dir, BodyFile(ids[i])), c, keys, ids[i])
			}
		})
	}
	wg.Wait()
	return all
}

// errLockedBody: a body that looks sound, of a BAL whose key was not destroyed but does not open now. It may come back.
var errLockedBody = errors.New("no key opens its header now")

// lookAt opens table and header of a body with the keys of those that received it.
func lookAt(path string, c *codec, keys *keyring, id MessageID) (out found) {
	f, err := osFiles{}.Open(path)
	if err != nil {
		return found{err: err}
	}
	defer f.Close()
	end, err := readEnd(f)
	if err != nil {
		return found{err: err}
	}
	h, err := end.header(uint64(id))
	if err != nil {
		end.release()
		return found{err: err}
	}
	out.time = h.time
	for i := range h.to {
		k, err := keys.bal(h.to[i].bal)
		if err != nil {
			continue
		}
		if key, err := h.to[i].unwrap(h.id, k.wrap()); err == nil && h.verify(&key) == nil {
			out.key, out.to = key, append(out.to, h.to[i].bal)
		}
	}
	if len(out.to) == 0 {
		end.release()
		for i := range h.to {
			if _, gone := keys.gone[h.to[i].bal]; !gone {
				return found{err: errLockedBody}
			}
		}
		return found{err: errors.New("no key opens its header")}
	}
	u, err := newUnsealer(c, uint64(id), &out.key, end, -1)
	if err != nil {
		return found{err: err}
	}
	out.size = u.size
	u.release()
	return out
}

// setAsideLost moves bodies without a row into lost/, durably.
func (r *rebuild) setAsideLost(ids []MessageID, all []found) error {
	dirs := map[string]bool{}
	for i, id := range ids {
		if all[i].err == nil {
			continue
		}
		if len(r.out.Lost) < maxProblems {
			r.out.Lost = append(r.out.Lost, LostBody{id, all[i].err.Error()})
		}
		from, to := filepath.Join(r.opt.Dir, BodyFile(id)), filepath.Join(r.opt.Dir, lostDir, id.String())
		if err := os.Mkdir(filepath.Dir(to), 0o700); err == nil {
			dirs[r.opt.Dir] = true
		} else if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("store: %w", err)
		}
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store: %w", err)
		}
		dirs[filepath.Dir(from)], dirs[filepath.Dir(to)] = true, true
	}
	for dir := range dirs {
		if err := (osFiles{}).SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// takeBackLost puts what an earlier run set aside back among the bodies.
func takeBackLost(dir string) error {
	names, err := os.ReadDir(filepath.Join(dir, lostDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, n := range names {
		id, err := trace.ParseID(n.Name())
		if err != nil {
			continue
		}
		to := filepath.Join(dir, BodyFile(id))
		if err := os.Mkdir(filepath.Dir(to), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("store: %w", err)
		}
		if err := os.Rename(filepath.Join(dir, lostDir, n.Name()), to); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// countLost is how many bodies lie in lost/, from earlier runs too.
func countLost(dir string) (n int, err error) {
	names, err := os.ReadDir(filepath.Join(dir, lostDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("store: %w", err)
	}
	for _, f := range names {
		if _, err := trace.ParseID(f.Name()); err == nil {
			n++
		}
	}
	return n, nil
}
