package store_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

var ctx = context.Background()

func do(t testing.TB, s *store.Store, ops ...store.Op) *store.Result {
	t.Helper()
	res, err := s.Commit(ctx, &store.Batch{Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func box(t testing.TB, s *store.Store, bal store.BALID, name string) store.Mailbox {
	t.Helper()
	m, err := s.Mailbox(bal, name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m
}

func rows(t testing.TB, s *store.Store, r store.Ref) (out []store.Row) {
	t.Helper()
	if err := s.Rows(ctx, r, []store.Run{{First: 1, Count: ^uint32(0)}}, func(r store.Row) bool { out = append(out, r); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t testing.TB, s *store.Store, bal store.BALID, id store.MessageID) string {
	t.Helper()
	c, err := s.OpenMessage(bal, id)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func one(uid store.UID) []store.Run { return []store.Run{{First: uid, Count: 1}} }

const raw = "From: a@labo.example\r\nSubject: essai\r\nMessage-ID: <m1@labo.example>\r\n\r\nBonjour\r\n"

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	if _, err := store.Open(store.Options{Dir: dir}); !errors.Is(err, store.ErrNoStore) {
		t.Errorf("missing directory: %v", err)
	}
	s := storetest.Open(t, store.Options{Dir: dir, Create: true})
	if _, err := store.Open(store.Options{Dir: dir}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("second opening: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p1 := s.Pseudonym("x", "y")
	s2, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if p2 := s2.Pseudonym("x", "y"); p1 != p2 || len(p1) != 32 || p1 == s2.Pseudonym("xy", "") {
		t.Errorf("pseudonyms %s, %s", p1, p2)
	}
	s2.Close()
	for _, f := range []string{"index.db", "keys", "VERSION"} {
		t.Run("damaged "+f, func(t *testing.T) {
			path := filepath.Join(dir, f)
			good, _ := os.ReadFile(path)
			defer os.WriteFile(path, good, 0o600)
			os.WriteFile(path, []byte("mssd store 7\n"), 0o600)
			_, err := store.Open(store.Options{Dir: dir})
			if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrVersion) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name %s", err, path)
			}
			if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", st.Mode())
			}
		})
	}
	foreign := t.TempDir()
	os.WriteFile(filepath.Join(foreign, "thesis.txt"), nil, 0o600)
	if _, err := store.Open(store.Options{Dir: foreign, Create: true}); !errors.Is(err, store.ErrNoStore) {
		t.Errorf("foreign directory: %v", err)
	}
}

func TestBALs(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "pharmacie@bal.example", store.ORG)
	_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutBAL{Create: true, BAL: b}}})
	if !errors.Is(err, store.ErrBALExists) {
		t.Errorf("second creation: %v", err)
	}
	var names []string
	boxes, _ := s.Mailboxes(b.ID)
	for _, m := range boxes {
		names = append(names, m.Name+m.SpecialUse)
	}
	want := []string{`Archive\Archive`, `Drafts\Drafts`, "INBOX", `Junk\Junk`, `Sent\Sent`, `Trash\Trash`}
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
	if subs, _ := s.Subscriptions(b.ID); len(subs) != 6 {
		t.Errorf("subscriptions %q", subs)
	}
	do(t, s, store.PutMember{Address: b.Address, Member: store.Member{ID: "rpps:1", Role: store.Owner, PasswordHash: "$argon2id$x", SCRAM: "SCRAM-SHA-256$x"}})
	do(t, s, store.EndMember{Address: b.Address, Member: "rpps:1"}, store.SetBALState{Address: b.Address, State: store.Suspended})
	if m := s.Members(b.ID); len(m) != 1 || m[0].Active(time.Now()) || m[0].PasswordHash != "" || m[0].SCRAM != "" {
		t.Errorf("members %v", m)
	}
	if b, _ = s.BAL(b.Address); b.State != store.Suspended {
		t.Errorf("state %v", b.State)
	}
	// A new BAL whose batch fails later leaves nothing.
	_, err = s.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutBAL{Create: true, BAL: store.BAL{Address: "x@y.example", Kind: store.PER, State: store.Active, Listing: store.Published}},
		store.SetBALState{Address: "nobody@y.example", State: store.Active}}})
	if !errors.Is(err, store.ErrNoBAL) || s.HasDomain("y.example") || !s.HasDomain("bal.example") {
		t.Errorf("%v, domains %q", err, s.Domains())
	}
}

