package imapd

import (
	"maps"
	"slices"
	"strings"

	"mssd/imapd/wire"
	"mssd/store"
)

// tellOthers tells what happened in mailboxes that are not selected: names first, then what is in them.
func (c *conn) tellOthers() {
	if c.notify == nil || c.notify.others == nil {
		return
	}
	o := c.notify.others
	t := o.news.Take()
	gone := o.left
	made, own := o.made, o.added
	for a := range o.noted {
		delete(t.Annotations, a)
	}
	o.left, o.made, o.added, o.noted = nil, nil, nil, nil
	if t.Over {
		c.overflow()
		return
	}
	for _, l := range gone {
		if t.Boxes == nil {
			t.Boxes = map[store.Ref]store.Mailbox{}
		}
		// What the client was told of while it was selected counts, but for the name.
		was := l.was
		if first, ok := t.Boxes[l.ref]; ok {
			was.Name = first.Name
		}
		t.Boxes[l.ref] = was
	}
	if t.Empty() && len(c.user.names.grants) == 1 {
		return
	}
	for i, w := range o.want {
		// A right on a further BAL may end by its date, of which the store tells nobody.
		if w == nil || len(c.user.names.grants) == 1 && !t.Of(c.user.names.grants[i].BAL.ID) {
			continue
		}
		b := balNews{conn: c, at: i, want: w, made: made, own: own}
		if !b.allowed() {
			continue
		}
		b.take(&t)
		b.tellNames()
		b.tellMessages()
		b.tellAnnotations(t.Annotations)
	}
}

// balNews is what is told of one BAL.
type balNews struct {
	*conn
	at    int // index of the grant
	want  *interest
	made  map[store.BoxName]bool
	own   map[store.Ref]added
	boxes []boxNews
	subs  []string // names whose subscription changed
}

// boxNews is a mailbox at two moments; Created is false where it did not or does not exist.
type boxNews struct{ was, now store.Mailbox }

func (b *balNews) id() store.BALID { return b.user.names.grants[b.at].BAL.ID }

// allowed asks for the right on the BAL. When it ends, and when it comes back, the mailboxes are told of
// (RFC 5465, Section 5.9).
func (b *balNews) allowed() bool {
	o := b.notify.others
	lost := b.srv.Auth.Check(b.user.who, b.user.names.grants[b.at]) != nil
	if lost != o.lost[b.at] {
		o.lost[b.at] = lost
		b.tellRight(lost)
	}
	return !lost
}

// tellRight tells of each mailbox that is watched that it can no longer be opened, or can again.
func (b *balNews) tellRight(lost bool) {
	boxes, err := b.srv.Store.Mailboxes(b.id())
	if err != nil {
		return
	}
	var back []nameLine
	for _, m := range boxes {
		what := b.matters(m.Name)
		switch {
		case what == 0 || !m.Created:
		case !lost:
			back = append(back, nameLine{name: m.Name})
		default:
			attrs := []string{`\NoAccess`}
			if what&store.MatterNames != 0 { // Section 5.4: as if it were deleted
				attrs = []string{`\NonExistent`, `\NoAccess`}
			}
			b.listLine(wire.ListData{Command: "LIST", Attributes: attrs, Delim: delim, Name: b.user.names.show(b.at, m.Name)})
		}
	}
	b.list(back)
}

// take sorts out what belongs to this BAL.
func (b *balNews) take(t *store.Tidings) {
	for ref, was := range t.Boxes {
		if ref.BAL != b.id() {
			continue
		}
		now, err := b.srv.Store.MailboxByRef(ref)
		if err != nil {
			now = store.Mailbox{Ref: ref}
		}
		b.boxes = append(b.boxes, boxNews{was, now})
	}
	slices.SortFunc(b.boxes, func(x, y boxNews) int {
		return strings.Compare(x.was.Name+x.now.Name, y.was.Name+y.now.Name)
	})
	for name, was := range t.Subscriptions {
		if name.BAL != b.id() || b.made[name] {
			continue
		}
		if b.srv.Store.Subscribed(b.id(), name.Name) != was && b.want.of(name.Name, true)&store.MatterSubscriptions != 0 {
			b.subs = append(b.subs, name.Name)
		}
	}
}

