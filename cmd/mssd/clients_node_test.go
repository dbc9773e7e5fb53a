package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// imapflow is a folder with the client of that name, as its lock file says: made once, kept for the next run.
func imapflow(t *testing.T) (dir string) {
	t.Helper()
	npm := need(t, "npm")
	from := filepath.Join("testdata", "imapflow")
	lock := readFile(t, filepath.Join(from, "package-lock.json"))
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	sum := sha256.Sum256([]byte(lock))
	dir = filepath.Join(cache, "mssd-test", "imapflow-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err != nil {
		must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
		fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
		must(t, err)
		defer os.RemoveAll(fresh)
		for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
			must(t, os.WriteFile(filepath.Join(fresh, name), []byte(readFile(t, filepath.Join(from, name))), 0o644))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir = fresh
		if out, err := cmd.CombinedOutput(); err != nil {
			if os.Getenv("CI") == "" {
				t.Skipf("npm cannot fetch imapflow: %v\n%s", err, out)
			}
			t.Fatalf("npm cannot fetch imapflow: %v\n%s", err, out)
		}
		if err := os.Rename(fresh, dir); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	return dir
}

// listen runs a client that says what it sees, a JSON value ["step", value] a line, and tells at of each step. A step
// "error" fails the test.
func listen(t *testing.T, cmd *exec.Cmd, at func(step string)) (said map[string]any) {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	said = map[string]any{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var step [2]any
		name := ""
		if err := json.Unmarshal(lines.Bytes(), &step); err == nil {
			name, _ = step[0].(string)
		}
		if name == "" {
			t.Errorf("the client said %q", lines.Text())
			continue
		}
		said[name] = step[1]
		at(name)
	}
	if err := cmd.Wait(); err != nil || said["error"] != nil {
		t.Fatalf("%v; %v", err, said["error"])
	}
	return said
}

// TestImapflow drives the daemon with the IMAP client of Node that much software is made with: it reads, downloads, flags,
// searches, stores, moves, and is told of a new letter.
func TestImapflow(t *testing.T) {
	node, lib := need(t, "node"), imapflow(t)
	h := newHouse(t, "")
	h.start("--create")
	user, password := h.addBAL(officine, "ORG")
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
	first := whole[0].BodySection[0].Bytes
	must(t, other.Unselect().Wait())

	_, port, _ := strings.Cut(h.imaps, ":")
	script, err := filepath.Abs(filepath.Join("testdata", "imapflow", "client.js"))
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, script, port, user, h.path("anchors.pem"))
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(lib, "node_modules"), "PASSWORD="+password)
	said := listen(t, cmd, func(step string) {
		if step == "waiting" {
			send(3)
		}
	})
	sum := sha256.Sum256(first)
	message := func(uid int, subject string) any {
		size := float64(len(first) + (len(letter(uid-1, 3000+uid-1, officine)) - len(letter(0, 3000, officine))))
		return []any{float64(uid), subject, "274990000000145@" + patientDomain, "text/plain", size, false, true}
	}
	for step, want := range map[string]any{
		"compressed": true,
		"folders":    []any{[]any{"INBOX", `\Inbox`}, []any{"Sent", `\Sent`}, []any{"Drafts", `\Drafts`}, []any{"Archive", `\Archive`}, []any{"Junk", `\Junk`}, []any{"Trash", `\Trash`}},
		"inbox":      []any{3., true},
		"messages":   []any{message(1, "Ordonnance 0"), message(2, "Ordonnance 1"), message(3, "Ordonnance 2")},
		"threads":    []any{3., true},
		"body":       []any{float64(len(first)), hex.EncodeToString(sum[:])},
		"flagged":    true,
		"found":      []any{2.},
		"changed":    []any{2.},
		"appended":   []any{"Sent", 1.},
		"moved":      []any{"Archive", 1.},
		"status":     []any{2., 1.},
		"came":       []any{2., 3.},
		"end":        true,
	} {
		if d := cmp.Diff(want, said[step]); d != "" {
			t.Errorf("%s (- want, + said by imapflow):\n%s", step, d)
		}
	}
	caps, _ := said["capabilities"].([]any)
	if !slices.Contains(caps, any("QRESYNC")) || !slices.Contains(caps, any("IDLE")) {
		t.Errorf("capabilities %v", caps)
	}
	for box, want := range map[string][2]uint32{"INBOX": {3, 2}, "Archive": {1, 1}, "Sent": {1, 0}} {
		s, err := other.Status(box, statusAll).Wait()
		must(t, err)
		if *s.NumMessages != want[0] || *s.NumUnseen != want[1] {
			t.Errorf("%s has %d messages, %d unseen; want %v", box, *s.NumMessages, *s.NumUnseen, want)
		}
	}
	c.quit()
	must(t, h.stop())
}
