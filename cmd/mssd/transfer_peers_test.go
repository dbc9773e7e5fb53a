package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mssd/admin"
	"mssd/store"
	"mssd/store/storetest"
)

const dovecotIMAP = "/usr/lib/dovecot/imap" // speaks IMAP on its standard input and output, logged in already

// dovecot has the Maildir dir/mail read by Dovecot and returns what it answers.
func dovecot(t *testing.T, dir, commands string) string {
	t.Helper()
	uid, gid := os.Getuid(), os.Getgid()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, dovecotIMAP, "-c", filepath.Join(dir, "conf"))
	if uid == 0 { // it refuses to run as root
		uid, gid = 65534, 65534
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	conf := fmt.Sprintf("base_dir = %[1]s/run\nstate_dir = %[1]s/run\nlog_path = /dev/stderr\nssl = no\n"+
		"mail_location = maildir:%[1]s/mail\nmail_uid = %d\nmail_gid = %d\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n"+
		"namespace inbox {\n inbox = yes\n separator = /\n}\n", dir, uid, gid)
	must(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644))
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	}))
	cmd.Env = []string{"HOME=" + dir, "USER=test"}
	stdin, err := cmd.StdinPipe() // open until it has answered: it drops what it has not begun
	must(t, err)
	go func() { _, _ = io.WriteString(stdin, commands) }()
	cmd.WaitDelay = 10 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, stderr.String(), out)
	}
	if s := stderr.String(); strings.Contains(s, "Error") || strings.Contains(s, "Warning") {
		t.Errorf("Dovecot complains:\n%s", s)
	}
	return string(out)
}

// dovecotDir is a folder that Dovecot may enter: t.TempDir is closed to the user it runs as when we are root.
func dovecotDir(t *testing.T) string {
	t.Helper()
	need(t, "dovecot")
	dir, err := os.MkdirTemp("", "dovecot")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// Dovecot finds in an exported Maildir what the BAL holds.
func TestDovecotReadsAnExport(t *testing.T) {
	dir := dovecotDir(t)
	d := openDesk(t)
	bal := storetest.AddBAL(t, d.st, "a@example.test", store.ORG)
	when := time.Date(2024, 2, 29, 13, 14, 15, 0, time.UTC)
	const body = "Subject: un\r\nMessage-ID: <1@example.test>\r\n\r\nBonjour\r\n"
	d.fill(t, bal.ID, "INBOX", store.AddMessage{Flags: store.Seen | store.Answered, Keywords: []string{"$Forwarded", "Urgent"}, Date: when, Prefix: []byte("Return-Path: <>\r\n")}, []byte(body))
	d.fill(t, bal.ID, "INBOX", store.AddMessage{Flags: store.Flagged | store.Draft | store.Deleted, Keywords: []string{"Urgent"}, Date: when.Add(-time.Hour)}, []byte("Subject: deux\r\n\r\nx\r\n"))
	d.fill(t, bal.ID, "Envoyés/2024 à voir", store.AddMessage{Date: when}, []byte("Subject: trois\r\n\r\ny\r\n"))
	d.exportTo(t, "a@example.test", filepath.Join(dir, "mail"), "maildir")
	out := dovecot(t, dir, "a LIST \"\" *\r\nb LSUB \"\" *\r\nc EXAMINE INBOX\r\nd FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])\r\n"+
		"e EXAMINE \"Envoy&AOk-s/2024 &AOA- voir\"\r\nf FETCH 1 (FLAGS RFC822.SIZE)\r\nz LOGOUT\r\n")
	for _, want := range []string{
		`* LIST (\HasNoChildren) "/" Trash`, `"/" "Envoy&AOk-s/2024 &AOA- voir"`, `* LSUB () "/" "Envoy&AOk-s/2024 &AOA- voir"`, `* LSUB () "/" INBOX`,
		"* 2 EXISTS",
		`* 1 FETCH (FLAGS (\Answered \Seen \Recent $Forwarded Urgent) INTERNALDATE "29-Feb-2024 `, fmt.Sprintf(" RFC822.SIZE %d BODY[] {%[1]d}\r\nReturn-Path: <>\r\n%s", len(body)+17, body),
		`* 2 FETCH (FLAGS (\Flagged \Deleted \Draft \Recent Urgent)`, "e OK", `* 1 FETCH (FLAGS (\Recent) RFC822.SIZE 21)`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("Dovecot does not say %q:\n%s", want, out)
		}
	}
}

