package store_test

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// stuckFS is a disk whose syncs of bodies wait until it is let go, while it is stuck.
type stuckFS struct {
	store.FileSystem
	d *stuckDisk
}

type stuckDisk struct {
	stuck   chan struct{} // nil: syncs are quick; else they wait for its end
	entered chan struct{} // told of each sync that begins to wait
	err     error         // of a sync that waited
}

type stuckFile struct {
	store.File
	d *stuckDisk
}

func (x stuckFS) Create(p string) (store.File, error) {
	f, err := x.FileSystem.Create(p)
	return stuckFile{f, x.d}, err
}

func (x stuckFile) Sync() error {
	if x.d.stuck != nil {
		x.d.entered <- struct{}{}
		<-x.d.stuck
		if x.d.err != nil {
			return x.d.err
		}
	}
	return x.File.Sync()
}

// deliverOnce is a delivery that is guarded against repetition, as a front makes it.
func deliverOnce(s *store.Store, to store.Ref, key byte, body string) (*store.Result, error) {
	b, err := s.NewBlob()
	if err != nil {
		return nil, err
	}
	defer b.Abort()
	if _, err := io.WriteString(b, body); err != nil {
		return nil, err
	}
	if err := b.Finish(nil, emptyText); err != nil {
		return nil, err
	}
	return s.Commit(ctx, &store.Batch{Blob: b, Once: &store.Once{Key: [32]byte{key}}, Ops: []store.Op{store.AddMessage{Ref: to, Delivery: true}}})
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// TestSlowDisk lets a sync hang: who waits is told so in time, nothing new is taken, reading goes on, and when the disk
// answers the batch that it had is stored, the one that it had not is not, and a repetition is known.
func TestSlowDisk(t *testing.T) {
	d := &stuckDisk{entered: make(chan struct{}, 100)}
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, CommitWait: 2 * time.Second}
	s, err := store.OpenWith(opt, func(fs store.FileSystem) store.FileSystem { return stuckFS{fs, d} })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	id, _ := storetest.Deliver(t, s, b.ID, raw)
	if err := s.Slow(); err != nil {
		t.Errorf("idle, but %v", err)
	}
	d.stuck = make(chan struct{})
	answers := make(chan error, 2)
	go func() { _, err := deliverOnce(s, in.Ref, 1, "the committer has it"); answers <- err }()
	<-d.entered
	go func() { _, err := deliverOnce(s, in.Ref, 2, "it waits in the queue"); answers <- err }()
	for range 2 {
		if err := <-answers; !errors.Is(err, store.ErrSlow) {
			t.Errorf("a delivery to a disk that hangs: %v, want ErrSlow", err)
		}
	}
	eventually(t, "Slow says so", func() bool { return errors.Is(s.Slow(), store.ErrSlow) })
	before := time.Now()
	if _, err := deliverOnce(s, in.Ref, 1, "the committer has it"); !errors.Is(err, store.ErrSlow) {
		t.Errorf("the repetition: %v, want ErrSlow", err)
	}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.StoreFlags{Ref: in.Ref, Runs: one(1), Mode: store.Add, Flags: store.Seen}}}); !errors.Is(err, store.ErrSlow) {
		t.Errorf("flags: %v, want ErrSlow", err)
	}
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("once it is known that the disk hangs, two writes wait %v", took)
	}
	if got := read(t, s, b.ID, id); !strings.HasSuffix(got, raw) || len(rows(t, s, in.Ref)) != 1 {
		t.Errorf("reading while the disk hangs: %q", got)
	}
	if _, err := s.Snapshot(in.Ref, true); err != nil {
		t.Error(err)
	}

	close(d.stuck)
	eventually(t, "the batch is stored", func() bool { return s.Slow() == nil && len(rows(t, s, in.Ref)) == 2 })
	res, err := deliverOnce(s, in.Ref, 1, "the committer has it")
	if err != nil || !res.Duplicate {
		t.Errorf("the repetition: %+v, %v; want a duplicate", res, err)
	}
	res, err = deliverOnce(s, in.Ref, 2, "it waits in the queue")
	if err != nil || res.Duplicate {
		t.Errorf("what was never begun: %+v, %v; want it stored now", res, err)
	}
	bodies := map[string]int{}
	for _, r := range rows(t, s, in.Ref) {
		bodies[read(t, s, b.ID, r.Message)]++
	}
	if len(bodies) != 3 || bodies["the committer has it"] != 1 || bodies["it waits in the queue"] != 1 {
		t.Errorf("stored: %v", bodies)
	}
	if left, _ := filepath.Glob(filepath.Join(opt.Dir, "spool", "*")); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
	storetest.Check(t, s)
}

