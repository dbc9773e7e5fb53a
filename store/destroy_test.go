package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/message"
	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

const (
	doomedAddr = store.Address("perdu@bal.example")
	otherAddr  = store.Address("reste@bal.example")
)

// doomed is a store with a BAL that is to be destroyed and one that is not: mail of each alone, mail of both, expunged
// mail, a keyword, a subscription, a member with a password, and a recovery key.
type doomed struct {
	t          testing.TB
	opt        store.Options
	private    string // file of the recovery key
	bal, other store.BALID
	own, both  store.MessageID // of the doomed one; of both
	others     store.MessageID
	slot       []byte // of the doomed one, before
}

func newDoomed(t testing.TB) *doomed {
	t.Helper()
	dir := t.TempDir()
	d := &doomed{t: t, private: filepath.Join(dir, "recovery.private"), opt: store.Options{Dir: filepath.Join(dir, "s"), MasterKey: filepath.Join(dir, "master.key"), Create: true}}
	s, err := store.Open(d.opt)
	d.must(err)
	d.must(s.Close())
	public := filepath.Join(dir, "recovery.public")
	_, err = store.MakeRecoveryKey(d.private, public)
	d.must(err)
	d.must(store.SetRecovery(d.opt.Dir, d.opt.MasterKey, public))
	s = storetest.Open(t, d.opt)
	d.bal = storetest.AddBAL(t, s, doomedAddr, store.ORG).ID
	d.other = storetest.AddBAL(t, s, otherAddr, store.ORG).ID
	d.own, _ = storetest.Deliver(t, s, d.bal, raw)
	d.others, _ = storetest.Deliver(t, s, d.other, raw)
	in, in2 := box(t, s, d.bal, "INBOX"), box(t, s, d.other, "INBOX")
	blob := storetest.NewBlob(t, s, raw)
	_, err = s.Commit(ctx, &store.Batch{Blob: blob, Ops: []store.Op{store.AddMessage{Ref: in.Ref}, store.AddMessage{Ref: in2.Ref}}})
	d.must(err)
	d.both = blob.ID()
	do(t, s, store.CreateMailbox{BAL: d.bal, Name: "Patients/Ordonnances"}, store.Subscribe{BAL: d.bal, Name: "Patients", On: true},
		store.PutAnnotation{Ref: store.Ref{BAL: d.bal}, Annotation: store.Annotation{Entry: "/comment", Value: "x"}},
		store.PutAnnotation{Ref: in.Ref, Annotation: store.Annotation{Person: "local:anne", Entry: "/comment", Value: "x"}},
		store.PutMember{Address: doomedAddr, Member: store.Member{ID: "local:anne", Role: store.Owner, PasswordHash: "$argon2id$invented"}})
	to := box(t, s, d.bal, "Patients/Ordonnances")
	do(t, s, store.Copy{From: in.Ref, Runs: one(1), To: to.Ref}, store.StoreFlags{Ref: to.Ref, Runs: one(1), Mode: store.Add, Flags: store.Deleted, Keywords: []string{"Urgent"}},
		store.Expunge{Ref: to.Ref, Runs: one(1)})
	storetest.Check(t, s)
	d.must(s.Close())
	d.opt.Create = false
	keys, err := os.ReadFile(filepath.Join(d.opt.Dir, "keys"))
	d.must(err)
	off, n := store.SlotPlace(d.bal)
	d.slot = bytes.Clone(keys[off : off+n])
	return d
}

func (d *doomed) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *doomed) copy(t testing.TB) *doomed {
	t.Helper()
	dir := t.TempDir()
	copyTree(t, filepath.Dir(d.opt.Dir), dir)
	c := *d
	c.t, c.opt.Dir, c.opt.MasterKey, c.private = t, filepath.Join(dir, "s"), filepath.Join(dir, "master.key"), filepath.Join(dir, "recovery.private")
	return &c
}

func (d *doomed) open() *store.Store {
	d.t.Helper()
	return storetest.Open(d.t, d.opt)
}

func (d *doomed) setState(s *store.Store, st store.State) {
	d.t.Helper()
	do(d.t, s, store.SetBALState{Address: doomedAddr, State: st})
}

