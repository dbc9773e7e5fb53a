package store_test

import (
	"context"
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

// fill puts n messages of one body into a mailbox.
func fill(t testing.TB, s *store.Store, to store.Ref, n int, flags store.Flag) store.MessageID {
	t.Helper()
	blob := storetest.NewBlob(t, s, raw)
	batch := &store.Batch{Blob: blob}
	for range n {
		batch.Ops = append(batch.Ops, store.AddMessage{Ref: to, Flags: flags})
	}
	res, err := s.Commit(ctx, batch)
	if err != nil {
		t.Fatal(err)
	}
	return res.ID
}

func expunged(t testing.TB, s *store.Store, bal store.BALID) (all []store.Expunged) {
	t.Helper()
	for after := (store.ExpungedID{}); ; {
		page, err := s.Expunged(ctx, bal, after, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		after = page[len(page)-1].ExpungedID
	}
}

func ids(list []store.Expunged) (out []store.ExpungedID) {
	for _, e := range list {
		out = append(out, e.ExpungedID)
	}
	return out
}

func bodyFiles(dir string) int {
	files, _ := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	return len(files)
}

func expunge(t testing.TB, s *store.Store, r store.Ref, runs []store.Run) {
	t.Helper()
	do(t, s, store.StoreFlags{Ref: r, Runs: runs, Mode: store.Add, Flags: store.Deleted}, store.Expunge{Ref: r, Runs: runs})
}

// TestExpungedLife follows mail that a member expunges, in each of the ways there are: it leaves counts and quota at
// once, can be brought back for seven days, and is then gone with its body.
func TestExpungedLife(t *testing.T) {
	clk := newClock()
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in, sent := box(t, s, b.ID, "INBOX").Ref, box(t, s, b.ID, "Sent").Ref
	dossier := do(t, s, store.CreateMailbox{BAL: b.ID, Name: "Dossier"}).Ops[0].Ref
	date := time.Date(2021, 2, 3, 4, 5, 6, 0, time.UTC)
	blob := storetest.NewBlob(t, s, raw)
	if _, err := s.Commit(ctx, &store.Batch{Blob: blob, Ops: []store.Op{store.AddMessage{Ref: in, Prefix: []byte("X: y\r\n"), Date: date,
		Flags: store.Seen | store.Flagged, Keywords: []string{"rappel"}}}}); err != nil {
		t.Fatal(err)
	}
	storetest.Deliver(t, s, b.ID, raw)
	storetest.Deliver(t, s, b.ID, raw)
	do(t, s, store.Move{From: in, Runs: one(2), To: dossier}, store.Move{From: in, Runs: one(3), To: sent})
	if l := expunged(t, s, b.ID); len(l) != 0 {
		t.Fatalf("a move left %+v", l)
	}
	clk.add(time.Hour)
	expunge(t, s, in, one(1))
	do(t, s, store.DeleteMailbox{Ref: dossier})
	now, _ := s.BAL(b.Address)
	if l := expunged(t, s, b.ID); len(l) != 2 || l[0].Name != "INBOX" || l[1].Name != "Dossier" || !l[0].Date.Equal(date) || now.Messages != 1 || now.Octets != int64(len(raw)+len("Return-Path: <>\r\n")) {
		t.Fatalf("%d messages, %d octets; expunged %+v", now.Messages, now.Octets, l)
	}
	w := s.Watch(in)
	defer w.Close()
	res := do(t, s, store.Undelete{BAL: b.ID, Which: append(ids(expunged(t, s, b.ID)), store.ExpungedID{At: date, Mailbox: in.Mailbox, UID: 9})}).Ops[0]
	if len(res.Undeleted) != 2 || res.Undeleted[0].To != in || res.Undeleted[0].New != 4 {
		t.Errorf("undeleted %+v", res.Undeleted)
	}
	select {
	case <-w.C:
	default:
		t.Error("a session in INBOX was not told")
	}
	got := rows(t, s, in)
	if len(got) != 1 || got[0].UID != 4 || got[0].Flags != store.Seen|store.Flagged || !got[0].Date.Equal(date) || !got[0].SaveDate.Equal(clk.now()) ||
		!slices.Equal(s.Keywords(got[0].Keywords), []string{"rappel"}) || read(t, s, b.ID, got[0].Message) != "X: y\r\n"+raw {
		t.Errorf("what came back: %+v", got)
	}
	if r := rows(t, s, box(t, s, b.ID, "Recovered").Ref); len(r) != 1 {
		t.Errorf("of the deleted mailbox: %+v", r)
	}
	if subs, _ := s.Subscriptions(b.ID); !slices.Contains(subs, "Recovered") {
		t.Errorf("Recovered is not subscribed: %q", subs)
	}

	expunge(t, s, in, one(4))
	if sw := clk.days(t, s, 6); sw.Purged != 0 || len(expunged(t, s, b.ID)) != 1 || bodyFiles(opt.Dir) != 3 {
		t.Errorf("after six days: %+v, %d bodies", sw, bodyFiles(opt.Dir))
	}
	if sw := clk.days(t, s, 1); sw.Purged != 1 || sw.Bodies != 1 || len(expunged(t, s, b.ID)) != 0 || bodyFiles(opt.Dir) != 2 {
		t.Errorf("after seven days: %+v, %d bodies", sw, bodyFiles(opt.Dir))
	}
	if _, err := s.OpenMessage(b.ID, got[0].Message); !errors.Is(err, store.ErrNoMessage) {
		t.Errorf("a purged message: %v", err)
	}
}

// TestUndeleteTargets: the mailbox by its number, though renamed; by its name, though made anew; Recovered; one that is
// asked for.
func TestUndeleteTargets(t *testing.T) {
	for _, c := range []struct {
		name, to, want string
		change         func(t *testing.T, s *store.Store, r store.Ref)
		err            error
	}{
		{name: "still there", want: "Patients/Dossier"},
		{name: "renamed", want: "Ancien", change: func(t *testing.T, s *store.Store, r store.Ref) { do(t, s, store.RenameMailbox{Ref: r, To: "Ancien"}) }},
		{name: "deleted", want: "Recovered", change: func(t *testing.T, s *store.Store, r store.Ref) { do(t, s, store.DeleteMailbox{Ref: r}) }},
		{name: "made anew", want: "Patients/Dossier", change: func(t *testing.T, s *store.Store, r store.Ref) {
			do(t, s, store.DeleteMailbox{Ref: r}, store.CreateMailbox{BAL: r.BAL, Name: "Patients/Dossier"})
		}},
		{name: "asked for, there", to: "inbox", want: "INBOX"},
		{name: "asked for, not there", to: "Retour/Juin", want: "Retour/Juin"},
		{name: "asked for, no name", to: "a//b", err: store.ErrName},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			was := do(t, s, store.CreateMailbox{BAL: b.ID, Name: "Patients/Dossier"}).Ops[0].Ref
			fill(t, s, was, 3, store.Deleted|store.Answered)
			do(t, s, store.Expunge{Ref: was, Runs: one(2)}, store.Expunge{Ref: was, Runs: one(1)})
			if c.change != nil {
				c.change(t, s, was)
			}
			_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Undelete{BAL: b.ID, Which: ids(expunged(t, s, b.ID))[:2], To: c.to}}})
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if c.err != nil {
				if l := expunged(t, s, b.ID); len(l) != 2 {
					t.Errorf("a refused undelete left %+v", l)
				}
				return
			}
			back := 0
			for _, r := range rows(t, s, box(t, s, b.ID, c.want).Ref) {
				if r.Flags == store.Answered {
					back++
				}
			}
			if back != 2 {
				t.Errorf("%d messages came back into %s, want 2", back, c.want)
			}
		})
	}
}