func TestDeliverAndRead(t *testing.T) {
	s := storetest.New(t)
	a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.ORG)
	inA, inB := box(t, s, a.ID, "inbox"), box(t, s, b.ID, "INBOX")
	res, err := s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(t, s, raw), Ops: []store.Op{
		store.AddMessage{Ref: inA.Ref, Prefix: []byte("X: a\r\n"), Keywords: []string{"$MDNSent"}},
		store.AddMessage{Ref: inB.Ref, Prefix: []byte("X: bb\r\n"), Flags: store.Seen, Size: int64(len(raw) + 7)}},
		Events: []trace.Event{{Kind: trace.Committed, BAL: "a@bal.example", Mailbox: uint32(inA.Mailbox)}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, s, a.ID, res.ID), "X: a\r\n"+raw; got != want {
		t.Errorf("a reads %q", got)
	}
	if got, want := read(t, s, b.ID, res.ID), "X: bb\r\n"+raw; got != want {
		t.Errorf("b reads %q", got)
	}
	c, _ := s.OpenMessage(a.ID, res.ID)
	p := make([]byte, 8)
	if n, err := c.ReadAt(p, 3); n != 8 || err != nil || string(p) != "a\r\nFrom:" {
		t.Errorf("read over the border: %q %v", p[:n], err)
	}
	c.Close()
	m := box(t, s, a.ID, "INBOX")
	if m.Messages != 1 || m.Unseen != 1 || m.UIDNext != 2 || m.Octets != int64(len(raw)+6) {
		t.Errorf("%+v", m)
	}
	r := rows(t, s, inA.Ref)
	if len(r) != 1 || !slices.Equal(s.Keywords(r[0].Keywords), []string{"$MDNSent"}) || r[0].Message != res.ID {
		t.Errorf("%+v", r)
	}
	meta, err := s.Meta(ctx, res.ID)
	if err != nil || meta.Size != int64(len(raw)) {
		t.Errorf("%v %v", meta, err)
	}
	if ids, err := s.TraceByMessageID(ctx, " <m1@labo.example>"); err != nil || !slices.Equal(ids, []trace.ID{res.ID}) {
		t.Errorf("by Message-ID: %v %v", ids, err)
	}
	// Both expunge it: the body goes, as this store retains nothing.
	for _, r := range []store.Ref{inA.Ref, inB.Ref} {
		do(t, s, store.StoreFlags{Ref: r, Runs: one(1), Mode: store.Add, Flags: store.Deleted}, store.Expunge{Ref: r, Runs: one(1)})
	}
	if _, err := s.OpenMessage(a.ID, res.ID); !errors.Is(err, store.ErrNoMessage) {
		t.Errorf("after expunge: %v", err)
	}
}

func TestOnce(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	deliver := func() *store.Result {
		res, err := s.Commit(ctx, &store.Batch{Blob: storetest.NewBlob(t, s, raw), Once: &store.Once{Key: [32]byte{7}}, Ops: []store.Op{store.AddMessage{Ref: in.Ref}}})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first, second := deliver(), deliver()
	if first.Duplicate || !second.Duplicate || second.ID != first.ID {
		t.Errorf("%+v then %+v", first, second)
	}
	s.Confirm(first.ID)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if third := deliver(); third.Duplicate {
		t.Error("a confirmed delivery was not forgotten")
	}
	if m := box(t, s, b.ID, "INBOX"); m.Messages != 2 {
		t.Errorf("%d messages", m.Messages)
	}
}

func TestMailboxes(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	storetest.Deliver(t, s, b.ID, raw)
	for name, want := range map[string]error{"": store.ErrName, "a//b": store.ErrName, "/a": store.ErrName, "a/": store.ErrName, "a\x00": store.ErrName, "a\u0085b": store.ErrName,
		"\xff": store.ErrName, strings.Repeat("x", 1001): store.ErrName, "inbox": store.ErrMailboxExists, "Sent": store.ErrMailboxExists, "Été/2026": nil} {
		_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.CreateMailbox{BAL: b.ID, Name: name}}})
		if !errors.Is(err, want) {
			t.Errorf("create %q: %v, want %v", name, err, want)
		}
	}
	top := box(t, s, b.ID, "Été") // the parent was made too
	do(t, s, store.DeleteMailbox{Ref: top.Ref})
	all, _ := s.Mailboxes(b.ID)
	if i := slices.IndexFunc(all, func(m store.Mailbox) bool { return m.Name == "Été" }); i < 0 || all[i].Created {
		t.Errorf("the parent of a mailbox must remain as a name: %+v", all)
	}
	again := do(t, s, store.CreateMailbox{BAL: b.ID, Name: "Été"}).Ops[0]
	if again.UIDValidity <= top.UIDValidity {
		t.Errorf("UIDVALIDITY %d after %d", again.UIDValidity, top.UIDValidity)
	}
	do(t, s, store.RenameMailbox{Ref: again.Ref, To: "Vieux/Été"})
	box(t, s, b.ID, "Vieux/Été/2026")
	box(t, s, b.ID, "Vieux")
	moved := do(t, s, store.RenameMailbox{Ref: in.Ref, To: "Reçus"}).Ops[0]
	if m := box(t, s, b.ID, "INBOX"); m.Messages != 0 || m.UIDNext != 2 {
		t.Errorf("INBOX after RENAME: %+v", m)
	}
	if r := rows(t, s, moved.Ref); len(r) != 1 {
		t.Errorf("Reçus: %+v", r)
	}
	_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.DeleteMailbox{Ref: in.Ref}}})
	if !errors.Is(err, store.ErrName) {
		t.Errorf("delete of INBOX: %v", err)
	}
}

