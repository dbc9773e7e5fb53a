package smtpd

import (
	"io"
	"log/slog"
	"net/mail"
	"strings"
	"testing"

	"mssd/store"
)

// FuzzMember sends any octets once it has logged in. Each reply is well formed, the connection ends, and what is stored says to
// a reader that knows nothing of ours, net/mail, that the BAL of the login wrote it, and nobody else.
func FuzzMember(f *testing.F) {
	envelope := "MAIL FROM:<" + pharmacy + ">\r\nRCPT TO:<" + doctor + ">\r\n"
	for _, s := range []string{
		envelope + "DATA\r\n" + note + ".\r\n",
		envelope + "DATA\r\nFrom: <" + doctor + ">\r\n" + note + ".\r\n",
		envelope + "BDAT 5\r\nFrom:BDAT 28 LAST\r\n <" + pharmacy + ">\r\nQUIT\r\n",
		envelope + "DATA\r\n" + note + "\n.\r\nMAIL FROM:<" + doctor + ">\r\n" + envelope + "DATA\r\n" + note + "\r\n.\r\n",
		"MAIL FROM:<>\r\nRCPT TO:<" + doctor + ">\r\nDATA\r\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n" + note + ".\r\n",
		envelope + "RSET\r\nAUTH PLAIN AGEAYg==\r\nEHLO x\r\nBDAT 4 LAST\r\nab\r\n",
	} {
		f.Add(s)
	}
	m := newMembers(f, func(s *Server) {
		s.Log = slog.New(slog.DiscardHandler)
		s.MaxMessage, s.MinRate = 10_000, -1
	})
	bal := must(m.store.BAL(store.Address(doctor)))(f)
	box := must(m.store.Mailbox(bal.ID, "INBOX"))(f)
	var seen store.UID
	f.Fuzz(func(t *testing.T, in string) {
		p := m.logged(t)
		p.hostile(t, []byte(in))
		m.as(t).allFromPharmacy(t, bal.ID, box, &seen)
	})
}

// allFromPharmacy looks at each message of a mailbox that it has not seen yet.
func (w *world) allFromPharmacy(t *testing.T, bal store.BALID, box store.Mailbox, seen *store.UID) {
	snap := must(w.store.Snapshot(box.Ref, false))(t)
	check(t, w.store.Rows(t.Context(), box.Ref, snap.Runs, func(r store.Row) bool {
		if r.UID <= *seen {
			return true
		}
		*seen = r.UID
		c := must(w.store.OpenMessage(bal, r.Message))(t)
		defer c.Close()
		raw := must(io.ReadAll(io.NewSectionReader(c, 0, c.Size())))(t)
		msg, err := mail.ReadMessage(strings.NewReader(string(raw)))
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			return true
		}
		for name, needed := range map[string]bool{"From": true, "Sender": false} {
			if len(msg.Header[name]) == 0 && !needed {
				continue
			}
			if list, err := msg.Header.AddressList(name); err == nil && (len(list) != 1 || !strings.EqualFold(list[0].Address, pharmacy)) || len(msg.Header[name]) != 1 {
				t.Errorf("%s is %q, read as %v in %q", name, msg.Header[name], list, raw)
			}
		}
		if path := msg.Header["Return-Path"]; len(path) != 1 || path[0] != "<>" && !strings.EqualFold(path[0], "<"+pharmacy+">") {
			t.Errorf("Return-Path is %q in %q", path, raw)
		}
		return true
	}))
}
