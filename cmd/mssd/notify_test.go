package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// systemd is told of the start, of each reload (with its time, as Type=notify-reload needs it) and of the end, and its
// watchdog is fed in between.
func TestSystemdIsTold(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "300000")
	os.Unsetenv("WATCHDOG_PID") // any process of ours

	h := newHouse(t, "")
	h.start("--create")
	told := func(want string) string {
		t.Helper()
		buf := make([]byte, 4096)
		for {
			must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("systemd was never told %s: %v", want, err)
			}
			if got := string(buf[:n]); strings.HasPrefix(got, want) {
				return got
			}
		}
	}
	told("READY=1")
	told("WATCHDOG=1")
	must(t, h.cmd.Process.Signal(syscall.SIGHUP))
	if got := told("RELOADING=1"); !strings.Contains(got, "\nMONOTONIC_USEC=") {
		t.Errorf("a reload without its time: %q", got)
	}
	told("READY=1")
	must(t, h.cmd.Process.Signal(syscall.SIGTERM))
	told("STOPPING=1")
	if err := <-h.done; err != nil {
		t.Errorf("exit status: %v", err)
	}
	h.cmd = nil
}
