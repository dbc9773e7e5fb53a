package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

func be8(id store.MessageID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

// TestSweepGoesPastDead damages some of the dead: they alone stay, the sweep and fsck say so, and a later sweep takes
// what was mended.
func TestSweepGoesPastDead(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, RetainExpunged: -1}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	var ids []store.MessageID
	for range 250 { // more than one page
		id, _ := storetest.Deliver(t, s, b.ID, raw)
		ids = append(ids, id)
	}
	expunge(t, s, in, []store.Run{{First: 1, Count: 250}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(opt.Dir, store.BodyFile(ids[200]))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Remove(blocked))
	must(os.MkdirAll(filepath.Join(blocked, "in the way"), 0o700))
	changeIndex(t, opt.Dir, func(tx *bolt.Tx) error {
		blobs, dead := tx.Bucket([]byte("blob")), tx.Bucket([]byte("dead"))
		return errors.Join(blobs.Delete(be8(ids[0])), blobs.Put(be8(ids[1]), []byte{0xff}),
			dead.Put([]byte{0}, []byte{1}), dead.Put(bytes.Repeat([]byte{0}, 20), []byte{1}))
	})
	opt.Create = false
	s, err := store.Open(opt)
	must(err)
	defer s.Close()
	if _, err := s.Sweep(ctx, false); err == nil || !strings.Contains(err.Error(), "3 passed over") || !strings.Contains(err.Error(), ids[0].String()) {
		t.Errorf("the sweep says: %v", err)
	}
	if n := bodyFiles(opt.Dir); n != 3 {
		t.Errorf("%d files are left, want the 3 that are damaged", n)
	}
	if err := s.SweepFault(); err == nil {
		t.Error("nothing is said of the sweep")
	}
	problems, err := s.Check(ctx)
	must(err)
	for _, id := range ids[:2] {
		found := false
		for _, p := range problems {
			found = found || strings.Contains(p.Text, id.String())
		}
		if !found {
			t.Errorf("fsck does not name %s: %v", id, problems)
		}
	}
	must(os.RemoveAll(blocked))
	if _, err := s.Sweep(ctx, false); err == nil || !strings.Contains(err.Error(), "2 passed over") {
		t.Errorf("the second sweep says: %v", err)
	}
}

// TestSweepGoesPastExpunged does the same with records of expunged messages.
func TestSweepGoesPastExpunged(t *testing.T) {
	clk := newClock()
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now}
	s := storetest.Open(t, opt)
	a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.ORG)
	for _, bal := range []store.BALID{a.ID, b.ID} {
		in := box(t, s, bal, "INBOX").Ref
		fill(t, s, in, 4, store.Deleted)
		do(t, s, store.Expunge{Ref: in, Runs: []store.Run{{First: 1, Count: 4}}})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	swapRecord(t, opt.Dir, "expunged", a.ID, func(v []byte) []byte { return v[:3] })
	changeIndex(t, opt.Dir, func(tx *bolt.Tx) error {
		e := tx.Bucket([]byte("expunged"))
		return errors.Join(e.Put([]byte{0, 0, 0, 1}, []byte{1}), e.Put([]byte{0, 0, 0, 2, 9}, []byte{1}))
	})
	opt.Create = false
	s, err := store.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, _, err := s.CountExpunged(a.ID); n != 3 || err != nil {
		t.Errorf("%d messages can come back, want 3: %v", n, err)
	}
	clk.add(24 * time.Hour)
	for range 8 { // a clock that goes on as it should
		_, err = s.Sweep(ctx, false)
		clk.add(24 * time.Hour)
	}
	if err == nil || !strings.Contains(err.Error(), "1 passed over") {
		t.Errorf("the sweep says: %v", err)
	}
	for _, bal := range []store.BALID{a.ID, b.ID} {
		if l := expunged(t, s, bal); len(l) != 0 {
			t.Errorf("BAL %d: %d expunged messages are left", bal, len(l))
		}
	}
	if n := bodyFiles(opt.Dir); n != 1 {
		t.Errorf("%d bodies are left, want the one of the damaged record", n)
	}
}
