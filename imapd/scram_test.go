package imapd

import (
	"strings"
	"testing"

	"mssd/auth"
)

// TestScramDowngrade: whose list of mechanisms was cut short on the way is refused, and the trace says so; where PLUS is not
// offered the same words are taken.
func TestScramDowngrade(t *testing.T) {
	first := "AUTHENTICATE SCRAM-SHA-256 " + base64Of("y,,n="+ownerName+",r=fyko")
	w := newWorld(t, func(s *Server) { s.Mechanisms = []string{auth.ScramSHA256Plus, auth.ScramSHA256, auth.Plain} })
	s := w.dial()
	if l := s.line(); !strings.Contains(l, "AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 ") {
		t.Errorf("greeting %q", l)
	}
	s.want(first, "NO [AUTHENTICATIONFAILED]")
	s.want("AUTHENTICATE SCRAM-SHA-256-PLUS "+base64Of("n,,n="+ownerName+",r=fyko"), "NO [AUTHENTICATIONFAILED]")
	s.want("AUTHENTICATE SCRAM-SHA-256 "+base64Of("n,,n="+ownerName+",m=x,r=fyko"), "BAD ")
	s.want("NOOP", "OK")
	w.stop()
	w.mu.Lock()
	reasons := ""
	for _, e := range w.events {
		for _, a := range e.Attrs {
			reasons += " " + a.Value
		}
	}
	w.mu.Unlock()
	for _, want := range []string{"ChannelBindingDowngrade", "ChannelBindingMissing"} {
		if !strings.Contains(reasons, want) {
			t.Errorf("the trace does not say %s:%s", want, reasons)
		}
	}

	w = newWorld(t, func(s *Server) { s.Mechanisms = []string{auth.ScramSHA256} })
	s = w.dial()
	s.line()
	if _, l := s.start(first); !strings.HasPrefix(l, "+ ") {
		t.Errorf("without PLUS: %q", l)
	}
}
