package store_test

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mssd/message"
	"mssd/store"
	"mssd/store/storetest"
)

var emptyText message.Text

// model is what two mailboxes should hold, and what was expunged from them.
type model struct {
	boxes    [2]modelBox
	expunged []modelGone
	held     bool
}

// modelGone is a message that can come back.
type modelGone struct {
	modelMail
	box int
	at  time.Time
}

type modelBox struct {
	next   store.UID
	mails  []modelMail // by UID
	modSeq store.ModSeq
}

type modelMail struct {
	uid   store.UID
	flags store.Flag
	body  string
}

// TestModel does random operations on two mailboxes, with reopening, and compares with a simple model; a session
// that follows by Changes must end with the same view. Once with expunged mail kept for two days, once without.
func TestModel(t *testing.T) {
	t.Run("kept", func(t *testing.T) { testModel(t, 48*time.Hour) })
	t.Run("not kept", func(t *testing.T) { testModel(t, -1) })
}

func testModel(t *testing.T, keep time.Duration) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "s")
		if err != nil {
			rt.Fatal(err)
		}
		clk := newClock()
		m := &machine{t: t, clk: clk, opt: store.Options{Dir: filepath.Join(dir, "s"), Create: true, NoSync: true, RetainExpunged: keep, Now: clk.now}}
		m.open(rt)
		defer func() { m.s.Close() }()
		m.bal = storetest.AddBAL(t, m.s, "a@bal.example", store.ORG).ID
		for i, name := range []string{"INBOX", "Sent"} {
			m.refs[i] = box(t, m.s, m.bal, name).Ref
			m.want.boxes[i] = modelBox{next: 1, modSeq: 1}
			m.seen[i] = map[store.UID]store.Flag{}
			m.seenSeq[i] = 1
			m.watch[i] = m.s.Watch(m.refs[i])
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": m.check, "deliver": m.deliver, "flags": m.flags, "copy": func(rt *rapid.T) { m.copy(rt, false) },
			"move": func(rt *rapid.T) { m.copy(rt, true) }, "expunge": m.expunge, "follow": m.follow, "reopen": m.reopen,
			"undelete": m.undelete, "hold": m.hold, "days": m.days, "quota": m.quota, "quota copy": m.quotaCopy,
		})
		m.follow(rt)
	})
}

type machine struct {
	t       *testing.T
	clk     *clock
	opt     store.Options
	s       *store.Store
	bal     store.BALID
	refs    [2]store.Ref
	want    model
	watch   [2]*store.Watcher
	seen    [2]map[store.UID]store.Flag // what a session knows
	seenSeq [2]store.ModSeq
	n       int
}

func (m *machine) open(rt *rapid.T) {
	s, err := store.Open(m.opt)
	if err != nil {
		rt.Fatal(err)
	}
	m.s = s
}

func (m *machine) reopen(rt *rapid.T) {
	if err := m.s.Close(); err != nil {
		rt.Fatal(err)
	}
	m.open(rt)
	m.sweep()
	for i := range m.watch {
		m.watch[i] = m.s.Watch(m.refs[i])
	}
}

func (m *machine) deliver(rt *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(rt, "box")
	m.n++
	body := strings.Repeat("x", m.n%50) + "\r\n"
	if _, err := tryDeliver(m.s, m.refs[i], body); err != nil {
		rt.Fatal(err)
	}
	b := &m.want.boxes[i]
	b.mails = append(b.mails, modelMail{b.next, 0, body})
	b.next++
}

func (m *machine) runs(rt *rapid.T, i int) []store.Run {
	return []store.Run{{First: store.UID(rapid.IntRange(1, int(m.want.boxes[i].next)).Draw(rt, "first")), Count: uint32(rapid.IntRange(1, 4).Draw(rt, "count"))}}
}

func in(runs []store.Run, uid store.UID) bool {
	return slices.ContainsFunc(runs, func(r store.Run) bool { return r.First <= uid && uid <= r.Last() })
}

