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

// TestReplicaAbsent: a body that could not be had when its commit came is known as absent over a new opening, until its
// messages are gone; and no file is left of a body whose removal was lost in a kill.
func TestReplicaAbsent(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, RetainExpunged: -1}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	there, _ := storetest.Deliver(t, s, b.ID, raw)
	f, err := s.Follow(s.Commits())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := filepath.Join(t.TempDir(), "copy")
	copyStore(t, s, dir)
	was, err := os.ReadFile(filepath.Join(dir, store.BodyFile(there)))
	if err != nil {
		t.Fatal(err)
	}
	missing, _ := storetest.Deliver(t, s, b.ID, raw)
	applied := func(body func(store.MessageID) (io.ReadCloser, error)) (absent int) {
		t.Helper()
		r, err := store.OpenReplica(dir)
		if err != nil {
			t.Fatal(err)
		}
		for r.Commits() < s.Commits() {
			c, err := f.Next(ctx)
			if err == nil {
				err = r.Apply(c, body)
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Removed) > 0 { // what a kill right behind the commit leaves
				path := filepath.Join(dir, store.BodyFile(there))
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, was, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err = store.OpenReplica(dir); err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return r.Absent()
	}
	gone := func(store.MessageID) (io.ReadCloser, error) { return nil, os.ErrNotExist }
	if n := applied(gone); n != 1 {
		t.Errorf("after a new opening %d bodies are absent, want 1", n)
	}
	path := filepath.Join(dir, store.BodyFile(missing))
	whole, err := os.ReadFile(filepath.Join(s.Dir(), store.BodyFile(missing)))
	if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, whole, 0o600)); err != nil {
		t.Fatal(err)
	}
	if n := applied(gone); n != 0 {
		t.Errorf("the body was brought in, but %d are absent", n)
	}
	third, _ := storetest.Deliver(t, s, b.ID, raw)
	if n := applied(gone); n != 1 {
		t.Errorf("%d bodies are absent, want %s alone", n, third)
	}
	expunge(t, s, box(t, s, b.ID, "INBOX").Ref, []store.Run{{First: 1, Count: 3}})
	for range 3 {
		sweep(t, s)
	}
	if n := applied(gone); n != 0 {
		t.Errorf("their messages are gone, but %d bodies are absent", n)
	}
	if left := bodies(t, dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "state", "absent-*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	storetest.Open(t, store.Options{Dir: dir})
}
