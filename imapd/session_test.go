package imapd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/store"
	"mssd/trace"
)

func createOp(w *world, name string) store.Op { return store.CreateMailbox{BAL: w.bal.ID, Name: name} }

// TestTwoSessions: what one does the other learns, at the moments the RFC allows, with the right numbers.
func TestTwoSessions(t *testing.T) {
	w := newWorld(t, nil)
	for range 4 {
		w.deliver("INBOX", mail)
	}
	a, b := w.login(ownerName, "INBOX"), w.login(ownerName, "INBOX")
	a.ok(`STORE 2:3 +FLAGS (\Deleted)`)
	expect(b, b.ok("NOOP"), `* 2 FETCH (FLAGS (\Deleted))`, `* 3 FETCH (FLAGS (\Deleted))`)
	expect(a, a.ok("EXPUNGE"), "* 3 EXPUNGE", "* 2 EXPUNGE")

	// b has not been told: its numbers still mean the old messages.
	expect(b, b.ok("FETCH 4 UID"), "* 4 FETCH (UID 4)")
	expect(b, b.want("FETCH 2 FLAGS", "NO [EXPUNGEISSUED]"))
	expect(b, b.want(`STORE 3:4 +FLAGS (\Flagged)`, "NO [EXPUNGEISSUED]"), `* 4 FETCH (FLAGS (\Flagged))`)
	expect(b, b.want(`STORE 1:3 +FLAGS.SILENT (\Answered)`, "OK [EXPUNGEISSUED]")) // RFC 2180, Section 4.2.1
	expect(b, b.ok("UID FETCH 2 UID"), "* 3 EXPUNGE", "* 2 EXPUNGE")               // UID commands may tell
	expect(b, b.ok("FETCH 2 UID"), "* 2 FETCH (UID 4)")
	expect(a, a.ok("NOOP"), `* 1 FETCH (FLAGS (\Answered \Recent))`, `* 2 FETCH (FLAGS (\Flagged \Recent))`)
	a.ok(`STORE 1 -FLAGS.SILENT (\Answered)`)
	expect(b, b.ok("NOOP"), "* 1 FETCH (FLAGS ())")

	// A silent change is silent to its author alone.
	expect(a, a.ok(`STORE 1 +FLAGS.SILENT (\Seen)`))
	expect(a, a.ok("NOOP"))
	expect(b, b.ok("NOOP"), `* 1 FETCH (FLAGS (\Seen))`)
}

func expect(s *session, got []string, want ...string) {
	s.t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.fail("got  %q\nwant %q", got, want)
	}
}

// TestIdlePush: changes of others reach an idling session at once, and it is told that the server lives.
func TestIdlePush(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.KeepAlive = 50 * time.Millisecond })
	a, b := w.login(ownerName, "INBOX"), w.login(ownerName, "INBOX")
	a.send("i IDLE\r\n")
	a.line()
	next := func() string {
		for {
			if l := a.line(); l != "* OK Still here" {
				return l
			}
		}
	}
	if l := a.line(); l != "* OK Still here" {
		a.fail("got %q", l)
	}
	w.deliver("INBOX", mail)
	for _, want := range []string{"* 1 EXISTS", "* 1 RECENT"} {
		if l := next(); l != want {
			a.fail("got %q, want %q", l, want)
		}
	}
	b.ok("NOOP")
	b.ok(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	if l := next(); !strings.HasPrefix(l, `* 1 FETCH (FLAGS (\Deleted`) {
		a.fail("got %q", l)
	}
	b.ok("EXPUNGE")
	if l := next(); l != "* 1 EXPUNGE" {
		a.fail("got %q", l)
	}
	a.send("DONE\r\n")
	if l := next(); l != "i OK IDLE completed" {
		a.fail("got %q", l)
	}
}

// TestReader: a reader sees all and changes nothing.
func TestReader(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail)
	s := w.login(readerName, "")
	s.want("SELECT INBOX", "OK [READ-ONLY]")
	s.ok("FETCH 1 (BODY[] FLAGS)")
	if w.box("INBOX").Unseen != 1 {
		t.Error("a reader set \\Seen")
	}
	s.want(`STORE 1 +FLAGS (\Seen)`, "NO ")
	for _, c := range []string{"CREATE x", "DELETE Sent", "RENAME Sent x", "SUBSCRIBE x", "APPEND INBOX {3+}\r\nabc", "COPY 1 Sent", "MOVE 1 Sent"} {
		s.want(c, "NO [NOPERM]")
	}
	if n := w.box("INBOX").Messages; n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestWithdrawn: a right that ends, ends the session at its next act, and an idling one at once.
func TestWithdrawn(t *testing.T) {
	for _, c := range []struct {
		name string
		op   store.Op
	}{
		{"member ended", store.EndMember{Address: balAddress, Member: "local:anne"}},
		{"role lowered", store.PutMember{Address: balAddress, Member: store.Member{ID: "local:anne", Role: store.Reader}}},
		{"BAL suspended", store.SetBALState{Address: balAddress, State: store.Suspended}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(s *Server) { s.KeepAlive = time.Hour })
			a, b, d := w.login(ownerName, "INBOX"), w.login(ownerName, "INBOX"), w.login(ownerName, "")
			for _, s := range []*session{b, d} {
				s.send("i IDLE\r\n")
				if l := s.line(); l != "+ idling" {
					s.fail("got %q", l)
				}
			}
			w.commit(c.op)
			un, _ := a.cmd("FETCH 1:* FLAGS")
			expect(a, un, "* BYE Your right to this mailbox has ended")
			for _, s := range []*session{b, d} {
				if l := s.line(); !strings.HasPrefix(l, "* BYE Your right") {
					s.fail("an idling session heard %q", l)
				}
				if l := s.line(); l != "" {
					s.fail("the connection goes on: %q", l)
				}
			}
			w.commit(store.PutMember{Address: balAddress, Member: store.Member{ID: "local:new", Role: store.Reader}}) // takes along what was recorded
			w.mu.Lock()
			defer w.mu.Unlock()
			n := 0
			for _, e := range w.events {
				if e.Kind == trace.Logout {
					n++
					if e.Person != "local:anne" || e.BAL != balAddress || e.Attr(trace.KeyReason) != "RightEnded" {
						t.Errorf("%s", e.Line())
					}
				}
			}
			if n != 3 {
				t.Errorf("the trace tells of the end of %d sessions, want 3", n)
			}
		})
	}
}