func (m *machine) flags(rt *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(rt, "box")
	op := store.StoreFlags{Ref: m.refs[i], Runs: m.runs(rt, i), Mode: store.Mode(rapid.IntRange(1, 3).Draw(rt, "mode")),
		Flags: store.Flag(rapid.IntRange(0, 31).Draw(rt, "flags"))}
	do(m.t, m.s, op)
	for j := range m.want.boxes[i].mails {
		ml := &m.want.boxes[i].mails[j]
		if !in(op.Runs, ml.uid) {
			continue
		}
		switch op.Mode {
		case store.Add:
			ml.flags |= op.Flags
		case store.Remove:
			ml.flags &^= op.Flags
		default:
			ml.flags = op.Flags
		}
	}
}

func (m *machine) copy(rt *rapid.T, move bool) {
	i, j := rapid.IntRange(0, 1).Draw(rt, "from"), rapid.IntRange(0, 1).Draw(rt, "to")
	runs := m.runs(rt, i)
	if move {
		do(m.t, m.s, store.Move{From: m.refs[i], Runs: runs, To: m.refs[j]})
	} else {
		do(m.t, m.s, store.Copy{From: m.refs[i], Runs: runs, To: m.refs[j]})
	}
	from, to := &m.want.boxes[i], &m.want.boxes[j]
	var moved []modelMail
	for _, ml := range from.mails {
		if in(runs, ml.uid) {
			moved = append(moved, ml)
		}
	}
	if move {
		from.mails = slices.DeleteFunc(from.mails, func(ml modelMail) bool { return in(runs, ml.uid) })
	}
	for _, ml := range moved {
		ml.uid = to.next
		to.next++
		to.mails = append(to.mails, ml)
	}
}

func (m *machine) expunge(rt *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(rt, "box")
	runs := m.runs(rt, i)
	do(m.t, m.s, store.Expunge{Ref: m.refs[i], Runs: runs})
	b := &m.want.boxes[i]
	b.mails = slices.DeleteFunc(b.mails, func(ml modelMail) bool {
		gone := ml.flags&store.Deleted != 0 && in(runs, ml.uid)
		if gone && (m.opt.RetainExpunged > 0 || m.want.held) {
			m.want.expunged = append(m.want.expunged, modelGone{ml, i, m.clk.now()})
		}
		return gone
	})
}

// undelete brings back what was expunged from one mailbox.
func (m *machine) undelete(rt *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(rt, "box")
	var which []store.ExpungedID
	var back []modelGone
	m.want.expunged = slices.DeleteFunc(m.want.expunged, func(g modelGone) bool {
		if g.box != i {
			return false
		}
		which, back = append(which, store.ExpungedID{At: g.at, Mailbox: m.refs[i].Mailbox, UID: g.uid}), append(back, g)
		return true
	})
	do(m.t, m.s, store.Undelete{BAL: m.bal, Which: which})
	slices.SortFunc(back, func(a, b modelGone) int { return int(a.uid) - int(b.uid) })
	b := &m.want.boxes[i]
	for _, g := range back {
		b.mails = append(b.mails, modelMail{b.next, g.flags &^ store.Deleted, g.body})
		b.next++
	}
}

func (m *machine) hold(rt *rapid.T) {
	m.want.held = rapid.Bool().Draw(rt, "held")
	do(m.t, m.s, store.SetHold{Address: "a@bal.example", On: m.want.held})
	m.sweep()
}

// days lets time go by, with the sweep.
func (m *machine) days(rt *rapid.T) {
	m.clk.days(m.t, m.s, rapid.IntRange(0, 2).Draw(rt, "days"))
	m.sweep()
}

