package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// leaveRebuilt runs a rebuild to its end but for the swap, which fails, or breaks it off after some bodies; what it made
// is left behind.
func leaveRebuilt(t *testing.T, dir string, toEnd bool) {
	t.Helper()
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	opt := store.RebuildOptions{Dir: dir, Force: true}
	inTheWay := filepath.Join(dir, "meta.db")
	if toEnd { // a folder that is not empty cannot be removed
		os.Remove(inTheWay)
		if err := errors.Join(os.Mkdir(inTheWay, 0o700), os.WriteFile(filepath.Join(inTheWay, "x"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	} else {
		n := 0
		opt.Progress = func(string, int64, int64) {
			if n++; n == 2 {
				cancel()
			}
		}
	}
	_, err := store.RebuildBy(c, opt, 2)
	if err == nil || !toEnd && !errors.Is(err, context.Canceled) {
		t.Fatalf("the rebuild was to fail: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "rebuild.db")); err != nil {
		t.Fatal(err)
	}
	if toEnd {
		os.RemoveAll(inTheWay)
	}
}

// TestRebuildLeftBehind: a rebuild fails at its end, or is broken off, and the store goes into use all the same. The next
// rebuild knows what came since, and what went.
func TestRebuildLeftBehind(t *testing.T) {
	for _, c := range []struct {
		name  string
		toEnd bool
		use   string
		away  bool // the index is away at each rebuild
	}{
		{"ended, then mail", true, "mail", false},
		{"ended, then mail, without an index", true, "mail", true},
		{"ended, then a BAL with mail", true, "bal", false},
		{"ended, then a body went", true, "remove", true},
		{"ended, not used", true, "", false},
		{"broken off, then a BAL with mail", false, "bal", false},
		{"broken off, then mail, without an index", false, "mail", true},
		{"broken off, then a BAL is destroyed", false, "destroy", false},
		{"broken off, then a body went", false, "remove", true},
		{"broken off, not used", false, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, RetainExpunged: -1}
			s := storetest.Open(t, opt)
			a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.PER)
			want := map[store.Address][]string{}
			deliver := func(n int, to store.BAL) {
				deliverTo(t, s, letterTo(n), to)
				want[to.Address] = append(want[to.Address], letterTo(n))
			}
			for n := range 6 {
				deliver(n, []store.BAL{a, b}[n%2])
			}
			index, kept := filepath.Join(opt.Dir, "index.db"), filepath.Join(t.TempDir(), "index.db")
			away := func(from, to string) {
				s.Close()
				if c.away {
					if err := os.Rename(from, to); err != nil {
						t.Fatal(err)
					}
				}
			}
			away(index, kept)
			leaveRebuilt(t, opt.Dir, c.toEnd)
			away(kept, index)
			s = storetest.Open(t, opt)
			switch c.use {
			case "mail":
				deliver(20, a)
			case "bal":
				deliver(21, storetest.AddBAL(t, s, "c@bal.example", store.ORG))
			case "destroy":
				do(t, s, store.SetBALState{Address: b.Address, State: store.Closed})
				if _, err := s.DestroyBAL(ctx, b.Address); err != nil {
					t.Fatal(err)
				}
				delete(want, b.Address)
			case "remove":
				in := box(t, s, a.ID, "INBOX").Ref
				do(t, s, store.StoreFlags{Ref: in, Runs: one(1), Mode: store.Add, Flags: store.Deleted}, store.Expunge{Ref: in, Runs: one(1)})
				if _, err := s.Sweep(ctx, true); err != nil {
					t.Fatal(err)
				}
				want[a.Address] = want[a.Address][1:]
			}
			away(index, kept+"2")
			out, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true})
			if err != nil {
				t.Fatal(err)
			}
			s = storetest.Open(t, store.Options{Dir: opt.Dir})
			total := 0
			for addr, bodies := range want {
				bal, err := s.BAL(addr)
				if err != nil {
					t.Fatal(err)
				}
				if got := inboxOf(t, s, bal.ID); !slices.Equal(got, bodies) {
					t.Errorf("%s: %d messages, want %d", addr, len(got), len(bodies))
				}
				total += len(bodies)
			}
			if out.BALs != len(want) || out.Messages != total || out.Bodies != total {
				t.Errorf("%+v, want %d BALs and %d messages", out, len(want), total)
			}
			if c.use == "destroy" {
				if bal, err := s.BAL(b.Address); err != nil || bal.State != store.Destroyed {
					t.Errorf("the destroyed BAL: %+v, %v", bal, err)
				}
			}
		})
	}
}

