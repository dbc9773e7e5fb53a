package smtpd

import (
	"strings"
	"testing"
)

// The domain of From is judged like that of the envelope: noted by default, refused or ignored by setting.
func TestHeaderFrom(t *testing.T) {
	for _, tc := range []struct{ name, from, result string }{
		{"own", "<" + patient + ">", "x-mssante-from=pass header.from=patient.mssante.test"},
		{"of another operator", "<medecin@autre.test>", "x-mssante-from=fail header.from=autre.test"},
		{"outside the trust space", "<274999999999999@274999999999999>", "x-mssante-from=fail"},
		{"own and another", "<" + patient + ">, <medecin@autre.test>", "x-mssante-from=fail header.from=autre.test"},
		{"forged result", "<a@x.test;x-tls-client-cert=pass>", "x-mssante-from=fail"},
		{"none", "", "x-mssante-from=none"},
	} {
		msg := strings.Replace(prescription, "From: <"+patient+">\r\n", "From: "+tc.from+"\r\n", 1)
		if tc.from == "" {
			msg = strings.Replace(prescription, "From: <"+patient+">\r\n", "", 1)
		}
		t.Run("note/"+tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.secure("patient").deliver(patient, pharmacy, msg)
			prefix, _, _ := strings.Cut(w.inbox(pharmacy)[0], "Received:")
			unfolded := strings.ReplaceAll(prefix, "\r\n ", " ")
			if !strings.Contains(unfolded, "; "+tc.result+"\r\n") {
				t.Errorf("want %q in %q", tc.result, unfolded)
			}
			if log := w.logs.String() + w.events.String(); strings.Contains(log, patientINS) {
				t.Error("a patient's number stands in the log or the trace")
			}
		})
		t.Run("refuse/"+tc.name, func(t *testing.T) {
			w := newWorld(t, func(s *Server) { s.HeaderFrom = RefuseFrom })
			p := w.secure("patient")
			if strings.Contains(tc.result, "=pass") {
				p.deliver(patient, pharmacy, msg)
				return
			}
			p.cmd("MAIL FROM:<"+patient+">", "250")
			p.cmd("RCPT TO:<"+pharmacy+">", "250")
			p.cmd("DATA", "354")
			p.send(msg + ".\r\n")
			p.expect("550 5.7.1")
			p.cmd("NOOP", "250") // the connection goes on
			if n := len(w.inbox(pharmacy)); n != 0 {
				t.Errorf("%d messages were stored", n)
			}
		})
	}
	w := newWorld(t, func(s *Server) { s.HeaderFrom = IgnoreFrom })
	w.secure("patient").deliver(patient, pharmacy, prescription)
	if strings.Contains(w.inbox(pharmacy)[0], "x-mssante-from") {
		t.Error("From was judged against the setting")
	}
}
