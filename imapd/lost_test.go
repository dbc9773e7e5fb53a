package imapd

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// many puts n messages of one body into a mailbox.
func (w *world) many(box string, n int, flags store.Flag) {
	w.t.Helper()
	blob := must[*store.Blob](w.t, "blob")(w.store.NewBlob())
	defer blob.Abort()
	if _, err := blob.Write([]byte(mail)); err != nil {
		w.t.Fatal(err)
	}
	meta, text, err := message.Scan(strings.NewReader(mail))
	if err == nil {
		err = blob.Finish(meta, text)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	batch := &store.Batch{Blob: blob}
	for range n {
		batch.Ops = append(batch.Ops, store.AddMessage{Ref: w.box(box).Ref, Flags: flags})
	}
	if _, err := w.store.Commit(w.t.Context(), batch); err != nil {
		w.t.Fatal(err)
	}
}

// TestBigExpunge: EXPUNGE and DELETE of more than one commit removes are complete when they answer, and all of it can
// come back.
func TestBigExpunge(t *testing.T) {
	const n = store.MaxExpunge + 500
	w := newWorld(t, nil)
	w.many("INBOX", n, store.Deleted)
	s, other := w.login(ownerName, "INBOX"), w.login(ownerName, "INBOX")
	lines := s.ok("EXPUNGE")
	if got := strings.Count(strings.Join(lines, "\n"), " EXPUNGE"); got != n || w.box("INBOX").Messages != 0 {
		t.Errorf("%d EXPUNGE responses, %d messages left; want %d and 0", got, w.box("INBOX").Messages, n)
	}
	if got := strings.Count(strings.Join(other.ok("NOOP"), "\n"), " EXPUNGE"); got != n {
		t.Errorf("another session hears of %d, want %d", got, n)
	}
	s.ok("CREATE Dossier")
	w.many("Dossier", n, 0)
	s.ok("DELETE Dossier")
	s.want("SELECT Dossier", "NO [NONEXISTENT]")
	if got, _, err := w.store.CountExpunged(w.bal.ID); err != nil || got != 2*n {
		t.Errorf("%d messages can come back, %v; want %d", got, err, 2*n)
	}
}

// TestRetentionPush: what goes for its age is told to a session that waits, as if another one had expunged it; what an
// operator brings back too.
func TestRetentionPush(t *testing.T) {
	var days atomic.Int64
	w := newWorldAt(t, nil, func() time.Time { return time.Now().AddDate(0, 0, int(days.Load())) })
	for range 3 {
		w.deliver("INBOX", mail)
	}
	w.commit(store.SetRetention{Ref: w.box("INBOX").Ref, Days: 1})
	s := w.login(ownerName, "INBOX")
	s.send("i IDLE\r\n")
	s.line()
	next := func(want string) {
		t.Helper()
		for {
			switch l := s.line(); l {
			case want:
				return
			case "* OK Still here":
			default:
				s.fail("got %q, want %q", l, want)
			}
		}
	}
	days.Store(2)
	if sw := must[store.Swept](t, "sweep")(w.store.Sweep(t.Context(), true)); sw.Retired != 3 {
		t.Fatalf("the sweep did %+v", sw)
	}
	for n := 3; n > 0; n-- {
		next(fmt.Sprintf("* %d EXPUNGE", n))
	}
	list := must[[]store.Expunged](t, "expunged")(w.store.Expunged(t.Context(), w.bal.ID, store.ExpungedID{}, 10))
	w.commit(store.Undelete{BAL: w.bal.ID, Which: []store.ExpungedID{list[1].ExpungedID}, Event: trace.Event{Kind: trace.Recovered}})
	next("* 1 EXISTS")
	next("* 1 RECENT")
	s.send("DONE\r\n")
	next("i OK IDLE completed")
	if l := s.ok("FETCH 1 (UID)"); len(l) != 1 || !strings.Contains(l[0], fmt.Sprint("UID ", 4)) {
		t.Errorf("what came back: %q", l)
	}
}
