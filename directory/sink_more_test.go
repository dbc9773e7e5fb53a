package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var morning = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// TestRefusalsEnd: a refused reading waits through changes that are taken, and through their folding; refused changes end
// with the next ones that are taken.
func TestRefusalsEnd(t *testing.T) {
	now := morning
	d, f := keyedFeed(t, t.TempDir(), &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 100, "c0", now))
	if err := d.adopt(f, whole(t, d, f, 50, 50, "half", now)); !errors.Is(err, ErrLoss) {
		t.Fatal(err)
	}
	if err := d.change(f, []change{{key(1), nil}}, []byte("c1"), now); err != nil {
		t.Fatal(err)
	}
	folded, err := d.fold(f, f.image.Load())
	if err != nil {
		t.Fatal(err)
	}
	d.install(f, folded)
	if st := d.Status().Feeds[0]; st.Refused == nil || st.Refused.Changes || st.Refused.Rows != 50 {
		t.Fatalf("the refused reading is forgotten: %+v", st)
	}
	before := f.image.Load().generation
	st, err := d.Accept("ldap")
	if err != nil || st.Rows != 50 || st.Generation <= before {
		t.Errorf("accepted: %+v, %v; generation before: %d", st, err, before)
	}
	if found, err := d.Find(t.Context(), Search{Name: "nom", Limit: 1000}); err != nil || len(found.Entries) != 50 {
		t.Errorf("names of what was accepted: %d, %v", len(found.Entries), err)
	}
	// Restarts never give a generation twice.
	d.Close()
	d, f = keyedFeed(t, d.cfg.StateDir, &now)
	if got := f.image.Load().generation; got != st.Generation {
		t.Errorf("generation %d after a restart, was %d", got, st.Generation)
	}
	if err := os.Remove(imagePath(d.cfg.StateDir, "ldap")); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d, f = keyedFeed(t, d.cfg.StateDir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 100, "c2", now))
	var gone []change
	for i := range 20 {
		gone = append(gone, change{key(i), nil})
	}
	if err := d.change(f, gone, []byte("c3"), now); !errors.Is(err, ErrLoss) {
		t.Fatal(err)
	}
	if st := d.Status().Feeds[0]; st.Refused == nil || !st.Refused.Changes || st.Refused.Rows != 80 || st.Rows != 100 {
		t.Errorf("status: %+v", st)
	}
	if err := d.change(f, nil, []byte("c2"), now); err != nil || d.Status().Feeds[0].Refused == nil {
		t.Errorf("a sign of life: %v", err)
	}
	if err := d.change(f, gone[:1], []byte("c4"), now); err != nil || d.Status().Feeds[0].Refused != nil {
		t.Errorf("taken changes: %v", err)
	}
}

// TestChangesNotWritten has a file of changes that takes nothing any more: the next batch makes a new base.
func TestChangesNotWritten(t *testing.T) {
	now := morning
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 100, "c0", now))
	step := func(i int) {
		t.Helper()
		if err := d.change(f, []change{{key(i), nil}}, fmt.Appendf(nil, "c%d", i), now); err != nil {
			t.Fatal(err)
		}
		if knows(d, addr(i)) {
			t.Errorf("change %d is not in force", i)
		}
	}
	step(1)
	if err := f.journal.file.Close(); err != nil {
		t.Fatal(err)
	}
	step(2) // in force, and not on disk
	if st := d.Status().Feeds[0]; st.NotSaved == "" {
		t.Error("it is not said that a change was not saved")
	}
	again, g := keyedFeed(t, dir, &now)
	if img := g.image.Load(); string(img.cookie) != "c1" || img.rows() != 99 {
		t.Errorf("a restart now: cookie %s, %d rows", img.cookie, img.rows())
	}
	again.Close()
	step(3)
	step(4)
	if st := d.Status().Feeds[0]; st.NotSaved != "" {
		t.Errorf("saved again, and not said: %s", st.NotSaved)
	}
	again, g = keyedFeed(t, dir, &now)
	if img := g.image.Load(); string(img.cookie) != "c4" || img.rows() != 96 {
		t.Errorf("a restart later: cookie %s, %d rows", img.cookie, img.rows())
	}
	again.Close()
}

