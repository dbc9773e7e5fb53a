package main

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/sys/unix"
)

// configure adds lines to a table of the configuration.
func (h *house) configure(table, lines string) {
	h.t.Helper()
	b, err := os.ReadFile(h.config)
	must(h.t, err)
	if !strings.Contains(string(b), "["+table+"]") {
		b = append(b, "\n["+table+"]\n"...)
	}
	must(h.t, os.WriteFile(h.config, []byte(strings.Replace(string(b), "["+table+"]\n", "["+table+"]\n"+lines+"\n", 1)), 0o600))
}

// slowDown lets each write that is waited for (fdatasync) of the daemon take so long; it returns when that is so. Call
// what it returns for the disk to be quick again.
func (h *house) slowDown(each time.Duration) (quick func()) {
	h.t.Helper()
	cmd := exec.Command(needStrace(h.t), "-f", "-qq", "-p", strconv.Itoa(h.cmd.Process.Pid), "-o", h.path("strace"),
		"-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter="+strconv.FormatInt(each.Microseconds(), 10))
	var out lockedBuffer
	cmd.Stderr = &out
	must(h.t, cmd.Start())
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		st, err := os.ReadFile("/proc/" + strconv.Itoa(h.cmd.Process.Pid) + "/status")
		must(h.t, err)
		if strings.Contains(string(st), "TracerPid:\t"+strconv.Itoa(cmd.Process.Pid)+"\n") {
			break
		}
		if strings.Contains(out.String(), "not permitted") {
			_ = cmd.Wait()
			h.t.Skipf("processes may not be traced here: %s", out.String())
		}
		if time.Now().After(end) {
			h.t.Fatalf("strace does not attach: %s", out.String())
		}
	}
	return func() { // dying, strace lets its processes go where they are
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
}

// TestSlowDisk makes each write of the index take 4 s where the daemon waits 1 s: peers and clients are told so in time, reading goes
// on, health says it, and when the disk is quick again each letter is there once, also the one that was sent twice.
func TestSlowDisk(t *testing.T) {
	h := newHouse(t, "")
	h.configure("store", `commit_timeout = "1s"`)
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	c, err := h.dial()
	must(t, err)
	first, second := letter(1, 2000, bal), letter(2, 2000, bal)
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, first)
	must(t, err)
	ic := h.imapClient(user, password)
	defer ic.Close()
	_, err = ic.Select("INBOX", nil).Wait()
	must(t, err)
	quick := h.slowDown(4 * time.Second)
	var reply *textproto.Error
	began := time.Now()
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, second)
	if !errors.As(err, &reply) || reply.Code != 451 {
		t.Errorf("a letter for a disk that hangs: %v, want 451", err)
	}
	t.Logf("the peer was told %v after %v", err, time.Since(began).Round(time.Millisecond))
	// The committer is at it still: nothing new is taken, at once.
	began = time.Now()
	for {
		_, err := c.cmd(250, "MAIL FROM:<274990000000145@%s>", patientDomain)
		if errors.As(err, &reply) && reply.Code == 451 {
			break
		}
		if err != nil || time.Since(began) > 2*time.Second { // the commit began a moment after the letter: it may not count as slow yet
			t.Errorf("MAIL while the disk hangs: %v, want 451", err)
			break
		}
		_, err = c.cmd(250, "RSET")
		must(t, err)
	}
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Logf("MAIL was answered after %v", took) // a busy machine
	}
	whole := &imap.FetchItemBodySection{}
	msgs, err := ic.Fetch(imap.SeqSet{{Start: 1, Stop: 1}}, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	if err != nil || len(msgs) != 1 {
		t.Errorf("FETCH, which would mark as seen, while the disk hangs: %v", err)
	} else if body, err := afterPrefix(msgs[0].FindBodySection(whole)); err != nil || string(body) != string(first) {
		t.Error("FETCH while the disk hangs: other octets")
	}
	if _, err := ic.Copy(imap.SeqSet{{Start: 1, Stop: 1}}, "Archive").Wait(); !isUnavailable(err) {
		t.Errorf("COPY while the disk hangs: %v, want NO [UNAVAILABLE]", err)
	}
	if out, err := h.run("health"); err == nil || !strings.Contains(out, "too slow") {
		t.Errorf("health while the disk hangs: %v\n%s", err, out)
	}
	quick()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := h.run("health"); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal("health does not become well")
		}
	}
	text, err := c.send("274990000000145@"+patientDomain, []string{bal}, second)
	if err != nil {
		t.Fatalf("the disk is quick again, but: %v", err)
	}
	t.Logf("sent again: %s", text)
	got := fetchHashes(t, h, user, password)
	if got[sha256.Sum256(first)] != 1 || got[sha256.Sum256(second)] != 1 || len(got) != 2 {
		t.Errorf("%d letters; want each of the two once: %v", len(got), got)
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}

// TestReadOnlyDisk mounts a file system that cannot be written over the spool of a running daemon, as a disk that has
// gone read-only: temporary answers, reading goes on, health says it, and all goes on when it is gone.
func TestReadOnlyDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	h := newHouse(t, "")
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	c, err := h.dial()
	must(t, err)
	first := letter(1, 2000, bal)
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, first)
	must(t, err)
	spool := h.path("data/spool")
	err = unix.Mount("tmpfs", spool, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
	if errors.Is(err, unix.EPERM) {
		t.Skip("root may not mount here (a container without CAP_SYS_ADMIN)")
	}
	must(t, err)
	mounted := true
	unmount := func() {
		if mounted {
			must(t, unix.Unmount(spool, unix.MNT_DETACH))
		}
		mounted = false
	}
	t.Cleanup(unmount)
	var reply *textproto.Error
	if _, err = c.send("274990000000145@"+patientDomain, []string{bal}, letter(2, 2000, bal)); !errors.As(err, &reply) || reply.Code != 451 {
		t.Errorf("a letter for a read-only disk: %v, want 451", err)
	}
	ic := h.imapClient(user, password)
	defer ic.Close()
	body := "Subject: brouillon\r\n\r\nx\r\n"
	ap := ic.Append("Drafts", int64(len(body)), nil)
	_, _ = io.WriteString(ap, body)
	must(t, ap.Close())
	if _, err := ap.Wait(); !isUnavailable(err) {
		t.Errorf("APPEND to a read-only disk: %v, want NO [UNAVAILABLE]", err)
	}
	if out, err := h.run("health"); err == nil || !strings.Contains(out, "cannot be written") {
		t.Errorf("health: %v\n%s", err, out)
	}
	if got := fetchHashes(t, h, user, password); got[sha256.Sum256(first)] != 1 {
		t.Error("what is there cannot be read")
	}
	unmount()
	c.conn.Close()
	c, err = h.dial()
	must(t, err)
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, letter(2, 2000, bal))
	must(t, err)
	if out, err := h.run("health"); err != nil {
		t.Errorf("health: %v\n%s", err, out)
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}
