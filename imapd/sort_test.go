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
			refs := rapid.SliceOfN(ids.Filter(func(s string) bool { return s != "" }), 0, 4).Draw(t, "refs")
			nodes = append(nodes, &node{uid: store.UID(i + 1), id: ids.Draw(t, "id"), refs: refs, date: int64(rapid.IntRange(0, 3).Draw(t, "date")),
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
			nodes = append(nodes, &node{uid: store.UID(i + 1), id: fmt.Sprint(k), refs: []string{fmt.Sprint(k - 1)}, date: int64(k)})
		}
		start := time.Now()
		wholeThreads(t, &conn{}, threadByReferences(nodes), n)
		if d := time.Since(start); d > patience {
			t.Errorf("it took %v", d)
		}
	}
}

// TestProgress: a long search says now and then how far it is.
func TestProgress(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.Progress = 1 })
	for range 3 {
		w.deliver("INBOX", mail)
	}
	s := w.login(ownerName, "INBOX")
	un := s.ok("SEARCH SUBJECT ordonnance")
	if len(un) < 2 || !regexp.MustCompile(`^\* OK \[INPROGRESS \("t3" [1-3] 3\)\] Still searching$`).MatchString(un[0]) || un[len(un)-1] != "* SEARCH 1 2 3" {
		s.fail("got %q", un)
	}
	quiet := newWorld(t, nil)
	quiet.deliver("INBOX", mail)
	expect(s, quiet.login(ownerName, "INBOX").ok("SEARCH ALL"), "* SEARCH 1")
}
