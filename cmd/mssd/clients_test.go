package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mssd/directory/slapdtest"
)

// officine is a BAL ORG that stands in the sample of the Annuaire.
const officine = "pharmacie.du.moulin@test-officines.mssante.fr"

// imapClient is go-imap's client, logged in over implicit TLS.
func (h *house) imapClient(user, password string) *imapclient.Client {
	h.t.Helper()
	c, err := imapclient.DialTLS(h.imaps, &imapclient.Options{TLSConfig: &tls.Config{RootCAs: h.roots, ServerName: "localhost"}})
	must(h.t, err)
	must(h.t, c.Login(user, password).Wait())
	return c
}

// program runs a program of the system and wants success.
func program(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestRealClients drives the daemon with programs that we did not write, its directory being a real slapd: swaks
// sends, curl, mbsync and mutt read.
func TestRealClients(t *testing.T) {
	swaks, curl, mbsync, mutt := need(t, "swaks"), need(t, "curl"), need(t, "mbsync"), need(t, "mutt")
	ldap := slapdtest.Start(t)
	h := newHouse(t, fmt.Sprintf("[directory.ldap]\nurl = %q\nevery = \"1h\"\n", ldap.URL))
	h.start("--create")
	user, password := h.addBAL(officine, "ORG", "--structure", "990000119")
	secret := filepath.Join(h.dir, "secret")
	must(t, os.WriteFile(secret, []byte(password), 0o600))

	send := func(n int) {
		t.Helper()
		file := filepath.Join(h.dir, fmt.Sprintf("letter%d.eml", n))
		must(t, os.WriteFile(file, letter(n, 3000, officine), 0o600))
		_, port, _ := strings.Cut(h.smtp, ":")
		out := program(t, nil, swaks, "--server", "127.0.0.1", "--port", port, "--tls",
			"--tls-cert", h.path("peer.pem"), "--tls-key", h.path("peer.key"), "--helo", "smtp.patients.test",
			"--from", "274990000000145@"+patientDomain, "--to", officine, "--data", "@"+file)
		if !strings.Contains(out, "250 2.0.0 ") {
			t.Fatalf("swaks saw no 250 2.0.0 <trace id>:\n%s", out)
		}
	}
	for n := range 3 {
		send(n)
	}

	t.Run("curl", func(t *testing.T) {
		cfg := filepath.Join(h.dir, "curlrc")
		must(t, os.WriteFile(cfg, fmt.Appendf(nil, "user = %q\ncacert = %q\n", user+":"+password, h.path("anchors.pem")), 0o600))
		_, port, _ := strings.Cut(h.imaps, ":")
		got := program(t, nil, curl, "-sS", "-K", cfg, "imaps://localhost:"+port+"/INBOX;UID=2")
		body, err := afterPrefix([]byte(got))
		must(t, err)
		// swaks ends the data with a line end of its own.
		if want := append(letter(1, 3000, officine), "\r\n"...); !bytes.Equal(body, want) {
			t.Errorf("curl read %d octets that are not the %d sent", len(body), len(want))
		}
		_, plain, _ := strings.Cut(h.imap, ":")
		out := program(t, nil, curl, "-sS", "-K", cfg, "--ssl-reqd", "imap://localhost:"+plain+"/INBOX", "-X", `SEARCH SUBJECT "ordonnance 2"`)
		if strings.TrimSpace(out) != "* SEARCH 3" {
			t.Errorf("SEARCH over STARTTLS: %q", out)
		}
	})

	t.Run("mbsync", func(t *testing.T) { testMbsync(t, h, mbsync, user, secret, send) })

	t.Run("mutt", func(t *testing.T) {
		_, port, _ := strings.Cut(h.imaps, ":")
		rc := filepath.Join(h.dir, "muttrc")
		must(t, os.WriteFile(rc, fmt.Appendf(nil, `set imap_user=%q
set imap_pass=%q
set folder="imaps://localhost:%s/"
set spoolfile="imaps://localhost:%s/INBOX"
set certificate_file=%q
set ssl_usesystemcerts=no
set ssl_verify_host=yes
set mail_check=0
set quit=yes
set move=no
set confirmappend=no
set wait_key=no
set delete=yes
push "<first-entry><flag-message><last-entry><save-message>=Archive<enter><sync-mailbox><quit>"
`, user, password, port, port, h.path("anchors.pem")), 0o600))
		program(t, []string{"TERM=vt100", "HOME=" + h.dir}, need(t, "script"), "-qec", mutt+" -n -F "+rc, filepath.Join(h.dir, "typescript"))
		c := h.imapClient(user, password)
		defer c.Close()
		inbox, err := c.Status("INBOX", statusAll).Wait()
		must(t, err)
		archive, err := c.Status("Archive", statusAll).Wait()
		must(t, err)
		if *inbox.NumMessages != 3 || *archive.NumMessages != 1 {
			t.Errorf("INBOX has %d messages, Archive %d; want 3 and 1", *inbox.NumMessages, *archive.NumMessages)
		}
	})
	must(t, h.stop())
	if log := h.log.String(); strings.Contains(log, "274990000000145") || strings.Contains(log, "Ordonnance") || strings.Contains(log, password) {
		t.Error("the daemon's log holds a patient's number, a subject or a password")
	}
}

// testMbsync synchronises both ways, twice: what is new here goes there and back, and the second run changes nothing.
func testMbsync(t *testing.T, h *house, mbsync, user, secret string, send func(int)) {
	dir := filepath.Join(h.dir, "maildir")
	must(t, os.MkdirAll(dir, 0o700))
	_, port, _ := strings.Cut(h.imaps, ":")
	rc := filepath.Join(h.dir, "mbsyncrc")
	must(t, os.WriteFile(rc, fmt.Appendf(nil, `IMAPStore far
Host localhost
Port %s
User %s
PassCmd "cat %s"
SSLType IMAPS
CertificateFile %s

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
`, port, user, secret, h.path("anchors.pem"), dir, dir), 0o600))
	sync := func() { t.Helper(); program(t, []string{"HOME=" + h.dir}, mbsync, "-c", rc, "-a") }
	count := func() int {
		files, _ := filepath.Glob(filepath.Join(dir, "INBOX", "[cn]*", "*"))
		return len(files)
	}
	sync()
	if n := count(); n != 3 {
		t.Fatalf("first run: %d messages in the Maildir, want 3", n)
	}
	// A change on each side: a reader marks one as seen here, a new letter comes there, one is written here.
	files, err := filepath.Glob(filepath.Join(dir, "INBOX", "new", "*"))
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no message in new/")
	}
	base, _, _ := strings.Cut(filepath.Base(files[0]), ":")
	must(t, os.Rename(files[0], filepath.Join(dir, "INBOX", "cur", base+":2,S")))
	must(t, os.WriteFile(filepath.Join(dir, "Sent", "cur", "1.own:2,S"), letter(99, 800, officine), 0o600))
	send(3)
	sync()
	if n := count(); n != 4 {
		t.Errorf("second run: %d messages in the Maildir, want 4", n)
	}
	c := h.imapClient(user, strings.TrimSpace(readFile(t, secret)))
	defer c.Close()
	inbox, err := c.Status("INBOX", statusAll).Wait()
	must(t, err)
	// One was read by curl before, one was marked in the Maildir.
	if *inbox.NumMessages != 4 || *inbox.NumUnseen != 2 {
		t.Errorf("INBOX has %d messages, %d unseen; want 4 and 2", *inbox.NumMessages, *inbox.NumUnseen)
	}
	sent, err := c.Status("Sent", statusAll).Wait()
	must(t, err)
	if *sent.NumMessages != 1 || *sent.NumUnseen != 0 {
		t.Errorf("Sent has %d messages, %d unseen; want 1 and 0", *sent.NumMessages, *sent.NumUnseen)
	}
	sync() // nothing new on either side
	if again, err := c.Status("INBOX", statusAll).Wait(); err != nil || again.UIDNext != inbox.UIDNext || count() != 4 {
		t.Errorf("a run without changes changed something: UIDNEXT %d, then %d (%v)", inbox.UIDNext, again.UIDNext, err)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return string(b)
}

var statusAll = &imap.StatusOptions{NumMessages: true, NumUnseen: true, UIDNext: true}

// TestDirectoryOutage: with the directory away the daemon goes on answering RCPT, by the policy table.
func TestDirectoryOutage(t *testing.T) {
	const stranger = "pharmacie.inconnue@test-officines.mssante.fr" // ours, published, not in the directory
	ldap := slapdtest.Start(t)
	h := newHouse(t, fmt.Sprintf("[directory.ldap]\nurl = %q\nevery = \"1h\"\n", ldap.URL))
	h.start("--create")
	h.addBAL(officine, "ORG", "--structure", "990000119")
	h.addBAL(stranger, "ORG")
	// An absence is remembered for a minute: the outages are asked about others.
	frozen, away := "pharmacie.gelee@test-officines.mssante.fr", "pharmacie.absente@test-officines.mssante.fr"
	h.addBAL(frozen, "ORG")
	h.addBAL(away, "ORG")
	if out, err := h.run("health", "--wait", "30s"); err != nil {
		t.Fatalf("health: %v\n%s", err, out)
	}
	c, err := h.dial()
	must(t, err)
	defer c.conn.Close()
	rcpt := func(want int, to string) string {
		t.Helper()
		_, err := c.cmd(250, "MAIL FROM:<274990000000145@%s>", patientDomain)
		must(t, err)
		text, err := c.cmd(want, "RCPT TO:<%s>", to)
		if err != nil {
			t.Errorf("%s: %v", to, err)
		}
		_, err = c.cmd(250, "RSET")
		must(t, err)
		return text
	}
	rcpt(250, officine)
	if text := rcpt(550, stranger); !strings.HasPrefix(text, "5.1.1 ") {
		t.Errorf("a BAL that the directory does not know: %q, want 5.1.1", text)
	}
	ldap.Freeze()
	rcpt(250, officine)
	began := time.Now()
	rcpt(250, frozen) // the live question fails: cannot tell, accepted with a note
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a frozen directory held RCPT up for %v", took)
	}
	ldap.Thaw()
	ldap.Kill()
	rcpt(250, officine)
	rcpt(250, away)
	text, err := c.send("274990000000145@"+patientDomain, []string{officine}, letter(1, 2000, officine))
	must(t, err)
	out, err := h.run("trace", strings.TrimPrefix(text, "2.0.0 "))
	must(t, err)
	for _, want := range []string{"directory=known", "source=ldap", "stored durably"} {
		if !strings.Contains(out, want) {
			t.Errorf("the trace does not say %s:\n%s", want, out)
		}
	}
	h.kill()
	h.start() // no network needed: the image was saved
	c, err = h.dial()
	must(t, err)
	defer c.conn.Close()
	rcpt(250, officine)
}