// TestSlowDiskFails lets a sync hang and then fail, when nobody waits any more: the store has failed, nothing was
// acknowledged, the next start is sound.
func TestSlowDiskFails(t *testing.T) {
	d := &stuckDisk{entered: make(chan struct{}, 100), err: syscall.EIO}
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, CommitWait: 50 * time.Millisecond}
	s, err := store.OpenWith(opt, func(fs store.FileSystem) store.FileSystem { return stuckFS{fs, d} })
	if err != nil {
		t.Fatal(err)
	}
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	d.stuck = make(chan struct{})
	if _, err := deliverOnce(s, in.Ref, 1, "lost"); !errors.Is(err, store.ErrSlow) {
		t.Fatalf("%v, want ErrSlow", err)
	}
	close(d.stuck)
	<-s.Failed()
	if _, err := deliverOnce(s, in.Ref, 1, "lost"); !errors.Is(err, store.ErrFailed) {
		t.Errorf("%v, want ErrFailed", err)
	}
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	if n := len(rows(t, s, in.Ref)); n != 0 {
		t.Errorf("%d messages", n)
	}
	res, err := deliverOnce(s, in.Ref, 1, "sent again")
	if err != nil || res.Duplicate {
		t.Errorf("%+v %v", res, err)
	}
}

// TestSlowRefused lets a batch hang that is then refused: its body is taken away although nobody waits.
func TestSlowRefused(t *testing.T) {
	d := &stuckDisk{entered: make(chan struct{}, 100)}
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, CommitWait: 2 * time.Second}
	s, err := store.OpenWith(opt, func(fs store.FileSystem) store.FileSystem { return stuckFS{fs, d} })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	d.stuck = make(chan struct{})
	hold := s.HoldCommitter() // so that both are in one group
	answers := make(chan error, 2)
	go func() { _, err := deliverOnce(s, in.Ref, 1, "fits"); answers <- err }()
	go func() {
		_, err := deliverOnce(s, store.Ref{BAL: b.ID, Mailbox: 999}, 2, "no such mailbox")
		answers <- err
	}()
	hold(2)
	<-d.entered
	for range 2 {
		if err := <-answers; !errors.Is(err, store.ErrSlow) {
			t.Errorf("%v, want ErrSlow", err)
		}
	}
	close(d.stuck)
	eventually(t, "the one that fits is stored", func() bool { return len(rows(t, s, in.Ref)) == 1 })
	eventually(t, "the spool is empty", func() bool {
		left, _ := filepath.Glob(filepath.Join(opt.Dir, "spool", "*"))
		return len(left) == 0
	})
	storetest.Check(t, s)
}

// TestDiskNotWritable takes the directory of the spool away: the store says so and goes on when it is back.
func TestDiskNotWritable(t *testing.T) {
	for _, fault := range []syscall.Errno{syscall.EROFS, syscall.EIO, syscall.ENOSPC} {
		f := &diskFault{}
		s, err := store.OpenWith(store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}, func(fs store.FileSystem) store.FileSystem { return createFS{fs, f} })
		if err != nil {
			t.Fatal(err)
		}
		b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
		in := box(t, s, b.ID, "INBOX")
		f.err = fault
		want := store.ErrNoWrite
		if fault == syscall.ENOSPC {
			want = store.ErrNoSpace
		}
		if _, err := tryDeliver(s, in.Ref, raw); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", fault, err, want)
		}
		if err := s.WriteFault(); !errors.Is(err, want) {
			t.Errorf("%v: WriteFault %v", fault, err)
		}
		f.err = nil
		if _, err := tryDeliver(s, in.Ref, raw); err != nil || s.WriteFault() != nil {
			t.Errorf("the disk is back, but %v, %v", err, s.WriteFault())
		}
		storetest.Check(t, s)
		s.Close()
	}
}

type diskFault struct{ err error }

type createFS struct {
	store.FileSystem
	f *diskFault
}

func (x createFS) Create(p string) (store.File, error) {
	if x.f.err != nil {
		return nil, x.f.err
	}
	return x.FileSystem.Create(p)
}
