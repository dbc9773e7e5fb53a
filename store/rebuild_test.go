package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// inboxOf are the octets of the messages in an INBOX, in the order of UIDs.
func inboxOf(t *testing.T, s *store.Store, bal store.BALID) (bodies []string) {
	t.Helper()
	for _, r := range rows(t, s, box(t, s, bal, "INBOX").Ref) {
		bodies = append(bodies, read(t, s, bal, r.Message))
	}
	return bodies
}

// deliverTo stores one body for some BALs.
func deliverTo(t *testing.T, s *store.Store, body string, bals ...store.BAL) store.MessageID {
	t.Helper()
	var ops []store.Op
	for _, b := range bals {
		ops = append(ops, store.AddMessage{Ref: box(t, s, b.ID, "INBOX").Ref, Prefix: []byte("Return-Path: <>\r\n"), Delivery: true})
	}
	res, err := s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(t, s, body), Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return res.ID
}

func letterTo(n int) string {
	return fmt.Sprintf("Subject: lettre %d\r\nMessage-ID: <l%d@labo.example>\r\n\r\n%s", n, n, strings.Repeat("Bonjour.\r\n", n*n%9000))
}

// TestRebuild takes index.db and meta.db away: INBOX of each BAL is made again from bodies and keys.
func TestRebuild(t *testing.T) {
	for _, damage := range []string{"gone", "empty", "spoilt"} {
		t.Run(damage, func(t *testing.T) { testRebuild(t, damage) })
	}
}

func testRebuild(t *testing.T, damage string) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	a, b, c := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.PER), storetest.AddBAL(t, s, "c@other.example", store.APP)
	want := map[store.Address][]string{}
	var ids []store.MessageID
	validity := box(t, s, a.ID, "INBOX").UIDValidity
	const destroyed = "gone@bal.example"
	storetest.Deliver(t, s, storetest.AddBAL(t, s, destroyed, store.ORG).ID, raw)
	do(t, s, store.SetBALState{Address: destroyed, State: store.Closed})
	if _, err := s.DestroyBAL(ctx, destroyed); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		to := [][]store.BAL{{a}, {b}, {a, b, c}, {c}}[i%4]
		ids = append(ids, deliverTo(t, s, letterTo(i), to...))
		for _, x := range to {
			want[x.Address] = append(want[x.Address], letterTo(i))
		}
	}
	dates := map[store.MessageID]time.Time{}
	for _, r := range rows(t, s, box(t, s, a.ID, "INBOX").Ref) {
		dates[r.Message] = r.Date
	}
	s.Close()
	if _, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir}); !errors.Is(err, store.ErrReadable) {
		t.Fatalf("rebuild of a sound store: %v, want ErrReadable", err)
	}

	// Two bodies are damaged, one is foreign.
	index := filepath.Join(opt.Dir, "index.db")
	body := func(i int) string { return filepath.Join(opt.Dir, store.BodyFile(ids[i])) }
	if err := os.Truncate(body(4), 30); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(body(9))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(body(8), foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{4, 8} { // both were a's: 0, 2, 4, 6, 8 of them
		want[a.Address] = slices.Delete(want[a.Address], n/2-i, n/2-i+1)
	}
	switch damage {
	case "gone":
		err = os.Remove(index)
	case "empty":
		err = os.Truncate(index, 0)
	default:
		err = overwrite(index, 0xff)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(opt.Dir, "meta.db"))
	if _, err := store.Open(store.Options{Dir: opt.Dir}); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "--rebuild") {
		t.Errorf("open: %v; want ErrCorrupt with the way out", err)
	}

	// The body of the destroyed BAL may be removed already.
	all, _ := filepath.Glob(filepath.Join(opt.Dir, "blobs", "*", "*"))
	theirs := len(all) - 60
	done := int64(0)
	out, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Progress: func(_ string, n, total int64) { done = n }})
	if err != nil {
		t.Fatal(err)
	}
	if out.BALs != 3 || out.Bodies != 58 || out.Messages != 88 || out.LostCount != 2+theirs || len(out.Lost) != 2+theirs || out.Destroyed != 1 || (out.Kept != "") != (damage != "gone") || done != 60+int64(theirs) {
		t.Errorf("%+v, progress to %d", out, done)
	}
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	for _, was := range []store.BAL{a, b, c} {
		now, err := s.BAL(was.Address)
		if err != nil || now.ID != was.ID || now.Kind != was.Kind || now.State != store.Active || !now.Created.Equal(was.Created) {
			t.Errorf("%+v, %v; it was %+v", now, err, was)
		}
		if got := inboxOf(t, s, was.ID); !slices.Equal(got, want[was.Address]) {
			t.Errorf("%s: %d messages, want %d", was.Address, len(got), len(want[was.Address]))
		}
		if boxes, err := s.Mailboxes(was.ID); err != nil || len(boxes) != 6 {
			t.Errorf("%s: mailboxes %v, %v", was.Address, boxes, err)
		}
	}
	if bal, err := s.BAL(destroyed); err != nil || bal.State != store.Destroyed {
		t.Errorf("the destroyed BAL: %+v, %v", bal, err)
	}
	if v := box(t, s, a.ID, "INBOX").UIDValidity; v <= validity {
		t.Errorf("UIDVALIDITY %d, it was %d", v, validity)
	}
	// Backups of before are not known any more: nothing is called shredded before the operator says that there are none.
	if d, err := s.Doom(destroyed); err != nil || d.Shredded() || len(d.Backups) != 1 {
		t.Errorf("the destroyed BAL counts as shredded: %+v, %v", d, err)
	} else if do(t, s, store.ForgetBackup{ID: d.Backups[0].ID}); true {
		if d, err := s.Doom(destroyed); err != nil || !d.Shredded() {
			t.Errorf("no backup is left, and it is not shredded: %+v, %v", d, err)
		}
	}
	for _, r := range rows(t, s, box(t, s, a.ID, "INBOX").Ref) {
		if d := r.Date.Sub(dates[r.Message]).Abs(); d > 2*time.Second {
			t.Errorf("date of a message is off by %v", d)
		}
	}
	// It is a store like any other: what comes now has a greater id, and what was lost lies there still.
	id, _ := storetest.Deliver(t, s, a.ID, raw)
	if id <= ids[len(ids)-1] {
		t.Error("a new message has an old number")
	}
	storetest.AddBAL(t, s, "d@bal.example", store.ORG)
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	if lost, _ := filepath.Glob(filepath.Join(opt.Dir, "lost", "*")); len(lost) != 2+theirs {
		t.Errorf("in lost: %v", lost)
	}
	if got := inboxOf(t, s, b.ID); !slices.Equal(got, want[b.Address]) {
		t.Errorf("after another start: %d messages, want %d", len(got), len(want[b.Address]))
	}
}

