package imapd

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/trace"
)

// Whoever tries passwords for ever fills neither the trace nor the log: what is alike is counted, and nothing is left out of
// the count.
func TestRefusedLoginsAreFolded(t *testing.T) {
	const tries = 300
	w := newWorld(t, func(s *Server) { s.MaxFailures, s.MaxCommands = 2*tries, 2*tries })
	s := w.dial()
	for range tries {
		if _, tagged := s.cmd("LOGIN nobody@exemple.test wrong"); !strings.HasPrefix(tagged, "NO ") {
			t.Fatalf("a wrong password: %s", tagged)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.srv.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	w.commit(store.SetBALState{Address: balAddress, State: store.Active}) // takes along what was recorded
	events, told := 0, 0
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind != trace.LoginRefused {
			continue
		}
		events++
		n, err := strconv.Atoi(e.Attr(trace.KeyCount))
		if err != nil {
			n = 1
		}
		told += n
	}
	// "Credentials" and "Throttled", each with what was folded.
	if events > 2*(trace.FoldAfter+1) || told != tries {
		t.Errorf("%d events tell of %d refused logins; want at most %d of %d", events, told, 2*(trace.FoldAfter+1), tries)
	}
	if n := strings.Count(w.logs.String(), `level=INFO msg="login refused"`); n > 11 || // auth has a log of its own
		!strings.Contains(w.logs.String(), "more="+strconv.Itoa(tries-10)) {
		t.Errorf("%d lines in the log, want 10 and one that counts the others", n)
	}
}
