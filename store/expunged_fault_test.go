package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// TestExpungedFaults breaks off a commit at each act, written and not: every message is then a row, or can come back, or
// is gone with its body; never two of these, never none.
func TestExpungedFaults(t *testing.T) {
	type world struct {
		s    *store.Store
		bal  store.BAL
		in   store.Ref
		clk  *clock
		list []store.Expunged
	}
	for name, act := range map[string]func(w *world) error{
		"expunge": func(w *world) error {
			return w.s.Expunge(ctx, store.Expunge{Ref: w.in, Runs: []store.Run{{First: 1, Count: 9}}})
		},
		"undelete": func(w *world) error {
			_, err := w.s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Undelete{BAL: w.bal.ID, Which: ids(w.list)}}})
			return err
		},
		"delete": func(w *world) error {
			m, err := w.s.Mailbox(w.bal.ID, "Archive")
			if err != nil {
				return err
			}
			_, err = w.s.Commit(ctx, &store.Batch{Ops: []store.Op{store.DeleteMailbox{Ref: m.Ref}}})
			return err
		},
		"sweep": func(w *world) error { w.clk.add(40 * time.Hour); _, err := w.s.Sweep(ctx, false); return err },
	} {
		for _, written := range []bool{false, true} {
			for after := range 4 {
				t.Run(fmt.Sprintf("%s/written=%v/after=%d", name, written, after), func(t *testing.T) {
					clk := newClock()
					opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now, RetainExpunged: 24 * time.Hour, Retention: map[string]uint32{`\Archive`: 1}}
					s, err := store.Open(opt)
					if err != nil {
						t.Fatal(err)
					}
					w := &world{s: s, clk: clk}
					w.bal = storetest.AddBAL(t, s, "a@bal.example", store.ORG)
					w.in = box(t, s, w.bal.ID, "INBOX").Ref
					fill(t, s, w.in, 4, store.Deleted)
					fill(t, s, box(t, s, w.bal.ID, "Archive").Ref, 2, 0)
					storetest.Deliver(t, s, w.bal.ID, raw)
					expunge(t, s, w.in, []store.Run{{First: 4, Count: 2}})
					w.list = expunged(t, s, w.bal.ID)
					sweep(t, s)
					failCommit(s, after, written)
					err = act(w)
					s.Close()
					if name == "sweep" {
						clk.add(-40 * time.Hour) // or the start would go on with it
					}
					s = storetest.Open(t, opt)
					total := 0
					boxes, _ := s.Mailboxes(w.bal.ID)
					for _, m := range boxes {
						for _, r := range rows(t, s, m.Ref) {
							read(t, s, w.bal.ID, r.Message)
							total++
						}
					}
					for _, e := range expunged(t, s, w.bal.ID) {
						read(t, s, w.bal.ID, e.Message)
						total++
					}
					if name == "sweep" && err != nil && total != 7 && total != 5 || name == "sweep" && err == nil && total != 5 || name != "sweep" && total != 7 {
						t.Errorf("%d messages are there; the act said %v", total, err)
					}
					if after == 0 && !errors.Is(err, store.ErrFailed) {
						t.Errorf("the act said %v", err)
					}
				})
			}
		}
	}
}

// TestRemoveInterrupted: a file cannot be removed, and the process ends: the next sweep does it.
func TestRemoveInterrupted(t *testing.T) {
	clk := newClock()
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now, RetainExpunged: time.Hour}
	f := &fault{op: "remove"}
	s, err := store.OpenWith(opt, func(fs store.FileSystem) store.FileSystem { return removeFS{faultFS{fs, f}} })
	if err != nil {
		t.Fatal(err)
	}
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	fill(t, s, in, 2, store.Deleted)
	do(t, s, store.Expunge{Ref: in, Runs: []store.Run{{First: 1, Count: 2}}})
	clk.add(2 * time.Hour)
	f.armed = true
	if _, err := s.Sweep(context.Background(), false); !errors.Is(err, errInjected) || bodyFiles(opt.Dir) != 1 {
		t.Fatalf("%v, %d bodies", err, bodyFiles(opt.Dir))
	}
	s.Close()
	s = storetest.Open(t, opt)
	sweep(t, s)
	if n := bodyFiles(opt.Dir); n != 0 {
		t.Errorf("%d bodies stay after the next sweep", n)
	}
}

type removeFS struct{ faultFS }

func (x removeFS) Remove(p string) error {
	return x.f.run("remove", func() error { return x.FileSystem.Remove(p) })
}