// TestUndeleteTrace: the life of a message goes on under its new UID.
func TestUndeleteTrace(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	commit := func(blob *store.Blob, kind trace.Kind, box store.Ref, op store.Op) trace.ID {
		t.Helper()
		res, err := s.Commit(ctx, &store.Batch{Blob: blob, Ops: []store.Op{op}, Events: []trace.Event{{Kind: kind, BAL: string(b.Address), Mailbox: uint32(box.Mailbox)}}})
		if err != nil {
			t.Fatal(err)
		}
		return res.ID
	}
	var id trace.ID
	for range 4 { // UIDs 1 to 4; the life of 3 is asked for
		if x := commit(storetest.NewBlob(t, s, raw), trace.Committed, in, store.AddMessage{Ref: in, Flags: store.Deleted}); rows(t, s, in)[len(rows(t, s, in))-1].UID == 3 {
			id = x
		}
	}
	commit(nil, trace.Expunged, in, store.Expunge{Ref: in, Runs: one(3)})
	commit(nil, trace.Expunged, in, store.Expunge{Ref: in, Runs: one(1)})
	do(t, s, store.Undelete{BAL: b.ID, Which: ids(expunged(t, s, b.ID)), To: "Retour", Event: trace.Event{Kind: trace.Recovered, Person: "unix:root", BAL: string(b.Address)}})
	back := box(t, s, b.ID, "Retour").Ref
	commit(nil, trace.Flagged, back, store.StoreFlags{Ref: back, Runs: one(2), Mode: store.Add, Flags: store.Seen})
	commit(nil, trace.Flagged, back, store.StoreFlags{Ref: back, Runs: one(1), Mode: store.Add, Flags: store.Seen}) // of another message
	events, err := s.Trace(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind.String()+" "+e.UIDs+" "+e.Attr(trace.KeyToUIDs))
	}
	if want := []string{"committed 3 ", "expunged 3 ", "recovered 1,3 1:2", "flagged 2 "}; !slices.Equal(kinds, want) {
		t.Errorf("the life of the message is %q, want %q", kinds, want)
	}
}

