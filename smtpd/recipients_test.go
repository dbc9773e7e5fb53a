package smtpd

import (
	"strings"
	"testing"
)

// As many recipients as the configuration allows fit into one message; what goes on for ever does not.
func TestManyRecipients(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxRecipients = 1000 })
	p := w.secure("patient")
	p.cmd("MAIL FROM:<"+patient+">", "250 ")
	p.send(strings.Repeat("RCPT TO:<"+pharmacy+">\r\n", 1000))
	for range 1000 {
		p.expect("250 2.1.5 ")
	}
	p.cmd("DATA", "354")
	p.send(prescription + ".\r\n")
	p.expect("250 2.0.0 ")
	if n := len(w.inbox(pharmacy)); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
	for range 1200 {
		p.cmd("NOOP", "250 ")
	}
	p.cmd("NOOP", "421 4.7.0 ")
	p.gone()
}
