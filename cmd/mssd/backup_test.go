package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// load is mail that goes on being delivered to a house, and the book of what was acknowledged.
type load struct {
	h     *house
	book  *ledger
	next  atomic.Int64
	addrs []string
	quit  chan struct{}
	wg    sync.WaitGroup
}

// startLoad begins some senders; those whose daemon is killed end.
func startLoad(h *house, addrs []string, senders int) *load {
	l := &load{h: h, book: &ledger{acked: make(map[int]bool)}, addrs: addrs, quit: make(chan struct{})}
	for range senders {
		l.wg.Go(func() {
			c, err := h.dial()
			if err != nil {
				return
			}
			defer c.conn.Close()
			for {
				select {
				case <-l.quit:
					return
				default:
				}
				n := int(l.next.Add(1)) - 1
				l.book.set(n, false)
				if _, err := c.send("274990000000145@"+patientDomain, []string{l.to(n)}, letter(n, letterSize(n), l.to(n))); err != nil {
					return
				}
				l.book.set(n, true)
			}
		})
	}
	return l
}

func (l *load) to(n int) string { return l.addrs[n%len(l.addrs)] }

func (l *load) stop() { close(l.quit); l.wg.Wait() }

// acked are the hashes of the letters to an address that were acknowledged until now.
func (l *load) acked(addr string) map[[32]byte]bool {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	sums := make(map[[32]byte]bool)
	for n, ok := range l.book.acked {
		if ok && l.to(n) == addr {
			sums[sha256.Sum256(letter(n, letterSize(n), addr))] = true
		}
	}
	return sums
}

func (l *load) waitFor(t *testing.T, count int) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		l.book.mu.Lock()
		n := 0
		for _, ok := range l.book.acked {
			if ok {
				n++
			}
		}
		l.book.mu.Unlock()
		if n >= count {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("only %d letters were acknowledged in a minute, want %d", n, count)
		}
	}
}

// restoredHouse is a house over another data directory, with the same fronts.
func (h *house) moveTo(dir string) {
	h.t.Helper()
	b, err := os.ReadFile(h.config)
	must(h.t, err)
	text := strings.Replace(string(b), `data_dir = "`+h.dataDir()+`"`, `data_dir = "`+dir+`"`, 1)
	if !strings.Contains(text, dir) {
		h.t.Fatal("the configuration names no data_dir")
	}
	must(h.t, os.WriteFile(h.config, []byte(text), 0o600))
}

func (h *house) dataDir() string {
	b, err := os.ReadFile(h.config)
	must(h.t, err)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "data_dir = "); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// withMasterKey puts the master key beside the data, where a backup is not.
func (h *house) withMasterKey() string {
	h.t.Helper()
	key := h.path("master.key")
	if out, err := h.plain("keys", "make", key); err != nil {
		h.t.Fatalf("keys make: %v\n%s", err, out)
	}
	b, err := os.ReadFile(h.config)
	must(h.t, err)
	must(h.t, os.WriteFile(h.config, append(b, "\n[store]\nmaster_key = \""+key+"\"\n"...), 0o600))
	return key
}

func uidValidity(t *testing.T, h *house, user, password string) uint32 {
	t.Helper()
	c := h.imapClient(user, password)
	defer c.Close()
	box, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	must(t, err)
	return box.UIDValidity
}

