package imapd

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mssd/imapd/wire"
	"mssd/store"
)

// cache is what a client with QRESYNC keeps of a mailbox between its connections.
type cache struct {
	validity, modSeq, next string
	flags                  map[int]string // by UID
}

var (
	reCode     = regexp.MustCompile(`\[(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ) (\d+)\]`)
	reVanished = regexp.MustCompile(`^\* VANISHED (\(EARLIER\) )?([0-9:,]+)$`)
	reResync   = regexp.MustCompile(`^\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\)(?: MODSEQ \((\d+)\))?\)$`)
)

// take brings the cache up to date with a response.
func (c *cache) take(l string) {
	if m := reCode.FindStringSubmatch(l); m != nil {
		switch m[1] {
		case "UIDVALIDITY":
			c.validity = m[2]
		case "UIDNEXT":
			c.next = m[2]
		default:
			c.modSeq = m[2]
		}
	}
	if m := reVanished.FindStringSubmatch(l); m != nil {
		for _, u := range numbersOf(m[2]) {
			delete(c.flags, u)
		}
	}
	if m := reResync.FindStringSubmatch(l); m != nil {
		u, _ := strconv.Atoi(m[1])
		c.flags[u] = strings.TrimSpace(strings.ReplaceAll(m[2], `\Recent`, ""))
	}
}

// numbersOf expands a set of a server.
func numbersOf(set string) (all []int) {
	for part := range strings.SplitSeq(set, ",") {
		lo, hi, _ := strings.Cut(part, ":")
		a, _ := strconv.Atoi(lo)
		b, _ := strconv.Atoi(hi)
		for n := a; n <= max(a, b); n++ {
			all = append(all, n)
		}
	}
	return all
}

// open selects the mailbox again and takes in what happened, in one of the ways that a client may choose.
func (c *cache) open(t *rapid.T, s *session, box string) {
	s.ok("ENABLE QRESYNC")
	param := ""
	if c.validity != "" {
		param = fmt.Sprintf(" (QRESYNC (%s %s", c.validity, c.modSeq)
		uids := slices.Sorted(maps.Keys(c.flags))
		if len(uids) > 0 {
			switch rapid.IntRange(0, 3).Draw(t, "known") {
			case 1:
				param += fmt.Sprintf(" 1:%d", uids[len(uids)-1])
			case 2:
				param += fmt.Sprintf(" (1:%d %s)", len(uids), setOf(uids))
			case 3:
				param += fmt.Sprintf(" %s (%d %d)", setOf(uids), len(uids), uids[len(uids)-1])
			}
		}
		param += "))"
	}
	next := c.next
	for _, l := range s.ok("SELECT " + box + param) {
		c.take(l)
	}
	if next == "" {
		next = "1"
	}
	for _, l := range s.ok("UID FETCH " + next + ":* (FLAGS)") { // what is new to it
		c.take(l)
	}
}

func setOf(uids []int) string {
	var rs []wire.Range
	for _, u := range uids {
		rs = append(rs, wire.Range{First: uint32(u), Last: uint32(u)})
	}
	return string(wire.AppendSet(nil, rs))
}