// wiped waits until nothing is left to do.
func (d *doomed) wiped(s *store.Store) {
	d.t.Helper()
	d.must(s.FinishDestroying(ctx))
	sweep(d.t, s) // what the start does
	b, err := s.BAL(doomedAddr)
	d.must(err)
	if b.State != store.Destroyed || !b.Destroyed.KeyGone || !b.Destroyed.Wiped || b.Messages != 0 || b.Octets != 0 {
		d.t.Errorf("%+v", b)
	}
}

// gone holds when nothing of the BAL is there but its name, and all others are as they were.
func (d *doomed) gone(s *store.Store) {
	d.t.Helper()
	if _, err := s.Mailbox(d.bal, "INBOX"); !errors.Is(err, store.ErrNoMailbox) {
		d.t.Errorf("INBOX: %v", err)
	}
	if m := s.Members(d.bal); len(m) > 0 {
		d.t.Errorf("members %v", m)
	}
	for _, id := range []store.MessageID{d.own, d.both} {
		if r, err := s.OpenMessage(d.bal, id); err == nil {
			r.Close()
			d.t.Errorf("message %s is read", id)
		}
	}
	for _, id := range []store.MessageID{d.others, d.both} {
		if got := read(d.t, s, d.other, id); !strings.HasSuffix(got, raw) {
			d.t.Errorf("another BAL reads %q", got)
		}
		if _, err := s.Meta(ctx, id); err != nil {
			d.t.Errorf("structure: %v", err)
		}
		if text, err := s.Text(ctx, id); err != nil || len(text.Header) == 0 {
			d.t.Errorf("words: %v", err)
		}
	}
	if k, err := s.SortKeys(ctx, []store.MessageID{d.own, d.both}); err != nil || k[0] != (message.SortKeys{}) || k[1].Subject != "essai" {
		d.t.Errorf("what is compared: %+v, %v", k, err)
	}
	if _, err := s.Meta(ctx, d.own); !errors.Is(err, store.ErrNoMessage) {
		d.t.Errorf("structure of what went: %v", err)
	}
	for name, op := range map[string]store.Op{
		"created again": store.PutBAL{Create: true, BAL: store.BAL{Address: doomedAddr, Kind: store.ORG, State: store.Active, Listing: store.Published}},
		"changed":       store.PutBAL{BAL: store.BAL{Address: doomedAddr, State: store.Active}},
		"opened":        store.SetBALState{Address: doomedAddr, State: store.Active},
		"member":        store.PutMember{Address: doomedAddr, Member: store.Member{ID: "local:x", Role: store.Owner}},
		"hold":          store.SetHold{Address: doomedAddr, On: true},
		"mailbox":       store.CreateMailbox{BAL: d.bal, Name: "X"},
		"subscription":  store.Subscribe{BAL: d.bal, Name: "X", On: true},
		"annotation":    store.PutAnnotation{Ref: store.Ref{BAL: d.bal}, Annotation: store.Annotation{Entry: "/comment", Value: "x"}},
	} {
		if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{op}}); !errors.Is(err, store.ErrDestroyed) {
			d.t.Errorf("%s: %v", name, err)
		}
	}
	storetest.Deliver(d.t, s, d.other, raw)
}

// noTrace looks through all files for the wrapped keys as they were.
func (d *doomed) noTrace() {
	d.t.Helper()
	for name, old := range map[string][]byte{"master": d.slot[16:76], "recovery": d.slot[76:156]} {
		d.must(filepath.WalkDir(d.opt.Dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			for part := range slices.Chunk(old, 20) {
				if bytes.Contains(b, part) {
					d.t.Errorf("%s holds octets of the key wrapped under the %s key", filepath.Base(path), name)
					break
				}
			}
			return err
		}))
	}
}

