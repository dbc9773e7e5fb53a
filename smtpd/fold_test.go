package smtpd

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/directory/whitelist"
	"mssd/trace"
)

// One subscriber has 2^64 addresses: refusals from them are alike.
func TestFoldingOfOneNetwork(t *testing.T) {
	now, n := time.Now(), 0
	f := folding{record: func(trace.Event) { n++ }, now: func() time.Time { return now }}
	for i := range 10_000 {
		a := netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
		f.add(foldKey{who: foldAddr(a), cmd: "MAIL", code: "5.7.0"}, trace.Event{})
	}
	if n != foldAfter {
		t.Errorf("%d events of one network, expected %d", n, foldAfter)
	}
	if foldAddr(netip.MustParseAddr("192.0.2.1")) == foldAddr(netip.MustParseAddr("192.0.2.2")) {
		t.Error("two IPv4 addresses are one")
	}
}

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
