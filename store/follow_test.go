package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// copyStore copies a store in use as an outside program would: the small files and the bodies as they stand, the index
// at one moment.
func copyStore(t rapidOrTest, s *store.Store, dir string) (number uint64) {
	if err := os.CopyFS(filepath.Join(dir, "blobs"), os.DirFS(filepath.Join(s.Dir(), "blobs"))); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"spool", "trace", "state"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"VERSION", "keys", "master.key"} {
		b, err := os.ReadFile(filepath.Join(s.Dir(), n))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, n), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	number, err := s.CopyIndex(filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	return number
}

type rapidOrTest interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

// tree is the files of a directory with their octets.
func tree(t rapidOrTest, dir string) map[string]string {
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, p))
		files[p] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// standby follows a store into a copy of it.
type standby struct {
	from *store.Store
	to   *store.Replica
	f    *store.Follower
}

func (sb *standby) catchUp(t rapidOrTest) {
	for sb.to.Commits() < sb.from.Commits() {
		c, err := sb.f.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := sb.to.Apply(c, func(id store.MessageID) (io.ReadCloser, error) {
			return os.Open(filepath.Join(sb.from.Dir(), store.BodyFile(id)))
		}); err != nil {
			t.Fatal(err)
		}
		if err := sb.to.Apply(c, nil); err != nil { // again: it is left out
			t.Fatal(err)
		}
	}
}

func (sb *standby) compare(t rapidOrTest) {
	for {
		sb.catchUp(t)
		d := cmp.Diff(sb.from.Dump(), sb.to.Dump())
		if d == "" {
			return
		}
		if sb.from.Commits() == sb.to.Commits() { // nothing was committed in the background meanwhile
			t.Fatalf("the copy differs in its index:\n%s", d)
		}
	}
}

// TestFollow carries out random batches, good and bad ones in one group, replays the commits into a copy made before,
// compares the two bucket by bucket, and lets the copy take over.
func TestFollow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "s")
		if err != nil {
			rt.Fatal(err)
		}
		keep := rapid.SampledFrom([]time.Duration{time.Hour, -1}).Draw(rt, "expunged mail stays for")
		s, err := store.Open(store.Options{Dir: filepath.Join(base, "first"), Create: true, NoSync: true, RetainExpunged: keep})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		w := &writer{s: s}
		if rapid.Bool().Draw(rt, "copy of a used store") {
			w.run(rt, 3)
		}
		second := filepath.Join(base, "second")
		f, err := s.Follow(s.Commits())
		for errors.Is(err, store.ErrBehind) { // the store's own work was faster
			f, err = s.Follow(s.Commits())
		}
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		w.run(rt, rapid.IntRange(0, 2).Draw(rt, "groups while the copy is made"))
		copyStore(rt, s, second)
		to, err := store.OpenReplicaNoSync(second)
		if err != nil {
			rt.Fatal(err)
		}
		sb := &standby{s, to, f}
		for range rapid.IntRange(1, 5).Draw(rt, "rounds") {
			w.run(rt, 3)
			sb.compare(rt)
		}
		if err := s.SweepNow(); err != nil {
			rt.Fatal(err)
		}
		sb.compare(rt)
		if d := cmp.Diff(tree(rt, filepath.Join(s.Dir(), "blobs")), tree(rt, filepath.Join(second, "blobs"))); d != "" {
			rt.Fatalf("the copy has other bodies:\n%s", d)
		}
		a, err1 := os.ReadFile(filepath.Join(s.Dir(), "keys"))
		b, err2 := os.ReadFile(filepath.Join(second, "keys"))
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) {
			rt.Fatalf("the copy has other keys %v", err)
		}
		if n := to.Absent(); n != 0 {
			rt.Fatalf("the copy lacks %d bodies", n)
		}
		if err := errors.Join(to.Close(), s.Close()); err != nil {
			rt.Fatal(err)
		}
		takeOver(t, rt, second, w)
	})
}

// takeOver opens the copy as a store: it is sound and takes mail.
func takeOver(t *testing.T, rt *rapid.T, dir string, w *writer) {
	s, err := store.Open(store.Options{Dir: dir, NoSync: true})
	if err != nil {
		rt.Fatal(err)
	}
	defer s.Close()
	for _, b := range s.BALs() {
		if b.State == store.Destroyed {
			continue
		}
		in := box(t, s, b.ID, "INBOX").Ref
		id, err := tryDeliver(s, in, "after the change")
		if err != nil {
			rt.Fatal(err)
		}
		if got := read(t, s, b.ID, id); got != "after the change" {
			rt.Fatalf("body %q", got)
		}
	}
	problems, err := s.Check(ctx)
	if err != nil || len(problems) > 0 {
		rt.Fatalf("check of the copy: %v %v", problems, err)
	}
}

// writer makes random batches for a store.
type writer struct {
	s *store.Store
	n int
}

