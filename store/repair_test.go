package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// wideStore has something of everything; it yields what each BAL holds, by octets.
func wideStore(t *testing.T, dir string, messages int) {
	t.Helper()
	s, err := store.Open(store.Options{Dir: dir, Create: true, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	var bals []store.BAL
	for i := range 3 {
		b := storetest.AddBAL(t, s, store.Address(fmt.Sprintf("b%d@bal.example", i)), store.ORG)
		do(t, s, store.PutMember{Address: b.Address, Member: store.Member{ID: "local:a", Role: store.Owner, PasswordHash: "$x"}},
			store.CreateMailbox{BAL: b.ID, Name: "Ordonnances/2026"})
		bals = append(bals, b)
	}
	for i := range messages {
		to := bals[i%3 : i%3+1]
		if i%4 == 0 {
			to = bals
		}
		deliverTo(t, s, letterTo(i), to...)
	}
	for _, b := range bals {
		in, sub := box(t, s, b.ID, "INBOX"), box(t, s, b.ID, "Ordonnances/2026")
		all := []store.Run{{First: 1, Count: 1 << 31}}
		do(t, s, store.StoreFlags{Ref: in.Ref, Runs: []store.Run{{First: 2, Count: 2}}, Mode: store.Add, Flags: store.Seen, Keywords: []string{"Vu"}},
			store.Copy{From: in.Ref, Runs: []store.Run{{First: 1, Count: 3}}, To: sub.Ref},
			store.StoreFlags{Ref: in.Ref, Runs: one(1), Mode: store.Add, Flags: store.Deleted, Keywords: []string{"x", "y"}},
			store.Expunge{Ref: in.Ref, Runs: all},
			store.Move{From: in.Ref, Runs: one(4), To: box(t, s, b.ID, "Archive").Ref})
		if _, err := deliverOnce(s, in.Ref, byte(b.ID), "unconfirmed"); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		s.Record(trace.Event{Kind: trace.Login})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyWide copies a store that is closed.
func copyWide(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"keys", "master.key", "index.db", "meta.db"} {
		_ = os.Chmod(filepath.Join(to, f), 0o600)
	}
	for _, d := range []string{"blobs", "spool", "state", "trace", ""} {
		_ = os.Chmod(filepath.Join(to, d), 0o700)
	}
}

// everything is each message of a store: octets, by BAL.
func everything(t *testing.T, s *store.Store) map[store.Address]map[string]int {
	t.Helper()
	all := map[store.Address]map[string]int{}
	for _, b := range s.BALs() {
		all[b.Address] = map[string]int{}
		boxes, err := s.Mailboxes(b.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range boxes {
			if !m.Created {
				continue
			}
			for _, r := range rows(t, s, m.Ref) {
				// What delivery puts before a message is not in its body.
				all[b.Address][strings.TrimPrefix(read(t, s, b.ID, r.Message), "Return-Path: <>\r\n")]++
			}
		}
	}
	return all
}

// damage changes one record in one of many ways; it says which.
func damageRecord(t *testing.T, dir string, rnd *rand.Rand) (what string) {
	t.Helper()
	buckets := []string{"sys", "bal", "member", "mailbox", "sub", "row", "gone", "prefix", "blob", "dead", "keywords", "once", "trace", "expunged", "annotation"}
	changeIndex(t, dir, func(tx *bolt.Tx) error {
		name := buckets[rnd.IntN(len(buckets))]
		b := tx.Bucket([]byte(name))
		n := b.Stats().KeyN
		if n == 0 {
			what = name + " is empty"
			return nil
		}
		c := b.Cursor()
		k, v := c.First()
		for range rnd.IntN(n) {
			k, v = c.Next()
		}
		k, v = bytes.Clone(k), bytes.Clone(v)
		at := 0
		if len(v) > 0 {
			at = rnd.IntN(len(v))
		}
		switch way := rnd.IntN(5); {
		case way == 0:
			what = fmt.Sprintf("%s %x removed", name, k)
			return b.Delete(k)
		case way == 1 && len(v) > 1:
			what = fmt.Sprintf("%s %x cut to %d", name, k, at)
			return b.Put(k, v[:at])
		case way == 2:
			other := bytes.Clone(k)
			other[rnd.IntN(len(other))] ^= byte(1 << rnd.IntN(8))
			what = fmt.Sprintf("%s %x moved to %x", name, k, other)
			return errors.Join(b.Delete(k), b.Put(other, v))
		case way == 3:
			what = fmt.Sprintf("%s of garbage", name)
			return b.Put([]byte{byte(rnd.Uint32()), 0, 0, byte(rnd.Uint32()), 9}[:1+rnd.IntN(5)], v)
		case len(v) > 0:
			v[at] ^= byte(1 << rnd.IntN(8))
			what = fmt.Sprintf("%s %x octet %d changed", name, k, at)
			return b.Put(k, v)
		}
		return nil
	})
	return what
}

// TestRepairAnyRecord damages records at random: after the repair the store opens, Check is content, and mail that was
// not hit is there; a second repair finds nothing.
func TestRepairAnyRecord(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	wideStore(t, base, 24)
	sound := storetest.Open(t, store.Options{Dir: base})
	want := everything(t, sound)
	sound.Close()
	seeds := uint64(20)
	if n, err := strconv.ParseUint(os.Getenv("MSSD_CRASH_ROUNDS"), 10, 16); err == nil {
		seeds *= n
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 7))
		dir := filepath.Join(t.TempDir(), "s")
		copyWide(t, base, dir)
		var what []string
		for range 1 + rnd.IntN(3) {
			what = append(what, damageRecord(t, dir, rnd))
		}
		out, err := store.Repair(ctx, store.RepairOptions{Dir: dir})
		if err != nil {
			t.Fatalf("seed %d, %q: %v", seed, what, err)
		}
		s, err := store.Open(store.Options{Dir: dir, NoSync: true})
		if err != nil {
			t.Fatalf("seed %d, %q: open: %v\n%+v", seed, what, err, out)
		}
		problems, err := s.Check(ctx)
		if err != nil || len(problems) > 0 {
			t.Errorf("seed %d, %q: Check: %v %v\n%s", seed, what, problems, err, told(out))
		}
		for _, b := range s.BALs() {
			if in, err := s.Mailbox(b.ID, "INBOX"); err != nil {
				t.Errorf("seed %d, %q: INBOX: %v", seed, what, err)
			} else if _, err := tryDeliver(s, in.Ref, raw); err != nil {
				t.Errorf("seed %d, %q: delivery: %v", seed, what, err)
			}
		}
		got := everything(t, s)
		for addr, held := range want {
			for body := range held {
				if got[addr][body] == 0 {
					t.Errorf("seed %d, %q: %s has lost a message\n%s", seed, what, addr, told(out))
				}
			}
		}
		s.Close()
		if again, err := store.Repair(ctx, store.RepairOptions{Dir: dir}); err != nil || again.Count > 0 || again.Kept != "" {
			t.Errorf("seed %d, %q: a second repair: %+v %v", seed, what, again, err)
		}
		if t.Failed() {
			return
		}
	}
}

// TestRepairSoundStore changes nothing.
func TestRepairSoundStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	wideStore(t, dir, 12)
	before, err := os.ReadFile(filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := store.Repair(ctx, store.RepairOptions{Dir: dir, DropLost: true})
	if err != nil || out.Count > 0 || len(out.Lost) > 0 || out.Kept != "" || out.Report != "" {
		t.Errorf("%+v %v", out, err)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "index.db"))
	if !bytes.Equal(before, after) {
		t.Error("index.db was written to")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "repair.db")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestRepairBrokenOff breaks a repair off: index.db is as it was, and the next run does it all.
func TestRepairBrokenOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	wideStore(t, dir, 12)
	changeIndex(t, dir, func(tx *bolt.Tx) error {
		k, _ := tx.Bucket([]byte("row")).Cursor().First()
		return tx.Bucket([]byte("row")).Delete(bytes.Clone(k))
	})
	before, err := os.ReadFile(filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	c, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := store.Repair(c, store.RepairOptions{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// What a kill in mid-work leaves beside is not taken for an index.
	if err := os.WriteFile(filepath.Join(dir, "repair.db"), before[:len(before)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "index.db"))
	if !bytes.Equal(before, after) {
		t.Error("index.db was written to")
	}
	out, err := store.Repair(ctx, store.RepairOptions{Dir: dir})
	if err != nil || out.Count == 0 {
		t.Fatalf("%+v %v", out, err)
	}
	if kept, _ := os.ReadFile(filepath.Join(dir, out.Kept)); !bytes.Equal(before, kept) {
		t.Error("the former index was not kept as it was")
	}
	storetest.Open(t, store.Options{Dir: dir})
}

// TestRepairPages spoils pages of index.db, one by one: what is in the others is kept, bodies whose rows are lost come
// back into INBOX, and Check is content. Nothing that was delivered is gone.
func TestRepairPages(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	wideStore(t, base, 120)
	s := storetest.Open(t, store.Options{Dir: base})
	want := everything(t, s)
	s.Close()
	whole, err := os.ReadFile(filepath.Join(base, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	repaired, refused := 0, 0
	for page := 3; page < len(whole)/4096 && page < 50; page += 2 {
		dir := filepath.Join(t.TempDir(), "s")
		copyWide(t, base, dir)
		b := slices.Clone(whole)
		for i := page * 4096; i < (page+1)*4096; i++ {
			b[i] = byte(0xa5 * (page % 2))
		}
		if err := os.WriteFile(filepath.Join(dir, "index.db"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := store.Repair(ctx, store.RepairOptions{Dir: dir})
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "--rebuild") {
				t.Fatalf("page %d: %v", page, err)
			}
			refused++
			continue
		}
		if out.Count > 0 {
			repaired++
		}
		s, err := store.Open(store.Options{Dir: dir, NoSync: true})
		if err != nil {
			t.Fatalf("page %d: open: %v", page, err)
		}
		if problems, err := s.Check(ctx); err != nil || len(problems) > 0 {
			t.Errorf("page %d: %v %v\n%s", page, problems, err, told(out))
		}
		got := everything(t, s)
		for addr, held := range want {
			for body := range held {
				if got[addr][body] == 0 {
					t.Errorf("page %d: %s has lost a message: %s", page, addr, told(out))
					break
				}
			}
		}
		s.Close()
		if t.Failed() {
			return
		}
	}
	if repaired < 5 || refused > 2 {
		t.Errorf("%d pages were repaired, %d refused", repaired, refused)
	}
	t.Logf("%d pages repaired, %d refused", repaired, refused)
}

// TestRepairLostBodies keeps rows whose body is lost, or drops them when told to, but for a BAL on hold.
func TestRepairLostBodies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	opt := store.Options{Dir: dir, Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	a, held := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "held@bal.example", store.ORG)
	missing := deliverTo(t, s, letterTo(1), a, held)
	cut := deliverTo(t, s, letterTo(2), a)
	deliverTo(t, s, letterTo(3), a, held)
	do(t, s, store.SetHold{Address: held.Address, On: true})
	since := box(t, s, a.ID, "INBOX").HighestModSeq
	s.Close()
	if err := errors.Join(os.Remove(filepath.Join(dir, store.BodyFile(missing))), os.Truncate(filepath.Join(dir, store.BodyFile(cut)), 10)); err != nil {
		t.Fatal(err)
	}
	out, err := store.Repair(ctx, store.RepairOptions{Dir: dir})
	if err != nil || len(out.Lost) != 3 || out.Count != 0 || out.Kept != "" {
		t.Fatalf("%+v %v", out, err)
	}
	dry, err := store.Repair(ctx, store.RepairOptions{Dir: dir, DropLost: true, DryRun: true})
	if err != nil || dry.Count == 0 || dry.Kept != "" || dry.Report != "" {
		t.Fatalf("dry run: %+v %v", dry, err)
	}
	out, err = store.Repair(ctx, store.RepairOptions{Dir: dir, DropLost: true})
	if err != nil || out.Count != dry.Count || out.Kept == "" || out.Report == "" {
		t.Fatalf("%+v %v; the dry run said %+v", out, err, dry)
	}
	report, err := os.ReadFile(filepath.Join(dir, out.Report))
	if err != nil || !strings.Contains(string(report), missing.String()) || !strings.Contains(string(report), cut.String()) {
		t.Errorf("the report: %q %v", report, err)
	}
	s, err = store.Open(store.Options{Dir: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if r := rows(t, s, box(t, s, a.ID, "INBOX").Ref); len(r) != 1 || r[0].UID != 3 {
		t.Errorf("%+v, want the sound one alone", r)
	}
	if r := rows(t, s, box(t, s, held.ID, "INBOX").Ref); len(r) != 2 {
		t.Errorf("the BAL on hold has %d rows, want both", len(r))
	}
	if ch, err := s.Changes(box(t, s, a.ID, "INBOX").Ref, since); err != nil || !slices.Equal(ch.Vanished, []store.Run{{First: 1, Count: 2}}) {
		t.Errorf("clients are told %+v %v", ch, err)
	}
	problems, err := s.Check(ctx)
	if err != nil || len(problems) != 1 || problems[0].Invariant != 8 {
		t.Errorf("Check: %v %v, want the lost body of the held BAL", problems, err)
	}
}

// TestRepairLeavesOthers does not touch a BAL whose key does not open, and refuses a store in use.
func TestRepairLeavesOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	wideStore(t, dir, 12)
	s := storetest.Open(t, store.Options{Dir: dir})
	want := everything(t, s)
	b, err := s.BAL("b1@bal.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Repair(ctx, store.RepairOptions{Dir: dir}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("repair of a store in use: %v, want ErrLocked", err)
	}
	s.Close()
	back := spoilSlot(t, dir, b.ID)
	swapRecord(t, dir, "bal", b.ID-1, func(v []byte) []byte { return v[:3] })
	out, err := store.Repair(ctx, store.RepairOptions{Dir: dir})
	if err != nil || out.Kept == "" || len(out.Unavailable) != 1 || out.Unavailable[0] != b.Address {
		t.Fatalf("%+v %v", out, err)
	}
	s, err = store.Open(store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if f := s.Unavailable(); len(f) != 1 || f[0].BAL != b.ID {
		t.Errorf("unavailable: %v", f)
	}
	if a, err := s.BAL("b0@bal.example"); err != nil || a.State != store.Suspended || a.Kind != store.ORG {
		t.Errorf("the BAL whose record was lost: %+v %v; want it suspended", a, err)
	}
	s.Close()
	back()
	s = storetest.Open(t, store.Options{Dir: dir})
	if got := everything(t, s); len(got) != 3 || len(got[b.Address]) != len(want[b.Address]) || len(got["b0@bal.example"]) != len(want["b0@bal.example"]) {
		t.Error("messages are missing")
	}
}

// TestRepairDropsRotten spoils a frame of a body, whose header and table stay sound: Repair with Bodies names the
// message and drops it when told so; without, it does not look.
func TestRepairDropsRotten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := storetest.Open(t, store.Options{Dir: dir, Create: true, NoSync: true})
	a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	deliverTo(t, s, letterTo(1), a)
	rotten := deliverTo(t, s, letterTo(2), a)
	s.Close()
	file := filepath.Join(dir, store.BodyFile(rotten))
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[3] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := store.Repair(ctx, store.RepairOptions{Dir: dir, DropLost: true})
	if err != nil || len(out.Lost) != 0 || out.Count != 0 {
		t.Errorf("without Bodies: %+v %v", out, err)
	}
	out, err = store.Repair(ctx, store.RepairOptions{Dir: dir, Bodies: true})
	if err != nil || len(out.Lost) != 1 || out.Lost[0].Message != rotten || out.Lost[0].Dropped || out.Count != 0 {
		t.Errorf("with Bodies: %+v %v", out, err)
	}
	out, err = store.Repair(ctx, store.RepairOptions{Dir: dir, Bodies: true, DropLost: true})
	if err != nil || len(out.Lost) != 1 || !out.Lost[0].Dropped || out.Kept == "" {
		t.Fatalf("with Bodies and DropLost: %+v %v", out, err)
	}
	s = storetest.Open(t, store.Options{Dir: dir})
	if r := rows(t, s, box(t, s, a.ID, "INBOX").Ref); len(r) != 1 || r[0].UID != 1 {
		t.Errorf("%+v, want the sound one alone", r)
	}
	if problems, err := s.VerifyBodies(ctx, nil); err != nil || len(problems) > 0 {
		t.Errorf("fsck --bodies: %v %v", problems, err)
	}
}

// TestRepairKeepsWhatTheDiskRefuses: a body that the system does not give, for whatever reason of the moment, costs no
// message, and when it is given again all is well.
func TestRepairKeepsWhatTheDiskRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := storetest.Open(t, store.Options{Dir: dir, Create: true, NoSync: true})
	a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	id := deliverTo(t, s, letterTo(1), a)
	s.Close()
	file := filepath.Join(dir, store.BodyFile(id))
	aside := filepath.Join(t.TempDir(), "aside")
	if err := errors.Join(os.Rename(file, aside), os.Mkdir(file, 0o700)); err != nil { // reading answers EISDIR
		t.Fatal(err)
	}
	out, err := store.Repair(ctx, store.RepairOptions{Dir: dir, Bodies: true, DropLost: true})
	if err != nil || len(out.Lost) != 1 || out.Lost[0].Dropped {
		t.Errorf("%+v %v; want the message named and kept", out, err)
	}
	if err := errors.Join(os.Remove(file), os.Rename(aside, file)); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, store.Options{Dir: dir})
	if got := inboxOf(t, s, a.ID); len(got) != 1 || !strings.HasSuffix(got[0], letterTo(1)) {
		t.Errorf("%d messages, want the one", len(got))
	}
}