// TestDestroy destroys a BAL: what it held cannot be opened with any key, not even beside the index, the structures and
// the bodies as they were before; another BAL goes on, a shared body too.
func TestDestroy(t *testing.T) {
	d := newDoomed(t)
	s := d.open()
	for _, st := range []store.State{store.Declared, store.Active, store.Suspended} {
		d.setState(s, st)
		if _, err := s.DestroyBAL(ctx, doomedAddr); !errors.Is(err, store.ErrNotClosed) {
			t.Errorf("%v: %v", st, err)
		}
	}
	do(t, s, store.SetHold{Address: doomedAddr, On: true})
	d.setState(s, store.Closed)
	if _, err := s.DestroyBAL(ctx, doomedAddr); !errors.Is(err, store.ErrHeld) {
		t.Errorf("under legal hold: %v", err)
	}
	do(t, s, store.SetHold{Address: doomedAddr})
	if _, err := s.DestroyBAL(ctx, "nobody@bal.example"); !errors.Is(err, store.ErrNoBAL) {
		t.Errorf("nobody: %v", err)
	}
	plan, err := s.Doom(doomedAddr)
	if err != nil || plan.Refused != nil || plan.BAL.Messages != 2 || plan.Mailboxes != 8 || plan.Members != 1 || plan.Expunged != 1 || plan.Shredded() {
		t.Errorf("%+v, %v", plan, err)
	}
	storetest.Check(t, s)
	d.must(s.Close())
	before := d.copy(t)
	s = d.open()
	if k, err := s.SortKeys(ctx, []store.MessageID{d.own}); err != nil || k[0].Subject != "essai" {
		t.Errorf("before: %+v, %v", k, err)
	}
	done, err := s.DestroyBAL(ctx, doomedAddr, trace.Event{Kind: trace.BAL, BAL: string(doomedAddr)})
	if err != nil || !done.Shredded() || done.BAL.Messages != 2 || done.BAL.State != store.Destroyed {
		t.Errorf("%+v, %v", done, err)
	}
	d.wiped(s)
	d.gone(s)
	if _, err := s.DestroyBAL(ctx, doomedAddr); !errors.Is(err, store.ErrDestroyed) {
		t.Errorf("twice: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(d.opt.Dir, "blobs", "*", d.own.String())); len(files) > 0 {
		t.Errorf("the body is there: %v", files)
	}
	storetest.Check(t, s)
	d.must(s.Close())
	d.noTrace()
	s = d.open()
	d.gone(s)
	list, err := store.Keys(d.opt.Dir, d.opt.MasterKey)
	d.must(err)
	if slot := list.Slots[d.bal]; slot.Err != nil || slot.Destroyed.IsZero() || slot.Recovery || slot.Address != doomedAddr {
		t.Errorf("%+v", slot)
	}
	d.must(s.Close())

	// A destroyed slot outlives a rotation and a recovery.
	next := filepath.Join(filepath.Dir(d.opt.MasterKey), "next.key")
	d.must(store.MakeMasterKey(next))
	d.must(store.Rekey(d.opt.Dir, d.opt.MasterKey, next))
	if n, lost, err := store.Recover(d.opt.Dir, d.private, d.opt.MasterKey); n != 2 || len(lost) > 0 || err != nil {
		t.Errorf("%d, %v, %v", n, lost, err)
	}
	s = d.open()
	d.gone(s)
	storetest.Check(t, s)
	d.must(s.Close())

	// The thief: everything as it was before, but the keys of today, and both keys to them.
	keys, err := os.ReadFile(filepath.Join(d.opt.Dir, "keys"))
	d.must(err)
	d.must(os.WriteFile(filepath.Join(before.opt.Dir, "keys"), keys, 0o600))
	s, err = store.Open(before.opt)
	d.must(err)
	defer s.Close()
	if _, err := s.BAL(doomedAddr); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "was destroyed on") {
		t.Errorf("an older index: %v", err)
	}
	if r, err := s.OpenMessage(d.bal, d.own); err == nil {
		r.Close()
		t.Error("the mail opens")
	}
	if _, err := s.Meta(ctx, d.own); err == nil {
		t.Error("the structure opens")
	}
	if got := read(t, s, d.other, d.both); !strings.HasSuffix(got, raw) {
		t.Errorf("the other BAL reads %q", got)
	}
}

