package imapd

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"mssd/store"
	"mssd/trace"
)

// told says whether the trace has an event of this kind.
func (w *world) told(kind trace.Kind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.events, func(e trace.Event) bool { return e.Kind == kind })
}

// await waits for something that the server does by itself.
func (w *world) await(what string, done func() bool) {
	w.t.Helper()
	if err := eventually(func() error {
		if !done() {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// noSession waits until every connection is gone.
func (w *world) noSession() {
	w.t.Helper()
	w.await("the session ends", func() bool { return w.srv.Sessions() == 0 })
}

// bigBox has 32 messages of 1 MB each in INBOX.
func bigBox(w *world) int64 {
	body := mail + strings.Repeat("0123456789abcde\r\n", 1<<16)
	for range 32 {
		w.deliver("INBOX", body)
	}
	return 32 * int64(len(body))
}

// narrow dials with little room for what is not read, so that the server notices at once.
func (w *world) narrow(user string) *session {
	s := w.login(user, "INBOX")
	if c, ok := s.nc.(interface{ NetConn() net.Conn }); ok {
		_ = c.NetConn().(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	return s
}

// TestEndedInFetch: who is no member any more, and is in the midst of reading everything, reads no further: neither who goes on
// reading, nor who waits with a full line.
func TestEndedInFetch(t *testing.T) {
	for _, name := range []string{"reads on", "waits"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			all := bigBox(w)
			s := w.narrow(readerName)
			s.send("x FETCH 1:* BODY.PEEK[]\r\n")
			s.line()
			w.commit(store.EndMember{Address: balAddress, Member: "local:luc"})
			if name == "waits" {
				w.noSession()
				return
			}
			w.await("the session is ended", func() bool { return w.told(trace.Logout) })
			got, _ := io.Copy(io.Discard, s.br)
			if got > all-(4<<20) {
				t.Errorf("%d octets of %d after the end of the membership", got, all)
			}
			w.noSession()
		})
	}
}

// TestEndedInAppend: a message of who is no member any more when it has come is not stored.
func TestEndedInAppend(t *testing.T) {
	w := newWorld(t, nil)
	s := w.login(ownerName, "")
	s.send("x APPEND INBOX {10}\r\n")
	s.line()
	s.send("Subject: ")
	w.commit(store.PutMember{Address: balAddress, Member: store.Member{ID: "local:other", Role: store.Owner}})
	w.commit(store.EndMember{Address: balAddress, Member: "local:anne"})
	s.send("\r\r\n")
	if un, tagged := s.until("x"); strings.HasPrefix(tagged, "OK") {
		t.Errorf("stored: %q %q", un, tagged)
	}
	if n := w.box("INBOX").Messages; n != 0 {
		t.Errorf("%d messages", n)
	}
}
