package backup_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
	"mssd/trace"
)

// world is a store with mail, and a directory for its backups.
type world struct {
	t    *testing.T
	root string
	key  string
	s    *store.Store
	bals []store.BAL
	want map[trace.ID]string // what was delivered
	n    int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir(), want: map[trace.ID]string{}}
	w.key = filepath.Join(w.root, "master.key")
	must(t, store.MakeMasterKey(w.key))
	w.open()
	for _, a := range []store.Address{"pharmacie@test.mssante.fr", "cabinet@test.mssante.fr"} {
		w.bals = append(w.bals, storetest.AddBAL(t, w.s, a, store.ORG))
	}
	return w
}

func (w *world) open() {
	w.s = storetest.Open(w.t, store.Options{Dir: w.path("store"), MasterKey: w.key, Create: true, RetainExpunged: -1})
}

func (w *world) path(name string) string { return filepath.Join(w.root, name) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func letter(n int) string {
	return fmt.Sprintf("From: camille@patients.test\r\nSubject: lettre %d\r\n\r\n%s", n, strings.Repeat(fmt.Sprintf("Ligne de la lettre %d.\r\n", n), 1+n%5*3000))
}

// deliver stores some letters, to each BAL in turn.
func (w *world) deliver(count int) (ids []trace.ID) {
	w.t.Helper()
	for range count {
		raw := letter(w.n)
		id := w.deliverTo(w.bals[w.n%len(w.bals)], raw)
		w.n++
		w.want[id] = raw
		ids = append(ids, id)
	}
	return ids
}

// deliverTo stores a letter as delivery does: with its events, and unconfirmed.
func (w *world) deliverTo(b store.BAL, raw string) trace.ID {
	w.t.Helper()
	inbox, err := w.s.Mailbox(b.ID, "INBOX")
	must(w.t, err)
	body := storetest.NewBlob(w.t, w.s, raw)
	res, err := w.s.Commit(context.Background(), &store.Batch{Blob: body, Once: &store.Once{Key: sha256.Sum256([]byte(raw))},
		Ops: []store.Op{store.AddMessage{Ref: inbox.Ref, Prefix: []byte("Return-Path: <>\r\n"), Delivery: true}},
		Events: []trace.Event{
			{Kind: trace.Judged, Attrs: []trace.Attr{{Key: trace.KeyDomain, Value: "patients.test"}}},
			{Kind: trace.Committed, BAL: string(b.Address), Mailbox: uint32(inbox.Ref.Mailbox)},
		}})
	must(w.t, err)
	return res.ID
}

// backup runs one and wants it to succeed.
func (w *world) backup(opt backup.Options) backup.Report {
	w.t.Helper()
	r, err := w.try(context.Background(), opt)
	must(w.t, err)
	return r
}

func (w *world) try(ctx context.Context, opt backup.Options) (backup.Report, error) {
	d, err := backup.Open(w.path("backup"), backup.Create)
	must(w.t, err)
	defer d.Close()
	return backup.Run(ctx, backup.Local{Store: w.s}, d, opt)
}

func (w *world) verify(masterKey string) backup.Verified {
	w.t.Helper()
	d, err := backup.Open(w.path("backup"), backup.Read)
	must(w.t, err)
	defer d.Close()
	v, err := backup.Verify(context.Background(), d, "", masterKey, nil)
	must(w.t, err)
	return v
}

func (w *world) restore(opt backup.RestoreOptions) (backup.Restored, error) {
	w.t.Helper()
	if opt.MasterKey == "" {
		opt.MasterKey = w.key
	}
	if opt.To == "" {
		opt.To = filepath.Join(w.t.TempDir(), "restored")
	}
	d, err := backup.Open(w.path("backup"), backup.Read)
	must(w.t, err)
	defer d.Close()
	return backup.Restore(context.Background(), d, opt)
}

// contents reads every message of a store, by id.
func contents(t *testing.T, s *store.Store) map[trace.ID]string {
	t.Helper()
	got := map[trace.ID]string{}
	for _, b := range s.BALs() {
		boxes, err := s.Mailboxes(b.ID)
		must(t, err)
		for _, box := range boxes {
			if !box.Created || box.Messages == 0 {
				continue
			}
			var rows []store.Row
			must(t, s.Rows(context.Background(), box.Ref, []store.Run{{First: 1, Count: uint32(box.UIDNext)}}, func(r store.Row) bool {
				rows = append(rows, r)
				return true
			}))
			for _, row := range rows {
				c, err := s.OpenMessage(b.ID, row.Message)
				if err != nil {
					got[row.Message] = "error: " + err.Error()
					continue
				}
				text, err := io.ReadAll(io.NewSectionReader(c, int64(len(c.Prefix())), c.BlobSize()))
				must(t, err)
				must(t, c.Close())
				got[row.Message] = string(text)
			}
		}
	}
	return got
}

func sameContents(t *testing.T, got, want map[trace.ID]string) {
	t.Helper()
	for id, text := range want {
		if got[id] != text {
			t.Errorf("message %s: %.80q, want %.80q", id, got[id], text)
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			t.Errorf("message %s should not be there", id)
		}
	}
}

// A store comes back as it was at the moment of each backup; only bodies that are new are copied; the clients notice.
func TestBackupAndRestore(t *testing.T) {
	w := newWorld(t)
	w.deliver(7)
	first := w.backup(backup.Options{})
	if first.New != 7 || first.Bodies != 7 || first.DamagedAll+first.Locked != 0 || !first.SameDisk {
		t.Errorf("first run: %+v", first)
	}
	then := map[trace.ID]string{}
	for id, text := range w.want {
		then[id] = text
	}
	w.deliver(4)
	second := w.backup(backup.Options{VerifyAll: true})
	if second.New != 4 || second.Bodies != 11 || second.Repaired != 0 {
		t.Errorf("second run copied %d of %d bodies, want 4 of 11", second.New, second.Bodies)
	}
	late := w.deliver(3)
	if v := w.verify(w.key); len(v.Faults) > 0 || v.Bodies != 11 || v.Generations != 2 || !v.Signed {
		t.Errorf("verify: %+v", v)
	}
	inbox, err := w.s.Mailbox(w.bals[0].ID, "INBOX")
	must(t, err)

	for _, c := range []struct {
		generation string
		want       map[trace.ID]string
		lost       int
	}{{first.Generation, then, 7}, {"", without(w.want, late), 3}} {
		to := filepath.Join(t.TempDir(), "restored")
		must(t, w.s.Close())
		r, err := w.restore(backup.RestoreOptions{Generation: c.generation, To: to, LostFrom: w.path("store")})
		must(t, err)
		w.open()
		if !r.Sound() || int(r.Bodies) != len(c.want) || r.Opened {
			t.Errorf("restore: %+v", r)
		}
		if len(r.Lost) != c.lost || !r.LostWhole {
			t.Errorf("%d messages are said to be lost, want %d: %+v", len(r.Lost), c.lost, r.Lost)
		}
		for _, l := range r.Lost {
			if _, ok := c.want[l.ID]; ok || !strings.HasSuffix(l.BAL, "@test.mssante.fr") || l.Domain != "patients.test" {
				t.Errorf("%+v is not lost", l)
			}
		}
		s := storetest.Open(t, store.Options{Dir: to, MasterKey: w.key})
		sameContents(t, contents(t, s), c.want)
		box, err := s.Mailbox(w.bals[0].ID, "INBOX")
		must(t, err)
		if box.UIDValidity <= inbox.UIDValidity || int64(box.UIDValidity) <= time.Now().Unix() {
			t.Errorf("UIDVALIDITY %d, was %d: a client would not notice", box.UIDValidity, inbox.UIDValidity)
		}
		mark, ok, err := s.Restored()
		if err != nil || !ok || mark.Backup.String() != r.Manifest.ID || !mark.Moment.Equal(r.Manifest.Time) {
			t.Errorf("mark of the restore: %+v %v %v", mark, ok, err)
		}
		known, err := s.Backups()
		must(t, err)
		if len(known) != 3 || known[0].Done.IsZero() || known[1].Done.IsZero() || !strings.HasPrefix(known[2].Label, "any backup in another folder") {
			t.Errorf("the restored store knows the backups %+v, want both, and that there may be others", known)
		}
		// It takes mail again, under ids and UIDs that nobody had.
		if id, _ := storetest.Deliver(t, s, w.bals[0].ID, letter(99)); w.want[id] != "" {
			t.Errorf("id %s was given again", id)
		}
	}
	if _, ok, err := w.s.Restored(); ok || err != nil {
		t.Errorf("a store that was never restored says it was: %v", err)
	}
	known, err := w.s.Backups()
	if err != nil || len(known) != 2 || known[0].ID.String() != first.Moment.ID || known[1].Done.IsZero() || known[0].Label != w.path("backup") {
		t.Errorf("registered: %+v %v", known, err)
	}
}

func without(m map[trace.ID]string, ids []trace.ID) map[trace.ID]string {
	out := map[trace.ID]string{}
	for id, text := range m {
		out[id] = text
	}
	for _, id := range ids {
		delete(out, id)
	}
	return out
}

// Deliveries, copies and expunges go on while a backup is made: what was acknowledged before it began is in it, and what
// is restored keeps every invariant.
func TestBackupUnderLoad(t *testing.T) {
	w := newWorld(t)
	w.deliver(20)
	inbox, err := w.s.Mailbox(w.bals[0].ID, "INBOX")
	must(t, err)
	archive, err := w.s.Mailbox(w.bals[1].ID, "Archive")
	must(t, err)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	each := func(fn func(n int) error) {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-quit:
					return
				default:
				}
				if err := fn(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	ctx := context.Background()
	commit := func(ops ...store.Op) error {
		_, err := w.s.Commit(ctx, &store.Batch{Ops: ops})
		return err
	}
	each(func(n int) error {
		storetest.Deliver(t, w.s, w.bals[0].ID, letter(1000+n))
		return nil
	})
	each(func(n int) error {
		return commit(store.Copy{From: inbox.Ref, To: archive.Ref, Runs: []store.Run{{First: store.UID(1 + n%10), Count: 3}}})
	})
	each(func(n int) error { // those of the first world stay in INBOX
		runs := []store.Run{{First: store.UID(20 + n), Count: 2}}
		return commit(store.StoreFlags{Ref: inbox.Ref, Runs: runs, Mode: store.Add, Flags: store.Deleted}, store.Expunge{Ref: inbox.Ref, Runs: runs})
	})
	for range 3 {
		r := w.backup(backup.Options{VerifyAll: true})
		if r.DamagedAll+r.Locked > 0 {
			t.Errorf("%+v", r)
		}
	}
	close(quit)
	wg.Wait()
	to := filepath.Join(t.TempDir(), "restored")
	r, err := w.restore(backup.RestoreOptions{To: to})
	if err != nil || !r.Sound() {
		t.Fatalf("%+v %v", r, err)
	}
	got := contents(t, storetest.Open(t, store.Options{Dir: to, MasterKey: w.key}))
	for id, text := range w.want {
		if got[id] != text {
			t.Errorf("message %s: %.80q, want %.80q", id, got[id], text)
		}
	}
}

// A directory of backups that goes away under a run, as an unplugged disk does, is an error; plugged in again, it is used.
func TestTargetGoesAway(t *testing.T) {
	w := newWorld(t)
	w.deliver(2)
	w.backup(backup.Options{})
	for _, gone := range []string{"", "incoming", "blobs", "generations"} {
		w.deliver(2)
		from, away := w.path("backup/"+gone), w.path("away")
		d, err := backup.Open(w.path("backup"), backup.Write)
		must(t, err)
		src := &vanishing{Local: backup.Local{Store: w.s}, from: filepath.Clean(from), away: away}
		_, err = backup.Run(context.Background(), src, d, backup.Options{})
		must(t, d.Close())
		if err == nil {
			t.Errorf("without %q the run went on", gone)
		}
		must(t, os.RemoveAll(src.from)) // what was made where the disk had been
		must(t, os.Rename(away, src.from))
		if v := w.verify(w.key); len(v.Faults) > 0 {
			t.Errorf("without %q: %v", gone, v.Faults)
		}
		if r := w.backup(backup.Options{}); r.DamagedAll != 0 {
			t.Errorf("after %q came back: %+v", gone, r)
		}
	}
	if v := w.verify(w.key); len(v.Faults) > 0 || v.Generations != 5 {
		t.Errorf("%+v", v)
	}
}

// vanishing moves a directory away when the bodies are asked for.
type vanishing struct {
	backup.Local
	from, away string
}

func (v *vanishing) Begin(ctx context.Context, label string, p store.Progress) (backup.Session, error) {
	s, err := v.Local.Begin(ctx, label, p)
	return vanishingSession{s, v}, err
}

type vanishingSession struct {
	backup.Session
	v *vanishing
}

func (s vanishingSession) Bodies(ctx context.Context, ask backup.Ask, fn func(backup.Body, io.Reader) error) error {
	if err := os.Rename(s.v.from, s.v.away); err != nil {
		return err
	}
	return s.Session.Bodies(ctx, ask, fn)
}
