package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMoreClients drives two more programs that we did not write: offlineimap synchronises a BAL both ways, compressed, s-nail reads
// one from a script.
func TestMoreClients(t *testing.T) {
	offlineimap, snail := need(t, "offlineimap"), need(t, "s-nail")
	h := newHouse(t, "")
	h.start("--create")
	user, password := h.addBAL(officine, "ORG")
	c, err := h.dial()
	must(t, err)
	for n := range 3 {
		_, err := c.send("274990000000145@"+patientDomain, []string{officine}, letter(n, 3000, officine))
		must(t, err)
	}
	c.quit()
	t.Run("offlineimap", func(t *testing.T) { testOfflineIMAP(t, h, offlineimap, user, password) })
	t.Run("s-nail", func(t *testing.T) {
		_, port, _ := strings.Cut(h.imaps, ":")
		escaped := strings.NewReplacer("%", "%25", "@", "%40").Replace
		rc := filepath.Join(h.dir, "snailrc")
		must(t, os.WriteFile(rc, fmt.Appendf(nil, "set v15-compat tls-ca-file=%s tls-ca-no-defaults tls-verify=strict\nfile imaps://%s:%s@localhost:%s/INBOX\n"+
			"headers\ntype 2\nflag 3\nexit\n", h.path("anchors.pem"), escaped(user), escaped(password), port), 0o600))
		out := program(t, []string{"HOME=" + h.dir, "LC_ALL=C.UTF-8", "MAILRC=/dev/null"}, snail, "-n", "-R", "-X", "source "+rc, "-X", "xit")
		for _, want := range []string{"ordonnance 0", "ordonnance 2", "Subject: "} {
			if !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
				t.Errorf("s-nail did not show %q:\n%s", want, out)
			}
		}
	})
	must(t, h.stop())
}

// testOfflineIMAP: what is new here goes there and back, a flag set in the Maildir arrives, and a run without changes
// changes nothing.
func testOfflineIMAP(t *testing.T, h *house, offlineimap, user, password string) {
	dir, rc := filepath.Join(h.dir, "offline"), filepath.Join(h.dir, "offlineimaprc")
	_, port, _ := strings.Cut(h.imaps, ":")
	secret := filepath.Join(h.dir, "offline-secret")
	must(t, os.WriteFile(secret, []byte(password), 0o600))
	must(t, os.WriteFile(rc, fmt.Appendf(nil, `[general]
accounts = officine
metadata = %[1]s.state
ui = quiet
[Account officine]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = %[1]s
[Repository far]
type = IMAP
remotehost = localhost
remoteport = %[2]s
remoteuser = %[3]s
remotepassfile = %[4]s
ssl = yes
usecompression = yes
sslcacertfile = %[5]s
`, dir, port, strings.ReplaceAll(user, "%", "%%"), secret, h.path("anchors.pem")), 0o600))
	sync := func() { t.Helper(); program(t, []string{"HOME=" + h.dir}, offlineimap, "-o", "-1", "-c", rc) }
	inbox := func() []string {
		files, _ := filepath.Glob(filepath.Join(dir, "INBOX", "[cn]*", "*"))
		return files
	}
	sync()
	if n := len(inbox()); n != 3 {
		t.Fatalf("first run: %d messages in the Maildir, want 3", n)
	}
	body := []byte(readFile(t, inbox()[0]))
	if !bytes.Contains(body, []byte("Subject: ")) {
		t.Error("the first message of the Maildir has no Subject")
	}
	if _, err := os.Stat(filepath.Join(dir, "Sent")); err != nil {
		t.Errorf("a folder of the BAL is missing: %v", err)
	}
	for _, f := range inbox()[:1] { // read in the Maildir
		base, _, _ := strings.Cut(filepath.Base(f), ":")
		must(t, os.Rename(f, filepath.Join(dir, "INBOX", "cur", base+":2,S")))
	}
	must(t, os.WriteFile(filepath.Join(dir, "Sent", "cur", "1.own:2,S"), letter(99, 800, officine), 0o600))
	sync()
	c := h.imapClient(user, password)
	defer c.Close()
	now, err := c.Status("INBOX", statusAll).Wait()
	must(t, err)
	sent, err := c.Status("Sent", statusAll).Wait()
	must(t, err)
	if *now.NumMessages != 3 || *now.NumUnseen != 2 || *sent.NumMessages != 1 {
		t.Errorf("INBOX has %d messages, %d unseen, Sent %d; want 3, 2 and 1", *now.NumMessages, *now.NumUnseen, *sent.NumMessages)
	}
	sync()
	again, err := c.Status("INBOX", statusAll).Wait()
	must(t, err)
	if again.UIDNext != now.UIDNext || len(inbox()) != 3 {
		t.Errorf("a run without changes changed something: UIDNEXT %d, then %d", now.UIDNext, again.UIDNext)
	}
}