// TestSignsOfLife: that nothing changed is written down now and then, not each time.
func TestSignsOfLife(t *testing.T) {
	now := morning
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 10, "c0", now))
	for range 600 { // ten hours
		now = now.Add(time.Minute)
		if err := d.change(f, nil, []byte("c0"), now); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.journal.size; got > 60*64 {
		t.Errorf("%d octets for nothing", got)
	}
	if age := d.Status().Feeds[0].AgeSeconds; age != 0 {
		t.Errorf("%d s old", age)
	}
	d.Close()
	d, _ = keyedFeed(t, dir, &now)
	if st := d.Status().Feeds[0]; st.AgeSeconds > 600 || st.Rows != 10 {
		t.Errorf("after a restart: %+v", st)
	}
}

func TestChangeBounds(t *testing.T) {
	now := morning
	d, f := keyedFeed(t, t.TempDir(), &now)
	if err := d.change(f, []change{{key(1), nil}}, nil, now); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without an image: %v", err)
	}
	mustAdopt(t, d, f, whole(t, d, f, 0, 10, "c0", now))
	long := make([]byte, maxField)
	for name, c := range map[string]change{
		"no key":        {"", nil},
		"long key":      {string(make([]byte, maxKey+1)), nil},
		"long field":    {key(1), []*record{{[]byte("a@b.test"), []byte("ORG"), nil, long}}},
		"too many rows": {key(1), make([]*record, maxHolders+1)},
	} {
		if err := d.change(f, []change{c}, []byte("c1"), now); !errors.Is(err, ErrTooLarge) || string(f.image.Load().cookie) != "c0" {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := rec("a@b.test", "ORG", "1", "N")
	r[fieldService] = make([]byte, 1<<20)
	if err := d.change(f, []change{{key(1), []*record{r}}}, []byte("c1"), now); err != nil || f.journal.size > 4096 {
		t.Errorf("a long text: %v, %d octets", err, f.journal.size)
	}
}

// TestReadersMeetChanges looks up, searches and audits while everything changes.
func TestReadersMeetChanges(t *testing.T) {
	now := morning
	d, f := keyedFeed(t, t.TempDir(), &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 2000, "c", now))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var asked atomic.Int64
	reader := func(look func() error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := look(); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				asked.Add(1)
			}
		})
	}
	reader(func() error { // a BAL that nobody touches is known at every moment
		if dec := d.Decide(ctx, Query{Address: addr(1999), Kind: "ORG"}); dec.Answer != Known {
			return fmt.Errorf("%+v", dec)
		}
		return nil
	})
	reader(func() error {
		found, err := d.Find(ctx, Search{Structure: "1999"})
		if err == nil && len(found.Entries) != 1 {
			err = fmt.Errorf("found %+v", found)
		}
		return err
	})
	reader(func() error { d.Audit([]Own{{Address: addr(1999), Kind: "ORG", Open: true}}); d.Status(); return nil })
	for round := range 3 {
		for i := range 100 {
			c := change{key(i), []*record{rec(fmt.Sprintf("r%d-%d@d.test", round, i), "PER", "1", "N")}}
			if err := d.change(f, []change{c}, nil, now); err != nil {
				t.Fatal(err)
			}
		}
		folded, err := d.fold(f, f.image.Load())
		if err != nil {
			t.Fatal(err)
		}
		d.install(f, folded)
		mustAdopt(t, d, f, whole(t, d, f, 0, 2000, "c", now))
	}
	cancel()
	wg.Wait()
	if asked.Load() == 0 {
		t.Error("nobody asked")
	}
}

// TestDiskFull has a state directory that vanishes under a draft, and one that cannot take the name: nothing is left behind.
func TestDiskFull(t *testing.T) {
	now := morning
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 100, "c0", now))
	if err := os.Remove(imagePath(dir, "ldap")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(imagePath(dir, "ldap")+"/full", 0o700); err != nil { // no file can take this name
		t.Fatal(err)
	}
	if err := os.MkdirAll(previousPath(dir, "ldap")+"/full", 0o700); err != nil {
		t.Fatal(err)
	}
	mustAdopt(t, d, f, whole(t, d, f, 0, 101, "c1", now))
	f.journalBroken = true
	if err := d.change(f, []change{{key(0), nil}}, []byte("c2"), now); err != nil { // folds
		t.Fatal(err)
	}
	if st := d.Status().Feeds[0]; st.NotSaved == "" || st.Rows != 100 || knows(d, addr(0)) || !knows(d, addr(100)) {
		t.Errorf("status: %+v", st)
	}
	if got := files(t, dir); got != "ldap.image ldap.previous" {
		t.Errorf("left behind: %s", got)
	}
}