// run commits groups of batches, side by side so that some share a commit.
func (w *writer) run(rt *rapid.T, groups int) {
	for range groups {
		var batches []*store.Batch
		for range rapid.IntRange(1, 5).Draw(rt, "batches") {
			batches = append(batches, w.batch(rt))
		}
		var wg sync.WaitGroup
		for _, b := range batches {
			wg.Go(func() {
				_, err := w.s.Commit(ctx, b)
				if b.Blob != nil {
					b.Blob.Abort()
				}
				if errors.Is(err, store.ErrFailed) || errors.Is(err, store.ErrCorrupt) {
					rt.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		switch rapid.IntRange(0, 6).Draw(rt, "beside") {
		case 3:
			w.destroy(rt)
		case 0:
			w.s.Record(trace.Event{Kind: trace.Refused})
			w.s.Flush()
		case 1:
			if err := w.s.SweepNow(); err != nil {
				rt.Fatal(err)
			}
		case 2:
			w.s.Confirm(w.s.NewID())
			w.s.Flush()
		}
	}
}

// destroy closes a BAL and destroys it.
func (w *writer) destroy(rt *rapid.T) {
	a := w.address(rt)
	_, err := w.s.Commit(ctx, &store.Batch{Ops: []store.Op{store.SetBALState{Address: a, State: store.Closed}}})
	if err == nil {
		_, err = w.s.DestroyBAL(ctx, a)
	}
	if err == nil {
		err = w.s.FinishDestroying(ctx)
	}
	if errors.Is(err, store.ErrFailed) || errors.Is(err, store.ErrCorrupt) {
		rt.Fatal(err)
	}
}

func (w *writer) address(rt *rapid.T) store.Address {
	return store.Address(fmt.Sprintf("b%d@bal.example", rapid.IntRange(0, 2).Draw(rt, "bal")))
}

// ref is a mailbox that is there, or one that is not.
func (w *writer) ref(rt *rapid.T) store.Ref {
	var refs []store.Ref
	for _, b := range w.s.BALs() {
		boxes, _ := w.s.Mailboxes(b.ID)
		for _, m := range boxes {
			if m.Created {
				refs = append(refs, m.Ref)
			}
		}
	}
	refs = append(refs, store.Ref{BAL: 1, Mailbox: 99})
	return rapid.SampledFrom(refs).Draw(rt, "mailbox")
}

func (w *writer) batch(rt *rapid.T) *store.Batch {
	b := &store.Batch{}
	for range rapid.IntRange(1, 4).Draw(rt, "operations") {
		b.Ops = append(b.Ops, w.op(rt, b))
	}
	if rapid.IntRange(0, 4).Draw(rt, "spoilt") == 0 { // all before it is undone
		b.Ops = append(b.Ops, store.CreateMailbox{BAL: 77, Name: "x"})
	}
	if b.Blob != nil && rapid.Bool().Draw(rt, "once") {
		b.Once = &store.Once{Key: [32]byte{byte(rapid.IntRange(0, 3).Draw(rt, "key"))}}
	}
	b.Events = []trace.Event{{Kind: trace.Committed}}
	return b
}

func (w *writer) op(rt *rapid.T, b *store.Batch) store.Op {
	runs := []store.Run{{First: store.UID(rapid.IntRange(1, 4).Draw(rt, "first")), Count: uint32(rapid.IntRange(1, 4).Draw(rt, "count"))}}
	name := func() string { return rapid.SampledFrom([]string{"A", "A/B", "C", "INBOX"}).Draw(rt, "name") }
	words := rapid.SampledFrom([][]string{nil, {"urgent"}, {"bio", "Urgent"}}).Draw(rt, "keywords")
	switch rapid.IntRange(0, 20).Draw(rt, "operation") {
	case 0, 1:
		return store.PutBAL{Create: true, BAL: store.BAL{Address: w.address(rt), Kind: store.ORG, State: store.Active, Listing: store.Published}}
	case 2:
		return store.PutMember{Address: w.address(rt), Member: store.Member{ID: "rpps:1", Role: store.Owner}}
	case 3:
		return store.EndMember{Address: w.address(rt), Member: "rpps:1"}
	case 4:
		return store.CreateMailbox{BAL: w.ref(rt).BAL, Name: name()}
	case 5:
		return store.DeleteMailbox{Ref: w.ref(rt)}
	case 6:
		return store.RenameMailbox{Ref: w.ref(rt), To: name()}
	case 7:
		if rapid.Bool().Draw(rt, "annotate") {
			return store.PutAnnotation{Ref: w.ref(rt), Remove: rapid.Bool().Draw(rt, "remove"), Annotation: store.Annotation{Person: rapid.SampledFrom([]string{"", "rpps:1"}).Draw(rt, "person"),
				Entry: "/comment", Value: rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "value")}}
		}
		return store.Subscribe{BAL: w.ref(rt).BAL, Name: name(), On: rapid.Bool().Draw(rt, "on")}
	case 8:
		return store.StoreFlags{Ref: w.ref(rt), Runs: runs, Mode: store.Add, Flags: store.Deleted, Keywords: words}
	case 9:
		return store.Copy{From: w.ref(rt), Runs: runs, To: w.ref(rt)}
	case 10:
		return store.Move{From: w.ref(rt), Runs: runs, To: w.ref(rt)}
	case 11:
		return store.Expunge{Ref: w.ref(rt), Runs: runs, All: rapid.Bool().Draw(rt, "all")}
	case 15:
		return store.PutBackup{Backup: store.Backup{ID: store.MessageID(rapid.IntRange(1, 2).Draw(rt, "backup")), Label: "disk", Began: time.Unix(1e9, 0)}}
	case 16:
		return store.ForgetBackup{ID: store.MessageID(rapid.IntRange(1, 2).Draw(rt, "backup"))}
	case 12:
		return store.SetHold{Address: w.address(rt), On: rapid.Bool().Draw(rt, "hold")}
	case 13:
		return store.SetRetention{Ref: w.ref(rt), Days: uint32(rapid.IntRange(0, 3).Draw(rt, "days"))}
	case 14:
		op := store.Undelete{BAL: w.ref(rt).BAL, Which: []store.ExpungedID{{}}, To: rapid.SampledFrom([]string{"", "", "C", "D/E"}).Draw(rt, "to")}
		page, _ := w.s.Expunged(ctx, op.BAL, store.ExpungedID{}, rapid.IntRange(0, 4).Draw(rt, "expunged"))
		op.Which = append(op.Which, ids(page)...)
		return op
	}
	if b.Blob == nil {
		w.n++
		bl, err := w.s.NewBlob()
		if err == nil {
			_, err = fmt.Fprintf(bl, "Subject: %d\r\n\r\nx\r\n", w.n)
		}
		if err == nil {
			err = bl.Finish(nil, emptyText)
		}
		if err != nil {
			rt.Fatal(err)
		}
		b.Blob = bl
	}
	return store.AddMessage{Ref: w.ref(rt), Keywords: words, Prefix: []byte("Return-Path: <>\r\n")}
}

// TestFollowerBehind lets a follower sleep: the store goes on, the follower is told to begin again.
func TestFollowerBehind(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	before := s.Commits()
	storetest.Deliver(t, s, b.ID, raw)
	if s.KeptCommits() != 0 {
		t.Error("commits are kept though nobody follows")
	}
	if _, err := s.Follow(before); !errors.Is(err, store.ErrBehind) {
		t.Errorf("follow from a commit that was not kept: %v, want ErrBehind", err)
	}
	if _, err := s.Follow(s.Commits() + 1); !errors.Is(err, store.ErrBehind) {
		t.Errorf("follow from a commit to come: %v, want ErrBehind", err)
	}
	s.SetLogRoom(8 << 10)
	f, err := s.Follow(s.Commits())
	if err != nil {
		t.Fatal(err)
	}
	at := s.Commits()
	for range 3 {
		storetest.Deliver(t, s, b.ID, raw)
	}
	c, err := f.Next(ctx)
	if err != nil || c.Number != at+1 || len(c.Stored) != 1 || len(c.Changes) == 0 {
		t.Fatalf("%+v %v", c, err)
	}
	for range 50 {
		storetest.Deliver(t, s, b.ID, raw)
	}
	if n := s.KeptCommits(); n == 0 || n > 10 {
		t.Errorf("%d commits kept", n)
	}
	if _, err := f.Next(ctx); !errors.Is(err, store.ErrBehind) {
		t.Errorf("%v, want ErrBehind", err)
	}
	f.Close()
	f.Close()
	if s.KeptCommits() != 0 {
		t.Error("commits are kept after the last follower went")
	}
	// One that keeps up gets the end of the log, then ErrClosed.
	if f, err = s.Follow(s.Commits()); err != nil {
		t.Fatal(err)
	}
	storetest.Deliver(t, s, b.ID, raw)
	storetest.Check(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil; n++ {
		_, err = f.Next(ctx)
	}
	if !errors.Is(err, store.ErrClosed) || n < 2 {
		t.Errorf("after %d commits: %v, want ErrClosed", n-1, err)
	}
}

// TestReplicaGap refuses a commit that does not come next, and a copy that is none.
func TestReplicaGap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	if _, err := store.OpenReplica(dir); !errors.Is(err, store.ErrNoStore) {
		t.Errorf("no store: %v", err)
	}
	s := storetest.Open(t, store.Options{Dir: dir, Create: true})
	n := s.Commits()
	s.Close()
	r, err := store.OpenReplica(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(&store.Commit{Number: n + 5}, nil); !errors.Is(err, store.ErrBehind) {
		t.Errorf("a gap: %v, want ErrBehind", err)
	}
	if err := r.Apply(&store.Commit{Number: r.Commits() + 1, Slots: []store.Slot{{Number: 1, Octets: bytes.Repeat([]byte{1}, 3)}}}, nil); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a slot too short: %v, want ErrInvalid", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
