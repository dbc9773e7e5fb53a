package store_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"mssd/message"
	"mssd/store"
	"mssd/store/storetest"
)

// TestSortKeys: what SORT compares is that of each message, whether it comes from memory, from the file or from the body, and in the
// order of the question.
func TestSortKeys(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	const n = 600 // more than are looked up at once
	var ids []store.MessageID
	var want []string
	for i := range n {
		id, _ := storetest.Deliver(t, s, b.ID, fmt.Sprintf("From: \"Nom %d\" <n%d@labo.example>\r\nSubject: Re: =?utf-8?Q?=C3=89t=C3=A9?= %d\r\n\r\nx\r\n", i, i, i))
		ids, want = append(ids, id), append(want, fmt.Sprintf("ete %d n%d nom %d true", i, i, i))
	}
	ids, want = append(ids, 1<<60), append(want, "   false") // there is no such message
	slices.Reverse(ids)
	slices.Reverse(want)
	check := func(when string) {
		t.Helper()
		keys, err := s.SortKeys(ctx, ids)
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range keys {
			if got := fmt.Sprintf("%s %s %s %v", k.Subject, k.From, k.DisplayFrom, k.Reply); got != want[i] {
				t.Fatalf("%s: message %d has %q, want %q", when, i, got, want[i])
			}
		}
	}
	check("not yet in the file")
	check("in memory")
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	check("from the file")
	if kept := s.SortKeysKept(); kept != n {
		t.Errorf("%d keys are kept, want %d", kept, n)
	}
}

// TestSortKeysAreBounded: a full memory loses some keys and holds no more than it may.
func TestSortKeysAreBounded(t *testing.T) {
	s := storetest.New(t)
	if n, octets := s.KeepSortKeys(100_000, message.SortKeys{Subject: string(make([]byte, 200))}); n < 50_000 || octets > 32<<20 || octets < 31<<20 {
		t.Errorf("%d keys of %d octets are kept", n, octets)
	}
}
