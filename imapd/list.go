package imapd

import (
	"slices"
	"strings"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// entry is a mailbox under the name this session uses, for LIST and LSUB.
type entry struct {
	shown      string
	box        store.Mailbox
	grant      auth.Grant
	children   bool
	subscribed bool
}

// entries is everything the session may list, in order of names. A right that ended is left out.
func (c *conn) entries() ([]entry, error) {
	var list []entry
	for i, g := range c.user.names.grants {
		if c.srv.Auth.Check(c.user.who, g) != nil {
			continue
		}
		boxes, err := c.srv.Store.Mailboxes(g.BAL.ID)
		if err != nil {
			return nil, err
		}
		subs, err := c.srv.Store.Subscriptions(g.BAL.ID)
		if err != nil {
			return nil, err
		}
		subscribed, known := make(map[string]bool), make(map[string]bool)
		for _, s := range subs {
			subscribed[s] = true
		}
		parents := make(map[string]bool)
		for _, b := range boxes {
			known[b.Name] = true
			for j := 0; j < len(b.Name); j++ {
				if b.Name[j] == delim {
					parents[b.Name[:j]] = true
				}
			}
		}
		for _, b := range boxes {
			if i == 0 && c.user.names.hidden(b.Name) {
				continue
			}
			list = append(list, entry{c.user.names.show(i, b.Name), c.ours(b), g, parents[b.Name], subscribed[b.Name]})
		}
		if i > 0 {
			list = c.user.names.above(list, i)
		}
		for _, s := range subs {
			if !known[s] && (i > 0 || !c.user.names.hidden(s)) {
				list = append(list, entry{shown: c.user.names.show(i, s), box: store.Mailbox{Name: s}, grant: g, subscribed: true})
			}
		}
	}
	sortEntries(list)
	return list, nil
}

func sortEntries(list []entry) {
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.shown, b.shown) })
}

// above adds the levels over the mailboxes of the grant with index i, for clients that descend with "%".
func (n namespace) above(list []entry, i int) []entry {
	for _, level := range []string{strings.TrimSuffix(otherPrefix, string(delim)), otherPrefix + string(n.grants[i].BAL.Address)} {
		if at := slices.IndexFunc(list, func(e entry) bool { return e.shown == level }); at >= 0 {
			list[at].children = true
		} else {
			list = append(list, entry{shown: level, children: true})
		}
	}
	return list
}

// attributes are the LIST attributes of an entry; each one is true (RFC 9051, Section 7.3.1; RFC 3348).
func (e entry) attributes(a wire.List) []string {
	var attrs []string
	if !e.box.Created {
		attrs = append(attrs, `\NonExistent`, `\Noselect`)
	}
	if e.children {
		attrs = append(attrs, `\HasChildren`)
	} else {
		attrs = append(attrs, `\HasNoChildren`)
	}
	// SPECIAL-USE attributes stand in plain LIST too: clients look for them there (RFC 6154, Section 2).
	if e.box.SpecialUse != "" {
		attrs = append(attrs, e.box.SpecialUse)
	}
	if e.subscribed && (a.SelectSubscribed || a.ReturnSubscribed) {
		attrs = append(attrs, `\Subscribed`)
	}
	return attrs
}

// RFC 9051, Section 6.3.9; RFC 5258; RFC 5819.
func (c *conn) cmdList(cmd *wire.Command) (response, error) {
	a, err := wire.ParseList(cmd)
	if err != nil {
		return response{}, err
	}
	if slices.Contains(a.ReturnStatus, wire.StatusHighestModSeq) {
		c.enableCondStore()
	}
	if !a.Extended && len(a.Patterns) == 1 && a.Patterns[0] == "" {
		// A question for the delimiter and the root of the reference.
		c.listLine(wire.ListData{Command: "LIST", Attributes: []string{`\Noselect`}, Delim: delim})
		return okay("LIST completed"), nil
	}
	list, err := c.entries()
	if err != nil {
		return response{}, err
	}
	var under map[string]below
	if a.SelectRecursive {
		list, under = recursive(a, list)
	}
	for _, e := range list {
		if err := c.pointless(); err != nil {
			return response{}, err
		}
		c.listEntry(a, e, under[e.shown])
	}
	return okay("LIST completed"), nil
}

// listEntry tells of one name: of those that the patterns match the ones that are selected, and, with RECURSIVEMATCH, those above a
// selected one that they do not match (RFC 5258, Section 3.3).
func (c *conn) listEntry(a wire.List, e entry, b below) {
	chosen := e.chosen(a)
	switch {
	case !matchAny(a, e.shown), !chosen && !b.unseen:
		return
	case !a.SelectSubscribed && !e.box.Created && !e.children && !b.unseen:
		return // only a subscription is left of it
	}
	c.listLine(wire.ListData{Command: "LIST", Attributes: e.attributes(a), Delim: delim, Name: e.shown, ChildInfo: b.info(a)})
	// Nothing more of a name that is no mailbox, or is there for those below it (RFC 5819, Section 3; RFC 8440, Section 4).
	if !e.box.Created || !chosen {
		return
	}
	if a.ReturnMyRights {
		c.myRightsLine(e.shown, e.grant)
	}
	if len(a.ReturnMetadata) > 0 { // RFC 9590
		_, err := c.metadataLine(wire.GetMetadata{Mailbox: e.shown, Entries: a.ReturnMetadata, MaxSize: -1}, annotated{e.box.Ref, e.box, e.grant})
		if err != nil {
			c.log.Warn("metadata cannot be read", "mailbox", uint32(e.box.Ref.Mailbox), "err", err)
		}
	}
	if len(a.ReturnStatus) > 0 {
		c.statusLine(e.shown, e.box, a.ReturnStatus)
	}
}

