package smtpd

import (
	"strings"
	"testing"

	"mssd/auth"
)

// TestScramDowngrade: whose list of mechanisms was cut short on the way is refused; where PLUS is not offered the same words are
// taken.
func TestScramDowngrade(t *testing.T) {
	first := "AUTH SCRAM-SHA-256 " + b64("y,,n="+pharmacy+",r=fyko")
	m := newMembers(t, func(s *Server) { s.Submission.Mechanisms = []string{auth.ScramSHA256Plus, auth.ScramSHA256} })
	p := m.secure("none")
	if r := p.cmd("EHLO client.test", "250 "); !strings.Contains(r, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256") {
		t.Errorf("%q", r)
	}
	p.cmd(first, "535 5.7.8")
	p.cmd("AUTH SCRAM-SHA-256-PLUS "+b64("n,,n="+pharmacy+",r=fyko"), "535 5.7.8")
	p.cmd("AUTH SCRAM-SHA-256 "+b64("n,,n="+pharmacy+",m=x,r=fyko"), "501 5.5.2")
	p.cmd("MAIL FROM:<"+pharmacy+">", "530 5.7.0")
	m = newMembers(t, func(s *Server) { s.Submission.Mechanisms = []string{auth.ScramSHA256} })
	m.secure("none").cmd(first, "334 ")
}
