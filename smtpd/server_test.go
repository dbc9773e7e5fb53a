package smtpd

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"mssd/directory"
	"mssd/store"
	"mssd/trace"
)

func TestMessageIsStoredAsSent(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	msg := prescription + "..dot\r\n.\r\n" // as on the wire: ".dot"
	p.cmd("MAIL FROM:<"+patient+"> SIZE=500 BODY=8BITMIME RET=HDRS ENVID=QQ+2B1", "250 2.1.0")
	p.cmd("RCPT TO:<Pharmacie@OFFICINE.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;pharmacie+40officine.test", "250 2.1.5")
	p.cmd("DATA", "354")
	p.send(msg)
	id := strings.TrimSpace(strings.TrimPrefix(p.expect("250 2.0.0 "), "250 2.0.0 "))
	p.cmd("QUIT", "221")

	tid, err := trace.ParseID(id)
	if err != nil {
		t.Fatalf("the 250 says %q, want a trace id: %v", id, err)
	}
	got := w.inbox(pharmacy)
	if len(got) != 1 {
		t.Fatalf("%d messages in the INBOX, want 1", len(got))
	}
	if want := prescription + ".dot\r\n"; !strings.HasSuffix(got[0], "+0000\r\n"+"Original-Recipient: rfc822;pharmacie@officine.test\r\nOriginal-Envelope-Id: QQ+1\r\nX-MSSD-Receipts: NOTIFY=SUCCESS,FAILURE RET=HDRS\r\n"+want) {
		t.Errorf("stored:\n%s\nwant it to end with:\n%s", got[0], want)
	}
	for _, want := range []string{"Return-Path: <" + patient + ">\r\n", "id " + id, "client.test ([127.0.0.1])", "policy.dn=\"CN="} {
		if !strings.Contains(strings.ReplaceAll(got[0], "\r\n ", " "), want) {
			t.Errorf("the prefix lacks %q:\n%s", want, got[0])
		}
	}
	var kinds []string
	for _, e := range must(w.store.Trace(t.Context(), tid))(t) {
		kinds = append(kinds, e.Kind.String())
	}
	if s := strings.Join(kinds, " "); s != "judged recipient committed" {
		t.Errorf("trace of the message: %q", s)
	}
}

func TestSeveralRecipientsShareOneMessage(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	for _, a := range []string{pharmacy, doctor, "PHARMACIE@officine.test", "nobody@officine.test"} {
		p.send("RCPT TO:<" + a + ">\r\n")
	}
	for _, want := range []string{"250", "250", "250", "550 5.1.1"} {
		p.expect(want)
	}
	p.cmd("DATA", "354")
	p.send(prescription + ".\r\n")
	p.expect("250 2.0.0")
	for _, a := range []string{pharmacy, doctor} {
		got := w.inbox(a)
		if len(got) != 1 {
			t.Fatalf("%s has %d messages, want 1", a, len(got))
		}
		head, _, _ := strings.Cut(got[0], "From: ")
		for _, b := range []string{pharmacy, doctor, " for "} {
			if strings.Contains(strings.ToLower(head), b) {
				t.Errorf("the prefix for %s contains %q:\n%s", a, b, head)
			}
		}
	}
}

func TestChunking(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<"+pharmacy+">", "250")
	// The long line of the second chunk comes in one packet with its command: go-smtp alone refuses that.
	long := "X: " + strings.Repeat("y", 70_000) + "\r\n\r\n.\r\nbody without end of line"
	p.send(fmt.Sprintf("BDAT %d\r\n%sBDAT 0\r\nBDAT %d LAST\r\n%sNOOP\r\n", len("A: b\r\n"), "A: b\r\n", len(long), long))
	p.expect("250 2.0.0 continue")
	p.expect("250 2.0.0 continue")
	p.expect("250 2.0.0 0")
	p.expect("250 2.0.0 ok")
	if got := w.inbox(pharmacy); len(got) != 1 || !strings.HasSuffix(got[0], "\r\nA: b\r\n"+long) {
		t.Errorf("stored %d messages, or not as sent", len(got))
	}
}

func TestLongLinesPass(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	msg := "A: b\r\n\r\n" + strings.Repeat("<p>", 100_000) + "\r\n"
	p.deliver(patient, pharmacy, msg)
	if got := w.inbox(pharmacy); len(got) != 1 || !strings.HasSuffix(got[0], msg) {
		t.Error("a message with a line of 300 kB was not stored as sent")
	}
}