// TestRebuildUnusedSlot: the slot of a BAL is durable before the index names it; a kill between leaves one that nobody was
// told of. Its address is never given to another one, and no mail is taken for it before the operator says so; nor is
// any refused for good, for a BAL without mail looks the same.
func TestRebuildUnusedSlot(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	deliverTo(t, s, letterTo(1), a)
	s.Close()
	index := filepath.Join(opt.Dir, "index.db")
	before, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, opt)
	begun := storetest.AddBAL(t, s, "begun@bal.example", store.PER)
	s.Close()
	// As a kill between the slot and the commit leaves it.
	if err := os.WriteFile(index, before, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true})
	if err != nil || !slices.Equal(out.Empty, []store.Address{begun.Address}) {
		t.Fatalf("%+v, %v; want %s named", out, err, begun.Address)
	}
	s = storetest.Open(t, opt)
	if bal, err := s.BAL(begun.Address); err != nil || bal.State != store.Suspended || bal.ID != begun.ID {
		t.Errorf("%+v, %v; want it suspended", bal, err)
	}
	if bal, err := s.BAL(a.Address); err != nil || bal.State != store.Active {
		t.Errorf("%+v, %v; want it active", bal, err)
	}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutBAL{Create: true, BAL: store.BAL{Address: begun.Address, Kind: store.ORG, State: store.Active, Listing: store.Published}}}}); !errors.Is(err, store.ErrBALExists) {
		t.Errorf("its address for another BAL: %v, want ErrBALExists", err)
	}
	do(t, s, store.SetBALState{Address: begun.Address, State: store.Active})
	deliverTo(t, s, letterTo(2), begun)
}

// TestRebuildReadFault: a body that cannot be opened for a reason that is not the body's ends the run; it is not lost.
func TestRebuildReadFault(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	var ids []store.MessageID
	for n := range 3 {
		ids = append(ids, deliverTo(t, s, letterTo(n), a))
	}
	s.Close()
	body := filepath.Join(opt.Dir, store.BodyFile(ids[1]))
	if err := errors.Join(os.Rename(body, body+".away"), os.Symlink(filepath.Base(body), body)); err != nil { // ELOOP
		t.Fatal(err)
	}
	if _, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true}); err == nil || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a body that cannot be opened: %v, want an error that is none of the body", err)
	}
	if _, err := os.Lstat(body); err != nil {
		t.Errorf("it was moved away: %v", err)
	}
	if err := os.Rename(body+".away", body); err != nil {
		t.Fatal(err)
	}
	if out, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true}); err != nil || out.Messages != 3 || out.LostCount != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	storetest.Open(t, store.Options{Dir: opt.Dir})
}

// TestRebuildTornFile: a power cut while rebuild.db was made leaves one without a list of free pages; it is made anew.
func TestRebuildTornFile(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	deliverTo(t, s, letterTo(1), storetest.AddBAL(t, s, "a@bal.example", store.ORG))
	s.Close()
	path := filepath.Join(opt.Dir, "rebuild.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	page := int64(db.Info().PageSize)
	db.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 2*page), 2*page) // behind the two heads
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true})
	if err != nil || out.Messages != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	storetest.Open(t, store.Options{Dir: opt.Dir})
}