// matters is what the session wants to hear of a name.
func (b *balNews) matters(name string) store.Matters {
	return b.want.of(name, b.srv.Store.Subscribed(b.id(), name))
}

func (b *balNews) wantsName(name string) bool { return b.matters(name)&store.MatterNames != 0 }

// isMade says whether this session itself changed a name.
func (b *balNews) isMade(name string) bool {
	return b.made[store.BoxName{BAL: b.id(), Name: name}]
}

// nameAbove is the name of the level above, "" at the top.
func nameAbove(name string) string { return name[:max(strings.LastIndexByte(name, delim), 0)] }

// tellNames tells of names and of subscriptions.
func (b *balNews) tellNames() {
	changes := make([]nameChange, 0, len(b.boxes))
	for _, n := range b.boxes {
		changes = append(changes, nameChange{n.was.Name, n.now.Name})
	}
	lines := nameLines(changes, b.wantsName, b.isMade)
	slices.Sort(b.subs)
	for _, name := range b.subs {
		if !slices.ContainsFunc(lines, func(l nameLine) bool { return l.name == name && !l.gone }) {
			lines = append(lines, nameLine{name: name})
		}
	}
	b.list(lines)
}

// list tells of names what LIST says of them now.
func (b *balNews) list(lines []nameLine) {
	if len(lines) == 0 {
		return
	}
	names := make([]string, len(lines))
	for i, l := range lines {
		names[i] = l.name
	}
	listed, err := b.srv.Store.Listed(b.id(), names)
	if err != nil {
		return
	}
	for i, l := range listed {
		e := entry{box: b.ours(l.Mailbox), children: l.Children, subscribed: l.Subscribed}
		if lines[i].gone {
			e.box = store.Mailbox{}
		}
		d := wire.ListData{Command: "LIST", Attributes: e.attributes(wire.List{ReturnSubscribed: true}), Delim: delim,
			Name: b.user.names.show(b.at, names[i])}
		if former := lines[i].former; former != "" {
			d.OldName = b.user.names.show(b.at, former)
		}
		b.listLine(d)
	}
}

// tellMessages tells what is in mailboxes now (RFC 5465, Sections 5.1 to 5.3).
func (b *balNews) tellMessages() {
	for _, n := range b.boxes {
		if !n.now.Created || b.isSelected(n.now.Ref) || b.isOwn(n) {
			continue
		}
		if items := b.items(n, b.matters(n.now.Name)); items != nil {
			b.statusLine(b.user.names.show(b.at, n.now.Name), n.now, items)
		}
	}
}

