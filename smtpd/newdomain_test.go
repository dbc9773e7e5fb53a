package smtpd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/directory/whitelist"
)

// A domain that only the list of this minute binds to the peer is no reason for a 550, in From as in the envelope.
func TestHeaderFromOfANewDomain(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.HeaderFrom = RefuseFrom })
	signer := must(w.pki.Signer("signataire.test", "liste@mssante.test"))(t)
	var list bytes.Buffer
	check(t, whitelist.Make(&list, []whitelist.Binding{
		{Domain: "patient.mssante.test", DN: w.peers["patient"].DN(), Description: "patients"},
		{Domain: "nouveau.test", DN: w.peers["patient"].DN(), Description: "patients"},
		{Domain: "autre.test", DN: w.peers["other"].DN(), Description: "autre"},
		{Domain: "officine.test", DN: w.peers["self"].DN(), Description: "nous"},
		{Domain: "bref.test", DN: w.peers["brief"].DN(), Description: "bref"},
	}, signer.Cert, signer.Key, time.Now().Add(-time.Minute)))
	check(t, os.WriteFile(filepath.Join(w.root, "list.xml"), list.Bytes(), 0o600))
	msg := strings.Replace(prescription, "From: <"+patient+">\r\n", "From: <suivi@nouveau.test>\r\n", 1)
	say := func(want string) {
		p := w.secure("patient")
		p.cmd("MAIL FROM:<"+patient+">", "250")
		p.cmd("RCPT TO:<"+pharmacy+">", "250")
		p.cmd("DATA", "354")
		p.send(msg + ".\r\n")
		p.expect(want)
	}
	say("451 4.7.1") // the list was looked at less than a minute ago
	check(t, w.srv.List.Reload(t.Context()))
	say("250")
}
