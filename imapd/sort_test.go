package imapd

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"pgregory.net/rapid"

	"mssd/message"
	"mssd/store"
)

// TestGoIMAPSort: an independent client sorts and threads.
func TestGoIMAPSort(t *testing.T) {
	w := newWorld(t, nil)
	for i, head := range []string{"Message-ID: <a@x>\r\nSubject: b", "Message-ID: <b@x>\r\nSubject: a", "In-Reply-To: <a@x>\r\nSubject: Re: b"} {
		w.deliver("INBOX", fmt.Sprintf("%s\r\nDate: Sat, %d Mar 2025 10:00:00 +0000\r\n\r\nx\r\n", head, i+1))
	}
	c := w.goClient(nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	all := &imap.SearchCriteria{}
	got, err := c.Sort(&imapclient.SortOptions{SearchCriteria: all, SortCriteria: []imapclient.SortCriterion{{Key: imapclient.SortKeySubject},
		{Key: imapclient.SortKeyDate, Reverse: true}}}).Wait()
	if err != nil || fmt.Sprint(got) != "[2 3 1]" {
		t.Errorf("sort: %v %v", err, got)
	}
	for _, algorithm := range []imap.ThreadAlgorithm{imap.ThreadReferences, imap.ThreadOrderedSubject} {
		threads, err := c.UIDThread(&imapclient.ThreadOptions{Algorithm: algorithm, SearchCriteria: all}).Wait()
		if err != nil || len(threads) != 2 || fmt.Sprint(threads[0].Chain, threads[1].Chain) != "[1 3] [2]" {
			t.Errorf("thread %s: %v %+v", algorithm, err, threads)
		}
	}
}

// TestThreadsAreWhole: whatever the references say, each message stands in the answer once, and each pair of
// parentheses is closed.
func TestThreadsAreWhole(t *testing.T) {
	c := &conn{}
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f", "g"})
		n := rapid.IntRange(0, 12).Draw(t, "messages")
		var nodes []*node
		for i := range n {
			var refs []message.RefID
			for _, id := range rapid.SliceOfN(ids.Filter(func(s string) bool { return s != "" }), 0, 4).Draw(t, "refs") {
				refs = append(refs, message.NewRefID(id))
			}
			var own message.RefID
			if id := ids.Draw(t, "id"); id != "" {
				own = message.NewRefID(id)
			}
			nodes = append(nodes, &node{uid: store.UID(i + 1), id: own, refs: refs, date: int64(rapid.IntRange(0, 3).Draw(t, "date")),
				subject: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "subject"), reply: rapid.Bool().Draw(t, "reply")})
		}
		wholeThreads(t, c, threadByReferences(nodes), n)
		for _, m := range nodes {
			m.parent, m.children = nil, nil
		}
		wholeThreads(t, c, threadBySubject(nodes), n)
	})
}

var reNumber = regexp.MustCompile(`\d+`)

func wholeThreads(t interface{ Fatalf(string, ...any) }, c *conn, roots []*node, n int) {
	s := &search{conn: c}
	var b []byte
	for _, r := range roots {
		b = s.appendThread(b, r, true)
	}
	var got []int
	for _, m := range reNumber.FindAllString(string(b), -1) {
		u, _ := strconv.Atoi(m)
		got = append(got, u)
	}
	slices.Sort(got)
	if len(got) != n || len(slices.Compact(got)) != n {
		t.Fatalf("%d messages, the threads are %s", n, b)
	}
	if strings.Count(string(b), "(") != strings.Count(string(b), ")") || strings.Contains(string(b), "( ") || strings.Contains(string(b), "()") ||
		strings.Contains(string(b), " )") {
		t.Fatalf("malformed: %s", b)
	}
}

// TestDeepThread: chains that are longer than anybody writes, in both orders of arrival, end, and no message is lost.
func TestDeepThread(t *testing.T) {
	const n = 20_000
	for _, forward := range []bool{true, false} {
		var nodes []*node
		for i := range n {
			k := i
			if !forward {
				k = n - 1 - i
			}
			nodes = append(nodes, &node{uid: store.UID(i + 1), id: message.NewRefID(fmt.Sprint(k)), refs: []message.RefID{message.NewRefID(fmt.Sprint(k - 1))}, date: int64(k)})
		}
		start := time.Now()
		wholeThreads(t, &conn{}, threadByReferences(nodes), n)
		if d := time.Since(start); d > patience {
			t.Errorf("it took %v", d)
		}
	}
}

