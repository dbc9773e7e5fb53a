package imapd

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"mssd/message"
)

var threadName = regexp.MustCompile(`THREADID \((T1-\w+)\)`)

// threads is the names of the threads of a mailbox, by number.
func (s *session) threads() (names []string) {
	s.t.Helper()
	for _, l := range s.ok("FETCH 1:* (THREADID)") {
		m := threadName.FindStringSubmatch(l)
		if m == nil {
			s.fail("no name of a thread in %q", l)
		}
		names = append(names, m[1])
	}
	return names
}

// TestThreadID: which messages are of one thread, by what their headers say. The name is made of the first id alone: this test
// fails when it changes, which it must never do (RFC 8474, Section 5.2).
func TestThreadID(t *testing.T) {
	named := func(id string) string { return fmt.Sprintf("T1-%x", message.NewRefID(id)) }
	if got, want := named("root@x"), "T1-1ab2165f3893136409c0031bd63ed860"; got != want {
		t.Errorf("the name of a thread is %s, it was %s", got, want)
	}
	w := newWorld(t, nil)
	long := strings.Repeat("\r\n <"+strings.Repeat("i", 300)+"@x>", 300)
	cases := []struct{ head, want string }{
		{"Message-ID: <root@x>", named("root@x")},
		{"Message-ID: <b@x>\r\nIn-Reply-To: <root@x>", named("root@x")},
		{"Message-ID: <c@x>\r\nReferences: <root@x> <b@x>\r\nIn-Reply-To: <b@x>", named("root@x")},
		{"Message-ID: <d@x>\r\nIn-Reply-To: <c@x>\r\nReferences:\r\n <root@x>\r\n\t<b@x>\r\n <c@x>", named("root@x")},
		{"References: <root@x>" + long, named("root@x")},
		{"X-Long: " + strings.Repeat("mot ", 20000) + "\r\nReferences: <root@x> <b@x>", named("root@x")},
		{"Message-ID: <e@x>\r\nReferences: nothing here\r\nIn-Reply-To: your letter of Monday", named("e@x")},
		{"Message-ID: <f@x>\r\nIn-Reply-To: <c@x>", named("c@x")},
		{"Message-ID: <ROOT@x>", named("ROOT@x")},
	}
	var want []string
	for _, c := range cases {
		w.deliver("INBOX", c.head+"\r\nSubject: x\r\n\r\nx\r\n")
		want = append(want, c.want)
	}
	s := w.login(ownerName, "INBOX")
	expect(s, s.threads(), want...)
	expect(s, s.ok("SEARCH THREADID "+want[0]), "* SEARCH 1 2 3 4 5 6")
	expect(s, s.ok("SEARCH NOT THREADID "+want[0]), "* SEARCH 7 8 9")
	expect(s, s.ok("SEARCH OR THREADID "+want[7]+" THREADID M1-1"), "* SEARCH 8")
	// A name is the same elsewhere, for others and after a copy.
	s.ok("COPY 1:* Archive")
	other := w.login(ownerName, "Archive")
	expect(other, other.threads(), want...)
}

// TestThreadIDOfNone: messages that nobody can answer to are threads of their own, each; their copies too.
func TestThreadIDOfNone(t *testing.T) {
	w := newWorld(t, nil)
	for range 2 {
		w.deliver("INBOX", "Subject: x\r\n\r\nx\r\n")
	}
	s := w.login(ownerName, "INBOX")
	s.ok("COPY 1 INBOX")
	s.ok("NOOP")
	got := s.threads()
	if len(got) != 3 || got[0] == got[1] || got[0] != got[2] {
		t.Errorf("threads %v", got)
	}
	expect(s, s.ok("SEARCH THREADID "+got[0]), "* SEARCH 1 3")
}

// TestThreadIDUnreadable: a message whose body is gone has no name at all, rather than another one; the others have theirs.
func TestThreadIDUnreadable(t *testing.T) {
	w := newWorld(t, nil)
	w.unsound = true // the store is damaged on purpose
	for n := range 3 {
		w.deliver("INBOX", fmt.Sprintf("Message-ID: <%d@x>\r\nReferences: <root@x>\r\nSubject: x\r\n\r\nx\r\n", n))
	}
	s := w.login(ownerName, "INBOX")
	removeBlob(t, w.dir, 2)
	name := fmt.Sprintf("T1-%x", message.NewRefID("root@x"))
	expect(s, s.want("FETCH 1:* (THREADID)", "NO [UNAVAILABLE]"), "* 1 FETCH (THREADID ("+name+"))", "* 3 FETCH (THREADID ("+name+"))")
	expect(s, s.ok("SEARCH THREADID "+name), "* SEARCH 1 3")
}

// TestWithin: the second that lies just so far back is in both (RFC 5032, Section 2).
func TestWithin(t *testing.T) {
	arrival := time.Date(2025, 3, 14, 9, 26, 53, 0, time.UTC)
	w := newWorld(t, func(s *Server) {
		s.Now = func() time.Time { return arrival.Add(60*time.Second + 700*time.Millisecond) }
	})
	w.deliver("INBOX", mail)
	s := w.login(ownerName, "INBOX")
	for key, want := range map[string]string{"OLDER 59": "* SEARCH 1", "OLDER 60": "* SEARCH 1", "OLDER 61": "* SEARCH", "YOUNGER 59": "* SEARCH",
		"YOUNGER 60": "* SEARCH 1", "YOUNGER 61": "* SEARCH 1"} {
		if got := s.ok("SEARCH " + key); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}
