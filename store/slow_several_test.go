package store_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// stuckStore is a store on a disk that will hang, with a mailbox.
func stuckStore(t *testing.T, d *stuckDisk, wait time.Duration) (s *store.Store, dir string, in store.Ref) {
	t.Helper()
	d.entered = make(chan struct{}, 100)
	dir = filepath.Join(t.TempDir(), "s")
	s, err := store.OpenWith(store.Options{Dir: dir, Create: true, CommitWait: wait}, func(fs store.FileSystem) store.FileSystem { return stuckFS{fs, d} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	return s, dir, box(t, s, b.ID, "Sent").Ref
}

func spoolEmptied(dir string) func() bool {
	return func() bool {
		left, err := filepath.Glob(filepath.Join(dir, "spool", "*"))
		return err == nil && len(left) == 0
	}
}

// TestSlowDiskSeveral lets the sync of a batch of several messages hang: who waits is told so, and takes its bodies back
// without taking them from the committer. Then all of them are stored, and the batch said again is known; of the batch that
// waited behind it nothing is stored until it is said again.
func TestSlowDiskSeveral(t *testing.T) {
	d := &stuckDisk{}
	s, dir, sent := stuckStore(t, d, 2*time.Second)
	begun, waiting := severalMails(1, 3, sent), severalMails(10, 2, sent)
	d.stuck = make(chan struct{})
	answers := make(chan error, 2)
	send := func(mails []crashMail) { _, err := sendSeveral(s, mails); answers <- err }
	go send(begun)
	<-d.entered
	go send(waiting)
	for range 2 {
		if err := <-answers; !errors.Is(err, store.ErrSlow) {
			t.Errorf("a batch for a disk that hangs: %v, want ErrSlow", err)
		}
	}
	if n := len(rows(t, s, sent)); n != 0 {
		t.Errorf("%d messages are shown that are not on the disk", n)
	}

	close(d.stuck)
	eventually(t, "the batch is stored", func() bool { return s.Slow() == nil && len(rows(t, s, sent)) == 3 })
	eventually(t, "the spool is empty", spoolEmptied(dir))
	for _, again := range []struct {
		mails []crashMail
		known bool
		first store.UID
	}{{begun, true, 1}, {waiting, false, 4}} {
		res, err := sendSeveral(s, again.mails)
		if err != nil || res.Duplicate != again.known || len(res.Ops) != len(again.mails) || res.Ops[0].New[0].First != again.first {
			t.Errorf("said again: %+v, %v; want a repetition: %v, from UID %d", res, err, again.known, again.first)
		}
	}
	want := append(begun, waiting...)
	got := rows(t, s, sent)
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
	for i, r := range got {
		if !strings.HasSuffix(read(t, s, sent.BAL, r.Message), want[i].Raw) {
			t.Errorf("message %d has other octets", i+1)
		}
	}
	storetest.Check(t, s)
}

// TestSlowDiskSeveralFails lets that sync fail when nobody waits any more: after the next start there is none of the messages.
func TestSlowDiskSeveralFails(t *testing.T) {
	d := &stuckDisk{err: syscall.EIO}
	s, dir, sent := stuckStore(t, d, 50*time.Millisecond)
	mails := severalMails(1, 3, sent)
	d.stuck = make(chan struct{})
	if _, err := sendSeveral(s, mails); !errors.Is(err, store.ErrSlow) {
		t.Fatalf("%v, want ErrSlow", err)
	}
	close(d.stuck)
	<-s.Failed()
	s.Close()
	s = storetest.Open(t, store.Options{Dir: dir})
	if n := len(rows(t, s, sent)); n != 0 {
		t.Errorf("%d messages of a batch whose sync failed", n)
	}
	spoolIsEmpty(t, s)
	if res, err := sendSeveral(s, mails); err != nil || res.Duplicate || len(res.Ops) != 3 {
		t.Errorf("said again: %+v, %v", res, err)
	}
}

// TestSlowSeveralRefused lets such a batch hang that is then refused: all of its bodies are taken away although nobody waits.
func TestSlowSeveralRefused(t *testing.T) {
	d := &stuckDisk{}
	s, dir, sent := stuckStore(t, d, 2*time.Second)
	d.stuck = make(chan struct{})
	hold := s.HoldCommitter() // so that both are in one group
	answers := make(chan error, 2)
	go func() { _, err := sendSeveral(s, severalMails(1, 2, sent)); answers <- err }()
	go func() {
		_, err := sendSeveral(s, severalMails(10, 3, store.Ref{BAL: sent.BAL, Mailbox: 999}))
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
	eventually(t, "the one that fits is stored", func() bool { return len(rows(t, s, sent)) == 2 })
	eventually(t, "the spool is empty", spoolEmptied(dir))
	storetest.Check(t, s)
}