// TestUndeleteQuota: an operator may bring back more than the quota has room for; members then cannot add.
func TestUndeleteQuota(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	fill(t, s, in, 3, store.Deleted)
	do(t, s, store.Expunge{Ref: in, Runs: []store.Run{{First: 1, Count: 9}}})
	b.QuotaMessages = 2
	do(t, s, store.PutBAL{BAL: b})
	fill(t, s, in, 2, 0) // what was expunged does not count
	do(t, s, store.Undelete{BAL: b.ID, Which: ids(expunged(t, s, b.ID))})
	if got, _ := s.BAL(b.Address); got.Messages != 5 || !got.Full(1) {
		t.Errorf("the BAL holds %d messages, full: %v", got.Messages, got.Full(1))
	}
	_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Copy{From: in, Runs: one(4), To: in}}})
	if !errors.Is(err, store.ErrOverQuota) {
		t.Errorf("copy into a full BAL: %v", err)
	}
}

// TestBigExpunge removes 12,000 messages in commits of 5,000, deletes a mailbox, lets the rest go by age, and brings
// 5,000 back: other writers get their turn in between.
func TestBigExpunge(t *testing.T) {
	clk := newClock()
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	const n = 12_000
	fill(t, s, in, n, store.Deleted)
	fill(t, s, in, 10, 0)
	before := box(t, s, b.ID, "INBOX").HighestModSeq
	if err := s.Expunge(ctx, store.Expunge{Ref: in, Runs: []store.Run{{First: 1, Count: ^uint32(0)}}}, trace.Event{Kind: trace.Expunged, Mailbox: uint32(in.Mailbox)}); err != nil {
		t.Fatal(err)
	}
	m := box(t, s, b.ID, "INBOX")
	if m.Messages != 10 || m.HighestModSeq != before+3 {
		t.Errorf("%d messages stay, %d commits", m.Messages, m.HighestModSeq-before)
	}
	ch, err := s.Changes(in, before)
	if err != nil || len(ch.Vanished) != 1 || ch.Vanished[0] != (store.Run{First: 1, Count: n}) {
		t.Errorf("a session hears of %v, %v", ch.Vanished, err)
	}
	all := expunged(t, s, b.ID)
	if len(all) != n || !slices.IsSortedFunc(all, func(x, y store.Expunged) int { return int(x.UID) - int(y.UID) }) {
		t.Fatalf("%d can come back", len(all))
	}
	for part := range slices.Chunk(ids(all[:5000]), 1000) {
		do(t, s, store.Undelete{BAL: b.ID, Which: part})
	}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Undelete{BAL: b.ID, Which: ids(all[5000:6001])}}}); !errors.Is(err, store.ErrLimit) {
		t.Errorf("1001 at once: %v", err)
	}
	clk.days(t, s, 7)
	if l := expunged(t, s, b.ID); len(l) != 0 {
		t.Errorf("%d expunged messages stay", len(l))
	}
	if m := box(t, s, b.ID, "INBOX"); m.Messages != 5010 || bodyFiles(opt.Dir) != 2 {
		t.Errorf("%d messages, %d bodies", m.Messages, bodyFiles(opt.Dir))
	}
}

