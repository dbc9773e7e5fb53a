package imapd

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"mssd/store"
	"mssd/trace"
)

// TestReplaceRace: of ten sessions that save the same draft one wins, nine are told that it is gone, and there is one
// draft at the end.
func TestReplaceRace(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("Drafts", mail)
	const racers = 10
	ends := make([]string, racers)
	sessions := make([]*session, racers)
	for i := range sessions {
		sessions[i] = w.login(ownerName, "Drafts")
	}
	var wg sync.WaitGroup
	for i, s := range sessions {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, ends[i] = s.cmd(fmt.Sprintf("UID REPLACE 1 Drafts {6+}\r\ndraft%d", i))
		}()
	}
	wg.Wait()
	winners := 0
	for _, e := range ends {
		switch {
		case strings.HasPrefix(e, "OK UID REPLACE"):
			winners++
		case !strings.HasPrefix(e, "NO [EXPUNGEISSUED]") && !strings.HasPrefix(e, "NO [NONEXISTENT]"):
			t.Errorf("%q", e)
		}
	}
	if n := w.box("Drafts").Messages; winners != 1 || n != 1 {
		t.Errorf("%d winners, %d drafts: %q", winners, n, ends)
	}
}

// TestReplaceFull: a draft can be saved again in a BAL that is full, as long as it does not grow; else the old one stays.
func TestReplaceFull(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("Drafts", mail)
	size, one := int64(len(prefix+mail)), int64(1)
	w.commit(store.SetQuota{Address: balAddress, Octets: &size, Messages: &one})
	s := w.login(ownerName, "Drafts")
	s.want("APPEND Drafts {3+}\r\nabc", "NO [OVERQUOTA]")
	s.want(fmt.Sprintf("REPLACE 1 Drafts {%d+}\r\n%s", size+1, strings.Repeat("x", int(size)+1)), "NO [OVERQUOTA]")
	s.ok(fmt.Sprintf("REPLACE 1 Drafts {%d+}\r\n%s", size, strings.Repeat("x", int(size))))
	if n := w.box("Drafts").Messages; n != 1 {
		t.Fatalf("%d drafts after a refusal", n)
	}
}

// TestReplaceTrace: what came and what went are told apart in the trace, also within one mailbox.
func TestReplaceTrace(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("Drafts", mail)
	var old store.MessageID
	if err := w.store.Rows(context.Background(), w.box("Drafts").Ref, []store.Run{{First: 1, Count: 1}}, func(r store.Row) bool {
		old = r.Message
		return true
	}); err != nil {
		t.Fatal(err)
	}
	s := w.login(ownerName, "Drafts")
	s.ok("REPLACE 1 Drafts {3+}\r\nabc")
	evs, err := w.store.Trace(context.Background(), old)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range evs {
		if e.Kind == trace.Appended {
			t.Errorf("the old message was appended: %s", e.Line())
		}
		if e.Kind == trace.Expunged {
			found = e.UIDs == "1"
		}
	}
	if !found {
		t.Errorf("the old message is not said to be expunged: %v", evs)
	}
}

// TestNULInLiteral8: literal8 is taken. A NUL in it is a matter of the content, for which RFC 3516, Section 4.4 has a code; in a literal
// it is none of the grammar. Nothing is stored then, and the session goes on.
func TestNULInLiteral8(t *testing.T) {
	w := newWorld(t, nil)
	s := w.login(ownerName, "Drafts")
	for _, c := range []struct{ args, want string }{
		{"APPEND Drafts ~{4+}\r\nab\x00c", "NO [UNKNOWN-CTE]"},
		{"APPEND Drafts UTF8 (~{4+}\r\nab\x00c)", "NO [UNKNOWN-CTE]"},
		{"APPEND Drafts {1+}\r\na ~{2+}\r\na\x00", "NO [UNKNOWN-CTE]"},
		{"APPEND Drafts {2+}\r\na\x00", "BAD NUL"},
		{"APPEND Drafts ~{4+}\r\nabcd", "OK [APPENDUID"},
		{"REPLACE 1 Drafts ~{4+}\r\nab\x00c", "NO [UNKNOWN-CTE]"},
		{"REPLACE 1 Drafts {4+}\r\nab\x00c", "BAD NUL"},
	} {
		s.want(c.args, c.want)
	}
	if n := w.box("Drafts").Messages; n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}
