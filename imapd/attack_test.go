package imapd

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAppendTimeout: a message that stops in the middle ends the connection. Its lines, and whatever comes later,
// are never run as commands.
func TestAppendTimeout(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.IdleTime = 300 * time.Millisecond })
	w.commit(createOp(w, "Precieux"))
	s := w.login(ownerName, "")
	s.send("x1 APPEND INBOX {1000}\r\n")
	if l := s.line(); !strings.HasPrefix(l, "+ ") {
		s.fail("got %q", l)
	}
	s.send("Subject: x\r\nx2 DELETE Precieux\r\n")
	for l := s.line(); l != ""; l = s.line() {
		if strings.HasPrefix(l, "x2") || strings.HasPrefix(l, "x1 OK") {
			s.fail("the message was run as commands: %q", l)
		}
	}
	w.box("Precieux")
	if n := w.box("INBOX").Messages; n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

// TestRefusedLiterals: what a refused literal carries is never run.
func TestRefusedLiterals(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxMessage = 2000 })
	w.commit(createOp(w, "Precieux"))
	evil := "x9 DELETE Precieux\r\n"
	for _, c := range []struct{ name, send, want string }{
		{"APPEND over the limit, small enough to be sent without waiting", fmt.Sprintf("x1 APPEND INBOX {%d+}\r\n%s\r\n", 2500, strings.Repeat(evil, 125)), "x1 NO [TOOBIG]"},
		{"over LITERAL-", fmt.Sprintf("x1 APPEND INBOX {%d+}\r\n%s\r\n", 5000, strings.Repeat(evil, 250)), "* BYE"},
		{"mailbox unknown", fmt.Sprintf("x1 APPEND nowhere {%d+}\r\n%s\r\n", 20, evil), "x1 NO [TRYCREATE]"},
		{"second message over the limit", fmt.Sprintf("x1 APPEND INBOX {3+}\r\nabc {%d+}\r\n%s {20+}\r\n%s\r\n", 2500, strings.Repeat(evil, 125), evil), "x1 NO [TOOBIG]"},
		{"second message over LITERAL-", fmt.Sprintf("x1 APPEND INBOX {3+}\r\nabc {%d+}\r\n%s\r\n", 5000, strings.Repeat(evil, 250)), "* BYE"},
		{"messages for an unknown mailbox", fmt.Sprintf("x1 APPEND nowhere {20+}\r\n%s {20+}\r\n%s\r\n", evil, evil), "x1 NO [TRYCREATE]"},
		{"a flag of the second message", fmt.Sprintf("x1 APPEND INBOX {20+}\r\n%s (\\Recent) {20+}\r\n%s {20+}\r\n%s\r\n", evil, evil, evil), "x1 BAD"},
		{"an empty message, and more", fmt.Sprintf("x1 APPEND INBOX {3+}\r\nabc {0+}\r\n {20+}\r\n%s\r\n", evil), "x1 NO"},
		{"NUL in the second message", fmt.Sprintf("x1 APPEND INBOX {3+}\r\nabc {3+}\r\na\x00b {20+}\r\n%s\r\n", evil), "x1 BAD"},
		{"far too many messages", "x1 APPEND INBOX {20+}\r\n" + strings.Repeat(evil+" {20+}\r\n", 150) + evil + "\r\n", "x1 NO [LIMIT]"},
		{"literal of an ordinary command", fmt.Sprintf("x1 LIST {%d+}\r\n%s\r\n", 5000, strings.Repeat(evil, 250)), "* BYE"},
		{"long line", "x1 SEARCH TEXT \"" + strings.Repeat(evil[:18], 5000) + "\"\r\n" + evil, "* BYE"},
		{"bare LF", "x1 NOOP\nx9 DELETE Precieux\r\n", "* B"},
		{"NUL in a message", "x1 APPEND INBOX {3+}\r\na\x00b\r\n", "x1 BAD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := w.login(ownerName, "")
			go io.WriteString(s.nc, c.send+"x8 NOOP\r\nx7 LOGOUT\r\n")
			first := ""
			for l := s.line(); l != ""; l = s.line() {
				if first == "" {
					first = l
				}
				if strings.HasPrefix(l, "x9") {
					s.fail("data was run as a command: %q", l)
				}
			}
			if !strings.HasPrefix(first, c.want) {
				s.fail("answer %q, want %q", first, c.want)
			}
			w.box("Precieux")
			if n := w.box("INBOX").Messages; n != 0 {
				t.Errorf("%d messages stored", n)
			}
		})
	}
	left, _ := filepath.Glob(filepath.Join(w.dir, "spool", "*"))
	if len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// TestStartTLSInjection: a command sent in clear behind STARTTLS belongs to the handshake (CVE-2011-0411).
func TestStartTLSInjection(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.Implicit = false })
	s := w.dial()
	s.line()
	s.send("x1 STARTTLS\r\nx2 NOOP\r\n")
	if l := s.line(); !strings.HasPrefix(l, "x1 OK") {
		s.fail("got %q", l)
	}
	tc := tls.Client(s.nc, w.client)
	if err := tc.Handshake(); err == nil {
		in := newSession(t, tc)
		in.send("x3 NOOP\r\n")
		for l := in.line(); l != ""; l = in.line() {
			if strings.HasPrefix(l, "x2") {
				in.fail("the injected command was run")
			}
		}
	}
}

