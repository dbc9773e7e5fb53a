package imapd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mssd/store"
)

// TestBigOperations changes and moves more messages than one commit takes: the client hears the same as of few, but for
// a COPYUID for each part, and nothing of its own silent change.
func TestBigOperations(t *testing.T) {
	const n = 2*maxAtOnce + 5
	w := newWorld(t, nil)
	in, trash := w.box("INBOX"), w.box("Trash")
	w.deliver("INBOX", mail)
	var ops []store.Op
	for i := 1; i < n; i++ {
		ops = append(ops, store.Copy{From: in.Ref, Runs: []store.Run{{First: 1, Count: 1}}, To: in.Ref})
		if len(ops) == 1000 || i == n-1 {
			w.commit(ops...)
			ops = nil
		}
	}
	a, b := w.login(ownerName, "INBOX"), w.login(ownerName, "INBOX")
	expect(a, a.ok(`STORE 1:* +FLAGS.SILENT (\Flagged)`))
	expect(a, a.ok("NOOP"))
	if got := b.ok("NOOP"); len(got) != n {
		t.Errorf("the other session hears of %d messages, want %d", len(got), n)
	}
	if got := a.ok(`STORE 1:* +FLAGS (\Seen)`); len(got) != n || !strings.HasPrefix(got[n-1], fmt.Sprintf("* %d FETCH (FLAGS (", n)) {
		t.Errorf("%d responses, want %d; the last: %q", len(got), n, got[len(got)-1])
	}
	got := a.ok("MOVE 1:* Trash")
	v := trash.UIDValidity
	want := []string{
		fmt.Sprintf("* OK [COPYUID %d 1:%d 1:%d] Done", v, maxAtOnce, maxAtOnce),
		fmt.Sprintf("* OK [COPYUID %d %d:%d %d:%d] Done", v, maxAtOnce+1, 2*maxAtOnce, maxAtOnce+1, 2*maxAtOnce),
		fmt.Sprintf("* OK [COPYUID %d %d:%d %d:%d] Done", v, 2*maxAtOnce+1, n, 2*maxAtOnce+1, n),
	}
	if len(got) < 3 || !slices.Equal(got[:3], want) {
		t.Errorf("got %q, want %q first", got[:min(3, len(got))], want)
	}
	if gone := len(got) - 3; gone != n {
		t.Errorf("%d EXPUNGE, want %d", gone, n)
	}
	if m := w.box("Trash"); m.Messages != n || w.box("INBOX").Messages != 0 {
		t.Errorf("%d messages in Trash, want %d", m.Messages, n)
	}
}

// TestCutRuns: the parts are the whole, in order, and none is too big.
func TestCutRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var runs []store.Run
		next := store.UID(1)
		for range rapid.IntRange(0, 6).Draw(t, "runs") {
			r := store.Run{First: next + store.UID(rapid.IntRange(1, 3).Draw(t, "hole")), Count: uint32(rapid.IntRange(1, 12).Draw(t, "count"))}
			runs, next = append(runs, r), r.Last()+1
		}
		n := uint32(rapid.IntRange(1, 10).Draw(t, "n"))
		before := slices.Clone(runs)
		var got []store.UID
		for part, rest := cutRuns(runs, n); len(part) > 0; part, rest = cutRuns(rest, n) {
			if k := runsCount(part); k > int(n) || k < int(n) && len(rest) > 0 {
				t.Fatalf("a part of %d, want %d", k, n)
			}
			got = append(got, each(part)...)
		}
		if !slices.Equal(got, each(runs)) || !slices.Equal(runs, before) {
			t.Fatalf("got %v of %v", got, runs)
		}
	})
}

func each(runs []store.Run) (uids []store.UID) {
	for _, r := range runs {
		for i := range r.Count {
			uids = append(uids, r.First+store.UID(i))
		}
	}
	return uids
}
