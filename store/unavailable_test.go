package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// changeIndex writes to index.db behind the back of a closed store.
func changeIndex(t *testing.T, dir string, fn func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "index.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

// swapRecord replaces the last record of a BAL in a bucket and yields what puts it back.
func swapRecord(t *testing.T, dir, bucket string, bal store.BALID, change func(v []byte) []byte) (back func()) {
	t.Helper()
	var key, was []byte
	changeIndex(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		prefix := binary.BigEndian.AppendUint32(nil, uint32(bal))
		c := b.Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			key, was = bytes.Clone(k), bytes.Clone(v)
		}
		if key == nil {
			t.Fatalf("no record of the BAL in %s", bucket)
		}
		return b.Put(key, change(bytes.Clone(was)))
	})
	return func() {
		t.Helper()
		changeIndex(t, dir, func(tx *bolt.Tx) error {
			if now := tx.Bucket([]byte(bucket)).Get(key); !bytes.Equal(now, change(bytes.Clone(was))) {
				t.Error("the damaged record was written to")
			}
			return tx.Bucket([]byte(bucket)).Put(key, was)
		})
	}
}

func flipLast(v []byte) []byte { v[len(v)-1] ^= 1; return v }

// TestOneBALDamaged spoils what is kept of one BAL: it alone is unavailable, nothing of it is written, and when the
// damage is mended it is as it was.
func TestOneBALDamaged(t *testing.T) {
	const bad, good = store.Address("bad@bal.example"), store.Address("good@other.example")
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string, bal store.BALID) (back func())
		named bool // the address of the BAL is still known
	}{
		{"slot of its key", func(t *testing.T, dir string, bal store.BALID) func() {
			return spoilSlot(t, dir, bal)
		}, true},
		{"sealed member", func(t *testing.T, dir string, bal store.BALID) func() {
			return swapRecord(t, dir, "member", bal, flipLast)
		}, true},
		{"sealed name of a mailbox", func(t *testing.T, dir string, bal store.BALID) func() {
			return swapRecord(t, dir, "mailbox", bal, func(v []byte) []byte { v[10] ^= 1; return v })
		}, true},
		{"mailbox cut short", func(t *testing.T, dir string, bal store.BALID) func() {
			return swapRecord(t, dir, "mailbox", bal, func(v []byte) []byte { return v[:20] })
		}, true},
		{"sealed subscription", func(t *testing.T, dir string, bal store.BALID) func() {
			return swapRecord(t, dir, "sub", bal, flipLast)
		}, true},
		{"record of the BAL", func(t *testing.T, dir string, bal store.BALID) func() {
			return swapRecord(t, dir, "bal", bal, func(v []byte) []byte { return v[:5] })
		}, true},
		{"record of the BAL and slot of its key", func(t *testing.T, dir string, bal store.BALID) func() {
			slot := spoilSlot(t, dir, bal)
			record := swapRecord(t, dir, "bal", bal, func(v []byte) []byte { return v[:5] })
			return func() { slot(); record() }
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
			s := storetest.Open(t, opt)
			b, g := storetest.AddBAL(t, s, bad, store.ORG), storetest.AddBAL(t, s, good, store.ORG)
			do(t, s, store.PutMember{Address: bad, Member: store.Member{ID: "local:a", Role: store.Owner, PasswordHash: "x"}})
			id, _ := storetest.Deliver(t, s, b.ID, raw)
			in := box(t, s, b.ID, "INBOX")
			s.Close()
			back := c.spoil(t, opt.Dir, b.ID)

			s, err := store.Open(store.Options{Dir: opt.Dir})
			if err != nil {
				t.Fatalf("the whole store is refused: %v", err)
			}
			if f := s.Unavailable(); len(f) != 1 || f[0].BAL != b.ID || f[0].Reason == "" || c.named != (f[0].Address == bad) {
				t.Errorf("unavailable: %v", f)
			}
			if got, err := s.BAL(bad); !errors.Is(err, store.ErrUnavailable) || c.named != (got.ID == b.ID) {
				t.Errorf("BAL: %+v, %v; want ErrUnavailable", got, err)
			}
			if !s.HasDomain(bad.Domain()) {
				t.Error("its domain is not ours any more")
			}
			_, byID := s.BALByID(b.ID)
			_, boxes := s.Mailboxes(b.ID)
			_, inbox := s.Mailbox(b.ID, "INBOX")
			_, subs := s.Subscriptions(b.ID)
			for what, err := range map[string]error{"BALByID": byID, "Mailboxes": boxes, "Mailbox": inbox, "Subscriptions": subs} {
				if !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s: %v, want ErrUnavailable", what, err)
				}
			}
			if m := s.Members(b.ID); len(m) != 0 {
				t.Errorf("members of a damaged BAL: %v", m)
			}
			for _, op := range []store.Op{
				store.SetBALState{Address: bad, State: store.Closed}, store.PutMember{Address: bad, Member: store.Member{ID: "local:b", Role: store.Owner}},
				store.PutBAL{BAL: store.BAL{Address: bad, Kind: store.ORG, State: store.Active, Listing: store.Published}, Create: true},
				store.Subscribe{BAL: b.ID, Name: "X", On: true}, store.CreateMailbox{BAL: b.ID, Name: "X"}, store.DeleteMailbox{Ref: in.Ref},
				store.StoreFlags{Ref: in.Ref, Runs: one(1), Mode: store.Add, Flags: store.Seen}, store.Expunge{Ref: in.Ref, Runs: one(1)},
				store.AddMessage{Ref: in.Ref, Message: id},
			} {
				if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{op}}); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%T: %v, want ErrUnavailable", op, err)
				}
			}
			if _, err := tryDeliver(s, in.Ref, raw); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("delivery: %v, want ErrUnavailable", err)
			}
			// A peer may not be told for good that an address is nobody's while it may be this one's.
			if _, err := s.BAL("nobody@bal.example"); c.named && !errors.Is(err, store.ErrNoBAL) || !c.named && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("an address of nobody: %v", err)
			}
			gid, _ := storetest.Deliver(t, s, g.ID, raw)
			if got := read(t, s, g.ID, gid); !strings.HasSuffix(got, raw) {
				t.Errorf("the other BAL reads %q", got)
			}
			problems, err := s.Check(ctx)
			if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Text, "unavailable") {
				t.Errorf("Check: %v %v; want the one problem", problems, err)
			}
			s.Close()

			back()
			s = storetest.Open(t, store.Options{Dir: opt.Dir})
			if got := read(t, s, b.ID, id); !strings.HasSuffix(got, raw) {
				t.Errorf("mended, but reads %q", got)
			}
			if m := s.Members(b.ID); len(m) != 1 || len(s.Unavailable()) != 0 {
				t.Errorf("mended, but %v %v", m, s.Unavailable())
			}
			storetest.Deliver(t, s, b.ID, raw)
		})
	}
}

