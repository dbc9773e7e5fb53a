package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unit lays the unit down with a program that exists: systemd-analyze looks for it.
func unit(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../deploy/mssd.service")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mssd.service")
	b = bytes.ReplaceAll(b, []byte("/usr/bin/mssd"), []byte("/bin/true"))
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestUnitIsWellFormed(t *testing.T) {
	out, err := exec.Command(need(t, "systemd-analyze"), "verify", "--man=no", unit(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		// systemd before 253, see the unit.
		if !strings.Contains(line, "Failed to parse service type, ignoring: notify-reload") && strings.Contains(line, "mssd.service") {
			t.Errorf("systemd complains: %s", line)
		}
	}
}

func TestUnitIsHardened(t *testing.T) {
	// 15: an exposure of 1.5, "OK"; what remains is the network, which a mail server needs.
	out, err := exec.Command(need(t, "systemd-analyze"), "security", "--offline=true", "--threshold=17", "--no-pager", unit(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// What the unit promises must be what the daemon does.
func TestUnitAgreesWithTheDaemon(t *testing.T) {
	b, err := os.ReadFile("../../deploy/mssd.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Type=notify-reload\n", "WatchdogSec=", "LimitCORE=0\n", "RestartPreventExitStatus=78\n", "ProtectSystem=strict\n",
		"LoadCredential=smtp.key:", "LoadCredential=imap.key:", "LoadCredential=master.key:", "StateDirectory=mssd\n", "User=mssd\n"} {
		if !bytes.Contains(b, []byte("\n"+want)) {
			t.Errorf("the unit lacks %q", want)
		}
	}
	c, err := loadConfig("../../deploy/mssd.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"/run/credentials/mssd.service/smtp.key": c.SMTP.Key,
		"/run/credentials/mssd.service/imap.key": c.IMAP.Key, "/run/credentials/mssd.service/master.key": c.Store.MasterKey, "/var/lib/mssd/data": c.DataDir, "/run/mssd/admin.sock": c.Admin.Socket} {
		if got != name {
			t.Errorf("the example names %q, the unit provides %q", got, name)
		}
	}
	if c.Admin.Socket != defaultSocket {
		t.Errorf("the command line asks on %q, the example has %q", defaultSocket, c.Admin.Socket)
	}
}
