package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now().Truncate(time.Second)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// days lets the time go on as it does for a daemon that sweeps now and then.
func (c *clock) days(t testing.TB, s *store.Store, n int) (sum store.Swept) {
	t.Helper()
	for range n {
		c.add(24 * time.Hour)
		sw := sweep(t, s)
		sum.Retired += sw.Retired
		sum.Purged += sw.Purged
		sum.Bodies += sw.Bodies
	}
	return sum
}

func sweep(t testing.TB, s *store.Store) store.Swept {
	t.Helper()
	sw, err := s.Sweep(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	return sw
}

// TestHold: nothing of a held BAL is lost, others go on, and after the release all takes its course.
func TestHold(t *testing.T) {
	for _, retain := range []time.Duration{0, -1} {
		t.Run(fmt.Sprint(retain), func(t *testing.T) {
			clk := newClock()
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now, RetainExpunged: retain,
				Retention: map[string]uint32{`\Trash`: 3}}
			s := storetest.Open(t, opt)
			held, other := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.ORG)
			// One body in both, one only in the held one.
			ha, oa := box(t, s, held.ID, "INBOX").Ref, box(t, s, other.ID, "INBOX").Ref
			if _, err := s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(t, s, raw), Ops: []store.Op{store.AddMessage{Ref: ha}, store.AddMessage{Ref: oa}}}); err != nil {
				t.Fatal(err)
			}
			storetest.Deliver(t, s, held.ID, raw)
			storetest.Deliver(t, s, held.ID, raw)
			trash := box(t, s, held.ID, "Trash").Ref
			fill(t, s, trash, 1, 0)
			do(t, s, store.SetHold{Address: held.Address, On: true})
			since := clk.now()
			clk.add(time.Minute)
			do(t, s, store.SetHold{Address: held.Address, On: true}, store.PutBAL{BAL: held})
			if b, _ := s.BAL(held.Address); !b.HeldSince.Equal(since) {
				t.Errorf("held since %v, want %v", b.HeldSince, since)
			}
			expunge(t, s, ha, []store.Run{{First: 1, Count: 2}})
			expunge(t, s, oa, one(1))
			do(t, s, store.Move{From: ha, Runs: one(3), To: oa}) // out of the BAL: it stays here too
			if sw := clk.days(t, s, 60); sw.Retired != 0 {
				t.Errorf("%d messages of a held BAL were expunged for their age", sw.Retired)
			}
			if l := expunged(t, s, held.ID); len(l) != 3 {
				t.Errorf("of the held BAL %d messages can come back, want 3", len(l))
			}
			if l := expunged(t, s, other.ID); len(l) != 0 || bodyFiles(opt.Dir) != 4 {
				t.Errorf("of the other BAL %d messages can come back; %d bodies", len(l), bodyFiles(opt.Dir))
			}
			if r := rows(t, s, oa); len(r) != 1 || read(t, s, other.ID, r[0].Message) != "Return-Path: <>\r\n"+raw {
				t.Errorf("what was moved out of the held BAL: %+v", r)
			}
			s.Close()
			opt.Create = false
			s = storetest.Open(t, opt)
			if b, _ := s.BAL(held.Address); !b.HeldSince.Equal(since) {
				t.Errorf("after a restart held since %v", b.HeldSince)
			}
			do(t, s, store.SetHold{Address: held.Address})
			clk.days(t, s, 1)
			if l := expunged(t, s, held.ID); len(l) > 1 {
				t.Errorf("after the release %d messages can come back, want at most the one from Trash", len(l))
			}
			clk.days(t, s, 8)
			if l := expunged(t, s, held.ID); len(l) != 0 || bodyFiles(opt.Dir) != 1 {
				t.Errorf("long after the release %d messages can come back; %d bodies", len(l), bodyFiles(opt.Dir))
			}
		})
	}
}

// TestRetention: defaults by special use, mailboxes that say otherwise, the time counted from the coming into the
// mailbox, sessions told, one event per commit.
func TestRetention(t *testing.T) {
	clk := newClock()
	var mu sync.Mutex
	var heard []string
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now, Retention: map[string]uint32{`\Trash`: 30, `\Junk`: 10},
		Observe: func(e trace.Event) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, fmt.Sprintf("%s %s %s %d %s %s", e.Kind, e.Person, e.BAL, e.Mailbox, e.UIDs, e.Attr(trace.KeyAct)))
		}}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in, trash, junk, sent := box(t, s, b.ID, "INBOX").Ref, box(t, s, b.ID, "Trash").Ref, box(t, s, b.ID, "Junk").Ref, box(t, s, b.ID, "Sent").Ref
	for _, days := range []uint32{store.MaxRetention + 1, 1 << 31} {
		if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.SetRetention{Ref: sent, Days: days}}}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("retention of %d days: %v", days, err)
		}
	}
	do(t, s, store.SetRetention{Ref: sent, Days: 5}, store.SetRetention{Ref: junk, Days: store.Never})
	fill(t, s, in, 3, 0)
	fill(t, s, junk, 2, 0)
	fill(t, s, sent, 2, store.Flagged)
	fill(t, s, trash, 1, 0)
	if sw := clk.days(t, s, 4); sw.Retired != 0 {
		t.Errorf("after four days: %+v", sw)
	}
	do(t, s, store.Copy{From: sent, Runs: one(1), To: sent}) // UID 3 came in on the fourth day
	w := s.Watch(sent)
	defer w.Close()
	if sw := clk.days(t, s, 2); sw.Retired != 2 {
		t.Errorf("after six days: %+v", sw)
	}
	select {
	case <-w.C:
	default:
		t.Error("no session was told")
	}
	if r := rows(t, s, sent); len(r) != 1 || r[0].UID != 3 {
		t.Errorf("Sent after six days: %+v", r)
	}
	if l := expunged(t, s, b.ID); len(l) != 2 || l[0].Name != "Sent" {
		t.Errorf("can come back: %+v", l)
	}
	do(t, s, store.Move{From: in, Runs: one(1), To: trash}) // the sixth day of thirty
	clk.days(t, s, 25)
	if m := box(t, s, b.ID, "Trash"); m.Messages != 1 {
		t.Errorf("Trash on day 31: %d messages, want the one that came later", m.Messages)
	}
	clk.days(t, s, 6)
	for name, want := range map[string]uint32{"INBOX": 2, "Trash": 0, "Junk": 2, "Sent": 0} {
		if m := box(t, s, b.ID, name); m.Messages != want {
			t.Errorf("%s holds %d messages, want %d", name, m.Messages, want)
		}
	}
	do(t, s, store.SetRetention{Ref: junk}) // back to the default
	if sw := sweep(t, s); sw.Retired != 2 {
		t.Errorf("Junk by its default: %+v", sw)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"expunged system:sweep a@bal.example %d 1:2 retention", "expunged system:sweep a@bal.example %d 1:2 purge"} {
		if want = fmt.Sprintf(want, sent.Mailbox); !slices.Contains(heard, want) {
			t.Errorf("the trace has no %q:\n%s", want, strings.Join(heard, "\n"))
		}
	}
}

