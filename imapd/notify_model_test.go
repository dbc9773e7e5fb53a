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

	"mssd/store"
)

// notified is a client that knows what it is told, and asks for nothing: the names, the subscriptions, what each mailbox
// holds, and the messages of the selected one.
type notified struct {
	*mirror
	names    nameSet
	subs     map[string]bool
	counts   map[string]counts
	selected string
}

type counts struct{ messages, next, validity, unseen string }

var (
	reStatus   = regexp.MustCompile(`^\* STATUS (\S+) \((.*)\)$`)
	reList     = regexp.MustCompile(`^\* LIST \(([^)]*)\) "/" (\S+)(?: \("OLDNAME" \((\S+)\)\))?$`)
	reValidity = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
	reAppend   = regexp.MustCompile(`^OK \[APPENDUID (\d+) (\d+)\]`)
)

func (n *notified) do(t *rapid.T, cmd string) (tagged string) {
	un, tagged := n.cmd(cmd)
	if !strings.HasPrefix(tagged, "OK") {
		t.Fatalf("%s: %q\n%s", cmd, tagged, n.all.String())
	}
	for _, l := range un {
		n.hear(t, l, cmd)
	}
	return tagged
}

func (n *notified) hear(t *rapid.T, l, cmd string) {
	if g := reStatus.FindStringSubmatch(l); g != nil {
		if g[1] == n.selected && !strings.HasPrefix(cmd, "SELECT") {
			t.Fatalf("%q of the selected mailbox\n%s", l, n.all.String())
		}
		c, f := n.counts[g[1]], strings.Fields(g[2])
		for i := 0; i+1 < len(f); i += 2 {
			*map[string]*string{"MESSAGES": &c.messages, "UIDNEXT": &c.next, "UIDVALIDITY": &c.validity, "UNSEEN": &c.unseen, "HIGHESTMODSEQ": new(string)}[f[i]] = f[i+1]
		}
		n.counts[g[1]] = c
		return
	}
	if g := reList.FindStringSubmatch(l); g != nil {
		line := nameLine{name: g[2], former: g[3], gone: strings.Contains(g[1], `\NonExistent`)}
		if line.former != "" {
			n.moveAll(line.former, line.name)
		}
		n.names.follow(line)
		n.subs[line.name] = strings.Contains(g[1], `\Subscribed`)
		return
	}
	n.follow(t, l, cmd, strings.HasPrefix(cmd, "UID STORE"))
}

func (n *notified) moveAll(from, to string) {
	moved := map[string]counts{}
	for name, c := range n.counts {
		if name == from || strings.HasPrefix(name, from+"/") {
			moved[to+name[len(from):]] = c
		}
	}
	maps.DeleteFunc(n.counts, func(name string, _ counts) bool { return name == from || strings.HasPrefix(name, from+"/") })
	maps.Copy(n.counts, moved)
	if n.selected == from || strings.HasPrefix(n.selected, from+"/") {
		n.selected = to + n.selected[len(from):]
	}
}

// open selects another mailbox. Of the one it leaves it knows what it was told.
func (n *notified) open(t *rapid.T, box string) {
	un := n.ok("SELECT " + box)
	closed := slices.IndexFunc(un, func(l string) bool { return strings.Contains(l, "[CLOSED]") })
	for _, l := range un[:max(closed, 0)] {
		n.hear(t, l, "NOOP")
	}
	if n.selected != "" {
		// It was told of messages, not of their number to come.
		n.counts[n.selected] = counts{messages: strconv.Itoa(len(n.uids)), validity: n.counts[n.selected].validity}
	}
	n.uids, n.flags, n.selected = nil, map[string]string{}, box
	for _, l := range un[closed+1:] {
		if reStatus.MatchString(l) || reList.MatchString(l) || reExists.MatchString(l) {
			n.hear(t, l, "SELECT")
		}
		if g := reValidity.FindStringSubmatch(l); g != nil { // it may be another one of this name
			c := n.counts[box]
			c.validity = g[1]
			n.counts[box] = c
		}
	}
	n.do(t, "UID FETCH 1:* (FLAGS)")
}

// add appends to a mailbox; what it does itself it counts itself, unless it is told.
func (n *notified) add(t *rapid.T, box string) {
	g := reAppend.FindStringSubmatch(n.do(t, "APPEND "+box+" {5+}\r\nabcde"))
	c := n.counts[box]
	uid, _ := strconv.Atoi(g[2])
	next := strconv.Itoa(uid + 1)
	if box == n.selected || c.next == next {
		return
	}
	messages, _ := strconv.Atoi(c.messages)
	c.messages, c.next, c.validity = strconv.Itoa(messages+1), next, g[1]
	if unseen, err := strconv.Atoi(c.unseen); err == nil {
		c.unseen = strconv.Itoa(unseen + 1)
	}
	n.counts[box] = c
}

