package main

import (
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestConnectionsWithin(t *testing.T) {
	base := func(change func(*Config)) *Config {
		c := defaultConfig()
		c.SMTP.Listen, c.IMAP.Listen, c.IMAP.ListenTLS = []string{":25"}, []string{":143"}, []string{":993"}
		if change != nil {
			change(c)
		}
		return c
	}
	balancers := func(c *Config) { c.SMTP.ProxyFrom, c.IMAP.ProxyFrom = []string{"192.0.2.1"}, []string{"192.0.2.1"} }
	submission := func(c *Config) {
		c.Submission = &SubmissionConfig{Listen: []string{"127.0.0.1:1"}, ListenTLS: []string{"127.0.0.1:2"}, MaxConnections: 1000}
	}
	for _, tt := range []struct {
		name   string
		limit  int
		change func(*Config)
		want   connections
		words  string // of the warning or the fault; "" none
		fault  bool
	}{
		{name: "as the unit says", limit: 262144, want: connections{smtp: 1000, imap: 10_000}},
		{name: "just enough", limit: 43_256, want: connections{smtp: 1000, imap: 10_000}},
		{name: "one short", limit: 43_255, want: connections{smtp: 1000, imap: 9999}, words: "imap.max_connections is 9999 instead. Write LimitNOFILE=65536"},
		{name: "a small one", limit: 4096, want: connections{smtp: 640, imap: 480}, words: "smtp.max_connections is 640 and imap.max_connections is 480"},
		{name: "one front of IMAP", limit: 4096, change: func(c *Config) { c.IMAP.Listen = nil }, want: connections{smtp: 640, imap: 960}, words: "on each of 1 fronts"},
		{name: "few are wanted", limit: 400, change: func(c *Config) { c.SMTP.MaxConnections, c.IMAP.MaxConnections = 10, 10 }, want: connections{smtp: 10, imap: 10}},
		{name: "few are wanted of one", limit: 1024, change: func(c *Config) { c.IMAP.MaxConnections = 10 }, want: connections{smtp: 242, imap: 10}, words: "smtp.max_connections is 242"},
		{name: "far too small", limit: 300, words: "LimitNOFILE=65536", fault: true},
		{name: "balancers", limit: 1024, change: balancers, words: "LimitNOFILE=65536", fault: true},
		{name: "with submission", limit: 262144, change: submission, want: connections{smtp: 1000, imap: 10_000, submission: 1000}},
		{name: "a small one with submission", limit: 4096, change: submission, want: connections{smtp: 640, imap: 360, submission: 80}, words: "submission.max_connections is 80 instead"},
		{name: "too small for submission", limit: 700, change: submission, words: "submission.max_connections", fault: true},
		{name: "balancers with room", limit: 262144, change: balancers, want: connections{smtp: 1000, imap: 10_000}},
	} {
		c := base(tt.change)
		n, warning, err := c.connectionsWithin(tt.limit)
		var fault *configError
		if (err != nil) != tt.fault || err != nil && !errors.As(err, &fault) {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if err != nil {
			warning = err.Error()
		} else if n != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, n, tt.want)
		}
		if !strings.Contains(warning, tt.words) || tt.words == "" && warning != "" {
			t.Errorf("%s: says %q, want %q", tt.name, warning, tt.words)
		}
		if used := filesKept + 3*n.smtp + 2*(min(1, len(c.IMAP.Listen))+1)*n.imap + 6*n.submission; err == nil && used > tt.limit {
			t.Errorf("%s: %d files for %d", tt.name, used, tt.limit)
		}
	}
}

// A daemon that may open few files and is flooded with idle connections takes mail all the same, and its operator gets
// in: the connections are fewer, and health and check say which keys and which line of the unit.
func TestFewOpenFiles(t *testing.T) {
	h := newHouse(t, "")
	h.configure("smtp", "max_connections_per_address = 1000")
	h.configure("imap", "max_connections_per_address = 10000")
	limited := func(n string) []string {
		return []string{"sh", "-c", `ulimit -n ` + n + ` && "$@"; exit $?`, "sh"}
	}
	h.under = limited("300")
	if err := h.tryStart("--create"); err == nil || !strings.Contains(h.log.String(), "LimitNOFILE=") || strings.Contains(h.log.String(), "serving") {
		t.Fatalf("a limit of 300: %v, want a refusal that names LimitNOFILE", err)
	}
	h.under = limited("700")
	h.start("--create")
	h.addBAL("pharmacie@test-officines.mssante.fr", "ORG")
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range 400 {
		for _, addr := range []string{h.imap, h.imaps, h.smtp} {
			c, err := net.DialTimeout("tcp", addr, 10*time.Second)
			must(t, err)
			open = append(open, c)
		}
	}
	out, err := h.run("health")
	if !strings.Contains(out, "imap.max_connections is ") || !strings.Contains(out, "LimitNOFILE=") {
		t.Errorf("health: %v\n%s", err, out)
	}
	c, err := h.dial()
	must(t, err)
	_, err = c.send("274990000000145@"+patientDomain, []string{"pharmacie@test-officines.mssante.fr"}, letter(1, 2000, "pharmacie@test-officines.mssante.fr"))
	must(t, err)
	c.quit()

	line := append(limited("700"), "mssd", "check", "--config", h.config)
	b, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	if err != nil || !strings.Contains(string(b), "warning: this process may have 700 files open") {
		t.Errorf("check: %v\n%s", err, b)
	}
	line = append(limited("300"), line[4:]...)
	if b, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err == nil || !strings.Contains(string(b), "LimitNOFILE=") {
		t.Errorf("check with a limit of 300: %v\n%s", err, b)
	}
}
