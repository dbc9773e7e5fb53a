package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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

// thunderbird is a Thunderbird of the test's own: that of the system, linked into a folder of the test with a script that
// it runs at its start. It takes one from the folder of its program only.
func (h *house) thunderbird() (program string) {
	h.t.Helper()
	named, err := filepath.EvalSymlinks(need(h.t, "thunderbird"))
	must(h.t, err)
	homes := []string{filepath.Dir(named), "/usr/lib/thunderbird", "/usr/lib64/thunderbird"}
	i := slices.IndexFunc(homes, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "omni.ja"))
		return err == nil
	})
	if i < 0 {
		h.t.Fatalf("thunderbird is there, its folder (omni.ja) is in none of %v", homes)
	}
	home, dir := homes[i], h.path("thunderbird")
	prefs := filepath.Join("defaults", "pref")
	must(h.t, os.MkdirAll(filepath.Join(dir, prefs), 0o700))
	for _, below := range []string{".", "defaults", prefs} {
		list, err := os.ReadDir(filepath.Join(home, below))
		must(h.t, err)
		for _, e := range list {
			to := filepath.Join(dir, below, e.Name())
			if _, err := os.Lstat(to); err != nil && e.Name() != "thunderbird-bin" {
				must(h.t, os.Symlink(filepath.Join(home, below, e.Name()), to))
			}
		}
	}
	write := func(name, text string, mode os.FileMode) {
		must(h.t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	write("thunderbird-bin", readFile(h.t, filepath.Join(home, "thunderbird-bin")), 0o700) // it looks where it lies itself
	write("mssd.cfg", readFile(h.t, filepath.Join("testdata", "thunderbird", "mssd.cfg")), 0o600)
	write(filepath.Join(prefs, "mssd.js"), `pref("general.config.filename", "mssd.cfg");
pref("general.config.obscure_value", 0);
pref("general.config.sandbox_enabled", false);
`, 0o600)
	return filepath.Join(dir, "thunderbird-bin")
}

// TestThunderbird drives the daemon with Thunderbird, without a screen: it finds the folders and what they are for, downloads
// letters, marks, moves and stores one, makes a folder with an accent, and is told of a new letter.
func TestThunderbird(t *testing.T) {
	h := newHouse(t, "")
	program := h.thunderbird()
	h.start("--create")
	user, password := h.addBAL(officine, "ORG")
	c, err := h.dial()
	must(t, err)
	send := func(n int) {
		t.Helper()
		_, err := c.send("274990000000145@"+patientDomain, []string{officine}, letter(n, 3000, officine))
		must(t, err)
	}
	for n := range 3 {
		send(n)
	}
	own := letter(99, 800, officine)
	must(t, os.WriteFile(h.path("own.eml"), own, 0o600))
	_, port, _ := strings.Cut(h.imaps, ":")
	must(t, os.MkdirAll(h.path("profile"), 0o700))
	must(t, os.WriteFile(h.path("profile/user.js"), fmt.Appendf(nil, readFile(t, filepath.Join("testdata", "thunderbird", "user.js")), user, port), 0o600))

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--headless", "--no-remote", "--profile", h.path("profile"))
	cmd.Env = append(os.Environ(), "HOME="+h.dir, "PASSWORD="+password, "ANCHORS="+h.path("anchors.pem"), "LETTER="+h.path("own.eml"),
		"MOZ_CRASHREPORTER_DISABLE=1")
	var warnings lockedBuffer
	cmd.Stderr = &warnings
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	said := map[string]any{}
	lines := bufio.NewScanner(out)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		line, ours := strings.CutPrefix(lines.Text(), "mssd ")
		var step [2]any
		if !ours {
			continue
		}
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Errorf("Thunderbird said %q", line)
			continue
		}
		said[step[0].(string)] = step[1]
		if step[0] == "waiting" {
			send(3)
		}
	}
	if err := cmd.Wait(); err != nil || said["end"] == nil {
		t.Fatalf("%v; after %v: %v\n%s", err, said, said["error"], warnings.String())
	}
	const author = "Camille Exemple <274990000000145@" + patientDomain + ">"
	for step, want := range map[string]any{
		"folders": []any{"Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"},
		"uses": []any{[]any{"Inbox", "INBOX"}, []any{"SentMail", "Sent"}, []any{"Drafts", "Drafts"}, []any{"Archive", "Archive"},
			[]any{"Junk", "Junk"}, []any{"Trash", "Trash"}},
		"messages": []any{[]any{1., "Ordonnance 0", author, false}, []any{2., "Ordonnance 1", author, false}, []any{3., "Ordonnance 2", author, false}},
		"came":     []any{4., "Ordonnance 3"},
	} {
		if d := cmp.Diff(want, said[step]); d != "" {
			t.Errorf("%s (- want, + said by Thunderbird):\n%s", step, d)
		}
	}
	bodies, _ := said["bodies"].([]any)
	if len(bodies) != 3 {
		t.Errorf("%d bodies", len(bodies))
	}
	for n, body := range bodies {
		if got, err := afterPrefix([]byte(body.(string))); err != nil || !bytes.Equal(got, letter(n, 3000, officine)) {
			t.Errorf("letter %d is kept by Thunderbird with %d octets: %v", n, len(got), err)
		}
	}
	h.afterThunderbird(user, password, own)
	c.quit()
	must(t, h.stop())
}

// afterThunderbird looks at what Thunderbird left on the server.
func (h *house) afterThunderbird(user, password string, own []byte) {
	h.t.Helper()
	c := h.imapClient(user, password)
	defer c.Close()
	for box, want := range map[string][2]uint32{"INBOX": {3, 2}, "Archive": {1, 1}, "Sent": {1, 0}, "Reçus": {0, 0}} {
		s, err := c.Status(box, statusAll).Wait()
		must(h.t, err)
		if *s.NumMessages != want[0] || *s.NumUnseen != want[1] {
			h.t.Errorf("%s has %d messages, %d unseen; want %v", box, *s.NumMessages, *s.NumUnseen, want)
		}
	}
	_, err := c.Select("Sent", nil).Wait()
	must(h.t, err)
	got, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	must(h.t, err)
	if len(got) != 1 || !bytes.Equal(got[0].BodySection[0].Bytes, own) {
		h.t.Errorf("what Thunderbird stored in Sent is not the letter")
	}
}
