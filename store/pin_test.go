package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// TestPinGivesUp: who wants to read all bodies while a removal waits for the disk can go away.
func TestPinGivesUp(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, RetainExpunged: -1})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	storetest.Deliver(t, s, b.ID, raw)
	expunge(t, s, box(t, s, b.ID, "INBOX").Ref, one(1))
	let := s.HoldRemoval()
	defer let()
	swept := make(chan error)
	go func() { _, err := s.Sweep(ctx, false); swept <- err }()
	eventually(t, "the sweep removes a body", func() bool { return s.Removing() })
	c, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := s.VerifyBodies(c, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading the bodies: %v, want that it was given up", err)
	}
	let()
	if err := <-swept; err != nil {
		t.Error(err)
	}
	if p, err := s.VerifyBodies(ctx, nil); err != nil || len(p) > 0 {
		t.Errorf("afterwards: %v %v", p, err)
	}
}

// TestMomentOfFailedStore: a store that was given up while its committer hangs answers who wants a moment of it at once.
func TestMomentOfFailedStore(t *testing.T) {
	s, err := store.Open(store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	release := s.HoldCommitter()
	answer := make(chan error)
	go func() { _, err := s.Moment(ctx, nil); answer <- err }()
	s.Fail(errors.New("the disk went away"))
	select {
	case err := <-answer:
		if !errors.Is(err, store.ErrFailed) {
			t.Errorf("%v, want ErrFailed", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("no answer")
	}
	release(0)
	s.Close()
}