// agree compares what the client knows with the store.
func (n *notified) agree(t *rapid.T, w *world, top string) {
	n.do(t, "NOOP")
	boxes := must[[]store.Mailbox](w.t, "mailboxes")(w.store.Mailboxes(w.bal.ID))
	subs := must[[]string](w.t, "subscriptions")(w.store.Subscriptions(w.bal.ID))
	var names []string
	for _, b := range boxes {
		if !b.Created || b.Name != top && !strings.HasPrefix(b.Name, top+"/") {
			continue
		}
		names = append(names, b.Name)
		if !n.names[b.Name] || n.subs[b.Name] != slices.Contains(subs, b.Name) {
			t.Fatalf("%s: known %v, subscribed %v\n%s", b.Name, n.names[b.Name], n.subs[b.Name], n.all.String())
		}
		want := counts{strconv.Itoa(int(b.Messages)), strconv.Itoa(int(b.UIDNext)), strconv.Itoa(int(b.UIDValidity)), strconv.Itoa(int(b.Unseen))}
		got := n.counts[b.Name]
		if b.Name == n.selected {
			got = counts{strconv.Itoa(len(n.uids)), want.next, want.validity, want.unseen}
		}
		if got.next == "" {
			got.next = want.next
		}
		if got.unseen == "" {
			got.unseen = want.unseen
		}
		if got != want {
			t.Fatalf("%s: the client has %v, the store %v\n%s", b.Name, got, want, n.all.String())
		}
	}
	for name := range n.names {
		if strings.HasPrefix(name, top) && !slices.Contains(names, name) {
			t.Fatalf("%s is known, and is not there\n%s", name, n.all.String())
		}
	}
}

// TestNotifyModel: whatever others do, in any order, a client that only listens knows the names, the subscriptions and
// the numbers of all mailboxes, and the messages of the one it has open.
func TestNotifyModel(t *testing.T) {
	w := newWorld(t, nil)
	rounds := 0
	rapid.Check(t, func(t *rapid.T) {
		rounds++
		top := fmt.Sprintf("R%d", rounds)
		path := func(name string) string { return strings.TrimSuffix(top+"/"+name, "/") }
		w.commit(createOp(w, path("a/x")), createOp(w, path("b")), createOp(w, path("open")))
		others := []*session{w.login(ownerName, ""), w.login(ownerName, "")}
		n := &notified{mirror: &mirror{session: w.login(ownerName, ""), flags: map[string]string{}}, names: nameSet{}, subs: map[string]bool{}, counts: map[string]counts{}}
		for _, s := range append([]*session{n.session}, others...) {
			defer s.nc.Close()
		}
		n.ok("ENABLE " + rapid.SampledFrom([]string{"X", "CONDSTORE", "QRESYNC"}).Draw(t, "enable"))
		for _, name := range []string{"", "a", "a/x", "b", "open"} {
			n.names[path(name)] = true
		}
		kind := rapid.SampledFrom([]string{"SELECTED", "SELECTED-DELAYED"}).Draw(t, "kind")
		n.do(t, "NOTIFY SET STATUS ("+kind+" (MessageNew (UID FLAGS) MessageExpunge FlagChange)) (SUBTREE "+top+
			" (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))")
		n.open(t, path("open"))
		name := rapid.SampledFrom([]string{"a", "a/x", "b", "b/y", "c", "c/z"})
		box := func(t *rapid.T) string { // one that exists
			if b := path(name.Draw(t, "box")); n.exists(w, b) {
				return b
			}
			return path("open")
		}
		other := func(t *rapid.T) *session { return others[rapid.IntRange(0, 1).Draw(t, "other")] }
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) { w.deliver(box(t), mail) },
			"create":  func(t *rapid.T) { other(t).cmd("CREATE " + path(name.Draw(t, "name"))) },
			"delete":  func(t *rapid.T) { n.spare(t, w, other(t), "DELETE "+path(name.Draw(t, "name"))) },
			"rename": func(t *rapid.T) {
				other(t).cmd("RENAME " + path(name.Draw(t, "from")) + " " + path(name.Draw(t, "to")))
			},
			"subscribe": func(t *rapid.T) {
				other(t).cmd(rapid.SampledFrom([]string{"", "UN"}).Draw(t, "un") + "SUBSCRIBE " + box(t))
			},
			"change": func(t *rapid.T) {
				s := other(t)
				s.ok("SELECT " + box(t))
				s.cmd("STORE 1 " + rapid.SampledFrom([]string{"+", "-"}).Draw(t, "mode") + "FLAGS (" + rapid.SampledFrom([]string{`\Seen`, `\Flagged`}).Draw(t, "flag") + ")")
				s.ok("UNSELECT")
			},
			"expunge": func(t *rapid.T) {
				s := other(t)
				s.ok("SELECT " + box(t))
				s.cmd(`STORE 1 +FLAGS (\Deleted)`)
				s.ok("CLOSE")
			},
			"move": func(t *rapid.T) {
				s := other(t)
				s.ok("SELECT " + box(t))
				s.cmd("MOVE 1 " + box(t))
				s.ok("UNSELECT")
			},
			"own append": func(t *rapid.T) { n.add(t, box(t)) },
			"open":       func(t *rapid.T) { n.open(t, box(t)) },
			"noop":       func(t *rapid.T) { n.do(t, "NOOP") },
		})
		n.agree(t, w, top)
	})
}

func (n *notified) exists(w *world, name string) bool {
	m, err := w.store.Mailbox(w.bal.ID, name)
	return err == nil && m.Created
}

// spare deletes a mailbox unless the client has it open: that would end its session.
func (n *notified) spare(t *rapid.T, w *world, s *session, cmd string) {
	n.do(t, "NOOP") // it may have been renamed
	if cmd != "DELETE "+n.selected {
		s.cmd(cmd)
	}
}