// TestBackupWhileServing backs a daemon up under load. What was acknowledged before the backup began is in the store
// restored from it, octet for octet; a client notices; what came later is named from the trace of the lost store.
func TestBackupWhileServing(t *testing.T) {
	h := newHouse(t, "")
	key := h.withMasterKey()
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	l := startLoad(h, []string{bal}, 4)
	l.waitFor(t, 30)
	before := l.acked(bal)
	dir := h.path("backup")
	if out, err := h.run("backup", dir); err == nil || !strings.Contains(out, "--create") {
		t.Errorf("a backup into a folder that is not there: %v\n%s\nwant a refusal that names --create", err, out)
	}
	out, err := h.run("backup", dir, "--create", "--json")
	if err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	var first, second backupDoc
	must(t, json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &first))
	if first.New < int64(len(before)) || first.New != first.Bodies || len(first.Damaged) > 0 || !first.SameDisk {
		t.Errorf("first backup: %+v, %d letters were acknowledged before", first, len(before))
	}
	between := l.acked(bal)
	l.waitFor(t, len(between)+20)
	out, err = h.run("backup", dir, "--json")
	if err != nil {
		t.Fatalf("second backup: %v\n%s", err, out)
	}
	must(t, json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &second))
	if second.Bodies != first.Bodies+second.New || second.New == 0 {
		t.Errorf("the second backup copied %d of %d bodies, the first one had %d", second.New, second.Bodies, first.Bodies)
	}
	l.waitFor(t, len(l.acked(bal))+10)
	l.stop()
	validity := uidValidity(t, h, user, password)
	if out, err := h.run("backup", "list"); err != nil || strings.Count(out, "whole") != 2 || !strings.Contains(out, first.ID) {
		t.Errorf("backup list: %v\n%s", err, out)
	}
	if out, err := h.plain("backup", "verify", dir, "--master-key", key); err != nil || !strings.Contains(out, "signatures verified") {
		t.Errorf("backup verify: %v\n%s", err, out)
	}
	h.kill()
	all := l.acked(bal)

	// The rehearsal leaves nothing.
	if out, err := h.plain("restore", "--rehearse", "--from", dir, "--to", h.path("rehearsal"), "--master-key", key); err != nil || !strings.Contains(out, "every body was opened") {
		t.Errorf("rehearsal: %v\n%s", err, out)
	}
	if _, err := os.Stat(h.path("rehearsal")); err == nil {
		t.Error("the rehearsal left its folder")
	}
	lost := h.dataDir()
	if out, err := h.plain("restore", "--from", dir, "--to", h.path("restored"), "--config", h.config, "--lost-from", h.path("nowhere")); err == nil || !strings.Contains(out, "nothing was restored") {
		t.Errorf("a lost store that is not there: %v\n%s", err, out)
	}
	if _, err := os.Stat(h.path("restored")); err == nil {
		t.Error("a store was restored although its --lost-from could not be read")
	}
	out, err = h.plain("restore", "--from", dir, "--to", h.path("restored"), "--config", h.config, "--lost-from", lost, "--generation", first.Generation, "--json")
	if err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	var r restoreDoc
	must(t, json.Unmarshal([]byte(out), &r))
	if int64(len(r.Lost)) < int64(len(all))-first.Messages || !r.LostWhole || r.Seconds <= 0 {
		t.Errorf("%d messages are said to be lost; %d were acknowledged, the backup has %d", len(r.Lost), len(all), first.Messages)
	}
	h.moveTo(h.path("restored"))
	h.start()
	got := fetchHashes(t, h, user, password)
	for sum := range before {
		if got[sum] != 1 {
			t.Errorf("a letter acknowledged before the backup is there %d times, want once", got[sum])
		}
	}
	if int64(len(got)) != first.Messages {
		t.Errorf("%d letters are there, the backup had %d", len(got), first.Messages)
	}
	if v := uidValidity(t, h, user, password); v <= validity {
		t.Errorf("UIDVALIDITY is %d, was %d: a client would not notice", v, validity)
	}
	// A peer that saw no 250 and sends again gets one copy, before and after; a new letter is taken.
	c, err := h.dial()
	must(t, err)
	if _, err := c.send("274990000000145@"+patientDomain, []string{bal}, letter(1_000_000, 900, bal)); err != nil {
		t.Errorf("the restored store takes no mail: %v", err)
	}
	c.quit()
	if out, err := h.run("fsck"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	if out, err := h.run("backup", "list"); err != nil || strings.Count(out, "whole") != 3 || !strings.Contains(out, "any backup in another folder") {
		t.Errorf("the restored store does not know both backups, and that there may be others: %v\n%s", err, out)
	}
	// The next backup of the restored store goes on in the same folder.
	if out, err := h.run("backup", dir, "--quiet"); err != nil {
		t.Errorf("a backup of the restored store: %v\n%s", err, out)
	}
	if out, err := h.run("backup", "prune", dir, "--keep", "1", "--config", h.config); err != nil || strings.Count(out, "removed") < 3 {
		t.Errorf("backup prune: %v\n%s", err, out)
	}
	if out, err := h.run("backup", "list"); err != nil || strings.Count(out, "whole") != 2 || strings.Count(out, "destroyed") != 2 {
		t.Errorf("after prune: %v\n%s", err, out)
	}
	if out, err := h.plain("backup", "verify", dir, "--master-key", key); err != nil {
		t.Errorf("backup verify after prune: %v\n%s", err, out)
	}
	must(t, h.stop())
	// A stopped store is opened by the command itself.
	for _, args := range [][]string{{"--config", h.config}, {"--dir", h.dataDir(), "--master-key", key}} {
		if out, err := h.plain(append([]string{"backup", dir}, args...)...); err != nil || !strings.Contains(out, "new: 0") {
			t.Errorf("backup of a stopped store with %v: %v\n%s", args, err, out)
		}
	}
	nothingInClear(t, dir)
	left, err := filepath.Glob(filepath.Join(h.dataDir(), "spool", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v %v", left, err)
	}
}

// plain runs a command that asks no daemon.
func (h *house) plain(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mssd", args...).CombinedOutput()
	return string(out), err
}
