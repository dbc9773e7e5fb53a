package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// What must not stand on disk, all invented.
const (
	patientName = "Zéphyrine Quatrepommes"
	patientINS  = "299017512345678"
	patientMail = patientINS + "@patient.mssante.fr"
	subject     = "Ordonnance amoxicilline juin"
	attachment  = "ordonnance-quatrepommes.pdf"
	archive     = "IHE_XDM_quatrepommes.zip"
	idOfMail    = "9f31-quatrepommes@patient.example"
	sentence    = "amoxicilline un gramme trois fois par jour"
	password    = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaG9mYXBhc3N3b3Jk"
	verifier    = "SCRAM-SHA-256$65536:c29tZXNhbHQ=$dW5jbGVkZXZlcmlmaWNhdGlvbg==:dW5lYXV0cmVjbGVkdXNlcnZldXI="
)

var needles = []string{patientName, "Quatrepommes", patientINS, patientMail, subject, "amoxicilline", attachment, archive, idOfMail,
	sentence, password, verifier, "Dossier Quatrepommes", "a-rappeler-quatrepommes"}

// prescription is a mail with a PDF and an XDM archive, as a patient sends it.
func prescription() string {
	b64 := func(b []byte) string {
		s := base64.StdEncoding.EncodeToString(b)
		var lines []string
		for len(s) > 76 {
			lines, s = append(lines, s[:76]), s[76:]
		}
		return strings.Join(append(lines, s), "\r\n")
	}
	pdf := append([]byte("%PDF-1.7 "+patientName+" "+sentence+"\n"), bytes.Repeat([]byte("0 0 m 10 10 l S "+patientINS+"\n"), 3000)...)
	zip := append([]byte("PK\x03\x04IHE_XDM/SUBSET01/METADATA.XML <patient>"+patientName+"</patient>"), bytes.Repeat([]byte{1, 2, 3}, 100)...)
	return "From: " + "=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(patientName)) + "?= <" + patientMail + ">\r\n" +
		"To: <pharmacie@bal.example>\r\nSubject: " + subject + "\r\nMessage-ID: <" + idOfMail + ">\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
		"Bonjour, voici " + sentence + ".\r\n" + patientName + "\r\n--b\r\nContent-Type: application/pdf; name=\"" + attachment + "\"\r\n" +
		"Content-Disposition: attachment; filename=\"" + attachment + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(pdf) +
		"\r\n--b\r\nContent-Type: application/zip; name=\"" + archive + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b64(zip) + "\r\n--b--\r\n"
}

// forms are the ways in which a text could stand in a file: as it is, in hex, in base64 at each place of a triple.
func forms(s string) [][]byte {
	out := [][]byte{[]byte(strings.ToLower(s)), []byte(hex.EncodeToString([]byte(s)))}
	for shift := range 3 {
		e := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), s...))
		if e = e[(shift*8+5)/6:]; len(e) > 9 {
			out = append(out, []byte(strings.ToLower(e[:len(e)-1])))
		}
	}
	return out
}

