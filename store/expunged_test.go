package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

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

// TestBigDelete deletes a mailbox of 12,000 messages in more than one commit; broken off after the first it is there with
// the rest, counted right, and deleting it again ends the work.
func TestBigDelete(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	do(t, s, store.CreateMailbox{BAL: b.ID, Name: "Dossier"})
	big := box(t, s, b.ID, "Dossier").Ref
	const n = 12_000
	fill(t, s, big, n, 0)
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.DeleteMailbox{Ref: big}}}); !errors.Is(err, store.ErrLimit) {
		t.Errorf("in one commit: %v, want ErrLimit", err)
	}
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	s.SetCommit(func(tx *bolt.Tx) error { cancel(); return tx.Commit() })
	removed := trace.Event{Kind: trace.Expunged, BAL: string(b.Address), Mailbox: uint32(big.Mailbox)}
	last := trace.Event{Kind: trace.Mailbox, BAL: string(b.Address)}
	if err := s.DeleteMailbox(c, big, last, removed); !errors.Is(err, context.Canceled) {
		t.Fatalf("broken off: %v", err)
	}
	do(t, s, store.CreateMailbox{BAL: b.ID, Name: "Behind"}) // what was under way when it broke off is done
	left := box(t, s, b.ID, "Dossier").Messages
	if bal, err := s.BAL(b.Address); err != nil || left == 0 || left >= n || bal.Messages != int64(left) || len(expunged(t, s, b.ID)) != n-int(left) {
		t.Errorf("broken off: %d messages are left, the BAL counts %d, %v", left, bal.Messages, err)
	}
	storetest.Check(t, s)
	if err := s.DeleteMailbox(ctx, big, last, removed); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mailbox(b.ID, "Dossier"); !errors.Is(err, store.ErrNoMailbox) {
		t.Errorf("deleted, but %v", err)
	}
	if bal, err := s.BAL(b.Address); err != nil || bal.Messages != 0 || bal.Octets != 0 || len(expunged(t, s, b.ID)) != n {
		t.Errorf("the BAL counts %d messages, %v", bal.Messages, err)
	}
	if err := s.DeleteMailbox(ctx, box(t, s, b.ID, "INBOX").Ref, last, removed); !errors.Is(err, store.ErrName) {
		t.Errorf("INBOX: %v", err)
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
