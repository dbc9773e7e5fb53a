package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"mssd/store"
	"mssd/trace"
)

// Pruned is what Prune removed.
type Pruned struct {
	Generations []string   `json:"generations"`
	IDs         []trace.ID `json:"-"` // of these; the store is to be told
	Bodies      int64      `json:"bodies"`
	Octets      int64      `json:"octets"`
	Kept        int        `json:"kept"`
}

// Prune removes all generations but the newest keep, then the bodies that none of those left names. While one of these
// cannot be read no body is removed.
func Prune(ctx context.Context, d *Dir, keep int, p store.Progress) (Pruned, error) {
	r := Pruned{Generations: []string{}}
	if keep < 1 {
		return r, fmt.Errorf("%w: at least one generation is kept", store.ErrInvalid)
	}
	all, err := d.Generations()
	if err != nil {
		return r, err
	}
	var good []Generation
	for _, g := range all {
		if g.Err != nil {
			return r, fmt.Errorf("generation %s: %w; nothing was removed. Look at it (mssd backup verify) and remove its folder by hand if it is of no use", g.Name, g.Err)
		}
		if err := g.Manifest.List.check(filepath.Join(g.dir, listFile)); err != nil {
			return r, fmt.Errorf("generation %s: %w; nothing was removed", g.Name, err)
		}
		good = append(good, g)
	}
	n := max(len(good)-keep, 0)
	for _, g := range good[:n] {
		if err := d.remove(&g); err != nil {
			return r, err
		}
		id, _ := trace.ParseID(g.Manifest.ID) // was parsed
		r.Generations, r.IDs = append(r.Generations, g.Name), append(r.IDs, id)
	}
	r.Kept = len(good) - n
	return r, d.removeBodies(ctx, good[n:], &r, p)
}

// remove takes a generation away; first its name, so that a half removed one is none.
func (d *Dir) remove(g *Generation) error {
	gone := g.dir + partial
	if err := os.Rename(g.dir, gone); err != nil {
		return err
	}
	if err := syncDir(d.at(generationsDir)); err != nil { // before a file of it changes
		return err
	}
	return d.shred(gone)
}

// shred takes what is no generation away, durably: its keys are overwritten first.
func (d *Dir) shred(dir string) error {
	if err := store.ShredKeys(filepath.Join(dir, "keys")); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return syncDir(d.at(generationsDir))
}

// removeBodies removes what no generation names.
func (d *Dir) removeBodies(ctx context.Context, kept []Generation, r *Pruned, p store.Progress) error {
	u, err := openUnion(kept)
	if err != nil {
		return err
	}
	defer u.close()
	spans, err := d.spans()
	if err != nil {
		return err
	}
	var cur Body
	done := false
	for i, span := range spans {
		if p != nil {
			p("removing bodies", int64(i), int64(len(spans)))
		}
		ids, err := d.bodiesOf(span)
		if err != nil {
			return err
		}
		left := len(ids)
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			for !done && cur.ID < id {
				if cur, err = u.next(); errors.Is(err, io.EOF) {
					done = true
				} else if err != nil {
					return err
				}
			}
			if !done && cur.ID == id {
				continue
			}
			path := d.at(store.BodyFile(id))
			if st, err := os.Stat(path); err == nil {
				r.Octets += st.Size()
			}
			if err := os.Remove(path); err != nil {
				return err
			}
			r.Bodies++
			left--
		}
		if left == 0 {
			_ = os.Remove(d.at(blobsDir, span)) // one with other files stays
		}
	}
	return nil
}

// spans are the directories of bodies, in the order of ids.
func (d *Dir) spans() ([]string, error) {
	names, err := os.ReadDir(d.at(blobsDir))
	if err != nil {
		return nil, err
	}
	var nums []uint64
	for _, n := range names {
		if v, err := strconv.ParseUint(n.Name(), 16, 64); err == nil && n.IsDir() {
			nums = append(nums, v)
		}
	}
	slices.Sort(nums)
	spans := make([]string, len(nums))
	for i, v := range nums {
		spans[i] = strconv.FormatUint(v, 16)
	}
	return spans, nil
}

// bodiesOf are the bodies below a span, ascending: names sort like ids.
func (d *Dir) bodiesOf(span string) ([]trace.ID, error) {
	names, err := os.ReadDir(d.at(blobsDir, span))
	var ids []trace.ID
	for _, n := range names {
		if id, err := trace.ParseID(n.Name()); err == nil && filepath.Join(blobsDir, span, n.Name()) == store.BodyFile(id) {
			ids = append(ids, id)
		}
	}
	return ids, err
}
