package imapd

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"

	"mssd/store"
)

// multi is an APPEND of several bodies, literals sent without waiting.
func multi(box, args string, bodies ...string) string {
	b := strings.Builder{}
	b.WriteString("APPEND " + box)
	for _, body := range bodies {
		fmt.Fprintf(&b, "%s {%d+}\r\n%s", args, len(body), body)
	}
	return b.String()
}

// TestMultiAppendIsNotStoredTwice: of several messages, too, what is repeated after an OK that was not confirmed is stored
// once; another order, one more, or one of them gone make messages of their own.
func TestMultiAppendIsNotStoredTwice(t *testing.T) {
	w := newWorld(t, nil)
	send := func(bodies ...string) string {
		t.Helper()
		s := w.login(ownerName, "")
		defer s.nc.Close() // it may not have read the answer
		_, tagged := s.cmd(multi("Archive", ` (\Seen $Traite)`, bodies...))
		if !strings.HasPrefix(tagged, "OK [APPENDUID ") {
			t.Fatal(tagged)
		}
		return tagged
	}
	count := func(want uint32) {
		t.Helper()
		if n := uint32(w.box("Archive").Messages); n != want {
			t.Errorf("%d messages, want %d", n, want)
		}
	}
	first := send("un", "deux", "trois")
	if again := send("un", "deux", "trois"); again != first || !strings.Contains(first, " 1:3]") {
		t.Errorf("%s, said again %s", first, again)
	}
	count(3)
	send("un", "trois", "deux")
	count(6)
	send("un", "deux", "trois", "quatre")
	count(10)
	send("un", "deux")
	count(12)
	e := w.login(ownerName, "Archive")
	e.ok("MOVE 2 Trash")
	if again := send("un", "deux", "trois"); again == first {
		t.Errorf("one is gone, and said again: %s", again)
	}
	count(14)
}

// TestMultiAppendLimits: as many messages as are allowed are taken, one more refuses all; the room of the BAL is counted
// over all of them.
func TestMultiAppendLimits(t *testing.T) {
	w := newWorld(t, nil)
	s := w.login(ownerName, "")
	bodies := make([]string, maxMessages+1)
	for i := range bodies {
		bodies[i] = fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i)
	}
	s.want(multi("Archive", "", bodies...), "NO [LIMIT]")
	if n := w.box("Archive").Messages; n != 0 {
		t.Fatalf("%d messages", n)
	}
	s.want(multi("Archive", "", bodies[:maxMessages]...), "OK [APPENDUID")
	if n := w.box("Archive").Messages; n != maxMessages {
		t.Fatalf("%d messages", n)
	}
	quota := func(octets, messages int64) {
		w.commit(store.SetQuota{Address: w.bal.Address, Octets: &octets, Messages: &messages})
	}
	quota(0, maxMessages+2)
	s.want(multi("Sent", "", "un", "deux", "trois"), "NO [OVERQUOTA]")
	bal := must[store.BAL](t, "BAL")(w.store.BALByID(w.bal.ID))
	quota(bal.Octets+9, 0)
	s.want(multi("Sent", "", "un", "deux", "trois!"), "NO [OVERQUOTA]")
	if n := w.box("Sent").Messages; n != 0 {
		t.Errorf("%d messages came in part", n)
	}
	s.want(multi("Sent", "", "un", "deux", "fin"), "OK [APPENDUID")
}

// TestMultiAppendCutOff: a connection that ends within a command of several messages leaves none of them.
func TestMultiAppendCutOff(t *testing.T) {
	w := newWorld(t, nil)
	whole := "x " + multi("Archive", ` (\Seen)`, "premier", "second") + "\r\n"
	for cut := len("x APPEND Archive"); cut < len(whole)-1; cut += 3 {
		s := w.login(ownerName, "")
		if _, err := io.WriteString(s.nc, whole[:cut]); err != nil {
			t.Fatal(err)
		}
		_ = s.nc.(*tls.Conn).CloseWrite()
		for s.line() != "" {
		}
		s.nc.Close()
	}
	if n := w.box("Archive").Messages; n != 0 {
		t.Errorf("%d messages", n)
	}
}

// TestMultiAppendOctets: each message has its own flags, keywords and octets, whatever its length.
func TestMultiAppendOctets(t *testing.T) {
	w := newWorld(t, nil)
	s := w.login(ownerName, "")
	big := "Subject: grand\r\n\r\n" + strings.Repeat("ligne de texte\r\n", 20_000)
	s.send(fmt.Sprintf("b1 APPEND Archive (un) {%d}\r\n", len(big)))
	s.line()
	s.send(big + fmt.Sprintf(" (deux \\Flagged) {%d}\r\n", len(mail)))
	s.line()
	s.send(mail + " {3+}\r\nfin\r\n")
	if _, tagged := s.until("b1"); !strings.HasPrefix(tagged, "OK [APPENDUID") {
		t.Fatal(tagged)
	}
	ref, want := w.box("Archive").Ref, []string{big, mail, "fin"}
	words, flags := []string{"un", "deux", ""}, []store.Flag{0, store.Flagged, 0}
	i := 0
	err := w.store.Rows(context.Background(), ref, []store.Run{{First: 1, Count: 10}}, func(r store.Row) bool {
		if got := strings.Join(w.store.Keywords(r.Keywords), " "); got != words[i] || r.Flags != flags[i] {
			t.Errorf("message %d: %q, %v", i, got, r.Flags)
		}
		c := must[*store.Content](t, "content")(w.store.OpenMessage(ref.BAL, r.Message))
		defer c.Close()
		got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if err != nil || string(got) != want[i] {
			t.Errorf("message %d: %d octets, want %d, %v", i, len(got), len(want[i]), err)
		}
		i++
		return true
	})
	if err != nil || i != 3 {
		t.Errorf("%d messages, %v", i, err)
	}
}
