package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"mssd/cmd/mssd/audit"
	"mssd/tlsconf/testpki"
)

// From outside, with a certificate of the trust space: a real daemon in a process of its own passes, no message is kept
// unless one was asked for; without a good certificate nothing is said to be proven.
func TestSelftestFromOutside(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	const to = "officine@demo.mssante.fr"
	h.addBAL(to, "ORG")
	stranger, err := testpki.New()
	must(t, err)
	bad, err := stranger.Operator(testpki.Subject{C: "FR", CN: "smtp.autre.test"})
	must(t, err)
	must(t, stranger.WriteAnchors(h.path("other.pem")))
	must(t, bad.WriteFiles(h.path("bad.pem"), h.path("bad.key")))

	play := func(cert string, more ...string) (audit.Report, error) {
		t.Helper()
		out, err := h.plain(append([]string{"selftest", "--json", "--to", h.smtp, "--cert", h.path(cert + ".pem"), "--key", h.path(cert + ".key"),
			"--from", "autotest@" + patientDomain}, more...)...)
		var r audit.Report
		if jerr := json.Unmarshal([]byte(out), &r); jerr != nil {
			t.Fatalf("%v: %v\n%s", err, jerr, out)
		}
		return r, err
	}
	stored := func(want int64) {
		t.Helper()
		out, err := h.run("bal", "show", to, "--json")
		must(t, err)
		var b struct{ Messages int64 }
		must(t, json.Unmarshal([]byte(out), &b))
		if b.Messages != want {
			t.Errorf("%d messages are kept, want %d", b.Messages, want)
		}
	}
	all := func(r audit.Report, err error, n int) {
		t.Helper()
		if err != nil || !r.OK || r.Passed != n || len(r.Cases) != n {
			t.Errorf("%v, %d of %d passed, want %d: %+v", err, r.Passed, len(r.Cases), n, r.Cases)
		}
	}
	r, err := play("peer") // to the postmaster, whose place the only ORG BAL takes
	all(r, err, 7)
	r, err = play("peer", "--rcpt", to, "--anchors", h.path("anchors.pem"), "--name", "localhost")
	all(r, err, 8)
	stored(0)
	r, err = play("peer", "--rcpt", to, "--anchors", h.path("anchors.pem"), "--send")
	all(r, err, 8)
	stored(1)

	r, err = play("bad", "--rcpt", to)
	if err == nil || r.OK || r.Failed != 1 || r.Passed != 1 || r.NotPlayed != len(r.Cases)-2 {
		t.Errorf("a foreign certificate: %v, %d failed, %d passed, %d not played", err, r.Failed, r.Passed, r.NotPlayed)
	}
	r, err = play("peer", "--rcpt", to, "--anchors", h.path("other.pem"), "--send")
	if err == nil || r.OK {
		t.Errorf("a front whose certificate is of another authority: %v", err)
	}
	stored(1)
}

// What does not fit together is said before anything is done.
func TestSelftestOptions(t *testing.T) {
	good := []string{"--to", "127.0.0.1:1", "--cert", "c", "--key", "k", "--from", "a@b.test"}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--send"}, "go with --to"},
		{[]string{"--to", "host"}, "expected host:port"},
		{[]string{"--to", "host:25"}, "--cert and --key"},
		{slices.Concat(good[:6], []string{"--from", "nobody"}), "--from"},
		{slices.Concat(good[:6], []string{"--from", "a@b.test>\r\nDATA"}), "--from"},
		{slices.Concat(good, []string{"--rcpt", "x y@z.test"}), "--rcpt"},
		{slices.Concat(good, []string{"--send", "--rcpt", "a@b.test"}), "--send needs"},
		{slices.Concat(good, []string{"--send", "--anchors", "a.pem"}), "--send needs"},
	} {
		c := newSelftest()
		c.SetArgs(tt.args)
		c.SilenceErrors, c.SilenceUsage = true, true
		if err := c.ExecuteContext(t.Context()); err == nil || exitStatus(err) != exitUsage || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want wrong use that names %q", tt.args, err, tt.want)
		}
	}
}
