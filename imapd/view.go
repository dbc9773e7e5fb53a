package imapd

import (
	"slices"
	"sort"

	"mssd/imapd/wire"
	"mssd/store"
)

// SeqNum is a message sequence number (RFC 9051, Section 2.3.1.2), counted from 1; 0 is none.
type SeqNum uint32

// span is a run of UIDs without a hole; before is how many messages of the view come before it.
type span struct {
	first  store.UID
	count  uint32
	before uint32
}

// last is the highest UID of the span.
func (s span) last() store.UID { return s.first + store.UID(s.count-1) }

// view is the numbering that one session was told of. It is kept as runs of UIDs: a mailbox of 100,000
// messages without holes is one span. Only the session's goroutine touches it, and it changes only where
// the protocol allows it: append with an EXISTS, remove with EXPUNGE responses (RFC 3501, Section 7.4.1).
type view struct {
	spans []span
	// next is the first UID that the session has not been told of: everything from here on is new.
	next store.UID
}

// newView numbers the UIDs of runs, which ascend and do not overlap.
func newView(runs []store.Run, next store.UID) view {
	v := view{spans: make([]span, 0, len(runs)), next: next}
	for _, r := range runs {
		v.appendRun(r.First, r.Count)
	}
	return v
}

// count is how many messages the session knows of: the number of the last EXISTS.
func (v *view) count() uint32 {
	if len(v.spans) == 0 {
		return 0
	}
	l := v.spans[len(v.spans)-1]
	return l.before + l.count
}

func (v *view) appendRun(first store.UID, count uint32) {
	if count == 0 {
		return
	}
	n := len(v.spans)
	if n > 0 && v.spans[n-1].last()+1 == first {
		v.spans[n-1].count += count
	} else {
		v.spans = append(v.spans, span{first, count, v.count()})
	}
	if end := first + store.UID(count); end > v.next {
		v.next = end
	}
}

// append adds one message at the end. A UID that is not new is left alone and reported as such.
func (v *view) append(uid store.UID) bool {
	if uid < v.next {
		return false
	}
	v.appendRun(uid, 1)
	return true
}

// seq is the number of a UID, 0 when the session does not know it.
func (v *view) seq(uid store.UID) SeqNum {
	i := sort.Search(len(v.spans), func(i int) bool { return v.spans[i].last() >= uid })
	if i == len(v.spans) || uid < v.spans[i].first {
		return 0
	}
	return SeqNum(v.spans[i].before + uint32(uid-v.spans[i].first) + 1)
}

// uid is the UID with a number, 0 when there is none.
func (v *view) uid(n SeqNum) store.UID {
	if n == 0 || uint32(n) > v.count() {
		return 0
	}
	i := sort.Search(len(v.spans), func(i int) bool { return v.spans[i].before+v.spans[i].count >= uint32(n) })
	return v.spans[i].first + store.UID(uint32(n)-v.spans[i].before-1)
}

// lastUID is the highest UID, 0 in an empty view.
func (v *view) lastUID() store.UID {
	if len(v.spans) == 0 {
		return 0
	}
	return v.spans[len(v.spans)-1].last()
}

// uids is what a UID set means in this view: the runs of known UIDs within it, ascending, each once.
// A UID that does not exist is ignored without an error (RFC 9051, Section 6.4.9). The work is bounded by
// the number of ranges and spans, not by the numbers the client wrote.
func (v *view) uids(set wire.Set) []store.Run {
	return v.intersect(set.Resolve(uint32(v.lastUID())), func(s span) (uint32, uint32) {
		return uint32(s.first), uint32(s.last())
	})
}

// seqs is the same for a set of sequence numbers; ok is false when one is greater than the number of messages,
// which the client could know. "*" in an empty mailbox is nothing, not a fault: clients send 1:* blindly.
func (v *view) seqs(set wire.Set) (runs []store.Run, ok bool) {
	n := v.count()
	ranges := set.Resolve(n)
	if k := len(ranges); k > 0 && ranges[k-1].Last > n {
		return nil, false
	}
	return v.intersect(ranges, func(s span) (uint32, uint32) { return s.before + 1, s.before + s.count }), true
}

// intersect walks ascending ranges and the spans side by side; bounds gives the interval that a span covers in
// the numbers of the ranges.
func (v *view) intersect(ranges []wire.Range, bounds func(span) (uint32, uint32)) []store.Run {
	var runs []store.Run
	i := 0
	for _, r := range ranges {
		// The first span that reaches into the range; those before it lie wholly below.
		i += sort.Search(len(v.spans)-i, func(k int) bool { _, hi := bounds(v.spans[i+k]); return hi >= r.First })
		for k := i; k < len(v.spans); k++ {
			lo, hi := bounds(v.spans[k])
			if lo > r.Last {
				break
			}
			from, to := max(lo, r.First), min(hi, r.Last)
			runs = addRun(runs, v.spans[k].first+store.UID(from-lo), to-from+1)
		}
	}
	return runs
}

