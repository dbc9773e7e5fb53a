package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mssd/admin"
)

// TestSCRAM: clients that are not ours log in without sending the password, bound to the connection where they can, to read and to
// send; a password that was set before SCRAM was offered opens by PLAIN alone.
func TestSCRAM(t *testing.T) {
	gsasl, mbsync := need(t, "gsasl"), need(t, "mbsync")
	submission := freeAddr(t)
	h := newHouse(t, fmt.Sprintf("[submission]\nlisten = [%q]\n", submission))
	h.start("--create", "--no-list-yet")
	const old = "ancienne@exemple.test"
	oldUser, oldPassword := h.addBAL(old, "ORG")
	must(t, h.stop())
	h.configure("imap", `mechanisms = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"]`)
	h.start("--no-list-yet")
	user, password := h.addBAL(officine, "ORG")

	// login is what gsasl says, and whether it got in.
	login := func(protocol, addr, mechanism, user, password string, more ...string) (string, bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, port, _ := strings.Cut(addr, ":")
		args := append([]string{"--" + protocol, "--connect=localhost:" + port, "--starttls", "--x509-ca-file=" + h.path("anchors.pem"),
			"--hostname=localhost", "--authentication-id=" + user, "--password=" + password, "--mechanism=" + mechanism}, more...)
		cmd := exec.CommandContext(ctx, gsasl, args...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), err == nil
	}
	for _, front := range []struct{ protocol, addr string }{{"imap", h.imap}, {"smtp", submission}} {
		for _, c := range []struct {
			mechanism, user, password string
			in                        bool
		}{
			{"SCRAM-SHA-256-PLUS", user, password, true},
			{"SCRAM-SHA-256", user, password, true},
			{"PLAIN", user, password, true},
			{"SCRAM-SHA-256-PLUS", user, "un autre", false},
			{"SCRAM-SHA-256", oldUser, oldPassword, false},
			{"PLAIN", oldUser, oldPassword, true},
		} {
			var more []string
			if c.mechanism == "SCRAM-SHA-256" {
				more = []string{"--no-cb"} // it cannot bind, and says so: nobody has taken PLUS away
			}
			if out, in := login(front.protocol, front.addr, c.mechanism, c.user, c.password, more...); in != c.in {
				t.Errorf("%s over %s of %s: in is %v, want %v\n%s", c.mechanism, front.protocol, c.user, in, c.in, out)
			}
		}
	}

	must(t, os.Mkdir(h.path("mails"), 0o700))
	must(t, os.WriteFile(h.path("secret"), []byte(password), 0o600))
	_, port, _ := strings.Cut(h.imaps, ":")
	must(t, os.WriteFile(h.path("rc"), fmt.Appendf(nil, "IMAPStore far\nHost localhost\nPort %s\nUser %s\nPassCmd \"cat %s\"\nSSLType IMAPS\nCertificateFile %s\nAuthMechs SCRAM-SHA-256\n\n"+
		"MaildirStore near\nPath %[5]s/\nInbox %[5]s/INBOX\n\nChannel all\nFar :far:\nNear :near:\nPatterns *\nCreate Near\n", port, user, h.path("secret"), h.path("anchors.pem"), h.path("mails")), 0o600))
	program(t, []string{"HOME=" + h.dir}, mbsync, "-c", h.path("rc"), "-a")

	// Another role by import is not another password.
	b, err := (&admin.Client{Socket: h.socket}).BAL(t.Context(), officine)
	must(t, err)
	must(t, os.WriteFile(h.path("members.csv"), fmt.Appendf(nil, "bal,member,role,until\n%s,%s,%s,2099-01-01\n", officine, b.Members[0].ID, b.Members[0].Role), 0o600))
	if out, err := h.run("member", "import", h.path("members.csv")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, in := login("imap", h.imap, "SCRAM-SHA-256-PLUS", user, password); !in {
		t.Errorf("after an import: %s", out)
	}

	client := &admin.Client{Socket: h.socket}
	for address, want := range map[string]bool{officine: true, old: false} {
		b, err := client.BAL(t.Context(), address)
		must(t, err)
		if len(b.Members) != 1 || b.Members[0].HasSCRAM != want || !b.Members[0].HasPassword {
			t.Errorf("%s: %+v", address, b.Members)
		}
	}
	out, err := h.run("member", "list", officine)
	if err != nil || !strings.Contains(out, "yes, SCRAM too") {
		t.Errorf("%v\n%s", err, out)
	}
	if s := h.log.String(); strings.Contains(s, password) || strings.Contains(s, "SCRAM-SHA-256$") || !strings.Contains(s, "user.method=scram") {
		t.Errorf("the log does not say how they logged in, or says too much:\n%s", s)
	}
	must(t, h.stop())
}