// TestProgress: a long search says now and then how far it is (RFC 9585, Section 4): less is done than all, and a tag with a
// bracket is not told.
func TestProgress(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.Progress = 1 })
	for range 3 {
		w.deliver("INBOX", mail)
	}
	s := w.login(ownerName, "INBOX")
	say := func(format string, done ...int) (lines []string) {
		for _, n := range done {
			lines = append(lines, fmt.Sprintf("* OK [INPROGRESS ("+format+" %d 3)] Still searching", n))
		}
		return lines
	}
	expect(s, s.ok("SEARCH SUBJECT ordonnance"), append(say(`"t3"`, 0), "* SEARCH 1 2 3")...)
	expect(s, s.ok("SORT (SUBJECT) UTF-8 ALL"), append(say(`"t4"`, 1, 2, 2, 1, 2, 2), "* SORT 1 2 3")...)
	expect(s, s.ok("THREAD REFERENCES UTF-8 ALL"), append(say(`"t5"`, 1, 2, 2, 1, 2, 2, 1, 2, 2), "* THREAD ((1)(2)(3))")...)
	s.send("t]6 SEARCH ALL\r\n")
	un, _ := s.until("t]6")
	expect(s, un, append(say("NIL", 1, 2, 2), "* SEARCH 1 2 3")...)
	quiet := newWorld(t, nil)
	quiet.deliver("INBOX", mail)
	expect(s, quiet.login(ownerName, "INBOX").ok("SEARCH ALL"), "* SEARCH 1")
}

// TestTooManyToSort: beyond a bound SORT and THREAD are refused, and SEARCH is not.
func TestTooManyToSort(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.maxSorted = 2 })
	for range 3 {
		w.deliver("INBOX", mail)
	}
	s := w.login(ownerName, "INBOX")
	s.want("SORT (DATE) UTF-8 ALL", "NO [LIMIT]")
	s.want("SORT RETURN (SAVE) (DATE) UTF-8 SUBJECT ordonnance", "NO [LIMIT]")
	s.want("THREAD REFERENCES UTF-8 ALL", "NO [LIMIT]")
	expect(s, s.ok("SORT (REVERSE ARRIVAL) UTF-8 1:2"), "* SORT 1 2")
	expect(s, s.ok("SEARCH SUBJECT ordonnance"), "* SEARCH 1 2 3")
}

// TestReferencesAreBounded: of a field with very many ids the last ones count, and none of its octets is kept.
func TestReferencesAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", "Message-ID: <root@x>\r\nSubject: a\r\n\r\nx\r\n")
	w.deliver("INBOX", "References:"+strings.Repeat(" <"+strings.Repeat("i", 300)+"@x>\r\n", 300)+" <root@x>\r\nSubject: b\r\n\r\nx\r\n")
	w.deliver("INBOX", "References: <root@x>"+strings.Repeat("\r\n <other@x>", 200)+"\r\nSubject: c\r\n\r\nx\r\n")
	s := w.login(ownerName, "INBOX")
	expect(s, s.ok("THREAD REFERENCES UTF-8 ALL"), "* THREAD (1 2)(3)")
	s2 := &search{conn: &conn{srv: w.srv, ctx: t.Context(), sel: &selected{ref: w.box("INBOX").Ref}}}
	var rows []store.Row
	if err := w.store.Rows(t.Context(), w.box("INBOX").Ref, []store.Run{{First: 2, Count: 1}}, func(r store.Row) bool {
		rows = append(rows, r)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	nodes, err := s2.nodes(rows, true)
	if err != nil || len(nodes[0].refs) != maxReferences {
		t.Fatalf("%v, %d references are kept", err, len(nodes[0].refs))
	}
	one := &node{}
	if err := s2.references(rows[:1], make([]message.SortKeys, 1), []*node{one}, 1); err != nil || len(one.refs) != 1 || one.refs[0] != message.NewRefID("root@x") {
		t.Errorf("of a message after the bound: %v, %v", one.refs, err)
	}
}
