package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mssd/admin"
	"mssd/mailfile"
	"mssd/store"
	"mssd/store/storetest"
)

// desk is a store behind its admin socket, in this process.
type desk struct {
	st     *store.Store
	client *admin.Client
}

type noFronts struct{}

func (noFronts) Addresses() map[string]string   { return nil }
func (noFronts) Reload(context.Context) []error { return nil }
func (noFronts) Degraded() []string             { return nil }

func openDesk(t testing.TB) *desk {
	t.Helper()
	dir := t.TempDir()
	st := storetest.Open(t, store.Options{Dir: filepath.Join(dir, "store"), Create: true, NoSync: true})
	srv := &admin.Server{Store: st, Fronts: noFronts{}, Log: slog.New(slog.DiscardHandler)}
	d := &desk{st, &admin.Client{Socket: filepath.Join(dir, "s")}}
	l, err := admin.Listen(d.client.Socket, false)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-done
	})
	return d
}

// held is a message as a user sees it.
type held struct {
	mailbox, sum    string
	flags           store.Flag
	keywords        string
	date            int64
	size            int64
	use, subscribed string
}

// contents is all that a BAL holds, in the order of mailboxes and UIDs; mailboxes stand there too.
func (d *desk) contents(t testing.TB, a store.Address) []held {
	t.Helper()
	bal, err := d.st.BAL(a)
	must(t, err)
	boxes, err := d.st.Mailboxes(bal.ID)
	must(t, err)
	subs, err := d.st.Subscriptions(bal.ID)
	must(t, err)
	var all []held
	for _, m := range boxes {
		if !m.Created {
			continue
		}
		all = append(all, held{mailbox: m.Name, use: m.SpecialUse, subscribed: fmt.Sprint(slices.Contains(subs, m.Name))})
		must(t, d.st.Rows(context.Background(), m.Ref, []store.Run{{First: 1, Count: 1 << 30}}, func(r store.Row) bool {
			c, err := d.st.OpenMessage(bal.ID, r.Message)
			must(t, err)
			defer c.Close()
			h := sha256.New()
			_, err = io.Copy(h, io.NewSectionReader(c, 0, c.Size()))
			must(t, err)
			words := slices.Clone(d.st.Keywords(r.Keywords))
			slices.Sort(words)
			all = append(all, held{mailbox: m.Name, sum: fmt.Sprintf("%x", h.Sum(nil)), flags: r.Flags, keywords: strings.Join(words, " "),
				date: r.Date.Unix(), size: r.Size})
			return true
		}))
	}
	return all
}

func (d *desk) exportTo(t testing.TB, a store.Address, dest, format string) exported {
	t.Helper()
	begin, err := exportFormat(format)
	must(t, err)
	done, err := exportBAL(context.Background(), d.client, string(a), dest, begin, newProgress(nil, true), io.Discard)
	must(t, err)
	return done
}

func (d *desk) importFrom(t testing.TB, a store.Address, source string, head admin.TransferHead) (imported, error) {
	t.Helper()
	src, err := mailfile.Open(source)
	must(t, err)
	defer src.Close()
	i := &importing{src: src, warn: io.Discard, p: newProgress(nil, true), done: imported{Address: string(a)}}
	err = i.run(context.Background(), d.client, head)
	return i.done, err
}

// fill puts a message into a mailbox, which is made where it is missing.
func (d *desk) fill(t testing.TB, bal store.BALID, mailbox string, op store.AddMessage, raw []byte) {
	t.Helper()
	m, err := d.st.Mailbox(bal, mailbox)
	if err != nil {
		_, err = d.st.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.CreateMailbox{BAL: bal, Name: mailbox},
			store.Subscribe{BAL: bal, Name: mailbox, On: true}}})
		must(t, err)
		m, err = d.st.Mailbox(bal, mailbox)
		must(t, err)
	}
	op.Ref = m.Ref
	_, err = d.st.Commit(context.Background(), &store.Batch{Blob: storetest.NewBlob(t, d.st, string(raw)), Ops: []store.Op{op}})
	must(t, err)
}

