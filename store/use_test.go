package store_test

import (
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

func useOf(t *testing.T, s *store.Store, a store.Address) store.Use {
	t.Helper()
	all, err := s.Usage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if b.Address == a {
			return b.Use
		}
	}
	t.Fatalf("no BAL %s", a)
	return store.Use{}
}

// The last login stands in the record of the BAL, at most an hour behind, and survives a start; other events and other BALs
// do not count.
func TestUse(t *testing.T) {
	begin := time.Now().UTC().Truncate(time.Second)
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	storetest.AddBAL(t, s, "b@bal.example", store.ORG)
	if u := useOf(t, s, "a@bal.example"); !u.Last.IsZero() || u.Since.Before(begin) {
		t.Errorf("a new BAL: %+v", u)
	}
	for _, c := range []struct {
		kind  trace.Kind
		bal   string
		after time.Duration
		want  time.Duration // of a@bal.example; 0: none
	}{
		{trace.LoginRefused, "a@bal.example", time.Hour, 0},
		{trace.Login, "b@bal.example", time.Hour, 0},
		{trace.Login, "", time.Hour, 0},
		{trace.Login, "nobody@bal.example", time.Hour, 0},
		{trace.Login, "a@bal.example", time.Hour, time.Hour},
		{trace.Login, "a@bal.example", time.Hour + 59*time.Minute, time.Hour},
		{trace.Login, "a@bal.example", 2 * time.Hour, 2 * time.Hour},
		{trace.Login, "a@bal.example", time.Minute, 2 * time.Hour},
		{trace.Fetched, "a@bal.example", 5 * time.Hour, 5 * time.Hour},
	} {
		s.Record(trace.Event{Kind: c.kind, BAL: c.bal, Person: "local:x", Time: begin.Add(c.after)})
		want := time.Time{}
		if c.want != 0 {
			want = begin.Add(c.want)
		}
		if u := useOf(t, s, "a@bal.example"); !u.Last.Equal(want) {
			t.Errorf("after %v of %s %v later: last %v, want %v", c.kind, c.bal, c.after, u.Last, want)
		}
	}
	before := useOf(t, s, "a@bal.example")
	s.Close()
	opt.Create = false
	s = storetest.Open(t, opt)
	if u := useOf(t, s, "a@bal.example"); u != before {
		t.Errorf("after a start %+v, was %+v", u, before)
	}
}

// The days count from the moment that a BAL becomes active.
func TestSilentSinceActive(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
	storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	state := func(st store.State) {
		t.Helper()
		if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.SetBALState{Address: "a@bal.example", State: st}}}); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-90 * 24 * time.Hour)
	s.Record(trace.Event{Kind: trace.Login, BAL: "a@bal.example", Time: old})
	was := useOf(t, s, "a@bal.example")
	state(store.Active)
	if u := useOf(t, s, "a@bal.example"); u != was {
		t.Errorf("active already: %+v, was %+v", u, was)
	}
	state(store.Suspended)
	b, err := s.BAL("a@bal.example")
	if err != nil || b.Inactive(time.Now().Add(365*24*time.Hour), 30) {
		t.Errorf("a suspended BAL counts as inactive: %v", err)
	}
	state(store.Active)
	b, err = s.BAL("a@bal.example")
	if err != nil || b.Silent().Before(time.Now().Add(-time.Hour)) || b.Inactive(time.Now(), 30) || !b.Inactive(time.Now().AddDate(0, 0, 31), 30) {
		t.Errorf("%+v, %v", b.Use, err)
	}
}

// Records of an index that is older than this learn from the trace, once; what the trace does not reach is not made up.
func TestUseIsLearnt(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	storetest.AddBAL(t, s, "b@bal.example", store.ORG)
	login := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	s.Record(trace.Event{Kind: trace.Login, BAL: "a@bal.example", Time: login})
	useOf(t, s, "a@bal.example")
	s.Close()
	db, err := bolt.Open(filepath.Join(opt.Dir, "index.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		bk := tx.Bucket([]byte("bal"))
		old := map[string][]byte{}
		if err := bk.ForEach(func(k, v []byte) error {
			cut := 37 // time destroyed and what follows it; a time that is none takes 10 octets,
			if k[3] == 1 {
				cut -= 5 // that of the login of BAL 1 takes 5
			}
			old[string(k)] = append([]byte(nil), v[:len(v)-cut]...)
			return nil
		}); err != nil {
			return err
		}
		for k, v := range old {
			if err := bk.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	opt.Create = false
	s = storetest.Open(t, opt)
	b, err := s.BAL("b@bal.example")
	if err != nil || !b.Use.Since.IsZero() || b.Inactive(time.Now().AddDate(9, 0, 0), 1) {
		t.Fatalf("before anything is known: %+v, %v", b.Use, err)
	}
	if u := useOf(t, s, "a@bal.example"); !u.Last.Equal(login) || u.Since.IsZero() {
		t.Errorf("learnt %+v, want the login of %v", u, login)
	}
	if u := useOf(t, s, "b@bal.example"); !u.Last.IsZero() || u.Since.IsZero() {
		t.Errorf("of a BAL without a login: %+v", u)
	}
}

// An index made anew from the bodies knows no login: the days are counted from then on, and nobody is called inactive for what is not
// known. One that is repaired, or copied, knows them.
func TestUseAfterRebuild(t *testing.T) {
	long := func() time.Time { return time.Now().Add(-90 * 24 * time.Hour) }
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: long}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	storetest.Deliver(t, s, b.ID, raw)
	s.Record(trace.Event{Kind: trace.Login, BAL: "a@bal.example"})
	was := useOf(t, s, "a@bal.example")
	s.Close()
	opt.Create, opt.Now = false, nil

	if _, err := store.Repair(ctx, store.RepairOptions{Dir: opt.Dir}); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, opt)
	if u := useOf(t, s, "a@bal.example"); u != was || u.Last.IsZero() {
		t.Errorf("repaired: %+v, was %+v", u, was)
	}
	if b, err := s.BAL("a@bal.example"); err != nil || !b.Inactive(time.Now(), 30) {
		t.Errorf("repaired, and not known to be inactive: %v", err)
	}
	s.Close()

	if _, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true}); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, opt)
	u := useOf(t, s, "a@bal.example")
	b, err := s.BAL("a@bal.example")
	if err != nil || !u.Last.IsZero() || time.Since(u.Since) > time.Hour || b.Inactive(time.Now(), 30) || !b.Inactive(time.Now().AddDate(0, 0, 31), 30) {
		t.Errorf("rebuilt: %+v, %v", u, err)
	}
}