// What Dovecot stored comes in, with its flags, keywords, dates, mailboxes and subscriptions.
func TestImportFromDovecot(t *testing.T) {
	dir := dovecotDir(t)
	must(t, os.Mkdir(filepath.Join(dir, "mail"), 0o700))
	const raw = "Subject: un\r\n\r\nBonjour\r\n"
	app := func(tag, box, args string) string {
		return fmt.Sprintf("%s APPEND %s %s {%d+}\r\n%s\r\n", tag, box, args, len(raw), raw)
	}
	dovecot(t, dir, "a CREATE \"Envoy&AOk-s/2024\"\r\nb SUBSCRIBE \"Envoy&AOk-s/2024\"\r\nc SUBSCRIBE INBOX\r\nd CREATE Silent\r\n"+
		app("e", "INBOX", `(\Seen \Flagged $Forwarded Urgent) "29-Feb-2024 13:14:15 +0000"`)+
		app("f", "INBOX", `(\Answered) "01-Jan-2020 00:00:00 +0000"`)+app("g", `"Envoy&AOk-s/2024"`, `"02-Jan-2020 00:00:00 +0100"`)+"z LOGOUT\r\n")
	d := openDesk(t)
	storetest.AddBAL(t, d.st, "a@example.test", store.ORG)
	done, err := d.importFrom(t, "a@example.test", filepath.Join(dir, "mail"), admin.TransferHead{})
	if err != nil || done.Stored != 3 || done.Refused != 0 {
		t.Fatalf("%+v %v", done, err)
	}
	got := map[string]bool{}
	for _, h := range d.contents(t, "a@example.test") {
		h.sum = ""
		got[fmt.Sprint(h)] = true
	}
	size := int64(len(raw))
	for _, want := range []held{
		{mailbox: "INBOX", flags: store.Seen | store.Flagged, keywords: "$Forwarded Urgent", date: time.Date(2024, 2, 29, 13, 14, 15, 0, time.UTC).Unix(), size: size},
		{mailbox: "INBOX", flags: store.Answered, date: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), size: size},
		{mailbox: "Envoyés/2024", date: time.Date(2020, 1, 1, 23, 0, 0, 0, time.UTC).Unix(), size: size},
		{mailbox: "Envoyés/2024", subscribed: "true"}, {mailbox: "Silent", subscribed: "false"},
	} {
		if !got[fmt.Sprint(want)] {
			t.Errorf("missing %v in %v", want, got)
		}
	}
}

// mbsync copies an exported Maildir into its own form, and that comes in again: mailboxes, flags and dates stay.
func TestMbsyncReadsAnExport(t *testing.T) {
	need(t, "mbsync")
	d := openDesk(t)
	from := storetest.AddBAL(t, d.st, "a@example.test", store.ORG)
	storetest.AddBAL(t, d.st, "b@example.test", store.ORG)
	when := time.Date(2024, 2, 29, 13, 14, 15, 0, time.UTC)
	for i := range 5 {
		d.fill(t, from.ID, []string{"INBOX", "Été"}[i%2], store.AddMessage{Flags: store.Flag(i) | store.Seen, Date: when.Add(time.Duration(-i) * time.Hour)},
			[]byte(fmt.Sprintf("Subject: %d\r\nMessage-ID: <%d@example.test>\r\n\r\nx\r\n", i, i)))
	}
	dir := t.TempDir()
	d.exportTo(t, "a@example.test", filepath.Join(dir, "out"), "maildir")
	conf := fmt.Sprintf("MaildirStore far\nInbox %[1]s/out\nSubFolders Maildir++\n\nMaildirStore near\nPath %[1]s/copy/\nInbox %[1]s/copy/INBOX\n"+
		"SubFolders Verbatim\n\nChannel all\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nCopyArrivalDate yes\nSyncState %[1]s/copy/\n", dir)
	must(t, os.Mkdir(filepath.Join(dir, "copy"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600))
	if out, err := exec.CommandContext(t.Context(), "mbsync", "-c", filepath.Join(dir, "conf"), "-a").CombinedOutput(); err != nil {
		t.Fatalf("mbsync: %v\n%s", err, out)
	}
	done, err := d.importFrom(t, "b@example.test", filepath.Join(dir, "copy"), admin.TransferHead{})
	if err != nil || done.Stored != 5 {
		t.Fatalf("%+v %v", done, err)
	}
	count := func(a store.Address) map[string]int {
		m := map[string]int{}
		for _, h := range d.contents(t, a) {
			if h.sum != "" {
				m[fmt.Sprint(h.mailbox, h.flags, h.date)]++ // not the octets: mbsync adds a field of its own (X-TUID)
			}
		}
		return m
	}
	if a, b := count("a@example.test"), count("b@example.test"); fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("before %v\nafter  %v", a, b)
	}
}