func (m *machine) sweep() {
	sweep(m.t, m.s)
	if m.want.held {
		return
	}
	limit := m.clk.now().Add(-max(m.opt.RetainExpunged, 0))
	m.want.expunged = slices.DeleteFunc(m.want.expunged, func(g modelGone) bool { return !g.at.After(limit) })
}

// quotaCopy sets a quota near to what is there, and copies: all that was asked for, or nothing.
func (m *machine) quotaCopy(rt *rapid.T) {
	var octets, messages int64
	for _, b := range m.want.boxes {
		for _, ml := range b.mails {
			octets, messages = octets+int64(len(ml.body)), messages+1
		}
	}
	q := store.BAL{Address: "a@bal.example", QuotaOctets: max(octets+int64(rapid.IntRange(-20, 150).Draw(rt, "octets")), 0), QuotaMessages: max(messages+int64(rapid.IntRange(-1, 5).Draw(rt, "messages")), 0)}
	do(m.t, m.s, store.PutBAL{BAL: q})
	runs := m.runs(rt, 0)
	var fresh []modelMail
	over := false
	for _, ml := range m.want.boxes[0].mails {
		if in(runs, ml.uid) {
			octets, messages = octets+int64(len(ml.body)), messages+1
			over = over || q.QuotaOctets > 0 && octets > q.QuotaOctets || q.QuotaMessages > 0 && messages > q.QuotaMessages
			fresh = append(fresh, ml)
		}
	}
	_, err := m.s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Copy{From: m.refs[0], Runs: runs, To: m.refs[1]}}})
	if over != errors.Is(err, store.ErrOverQuota) || !over && err != nil {
		rt.Fatalf("a copy that makes %d octets in %d messages, quota %d and %d: %v", octets, messages, q.QuotaOctets, q.QuotaMessages, err)
	}
	if !over {
		b := &m.want.boxes[1]
		for _, ml := range fresh {
			ml.uid = b.next
			b.next++
			b.mails = append(b.mails, ml)
		}
	}
	do(m.t, m.s, store.PutBAL{BAL: store.BAL{Address: "a@bal.example"}})
}

// quota sets a quota near to what is there, and adds a message as a member does: it is judged by counts and octets that
// the model has of its own.
func (m *machine) quota(rt *rapid.T) {
	var octets, messages int64
	for _, b := range m.want.boxes {
		for _, ml := range b.mails {
			octets, messages = octets+int64(len(ml.body)), messages+1
		}
	}
	body := strings.Repeat("q", rapid.IntRange(1, 60).Draw(rt, "size"))
	q := store.BAL{Address: "a@bal.example", QuotaOctets: max(octets+int64(rapid.IntRange(-20, 80).Draw(rt, "octets")), 0), QuotaMessages: max(messages+int64(rapid.IntRange(-1, 2).Draw(rt, "messages")), 0)}
	do(m.t, m.s, store.PutBAL{BAL: q})
	over := q.QuotaOctets > 0 && octets+int64(len(body)) > q.QuotaOctets || q.QuotaMessages > 0 && messages+1 > q.QuotaMessages
	_, err := m.s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(m.t, m.s, body), Ops: []store.Op{store.AddMessage{Ref: m.refs[0]}}})
	if over != errors.Is(err, store.ErrOverQuota) || !over && err != nil {
		rt.Fatalf("%d octets in %d messages, %d more, quota %d and %d: %v", octets, messages, len(body), q.QuotaOctets, q.QuotaMessages, err)
	}
	if !over {
		b := &m.want.boxes[0]
		b.mails = append(b.mails, modelMail{b.next, 0, body})
		b.next++
	}
	do(m.t, m.s, store.PutBAL{BAL: store.BAL{Address: "a@bal.example"}})
	if b, _ := m.s.BAL("a@bal.example"); !over && (b.Octets != octets+int64(len(body)) || b.Messages != messages+1) || over && (b.Octets != octets || b.Messages != messages) {
		rt.Fatalf("the BAL counts %d octets in %d messages", b.Octets, b.Messages)
	}
}