// TestExpungeLooksOn: what is \Deleted behind more than one operation looks at is found all the same, among few runs
// and among many.
func TestExpungeLooksOn(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	const n = 60_000
	fill(t, s, in, n, 0)
	for i, runs := range [][]store.Run{{{First: 1, Count: n}}, nil} {
		last := store.UID(n - i)
		for uid := store.UID(1); i == 1 && uid <= n; uid += 2 { // half of the runs are of nothing: twice as many as there are UIDs
			runs = append(runs, store.Run{First: uid, Count: 1}, store.Run{First: uid + n + 1, Count: 1})
		}
		do(t, s, store.StoreFlags{Ref: in, Runs: one(last), Mode: store.Add, Flags: store.Deleted})
		if err := s.Expunge(ctx, store.Expunge{Ref: in, Runs: runs}); err != nil {
			t.Fatal(err)
		}
		if m := box(t, s, b.ID, "INBOX"); m.Deleted != 0 || m.Messages != uint32(n-i-1) {
			t.Errorf("%d runs: %d are still \\Deleted, %d messages", len(runs), m.Deleted, m.Messages)
		}
	}
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

// TestExpungedFaults breaks off a commit at each act, written and not: every message is then a row, or can come back, or
// is gone with its body; never two of these, never none.
func TestExpungedFaults(t *testing.T) {
	type world struct {
		s    *store.Store
		bal  store.BAL
		in   store.Ref
		clk  *clock
		list []store.Expunged
	}
	for name, act := range map[string]func(w *world) error{
		"expunge": func(w *world) error {
			return w.s.Expunge(ctx, store.Expunge{Ref: w.in, Runs: []store.Run{{First: 1, Count: 9}}})
		},
		"undelete": func(w *world) error {
			_, err := w.s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Undelete{BAL: w.bal.ID, Which: ids(w.list)}}})
			return err
		},
		"delete": func(w *world) error {
			m, err := w.s.Mailbox(w.bal.ID, "Archive")
			if err != nil {
				return err
			}
			_, err = w.s.Commit(ctx, &store.Batch{Ops: []store.Op{store.DeleteMailbox{Ref: m.Ref}}})
			return err
		},
		"sweep": func(w *world) error { w.clk.add(40 * time.Hour); _, err := w.s.Sweep(ctx, false); return err },
	} {
		for _, written := range []bool{false, true} {
			for after := range 4 {
				t.Run(fmt.Sprintf("%s/written=%v/after=%d", name, written, after), func(t *testing.T) {
					clk := newClock()
					opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now, RetainExpunged: 24 * time.Hour, Retention: map[string]uint32{`\Archive`: 1}}
					s, err := store.Open(opt)
					if err != nil {
						t.Fatal(err)
					}
					w := &world{s: s, clk: clk}
					w.bal = storetest.AddBAL(t, s, "a@bal.example", store.ORG)
					w.in = box(t, s, w.bal.ID, "INBOX").Ref
					fill(t, s, w.in, 4, store.Deleted)
					fill(t, s, box(t, s, w.bal.ID, "Archive").Ref, 2, 0)
					storetest.Deliver(t, s, w.bal.ID, raw)
					expunge(t, s, w.in, []store.Run{{First: 4, Count: 2}})
					w.list = expunged(t, s, w.bal.ID)
					sweep(t, s)
					failCommit(s, after, written)
					err = act(w)
					s.Close()
					if name == "sweep" {
						clk.add(-40 * time.Hour) // or the start would go on with it
					}
					s = storetest.Open(t, opt)
					total := 0
					boxes, _ := s.Mailboxes(w.bal.ID)
					for _, m := range boxes {
						for _, r := range rows(t, s, m.Ref) {
							read(t, s, w.bal.ID, r.Message)
							total++
						}
					}
					for _, e := range expunged(t, s, w.bal.ID) {
						read(t, s, w.bal.ID, e.Message)
						total++
					}
					if name == "sweep" && err != nil && total != 7 && total != 5 || name == "sweep" && err == nil && total != 5 || name != "sweep" && total != 7 {
						t.Errorf("%d messages are there; the act said %v", total, err)
					}
					if after == 0 && !errors.Is(err, store.ErrFailed) {
						t.Errorf("the act said %v", err)
					}
				})
			}
		}
	}
}