// tellAnnotations names the entries that changed and that this person may read (RFC 5465, Sections 5.6 and 5.7).
func (b *balNews) tellAnnotations(changed map[store.AnnotationName]struct{}) {
	entries := map[string][]string{} // by mailbox, "" for the BAL
	for a := range changed {
		if a.Ref.BAL != b.id() || a.Person != "" && a.Person != b.user.who.Person {
			continue
		}
		name := ""
		if a.Ref.Mailbox != 0 {
			m, err := b.srv.Store.MailboxByRef(a.Ref)
			if err != nil {
				continue
			}
			name = m.Name
		}
		if b.matters(name)&store.MatterAnnotations != 0 {
			entries[name] = append(entries[name], shownEntry(store.Annotation{Person: a.Person, Entry: a.Entry}))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		slices.Sort(entries[name])
		b.out.add(func(out []byte) []byte {
			shown := name
			if name != "" {
				shown = b.user.names.show(b.at, name)
			}
			return wire.AppendMetadataChanged(out, shown, b.inUTF8(), entries[name])
		})
	}
}

// noted notes that this session changed annotations.
func (c *conn) noted(ops []store.Op) {
	if c.notify == nil || c.notify.others == nil {
		return
	}
	c.notify.others.noted = map[store.AnnotationName]bool{}
	for _, op := range ops {
		if p, ok := op.(store.PutAnnotation); ok {
			c.notify.others.noted[store.AnnotationName{Ref: p.Ref, Person: p.Person, Entry: p.Entry}] = true
		}
	}
}

// isOwn says whether nothing happened but what this session did itself.
func (b *balNews) isOwn(n boxNews) bool {
	a, ok := b.own[n.now.Ref]
	if !n.was.Created && n.now.UIDNext == 1 && b.isMade(n.now.Name) {
		return true
	}
	return ok && n.was.Created && n.now.Messages == n.was.Messages+a.messages && uint32(n.now.UIDNext) == uint32(n.was.UIDNext)+a.messages &&
		n.now.HighestModSeq == n.was.HighestModSeq+store.ModSeq(a.commits)
}

// items are those of the STATUS for what happened, nil where there is nothing to tell. UIDVALIDITY is always among them:
// another mailbox may have taken the name.
func (b *balNews) items(n boxNews, m store.Matters) []wire.StatusItem {
	fresh := !n.was.Created && n.now.UIDNext == 1 // there is nothing in it yet
	other := n.was.UIDNext != n.now.UIDNext || n.was.Messages != n.now.Messages || n.was.UIDValidity != n.now.UIDValidity
	var items []wire.StatusItem
	switch {
	case m&store.MatterMessages != 0 && other && !(fresh && m&store.MatterFlags == 0):
		items = []wire.StatusItem{wire.StatusMessages, wire.StatusUIDNext, wire.StatusUIDValidity}
	case m&store.MatterFlags != 0 && n.was.HighestModSeq != n.now.HighestModSeq && (b.condStore || n.was.Unseen != n.now.Unseen):
		items = []wire.StatusItem{wire.StatusUIDValidity}
	default:
		return nil
	}
	if m&store.MatterFlags != 0 {
		items = append(items, wire.StatusUnseen)
	}
	if b.condStore {
		items = append(items, wire.StatusHighestModSeq)
	}
	return items
}

// did notes that this session changed a name or its subscription: the client knows (RFC 5465, Section 5).
func (c *conn) did(p place) {
	if c.notify == nil || c.notify.others == nil {
		return
	}
	if c.notify.others.made == nil {
		c.notify.others.made = map[store.BoxName]bool{}
	}
	c.notify.others.made[store.BoxName{BAL: p.grant.BAL.ID, Name: p.name}] = true
}

// put notes that this session put messages into a mailbox, in one operation.
func (c *conn) put(to store.Ref, fresh []store.Run) {
	switch {
	case c.notify == nil || len(fresh) == 0:
	case c.isSelected(to) && !c.notify.messages:
	case c.isSelected(to):
		c.sel.mine = mergeRuns(c.sel.mine, fresh)
	case c.notify.others != nil:
		o := c.notify.others
		if o.added == nil {
			o.added = map[store.Ref]added{}
		}
		a := o.added[to]
		o.added[to] = added{a.commits + 1, a.messages + uint32(runsCount(fresh))}
	}
}

// leave notes what the client was told of a mailbox that it leaves: what it was not told of is told as of any other.
func (c *conn) leave() {
	if c.notify == nil || c.notify.others == nil {
		return
	}
	s := c.sel
	m, err := c.srv.Store.MailboxByRef(s.ref)
	if err != nil || m.HighestModSeq == s.sure && len(s.gone) == 0 {
		return
	}
	m.UIDNext, m.Messages, m.HighestModSeq, m.Unseen = s.view.next, s.view.count(), s.sure, ^uint32(0)
	c.notify.others.left = append(c.notify.others.left, left{s.ref, m})
}

// push tells of new messages what the client wants to hear of each (RFC 5465, Section 5.2). Nothing is marked as \Seen:
// nobody read it.
func (c *conn) push(fresh []store.Run) error {
	items := c.told().push
	fresh = subtractRuns(fresh, ranges(c.sel.mine))
	c.sel.mine = nil
	if len(items) == 0 || len(fresh) == 0 {
		return nil
	}
	f := &fetch{conn: c, args: wire.Fetch{Items: slices.Clone(items)}}
	f.plan()
	f.mark = false
	var rowErr error
	err := c.srv.Store.Rows(c.ctx, c.sel.ref, fresh, func(r store.Row) bool {
		rowErr = f.row(r)
		return rowErr == nil && c.out.err == nil
	})
	f.traced()
	if err == nil {
		err = rowErr
	}
	return err
}
