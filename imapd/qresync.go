package imapd

import (
	"slices"
	"sort"
	"strings"

	"mssd/imapd/wire"
	"mssd/store"
)

// maxVanished bounds the ranges of one VANISHED response; what is longer comes in several.
const maxVanished = 1000

// vanished tells which UIDs went; earlier: before the client was told of the mailbox (RFC 7162, Section 3.2.10).
func (c *conn) vanished(earlier bool, runs []store.Run) {
	for part := range slices.Chunk(ranges(runs), maxVanished) {
		c.out.add(func(b []byte) []byte { return wire.AppendVanished(b, earlier, part) })
	}
}

// resync tells who opens a mailbox again what happened since (RFC 7162, Section 3.2.5).
func (c *conn) resync(q *wire.QResync) error {
	ch, err := c.srv.Store.Changes(c.sel.ref, store.ModSeq(q.ModSeq))
	if err != nil {
		return err
	}
	if ch.Reset {
		return store.ErrNoMailbox
	}
	known := everyUID
	if len(q.Known.Ranges) > 0 {
		known = q.Known.Resolve(0)
	}
	gone := c.goneEarlier(ch, known)
	// Up to a message that has both its number and its UID still, nothing went.
	if m := c.matched(q); m != 0 {
		gone = intersectRuns(gone, []wire.Range{{First: uint32(m) + 1, Last: ^uint32(0)}})
	}
	c.vanished(true, gone)
	var in inRanges
	for _, r := range ch.Rows {
		if in.has(known, uint32(r.UID)) {
			c.flagsOf(r, true) // what the view does not hold is told later
		}
	}
	return nil
}

// everyUID is the set of a client that names none.
var everyUID = []wire.Range{{First: 1, Last: ^uint32(0)}}

// goneEarlier is what went among the UIDs of set, but for what this session still has a number for: of these it is
// told in the usual way, when the command allows it.
func (c *conn) goneEarlier(ch store.Changes, set []wire.Range) []store.Run {
	var held []wire.Range
	for _, s := range c.sel.view.spans {
		held = append(held, wire.Range{First: uint32(s.first), Last: uint32(s.last())})
	}
	return subtractRuns(intersectRuns(ch.Vanished, set), held)
}

// matched is the greatest UID of the client's list whose message has the number that the client remembers, 0 for none.
// Both lists ascend, and where one pair is still right all before it are: the search need not look at each.
func (c *conn) matched(q *wire.QResync) store.UID {
	n := int(min(q.MatchSeqs.Count(), 1<<31))
	i := sort.Search(n, func(i int) bool {
		uid := c.sel.view.uid(SeqNum(q.MatchSeqs.At(uint64(i))))
		return uid == 0 || uint32(uid) != q.MatchUIDs.At(uint64(i))
	})
	if i == 0 {
		return 0
	}
	return store.UID(q.MatchUIDs.At(uint64(i - 1)))
}

// tellGone answers UID FETCH (CHANGEDSINCE n VANISHED) (RFC 7162, Section 3.2.6). "*" is the last UID that was given:
// the last messages may be among those that went.
func (c *conn) tellGone(since uint64, set wire.Set) error {
	ch, err := c.srv.Store.Changes(c.sel.ref, store.ModSeq(since))
	if err != nil {
		return err
	}
	if !ch.Reset {
		asked := set.Resolve(uint32(c.sel.view.next - 1))
		if set.Saved {
			asked = ranges(c.sel.saved)
		}
		c.vanished(true, c.goneEarlier(ch, asked))
	}
	return nil
}

// sureCode adds HIGHESTMODSEQ to the end of a command: after one that removed messages, and where EXPUNGE could not
// be sent while the MODSEQ of later changes was, so that the client does not believe that it knows more than it does
// (RFC 7162, Sections 3.2.9 and 3.2.10; RFC 8508, Section 4.5).
func (c *conn) sureCode(name string, r response) response {
	if !c.qresync || c.sel == nil {
		return r
	}
	went := c.sel.left && (strings.HasSuffix(name, "EXPUNGE") || strings.HasSuffix(name, "MOVE") || strings.HasSuffix(name, "REPLACE"))
	if !went && len(c.sel.gone) == 0 && c.sel.quiet == 0 {
		return r
	}
	if r.status == statusOK && r.code == "" {
		r.code = "HIGHESTMODSEQ " + itoa(int64(c.sel.sure))
	} else {
		c.highest(c.sel.sure)
	}
	return r
}

// inRanges asks for ascending numbers, one after the other, whether ranges hold them.
type inRanges struct{ at int }

func (i *inRanges) has(set []wire.Range, n uint32) bool {
	for i.at < len(set) && set[i.at].Last < n {
		i.at++
	}
	return i.at < len(set) && set[i.at].First <= n
}

// intersectRuns is the part of runs within set, both ascending.
func intersectRuns(runs []store.Run, set []wire.Range) []store.Run {
	var out []store.Run
	i := 0
	for _, r := range runs {
		lo, hi := uint32(r.First), uint32(r.Last())
		for i < len(set) && set[i].Last < lo {
			i++
		}
		for k := i; k < len(set) && set[k].First <= hi; k++ {
			from, to := max(lo, set[k].First), min(hi, set[k].Last)
			out = addRun(out, store.UID(from), to-from+1)
		}
	}
	return out
}

// subtractRuns is the part of runs outside of set, both ascending.
func subtractRuns(runs []store.Run, set []wire.Range) []store.Run {
	var out []store.Run
	i := 0
	for _, r := range runs {
		lo, hi := uint64(r.First), uint64(r.Last())
		for i < len(set) && uint64(set[i].Last) < lo {
			i++
		}
		for k := i; k < len(set) && uint64(set[k].First) <= hi; k++ {
			if first := uint64(set[k].First); first > lo {
				out = addRun(out, store.UID(lo), uint32(first-lo))
			}
			lo = uint64(set[k].Last) + 1
		}
		if lo <= hi {
			out = addRun(out, store.UID(lo), uint32(hi-lo)+1)
		}
	}
	return out
}
