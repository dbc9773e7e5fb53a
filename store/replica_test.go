package store_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// TestReplicaBrokenOff breaks a commit off in the middle of its bodies: the copy holds nothing of it, takes it when it
// comes again, and is a sound store when it does not.
func TestReplicaBrokenOff(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	storetest.Deliver(t, s, b.ID, raw)
	f, err := s.Follow(s.Commits())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, never := filepath.Join(t.TempDir(), "again"), filepath.Join(t.TempDir(), "never")
	copyStore(t, s, again)
	copyStore(t, s, never)
	before, c := twoBodies(t, s, b.ID, f)
	body := func(id store.MessageID) (io.ReadCloser, error) {
		return os.Open(filepath.Join(s.Dir(), store.BodyFile(id)))
	}
	for _, dir := range []string{again, never} {
		r, err := store.OpenReplica(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range before {
			if err := r.Apply(c, body); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		err = r.Apply(c, func(id store.MessageID) (io.ReadCloser, error) {
			if n++; n == 2 {
				return nil, errInjected
			}
			return body(id)
		})
		if !errors.Is(err, errInjected) || r.Commits() != c.Number-1 {
			t.Errorf("%v, at commit %d, want %d", err, r.Commits(), c.Number-1)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if got := len(bodies(t, dir)); got != 2 {
			t.Errorf("%d bodies after the first of two came, want 2", got)
		}
	}
	r, err := store.OpenReplica(again)
	if err == nil {
		err = errors.Join(r.Apply(c, body), r.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]int{again: 3, never: 1} {
		s := storetest.Open(t, store.Options{Dir: dir})
		if got := len(bodies(t, dir)); got != want || int(box(t, s, b.ID, "INBOX").Messages) != want {
			t.Errorf("%d bodies and %d messages, want %d", got, box(t, s, b.ID, "INBOX").Messages, want)
		}
		storetest.Deliver(t, s, b.ID, raw)
	}
}

// twoBodies makes two deliveries in one commit, and yields it with those before.
func twoBodies(t *testing.T, s *store.Store, bal store.BALID, f *store.Follower) (before []*store.Commit, two *store.Commit) {
	t.Helper()
	in := box(t, s, bal, "INBOX").Ref
	release := s.HoldCommitter()
	done := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := tryDeliver(s, in, raw)
			done <- err
		}()
	}
	release(2)
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := f.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Stored) == 2 {
			return before, c
		}
		before = append(before, c)
	}
}
