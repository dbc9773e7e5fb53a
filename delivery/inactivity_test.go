package delivery

import (
	"context"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

// handClock stands still until a test moves it.
type handClock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *handClock {
	return &handClock{at: time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)}
}

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) jump(days int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.AddDate(0, 0, days)
}

// later moves the clock, and the store believes it.
func (c *handClock) later(t *testing.T, st *store.Store, days int) {
	t.Helper()
	c.jump(days)
	if _, err := st.Sweep(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

// openAt is a store whose clock the test sets; it has one active BAL.
func openAt(t *testing.T, dir string, c *handClock, create bool) *store.Store {
	t.Helper()
	st, err := store.Open(store.Options{Dir: dir, Create: create, NoSync: true, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if create {
		if _, err := st.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.PutBAL{Create: true, BAL: store.BAL{
			Address: "pharmacie@officine.test", Kind: store.ORG, State: store.Active, Listing: store.Published}}}}); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

func closeChecked(t *testing.T, st *store.Store) {
	t.Helper()
	if problems, err := st.Check(context.Background()); err != nil || len(problems) > 0 {
		t.Errorf("store after the test: %v %v", err, problems)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

// inbox is how many messages the INBOX of the BAL has.
func inbox(t *testing.T, st *store.Store) uint32 {
	t.Helper()
	b, err := st.BAL("pharmacie@officine.test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := st.Mailbox(b.ID, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	return m.Messages
}

// A BAL that nobody uses is told once, also when asked by two at a time and after a start; when it was used and is silent again, once
// more.
func TestInactivityNoticeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	clock := newClock()
	st := openAt(t, dir, clock, true)
	n := &InactivityNotices{Store: st, Hostname: "mx.operateur.test"}
	round := func(want NoticesSent, mails uint32) {
		t.Helper()
		got, err := n.Send(t.Context(), 30, "unix:test(1)")
		if err != nil || got != want || inbox(t, st) != mails {
			t.Errorf("at %v: %+v, %v, %d mails in all; want %+v, %d", clock.now(), got, err, inbox(t, st), want, mails)
		}
	}
	round(NoticesSent{}, 0)
	clock.later(t, st, 29)
	round(NoticesSent{}, 0)
	clock.later(t, st, 1)
	var wg sync.WaitGroup
	sent := make([]NoticesSent, 4)
	for i := range sent {
		wg.Go(func() {
			var err error
			if sent[i], err = n.Send(t.Context(), 30, "unix:test(1)"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if all := sent[0].Sent + sent[1].Sent + sent[2].Sent + sent[3].Sent; all != 1 || inbox(t, st) != 1 {
		t.Errorf("four rounds at a time sent %d notices, %d mails", all, inbox(t, st))
	}
	clock.later(t, st, 40)
	round(NoticesSent{Before: 1}, 1)
	closeChecked(t, st)
	st = openAt(t, dir, clock, false)
	n.Store = st
	round(NoticesSent{Before: 1}, 1)
	st.Record(trace.Event{Kind: trace.Login, BAL: "pharmacie@officine.test", Person: "local:x"})
	round(NoticesSent{}, 1)
	clock.later(t, st, 31)
	round(NoticesSent{Sent: 1}, 2)
	b, err := st.BAL("pharmacie@officine.test")
	if err != nil {
		t.Fatal(err)
	}
	events, err := st.TraceOfBAL(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range events {
		if e.Attr(trace.KeyAct) == "bal inactivity notice" && e.Person == "unix:test(1)" && e.Attr(trace.KeyCount) == "30" && e.UIDs != "" {
			told++
		}
	}
	if told != 2 {
		t.Errorf("%d notices in the history, want 2: %v", told, events)
	}
	closeChecked(t, st)
}

// What is delivered is a mail that every client reads, with the operator's own text where there is one.
func TestInactivityNoticeText(t *testing.T) {
	own := filepath.Join(t.TempDir(), "avis.txt")
	long := strings.Repeat("é", 90)
	if err := os.WriteFile(own, []byte("\ufeffObjet: "+long+"\r\n\r\nÀ {bal}, {jours} jours : "+long+long+".\r\n.\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, subject, text string }{
		{"", "Votre boîte aux lettres MSSanté n'est plus consultée", "\nPersonne n'a consulté la boîte aux lettres pharmacie@officine.test depuis le 10/01/2026,\nsoit 30 jours"},
		{own, long, "À pharmacie@officine.test, 30 jours : " + long + long + ".\n.\n"},
	} {
		clock := newClock()
		st := openAt(t, filepath.Join(t.TempDir(), "s"), clock, true)
		clock.later(t, st, 31)
		n := &InactivityNotices{Store: st, Hostname: "mx.operateur.test", File: c.file}
		if got, err := n.Send(t.Context(), 30, "system:test"); err != nil || got.Sent != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		b, err := st.BAL("pharmacie@officine.test")
		if err != nil {
			t.Fatal(err)
		}
		in, err := st.Mailbox(b.ID, "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		var row store.Row
		if err := st.Rows(t.Context(), in.Ref, []store.Run{{First: 1, Count: 1}}, func(r store.Row) bool { row = r; return true }); err != nil {
			t.Fatal(err)
		}
		content, err := st.OpenMessage(b.ID, row.Message)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(io.NewSectionReader(content, 0, content.Size()))
		if err != nil {
			t.Fatal(err)
		}
		content.Close()
		for line := range strings.SplitSeq(string(raw), "\r\n") {
			if len(line) > 78 && !strings.Contains(line, "=?") || strings.ContainsAny(line, "\r\n") || strings.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
				t.Errorf("line %q", line)
			}
		}
		m, err := mail.ReadMessage(strings.NewReader(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		from, err := m.Header.AddressList("From")
		if err != nil || from[0].Address != "postmaster@officine.test" || from[0].Name != "Opérateur MSSanté" {
			t.Errorf("From %v, %v", from, err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		if err != nil || subject != c.subject {
			t.Errorf("subject %q, %v", subject, err)
		}
		if d, err := m.Header.Date(); err != nil || !d.Equal(clock.now()) {
			t.Errorf("date %v, %v", d, err)
		}
		if m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Return-Path") != "<>" {
			t.Errorf("header %v", m.Header)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		if err != nil || !strings.Contains(strings.ReplaceAll(string(text), "\r\n", "\n"), c.text) {
			t.Errorf("text %q, %v", text, err)
		}
		closeChecked(t, st)
	}
}

func TestNoticeFile(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no subject": "Bonjour\n\nTexte\n", "empty subject": "Objet: \n\nTexte\n", "no text": "Objet: x\n\n\n", "no empty line": "Objet: x\nTexte\n",
		"a second header": "Objet: x\nBcc: y@z.example\n\nTexte\n", "control": "Objet: x\n\nTexte\x00\n", "carriage return": "Objet: x\rBcc: y@z.example\n\nTexte\n",
		"not UTF-8": "Objet: \xe9\n\nTexte\n", "long subject": "Objet: " + strings.Repeat("x", 201) + "\n\nTexte\n", "long": "Objet: x\n\n" + strings.Repeat("x", maxNoticeText),
	} {
		file := filepath.Join(t.TempDir(), "avis.txt")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := NoticeFile(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	if _, err := NoticeFile(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// A clock that jumps ahead makes no BAL inactive; nor is one told that is suspended.
func TestNoNoticeForAClockThatJumped(t *testing.T) {
	clock := newClock()
	st := openAt(t, filepath.Join(t.TempDir(), "s"), clock, true)
	b, err := st.BAL("pharmacie@officine.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := New(Config{Store: st, Hostname: "mx.operateur.test"}).Deliver(t.Context(), spoolOf(t, st, letter),
		testIncomingTo(t, Recipient{BAL: b, Address: message.Address(b.Address)})); err != nil {
		t.Fatal(err)
	}
	clock.later(t, st, 0)
	n := &InactivityNotices{Store: st, Hostname: "mx.operateur.test"}
	clock.jump(700)
	if got, err := n.Send(t.Context(), 30, "x"); err != nil || got != (NoticesSent{}) || inbox(t, st) != 1 {
		t.Errorf("after a jump: %+v, %v", got, err)
	}
	if _, err := st.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: "pharmacie@officine.test", State: store.Suspended}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Send(t.Context(), 1, "x"); err != nil || got != (NoticesSent{}) || inbox(t, st) != 1 {
		t.Errorf("suspended: %+v, %v", got, err)
	}
	if _, err := st.Commit(t.Context(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: "pharmacie@officine.test", State: store.Active}}}); err != nil {
		t.Fatal(err)
	}
	clock.later(t, st, 31) // the operator says that the clock is right
	if got, err := n.Send(t.Context(), 30, "x"); err != nil || got != (NoticesSent{Sent: 1}) || inbox(t, st) != 2 {
		t.Errorf("the clock is right: %+v, %v", got, err)
	}
	closeChecked(t, st)
}
