package imapd

import (
	"fmt"
	"strings"
	"testing"
)

// appended sends an APPEND and returns how it ends, "" where the connection is cut before that is read.
func (s *session) appended(args, body string) string {
	s.t.Helper()
	s.tag++
	tag := fmt.Sprintf("t%d", s.tag)
	s.send(fmt.Sprintf("%s APPEND %s {%d+}\r\n%s\r\n", tag, args, len(body), body))
	_, tagged := s.until(tag)
	return tagged
}

// A client that did not read the OK of an APPEND does it again: it is told of the first message, and there is one. One that
// went on, other flags, another person, mailbox or date, and a mailbox that has the message no more, make a message of
// their own.
func TestAppendIsNotStoredTwice(t *testing.T) {
	w := newWorld(t, nil)
	const args = `Archive (\Seen $Traite) "14-Mar-2025 10:26:53 +0100"`
	count := func(box string, want int) {
		t.Helper()
		if n := int(w.box(box).Messages); n != want {
			t.Errorf("%d messages in %s, want %d", n, box, want)
		}
	}
	a := w.login(ownerName, "")
	first := a.appended(args, mail)
	a.nc.Close() // it may not have read the answer
	if !strings.HasPrefix(first, "OK [APPENDUID ") {
		t.Fatal(first)
	}
	b := w.login(ownerName, "")
	if again := b.appended(args, mail); again != first {
		t.Errorf("the repetition: %s, want %s", again, first)
	}
	count("Archive", 1)
	b.nc.Close() // not confirmed either
	c := w.login(ownerName, "")
	for _, other := range []string{
		strings.Replace(args, "Archive", "Sent", 1), strings.Replace(args, `\Seen `, "", 1), strings.Replace(args, "$Traite", "$Autre", 1),
		strings.Replace(args, "14-Mar", "15-Mar", 1), "Archive",
	} {
		if got := c.appended(other, mail); !strings.HasPrefix(got, "OK ") || got == first {
			t.Errorf("APPEND %s: %s, want a message of its own", other, got)
		}
	}
	if got := c.appended(args, mail+"x"); !strings.HasPrefix(got, "OK ") || got == first {
		t.Errorf("other octets: %s", got)
	}
	count("Archive", 6)
	if got := c.appended(args, mail); got != first {
		t.Errorf("the repetition: %s, want %s", got, first)
	}
	c.ok("NOOP") // now it has been read
	d := w.login(ownerName, "")
	second := d.appended(args, mail)
	if second == first || !strings.HasPrefix(second, "OK ") {
		t.Errorf("what was confirmed keeps a new message away: %s", second)
	}
	count("Archive", 7)
	d.nc.Close()

	// A message that was moved away since is stored again: the client wants it to be here.
	e := w.login(ownerName, "Archive")
	e.ok("MOVE 7 Trash")
	if got := e.appended(args, mail); got == second || !strings.HasPrefix(got, "OK ") {
		t.Errorf("the first is gone, and the repetition: %s", got)
	}
	count("Archive", 7)
	e.ok("LOGOUT")
	w.stop()
}

// Commands that came in the same octets as the APPEND prove nothing about its OK.
func TestPipelinedAppendIsNotConfirmed(t *testing.T) {
	w := newWorld(t, nil)
	a := w.login(ownerName, "")
	a.send(fmt.Sprintf("p1 APPEND Archive {%d+}\r\n%s\r\np2 NOOP\r\n", len(mail), mail))
	_, first := a.until("p1")
	a.until("p2")
	a.nc.Close()
	b := w.login(ownerName, "")
	if again := b.appended("Archive", mail); again != first {
		t.Errorf("the repetition: %s, want %s", again, first)
	}
	if n := w.box("Archive").Messages; n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}