func TestRefusedMessages(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxMessage = 100_000 })
	p := w.secure("patient")
	for _, tc := range []struct{ name, msg, want string }{
		{"bare LF", "A: b\r\n\r\nx\ny\r\n", "550 5.5.2"},
		{"bare CR", "A: b\r\n\r\nx\ry\r\n", "550 5.5.2"},
		{"NUL", "A: b\r\n\r\nx\x00y\r\n", "550 5.5.2"},
		{"too large", strings.Repeat("0123456789\r\n", 10_000), "552 5.3.4"},
		{"loop", strings.Repeat("Received: x\r\n", 101) + "\r\n", "554 5.4.6"},
	} {
		p.cmd("MAIL FROM:<"+patient+">", "250")
		p.cmd("RCPT TO:<"+pharmacy+">", "250")
		p.cmd("DATA", "354")
		p.send(tc.msg + ".\r\n")
		p.expect(tc.want)
		p.cmd("NOOP", "250") // the connection goes on, and nothing of the message was a command
		p.cmd("MAIL FROM:<"+patient+">", "250")
		p.cmd("RCPT TO:<"+pharmacy+">", "250")
		if len(tc.msg) < 100_000 {
			p.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(tc.msg), tc.msg))
			p.expect(tc.want)
		}
		p.cmd("RSET", "250")
	}
	p.cmd("MAIL FROM:<"+patient+"> SIZE=100001", "552 5.3.4")
	p.cmd("MAIL FROM:<"+patient+"> SIZE=99999999999999999999", "552 5.3.4")
	if got := w.inbox(pharmacy); len(got) != 0 {
		t.Errorf("%d refused messages were stored", len(got))
	}
	if f := w.spooled(); len(f) != 0 {
		t.Errorf("refused messages left %v", f)
	}
}

// A kept connection may carry any number of messages: the bound on commands is one without messages.
func TestKeptConnection(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	const n = maxJunk/3 + 10
	for i := range n {
		p.deliver(patient, pharmacy, fmt.Sprintf("Message-ID: <%d@x.test>\r\n", i)+prescription)
	}
	if got := len(w.inbox(pharmacy)); got != n {
		t.Errorf("%d messages, want %d", got, n)
	}
}

// Commands that come along with the end of a message are read (RFC 2920, Section 3.1).
func TestPipelinedGroups(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	p.send("MAIL FROM:<" + patient + ">\r\nRCPT TO:<" + pharmacy + ">\r\nDATA\r\n")
	for _, want := range []string{"250", "250", "354"} {
		p.expect(want)
	}
	var group strings.Builder
	for i := range 30 {
		fmt.Fprintf(&group, "N: %d\r\n\r\nx\r\n.\r\nMAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", i, patient, pharmacy)
	}
	p.send(group.String() + "N: last\r\n.\r\nQUIT\r\n")
	for range 30 {
		for _, want := range []string{"250 2.0.0", "250 2.1.0", "250 2.1.5", "354"} {
			p.expect(want)
		}
	}
	p.expect("250 2.0.0")
	p.expect("221")
	p.gone()
	if got := len(w.inbox(pharmacy)); got != 31 {
		t.Errorf("%d messages, want 31", got)
	}
}

// The rule of design §2.6, without any kill: the peer never saw the 250, and sends again.
func TestUnconfirmedIsNotStoredTwice(t *testing.T) {
	w := newWorld(t, nil)
	first := w.secure("patient")
	id1 := first.deliver(patient, pharmacy, prescription)
	first.conn.Close() // a clean end of TLS, but no octet of SMTP

	second := w.secure("patient")
	if id2 := second.deliver(patient, pharmacy, prescription); id2 != id1 {
		t.Errorf("the repetition got %s, want the first id %s", id2, id1)
	}
	if n := len(w.inbox(pharmacy)); n != 1 {
		t.Fatalf("%d copies after a repetition, want 1", n)
	}
	// Now the peer goes on: the same octets again are a message of their own.
	second.cmd("NOOP", "250")
	third := w.secure("patient")
	if id3 := third.deliver(patient, pharmacy, prescription); id3 == id1 {
		t.Error("a confirmed message suppressed a new one")
	}
	third.cmd("QUIT", "221")
	if n := len(w.inbox(pharmacy)); n != 2 {
		t.Errorf("%d copies, want 2", n)
	}
	// Another recipient is another transaction.
	fourth := w.secure("patient")
	fourth.deliver(patient, doctor, prescription)
	if n := len(w.inbox(doctor)); n != 1 {
		t.Errorf("%d messages for the other recipient, want 1", n)
	}
}