// found are the needles in the files below dir and in their names.
func found(t *testing.T, dir string) (hits []string, octets int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var b []byte
		if !d.IsDir() {
			if b, err = os.ReadFile(p); err != nil {
				return err
			}
			octets += len(b)
		}
		b = bytes.ToLower(append(b, p[len(dir):]...))
		for _, n := range needles {
			for _, f := range forms(n) {
				if bytes.Contains(b, f) {
					hits = append(hits, fmt.Sprintf("%s holds %q", p[len(dir):], f))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return hits, octets
}

func mustBeSilent(t *testing.T, dir string) (octets int) {
	t.Helper()
	hits, octets := found(t, dir)
	for _, h := range hits {
		t.Error(h)
	}
	return octets
}

// TestNeedles makes sure that the mail would be found if it stood there.
func TestNeedles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte(prescription()), 0o600); err != nil {
		t.Fatal(err)
	}
	hits, _ := found(t, dir)
	all := strings.Join(hits, "\n")
	for _, n := range []string{"zéphyrine quatrepommes", patientINS, "amoxicilline", attachment, strings.ToLower(archive), idOfMail} {
		if !strings.Contains(all, n) {
			t.Errorf("%q is not found in the plain mail", n)
		}
	}
	if len(hits) < 16 { // the forms in base64 too
		t.Errorf("only %d forms are found:\n%s", len(hits), all)
	}
}

// TestNothingInClear delivers a prescription and looks into every file: nothing of the patient may stand there, not
// even while the mail is on its way.
func TestNothingInClear(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "pharmacie@bal.example", store.ORG)
	do(t, s, store.CreateMailbox{BAL: b.ID, Name: "Dossier Quatrepommes"}, store.Subscribe{BAL: b.ID, Name: "Dossier Quatrepommes", On: true},
		store.PutMember{Address: b.Address, Member: store.Member{ID: "rpps:10000000001", Role: store.Owner, PasswordHash: password, SCRAM: verifier}},
		store.PutAnnotation{Ref: store.Ref{BAL: b.ID}, Annotation: store.Annotation{Person: "rpps:10000000001", Entry: "/vendor/quatrepommes", Value: "Quatrepommes"}})
	raw := prescription()
	in := box(t, s, b.ID, "INBOX")
	for range 3 {
		blob := storetest.NewBlob(t, s, raw)
		_, err := s.Commit(ctx, &store.Batch{Blob: blob, Ops: []store.Op{store.AddMessage{Ref: in.Ref, Keywords: []string{"a-rappeler-quatrepommes"},
			Prefix: []byte("Return-Path: <" + patientMail + ">\r\n"), Delivery: true}},
			Events: []trace.Event{{Kind: trace.Committed, BAL: string(b.Address), Mailbox: uint32(in.Mailbox),
				Attrs: []trace.Attr{{Key: trace.KeySender, Value: s.Pseudonym("sender", patientMail)}, {Key: trace.KeyMessageID, Value: s.Pseudonym("message-id", idOfMail)}}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	dossier := box(t, s, b.ID, "Dossier Quatrepommes").Ref
	do(t, s, store.Copy{From: in.Ref, Runs: one(1), To: dossier}, store.Copy{From: in.Ref, Runs: one(1), To: dossier})
	expunge(t, s, dossier, one(2)) // the record of it holds the name of the mailbox
	// Two more stay on their way: one in the middle of its octets, one finished.
	half, err := s.NewBlob()
	if err != nil {
		t.Fatal(err)
	}
	defer half.Abort()
	if _, err := half.Write([]byte(strings.Repeat(raw, 3))); err != nil {
		t.Fatal(err)
	}
	defer storetest.NewBlob(t, s, raw).Abort()
	if spooled, _ := filepath.Glob(filepath.Join(opt.Dir, "spool", "*")); len(spooled) != 2 {
		t.Fatalf("%d files in spool", len(spooled))
	}
	mustBeSilent(t, opt.Dir)
	storetest.Check(t, s)
	if err := s.Close(); err != nil { // writes meta.db
		t.Fatal(err)
	}
	if n := mustBeSilent(t, opt.Dir); n < 100<<10 {
		t.Errorf("only %d octets were looked at", n)
	}

	s = storetest.Open(t, opt)
	if l := expunged(t, s, b.ID); len(l) != 1 || l[0].Name != "Dossier Quatrepommes" {
		t.Errorf("expunged: %+v", l)
	}
	if got := read(t, s, b.ID, rows(t, s, in.Ref)[0].Message); !strings.HasSuffix(got, raw) || !strings.HasPrefix(got, "Return-Path: <"+patientMail) {
		t.Error("the mail is not what was stored")
	}
	if m, err := s.Meta(ctx, rows(t, s, in.Ref)[0].Message); err != nil || !strings.Contains(m.MessageID, idOfMail) {
		t.Errorf("structure: %v", err)
	}
	if ids, err := s.TraceByMessageID(ctx, idOfMail); err != nil || len(ids) != 3 {
		t.Errorf("found by Message-ID: %v, %v", ids, err)
	}
	if subs, err := s.Subscriptions(b.ID); err != nil || !slices.Contains(subs, "Dossier Quatrepommes") {
		t.Errorf("subscriptions %q, %v", subs, err)
	}
	if m := s.Members(b.ID); len(m) != 1 || m[0].PasswordHash != password || m[0].SCRAM != verifier {
		t.Error("the member is another one")
	}
	if k := s.MailboxKeywords(in.Ref); !slices.Equal(k, []string{"a-rappeler-quatrepommes"}) {
		t.Errorf("keywords %q", k)
	}
}

// TestDamagedBody damages one body of three: that message is refused, the others are read.
func TestDamagedBody(t *testing.T) {
	for name, damage := range map[string]func(files []string, b []byte){
		"altered":                 func(files []string, b []byte) { b[100] ^= 1; os.WriteFile(files[1], b, 0o600) },
		"cut off":                 func(files []string, b []byte) { os.Truncate(files[1], int64(len(b)-3)) },
		"empty":                   func(files []string, b []byte) { os.Truncate(files[1], 0) },
		"under the name of other": func(files []string, b []byte) { o, _ := os.ReadFile(files[0]); os.WriteFile(files[1], o, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
			s, err := store.Open(opt)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			var ids []store.MessageID
			raw := "Subject: x\r\n\r\n" + strings.Repeat("Une ligne.\r\n", 9000)
			for range 3 {
				id, _ := storetest.Deliver(t, s, b.ID, raw)
				ids = append(ids, id)
			}
			files, _ := filepath.Glob(filepath.Join(opt.Dir, "blobs", "*", "*"))
			content, err := os.ReadFile(files[1])
			if err != nil || len(files) != 3 {
				t.Fatal(files, err)
			}
			damage(files, content)
			for i, id := range ids {
				c, err := s.OpenMessage(b.ID, id)
				if err == nil {
					_, err = c.ReadAt(make([]byte, len(raw)), 0)
					c.Close()
				}
				if (i == 1) != errors.Is(err, store.ErrCorrupt) || (i != 1) != (err == nil) {
					t.Errorf("message %d: %v", i+1, err)
				}
			}
		})
	}
}

// TestSharedBody has one body in two BALs, then copies it to a third: each reads it with its own key, also when the
// structure must be made again.
func TestSharedBody(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	var refs []store.Ref
	for _, a := range []store.Address{"a@bal.example", "b@bal.example", "c@bal.example"} {
		refs = append(refs, box(t, s, storetest.AddBAL(t, s, a, store.ORG).ID, "INBOX").Ref)
	}
	blob := storetest.NewBlob(t, s, raw)
	if _, err := s.Commit(ctx, &store.Batch{Blob: blob, Ops: []store.Op{store.AddMessage{Ref: refs[0], Prefix: []byte("X: 1\r\n")},
		store.AddMessage{Ref: refs[1], Prefix: []byte("X: 2\r\n")}, store.AddMessage{Ref: refs[1], Prefix: []byte("X: 2\r\n")}}}); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(opt.Dir, "blobs", "*", "*")); len(files) != 1 {
		t.Errorf("%d files", len(files))
	}
	do(t, s, store.Move{From: refs[1], Runs: one(1), To: refs[2]})
	do(t, s, store.AddMessage{Ref: refs[2], Message: blob.ID(), Prefix: []byte("X: 2\r\n")})
	storetest.Check(t, s)
	s.Close()
	if err := os.Remove(filepath.Join(opt.Dir, "meta.db")); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, opt)
	for i, prefix := range []string{"X: 1\r\n", "X: 2\r\n", "X: 2\r\n"} {
		if got := read(t, s, refs[i].BAL, blob.ID()); got != prefix+raw {
			t.Errorf("BAL %d reads %q", i+1, got)
		}
	}
	if _, err := s.Meta(ctx, blob.ID()); err != nil {
		t.Error(err)
	}
}

// TestWrongKeys opens a store with what does not belong to it.
func TestWrongKeys(t *testing.T) {
	dir := t.TempDir()
	opt := store.Options{Dir: filepath.Join(dir, "s"), MasterKey: filepath.Join(dir, "elsewhere.key"), Create: true, NoSync: true}
	s, err := store.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Deliver(t, s, storetest.AddBAL(t, s, "a@bal.example", store.ORG).ID, raw)
	s.Close()
	if _, err := os.Stat(filepath.Join(opt.Dir, "master.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a master key beside the data: %v", err)
	}
	if err := store.MakeMasterKey(filepath.Join(dir, "other.key")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", filepath.Join(dir, "other.key"), filepath.Join(dir, "missing.key")} {
		wrong := opt
		wrong.MasterKey = key
		if s, err := store.Open(wrong); !errors.Is(err, store.ErrMasterKey) {
			t.Errorf("opened with %q: %v", key, err)
			s.Close()
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "missing.key")); err == nil {
		t.Error("a master key was made for a store that has one")
	}
	if s, err = store.Open(opt); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(filepath.Join(opt.Dir, "VERSION"), []byte("mssd store 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(opt); !errors.Is(err, store.ErrVersion) || !strings.Contains(err.Error(), "move the folder away") {
		t.Errorf("version 0: %v", err)
	}
}

// TestRekey changes the master key: the old one opens nothing any more, the new one everything, no body is written.
func TestRekey(t *testing.T) {
	dir := t.TempDir()
	opt := store.Options{Dir: filepath.Join(dir, "s"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	id, _ := storetest.Deliver(t, s, b.ID, raw)
	files, _ := filepath.Glob(filepath.Join(opt.Dir, "blobs", "*", "*"))
	before, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(dir, "next.key")
	if err := store.MakeMasterKey(next); err != nil {
		t.Fatal(err)
	}
	if err := store.Rekey(opt.Dir, "", next); !errors.Is(err, store.ErrLocked) {
		t.Errorf("while the store is open: %v", err)
	}
	s.Close()
	if err := store.Rekey(opt.Dir, next, next); !errors.Is(err, store.ErrMasterKey) {
		t.Errorf("with a wrong old key: %v", err)
	}
	if err := store.Rekey(opt.Dir, "", next); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(opt); !errors.Is(err, store.ErrMasterKey) {
		t.Errorf("the old master key: %v", err)
	}
	opt.MasterKey = next
	list, err := store.Keys(opt.Dir, next)
	if err != nil || list.Err != nil || list.Given != list.Wanted || len(list.Slots) != 2 || list.Slots[0].Err != nil || list.Slots[1].Err != nil || list.Slots[1].Number != uint32(b.ID) {
		t.Errorf("%+v, %v", list, err)
	}
	s = storetest.Open(t, opt)
	if got := read(t, s, b.ID, id); !strings.HasSuffix(got, raw) {
		t.Errorf("the mail reads %q", got)
	}
	if after, err := os.ReadFile(files[0]); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the body was written: %v", err)
	}
	storetest.Deliver(t, s, storetest.AddBAL(t, s, "b@bal.example", store.ORG).ID, raw)
}

// TestDamagedHeader damages the header of a body: Check names it, but the mail is read, and its structure is made
// again with the key that the BAL holds.
func TestDamagedHeader(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
	s, err := store.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	id, _ := storetest.Deliver(t, s, b.ID, raw)
	s.Close()
	files, _ := filepath.Glob(filepath.Join(opt.Dir, "blobs", "*", "*"))
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-60] ^= 1 // in the wrapped key: the foot has 16 octets, the HMAC 32
	if err := errors.Join(os.WriteFile(files[0], content, 0o600), os.Remove(filepath.Join(opt.Dir, "meta.db"))); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, opt, 8)
	if s, err = store.Open(opt); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := read(t, s, b.ID, id); !strings.HasSuffix(got, raw) {
		t.Errorf("the mail reads %q", got)
	}
	if _, err := s.Meta(ctx, id); err != nil {
		t.Errorf("structure: %v", err)
	}
}