func spoilSlot(t *testing.T, dir string, bal store.BALID) (back func()) {
	t.Helper()
	off, n := store.SlotPlace(bal)
	f, err := os.OpenFile(filepath.Join(dir, "keys"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	was := make([]byte, n)
	if _, err := f.ReadAt(was, off); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(was)
	bad[40] ^= 1
	write := func(b []byte) {
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	write(bad)
	return func() {
		defer f.Close()
		now := make([]byte, n)
		if _, err := f.ReadAt(now, off); err != nil || !bytes.Equal(now, bad) {
			t.Errorf("the damaged slot was written to (%v)", err)
		}
		write(was)
	}
}

// A BAL whose record is gone altogether, but not what hangs on it, is unavailable, not unknown: its mail must not be
// refused for good.
func TestMissingRecordOfBAL(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	s.Close()
	changeIndex(t, opt.Dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("bal")).Delete(binary.BigEndian.AppendUint32(nil, uint32(b.ID)))
	})
	s, err := store.Open(store.Options{Dir: opt.Dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := s.BAL(b.Address); !errors.Is(err, store.ErrUnavailable) || got.Kind != store.ORG {
		t.Errorf("%+v %v, want ErrUnavailable", got, err)
	}
	if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutBAL{BAL: store.BAL{Address: b.Address, Kind: store.ORG, State: store.Active, Listing: store.Published}, Create: true}}}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("made again: %v, want ErrUnavailable", err)
	}
	s.Record(trace.Event{Kind: trace.Login, BAL: string(b.Address), Person: "local:x"})
	if all, err := s.Usage(ctx); err != nil || len(all) != 1 || !all[0].Use.Last.IsZero() {
		t.Errorf("when it was used: %+v, %v; want that nobody knows", all, err)
	}
}