func TestFlags(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	for range 3 {
		storetest.Deliver(t, s, b.ID, raw)
	}
	w := s.Watch(in.Ref)
	defer w.Close()
	before := box(t, s, b.ID, "INBOX").HighestModSeq
	res := do(t, s, store.StoreFlags{Ref: in.Ref, Runs: []store.Run{{First: 2, Count: 50}}, Mode: store.Add, Flags: store.Seen, Keywords: []string{"Urgent", "urgent"}}).Ops[0]
	<-w.C
	if len(res.Rows) != 2 || res.Rows[0].Flags != store.Seen || res.ModSeq != before+1 || len(s.Keywords(res.Rows[0].Keywords)) != 1 {
		t.Errorf("%+v", res)
	}
	snap, err := s.Snapshot(in.Ref, true)
	if err != nil || snap.FirstUnseen != 1 || snap.Recent != 1 || snap.Unseen != 1 {
		t.Errorf("%+v %v", snap, err)
	}
	if snap, _ = s.Snapshot(in.Ref, false); snap.Recent != 4 {
		t.Errorf("recent twice: %+v", snap)
	}
	res = do(t, s, store.StoreFlags{Ref: in.Ref, Runs: []store.Run{{First: 1, Count: 3}}, Mode: store.Replace, Flags: store.Flagged, Conditional: true, UnchangedSince: before}).Ops[0]
	if d := cmp.Diff([]store.Run{{First: 2, Count: 2}}, res.Modified); d != "" || len(res.Rows) != 1 {
		t.Error(d, res)
	}
	ch, _ := s.Changes(in.Ref, before)
	if len(ch.Rows) != 3 || ch.Rows[0].Flags != store.Flagged || len(ch.Vanished) != 0 {
		t.Errorf("%+v", ch)
	}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.StoreFlags{Ref: in.Ref, Runs: one(1), Mode: store.Add, Keywords: []string{"bad word"}}}}); !errors.Is(err, store.ErrKeyword) {
		t.Errorf("keyword with a space: %v", err)
	}
	if got := s.MailboxKeywords(in.Ref); !slices.Equal(got, []string{"Urgent"}) {
		t.Errorf("keywords %q", got)
	}
}

