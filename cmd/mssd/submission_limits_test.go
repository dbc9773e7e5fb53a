package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who reaches the limit of an hour is told so, over whichever connection, and the metrics count it.
func TestSubmissionLimits(t *testing.T) {
	swaks := need(t, "swaks")
	page := freeAddr(t)
	s := newSubmission(t, fmt.Sprintf("[submission.limits]\nperson_recipients = 2\n[metrics]\nlisten = %q\n", page))
	s.begin()
	s.addBAL(s.recipient, "PER")
	letter := filepath.Join(t.TempDir(), "letter.eml")
	send := func(n int, addr string, tls ...string) (string, error) {
		must(t, os.WriteFile(letter, fmt.Appendf(nil, "From: %s\nSubject: %d\n\nBonjour.\n", s.sender, n), 0o600))
		_, port, err := net.SplitHostPort(addr)
		must(t, err)
		return try(t, swaks, append(tls, "--server", "localhost", "--port", port, "--tls-ca-path", s.path("anchors.pem"), "--tls-verify", "--helo", "poste.test",
			"--auth", "PLAIN", "--auth-user", s.user, "--auth-password", s.password, "--from", s.sender, "--to", s.recipient, "--data", "@"+letter)...)
	}
	for n, front := range [][]string{{s.addr, "--tls"}, {s.implicit, "--tls-on-connect"}} {
		if out, err := send(n, front[0], front[1:]...); err != nil {
			t.Fatalf("letter %d: %v\n%s", n, err, out)
		}
	}
	for n, front := range [][]string{{s.addr, "--tls"}, {s.implicit, "--tls-on-connect"}} {
		if out, err := send(n+2, front[0], front[1:]...); err == nil || !strings.Contains(out, "450 4.7.1 too many recipients within an hour") {
			t.Errorf("letter %d: %v\n%s", n+2, err, out)
		}
	}
	resp, err := http.Get("http://" + page + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	for _, want := range []string{`mssd_submission_limited_total{limit="person"} 2`, `mssd_submission_limited_total{limit="bal"} 0`, `mssd_submission_limited_total{limit="application"} 0`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
}
