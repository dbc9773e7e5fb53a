// Package storetest opens stores for tests: each is checked when the test ends. Only tests import it.
package storetest

import (
	"context"
	"path/filepath"
	"testing"

	"mssd/message"
	"mssd/store"
)

// New opens a new store in a directory of the test. When the test ends it is checked, and closed.
func New(t testing.TB) *store.Store {
	t.Helper()
	return Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "store"), Create: true, RetainExpunged: -1})
}

// Open opens a store. When the test ends it is checked, unless it failed or was closed, and closed.
func Open(t testing.TB, opt store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.Err() == nil {
			Check(t, s)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close of the store: %v", err)
		}
	})
	return s
}

// Check fails the test for each broken invariant. A store that is closed already is left alone.
func Check(t testing.TB, s *store.Store) {
	t.Helper()
	if s.Closed() {
		return
	}
	problems, err := s.Check(context.Background())
	if err != nil {
		t.Errorf("check of the store: %v", err)
	}
	for _, p := range problems {
		t.Errorf("check of the store: %v", p)
	}
}

// AddBAL creates an active, published BAL without quota.
func AddBAL(t testing.TB, s *store.Store, addr store.Address, kind store.Kind) store.BAL {
	t.Helper()
	_, err := s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.PutBAL{Create: true,
		BAL: store.BAL{Address: addr, Kind: kind, State: store.Active, Listing: store.Published}}}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.BAL(addr)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Deliver puts raw into the INBOX of a BAL.
func Deliver(t testing.TB, s *store.Store, bal store.BALID, raw string) (store.MessageID, store.UID) {
	t.Helper()
	inbox, err := s.Mailbox(bal, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	b := NewBlob(t, s, raw)
	res, err := s.Commit(context.Background(), &store.Batch{Blob: b,
		Ops: []store.Op{store.AddMessage{Ref: inbox.Ref, Prefix: []byte("Return-Path: <>\r\n"), Delivery: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return res.ID, res.Ops[0].New[0].First
}

// NewBlob is a finished, scanned body.
func NewBlob(t testing.TB, s *store.Store, raw string) *store.Blob {
	t.Helper()
	b, err := s.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	sc := message.NewScanner()
	if _, err := sc.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	meta, text := sc.Finish()
	if err := b.Finish(meta, text); err != nil {
		t.Fatal(err)
	}
	return b
}