// TestIdleEnds: an IDLE whose end is not DONE, or never comes, ends with a word.
func TestIdleEnds(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.IdleTime = 200 * time.Millisecond })
	for _, c := range []struct{ name, send, want string }{
		{"too long", strings.Repeat("x", 200) + "\r\n", "* BYE "},
		{"bare LF", "DONE\n", "* BYE "},
		{"silence", "", "* BYE Nothing was heard for too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := w.login(ownerName, "INBOX")
			s.send("i IDLE\r\n")
			s.line()
			s.send(c.send)
			if l := s.line(); !strings.HasPrefix(l, c.want) {
				s.fail("got %q, want %q", l, c.want)
			}
			if l := s.line(); l != "" {
				s.fail("the connection goes on: %q", l)
			}
		})
	}
}

// TestMailboxGone: deleting what another session has open ends that session.
func TestMailboxGone(t *testing.T) {
	w := newWorld(t, nil)
	w.commit(createOp(w, "Dossier"))
	a, b := w.login(ownerName, "Dossier"), w.login(ownerName, "")
	b.ok("DELETE Dossier")
	un, _ := a.cmd("NOOP")
	expect(a, un, "* BYE The selected mailbox no longer exists")
}

// TestShutdown: idle sessions hear BYE, in IDLE and out of it; one that never began its handshake holds nothing up.
func TestShutdown(t *testing.T) {
	w := newWorld(t, nil)
	silent, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a, b := w.login(ownerName, "INBOX"), w.login(ownerName, "")
	a.send("i IDLE\r\n")
	a.line()
	w.stop()
	for _, s := range []*session{a, b} {
		if l := s.line(); !strings.HasPrefix(l, "* BYE") {
			s.fail("got %q", l)
		}
	}
}

// TestTrace: who read, flagged, moved and removed what stands in the trace, and no content does.
func TestTrace(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", mail)
	var id store.MessageID
	if err := w.store.Rows(context.Background(), w.box("INBOX").Ref, []store.Run{{First: 1, Count: 1}}, func(r store.Row) bool {
		id = r.Message
		return true
	}); err != nil {
		t.Fatal(err)
	}
	rows := map[trace.Kind]bool{}
	s := w.login(ownerName, "INBOX")
	s.ok("FETCH 1 BODY[]")
	s.ok(`STORE 1 +FLAGS (\Flagged)`)
	s.ok("COPY 1 Archive")
	s.ok("MOVE 1 Trash")
	s.ok("LOGOUT")
	var lines []string
	if err := eventually(func() error {
		lines = lines[:0]
		clear(rows)
		evs, err := w.store.Trace(context.Background(), id)
		if err != nil {
			return err
		}
		for _, e := range evs {
			rows[e.Kind] = true
			lines = append(lines, e.Line())
			if e.Kind == trace.Fetched && (e.Person != "local:anne" || e.UIDs != "1" || e.BAL != balAddress) {
				return fmt.Errorf("fetched: %s", e.Line())
			}
		}
		for _, k := range []trace.Kind{trace.Fetched, trace.Flagged, trace.Copied, trace.Moved} {
			if !rows[k] {
				return fmt.Errorf("no event %v", k)
			}
		}
		return nil
	}); err != nil {
		t.Fatalf("%v in\n%s", err, strings.Join(lines, "\n"))
	}
	for _, secret := range []string{"Durand", "ordonnance", "Ordonnance", password, "demand"} {
		if strings.Contains(strings.Join(lines, "\n")+w.logs.String(), secret) {
			t.Errorf("trace or log holds %q", secret)
		}
	}
}

// eventually asks until there is no error, for what another goroutine does in its own time.
func eventually(f func() error) error {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

// TestDeliveriesAndSessions: deliveries go on while sessions flag, move and fetch; at the end every view is the store.
func TestDeliveriesAndSessions(t *testing.T) {
	w := newWorld(t, nil)
	const deliveries = 60
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for range deliveries {
			if _, err := w.tryDeliver("INBOX", mail); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	sessions := []*session{w.login(ownerName, "INBOX"), w.login(ownerName, "INBOX")}
	for i, s := range sessions {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 30 {
				s.ok("NOOP")
				s.ok("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER])")
				s.ok(fmt.Sprintf(`UID STORE %d:* +FLAGS (\Seen)`, i+1))
				s.ok("UID COPY 1:3 Archive")
			}
		}()
	}
	wg.Wait()
	for _, s := range sessions {
		s.ok("NOOP")
		un := s.ok("FETCH 1:* UID")
		if len(un) != deliveries {
			s.fail("%d messages, want %d", len(un), deliveries)
		}
	}
	if n := w.box("INBOX").Messages; n != deliveries {
		t.Errorf("the store has %d", n)
	}
}