// hold is the part of runs that the view knows.
func (v *view) hold(runs []store.Run) []store.Run {
	return v.intersect(ranges(runs), func(s span) (uint32, uint32) { return uint32(s.first), uint32(s.last()) })
}

// numbers is the sequence numbers of runs, as ranges; UIDs that the view does not know are left out.
func (v *view) numbers(runs []store.Run) []wire.Range {
	var out []wire.Range
	for _, r := range v.hold(runs) {
		first := uint32(v.seq(r.First))
		last := first + r.Count - 1
		if n := len(out); n > 0 && out[n-1].Last+1 == first {
			out[n-1].Last = last
			continue
		}
		out = append(out, wire.Range{First: first, Last: last})
	}
	return out
}

// ranges is the form of runs on the wire.
func ranges(runs []store.Run) []wire.Range {
	out := make([]wire.Range, len(runs))
	for i, r := range runs {
		out[i] = wire.Range{First: uint32(r.First), Last: uint32(r.Last())}
	}
	return out
}

// remove takes the UIDs of gone (ascending, not overlapping) out of the view and returns the numbers they
// had, ascending. Sent from the highest down, each number is right at the moment the client reads it.
func (v *view) remove(gone []store.Run) []SeqNum {
	var nums []SeqNum
	out := view{next: v.next, spans: make([]span, 0, len(v.spans))}
	g := 0
	for _, s := range v.spans {
		lo, hi := s.first, s.last()
		for lo <= hi {
			for g < len(gone) && gone[g].Last() < lo {
				g++
			}
			if g == len(gone) || gone[g].First > hi {
				out.appendRun(lo, uint32(hi-lo)+1)
				break
			}
			if gone[g].First > lo {
				out.appendRun(lo, uint32(gone[g].First-lo))
				lo = gone[g].First
			}
			end := min(gone[g].Last(), hi)
			for u := lo; u <= end; u++ {
				nums = append(nums, SeqNum(s.before+uint32(u-s.first)+1))
			}
			lo = end + 1
		}
	}
	v.spans = out.spans
	return nums
}

// runs is the whole view as runs of UIDs.
func (v *view) runs() []store.Run {
	out := make([]store.Run, len(v.spans))
	for i, s := range v.spans {
		out[i] = store.Run{First: s.first, Count: s.count}
	}
	return out
}

// addRun appends UIDs to an ascending list of runs, joining them with the last run where they touch.
func addRun(runs []store.Run, first store.UID, count uint32) []store.Run {
	if n := len(runs); n > 0 && runs[n-1].Last()+1 == first {
		runs[n-1].Count += count
		return runs
	}
	return append(runs, store.Run{First: first, Count: count})
}

// cutRuns takes the first n UIDs of runs.
func cutRuns(runs []store.Run, n uint32) (first, rest []store.Run) {
	for i, r := range runs {
		if r.Count > n {
			first = append(runs[:i:i], store.Run{First: r.First, Count: n})
			return first, append([]store.Run{{First: r.First + store.UID(n), Count: r.Count - n}}, runs[i+1:]...)
		}
		if n -= r.Count; n == 0 {
			return runs[: i+1 : i+1], runs[i+1:]
		}
	}
	return runs, nil
}

// runsCount is how many UIDs the runs hold.
func runsCount(runs []store.Run) int {
	n := 0
	for _, r := range runs {
		n += int(r.Count)
	}
	return n
}

// runsHold says whether uid is in runs, which ascend.
func runsHold(runs []store.Run, uid store.UID) bool {
	i := sort.Search(len(runs), func(i int) bool { return runs[i].Last() >= uid })
	return i < len(runs) && runs[i].First <= uid
}

// rangesHold says whether n is in ranges, which ascend.
func rangesHold(in []wire.Range, n uint32) bool {
	i := sort.Search(len(in), func(i int) bool { return in[i].Last >= n })
	return i < len(in) && in[i].First <= n
}

// mergeRuns is the union of two ascending lists.
func mergeRuns(a, b []store.Run) []store.Run {
	if len(b) == 0 {
		return a
	}
	if len(a) == 0 {
		return slices.Clone(b)
	}
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y store.Run) int {
		switch {
		case x.First < y.First:
			return -1
		case x.First > y.First:
			return 1
		}
		return 0
	})
	out := all[:1]
	for _, r := range all[1:] {
		l := &out[len(out)-1]
		if r.First <= l.Last()+1 {
			if e := r.Last(); e > l.Last() {
				l.Count = uint32(e-l.First) + 1
			}
			continue
		}
		out = append(out, r)
	}
	return out
}
