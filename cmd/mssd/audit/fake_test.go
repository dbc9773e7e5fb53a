package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"mssd/trace"
)

// fakeFront is an operator front that does as it is told; table is what it answers, by command. Without an entry: 250.
type fakeFront struct {
	cfg   *tls.Config
	table map[string]string
	after string // the command after which the connection is closed
}

func (f fakeFront) serve(c net.Conn) {
	defer c.Close()
	say := func(s string) { fmt.Fprintf(c, "%s\r\n", s) }
	br := bufio.NewReader(c)
	say("220 fake")
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		verb := strings.ToUpper(strings.FieldsFunc(line, func(r rune) bool { return r <= ' ' })[0])
		answer := f.table[verb]
		switch {
		case answer != "":
			say(answer)
		case verb == "STARTTLS":
			say("220 go")
			t := tls.Server(c, f.cfg)
			if t.Handshake() != nil {
				return
			}
			c, br = t, bufio.NewReader(t)
		case verb == "DATA":
			say("354 go")
			for line != ".\r\n" {
				if line, err = br.ReadString('\n'); err != nil {
					return
				}
			}
			say("250 2.0.0 06AMD10CS0000")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
		if verb == f.after {
			return
		}
	}
}

// fakeWitness says that nothing was stored, nothing is in the trace and every file was taken.
type fakeWitness struct{}

func (fakeWitness) Messages(context.Context) (int64, error)  { return 0, nil }
func (fakeWitness) Events() []trace.Event                    { return nil }
func (fakeWitness) Reload(context.Context) ([]string, error) { return nil, nil }

func newTrust(t *testing.T) *Trust {
	t.Helper()
	trust, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// start serves a front with the operator's certificate of a trust space.
func (f fakeFront) start(t *testing.T, trust *Trust) (addr string) {
	t.Helper()
	f.cfg = &tls.Config{Certificates: []tls.Certificate{trust.peers["own"].TLS()}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS10}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return l.Addr().String()
}

// Before a front that takes everything, refuses everything, hangs up, or refuses and takes the message all the same, no
// case passes: also those whose reply is the expected one miss what was stored, the trace, or the refusal of the file.
func TestNothingPassesBeforeABadFront(t *testing.T) {
	trust := newTrust(t)
	for name, f := range map[string]fakeFront{
		"takes everything":          {},
		"refuses everything":        {table: map[string]string{"MAIL": "550 5.7.1 no"}},
		"hangs up":                  {after: "STARTTLS"},
		"refuses and takes it":      {table: map[string]string{"MAIL": "550 5.7.1 certificate not bound to the sender's domain in the white list"}},
		"speaks something else":     {table: map[string]string{"EHLO": "x"}},
		"refuses and then hangs up": {table: map[string]string{"MAIL": "550 5.7.1 no client certificate was presented"}, after: "MAIL"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := f.start(t, trust)
			var r Report
			for _, s := range trust.Stages("http://127.0.0.1:1/") {
				r.Add(trust.Play(t.Context(), s, addr, fakeWitness{}))
			}
			for _, c := range r.Cases {
				// The library that answers for the fake does not renegotiate; TestRenegotiationIsFoundOut has others.
				if c.Outcome == Pass && c.Name != "TLS renegotiation in mid-session" {
					t.Errorf("%d %s passed: %+v", c.Number, c.Name, c.Steps)
				}
			}
			if r.OK || r.Passed > 1 || len(r.Cases) < 40 {
				t.Errorf("OK %v, %d of %d passed", r.OK, r.Passed, len(r.Cases))
			}
		})
	}
}

// A refusal that does not hold is found although the reply is the right one.
func TestRefusalMustHold(t *testing.T) {
	trust := newTrust(t)
	for _, tt := range []struct {
		table map[string]string
		after string
		want  string
	}{
		{map[string]string{"MAIL": "550 5.7.1 no"}, "", "RCPT was answered 250"},
		{map[string]string{"MAIL": "550 5.7.1 no", "RCPT": "503 5.5.1 no"}, "", "DATA was answered 354"},
		{map[string]string{"MAIL": "550 5.7.1 no", "RCPT": "503 5.5.1 no", "DATA": "503 5.5.1 no", "QUIT": "500 what"}, "", "QUIT after the refusal: 500"},
		{map[string]string{"MAIL": "550 5.7.1 no"}, "MAIL", "RCPT after the refusal: connection closed"},
		{map[string]string{"MAIL": "550 5.7.1 no", "RCPT": "503 5.5.1 no", "DATA": "503 5.5.1 no"}, "", ""},
		{map[string]string{"RCPT": "550 5.1.1 no"}, "", "DATA was answered 354"},
	} {
		addr := fakeFront{table: tt.table, after: tt.after}.start(t, trust)
		f := front{addr: addr, name: Hostname, roots: trust.roots()}
		c, err := f.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := (&player{trust: trust}).from("partner", sender)
		if s := c.open(f, m); s.At != "" {
			t.Fatalf("%+v", s)
		}
		s := c.deliver(m, trust.message(m, 1))
		if got := fmt.Sprint(s.fault); tt.want == "" && s.fault != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%v: fault %v, want %q", tt.table, s.fault, tt.want)
		}
		c.close()
	}
}