// TestKeysCutShort cuts the file of the keys in its last slot: the BALs before it go on.
func TestKeysCutShort(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	a, b := storetest.AddBAL(t, s, "a@bal.example", store.ORG), storetest.AddBAL(t, s, "b@bal.example", store.ORG)
	s.Close()
	off, n := store.SlotPlace(b.ID)
	if err := os.Truncate(filepath.Join(opt.Dir, "keys"), off+n/2); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Options{Dir: opt.Dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storetest.Deliver(t, s, a.ID, raw)
	if _, err := s.BAL(b.Address); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
}

// TestDamagedKeywords spoils a set of keywords: the messages stay, without these words.
func TestDamagedKeywords(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	storetest.Deliver(t, s, b.ID, raw)
	do(t, s, store.StoreFlags{Ref: in.Ref, Runs: one(1), Mode: store.Add, Keywords: []string{"x"}})
	s.Close()
	changeIndex(t, opt.Dir, func(tx *bolt.Tx) error {
		k, v := tx.Bucket([]byte("keywords")).Cursor().First()
		return tx.Bucket([]byte("keywords")).Put(bytes.Clone(k), flipLast(bytes.Clone(v)))
	})
	s, err := store.Open(store.Options{Dir: opt.Dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := rows(t, s, in.Ref)
	if len(r) != 1 || len(s.Keywords(r[0].Keywords)) != 0 || len(s.Unavailable()) != 0 || len(s.Damage()) != 1 {
		t.Errorf("%+v, words %q, unavailable %v, damage %v", r, s.Keywords(r[0].Keywords), s.Unavailable(), s.Damage())
	}
	do(t, s, store.StoreFlags{Ref: in.Ref, Runs: one(1), Mode: store.Add, Keywords: []string{"y"}})
	if r = rows(t, s, in.Ref); len(s.Keywords(r[0].Keywords)) != 1 {
		t.Errorf("words %q", s.Keywords(r[0].Keywords))
	}
	problems, err := s.Check(ctx)
	if err != nil || len(problems) == 0 || problems[0].Invariant != 9 {
		t.Errorf("Check: %v %v", problems, err)
	}
}

// TestForeignRecords puts records in that belong to nobody or have keys of no known form: the store opens, serves, and
// Check names each.
func TestForeignRecords(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	s.Close()
	records := []struct {
		bucket, key string
		invariant   int
	}{
		{"member", "\x00\x00\x00\x63x", 10}, {"mailbox", "\x00\x00\x00\x63\x00\x00\x00\x01", 10}, {"sub", "\x00\x00", 1},
		{"bal", "xy", 1}, {"once", "short", 1}, {"dead", "short", 1}, {"prefix", "ab", 1}, {"row", "abc", 1}, {"gone", "abc", 1}, {"trace", "abc", 1}, {"blob", "abc", 1},
	}
	changeIndex(t, opt.Dir, func(tx *bolt.Tx) error {
		for _, r := range records {
			if err := tx.Bucket([]byte(r.bucket)).Put([]byte(r.key), []byte("what is this")); err != nil {
				return err
			}
		}
		return nil
	})
	s, err := store.Open(store.Options{Dir: opt.Dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storetest.Deliver(t, s, b.ID, raw)
	problems, err := s.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		found := false
		for _, p := range problems {
			found = found || p.Invariant == r.invariant && strings.Contains(p.Text, r.bucket)
		}
		if !found {
			t.Errorf("nothing said of the record in %s: %v", r.bucket, problems)
		}
	}
}
