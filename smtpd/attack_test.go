package smtpd

import (
	"crypto/tls"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/tlsconf/testpki"
)

// Each test here is a hole that go-smtp alone has, or an attack that was seen in the wild.

// A transfer that times out must not continue as commands (go-smtp issue #196).
func TestTimedOutDataIsNotRunAsCommands(t *testing.T) {
	for _, how := range []string{"DATA", "BDAT 2000 LAST"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, func(s *Server) { s.ReadTimeout = 200 * time.Millisecond })
			p := w.secure("patient")
			p.send("MAIL FROM:<" + patient + ">\r\nRCPT TO:<" + pharmacy + ">\r\n" + how + "\r\n")
			p.expect("250")
			p.expect("250")
			if how == "DATA" {
				p.expect("354")
			}
			p.send("A: b\r\n\r\nhello\r\n")
			p.expect("421 4.4.2") // after the silence
			_, _ = io.WriteString(p.conn, "RSET\r\nMAIL FROM:<"+patient+">\r\nRCPT TO:<"+pharmacy+">\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n")
			p.gone()
			if n := len(w.inbox(pharmacy)); n != 0 {
				t.Errorf("%d messages were stored", n)
			}
			check(t, w.srv.Shutdown(withTimeout(t)))
			if f := w.spooled(); len(f) != 0 {
				t.Errorf("left in the spool: %v", f)
			}
		})
	}
}

// A sender that drips is cut by the minimum rate, though it is never idle.
func TestSlowSender(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MinRate, s.RateWindow = 100_000, 300*time.Millisecond })
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<"+pharmacy+">", "250")
	p.cmd("DATA", "354")
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := io.WriteString(p.conn, "x\r\n"); err != nil {
					return
				}
			case <-stop:
				return
			}
		}
	}()
	p.expect("421 4.4.2")
}

func TestSilentHandshake(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.HandshakeTimeout = 200 * time.Millisecond })
	silent := w.dial()
	silent.expect("220")
	silent.expect("421 4.4.2")
	silent.gone()
	mid := w.dial()
	mid.expect("220")
	mid.cmd("STARTTLS", "220")
	mid.gone()
}

// After a failed handshake nothing is said or done in clear.
func TestFailedHandshakeEndsInSilence(t *testing.T) {
	w := newWorld(t, nil)
	p := w.dial()
	p.expect("220")
	p.cmd("STARTTLS", "220")
	p.send("MAIL FROM:<" + patient + ">\r\nRCPT TO:<" + pharmacy + ">\r\nDATA\r\n")
	rest, _ := io.ReadAll(p.br)
	// TLS itself may answer with an alert record (type 21); text would begin with a digit.
	if len(rest) > 0 && rest[0] != 21 {
		t.Errorf("after a failed handshake: %q", rest)
	}
}

// Commands sent along with STARTTLS belong to the handshake and break it (CVE-2011-0411 and its family).
func TestSTARTTLSInjection(t *testing.T) {
	w := newWorld(t, nil)
	p := w.dial()
	p.expect("220")
	p.send("STARTTLS\r\nRSET\r\nEHLO injected.test\r\n")
	p.expect("220 2.0.0")
	c := tls.Client(p.conn, w.clientConfig("patient"))
	if err := c.Handshake(); err == nil {
		t.Error("the handshake went well, so the injected octets were dropped or kept as commands")
	}
}

func TestSmuggling(t *testing.T) {
	inner := "MAIL FROM:<" + patient + ">\r\nRCPT TO:<" + doctor + ">\r\nDATA\r\nsmuggled\r\n.\r\n"
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r\n\x00.\r\n", "\n.\r"} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			w := newWorld(t, nil)
			p := w.secure("patient")
			p.cmd("MAIL FROM:<"+patient+">", "250")
			p.cmd("RCPT TO:<"+pharmacy+">", "250")
			p.cmd("DATA", "354")
			p.send("A: b\r\n\r\nbody" + end + inner)
			p.expect("550 5.5.2")
			p.cmd("NOOP", "250 2.0.0 ok")
			if n := len(w.inbox(doctor)) + len(w.inbox(pharmacy)); n != 0 {
				t.Errorf("%d messages were stored", n)
			}
		})
	}
}

func TestCommandLineLimits(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	p.cmd("NOOP "+strings.Repeat("x", 4000), "250")
	p.send("NOOP " + strings.Repeat("x", 5000))
	p.expect("500 5.5.6")
	p.gone()
	clear := w.dial()
	clear.expect("220")
	clear.send(strings.Repeat("x", 5000))
	clear.expect("500 5.5.6")
	clear.gone()
}

