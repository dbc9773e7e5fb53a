package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
)

// javaMail is where Debian puts JavaMail, and other systems may.
var javaMail = []string{"/usr/share/java/javax.mail.jar", "/usr/share/java/jakarta.mail.jar"}

// TestJavaMail drives the daemon with the mail library of Java: it reads, searches with accents, sorts, stores, moves, and is told of
// a new letter, compressed and with UTF8=ACCEPT enabled; and it sends.
func TestJavaMail(t *testing.T) {
	java := need(t, "java")
	i := slices.IndexFunc(javaMail, func(jar string) bool { _, err := os.Stat(jar); return err == nil })
	if i < 0 {
		if os.Getenv("CI") != "" {
			t.Fatalf("none of %v is there; `make test` installs it", javaMail)
		}
		t.Skipf("none of %v is there; `make test` installs it", javaMail)
	}
	submission := freeAddr(t)
	h := newHouse(t, fmt.Sprintf("[submission]\nlisten = [%q]\n", submission))
	h.start("--create")
	user, password := h.addBAL(officine, "ORG")
	const doctor = "docteur@exemple.test"
	reader, readersPassword := h.addBAL(doctor, "PER")
	c, err := h.dial()
	must(t, err)
	send := func(n int) {
		t.Helper()
		_, err := c.send("274990000000145@"+patientDomain, []string{officine}, letter(n, 3000+n, officine))
		must(t, err)
	}
	for n := range 3 {
		send(n)
	}
	other := h.imapClient(user, password)
	defer other.Close()
	_, err = other.Select("INBOX", nil).Wait()
	must(t, err)
	whole, err := other.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	must(t, err)
	sum := sha256.Sum256(whole[0].BodySection[0].Bytes)
	must(t, other.Unselect().Wait())

	_, port, _ := strings.Cut(h.imaps, ":")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, java, "-cp", javaMail[i]+":/usr/share/java/javax.activation.jar", filepath.Join("testdata", "javamail", "Client.java"),
		port, user, h.path("anchors.pem"), submission[strings.LastIndexByte(submission, ':')+1:], doctor)
	cmd.Env = append(os.Environ(), "PASSWORD="+password)
	said := listen(t, cmd, func(step string) {
		if step == "waiting" {
			send(3)
		}
	})
	message := func(uid int, subject string) any {
		return []any{float64(uid), subject, "274990000000145@" + patientDomain, true, false}
	}
	for step, want := range map[string]any{
		"folders":    []any{[]any{"Archive", `\Archive`}, []any{"Drafts", `\Drafts`}, []any{"INBOX", ""}, []any{"Junk", `\Junk`}, []any{"Sent", `\Sent`}, []any{"Trash", `\Trash`}},
		"messages":   []any{message(1, "Ordonnance 0"), message(2, "Ordonnance 1"), message(3, "Ordonnance 2")},
		"body":       hex.EncodeToString(sum[:]),
		"found":      1.,
		"accents":    3.,
		"sorted":     3.,
		"rights":     true,
		"quota":      1.,
		"made":       true,
		"appended":   []any{1., 2.},
		"made holds": []any{"Réponse", "Réponse", "Ordonnance 0"},
		"expunged":   2.,
		"renamed":    true,
		"deleted":    true,
		"forged":     true,
		"came":       "Ordonnance 3",
		"end":        true,
	} {
		if d := cmp.Diff(want, said[step]); d != "" {
			t.Errorf("%s (- want, + said by JavaMail):\n%s", step, d)
		}
	}
	for box, want := range map[string][2]uint32{"INBOX": {3, 2}, "Archive": {1, 1}, "Été & <1>": {0, 0}} {
		s, err := other.Status(box, statusAll).Wait()
		must(t, err)
		if *s.NumMessages != want[0] || *s.NumUnseen != want[1] {
			t.Errorf("%s has %d messages, %d unseen; want %v", box, *s.NumMessages, *s.NumUnseen, want)
		}
	}
	if got := h.searched(reader, readersPassword, "Voilà"); len(got) != 1 {
		t.Errorf("what it sent is found by its reader as %v", got)
	}
	c.quit()
	must(t, h.stop())
}
