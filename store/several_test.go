package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// severalMails are letters for one mailbox.
func severalMails(n, count int, to store.Ref) (mails []crashMail) {
	for i := range count {
		mails = append(mails, crashMail{Raw: crashRaw(n+i, 400*i), To: []store.Ref{to}})
	}
	return mails
}

// severalBatch is one batch of several bodies, as an APPEND of several messages makes it. The caller aborts the bodies.
func severalBatch(s *store.Store, mails []crashMail) (*store.Batch, error) {
	h := sha256.New()
	b := &store.Batch{}
	for i, m := range mails {
		io.WriteString(h, m.Raw)
		body, err := s.NewBlob()
		if err != nil {
			return b, err
		}
		if b.Blob == nil {
			b.Blob = body
		} else {
			b.Blobs = append(b.Blobs, body)
		}
		if _, err = io.WriteString(body, m.Raw); err == nil {
			err = body.Finish(nil, emptyText)
		}
		if err == nil && i < len(mails)-1 {
			err = body.SealFor(m.To[0].BAL)
		}
		if err != nil {
			return b, err
		}
		b.Ops = append(b.Ops, store.AddMessage{Ref: m.To[0], Message: body.ID(), Size: body.Size()})
		b.Events = append(b.Events, trace.Event{ID: body.ID(), Kind: trace.Appended, Mailbox: uint32(m.To[0].Mailbox)})
	}
	b.Once = &store.Once{Key: [32]byte(h.Sum(nil)), In: mails[0].To[0]}
	return b, nil
}

func abortAll(b *store.Batch) {
	if b.Blob != nil {
		b.Blob.Abort()
	}
	for _, x := range b.Blobs {
		x.Abort()
	}
}

// sendSeveral commits mails in one batch, guarded against repetition.
func sendSeveral(s *store.Store, mails []crashMail) (*store.Result, error) {
	b, err := severalBatch(s, mails)
	defer abortAll(b)
	if err != nil {
		return nil, err
	}
	return s.Commit(ctx, b)
}

// several is one batch of several messages as a step: all of them or none.
func (w *crashWriter) several(n, count int, to store.Ref) {
	w.step("several", func(st *crashStep) {
		st.Several, st.Mails = true, severalMails(n, count, to)
		res, err := sendSeveral(w.s, st.Mails)
		crashFail(err)
		if len(res.Ops) != count {
			crashFail(fmt.Errorf("%d results", len(res.Ops)))
		}
	})
}

// TestSeveral: the messages of a batch get UIDs in a row, each with its octets and an event of its own; the batch said again
// stores nothing while all of them are there, and all of it when one is gone.
func TestSeveral(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	sent := box(t, s, b.ID, "Sent").Ref
	storetest.Deliver(t, s, b.ID, raw)
	mails := severalMails(1, 3, sent)
	first, err := sendSeveral(s, mails)
	if err != nil || first.Duplicate {
		t.Fatalf("%+v, %v", first, err)
	}
	same := func(res *store.Result, from store.UID) {
		t.Helper()
		if len(res.Ops) != 3 {
			t.Fatalf("%d results, want 3", len(res.Ops))
		}
		for i, op := range res.Ops {
			if len(op.New) != 1 || op.New[0].First != from+store.UID(i) || op.Ref != sent {
				t.Errorf("message %d: %+v", i, op)
			}
		}
	}
	same(first, 1)
	list := rows(t, s, sent)
	for i, r := range list {
		if got := read(t, s, b.ID, r.Message); got != mails[i].Raw {
			t.Errorf("message %d: %q", i, got)
		}
		evs, err := s.Trace(ctx, r.Message)
		if err != nil || len(evs) != 1 || evs[0].UIDs != fmt.Sprint(i+1) {
			t.Errorf("message %d: %v, %v; want one event about it", i, evs, err)
		}
	}
	again, err := sendSeveral(s, mails)
	if err != nil || !again.Duplicate || again.ID != first.ID {
		t.Fatalf("said again: %+v, %v", again, err)
	}
	same(again, 1)
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Move{From: sent, Runs: one(2), To: box(t, s, b.ID, "Trash").Ref}}}); err != nil {
		t.Fatal(err)
	}
	again, err = sendSeveral(s, mails)
	if err != nil || again.Duplicate {
		t.Fatalf("one of them is gone, and said again: %+v, %v", again, err)
	}
	same(again, 4)
	if n := len(rows(t, s, sent)); n != 5 {
		t.Errorf("%d messages, want 5", n)
	}
	spoolIsEmpty(t, s)
}

func spoolIsEmpty(t *testing.T, s *store.Store) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(s.Dir(), "spool", "*")); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// TestSeveralRefused: what one of the messages is refused for keeps all of them out, and nothing is left.
func TestSeveralRefused(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true})
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	sent := box(t, s, b.ID, "Sent").Ref
	for _, c := range []struct {
		name  string
		spoil func(b *store.Batch)
		want  error
	}{
		{"a keyword", func(b *store.Batch) {
			op := b.Ops[2].(store.AddMessage)
			op.Keywords = []string{"(no)"}
			b.Ops[2] = op
		}, store.ErrKeyword},
		{"a body without a message", func(b *store.Batch) { b.Ops = b.Ops[:2] }, store.ErrInvalid},
		{"a body twice", func(b *store.Batch) { b.Blobs[1] = b.Blobs[0] }, store.ErrInvalid},
		{"no first one", func(b *store.Batch) { b.Blob = nil }, store.ErrInvalid},
	} {
		batch, err := severalBatch(s, severalMails(1, 3, sent))
		if err != nil {
			t.Fatal(err)
		}
		all := *batch
		all.Blobs = slices.Clone(batch.Blobs)
		c.spoil(batch)
		if _, err := s.Commit(ctx, batch); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		abortAll(&all)
		if n := len(rows(t, s, sent)); n != 0 {
			t.Fatalf("%s: %d messages", c.name, n)
		}
		spoolIsEmpty(t, s)
	}
}

// renameFS refuses the nth rename into its place of a body.
type renameFS struct {
	store.FileSystem
	left *int
}

func (x renameFS) Rename(a, b string) error {
	if strings.Contains(b, "blobs") {
		if *x.left--; *x.left == 0 {
			return syscall.EIO
		}
	}
	return x.FileSystem.Rename(a, b)
}

// TestSeveralPlacedInPart: when a body cannot be put into its place, those before it are taken back at once.
func TestSeveralPlacedInPart(t *testing.T) {
	left := 0
	dir := filepath.Join(t.TempDir(), "s")
	s, err := store.OpenWith(store.Options{Dir: dir, Create: true}, func(fs store.FileSystem) store.FileSystem { return renameFS{fs, &left} })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	sent := box(t, s, b.ID, "Sent").Ref
	left = 3
	if _, err := sendSeveral(s, severalMails(1, 3, sent)); !errors.Is(err, store.ErrNoWrite) {
		t.Errorf("%v, want ErrNoWrite", err)
	}
	if n := bodyFiles(dir); n != 0 {
		t.Errorf("%d bodies are left in their places", n)
	}
	spoolIsEmpty(t, s)
	if res, err := sendSeveral(s, severalMails(1, 3, sent)); err != nil || res.Duplicate {
		t.Errorf("sent again: %+v, %v", res, err)
	}
	storetest.Check(t, s)
}
