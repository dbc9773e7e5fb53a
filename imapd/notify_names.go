package imapd

import (
	"slices"
	"strings"
)

// nameLine is one LIST response about a name.
type nameLine struct {
	name, former string // former: "" unless it was renamed
	gone         bool   // the mailbox that had the name was deleted; another may have it by now
}

// nameChange is what became of the name of a mailbox; "" where there is none.
type nameChange struct{ was, now string }

// nameLines puts changes of names into an order in which a client that takes one line after the other ends with the
// names that are there (RFC 5465, Section 5.4): a renamed mailbox takes those below it along, and one cannot be told to
// take a name before its owner was told to leave it. Names of which the client wants to hear nothing are left out, and
// those that it changed itself (made).
func nameLines(changes []nameChange, wants, made func(name string) bool) []nameLine {
	p := namePlan{at: map[string]int{}, said: map[string]bool{}}
	var created []string
	for _, c := range changes {
		switch {
		case c.was == "" && c.now == "":
		case c.was == "":
			if !made(c.now) {
				created = append(created, c.now)
			}
		case c.now == "":
			if made(c.was) {
				continue
			}
			if wants(c.was) {
				p.lines = append(p.lines, nameLine{name: c.was, gone: true})
			}
			created = append(created, nameAbove(c.was)) // affected too
		default:
			// One that has its name again counts too: the one above may have gone without it.
			p.moves = append(p.moves, move{nameChange: c, at: c.was, own: made(c.now), told: wants(c.was) || wants(c.now)})
		}
	}
	slices.SortFunc(p.lines, func(a, b nameLine) int { return strings.Compare(b.name, a.name) }) // what is below first
	p.rename()
	for _, name := range created {
		if above := nameAbove(name); above != "" && wants(above) {
			p.mention(above)
		}
	}
	for _, name := range created {
		if name != "" && wants(name) {
			p.mention(name)
		}
	}
	return p.lines
}

// move is a mailbox that was renamed, on its way.
type move struct {
	nameChange
	at        string // where a client that read the lines so far has it
	own, told bool
}

type namePlan struct {
	lines []nameLine
	moves []move
	at    map[string]int // how many moves are at a name
	knot  bool           // two are at one name, or one does not come to its own
	said  map[string]bool
}

// rename tells of renames. Mailboxes that go with the one above come last: then they are there already.
func (p *namePlan) rename() {
	to := map[string]string{}
	for _, m := range p.moves {
		if (m.told || m.own) && m.was != m.now {
			to[m.was] = m.now
		}
		p.at[m.at]++
	}
	slices.SortFunc(p.moves, func(a, b move) int {
		if x, y := goesAlong(to, a), goesAlong(to, b); x != y {
			if x {
				return 1
			}
			return -1
		}
		return strings.Compare(b.was, a.was) // what is below first
	})
	before, first := len(p.lines), slices.Clone(p.moves)
	for progress := true; progress && !p.knot; {
		progress = false
		for i := range p.moves {
			m := &p.moves[i]
			if m.at != m.now && p.at[m.now] == 0 && !p.knot {
				p.tell(m)
				progress = true
			}
		}
	}
	if !p.knot && !slices.ContainsFunc(p.moves, func(m move) bool { return m.at != m.now }) {
		return
	}
	// Names that were exchanged, or a tree moved into another that moved too: no order of renames says it.
	p.lines, p.said = p.lines[:before], map[string]bool{}
	for _, m := range first {
		if m.told && !m.own && m.was != m.now {
			p.lines = append(p.lines, nameLine{name: m.was, gone: true})
		}
	}
	for _, m := range first {
		if m.told && !m.own && m.was != m.now {
			p.mention(m.now)
		}
	}
}

// goesAlong says whether a mailbox goes where it goes because one above does.
func goesAlong(to map[string]string, m move) bool {
	for above := nameAbove(m.was); above != ""; above = nameAbove(above) {
		if now, ok := to[above]; ok {
			return m.now == now+m.was[len(above):]
		}
	}
	return false
}

func (p *namePlan) tell(m *move) {
	from, to := m.at, m.now
	if m.told && !m.own {
		p.lines = append(p.lines, nameLine{name: to, former: from})
		p.said[to] = true
	}
	p.arrive(m, to)
	if !m.told && !m.own {
		return // the client knows neither it nor that what is below goes along
	}
	for i := range p.moves {
		if o := &p.moves[i]; strings.HasPrefix(o.at, from+string(delim)) {
			p.arrive(o, to+o.at[len(from):])
		}
	}
}

func (p *namePlan) arrive(m *move, at string) {
	p.at[m.at]--
	p.at[at]++
	p.knot = p.knot || p.at[at] > 1 || m.at == m.now // it was where it belongs already
	m.at = at
}

// mention tells that a name is as LIST says, once.
func (p *namePlan) mention(name string) {
	if !p.said[name] {
		p.lines = append(p.lines, nameLine{name: name})
		p.said[name] = true
	}
}
