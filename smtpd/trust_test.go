package smtpd

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/directory/whitelist"
	"mssd/tlsconf"
)

// Our own lack of trust data is never the peer's fault for good.
func TestMissingTrustDataIsTemporary(t *testing.T) {
	for name, change := range map[string]func(*Server){
		"anchors": func(s *Server) {
			s.Judge = must(tlsconf.NewJudge(tlsconf.JudgeConfig{AnchorFiles: []string{filepath.Join(t.TempDir(), "missing")}}))(t)
		},
		"white list": func(s *Server) {
			s.List = must(whitelist.NewKeeper(whitelist.KeeperConfig{StateDir: t.TempDir(), NoListYet: true}))(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newWorld(t, change).secure("patient")
			p.cmd("MAIL FROM:<"+patient+">", "451 4.7.1")
			p.cmd("MAIL FROM:<>", "451 4.7.1")
		})
	}
}

// A certificate that ends during a kept connection ends at its time, not when a verdict grows old.
func TestExpiryDuringAConnection(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("brief")
	p.cmd("MAIL FROM:<dr@bref.test>", "250")
	p.cmd("RSET", "250")
	w.ahead.Store(int64(45 * time.Second))
	p.cmd("MAIL FROM:<dr@bref.test>", "550 5.7.1 certificate expired on ")
}

func TestRevocationDuringAConnection(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("patient")
	p.deliver(patient, pharmacy, prescription)
	at := time.Now().Add(-time.Minute)
	w.revoke(at, w.peers["patient"].Cert.SerialNumber)
	r := p.cmd("MAIL FROM:<"+patient+">", "550 5.7.1 certificate revoked on "+at.UTC().Format(time.DateOnly))
	if !strings.Contains(r, "(serial ") {
		t.Errorf("the refusal does not name the serial number: %s", r)
	}
	// The list is judged, not the handshake: a new connection fares no better, another peer does.
	w.secure("patient").cmd("MAIL FROM:<>", "550 5.7.1 certificate revoked")
	w.secure("other").cmd("MAIL FROM:<dr@autre.test>", "250")
}

// An address that we do not have may be a patient's, misspelt; a sender may be a patient whatever the name of the
// domain. Neither stands in a log or in an event, of refusals too.
func TestUnknownAddressesAreNotWritten(t *testing.T) {
	w := newWorld(t, nil)
	p := w.secure("other")
	p.cmd("MAIL FROM:<"+patientINS+"@autre.test>", "250")
	p.cmd("RCPT TO:<"+patientINS+"@officine.test>", "550 5.1.1")
	p.cmd("RCPT TO:<fermee@officine.test>", "550 5.2.1")
	p.cmd("RCPT TO:<detruite@officine.test>", "550 5.2.1")
	p.cmd("RCPT TO:<"+pharmacy+">", "250")
	p.cmd("DATA", "354")
	p.send(prescription + ".\r\n")
	p.expect("250 2.0.0")
	w.secure("stranger").cmd("MAIL FROM:<"+patientINS+"@autre.test>", "550 5.7.1")
	p.cmd("QUIT", "221")
	check(t, w.srv.Shutdown(withTimeout(t)))
	for name, text := range map[string]string{"log": w.logs.String(), "trace": w.events.String()} {
		if strings.Contains(text, patientINS) {
			t.Errorf("the %s holds a local part:\n%s", name, text)
		}
		if !strings.Contains(text, "fermee@officine.test") {
			t.Errorf("the %s does not name a BAL of ours that was refused:\n%s", name, text)
		}
	}
}

func TestOddMailParameters(t *testing.T) {
	p := newWorld(t, nil).secure("patient")
	p.cmd("MAIL FROM:<@relay.test:>", "501 5.1.3") // a route to nobody is not the null sender
	p.cmd("MAIL FROM:<"+patient+"> SIZE=00000000000500", "250 2.1.0")
}