// TestClockJumps: a clock that goes ahead by years wipes nothing, unless it stands for a day or the operator confirms
// it; one that goes back ages nothing.
func TestClockJumps(t *testing.T) {
	const years = 10 * 365 * 24 * time.Hour
	begin := func(t *testing.T) (*store.Store, *clock, *time.Duration, func()) {
		clk := newClock()
		up := new(time.Duration)
		s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now, Retention: map[string]uint32{`\Trash`: 30}})
		s.SetUptime(func() time.Duration { return *up })
		b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
		fill(t, s, box(t, s, b.ID, "Trash").Ref, 3, 0)
		in := box(t, s, b.ID, "INBOX").Ref
		fill(t, s, in, 2, store.Deleted)
		do(t, s, store.Expunge{Ref: in, Runs: one(1)})
		sweep(t, s)
		holds := func() {
			t.Helper()
			if sw := sweep(t, s); sw.Retired+sw.Purged+sw.Bodies != 0 {
				t.Fatalf("the sweep removed %+v", sw)
			}
		}
		return s, clk, up, holds
	}
	wiped := func(t *testing.T, sw store.Swept) {
		t.Helper()
		if sw.Retired != 3 || sw.Purged != 1 || sw.Clock.Waiting() {
			t.Errorf("the sweep did %+v; want 3 retired, 1 purged", sw)
		}
	}
	t.Run("ahead, confirmed", func(t *testing.T) {
		s, clk, _, holds := begin(t)
		clk.add(years)
		holds()
		if w := s.ClockWait(); !w.Waiting() || w.Left != 24*time.Hour || !w.Clock.Equal(clk.now()) || !w.Believed.Equal(clk.now().Add(-years)) {
			t.Errorf("%+v", w)
		}
		clk.add(years)
		holds()
		sw, err := s.Sweep(ctx, true)
		if err != nil {
			t.Fatal(err)
		}
		wiped(t, sw)
	})
	t.Run("ahead, for a day", func(t *testing.T) {
		s, clk, up, holds := begin(t)
		clk.add(years)
		holds()
		for range 23 {
			clk.add(time.Hour)
			*up += time.Hour
			holds()
		}
		*up += time.Hour
		wiped(t, sweep(t, s))
	})
	t.Run("ahead, set right, ahead", func(t *testing.T) {
		s, clk, up, holds := begin(t)
		for range 3 {
			clk.add(years)
			holds()
			*up += 20 * time.Hour
			clk.add(-years)
			holds()
			if s.ClockWait().Waiting() {
				t.Error("a clock set right is not believed")
			}
		}
	})
	t.Run("over a restart", func(t *testing.T) {
		s, clk, _, _ := begin(t)
		dir := s.Dir()
		s.Close()
		clk.add(years)
		s = storetest.Open(t, store.Options{Dir: dir, NoSync: true, Now: clk.now, Retention: map[string]uint32{`\Trash`: 30}})
		if sw := sweep(t, s); sw.Retired+sw.Purged != 0 || !sw.Clock.Waiting() {
			t.Errorf("the sweep did %+v", sw)
		}
	})
	t.Run("back", func(t *testing.T) {
		s, clk, up, holds := begin(t)
		b, _ := s.BAL("a@bal.example")
		in, trash := box(t, s, b.ID, "INBOX").Ref, box(t, s, b.ID, "Trash").Ref
		was := clk.now()
		clk.add(-years)
		holds()
		do(t, s, store.Expunge{Ref: in, Runs: one(2)})
		fill(t, s, trash, 1, 0)
		*up += 5 * time.Hour
		clk.add(years)
		holds()
		if l := expunged(t, s, b.ID); len(l) != 2 || l[1].At.Before(was) {
			t.Errorf("expunged under a wrong clock: %+v", l)
		}
		if r := rows(t, s, trash); len(r) != 4 || r[3].SaveDate.Before(was) {
			t.Errorf("Trash: %+v", r)
		}
	})
}
