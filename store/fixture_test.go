package store_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
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

var update = flag.Bool("update", false, "write the stores in testdata anew")

// fixtureAt is the time in which the stores of testdata live.
var fixtureAt = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

const fixtures = "testdata/stores"

// TestFixtures opens a whole store of each form that ever was: today's with all that stands in it, others are refused by
// name, with what to do, and left as they are.
func TestFixtures(t *testing.T) {
	if *update {
		writeFixture(t)
	}
	t.Run("version-1", func(t *testing.T) {
		dir := unzip(t, "version-1")
		opt := store.Options{Dir: dir, MasterKey: filepath.Join(dir, "..", "master.key"), Now: func() time.Time { return fixtureAt.Add(time.Hour) }}
		s := storetest.Open(t, opt)
		got := tellAll(t, s)
		golden := filepath.Join(fixtures, "version-1.txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
			t.Errorf("the store is not what it was (-want +got):\n%s", d)
		}
		storetest.Check(t, s)
		// It can be written too.
		b, err := s.BAL("pharmacie@officine.example")
		if err != nil {
			t.Fatal(err)
		}
		storetest.Deliver(t, s, b.ID, raw)
		storetest.Check(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// The recovery key of that day opens it.
		next := filepath.Join(dir, "..", "next.key")
		if err := store.MakeMasterKey(next); err != nil {
			t.Fatal(err)
		}
		n, lost, err := store.Recover(dir, filepath.Join(dir, "..", "recovery.private"), next)
		if n != 4 || len(lost) > 0 || err != nil { // not that of the destroyed BAL
			t.Errorf("recovery: %d keys, lost %v, %v", n, lost, err)
		}
		opt.MasterKey = next
		s = storetest.Open(t, opt)
		storetest.Deliver(t, s, b.ID, raw)
	})
	for name, want := range map[string]string{
		"version-0":        "keeps mail in clear and is never converted: move the folder away and begin a new store",
		"version-1-keys-1": `says "mssd keys 1", of the first days, and is never converted: move the folder away and begin a new store`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := unzip(t, name)
			before := sums(t, dir)
			for _, create := range []bool{false, true} {
				s, err := store.Open(store.Options{Dir: dir, Create: create})
				if !errors.Is(err, store.ErrVersion) || !strings.Contains(err.Error(), want) {
					t.Errorf("create %v: %v", create, err)
				}
				if err == nil {
					s.Close()
				}
			}
			if d := cmp.Diff(before, sums(t, dir)); d != "" {
				t.Errorf("it was changed:\n%s", d)
			}
		})
	}
}

func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		m[path] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// unzip makes the data directory of a fixture; what is beside it in the archive stands above it.
func unzip(t *testing.T, name string) string {
	t.Helper()
	z, err := zip.OpenReader(filepath.Join(fixtures, name+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	top := t.TempDir()
	dir := filepath.Join(top, "data")
	for _, f := range z.File {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if beside, ok := strings.CutPrefix(f.Name, "beside/"); ok {
			path = filepath.Join(top, beside)
		}
		if f.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o700)
		} else {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), extract(f, path))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func extract(f *zip.File, path string) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return writeHoles(path, r)
}

// copyTree copies a folder with stores in it.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		r, err := os.Open(path)
		if err != nil {
			return err
		}
		defer r.Close()
		return writeHoles(filepath.Join(to, rel), r)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// writeHoles leaves holes where zeros are: databases have many, and each would have to be synced.