func matchAny(a wire.List, name string) bool {
	return slices.ContainsFunc(a.Patterns, func(p string) bool { return wire.MatchList(a.Reference+p, name, delim) })
}

func (c *conn) listLine(d wire.ListData) {
	c.out.add(func(b []byte) []byte { return wire.AppendList(b, d, c.inUTF8()) })
}

// LSUB: RFC 3501, Section 6.3.9. With "%" a subscribed child shows its parent with \Noselect.
func (c *conn) cmdLsub(cmd *wire.Command) (response, error) {
	a, err := wire.ParseList(cmd)
	if err != nil {
		return response{}, err
	}
	list, err := c.entries()
	if err != nil {
		return response{}, err
	}
	done, looked := make(map[string]bool), make(map[string]bool)
	for _, e := range list {
		if err := c.pointless(); err != nil {
			return response{}, err
		}
		if !e.subscribed {
			continue
		}
		if matchAny(a, e.shown) {
			done[e.shown] = true
			var attrs []string
			if !e.box.Created {
				attrs = []string{`\Noselect`}
			}
			c.listLine(wire.ListData{Command: "LSUB", Attributes: attrs, Delim: delim, Name: e.shown})
			continue
		}
		for j := len(e.shown) - 1; j > 0; j-- {
			parent := e.shown[:j]
			// One that is subscribed is done: it stands before what is below it.
			if e.shown[j] != delim || looked[parent] || !strings.HasSuffix(a.Patterns[0], "%") {
				continue
			}
			looked[parent] = true
			if !done[parent] && matchAny(a, parent) {
				done[parent] = true
				c.listLine(wire.ListData{Command: "LSUB", Attributes: []string{`\Noselect`}, Delim: delim, Name: parent})
			}
		}
	}
	return okay("LSUB completed"), nil
}

// RFC 9051, Section 6.3.11. Counters are kept by the store: no message is read.
func (c *conn) cmdStatus(cmd *wire.Command) (response, error) {
	a, err := wire.ParseStatus(cmd)
	if err != nil {
		return response{}, err
	}
	if slices.Contains(a.Items, wire.StatusHighestModSeq) {
		c.enableCondStore()
	}
	m, _, err := c.box(a.Mailbox)
	if err != nil {
		return response{}, err
	}
	c.statusLine(a.Mailbox, m, a.Items)
	return okay("STATUS completed"), nil
}

func (c *conn) statusLine(shown string, m store.Mailbox, items []wire.StatusItem) {
	values := make([]wire.StatusValue, 0, len(items))
	for _, it := range items {
		v := wire.StatusValue{Item: it, Value: c.statusValue(m, it)}
		if it == wire.StatusMailboxID {
			v.Text = "(" + mailboxID(m) + ")"
		}
		values = append(values, v)
	}
	c.out.add(func(b []byte) []byte { return wire.AppendStatus(b, shown, c.inUTF8(), values) })
}

func (c *conn) statusValue(m store.Mailbox, it wire.StatusItem) uint64 {
	switch it {
	case wire.StatusMessages:
		return uint64(m.Messages)
	case wire.StatusRecent:
		return c.recentIn(m)
	case wire.StatusUIDNext:
		return uint64(m.UIDNext)
	case wire.StatusUIDValidity:
		return uint64(m.UIDValidity)
	case wire.StatusUnseen:
		return uint64(m.Unseen)
	case wire.StatusDeleted:
		return uint64(m.Deleted)
	case wire.StatusSize:
		return uint64(m.Octets)
	case wire.StatusHighestModSeq:
		return uint64(m.HighestModSeq)
	case wire.StatusDeletedStorage:
		return uint64(c.deletedOctets(m))
	case wire.StatusAppendLimit:
		return uint64(c.srv.MaxMessage)
	}
	return 0
}

// recentIn counts the messages that no session was told of.
func (c *conn) recentIn(m store.Mailbox) uint64 {
	n, err := c.srv.Store.RecentCount(m.Ref)
	if err != nil {
		return 0 // the mailbox went meanwhile
	}
	return uint64(n)
}

// RFC 9051, Section 6.3.7. The name need not exist.
func (c *conn) cmdSubscribe(cmd *wire.Command) (response, error)   { return c.subscribe(cmd, true) }
func (c *conn) cmdUnsubscribe(cmd *wire.Command) (response, error) { return c.subscribe(cmd, false) }

func (c *conn) subscribe(cmd *wire.Command, on bool) (response, error) {
	name, err := wire.ParseMailbox(cmd)
	if err != nil {
		return response{}, err
	}
	find := c.free
	if on {
		find = c.fresh
	}
	p, err := find(name)
	if err != nil {
		return response{}, err
	}
	if err := c.commit(store.Subscribe{BAL: p.grant.BAL.ID, Name: p.name, On: on}); err != nil {
		return response{}, err
	}
	c.did(p)
	return okay(cmd.Name + " completed"), nil
}

// RFC 2342. Further BALs stand in the namespace of other users.
func (c *conn) cmdNamespace(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	others := "NIL"
	if len(c.user.names.grants) > 1 {
		others = `(("` + otherPrefix + `" "/"))`
	}
	c.out.line(`* NAMESPACE (("" "/")) ` + others + ` NIL`)
	return okay("NAMESPACE completed"), nil
}
