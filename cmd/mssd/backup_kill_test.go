package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKillBackup kills the command that makes a backup, or the daemon that it asks, or interrupts it, at any moment and
// under load. The generations before stay whole, the next run goes on from there, and at the end everything that was
// acknowledged before the last backup is restored from it.
func TestKillBackup(t *testing.T) {
	rounds := 6
	if s := os.Getenv("MSSD_CRASH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		rounds = max(rounds, n/4) // one takes seconds, and the store grows
	}
	h := newHouse(t, "")
	key := h.withMasterKey()
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	dir := h.path("backup")
	l := startLoad(h, []string{bal}, 3)
	l.waitFor(t, 20)
	began := time.Now()
	if out, err := h.run("backup", dir, "--create", "--json"); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	whole := time.Since(began)
	generations := 1
	outcome := map[string]int{}
	for round := range rounds {
		l.waitFor(t, len(l.acked(bal))+3)
		cmd := exec.Command("mssd", "backup", dir, "--socket", h.socket, "--quiet")
		must(t, cmd.Start())
		time.Sleep(time.Duration(rand.Int64N(int64(whole)))) // the moment of the kill, at random
		way := []string{"command", "daemon", "interrupt"}[round%3]
		switch way {
		case "command":
			_ = cmd.Process.Kill()
		case "daemon":
			h.kill()
		case "interrupt":
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
		err := cmd.Wait()
		parts, globErr := filepath.Glob(filepath.Join(dir, "generations", "*.partial"))
		must(t, globErr)
		if way == "interrupt" && len(parts) > 0 && cmd.ProcessState.Exited() {
			t.Errorf("an interrupted run left %v", parts)
		}
		all, globErr := filepath.Glob(filepath.Join(dir, "generations", "*Z-*"))
		must(t, globErr)
		if n := len(all) - len(parts); n < generations {
			t.Fatalf("%d generations, there were %d", n, generations)
		} else {
			outcome[fmt.Sprintf("%s, made: %v", way, n > generations)]++
			if err == nil && n == generations {
				t.Error("a run that made no generation says that all is well")
			}
			generations = n
		}
		if out, err := h.plain("backup", "verify", dir, "--master-key", key, "--quiet"); err != nil {
			t.Fatalf("round %d, %s killed: verify: %v\n%s", round, way, err, out)
		}
		if way == "daemon" {
			l.stop()
			nothingInClear(t, dir)
			h.start()
			next := startLoad(h, l.addrs, 3)
			next.take(l)
			l = next
		}
		if generations > 4 {
			if out, err := h.run("backup", "prune", dir, "--keep", "2"); err != nil {
				t.Fatalf("prune: %v\n%s", err, out)
			}
			generations = 2
		}
	}
	before := l.acked(bal)
	out, err := h.run("backup", dir)
	if err != nil {
		t.Fatalf("the last backup: %v\n%s", err, out)
	}
	l.stop()
	must(t, h.stop())
	if out, err := h.plain("restore", "--rehearse", "--from", dir, "--to", h.path("rehearsal"), "--master-key", key); err != nil {
		t.Errorf("rehearsal: %v\n%s", err, out)
	}
	if out, err := h.plain("restore", "--from", dir, "--to", h.path("restored"), "--master-key", key); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	h.moveTo(h.path("restored"))
	h.start()
	got := fetchHashes(t, h, user, password)
	for sum := range before {
		if got[sum] != 1 {
			t.Errorf("a letter acknowledged before the backup is there %d times, want once", got[sum])
		}
	}
	if out, err := h.run("fsck"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	must(t, h.stop())
	t.Logf("%d rounds, a whole backup took %v: %v; %d letters restored", rounds, whole.Round(time.Millisecond), outcome, len(got))
}

// take goes on with the book of another load that has ended.
func (l *load) take(from *load) {
	from.book.mu.Lock()
	defer from.book.mu.Unlock()
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	const far = 1 << 20 // letters of this load come behind those of the other
	if l.next.Load() < far {
		l.next.Store(from.next.Load())
	}
	for n, ok := range from.book.acked {
		l.book.acked[n] = l.book.acked[n] || ok
	}
}

// TestBackupToBadDisk fills the disk of the backups, and makes it read-only: no generation is added and none is harmed,
// the message says so, restoring works, and with room again the next run succeeds.
func TestBackupToBadDisk(t *testing.T) {
	h := newHouse(t, "")
	key := h.withMasterKey()
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	h.addBAL(bal, "ORG")
	disk := h.path("disk")
	smallDisk(t, disk, 4)
	deliver := func(n, size int) {
		t.Helper()
		c, err := h.dial()
		must(t, err)
		defer c.quit()
		_, err = c.send("274990000000145@"+patientDomain, []string{bal}, letter(n, size, bal))
		must(t, err)
	}
	deliver(0, 50_000)
	out, err := h.run("backup", disk, "--create")
	if err != nil || strings.Contains(out, "warning") {
		t.Fatalf("backup to a disk of its own: %v\n%s", err, out)
	}
	// Not to be compressed, so that the disk is filled by few letters.
	for n := range 12 {
		c, err := h.dial()
		must(t, err)
		noise := make([]byte, 700_000)
		for i := range noise {
			noise[i] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-"[rand.IntN(64)]
			if i%70 == 68 {
				noise[i] = '\r'
			} else if i%70 == 69 {
				noise[i] = '\n'
			}
		}
		_, err = c.send("274990000000145@"+patientDomain, []string{bal}, append(append(letter(n+1, 300, bal), noise...), "\r\n"...))
		must(t, err)
		c.quit()
	}
	whole := func(when string, generations int) {
		t.Helper()
		if out, err := h.plain("backup", "verify", disk, "--master-key", key); err != nil || !strings.Contains(out, fmt.Sprintf("%d generations", generations)) {
			t.Errorf("%s: verify: %v\n%s", when, err, out)
		}
		if out, err := h.plain("restore", "--rehearse", "--from", disk, "--to", h.path("rehearsal"), "--master-key", key); err != nil {
			t.Errorf("%s: rehearsal: %v\n%s", when, err, out)
		}
	}
	out, err = h.run("backup", disk)
	if err == nil || !strings.Contains(out, "is full") || !strings.Contains(out, "prune") {
		t.Errorf("backup to a full disk: %v\n%s", err, out)
	}
	whole("full", 1)
	must(t, unix.Mount("", disk, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=64m"))
	out, err = h.run("backup", disk)
	if err == nil || !strings.Contains(out, "cannot be written") {
		t.Errorf("backup to a read-only disk: %v\n%s", err, out)
	}
	whole("read-only", 1)
	must(t, unix.Mount("", disk, "tmpfs", unix.MS_REMOUNT, "size=64m"))
	out, err = h.run("backup", disk)
	if err != nil {
		t.Errorf("backup with room again: %v\n%s", err, out)
	}
	whole("room", 2)
	must(t, os.RemoveAll(filepath.Join(disk, "blobs")))
	out, err = h.run("backup", disk)
	if err != nil {
		t.Errorf("a target whose bodies were removed: %v\n%s", err, out)
	}
	whole("bodies copied again", 3)
	tiny := h.path("tiny")
	smallDisk(t, tiny, 1)
	out, err = h.plain("restore", "--from", disk, "--to", tiny+"/store", "--master-key", key)
	if err == nil || !strings.Contains(out, "are needed") {
		t.Errorf("a restore to a disk that is too small: %v\n%s", err, out)
	}
	if _, err := os.Stat(tiny + "/store"); err == nil {
		t.Error("a restore that was refused left its folder")
	}
	must(t, h.stop())
}

// TestKillRestore kills a restore at any moment: what it leaves is no store, or a whole one; the folder is refused until
// it is emptied, and then the same restore succeeds.
func TestKillRestore(t *testing.T) {
	rounds := 5
	if s := os.Getenv("MSSD_CRASH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		rounds = max(rounds, n/4) // one takes seconds, and the store grows
	}
	h := newHouse(t, "")
	key := h.withMasterKey()
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	h.addBAL(bal, "ORG")
	l := startLoad(h, []string{bal}, 3)
	l.waitFor(t, 60)
	l.stop()
	dir, to := h.path("backup"), h.path("restored")
	if out, err := h.run("backup", dir, "--create"); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	must(t, h.stop())
	args := []string{"restore", "--from", dir, "--to", to, "--master-key", key, "--quiet"}
	began := time.Now()
	if out, err := h.plain(args...); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	took := time.Since(began)
	must(t, os.RemoveAll(to))
	outcome := map[string]int{}
	for range rounds {
		cmd := exec.Command("mssd", args...)
		must(t, cmd.Start())
		time.Sleep(time.Duration(rand.Int64N(int64(took)))) // the moment of the kill, at random
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		left, err := os.ReadDir(to)
		_, version := os.Stat(filepath.Join(to, "VERSION"))
		out, check := h.plain("fsck", "--dir", to, "--master-key", key, "--socket", h.path("none"))
		switch {
		case version == nil && check != nil:
			t.Fatalf("a store stands there that is not whole: %v\n%s", check, out)
		case version != nil && check == nil:
			t.Fatalf("half a restore is taken for a store:\n%s", out)
		}
		outcome[fmt.Sprintf("store: %v", version == nil)]++
		if err == nil && len(left) > 0 {
			if out, err := h.plain(args...); err == nil || !strings.Contains(out, "is not empty") {
				t.Errorf("a restore over what a killed one left: %v\n%s", err, out)
			}
		}
		must(t, os.RemoveAll(to))
	}
	if out, err := h.plain(args...); err != nil {
		t.Errorf("restore after the kills: %v\n%s", err, out)
	}
	t.Logf("%d rounds, a restore took %v: %v", rounds, took.Round(time.Millisecond), outcome)
}