func TestLargeMessageInWindows(t *testing.T) {
	if testing.Short() {
		t.Skip("100 MB")
	}
	w := newWorld(t, nil)
	p := w.secure("patient")
	p.deliver(patient, pharmacy, prescription) // warm
	chunk := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1000))
	base := heap()
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<"+doctor+">", "250")
	p.cmd("DATA", "354")
	_ = p.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	peak := uint64(0)
	p.send("A: b\r\n\r\n")
	for i := range (100 << 20) / len(chunk) {
		if _, err := p.conn.Write(chunk); err != nil {
			t.Fatal(err)
		}
		if i%200 == 0 {
			peak = max(peak, heap())
		}
	}
	p.send(".\r\n")
	p.expect("250 2.0.0")
	if peak > base+8<<20 {
		t.Errorf("the heap grew from %d to %d octets during a message of 100 MB", base, peak)
	}
}

func TestShutdown(t *testing.T) {
	w := newWorld(t, nil)
	idle, clear, busy, stuck := w.secure("patient"), w.dial(), w.secure("patient"), w.secure("patient")
	clear.expect("220")
	for _, p := range []*peer{busy, stuck} {
		p.cmd("MAIL FROM:<"+patient+">", "250")
		p.cmd("RCPT TO:<"+pharmacy+">", "250")
		p.cmd("DATA", "354")
		p.send("A: b\r\n\r\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	ended := make(chan error)
	go func() { ended <- w.srv.Shutdown(ctx) }()
	idle.expect("421 4.3.2")
	idle.gone()
	clear.expect("421 4.3.2")
	clear.gone()
	busy.send("body\r\n.\r\n")
	busy.expect("250 2.0.0")
	busy.expect("421 4.3.2")
	busy.gone()
	if err := <-ended; err != context.DeadlineExceeded {
		t.Errorf("Shutdown with a stuck session: %v", err)
	}
	if n, err := io.ReadAll(stuck.br); len(n) > 0 {
		t.Errorf("stuck session read %q, %v", n, err)
	}
	if n := len(w.inbox(pharmacy)); n != 1 {
		t.Errorf("%d messages, want the one that was finished", n)
	}
	if f := w.spooled(); len(f) != 0 {
		t.Errorf("left in the spool: %v", f)
	}
}

// What identifies a patient stands in no log line and no event.
func TestLogsHoldNoSecrets(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	p.deliver(patient, pharmacy, prescription)
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<"+patient+">", "550 5.7.1")
	p.cmd("RCPT TO:<nobody@officine.test>", "550 5.1.1")
	p.cmd("RCPT TO:<"+patientINS+">", "501")
	p.cmd("MAIL FROM:<"+patient+">", "503")
	p.cmd("VRFY "+patient, "252")
	p.cmd("XYZ "+patient, "500")
	p.cmd("RCPT TO:<"+pharmacy+"> ORCPT=rfc822;"+patient, "250")
	p.cmd("DATA", "354")
	p.send(prescription + "x\ny\r\n.\r\n")
	p.expect("550 5.5.2")
	s := w.secure("stranger")
	s.cmd("MAIL FROM:<"+patient+">", "550 5.7.1")
	n := w.secure("none")
	n.cmd("MAIL FROM:<"+patient+">", "550 5.7.1")
	p.cmd("QUIT", "221")
	check(t, w.srv.Shutdown(withTimeout(t)))
	for _, secret := range []string{patientINS, "Ordonnance", "ordonnance", "dupont", "m1@patient"} {
		if logs := w.logs.String(); strings.Contains(logs, secret) {
			t.Errorf("the log holds %q:\n%s", secret, logs)
		}
	}
	if !strings.Contains(w.logs.String(), "message stored") || !strings.Contains(w.logs.String(), "refused") {
		t.Errorf("the log tells nothing:\n%s", w.logs)
	}
}

func withTimeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestPanicEndsOneConnectionOnly(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.Directory = panicking{} })
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250")
	p.cmd("RCPT TO:<"+pharmacy+">", "421 4.3.0")
	p.gone()
	if logs := w.logs.String(); !strings.Contains(logs, "panic") || strings.Contains(logs, "secret value") {
		t.Errorf("log of a panic:\n%s", logs)
	}
	w.secure("patient").cmd("NOOP", "250")
}

// A full disk is met at MAIL: the size announced counts.
func TestNoSpace(t *testing.T) {
	w := newWorld(t, func(s *Server) {
		full := must(store.Open(store.Options{Dir: t.TempDir(), Create: true, SpaceFloor: 1 << 62}))(t)
		t.Cleanup(func() { full.Close() })
		s.Store = full
	})
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "452 4.3.1")
	p.cmd("NOOP", "250")
}

type panicking struct{}

func (panicking) Decide(context.Context, directory.Query) directory.Decision { panic("secret value") }

func (panicking) Later(directory.Query, directory.Decision, func(directory.Decision)) {}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