// TestSilent: who says nothing is put out, in the handshake and after it.
func TestSilent(t *testing.T) {
	for _, c := range []struct {
		name     string
		implicit bool
		shake    bool
	}{{"implicit TLS, no handshake", true, false}, {"no command", true, true}, {"in clear", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(s *Server) { s.Implicit, s.LoginTime = c.implicit, 300*time.Millisecond })
			nc, err := net.Dial("tcp", w.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(patience))
			if c.implicit && c.shake {
				nc = tls.Client(nc, w.client)
			}
			_, err = io.Copy(io.Discard, nc)
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("still connected")
			}
		})
	}
}

// TestChatter: an absolute deadline holds before login, whatever is said meanwhile, and so does a count.
func TestChatter(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxCommands = 5 })
	s := w.dial()
	s.line()
	for range 5 {
		s.ok("NOOP")
	}
	if un, _ := s.cmd("NOOP"); len(un) != 1 || !strings.HasPrefix(un[0], "* BYE") {
		s.fail("no BYE: %q", un)
	}
}

// TestGuessing: after five failures the connection ends; wrong names and wrong passwords look alike.
func TestGuessing(t *testing.T) {
	w := newWorld(t, nil)
	s := w.dial()
	s.line()
	for i := range 5 {
		un, tagged := s.cmd([]string{`LOGIN nobody@exemple.test x`, `LOGIN "` + ownerName + `" guess`}[i%2])
		if !strings.HasPrefix(tagged, "NO [AUTHENTICATIONFAILED] The name or the password is wrong") && i < 4 {
			s.fail("answer %q", tagged)
		}
		if i == 4 && (len(un) != 1 || !strings.HasPrefix(un[0], "* BYE")) {
			s.fail("no BYE after five failures: %q %q", un, tagged)
		}
	}
	if l := s.line(); l != "" {
		s.fail("the connection goes on: %q", l)
	}
	for _, secret := range []string{"guess", "nobody"} {
		if strings.Contains(w.logs.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// TestHungry: patterns, sets and nesting that cost other servers minutes or gigabytes.
func TestHungry(t *testing.T) {
	w := newWorld(t, nil)
	w.commit(createOp(w, strings.Repeat("a", 60)))
	w.deliver("INBOX", mail)
	s := w.login(ownerName, "INBOX")
	start := time.Now()
	s.ok(`LIST "" ` + strings.Repeat("*a", 30) + "b")
	// With 10,000 mailboxes these would take minutes.
	s.want(`LIST "" (`+strings.Repeat("*"+strings.Repeat("a*", 30)+"b ", 900)+"*)", "BAD")
	s.want(`LIST "%`+strings.Repeat("a", 900)+`" (a b c)`, "BAD")
	s.ok(`LIST "" (` + strings.Repeat("INBOX/un/long/nom/% ", 900) + "*)")
	s.ok("UID FETCH 1:4294967295,4294967290:4294967295,1:* UID")
	s.want("FETCH "+strings.Repeat("1:4294967295,", 3000)+"1 FLAGS", "BAD")
	s.want("SEARCH "+strings.Repeat("NOT ", 2000)+"ALL", "BAD")
	s.ok("UID SEARCH UID " + strings.Repeat("1:4294967295,", 3000) + "1")
	s.ok("FETCH 1 BODY.PEEK[" + strings.Repeat("1.", 40) + "1]")
	s.ok("FETCH 1 BODY.PEEK[]<4294967295.4294967295>")
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

// TestCaps: connections over the cap are told, and the others go on.
func TestCaps(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.Implicit, s.MaxConnsPerAddr = false, 2 })
	a, b, c := w.dial(), w.dial(), w.dial()
	a.line()
	b.line()
	if l := c.line(); !strings.HasPrefix(l, "* BYE [UNAVAILABLE]") {
		c.fail("got %q", l)
	}
	a.ok("NOOP")
}

// TestSlowReader: a client that does not read costs itself only.
func TestSlowReader(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail+strings.Repeat("0123456789abcdef\r\n", 1<<16))
	slow, other := w.login(ownerName, "INBOX"), w.login(ownerName, "INBOX")
	slow.send("x FETCH 1 BODY.PEEK[]\r\nx FETCH 1 BODY.PEEK[]\r\nx FETCH 1 BODY.PEEK[]\r\nx FETCH 1 BODY.PEEK[]\r\n")
	for i := range 20 {
		w.deliver("INBOX", mail)
		other.ok("NOOP")
		other.ok(fmt.Sprintf("STORE %d +FLAGS (\\Seen)", i+2))
	}
}

// TestOpenSSL: another TLS implementation, with STARTTLS.
func TestOpenSSL(t *testing.T) {
	openssl := needProgram(t, "openssl", exec.LookPath)
	w := newWorld(t, func(s *Server) { s.Implicit = false })
	cmd := exec.Command(openssl, "s_client", "-quiet", "-starttls", "imap", "-connect", w.addr, "-CAfile", w.ca, "-verify_return_error", "-servername", "localhost")
	cmd.Stdin = strings.NewReader("a LOGOUT\r\n")
	out, _ := cmd.CombinedOutput()
	if !strings.Contains(string(out), "a OK LOGOUT completed") {
		t.Errorf("openssl: %s", out)
	}
}

// TestFloodWithoutLogin: connections that never log in hold every place there is; a pharmacy still gets in, and who is in
// stays.
func TestFloodWithoutLogin(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxConns, s.MaxConnsPerAddr, s.LoginTime = 20, 1000, time.Hour })
	first := w.login(ownerName, "INBOX")
	for range 60 {
		nc, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
	}
	second := w.login(ownerName, "INBOX")
	first.ok("NOOP")
	second.ok("NOOP")
}