func TestCopyMoveQuotaTrace(t *testing.T) {
	s := storetest.New(t)
	a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.ORG)
	in, sent, other := box(t, s, a.ID, "INBOX"), box(t, s, a.ID, "Sent"), box(t, s, b.ID, "INBOX")
	bl := storetest.NewBlob(t, s, raw)
	res, err := s.Commit(ctx, &store.Batch{Blob: bl, Ops: []store.Op{store.AddMessage{Ref: in.Ref, Prefix: []byte("P: 1\r\n")}},
		Events: []trace.Event{{Kind: trace.Committed, Mailbox: uint32(in.Mailbox)}}})
	if err != nil {
		t.Fatal(err)
	}
	id := res.ID
	storetest.Deliver(t, s, a.ID, raw)
	commit := func(op store.Op, e trace.Event) store.OpResult {
		t.Helper()
		res, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{op}, Events: []trace.Event{e}})
		if err != nil {
			t.Fatal(err)
		}
		return res.Ops[0]
	}
	commit(store.Move{From: in.Ref, Runs: []store.Run{{First: 1, Count: 2}}, To: sent.Ref}, trace.Event{Kind: trace.Moved, Mailbox: uint32(in.Mailbox)})
	cp := commit(store.Copy{From: sent.Ref, Runs: one(1), To: other.Ref}, trace.Event{Kind: trace.Copied, Mailbox: uint32(sent.Mailbox)})
	if read(t, s, b.ID, id) != "P: 1\r\n"+raw {
		t.Error("the copy has another prefix")
	}
	s.Record(trace.Event{Kind: trace.Fetched, Mailbox: uint32(other.Mailbox), UIDs: "1:9", Person: "rpps:1"})
	s.Record(trace.Event{Kind: trace.Fetched, Mailbox: uint32(sent.Mailbox), UIDs: "2", Person: "rpps:2"}) // the other message
	ev, err := s.Trace(ctx, id)
	var kinds []string
	for _, e := range ev {
		kinds = append(kinds, e.Kind.String())
	}
	if d := cmp.Diff([]string{"committed", "moved", "copied", "fetched"}, kinds); d != "" || err != nil {
		t.Error(d, err)
	}
	if m := box(t, s, a.ID, "INBOX"); m.Messages != 0 {
		t.Errorf("%+v", m)
	}
	if ch, _ := s.Changes(in.Ref, 1); len(ch.Vanished) != 1 || ch.Vanished[0] != (store.Run{First: 1, Count: 2}) {
		t.Errorf("%+v", ch)
	}
	bal, _ := s.BALByID(b.ID)
	bal.QuotaMessages = 1
	do(t, s, store.PutBAL{BAL: bal})
	_, err = s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Copy{From: sent.Ref, Runs: one(2), To: cp.Ref}}})
	if !errors.Is(err, store.ErrOverQuota) {
		t.Errorf("copy over quota: %v", err)
	}
	storetest.Deliver(t, s, b.ID, raw) // accepted at RCPT: may overrun
	if bal, _ = s.BALByID(b.ID); bal.Messages != 2 {
		t.Errorf("%+v", bal)
	}
}

// TestNeighbours commits good and bad batches at once: the bad ones fail alone.
func TestNeighbours(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	const n = 200
	errs := make(chan error, n)
	for i := range n {
		bl := storetest.NewBlob(t, s, raw)
		go func() {
			batch := &store.Batch{Blob: bl, Ops: []store.Op{store.AddMessage{Ref: in.Ref, Keywords: []string{"k" + string(rune('a'+i%20))}}}}
			if i%2 == 1 {
				batch.Ops = append(batch.Ops, store.DeleteMailbox{Ref: store.Ref{BAL: b.ID, Mailbox: 999}})
			}
			_, err := s.Commit(ctx, batch)
			bl.Abort()
			if (i%2 == 1) != errors.Is(err, store.ErrNoMailbox) {
				errs <- err
				return
			}
			errs <- nil
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	m := box(t, s, b.ID, "INBOX")
	if m.Messages != n/2 || m.UIDNext != n/2+1 || len(rows(t, s, in.Ref)) != n/2 {
		t.Errorf("%+v", m)
	}
}

// TestDerived deletes meta.db: structure and Message-ID index come back from the bodies.
func TestDerived(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	id, _ := storetest.Deliver(t, s, b.ID, raw)
	want, err := s.Meta(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	os.Remove(filepath.Join(opt.Dir, "meta.db"))
	s = storetest.Open(t, opt)
	got, err := s.Meta(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	wantB, _ := want.AppendBinary(nil)
	if gotB, err := got.AppendBinary(nil); err != nil || string(gotB) != string(wantB) {
		t.Errorf("derived %x, want %x (%v)", gotB, wantB, err)
	}
	txt, err := s.Text(ctx, id)
	if found, _ := txt.Contains([]byte("bonjour")); !found || err != nil {
		t.Errorf("text: %v", err)
	}
}

// TestSecrets prints what holds secrets and looks for them.
func TestSecrets(t *testing.T) {
	m := store.Member{ID: "rpps:1", PasswordHash: "$argon2id$secret", SCRAM: "SCRAM-SHA-256$secret"}
	var sb strings.Builder
	for _, s := range []string{m.String(), m.GoString(), m.LogValue().String()} {
		sb.WriteString(s)
	}
	if strings.Contains(sb.String(), "secret") {
		t.Errorf("%s", sb.String())
	}
}