// TestResync: whatever others did meanwhile, a client that keeps a cache and asks for the changes only has in the end
// what a client has that asks for everything.
func TestResync(t *testing.T) {
	w := newWorld(t, nil)
	boxes := 0
	rapid.Check(t, func(t *rapid.T) {
		boxes++
		box := fmt.Sprintf("R%d", boxes)
		w.commit(createOp(w, box))
		others := w.login(ownerName, box)
		defer others.nc.Close()
		c := &cache{flags: map[int]string{}}
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			for range rapid.IntRange(0, 8).Draw(t, "changes") {
				count := int(w.box(box).Messages)
				n := rapid.IntRange(1, max(count, 1)).Draw(t, "number")
				flag := rapid.SampledFrom([]string{`\Seen`, `\Deleted`, "$Taken"}).Draw(t, "flag")
				others.ok("NOOP")
				switch rapid.IntRange(0, 3).Draw(t, "what") {
				case 0:
					w.deliver(box, mail)
				case 1:
					others.ok("EXPUNGE")
				default:
					if count > 0 {
						others.ok(fmt.Sprintf("STORE %d:* +FLAGS.SILENT (%s)", n, flag))
					}
				}
			}
			s := w.login(ownerName, "")
			c.open(t, s, box)
			all := &cache{flags: map[int]string{}}
			for _, l := range s.ok("UID FETCH 1:* (FLAGS)") {
				all.take(l)
			}
			if !maps.Equal(c.flags, all.flags) {
				t.Fatalf("the cache holds %v, the mailbox %v\n%s", c.flags, all.flags, s.all.String())
			}
			s.nc.Close()
		}
	})
}

// TestResyncPruned: where the record of what went no longer reaches back, every UID without a message is told; those
// that a client proves to know by a number that is right still are left out.
func TestResyncPruned(t *testing.T) {
	w := newWorld(t, nil)
	const many = 1100 // more than the store keeps a record of, one by one
	for range 3 {
		w.deliver("INBOX", mail)
	}
	s := w.login(ownerName, "INBOX")
	validity, from := w.box("INBOX").UIDValidity, w.box("INBOX").HighestModSeq
	for uid := 4; uid < 4+many; uid++ {
		w.commit(store.Copy{From: w.box("INBOX").Ref, Runs: []store.Run{{First: 1, Count: 1}}, To: w.box("INBOX").Ref})
		w.commit(store.Expunge{Ref: w.box("INBOX").Ref, Runs: []store.Run{{First: store.UID(uid), Count: 1}}, All: true})
	}
	w.commit(store.Expunge{Ref: w.box("INBOX").Ref, Runs: []store.Run{{First: 2, Count: 1}}, All: true})
	s.ok("UNSELECT")
	s.ok("ENABLE QRESYNC")
	for _, c := range []struct{ param, want string }{
		{"", "* VANISHED (EARLIER) 2,4:1103"},
		{" 1:3", "* VANISHED (EARLIER) 2"},
		{" 1:5 (1,2,3 1,2,3)", "* VANISHED (EARLIER) 2,4:5"},
		{" 3:9 (1,2 1,3)", "* VANISHED (EARLIER) 4:9"},
	} {
		un := s.ok(fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d%s))", validity, from, c.param))
		if got := grep(un, "VANISHED"); got != c.want {
			s.fail("QRESYNC%s: got %q, want %q", c.param, got, c.want)
		}
	}
}

func grep(lines []string, word string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, word) }), "\n")
}

// TestRuns: parts of runs.
func TestRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := func(name string) (runs []store.Run, set []wire.Range, has map[uint32]bool) {
			has = map[uint32]bool{}
			at := uint32(0)
			for range rapid.IntRange(0, 5).Draw(t, name) {
				at += rapid.Uint32Range(1, 4).Draw(t, "gap") + 1
				n := rapid.Uint32Range(1, 4).Draw(t, "count")
				for i := range n {
					has[at+i] = true
				}
				runs, set = append(runs, store.Run{First: store.UID(at), Count: n}), append(set, wire.Range{First: at, Last: at + n - 1})
				at += n - 1
			}
			return
		}
		runs, _, a := gen("runs")
		_, set, b := gen("set")
		for what, got := range map[string][]store.Run{"intersect": intersectRuns(runs, set), "subtract": subtractRuns(runs, set)} {
			for u := uint32(0); u < 60; u++ {
				want := a[u] && b[u] == (what == "intersect")
				if runsHold(got, store.UID(u)) != want {
					t.Fatalf("%s of %v and %v: %v, wrong at %d", what, runs, set, got, u)
				}
			}
		}
	})
}
