package imapd

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPace: a session that sends without an end is slowed down to the rate, whatever it sends, and answered all the same.
func TestPace(t *testing.T) {
	const rate, many = 40, 120 // burst: 80
	w := newWorld(t, func(s *Server) { s.MaxRate = rate })
	s := w.login(ownerName, "INBOX")
	b := strings.Builder{}
	for i := range many {
		fmt.Fprintf(&b, "p%d %s\r\n", i, [...]string{"NOOP", "%"}[i%2])
	}
	start := time.Now()
	s.send(b.String())
	for i := range many {
		if _, tagged := s.until(fmt.Sprintf("p%d", i)); !strings.HasPrefix(tagged, [...]string{"OK NOOP", "BAD "}[i%2]) {
			s.fail("%s", tagged)
		}
	}
	// LOGIN and SELECT count too.
	if took, least := time.Since(start), time.Duration(many-burst*rate)*time.Second/rate*9/10; took < least {
		t.Errorf("%d commands took %v, want %v at least", many, took, least)
	}
}

func TestPaceOfOne(t *testing.T) {
	const rate = 100
	var p pace
	now := time.Unix(1e9, 0)
	wait := func(want time.Duration) {
		t.Helper()
		if got := p.next(rate, now); got < want-time.Microsecond || got > want+time.Microsecond {
			t.Errorf("%v, want %v", got, want)
		}
	}
	for range burst * rate {
		wait(0)
	}
	wait(10 * time.Millisecond)
	wait(20 * time.Millisecond) // nobody waited: it owes both
	now = now.Add(20 * time.Millisecond)
	wait(10 * time.Millisecond)
	now = now.Add(time.Hour)
	for range burst * rate {
		wait(0)
	}
	now = now.Add(-time.Minute) // a clock that goes back makes nobody wait for long
	wait(10 * time.Millisecond)
}