func TestOddBDAT(t *testing.T) {
	w := newWorld(t, nil)
	for _, line := range []string{"BDAT", "BDAT x", "BDAT -1", "BDAT +1", "BDAT 5 FOO", "BDAT 5 LAST x", "BDAT 99999999999999999999", "BDAT 4294967296"} {
		p := w.secure("patient")
		p.cmd("MAIL FROM:<"+patient+">", "250")
		p.cmd("RCPT TO:<"+pharmacy+">", "250")
		p.send(line + "\r\nQUIT\r\n")
		p.expect("501 5.5.4") // where the chunk would end is unknown
		p.gone()
	}
	huge := w.secure("patient") // a chunk nobody asked for, far over the limit, is not read to its end
	huge.send("BDAT 4294967295\r\n")
	huge.expect("503 5.5.1")
	huge.expect("552 5.3.4")
	huge.gone()
	p := w.secure("patient")
	p.send("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") // without a transaction the chunk is dropped, not run
	p.expect("503 5.5.1")
	p.expect("250 2.0.0 ok")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<"+pharmacy+">", "250")
	p.send("BDAT 6\r\nA: b\r\n")
	p.expect("250 2.0.0")
	p.cmd("DATA", "503")
	p.cmd("MAIL FROM:<"+patient+">", "503")
	p.cmd("RCPT TO:<"+doctor+">", "503")
	p.cmd("RSET", "250")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<"+doctor+">", "250")
	p.send("BDAT 6 LAST\r\nC: d\r\n")
	p.expect("250 2.0.0")
	if len(w.inbox(pharmacy)) != 0 || len(w.inbox(doctor)) != 1 || !strings.HasSuffix(w.inbox(doctor)[0], "\r\nC: d\r\n") {
		t.Error("the message before RSET was stored, or the one after was not")
	}
	check(t, w.srv.Shutdown(withTimeout(t)))
	if f := w.spooled(); len(f) != 0 {
		t.Errorf("left in the spool: %v", f)
	}
}

// A connection that breaks in mid-message leaves nothing.
func TestDroppedTransfer(t *testing.T) {
	for _, how := range []string{"DATA", "BDAT 2000 LAST", "BDAT 12"} {
		w := newWorld(t, nil)
		p := w.secure("patient")
		p.send("MAIL FROM:<" + patient + ">\r\nRCPT TO:<" + pharmacy + ">\r\n" + how + "\r\n")
		p.expect("250")
		p.expect("250")
		p.send("A: b\r\n\r\nbody")
		p.conn.Close()
		check(t, w.srv.Shutdown(withTimeout(t)))
		if f := w.spooled(); len(f) != 0 || len(w.inbox(pharmacy)) != 0 {
			t.Errorf("%s: left in the spool: %v", how, f)
		}
	}
}

func TestTooManyErrors(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxErrors = 5 })
	p := w.secure("patient")
	for range 5 {
		p.cmd("BOGUS", "500 5.5.2")
	}
	p.cmd("BOGUS", "500 5.5.2")
	p.expect("421 4.7.0")
	p.gone()
	p = w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	for range 6 {
		p.cmd("RCPT TO:<nobody@officine.test>", "550 5.1.1")
	}
	p.expect("421 4.7.0 too many refused recipients")
	p.gone()
	p = w.secure("patient")
	for range maxJunk + w.srv.lib.MaxRecipients - 1 {
		p.cmd("NOOP", "250")
	}
	p.cmd("NOOP", "421 4.7.0")
	p.gone()
	clear := w.dial()
	clear.expect("220")
	for range maxClearErrors + 1 {
		clear.cmd("MAIL FROM:<"+patient+">", "530 5.7.0")
	}
	clear.expect("421 4.7.0")
	clear.gone()
}

func TestTooManyRecipientsAndConnections(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxRecipients, s.MaxConnsPerAddr = 1, 2 })
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<"+pharmacy+">", "250")
	p.cmd("RCPT TO:<"+doctor+">", "452 4.5.3")
	w.dial().expect("220")
	third := w.dial()
	third.expect("421 4.7.0")
	third.gone()
}

// A peer revoked, or whose trust data changed, is refused on a kept connection.
func TestVerdictIsTakenAgainAtMAIL(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	p.deliver(patient, pharmacy, prescription)
	w.pki = must(testpki.New())(t) // other authorities now
	check(t, w.pki.WriteAnchors(filepath.Join(w.root, "anchors.pem")))
	w.revoke(time.Now().Add(-time.Hour))
	p.cmd("MAIL FROM:<"+patient+">", "550 5.7.1")
	p.cmd("QUIT", "221")
}

// The judgement holds for resumed sessions too: they carry no new certificate.
func TestResumedSessions(t *testing.T) {
	for _, tc := range []struct{ who, want string }{{"patient", "250"}, {"stranger", "550 5.7.1"}, {"none", "550 5.7.1"}} {
		w := newWorld(t, nil)
		cfg := w.clientConfig(tc.who)
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		resumed := false
		for range 3 {
			p := w.dial()
			p.expect("220")
			p.cmd("STARTTLS", "220")
			c := tls.Client(p.conn, cfg)
			check(t, c.Handshake())
			resumed = c.ConnectionState().DidResume
			p.conn = c
			p.br.Reset(c)
			p.cmd("EHLO x", "250")
			p.cmd("MAIL FROM:<"+patient+">", tc.want)
			p.cmd("QUIT", "221")
		}
		if !resumed {
			t.Errorf("%s: no session was resumed: nothing was tested", tc.who)
		}
	}
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && inCI() {
		t.Fatalf("%s is missing, and this is CI", name)
	} else if err != nil {
		t.Skipf("%s is missing", name)
	}
	return path
}
