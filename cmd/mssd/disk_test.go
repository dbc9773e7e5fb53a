package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own under a folder. Root only.
func smallDisk(t *testing.T, dir string, mib int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	must(t, os.Mkdir(dir, 0o700))
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("size=%dm,mode=0700", mib))
	if errors.Is(err, unix.EPERM) {
		t.Skip("root may not mount here (a container without CAP_SYS_ADMIN)")
	}
	must(t, err)
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}

// fill leaves room for about so many octets and returns what gives it back.
func fill(t *testing.T, dir string, leave int64) (empty func()) {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	f, err := os.Create(dir + ".ballast/ballast")
	must(t, err)
	defer f.Close()
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, max(int64(st.Bavail)*st.Bsize-leave, 1)))
	return func() { must(t, os.Remove(f.Name())) }
}

// TestFullDisk fills the disk between MAIL and the end of DATA, to the octet and with a little room left, so that the
// spool, the body or the index meets its end. Each time the peer is told to come back, nothing half written is seen,
// and when there is room again the same letter is taken, once.
func TestFullDisk(t *testing.T) {
	h := newHouse(t, "")
	disk := h.path("disk")
	smallDisk(t, disk, 100)
	b, err := os.ReadFile(h.config)
	must(t, err)
	must(t, os.WriteFile(h.config, []byte(strings.Replace(string(b), h.path("data"), disk+"/data", 1)), 0o600))
	must(t, os.Mkdir(disk+"/data.ballast", 0o700))
	must(t, os.Mkdir(disk+"/data", 0o700))
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")

	want := make(map[[32]byte]int)
	n := 0
	for _, leave := range []int64{0, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20} {
		msg := letter(n, 200_000, bal)
		n++
		err := deliverIntoFullDisk(t, h, disk+"/data", leave, bal, msg)
		var reply *textproto.Error
		switch {
		case err == nil:
			want[sha256.Sum256(msg)]++
			t.Logf("%d octets left: taken all the same", leave)
		case errors.As(err, &reply) && (reply.Code == 452 || reply.Code == 451 || reply.Code == 421):
			t.Logf("%d octets left: %v", leave, err)
		default:
			t.Errorf("%d octets left: %v; want 452, 451 or 421", leave, err)
		}
		if _, alive := h.run("bal", "list"); alive != nil { // it may end, and then must say so
			exit := <-h.done
			h.cmd = nil
			if exit == nil {
				t.Errorf("%d octets left: the daemon ended with status 0", leave)
			}
			h.start()
		}
		if err != nil {
			c, err := h.dial()
			must(t, err)
			if _, err := c.send("274990000000145@"+patientDomain, []string{bal}, msg); err != nil {
				t.Fatalf("there is room again, but: %v", err)
			}
			want[sha256.Sum256(msg)]++
			c.quit()
		}
	}
	got := fetchHashes(t, h, user, password)
	for sum, times := range want {
		if got[sum] != times {
			t.Errorf("a letter is there %d times, want %d", got[sum], times)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d letters are there, want %d", len(got), len(want))
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil || !strings.Contains(out, "no problem found") {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	if left, err := filepath.Glob(disk + "/data/spool/*"); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v %v", left, err)
	}
}

// deliverIntoFullDisk begins a delivery, fills the disk, sends the letter; the disk has room again when it returns.
func deliverIntoFullDisk(t *testing.T, h *house, dir string, leave int64, bal string, msg []byte) error {
	t.Helper()
	c, err := h.dial()
	must(t, err)
	defer c.conn.Close()
	for _, line := range []string{"MAIL FROM:<274990000000145@" + patientDomain + ">", "RCPT TO:<" + bal + ">"} {
		_, err := c.cmd(250, "%s", line)
		must(t, err)
	}
	empty := fill(t, dir, leave)
	defer empty()
	if _, err := c.cmd(354, "DATA"); err != nil {
		return err
	}
	if _, err := c.conn.Write([]byte(strings.ReplaceAll(string(msg), "\r\n.", "\r\n..") + ".\r\n")); err != nil {
		return err
	}
	if _, _, err := c.r.ReadResponse(250); err != nil {
		// While the disk is full nobody else is let in so far.
		if second, derr := h.dial(); derr == nil {
			defer second.conn.Close()
			if _, err := second.cmd(452, "MAIL FROM:<274990000000145@%s>", patientDomain); err != nil {
				t.Errorf("MAIL on a full disk: %v; want 452", err)
			}
		}
		return err
	}
	return nil
}

// TestBodyCannotBeStored takes the folder of the bodies away under a running daemon: the peer keeps its letter, the
// daemon goes on, and the same letter is taken when the folder is back.
func TestBodyCannotBeStored(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	c, err := h.dial()
	must(t, err)
	msg := letter(1, 2000, bal)
	must(t, os.Rename(h.path("data/blobs"), h.path("away")))
	must(t, os.WriteFile(h.path("data/blobs"), nil, 0o600))
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, msg)
	var reply *textproto.Error
	if !errors.As(err, &reply) || reply.Code/100 != 4 {
		t.Fatalf("a letter that cannot be stored: %v, want a temporary refusal", err)
	}
	must(t, os.Remove(h.path("data/blobs")))
	must(t, os.Rename(h.path("away"), h.path("data/blobs")))
	if _, err = c.send("274990000000145@"+patientDomain, []string{bal}, msg); err != nil {
		t.Fatalf("the folder is back, but: %v", err)
	}
	if got := fetchHashes(t, h, user, password); got[sha256.Sum256(msg)] != 1 || len(got) != 1 {
		t.Errorf("%d letters are there, want one, once", len(got))
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}

// TestStoreFailureEndsTheDaemon makes every write to the index fail (RLIMIT_FSIZE): nobody knows any more what is on the
// disk, so the daemon ends, with a status that makes systemd start it again, and what it had acknowledged is there.
func TestStoreFailureEndsTheDaemon(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	c, err := h.dial()
	must(t, err)
	first := letter(1, 2000, bal)
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, first)
	must(t, err)
	limit := unix.Rlimit{Cur: 4096, Max: 4096} // the letter fits, the pages of the index do not
	must(t, unix.Prlimit(h.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil))
	if text, err := c.send("274990000000145@"+patientDomain, []string{bal}, letter(2, 2000, bal)); err == nil {
		t.Fatalf("a letter that cannot be stored was acknowledged: %s", text)
	} else {
		t.Logf("the peer was told: %v", err)
	}
	select {
	case exit := <-h.done:
		h.cmd = nil
		if exit == nil {
			t.Error("the daemon ended with status 0")
		}
		t.Logf("the daemon ended: %v", exit)
	case <-time.After(10 * time.Second):
		t.Fatal("the daemon goes on")
	}
	h.start()
	if got := fetchHashes(t, h, user, password); got[sha256.Sum256(first)] != 1 || len(got) != 1 {
		t.Errorf("%d letters, the acknowledged one %d times; want it alone and once", len(got), got[sha256.Sum256(first)])
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}
