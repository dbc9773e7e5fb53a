package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"mssd/admin"
	"mssd/store"
	"mssd/store/storetest"
)

// TestImportKilled kills an import (-9), now the command, now the daemon, at one moment after the other, and runs it
// again as an operator would. At the end each message is there once, and an export killed on its way is begun anew.
func TestImportKilled(t *testing.T) {
	const address, messages = "pharmacie@test-officines.mssante.fr", 600
	h := newHouse(t, "")
	h.start("--create")
	h.addBAL(address, "ORG")
	client := &admin.Client{Socket: h.socket}
	source := filepath.Join(t.TempDir(), "mail")
	for _, sub := range []string{"cur", "new", "tmp"} {
		must(t, os.MkdirAll(filepath.Join(source, sub), 0o700))
	}
	want := map[string]int{}
	when := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range messages {
		raw := fmt.Appendf(nil, "Subject: %d\r\n\r\nBonjour %d\r\n", i%500, i%500) // some are there twice
		want[fmt.Sprintf("%x", sha256.Sum256(raw))]++
		name := filepath.Join(source, "cur", fmt.Sprintf("%d.M1P1.test:2,S", i))
		must(t, os.WriteFile(name, raw, 0o600))
		must(t, os.Chtimes(name, when, when))
	}
	kills := 0
	for round := range 8 {
		cmd := exec.Command("mssd", "bal", "import", address, source, "--socket", h.socket, "--quiet")
		var said bytes.Buffer
		cmd.Stderr = &said
		must(t, cmd.Start())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		ended := false
		for !ended { // until some more are stored than the last time
			b, err := client.BAL(t.Context(), address)
			must(t, err)
			if b.Messages >= int64(round*messages/10) {
				break
			}
			select {
			case <-done: // complete, or refused because the one before is not quite gone
				ended = true
			default:
			}
		}
		if ended {
			continue
		}
		kills++
		if round%2 == 0 {
			_ = cmd.Process.Kill()
			<-done
		} else {
			h.kill()
			select {
			case err := <-done:
				if err == nil {
					t.Log("the import was complete before the daemon was killed")
				}
			case <-time.After(30 * time.Second):
				_ = cmd.Process.Signal(syscall.SIGQUIT) // says where it hangs
				<-done
				t.Fatalf("the command does not notice that the daemon is gone:\n%s", said.String())
			}
			h.start()
		}
	}
	for end := time.Now().Add(time.Minute); ; {
		out, err := h.run("bal", "import", address, source)
		if err == nil {
			t.Logf("%d kills, then: %s", kills, out)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if out, err := h.run("fsck"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	exportKilled(t, h, address)
	must(t, h.stop())
	d := &desk{st: storetest.Open(t, store.Options{Dir: h.path("data")})}
	got := map[string]int{}
	for _, m := range d.contents(t, address) {
		got[m.sum]++
	}
	delete(got, "") // the mailboxes
	for sum, n := range want {
		if got[sum] != n {
			t.Errorf("a message is there %d times, want %d", got[sum], n)
		}
		delete(got, sum)
	}
	if len(got) > 0 {
		t.Errorf("%d messages that nobody imported", len(got))
	}
}

func exportKilled(t *testing.T, h *house, address string) {
	t.Helper()
	for _, format := range []string{"maildir", "zip"} {
		dest := filepath.Join(t.TempDir(), "out")
		cmd := exec.Command("mssd", "bal", "export", address, dest, "--format", format, "--socket", h.socket, "--quiet")
		must(t, cmd.Start())
		for { // as soon as something is there
			if _, err := os.Lstat(dest + ".part"); err == nil {
				break
			}
			if _, err := os.Lstat(dest); err == nil {
				break
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if _, err := os.Lstat(dest); err == nil {
			t.Logf("%s: the export was complete before it was killed", format)
			continue
		}
		if out, err := h.run("bal", "export", address, dest, "--format", format); err != nil {
			t.Errorf("%s again: %v\n%s", format, err, out)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dest), "*")); len(left) != 1 {
			t.Errorf("%s: left behind: %v", format, left)
		}
	}
}
