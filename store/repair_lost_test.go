package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// told is all that a repair says of what it changed.
func told(r *store.Repaired) string {
	var out []string
	for _, m := range r.Changes {
		out = append(out, m.First...)
	}
	return strings.Join(out, "\n")
}

func repair(t *testing.T, opt store.RepairOptions) *store.Repaired {
	t.Helper()
	out, err := store.Repair(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// spoilFrame changes an octet of the first frame of a body; header and table stay sound. It yields the file as it is now.
func spoilFrame(t *testing.T, dir string, id store.MessageID) []byte {
	t.Helper()
	path := filepath.Join(dir, store.BodyFile(id))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[3] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// deleteRecords takes away the records of a message from some buckets.
func deleteRecords(t *testing.T, dir string, id store.MessageID, buckets ...string) {
	t.Helper()
	changeIndex(t, dir, func(tx *bolt.Tx) error {
		for _, name := range buckets {
			b := tx.Bucket([]byte(name))
			var keys [][]byte
			err := b.ForEach(func(k, v []byte) error {
				if name == "row" && bytes.HasPrefix(v, be8(id)) || name != "row" && bytes.HasSuffix(k, be8(id)) {
					keys = append(keys, bytes.Clone(k))
				}
				return nil
			})
			if err != nil || len(keys) == 0 {
				return fmt.Errorf("no record of the message in %s: %w", name, err)
			}
			for _, k := range keys {
				if err := b.Delete(k); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// losePage makes the index look as if a page of a bucket could not be read.
func losePage(t *testing.T, dir, bucket string) {
	t.Helper()
	changeIndex(t, dir, func(tx *bolt.Tx) error {
		_, err := tx.Bucket([]byte(bucket)).CreateBucket([]byte("page"))
		return err
	})
}

// markSpan leaves the mark of a killed process: the next start looks for bodies without a record there.
func markSpan(t *testing.T, dir string, id store.MessageID) {
	t.Helper()
	mark := filepath.Join(dir, "state", "bodies-"+filepath.Base(filepath.Dir(store.BodyFile(id))))
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sweptStore opens the store, sweeps until all is gone that goes, and checks it.
func sweptStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for range 3 {
		sweep(t, s)
	}
	return s
}

// lostFile wants a body in the folder lost, as it was, and nowhere else.
func lostFile(t *testing.T, dir string, id store.MessageID, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, "lost", id.String()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the damaged body in lost/: %d octets, %v; want the %d of before", len(got), err, len(want))
	}
	if _, err := os.Stat(filepath.Join(dir, store.BodyFile(id))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the damaged body among the others: %v", err)
	}
}

// TestDropLostKeepsTheFile: a message dropped for one bad frame, or a body that was cut, leaves its file in lost/, also
// when the work is broken off and done again; fsck counts it, no sweep takes it.
func TestDropLostKeepsTheFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := storetest.Open(t, store.Options{Dir: dir, Create: true, NoSync: true})
	a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	deliverTo(t, s, letterTo(1), a)
	rotten := deliverTo(t, s, letterTo(2), a)
	short := deliverTo(t, s, letterTo(3), a)
	s.Close()
	was := spoilFrame(t, dir, rotten)
	if err := os.Truncate(filepath.Join(dir, store.BodyFile(short)), 10); err != nil {
		t.Fatal(err)
	}
	cut, _ := os.ReadFile(filepath.Join(dir, store.BodyFile(short)))
	opt := store.RepairOptions{Dir: dir, DropLost: true, Bodies: true, DryRun: true}
	if out := repair(t, opt); out.Bodies != 2 || out.Dropped != 2 || out.Rows != 2 {
		t.Errorf("dry run: %+v", out)
	}
	if _, err := os.Stat(filepath.Join(dir, "lost")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dry run made lost/: %v", err)
	}
	// What a run that was killed before the new index took its place leaves.
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "lost"), 0o700), os.Link(filepath.Join(dir, store.BodyFile(rotten)), filepath.Join(dir, "lost", rotten.String())),
		os.WriteFile(filepath.Join(dir, "repair.report"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	opt.DryRun = false
	if out := repair(t, opt); out.Bodies != 2 || out.Dropped != 2 || out.Report == "" {
		t.Errorf("%+v", out)
	}
	s = sweptStore(t, dir)
	lostFile(t, dir, rotten, was)
	lostFile(t, dir, short, cut)
	if n, err := s.Lost(); n != 2 || err != nil {
		t.Errorf("%d bodies in lost/, want 2: %v", n, err)
	}
	if r := rows(t, s, box(t, s, a.ID, "INBOX").Ref); len(r) != 1 || r[0].UID != 1 {
		t.Errorf("%+v, want the sound one alone", r)
	}
	storetest.Check(t, s)
	if left, _ := filepath.Glob(filepath.Join(dir, "repair.*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	s.Close()
	if out := repair(t, opt); out.Count != 0 {
		t.Errorf("a second repair: %+v", out)
	}
}

// TestRescueReadsWhole: a message whose row is lost comes back only when its body opens to the last octet.
func TestRescueReadsWhole(t *testing.T) {
	for _, buckets := range [][]string{{"row"}, {"row", "prefix"}, {"row", "prefix", "blob"}} {
		t.Run(strings.Join(buckets, "+"), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			s := storetest.Open(t, store.Options{Dir: dir, Create: true, NoSync: true})
			a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			sound, rotten := deliverTo(t, s, letterTo(1), a), deliverTo(t, s, letterTo(2), a)
			s.Close()
			was := spoilFrame(t, dir, rotten)
			for _, id := range []store.MessageID{sound, rotten} {
				deleteRecords(t, dir, id, buckets...)
			}
			losePage(t, dir, "row")
			markSpan(t, dir, rotten)
			repair(t, store.RepairOptions{Dir: dir})
			s = sweptStore(t, dir)
			if got := inboxOf(t, s, a.ID); len(got) != 1 || !strings.HasSuffix(got[0], letterTo(1)) {
				t.Errorf("%d messages, want the sound one", len(got))
			}
			lostFile(t, dir, rotten, was)
			if p, err := s.VerifyBodies(ctx, nil); err != nil || len(p) > 0 {
				t.Errorf("fsck --bodies: %v %v", p, err)
			}
			storetest.Check(t, s)
		})
	}
}

// TestRescueWaitsForTheDisk: a message that only its BAL has the key of, whose row is lost and whose body the disk does
// not give for a moment, is there again after a repair when it does.
func TestRescueWaitsForTheDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := storetest.Open(t, store.Options{Dir: dir, Create: true, NoSync: true, RetainExpunged: -1})
	a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.ORG)
	id := deliverTo(t, s, letterTo(1), a)
	do(t, s, store.Move{From: box(t, s, a.ID, "INBOX").Ref, Runs: one(1), To: box(t, s, b.ID, "INBOX").Ref})
	s.Close()
	deleteRecords(t, dir, id, "row")
	file, aside := filepath.Join(dir, store.BodyFile(id)), filepath.Join(t.TempDir(), "aside")
	if err := errors.Join(os.Rename(file, aside), os.Mkdir(file, 0o700)); err != nil { // reading answers EISDIR
		t.Fatal(err)
	}
	repair(t, store.RepairOptions{Dir: dir, DropLost: true})
	sweptStore(t, dir).Close()
	if err := errors.Join(os.Remove(file), os.Rename(aside, file)); err != nil {
		t.Fatal(err)
	}
	repair(t, store.RepairOptions{Dir: dir})
	s = sweptStore(t, dir)
	if got := inboxOf(t, s, b.ID); len(got) != 1 || !strings.HasSuffix(got[0], letterTo(1)) {
		t.Errorf("%d messages, want the one", len(got))
	}
	storetest.Check(t, s)
}

// TestRepairLockedBlobRecord: records of a body are lost while the key of its BAL does not open. With the key back the
// message opens as before: at once where its row is there, after another repair where nothing was.
func TestRepairLockedBlobRecord(t *testing.T) {
	for _, buckets := range [][]string{{"blob"}, {"row", "prefix", "blob"}} {
		t.Run(strings.Join(buckets, "+"), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			s := storetest.Open(t, store.Options{Dir: dir, Create: true, NoSync: true})
			a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			id := deliverTo(t, s, letterTo(1), a)
			s.Close()
			back := spoilSlot(t, dir, a.ID)
			deleteRecords(t, dir, id, buckets...)
			losePage(t, dir, "blob")
			markSpan(t, dir, id)
			repair(t, store.RepairOptions{Dir: dir})
			if out := repair(t, store.RepairOptions{Dir: dir}); out.Count != 0 {
				t.Errorf("a second repair: %s", told(out))
			}
			sweptStore(t, dir).Close()
			back()
			if len(buckets) > 1 {
				repair(t, store.RepairOptions{Dir: dir})
			}
			s = sweptStore(t, dir)
			if got := inboxOf(t, s, a.ID); len(got) != 1 || !strings.HasSuffix(got[0], letterTo(1)) {
				t.Errorf("%d messages, want the one", len(got))
			}
			storetest.Check(t, s)
		})
	}
}

// TestRepairSaysByKind: thousands of changes of one kind are counted and told by the first 20; all that is dropped or set
// aside stands in the report.
func TestRepairSaysByKind(t *testing.T) {
	const n = 1500
	dir := filepath.Join(t.TempDir(), "s")
	s := storetest.Open(t, store.Options{Dir: dir, Create: true, NoSync: true})
	a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, a.ID, "INBOX").Ref
	id := fill(t, s, in, n, 0)
	if _, err := s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.CreateMailbox{BAL: a.ID, Name: "Autre"}}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.Remove(filepath.Join(dir, store.BodyFile(id))); err != nil {
		t.Fatal(err)
	}
	swapRecord(t, dir, "sub", a.ID, flipLast)
	out := repair(t, store.RepairOptions{Dir: dir, DropLost: true})
	if out.Rows != n || out.Dropped != n || out.Aside != 1 || len(out.Lost) != 1000 {
		t.Errorf("%d lost, %d dropped, %d aside, %d told", out.Rows, out.Dropped, out.Aside, len(out.Lost))
	}
	sum := 0
	big := false
	for _, m := range out.Changes {
		sum += m.Count
		big = big || m.Count == n
		if len(m.First) > 20 || len(m.First) != min(m.Count, 20) {
			t.Errorf("%d of %d told: %q", len(m.First), m.Count, m.First[0])
		}
	}
	if sum != out.Count || !big || len(out.Changes) > 10 {
		t.Errorf("%d kinds with %d changes, %d in all", len(out.Changes), sum, out.Count)
	}
	report, err := os.ReadFile(filepath.Join(dir, out.Report))
	if err != nil || bytes.Count(report, []byte("\n")) != n+1 || bytes.Count(report, []byte("message ")) != n || bytes.Count(report, []byte("record sub ")) != 1 {
		t.Errorf("%d lines in the report: %v", bytes.Count(report, []byte("\n")), err)
	}
	storetest.Open(t, store.Options{Dir: dir})
}
