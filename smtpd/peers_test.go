package smtpd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func inCI() bool { return os.Getenv("CI") != "" }

// files writes the certificate and key of a peer and the root for outside programs.
func (w *world) files(who string) (cert, key, ca string) {
	w.t.Helper()
	dir := w.t.TempDir()
	cert, key, ca = filepath.Join(dir, "peer.pem"), filepath.Join(dir, "peer.key"), filepath.Join(w.root, "anchors.pem")
	check(w.t, w.peers[who].WriteFiles(cert, key))
	return cert, key, ca
}

func TestSwaks(t *testing.T) {
	swaks := program(t, "swaks")
	if out, _ := exec.Command(swaks, "--support").CombinedOutput(); strings.Contains(string(out), "requires Net::SSLeay") {
		if inCI() {
			t.Fatal("libnet-ssleay-perl is missing: swaks has no TLS, and this is CI")
		}
		t.Skip("libnet-ssleay-perl is missing: swaks has no TLS")
	}
	w := newWorld(t, nil)
	cert, key, ca := w.files("patient")
	msg := filepath.Join(t.TempDir(), "m.eml")
	check(t, os.WriteFile(msg, []byte(strings.ReplaceAll(prescription, "\r\n", "\n")), 0o600))
	out, err := exec.Command(swaks, "--server", w.addr, "--tls", "--tls-cert", cert, "--tls-key", key, "--tls-ca-path", ca,
		"--from", patient, "--to", pharmacy, "--data", "@"+msg, "--helo", "swaks.test").CombinedOutput()
	if err != nil {
		t.Fatalf("swaks: %v\n%s", err, out)
	}
	if got := w.inbox(pharmacy); len(got) != 1 || !strings.Contains(got[0], "Ordonnance secrete") {
		t.Errorf("%d messages after swaks\n%s", len(got), out)
	}
	out, err = exec.Command(swaks, "--server", w.addr, "--from", patient, "--to", pharmacy, "--data", "@"+msg).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "530 5.7.0") {
		t.Errorf("swaks without TLS: %v\n%s", err, out)
	}
}

func TestOpenSSL(t *testing.T) {
	openssl := program(t, "openssl")
	w := newWorld(t, nil)
	cert, key, ca := w.files("other")
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		cmd := exec.Command(openssl, "s_client", "-starttls", "smtp", "-connect", w.addr, "-CAfile", ca, "-verify_return_error",
			"-servername", "mx.operateur.test", "-cert", cert, "-key", key, "-quiet", "-crlf", "-ign_eof", version)
		cmd.Stdin = strings.NewReader("EHLO openssl.test\nMAIL FROM:<dr@autre.test>\nRCPT TO:<" + pharmacy + ">\nDATA\nA: " + version + "\n\nbody\n.\nQUIT\n")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "250 2.0.0 0") {
			t.Errorf("openssl %s: %v\n%s", version, err, out)
		}
	}
	if n := len(w.inbox(pharmacy)); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	for _, version := range []string{"-tls1_1", "-tls1"} {
		cmd := exec.Command(openssl, "s_client", "-starttls", "smtp", "-connect", w.addr, "-quiet", version, "-cipher", "DEFAULT@SECLEVEL=0")
		if out, err := cmd.CombinedOutput(); err == nil && strings.Contains(string(out), "250 ") {
			t.Errorf("openssl %s was let in:\n%s", version, out)
		}
	}
}