// check compares the store with the model.
func (m *machine) check(rt *rapid.T) {
	for i := range m.refs {
		want := &m.want.boxes[i]
		got := rows(m.t, m.s, m.refs[i])
		if len(got) != len(want.mails) {
			rt.Fatalf("box %d: %d rows, want %d", i, len(got), len(want.mails))
		}
		for j, r := range got {
			w := want.mails[j]
			if r.UID != w.uid || r.Flags != w.flags || read(m.t, m.s, m.bal, r.Message) != w.body {
				rt.Fatalf("box %d: %+v, want %+v", i, r, w)
			}
		}
		mb, err := m.s.MailboxByRef(m.refs[i])
		if err != nil || mb.UIDNext != want.next || mb.HighestModSeq < want.modSeq {
			rt.Fatalf("box %d: %+v, want UIDNEXT %d, at least MODSEQ %d", i, mb, want.next, want.modSeq)
		}
		want.modSeq = mb.HighestModSeq
		snap, err := m.s.Snapshot(m.refs[i], false)
		n := 0
		for _, r := range snap.Runs {
			n += int(r.Count)
		}
		if err != nil || n != len(got) {
			rt.Fatalf("box %d: snapshot of %d, %v", i, n, err)
		}
	}
	for i := range m.refs {
		got := slices.DeleteFunc(expunged(m.t, m.s, m.bal), func(e store.Expunged) bool { return e.Mailbox != m.refs[i].Mailbox })
		want := slices.DeleteFunc(slices.Clone(m.want.expunged), func(g modelGone) bool { return g.box != i })
		slices.SortFunc(want, func(a, b modelGone) int { return cmp.Or(a.at.Compare(b.at), int(a.uid)-int(b.uid)) })
		if len(got) != len(want) {
			rt.Fatalf("box %d: %d can come back, want %d", i, len(got), len(want))
		}
		for j, e := range got {
			w := want[j]
			if e.UID != w.uid || !e.At.Equal(w.at) || e.Flags != w.flags || read(m.t, m.s, m.bal, e.Message) != w.body {
				rt.Fatalf("box %d: %+v can come back, want %+v", i, e, w)
			}
		}
	}
	var octets, messages int64
	for _, b := range m.want.boxes {
		for _, ml := range b.mails {
			octets, messages = octets+int64(len(ml.body)), messages+1
		}
	}
	if b, err := m.s.BAL("a@bal.example"); err != nil || b.Octets != octets || b.Messages != messages {
		rt.Fatalf("the BAL counts %d octets in %d messages, want %d in %d", b.Octets, b.Messages, octets, messages)
	}
	problems, err := m.s.Check(ctx)
	if err != nil || len(problems) > 0 {
		rt.Fatalf("check: %v %v", problems, err)
	}
}

// follow does what a session does when it is told of changes.
func (m *machine) follow(rt *rapid.T) {
	for i := range m.refs {
		ch, err := m.s.Changes(m.refs[i], m.seenSeq[i])
		if err != nil || ch.Reset {
			rt.Fatal(ch, err)
		}
		for uid := range m.seen[i] {
			if in(ch.Vanished, uid) {
				delete(m.seen[i], uid)
			}
		}
		for _, r := range ch.Rows {
			m.seen[i][r.UID] = r.Flags
		}
		m.seenSeq[i] = ch.Mailbox.HighestModSeq
		if len(m.seen[i]) != len(m.want.boxes[i].mails) {
			rt.Fatalf("box %d: the session sees %d messages, want %d", i, len(m.seen[i]), len(m.want.boxes[i].mails))
		}
		for _, ml := range m.want.boxes[i].mails {
			if f, ok := m.seen[i][ml.uid]; !ok || f != ml.flags {
				rt.Fatalf("box %d UID %d: the session sees %v %v", i, ml.uid, f, ok)
			}
		}
	}
}
