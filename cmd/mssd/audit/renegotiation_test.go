package audit

import (
	"bufio"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A server that allows renegotiation is found out, one that does not is believed: OpenSSL as both.
func TestRenegotiationIsFoundOut(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("openssl is missing, and this is CI")
	} else if err != nil {
		t.Skip("openssl is missing")
	}
	trust := newTrust(t)
	for _, tt := range []struct{ name, option, alert, fault string }{
		{"allowed", "-client_renegotiation", "", renegotiated},
		{"refused", "", "no renegotiation", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"s_server", "-accept", "127.0.0.1:0", "-cert", trust.Cert, "-cert_chain", trust.Cert, "-key", trust.Key, "-tls1_2", "-naccept", "1"}
			if tt.option != "" {
				args = append(args, tt.option)
			}
			cmd := exec.CommandContext(t.Context(), openssl, args...)
			in, err := cmd.StdinPipe() // open until the end: s_server takes its end for a wish to close
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
			addr := ""
			lines := bufio.NewScanner(out)
			for addr == "" && lines.Scan() {
				if a, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
					addr = a
				}
			}
			go func() { // a full pipe would stop it
				for lines.Scan() {
				}
			}()
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var r renegotiator
			cfg := &tls.Config{RootCAs: trust.roots(), ServerName: Hostname, MaxVersion: tls.VersionTLS12}
			if err := tls.Client(r.under(c, cfg), cfg).Handshake(); err != nil {
				t.Fatal(err)
			}
			alert, err := r.begin()
			switch {
			case tt.fault != "" && (err == nil || err.Error() != tt.fault):
				t.Errorf("alert %q, %v; want %s", alert, err, tt.fault)
			case tt.fault == "" && (err != nil || alert != tt.alert):
				t.Errorf("alert %q, %v; want %q", alert, err, tt.alert)
			}
		})
	}
}

// FuzzHelloAgain: whatever stands for a hello, nothing is read beyond its end.
func FuzzHelloAgain(f *testing.F) {
	f.Add([]byte{1, 0, 0, 40}, []byte("0123456789ab"))
	f.Add(append(make([]byte, 38), 0, 0, 2, 0, 0, 1, 0, 0, 5, 0xff, 1, 0, 1, 0), []byte("0123456789ab"))
	f.Fuzz(func(_ *testing.T, hello, verify []byte) {
		if len(verify) == 12 {
			_, _ = helloAgain(hello, verify)
		}
	})
}
