package main

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// TestSlowDiskAppend lets the disk hang in the commit of an APPEND, and then of an import: both are told that it is not known
// yet, both are done again when the disk answers, and each message is there once.
func TestSlowDiskAppend(t *testing.T) {
	h := newHouse(t, "")
	h.configure("store", `commit_timeout = "1s"`)
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	body := string(letter(1, 2000, bal))
	ic := h.imapClient(user, password)
	defer ic.Close()
	try := func() error {
		ap := ic.Append("Archive", int64(len(body)), nil)
		if _, err := io.WriteString(ap, body); err != nil {
			return err
		}
		if err := ap.Close(); err != nil {
			return err
		}
		_, err := ap.Wait()
		return err
	}
	well := func() {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if _, err := h.run("health"); err == nil {
				return
			} else if time.Now().After(end) {
				t.Fatal("health does not become well")
			}
		}
	}
	held := func(want uint32) {
		t.Helper()
		st, err := ic.Status("Archive", &imap.StatusOptions{NumMessages: true}).Wait()
		must(t, err)
		if *st.NumMessages != want {
			t.Errorf("%d messages, want %d", *st.NumMessages, want)
		}
	}
	quick := h.slowDown(4 * time.Second)
	if err := try(); !isUnavailable(err) {
		t.Errorf("APPEND to a disk that hangs: %v, want NO [UNAVAILABLE]", err)
	}
	quick()
	well()
	must(t, try())
	held(1)

	must(t, os.MkdirAll(h.path("in/Archive"), 0o700))
	must(t, os.WriteFile(h.path("in/Archive/1.eml"), letter(2, 2000, bal), 0o600))
	quick = h.slowDown(4 * time.Second)
	if out, err := h.run("bal", "import", bal, h.path("in")); err == nil {
		t.Errorf("an import to a disk that hangs is well:\n%s", out)
	}
	quick()
	well()
	out, err := h.run("bal", "import", bal, h.path("in"))
	if err != nil {
		t.Errorf("the import again: %v\n%s", err, out)
	}
	held(2)
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}