// TestRebuildInterrupted breaks the work off at each step: the next run ends it, with the same outcome.
func TestRebuildInterrupted(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.PER)
	var want []string
	var ids []store.MessageID
	for i := range 50 {
		ids = append(ids, deliverTo(t, s, letterTo(i), a, b))
		want = append(want, letterTo(i))
	}
	s.Close()
	os.Remove(filepath.Join(opt.Dir, "index.db"))
	os.Truncate(filepath.Join(opt.Dir, store.BodyFile(ids[20])), 5)
	want = slices.Delete(want, 20, 21)
	for steps := 1; ; steps++ {
		c, cancel := context.WithCancel(ctx)
		n := 0
		out, err := store.RebuildBy(c, store.RebuildOptions{Dir: opt.Dir, Progress: func(string, int64, int64) {
			if n++; n == 3 { // a page, and then another one
				cancel()
			}
		}}, 7)
		cancel()
		if err == nil {
			if steps < 3 {
				t.Errorf("it was never broken off: %d runs", steps)
			}
			if out.BALs != 2 || out.Bodies != 49 || out.Messages != 98 || out.LostCount != 1 {
				t.Errorf("%+v", out)
			}
			break
		}
		if !errors.Is(err, context.Canceled) || steps > 30 {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(opt.Dir, "index.db")); err == nil {
			t.Error("a half made index.db is in its place")
		}
	}
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	for _, bal := range []store.BALID{a.ID, b.ID} {
		if got := inboxOf(t, s, bal); !slices.Equal(got, want) {
			t.Errorf("BAL %d: %d messages, want %d", bal, len(got), len(want))
		}
	}
}

// TestRebuildKeepsOthersOut refuses while a daemon has the store, and goes over a slot that does not open.
func TestRebuildKeepsOthersOut(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.PER)
	deliverTo(t, s, letterTo(1), a)
	deliverTo(t, s, letterTo(2), a, b)
	onlyB := deliverTo(t, s, letterTo(3), b)
	if _, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("rebuild of a store in use: %v, want ErrLocked", err)
	}
	s.Close()
	back := spoilSlot(t, opt.Dir, b.ID)
	out, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if out.BALs != 1 || out.Messages != 2 || out.LostCount != 1 || !slices.Equal(out.Unopened, []uint32{uint32(b.ID)}) || out.Lost[0].ID != onlyB {
		t.Errorf("%+v", out)
	}
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	if got := inboxOf(t, s, a.ID); len(got) != 2 {
		t.Errorf("%d messages, want 2", len(got))
	}
	s.Close()
	back() // the file of keys comes back from a backup
	out, err = store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true})
	if err != nil || out.BALs != 2 || out.Messages != 4 || out.LostCount != 0 {
		t.Errorf("with the keys of before: %+v, %v", out, err)
	}
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	if got := inboxOf(t, s, b.ID); len(got) != 2 {
		t.Errorf("%d messages, want 2", len(got))
	}
}

// BenchmarkRebuild makes an index from 20,000 bodies.
func BenchmarkRebuild(b *testing.B) {
	const bodies, bals = 20_000, 20
	opt := store.Options{Dir: filepath.Join(b.TempDir(), "s"), Create: true, NoSync: true}
	s, err := store.Open(opt)
	if err != nil {
		b.Fatal(err)
	}
	var boxes []store.Ref
	for i := range bals {
		bal := storetest.AddBAL(b, s, store.Address(fmt.Sprintf("b%d@bal.example", i)), store.ORG)
		in, _ := s.Mailbox(bal.ID, "INBOX")
		boxes = append(boxes, in.Ref)
	}
	for i := range bodies {
		if _, err := tryDeliver(s, boxes[i%bals], letterTo(500)); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
	for b.Loop() {
		out, err := store.Rebuild(ctx, store.RebuildOptions{Dir: opt.Dir, Force: true})
		if err != nil || out.Bodies != bodies {
			b.Fatal(out, err)
		}
	}
	b.ReportMetric(bodies*float64(b.N)/b.Elapsed().Seconds(), "bodies/s")
}