var mailboxNames = []string{"INBOX", "Sent", "Envoyés", "Dr. Martin", "Dr_ Martin", "Patients/A.B/été", "patients", "Patients", "CON", "a&b", "x/0000000001.eml",
	"-", "..", "~", "日本語", strings.Repeat("très long ", 30), "cur", "new/tmp", "manifest.jsonl", "INBOX/sub", "a:b", "a*b", " edge ", "Été"}

// What goes out and comes into an empty BAL is the same: octets, flags, keywords, dates, mailboxes, order.
func TestRoundTrip(t *testing.T) {
	d := openDesk(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		from, to := store.Address(fmt.Sprintf("from%d@example.test", n)), store.Address(fmt.Sprintf("to%d@example.test", n))
		bal := storetest.AddBAL(t, d.st, from, store.ORG)
		storetest.AddBAL(t, d.st, to, store.ORG)
		for i := range rapid.IntRange(0, 12).Draw(rt, "messages") {
			words := rapid.SliceOfNDistinct(rapid.IntRange(0, 40), 0, 5, rapid.ID).Draw(rt, "keywords")
			op := store.AddMessage{Flags: store.Flag(rapid.IntRange(0, 31).Draw(rt, "flags")),
				Date: time.Unix(rapid.Int64Range(-1e9, 4e9).Draw(rt, "date"), 0)}
			for _, w := range words {
				op.Keywords = append(op.Keywords, fmt.Sprintf("$Word%d", w))
			}
			if rapid.Bool().Draw(rt, "prefix") {
				op.Prefix = []byte("Return-Path: <>\r\n")
			}
			raw := rapid.SliceOfN(rapid.SampledFrom([]byte("ab\r\n\x01\xff: ")), 1, 300).Draw(rt, "octets")
			d.fill(t, bal.ID, rapid.SampledFrom(mailboxNames).Draw(rt, "mailbox"), op, append([]byte(fmt.Sprintf("X: %d\r\n", i)), raw...))
		}
		dest := filepath.Join(t.TempDir(), "out")
		d.exportTo(t, from, dest, rapid.SampledFrom([]string{"zip", "maildir"}).Draw(rt, "format"))
		if _, err := d.importFrom(t, to, dest, admin.TransferHead{}); err != nil {
			rt.Fatal(err)
		}
		before, after := d.contents(t, from), d.contents(t, to)
		if !slices.Equal(before, after) {
			rt.Fatalf("exported:\n%v\nimported:\n%v", before, after)
		}
		// Again, it is all there.
		again, err := d.importFrom(t, to, dest, admin.TransferHead{})
		if err != nil || again.Stored != 0 || again.Refused != 0 || !slices.Equal(before, d.contents(t, to)) {
			rt.Fatalf("imported again: %+v %v", again, err)
		}
	})
}

// A message whose file was changed after the export is refused by name, the others come in; one whose line ends were made LF
// by another program is the same message.
func TestImportComparesTheSum(t *testing.T) {
	d := openDesk(t)
	const from, to = store.Address("from@example.test"), store.Address("to@example.test")
	bal := storetest.AddBAL(t, d.st, from, store.ORG)
	storetest.AddBAL(t, d.st, to, store.ORG)
	for i := range 3 {
		d.fill(t, bal.ID, "INBOX", store.AddMessage{Date: time.Unix(int64(i), 0)}, fmt.Appendf(nil, "Subject: %d\r\n\r\nposologie: 1\r\n", i))
	}
	dest := filepath.Join(t.TempDir(), "out")
	d.exportTo(t, from, dest, "maildir")
	files, err := filepath.Glob(filepath.Join(dest, "[cn]*", "*")) // cur, new
	must(t, err)
	changed := ""
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		switch {
		case bytes.HasPrefix(b, []byte("Subject: 0")):
			changed, b = filepath.Base(f), bytes.Replace(b, []byte("posologie: 1"), []byte("posologie: 9"), 1)
		case bytes.HasPrefix(b, []byte("Subject: 1")):
			b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
		default:
			continue
		}
		must(t, os.WriteFile(f, b, 0o600))
	}
	src, err := mailfile.Open(dest)
	must(t, err)
	defer src.Close()
	var warn bytes.Buffer
	i := &importing{src: src, warn: &warn, p: newProgress(nil, true), done: imported{Address: string(to)}}
	if err := i.run(context.Background(), d.client, admin.TransferHead{}); err != nil || i.done.Stored != 2 || i.done.Refused != 1 {
		t.Errorf("%+v, %v; want 2 stored, 1 refused", i.done, err)
	}
	if changed == "" || !strings.Contains(warn.String(), changed) || !strings.Contains(warn.String(), "SHA-256") {
		t.Errorf("it says %q, want the name %q and why", warn.String(), changed)
	}
}

