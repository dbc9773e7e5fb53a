package smtpd

import (
	"strings"
	"testing"
	"time"
)

// TestQuotaOfSubmission: what a message that was stored took of the hour stays taken; all else does not count.
func TestQuotaOfSubmission(t *testing.T) {
	q := &Quota{Person: 3}
	m := newMembers(t, func(s *Server) {
		q.Now = s.Now
		s.Submission.Quota = q
	})
	p := m.logged(t)
	for range 5 {
		p.cmd("MAIL FROM:<"+pharmacy+">", "250")
		p.cmd("RCPT TO:<"+doctor+">", "250")
		p.cmd("RCPT TO:<personne@officine.test>", "550 5.1.1") // counts for nothing
		p.cmd("RCPT TO:<"+doctor+">", "250")                   // the same
		p.cmd("RCPT TO:<"+pharmacy+">", "250")
		p.cmd("RSET", "250")
	}
	p.cmd("MAIL FROM:<"+pharmacy+">", "250")
	p.cmd("RCPT TO:<"+doctor+">", "250")
	p.cmd("RCPT TO:<"+pharmacy+">", "250")
	p.cmd("DATA", "354")
	p.send("From: <" + doctor + ">\r\n\r\nrefused\r\n.\r\n")
	p.expect("550")
	p.cmd("MAIL FROM:<"+pharmacy+">", "250") // the connection ends in mid-transaction
	p.cmd("RCPT TO:<"+doctor+">", "250")
	p.cmd("RCPT TO:<"+pharmacy+">", "250")
	p.cmd("QUIT", "221")
	p.gone()

	p = m.logged(t)
	p.deliver(pharmacy, doctor, note)
	p.deliver(pharmacy, doctor, "X: 2\r\n"+note)
	p.cmd("MAIL FROM:<"+pharmacy+">", "250")
	p.cmd("RCPT TO:<"+doctor+">", "250")
	r := p.cmd("RCPT TO:<"+pharmacy+">", "450 4.7.1")
	if r != "450 4.7.1 too many recipients within an hour, try again later\r\n" {
		t.Errorf("%q", r)
	}
	p.cmd("DATA", "354") // for those who were accepted
	p.send("X: 3\r\n" + note + ".\r\n")
	p.expect("250 2.0.0")
	again := m.logged(t) // nor on another connection
	again.cmd("MAIL FROM:<"+pharmacy+">", "250")
	again.cmd("RCPT TO:<"+doctor+">", "450 4.7.1")
	if n := q.Refused()["person"]; n != 2 {
		t.Errorf("%d refusals counted", n)
	}
	if n := len(m.inbox(doctor)); n != 3 {
		t.Errorf("%d messages", n)
	}
	if !strings.Contains(m.events.String(), "450 4.7.1") {
		t.Error("the trace does not tell")
	}
	if s := m.logs.String(); !strings.Contains(s, "person=local:anne from="+pharmacy+" cmd=RCPT code=450") {
		t.Error("the log does not tell who reached the limit")
	}
	m.ahead.Store(int64(65 * time.Minute))
	again.cmd("RCPT TO:<"+doctor+">", "250")
}
