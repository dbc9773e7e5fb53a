package imapd

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mssd/imapd/wire"
	"mssd/store"
)

// TestView plays adds, removals and questions against a plain list of UIDs.
func TestView(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var model []store.UID
		next := store.UID(rapid.IntRange(1, 5).Draw(t, "first"))
		v := newView(nil, next)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				next += store.UID(rapid.IntRange(0, 3).Draw(t, "hole"))
				if !v.append(next) {
					t.Fatalf("append(%d) was refused", next)
				}
				if v.append(next) {
					t.Fatalf("append(%d) twice was taken", next)
				}
				model = append(model, next)
				next++
			},
			"remove": func(t *rapid.T) {
				gone := drawRuns(t, uint32(next)+3)
				var want []SeqNum
				var kept []store.UID
				for i, u := range model {
					if runsHold(gone, u) {
						want = append(want, SeqNum(i+1))
					} else {
						kept = append(kept, u)
					}
				}
				if got := v.remove(gone); !slices.Equal(got, want) {
					t.Fatalf("remove(%v) of %v = %v, want %v", gone, model, got, want)
				}
				model = kept
			},
			"set": func(t *rapid.T) {
				set := drawSet(t, uint32(next)+3)
				if got, want := expand(v.uids(set)), inUIDs(model, set); !slices.Equal(got, want) {
					t.Fatalf("uids(%v) of %v = %v, want %v", set, model, got, want)
				}
				got, ok := v.seqs(set)
				want, wantOK := inSeqs(model, set)
				if ok != wantOK || ok && !slices.Equal(expand(got), want) {
					t.Fatalf("seqs(%v) of %v = %v %v, want %v %v", set, model, got, ok, want, wantOK)
				}
			},
			"": func(t *rapid.T) {
				if int(v.count()) != len(model) {
					t.Fatalf("count %d, want %d", v.count(), len(model))
				}
				for i, u := range model {
					if v.seq(u) != SeqNum(i+1) || v.uid(SeqNum(i+1)) != u {
						t.Fatalf("message %d is %d: seq gives %d, uid gives %d", i+1, u, v.seq(u), v.uid(SeqNum(i+1)))
					}
				}
				if v.seq(next) != 0 || v.uid(0) != 0 || v.uid(SeqNum(len(model)+1)) != 0 {
					t.Fatal("something is known that is not there")
				}
				if got := expand(v.runs()); !slices.Equal(got, model) {
					t.Fatalf("runs %v, want %v", got, model)
				}
			},
		})
	})
}

func drawRuns(t *rapid.T, top uint32) []store.Run {
	var runs []store.Run
	at := uint32(0)
	for range rapid.IntRange(0, 4).Draw(t, "runs") {
		at += uint32(rapid.IntRange(1, 4).Draw(t, "skip"))
		n := uint32(rapid.IntRange(1, 5).Draw(t, "count"))
		runs = append(runs, store.Run{First: store.UID(at), Count: n})
		at += n
	}
	return runs
}

func drawSet(t *rapid.T, top uint32) wire.Set {
	n := rapid.OneOf(rapid.Uint32Range(0, top), rapid.Just(uint32(4294967295)))
	var s wire.Set
	for range rapid.IntRange(1, 4).Draw(t, "ranges") {
		s.Ranges = append(s.Ranges, wire.Range{First: n.Draw(t, "from"), Last: n.Draw(t, "to")})
	}
	return s
}

func expand(runs []store.Run) []store.UID {
	var out []store.UID
	for _, r := range runs {
		for i := range r.Count {
			out = append(out, r.First+store.UID(i))
		}
	}
	return out
}

// bounds is what a range means when "*" is top.
func bounds(r wire.Range, top uint32) (uint32, uint32) {
	a, b := r.First, r.Last
	if a == 0 {
		a = top
	}
	if b == 0 {
		b = top
	}
	return min(a, b), max(a, b)
}

func inUIDs(model []store.UID, s wire.Set) []store.UID {
	var out []store.UID
	for _, u := range model {
		if slices.ContainsFunc(s.Ranges, func(r wire.Range) bool {
			lo, hi := bounds(r, uint32(model[len(model)-1]))
			return lo <= uint32(u) && uint32(u) <= hi
		}) {
			out = append(out, u)
		}
	}
	return out
}

func inSeqs(model []store.UID, s wire.Set) ([]store.UID, bool) {
	n := uint32(len(model))
	var out []store.UID
	for _, r := range s.Ranges {
		if n == 0 && (r.First == 0 || r.Last == 0) {
			continue
		}
		if _, hi := bounds(r, n); hi > n {
			return nil, false
		}
	}
	for i, u := range model {
		if slices.ContainsFunc(s.Ranges, func(r wire.Range) bool {
			lo, hi := bounds(r, n)
			return lo <= uint32(i+1) && uint32(i+1) <= hi
		}) {
			out = append(out, u)
		}
	}
	return out, true
}

// TestViewHuge: sets of the client cost by their ranges, never by their numbers.
func TestViewHuge(t *testing.T) {
	v := newView([]store.Run{{First: 1, Count: 1_000_000}, {First: 2_000_000, Count: 1_000_000}}, 3_000_000)
	var s wire.Set
	for i := range uint32(10000) {
		s.Ranges = append(s.Ranges, wire.Range{First: i*300 + 1, Last: 4294967295 - i}, wire.Range{First: 4294967290, Last: 4294967295})
	}
	if got := runsCount(v.uids(s)); got != 2_000_000 {
		t.Errorf("%d messages, want all", got)
	}
	if len(v.spans) != 2 {
		t.Errorf("%d spans, want 2", len(v.spans))
	}
}