// What was not played in time has failed: a hanging front makes no good report.
func TestNoTimeIsNoPass(t *testing.T) {
	trust := newTrust(t)
	addr := fakeFront{}.start(t, trust)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var r Report
	r.Add(trust.Play(ctx, trust.Stages("")[0], addr, fakeWitness{}))
	if r.OK || r.Passed != 0 || r.Failed < 40 {
		t.Errorf("OK %v, %d passed, %d failed", r.OK, r.Passed, r.Failed)
	}
}

// The text names what an auditor looks for, and no line of it holds a control character.
func TestReportText(t *testing.T) {
	n := int64(0)
	r := Report{Program: "mssd selftest", Version: "1.2", Host: "h.test", Authorities: []Authority{{"CN=A", "00ff"}}}
	r.Add([]Result{{Name: "one", Audit: "cert-expire-audit", Outcome: Fail, Steps: []Step{{Expected: "MAIL 550", Seen: "MAIL 250 ok", Stored: &n, Faults: []string{"another reply"}}}},
		{Name: "two", Outcome: NotPlayed, Why: "because"}})
	var b bytes.Buffer
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version    1.2\n", "authority  CN=A, SHA-256 00ff\n", "  1  FAIL        one  [cert-expire-audit]\n",
		"     seen        MAIL 250 ok; stored: 0\n", "     FAULT       another reply\n", "  2  NOT PLAYED  two\n", "2 cases: 0 PASS, 1 FAIL, 1 not played"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &b)
		}
	}
	if slices.ContainsFunc(b.Bytes(), func(c byte) bool { return c < ' ' && c != '\n' }) {
		t.Error("a control character")
	}
}

// A reply of any form is read within bounds and shown in one printable line.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "\r\n", "25\n", "250-\x1b[2J\r\n250 \x07\r\n", strings.Repeat("x", 5000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		a, b := net.Pipe()
		go func() { _, _ = b.Write(in); b.Close() }()
		p := &peer{conn: a, br: bufio.NewReaderSize(a, lineOctets)}
		r, err := p.reply()
		a.Close()
		if err == nil && (len(r) < 3 || len(r) > lineOctets || strings.ContainsFunc(r, func(c rune) bool { return c < ' ' || c > '~' })) {
			t.Errorf("%q", r)
		}
	})
}

// From outside nothing passes before a front that takes everything, or that refuses everything; one that cannot be
// reached, or shows a certificate of another authority, passes nothing either. No message is sent in any case.
func TestNothingPassesFromOutside(t *testing.T) {
	trust := newTrust(t)
	for name, tt := range map[string]struct {
		f      fakeFront
		passed string // the one case that may
	}{
		"takes everything":   {fakeFront{table: map[string]string{"DATA": "421 a message was sent"}}, "the operator's own certificate"},
		"refuses everything": {fakeFront{table: map[string]string{"MAIL": "550 5.7.1 no", "RCPT": "503 no"}}, "no TLS: mail without STARTTLS"},
		"hangs up":           {fakeFront{after: "EHLO"}, ""},
		"defers everything":  {fakeFront{table: map[string]string{"MAIL": "451 4.7.1 later", "RCPT": "503 no"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr := tt.f.start(t, trust)
			partner := trust.peers["partner"].TLS()
			o := Outside{Addr: addr, Name: Hostname, Roots: trust.roots(), Cert: partner, From: sender, Rcpt: Active}
			for _, c := range PlayOutside(t.Context(), o) {
				if c.Outcome == Pass && c.Name != tt.passed {
					t.Errorf("%s passed: %+v", c.Name, c.Steps)
				}
				for _, s := range c.Steps {
					if strings.Contains(s.Seen, "a message was sent") {
						t.Errorf("%s: %s", c.Name, s.Seen)
					}
				}
			}
		})
	}
}

// A refusal from outside is not mistaken for a fault or a limit of the front, nor they for it.
func TestIsRefused(t *testing.T) {
	for _, tt := range []struct {
		at, reply string
		want      bool
	}{
		{"MAIL", "550 5.7.1 certificate revoked", true},
		{"RCPT", "554 5.7.1 <x>: Recipient address rejected: Access denied", true},
		{"EHLO", "421 4.7.1 localhost Error: Client certificate not trusted", true}, // Postfix
		{"EHLO", alertPrefix + "unknown certificate authority", true},
		{"STARTTLS", alertPrefix + "protocol version not supported", true},

		{"MAIL", "250 2.1.0 sender ok", false},
		{"RCPT", "250 2.1.5 recipient ok", false},
		{"MAIL", "451 4.7.1 white list cannot be checked now", false},
		{"RCPT", "450 4.7.1 greylisted", false},
		{"EHLO", "421 4.7.0 too many connections", false},
		{"greeting", "421 4.7.1 no", false},
		{"greeting", "554 5.7.1 no", false},
		{"STARTTLS", "454 4.7.0 TLS not available", false},
		{"STARTTLS", "connection closed without an answer", false},
		{"EHLO", "no answer within 10s", false},
		{"connect", "connection refused", false},
	} {
		if got := isRefused(seen{At: tt.at, Reply: tt.reply}); got != tt.want {
			t.Errorf("%s %s: %v, want %v", tt.at, tt.reply, got, tt.want)
		}
	}
}