// TestDestroyEachStep lets each step of a destruction fail or be the last one: until it is decided all is as before, from
// then on the next start finishes it.
func TestDestroyEachStep(t *testing.T) {
	base := newDoomed(t)
	s := base.open()
	base.setState(s, store.Closed)
	storetest.Check(t, s)
	base.must(s.Close())
	for _, mode := range []stepMode{notWritten, didWrite, shortWrite, killBefore} { // killed after one is killed before the next
		for n, last := 1, "x"; last != "" && (mode != shortWrite || n <= 3); n++ { // the slot is the only write
			t.Run(fmt.Sprintf("%s/%d", mode, n), func(t *testing.T) {
				d := base.copy(t)
				x := stepFS{steps: &steps{mode: mode}}
				x.arm(0)
				s, err := store.OpenWith(d.opt, func(fs store.FileSystem) store.FileSystem { x.FileSystem = fs; return x })
				d.must(err)
				s.SetCommit(func(tx *bolt.Tx) error { return x.step("commit", tx.Commit) })
				d.must(s.Flush())
				x.arm(n)
				_, err = s.DestroyBAL(ctx, doomedAddr)
				if err == nil {
					err = s.FinishDestroying(ctx)
				}
				if last = x.fault(); last == "" {
					x.arm(0) // else it stays dead, if it was killed
				}
				fault := last
				b, balErr := s.BAL(doomedAddr)
				d.must(balErr)
				if fault == "" && err != nil {
					t.Errorf("without a fault: %v", err)
				}
				s.Close()
				s = d.open()
				after, err2 := s.BAL(doomedAddr)
				d.must(err2)
				if b.State == store.Destroyed && after.State != store.Destroyed {
					t.Errorf("fault at %s: it was destroyed, now it is %v", fault, after.State)
				}
				if after.State == store.Closed {
					if fault != "commit" {
						t.Errorf("fault at %s: not even decided", fault)
					}
					d.setState(s, store.Active)
					if got := read(t, s, d.bal, d.own); !strings.HasSuffix(got, raw) {
						t.Errorf("it reads %q", got)
					}
					d.setState(s, store.Closed)
					_, err := s.DestroyBAL(ctx, doomedAddr)
					d.must(err)
				}
				d.wiped(s)
				d.gone(s)
				storetest.Check(t, s)
				d.must(s.Close())
				d.noTrace()
			})
		}
	}
}

// TestDestroyMany wipes more than one commit takes away, while others write.
func TestDestroyMany(t *testing.T) {
	d := newDoomed(t)
	s := d.open()
	in := box(t, s, d.bal, "INBOX").Ref
	for range 5 {
		fill(t, s, in, 700, 0)
	}
	d.setState(s, store.Closed)
	ctx, cancel := context.WithCancel(ctx)
	writing := make(chan error)
	to := box(t, s, d.other, "INBOX").Ref
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			_, err = s.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.Copy{From: to, Runs: one(1), To: to}}})
		}
		writing <- err
	}()
	done, err := s.DestroyBAL(ctx, doomedAddr)
	if err != nil || done.BAL.Messages != 3502 || !done.Shredded() {
		t.Errorf("%+v, %v", done, err)
	}
	d.wiped(s)
	cancel()
	d.must(<-writing)
	d.gone(s)
}

// TestDestroyedButBackedUp: a backup that has the key opens what was destroyed, so it is not called shredded until that
// backup is destroyed too.
func TestDestroyedButBackedUp(t *testing.T) {
	d := newDoomed(t)
	s := d.open()
	at := time.Now().Add(-time.Hour)
	do(t, s, store.PutBackup{Backup: store.Backup{ID: s.NewID(), Label: "/mnt/first", Began: at, HighestBAL: d.bal - 1}},
		store.PutBackup{Backup: store.Backup{ID: s.NewID(), Label: "/mnt/second", Began: at, Done: at, HighestBAL: d.other}})
	d.setState(s, store.Closed)
	done, err := s.DestroyBAL(ctx, doomedAddr)
	if err != nil || done.Shredded() || len(done.Backups) != 1 || done.Backups[0].Label != "/mnt/second" {
		t.Fatalf("%+v, %v", done, err)
	}
	do(t, s, store.PutBackup{Backup: store.Backup{ID: s.NewID(), Label: "/mnt/later", Began: time.Now().Add(time.Hour), Commits: s.Commits(), HighestBAL: d.other}})
	do(t, s, store.ForgetBackup{ID: done.Backups[0].ID})
	now, err := s.Doom(doomedAddr)
	if err != nil || !now.Shredded() {
		t.Errorf("%+v, %v", now, err)
	}
}