// TestRemoveInterrupted: a file cannot be removed, and the process ends: the next sweep does it.
func TestRemoveInterrupted(t *testing.T) {
	clk := newClock()
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true, Now: clk.now, RetainExpunged: time.Hour}
	f := &fault{op: "remove"}
	s, err := store.OpenWith(opt, func(fs store.FileSystem) store.FileSystem { return removeFS{faultFS{fs, f}} })
	if err != nil {
		t.Fatal(err)
	}
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX").Ref
	fill(t, s, in, 2, store.Deleted)
	do(t, s, store.Expunge{Ref: in, Runs: []store.Run{{First: 1, Count: 2}}})
	clk.add(2 * time.Hour)
	f.armed = true
	if _, err := s.Sweep(context.Background(), false); !errors.Is(err, errInjected) || bodyFiles(opt.Dir) != 1 {
		t.Fatalf("%v, %d bodies", err, bodyFiles(opt.Dir))
	}
	s.Close()
	s = storetest.Open(t, opt)
	sweep(t, s)
	if n := bodyFiles(opt.Dir); n != 0 {
		t.Errorf("%d bodies stay after the next sweep", n)
	}
}

type removeFS struct{ faultFS }

func (x removeFS) Remove(p string) error {
	return x.f.run("remove", func() error { return x.FileSystem.Remove(p) })
}

// TestExpungedID reads what it writes and refuses the rest.
func TestExpungedID(t *testing.T) {
	id := store.ExpungedID{At: time.Unix(1234567890, 0).UTC(), Mailbox: 7, UID: 1 << 31}
	if got, err := store.ParseExpungedID(id.String()); got != id || err != nil {
		t.Errorf("%s: %+v, %v", id, got, err)
	}
	for _, s := range []string{"", "1.2", "1.2.3.4", "-1.2.3", "a.2.3", "1.4294967296.3", "1.2.4294967296", "1.2.-3", strings.Repeat("9", 30) + ".1.1"} {
		if got, err := store.ParseExpungedID(s); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

// BenchmarkExpunge removes 100,000 messages, brings them back, removes them again and lets them go for good, beside one
// writer: how long each takes, and how long the writer waited at most.
func BenchmarkExpunge(b *testing.B) {
	const n = 100_000
	all := []store.Run{{First: 1, Count: ^uint32(0)}}
	for range b.N {
		clk := newClock()
		s, err := store.Open(store.Options{Dir: filepath.Join(b.TempDir(), "s"), Create: true, Now: clk.now})
		if err != nil {
			b.Fatal(err)
		}
		bal := storetest.AddBAL(b, s, "a@bal.example", store.ORG)
		in, sent := box(b, s, bal.ID, "INBOX").Ref, box(b, s, bal.ID, "Sent").Ref
		for range n / 10_000 {
			fill(b, s, in, 10_000, store.Deleted)
		}
		stop, longest := make(chan struct{}), make(chan time.Duration)
		go func() {
			var most time.Duration
			for {
				select {
				case <-stop:
					longest <- most
					return
				default:
				}
				from := time.Now()
				if _, err := tryDeliver(s, sent, raw); err != nil {
					b.Error(err)
				}
				most = max(most, time.Since(from))
			}
		}()
		timed := func(what string, do func() error) {
			b.Helper()
			from := time.Now()
			if err := do(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(time.Since(from).Milliseconds()), "ms-"+what)
		}
		expunge := func() error { return s.Expunge(ctx, store.Expunge{Ref: in, Runs: all, All: true}) }
		timed("expunge", expunge)
		timed("undelete", func() error {
			for {
				page, err := s.Expunged(ctx, bal.ID, store.ExpungedID{}, 1000)
				if err != nil || len(page) == 0 {
					return err
				}
				if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Undelete{BAL: bal.ID, Which: ids(page)}}}); err != nil {
					return err
				}
			}
		})
		if err := expunge(); err != nil {
			b.Fatal(err)
		}
		clk.add(8 * 24 * time.Hour)
		timed("let-go", func() error {
			sw, err := s.Sweep(ctx, true)
			if err == nil && sw.Purged != n {
				err = fmt.Errorf("%+v", sw)
			}
			return err
		})
		close(stop)
		b.ReportMetric(float64((<-longest).Milliseconds()), "ms-longest-delivery")
		s.Close()
	}
}