// Messages whose files end lines in LF alone, as other programs write them, come in as mail travels.
func TestImportMendsLineEnds(t *testing.T) {
	d := openDesk(t)
	bal := storetest.AddBAL(t, d.st, "a@example.test", store.ORG)
	dir := t.TempDir()
	for _, sub := range []string{"cur", "new", "tmp", ".Sent/cur"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
	}
	must(t, os.WriteFile(filepath.Join(dir, "cur", "1.a.host:2,FS"), []byte("Subject: x\n\ny\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, ".Sent", "cur", "1.b.host:2,S"), []byte("Subject: z\r\n\r\ny\r\n"), 0o600))
	when := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "cur", "1.a.host:2,FS"), when, when))
	done, err := d.importFrom(t, "a@example.test", dir, admin.TransferHead{})
	if err != nil || done.Stored != 2 || done.Mended != 1 {
		t.Fatalf("%+v %v", done, err)
	}
	inbox, err := d.st.Mailbox(bal.ID, "INBOX")
	must(t, err)
	must(t, d.st.Rows(t.Context(), inbox.Ref, []store.Run{{First: 1, Count: 1}}, func(r store.Row) bool {
		c, err := d.st.OpenMessage(bal.ID, r.Message)
		must(t, err)
		defer c.Close()
		b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		must(t, err)
		if string(b) != "Subject: x\r\n\r\ny\r\n" || r.Flags != store.Flagged|store.Seen || !r.Date.Equal(when) {
			t.Errorf("%q %v %v", b, r.Flags, r.Date)
		}
		return true
	}))
}

func TestExportLeavesNothingHalf(t *testing.T) {
	d := openDesk(t)
	storetest.AddBAL(t, d.st, "a@example.test", store.ORG)
	for _, format := range []string{"maildir", "zip"} {
		begin, err := exportFormat(format)
		must(t, err)
		dest := filepath.Join(t.TempDir(), "out")
		if _, err := exportBAL(t.Context(), d.client, "nobody@example.test", dest, begin, newProgress(nil, true), io.Discard); err == nil {
			t.Error("a BAL that is not there was exported")
		}
		if left, _ := filepath.Glob(dest + "*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		must(t, os.WriteFile(dest, []byte("mine"), 0o600))
		if _, err := exportBAL(t.Context(), d.client, "a@example.test", dest, begin, newProgress(nil, true), io.Discard); err == nil {
			t.Error("a file that was there was written over")
		}
		if b, _ := os.ReadFile(dest); !bytes.Equal(b, []byte("mine")) {
			t.Errorf("the file that was there is %q now", b)
		}
	}
}

// An export that cannot be written is refused before anybody is asked for the mail.
func TestExportNowhere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	asked := &admin.Client{Socket: filepath.Join(dir, "no daemon")}
	for dest, want := range map[string]string{
		filepath.Join(dir, "missing", "out"): "no such folder",
		filepath.Join(file, "out"):           "no",
		file:                                 "is there already",
		"/proc/self/out":                     "/proc/self",
	} {
		for _, format := range []string{"maildir", "zip"} {
			begin, err := exportFormat(format)
			if err != nil {
				t.Fatal(err)
			}
			_, err = exportBAL(t.Context(), asked, "a@example.test", dest, begin, newProgress(nil, true), io.Discard)
			if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, admin.ErrNoDaemon) {
				t.Errorf("%s to %s: %v, want %q", format, dest, err, want)
			}
		}
	}
}