func writeHoles(path string, r io.Reader) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	page, none := make([]byte, 64<<10), make([]byte, 64<<10)
	var off int64
	for {
		n, err := io.ReadFull(r, page)
		if n > 0 && !bytes.Equal(page[:n], none[:n]) {
			if _, err := w.WriteAt(page[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return w.Truncate(off)
		}
		if err != nil {
			return err
		}
	}
}

// writeFixture makes a small store with all that a store can hold.
func writeFixture(t *testing.T) {
	top := t.TempDir()
	file := func(name string) string { return filepath.Join(top, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := fixtureAt
	opt := store.Options{Dir: file("data"), MasterKey: file("master.key"), Create: true, Now: func() time.Time { return at }}
	s, err := store.Open(opt)
	must(err)
	must(s.Close())
	_, err = store.MakeRecoveryKey(file("recovery.private"), file("recovery.public"))
	must(err)
	must(store.SetRecovery(opt.Dir, opt.MasterKey, file("recovery.public")))
	s, err = store.Open(opt)
	must(err)
	fillFixture(t, s, &at)
	must(s.FinishDestroying(ctx))
	storetest.Check(t, s)
	must(s.Close())

	out, err := os.Create(filepath.Join(fixtures, "version-1.zip"))
	must(err)
	z := zip.NewWriter(out)
	add := func(name, path string) {
		w, err := z.Create(name)
		must(err)
		b, err := os.ReadFile(path)
		must(err)
		_, err = w.Write(b)
		must(err)
	}
	must(filepath.WalkDir(opt.Dir, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(opt.Dir, path)
		switch {
		case err != nil || rel == ".":
		case e.IsDir():
			_, err = z.Create(filepath.ToSlash(rel) + "/")
		default:
			add(filepath.ToSlash(rel), path)
		}
		return err
	}))
	for _, name := range []string{"master.key", "recovery.private", "recovery.public"} {
		add("beside/"+name, file(name))
	}
	must(errors.Join(z.Close(), out.Close()))
}

func fillFixture(t *testing.T, s *store.Store, at *time.Time) {
	bal := func(a store.Address, k store.Kind) store.BAL {
		*at = at.Add(time.Minute)
		return storetest.AddBAL(t, s, a, k)
	}
	pharmacy, doctor := bal("pharmacie@officine.example", store.ORG), bal("docteur@cabinet.example", store.PER)
	bal("logiciel@officine.example", store.APP)
	bal("ancienne@officine.example", store.CAB)
	in, in2 := box(t, s, pharmacy.ID, "INBOX").Ref, box(t, s, doctor.ID, "INBOX").Ref
	do(t, s, store.PutBAL{BAL: store.BAL{Address: pharmacy.Address, Structure: "990000119", QuotaOctets: 1 << 30, QuotaMessages: 10_000}},
		store.PutMember{Address: pharmacy.Address, Member: store.Member{ID: "local:anne", Role: store.Owner, PasswordHash: "$argon2id$v=19$m=64,t=1,p=1$aW52ZW50ZWQ$aW52ZW50ZWQ"}},
		store.PutMember{Address: pharmacy.Address, Member: store.Member{ID: "rpps:99900000911", Role: store.Reader, From: fixtureAt, Until: fixtureAt.AddDate(70, 0, 0)}},
		store.PutMember{Address: pharmacy.Address, Member: store.Member{ID: "local:parti", Role: store.Writer}},
		store.EndMember{Address: pharmacy.Address, Member: "local:parti"},
		store.CreateMailbox{BAL: pharmacy.ID, Name: "Dossiers/Été"}, store.Subscribe{BAL: pharmacy.ID, Name: "Dossiers/Absent", On: true},
		store.SetRetention{Ref: box(t, s, pharmacy.ID, "Junk").Ref, Days: 30}, store.SetBALState{Address: "logiciel@officine.example", State: store.Suspended})
	put := func(body string, ops ...store.Op) {
		*at = at.Add(time.Minute)
		blob := storetest.NewBlob(t, s, body)
		for i := range ops {
			if a, ok := ops[i].(store.AddMessage); ok {
				a.Date = at.Add(-time.Hour)
				ops[i] = a
			}
		}
		once := &store.Once{Key: sha256.Sum256([]byte(body))}
		_, err := s.Commit(ctx, &store.Batch{Blob: blob, Ops: ops, Once: once, Events: []trace.Event{{Kind: trace.Committed}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	prefix := []byte("Return-Path: <a@labo.example>\r\n")
	put(raw, store.AddMessage{Ref: in, Prefix: prefix, Flags: store.Seen | store.Flagged, Keywords: []string{"$Forwarded", "Urgent"}})
	put("Subject: deux\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 12_000), store.AddMessage{Ref: in, Prefix: prefix}, store.AddMessage{Ref: in2})
	put("Subject: trois\r\n\r\nx\r\n", store.AddMessage{Ref: in, Flags: store.Deleted})
	put("", store.AddMessage{Ref: in2})
	*at = at.Add(time.Minute)
	do(t, s, store.Copy{From: in, Runs: one(1), To: box(t, s, pharmacy.ID, "Dossiers/Été").Ref}, store.Move{From: in2, Runs: one(2), To: box(t, s, pharmacy.ID, "Archive").Ref},
		store.Expunge{Ref: in, Runs: one(3)}, store.SetHold{Address: doctor.Address, On: true},
		store.PutBackup{Backup: store.Backup{ID: s.NewID(), Label: "/mnt/sauvegarde", Began: *at, Done: *at, HighestBAL: doctor.ID}},
		store.SetBALState{Address: "ancienne@officine.example", State: store.Closed})
	*at = at.Add(time.Minute)
	if _, err := s.DestroyBAL(ctx, "ancienne@officine.example"); err != nil {
		t.Fatal(err)
	}
}

// tellAll is all that a store says of itself, as text.
func tellAll(t *testing.T, s *store.Store) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for _, bal := range s.BALs() {
		p("BAL %d %s %v %v %v %q created %s quota %d %d holds %d %d held %s destroyed %s %v %v", bal.ID, bal.Address, bal.Kind, bal.State, bal.Listing, bal.Structure,
			stamp(bal.Created), bal.QuotaOctets, bal.QuotaMessages, bal.Octets, bal.Messages, stamp(bal.HeldSince), stamp(bal.Destroyed.At), bal.Destroyed.KeyGone, bal.Destroyed.Wiped)
		for _, m := range s.Members(bal.ID) {
			p("  member %s %v ended %v from %s until %s hash %q", m.ID, m.Role, m.Ended, stamp(m.From), stamp(m.Until), m.PasswordHash)
		}
		subs, err := s.Subscriptions(bal.ID)
		p("  subscribed %q %v", subs, err)
		boxes, err := s.Mailboxes(bal.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range boxes {
			p("  mailbox %d %q %s UIDVALIDITY %d UIDNEXT %d HIGHESTMODSEQ %d messages %d unseen %d deleted %d octets %d days %d keywords %q", m.Mailbox, m.Name, m.SpecialUse,
				m.UIDValidity, m.UIDNext, m.HighestModSeq, m.Messages, m.Unseen, m.Deleted, m.Octets, m.RetentionDays, s.MailboxKeywords(m.Ref))
			if !m.Created {
				continue
			}
			for _, r := range rows(t, s, m.Ref) {
				p("    %d MODSEQ %d flags %d %q date %s saved %s size %d %s", r.UID, r.ModSeq, r.Flags, s.Keywords(r.Keywords), stamp(r.Date), stamp(r.SaveDate), r.Size, r.Message)
				p("      %s", wholeMessage(t, s, bal.ID, r.Message))
			}
			if ch, err := s.Changes(m.Ref, 1); err != nil || len(ch.Vanished) > 0 {
				p("    vanished %v %v", ch.Vanished, err)
			}
		}
		page, err := s.Expunged(ctx, bal.ID, store.ExpungedID{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			p("  expunged %s from %q flags %d %q date %s saved %s size %d %s", e.ExpungedID, e.Name, e.Flags, s.Keywords(e.Keywords), stamp(e.Date), stamp(e.SaveDate), e.Size, e.Message)
			p("      %s", wholeMessage(t, s, bal.ID, e.Message))
		}
	}
	backups, err := s.Backups()
	for _, k := range backups {
		p("backup %s %q began %s done %s destroyed %s commits %d events %d BALs up to %d", k.ID, k.Label, stamp(k.Began), stamp(k.Done), stamp(k.Forgotten), k.Commits, k.Events, k.HighestBAL)
	}
	events, err2 := s.Trace(ctx, 0)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("event %d %s", e.Seq, e.Line()))
	}
	slices.Sort(lines)
	p("%s", strings.Join(lines, "\n"))
	ids, err := s.TraceByMessageID(ctx, "m1@labo.example")
	p("by Message-ID %v %v", ids, err)
	return b.String()
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format(time.RFC3339)
}

// wholeMessage is what can be read of a message: all octets, structure, words.
func wholeMessage(t *testing.T, s *store.Store, bal store.BALID, id store.MessageID) string {
	body := read(t, s, bal, id)
	meta, err := s.Meta(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Text(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.Trace(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%q… %d octets SHA-256 %x, Message-ID %q, words %q, %d events", body[:min(len(body), 60)], len(body), sha256.Sum256([]byte(body)), meta.MessageID, text.Header, len(events))
}
