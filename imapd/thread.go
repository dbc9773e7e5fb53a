package imapd

import (
	"cmp"
	"slices"

	"mssd/imapd/wire"
	"mssd/message"
	"mssd/store"
)

// Bounds of THREAD: beyond them a message is a thread of its own, or a reference does not count.
const (
	maxReferences = 100  // ids of one message, the last ones
	maxThread     = 500  // messages in one line from root to leaf
	maxWalk       = 5000 // messages looked at to find a ring
	// maxRefsAll bounds the ids of all messages of one THREAD: of those that come after it the nearest one counts.
	maxRefsAll = 400_000
)

// node is a message in a thread, or a place where one is known to have been (uid 0).
type node struct {
	uid      store.UID
	date     int64 // sent
	subject  string
	reply    bool // the subject has the marks of a reply
	refs     []message.RefID
	id       message.RefID // zero: none
	parent   *node
	children []*node
}

// THREAD: RFC 5256, Section 3.
func (c *conn) cmdThread(cmd *wire.Command) (response, error) {
	a, err := wire.ParseThread(cmd)
	if err != nil {
		return response{}, err
	}
	s := &search{conn: c, tag: cmd.Tag}
	var rows []store.Row
	s.take = func(r store.Row) { rows = append(rows, r) }
	if err := s.find(a.Key, a.ModSeq); err != nil {
		return response{}, err
	}
	slices.SortFunc(rows, func(x, y store.Row) int { return cmp.Compare(x.UID, y.UID) })
	nodes, err := s.nodes(rows, a.Algorithm == "REFERENCES")
	if err != nil {
		return response{}, err
	}
	var roots []*node
	if a.Algorithm == "REFERENCES" {
		roots = threadByReferences(nodes)
	} else {
		roots = threadBySubject(nodes)
	}
	s.out.add(func(b []byte) []byte {
		b = append(b, "* THREAD"...)
		if len(roots) > 0 {
			b = append(b, ' ')
		}
		for _, r := range roots {
			b = s.appendThread(b, r, a.UID)
		}
		return append(b, "\r\n"...)
	})
	return s.done(cmd.Name, wire.Search{}), nil
}

// nodes reads what threads are made of.
func (s *search) nodes(rows []store.Row, references bool) ([]*node, error) {
	keys, err := s.sortKeys(rows, true)
	if err != nil {
		return nil, err
	}
	nodes, all := make([]*node, len(rows)), make([]node, len(rows))
	for i, r := range rows {
		k := &keys[i]
		all[i] = node{uid: r.UID, date: sentDate(r, k), subject: k.Subject, reply: k.Reply, id: k.ID}
		nodes[i] = &all[i]
	}
	if references {
		err = s.references(rows, keys, nodes, maxRefsAll)
	}
	return nodes, err
}

// references gives each node the ids of its References, or else the first of its In-Reply-To (RFC 5256, Section 3, REFERENCES,
// step 1). Of each message that comes after left ids in all, the nearest one counts.
func (s *search) references(rows []store.Row, keys []message.SortKeys, nodes []*node, left int) error {
	s.part(len(rows))
	for i, r := range rows {
		s.progress(1)
		if err := s.pointless(); err != nil {
			return err
		}
		field, err := s.referencesOf(r)
		if err != nil && !isUnreadable(err) {
			return err
		}
		ids := messageIDs(field)
		n := nodes[i]
		for _, id := range ids[max(0, len(ids)-max(left, 1)):] {
			n.refs = append(n.refs, message.NewRefID(id))
		}
		if len(ids) == 0 && keys[i].InReplyTo != (message.RefID{}) {
			n.refs = []message.RefID{keys[i].InReplyTo}
		}
		left -= len(n.refs)
	}
	return nil
}

// referencesOf is the field of a message, unfolded, "" where it has none.
func (c *conn) referencesOf(r store.Row) (string, error) {
	t, err := c.srv.Store.Header(c.ctx, r.Message)
	if err != nil {
		return "", err
	}
	return c.referencesField(r, &t)
}

// referencesField looks into the stored words whether there is such a field at all; most messages have none. The ids
// are read from the header itself, since the words are folded.
func (c *conn) referencesField(r store.Row, t *message.Text) (string, error) {
	if found, sure := t.Field("references", nil); !found && sure {
		return "", nil
	}
	m, err := c.srv.Store.Meta(c.ctx, r.Message)
	if err != nil {
		return "", err
	}
	content, err := c.srv.Store.OpenMessage(c.sel.ref.BAL, r.Message)
	if err != nil {
		return "", err
	}
	defer content.Close()
	header, err := readAt(content, int64(len(content.Prefix())), min(m.HeaderLen, maxFields))
	if err != nil {
		return "", err
	}
	return unfold.Replace(string(message.SelectFields(header, []string{"References"}, false))), nil
}

// messageIDs is the ids of a field, at most maxReferences of them, the last ones: those are nearest.
func messageIDs(s string) []string {
	var ids []string
	for id := range message.References(s) {
		ids = append(ids, id)
	}
	return ids[max(0, len(ids)-maxReferences):]
}

// threadBySubject: ORDEREDSUBJECT. The oldest message of a subject is the root, the others are its children.
func threadBySubject(nodes []*node) []*node {
	sortNodes(nodes)
	first := make(map[string]*node)
	var roots []*node
	for _, n := range nodes {
		root := first[n.subject]
		if root == nil {
			first[n.subject] = n
			roots = append(roots, n)
			continue
		}
		root.children = append(root.children, n)
	}
	return roots
}

// sortNodes orders by the sent date, then by number.
func sortNodes(nodes []*node) {
	slices.SortFunc(nodes, func(x, y *node) int {
		return cmp.Or(cmp.Compare(x.when(), y.when()), cmp.Compare(x.number(), y.number()))
	})
}

// when is the date by which a node is sorted: of a place without a message that of its first child.
func (n *node) when() int64 {
	for n.uid == 0 && len(n.children) > 0 {
		n = n.children[0]
	}
	return n.date
}

func (n *node) number() store.UID {
	for n.uid == 0 && len(n.children) > 0 {
		n = n.children[0]
	}
	return n.uid
}

// threadByReferences: REFERENCES, RFC 5256, Section 3, by its steps.
func threadByReferences(nodes []*node) []*node {
	byID := make(map[message.RefID]*node, len(nodes))
	// Step 1: a message whose id another one has already gets one of its own; those without an id too.
	for _, n := range nodes {
		if n.id != (message.RefID{}) && byID[n.id] == nil {
			byID[n.id] = n
		}
	}
	places := slices.Clone(nodes)
	for _, n := range nodes {
		var last *node
		for _, id := range n.refs {
			ref := byID[id]
			if ref == nil {
				ref = &node{id: id}
				byID[id] = ref
				places = append(places, ref)
			}
			// Step 1.A: a link that exists is left alone, one that would make a ring is not made.
			if last != nil && ref.parent == nil && !ref.above(last) {
				ref.adopt(last)
			}
			last = ref
		}
		// Step 1.B: the last reference is the parent, whatever another message's References say.
		// It leaves that of theirs even where its own would make a ring, or where it has none.
		n.leave()
		if last != nil && !n.above(last) {
			n.adopt(last)
		}
	}
	// Step 2: who has no parent is a root.
	var roots []*node
	for _, n := range places {
		if n.parent == nil {
			roots = append(roots, n)
		}
	}
	roots = prune(cutDeep(roots))
	// Step 4 and 5: sort by date, gather what has the same subject.
	for _, r := range roots {
		r.children = sortedTree(r.children)
	}
	sortNodes(roots)
	roots = gather(roots)
	// Step 6.
	for _, r := range roots {
		r.children = sortedTree(r.children)
	}
	sortNodes(roots)
	return roots
}

// above reports whether n stands above or at m. A line that is very long counts as one that ends in a ring.
func (n *node) above(m *node) bool {
	if n != m && len(n.children) == 0 {
		return false
	}
	for i := 0; m != nil; i++ {
		if m == n || i == maxWalk {
			return true
		}
		m = m.parent
	}
	return false
}

func (n *node) adopt(parent *node) {
	n.parent = parent
	parent.children = append(parent.children, n)
}

func (n *node) leave() {
	if p := n.parent; p != nil {
		p.children = slices.DeleteFunc(p.children, func(c *node) bool { return c == n })
		n.parent = nil
	}
}

// cutDeep makes roots of what stands too deep, so that no thread of a hostile sender is deeper than what follows can
// walk.
func cutDeep(roots []*node) []*node {
	type at struct {
		*node
		depth int
	}
	var queue []at
	for _, r := range roots {
		queue = append(queue, at{r, 0})
	}
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if n.depth == maxThread {
			roots = append(roots, n.children...)
			for _, c := range n.children {
				queue = append(queue, at{c, 0})
			}
			n.children = nil
			continue
		}
		for _, c := range n.children {
			queue = append(queue, at{c, n.depth + 1})
		}
	}
	return roots
}

// prune is step 3: places without a message go; their children take their place, but at the root several stay together
// under it.
func prune(list []*node) []*node {
	var out []*node
	for _, n := range list {
		n.children = pruneBelow(n.children)
		switch {
		case n.uid != 0 || len(n.children) > 1:
			out = append(out, n)
		case len(n.children) == 1:
			out = append(out, n.children[0])
		}
	}
	return out
}

func pruneBelow(list []*node) []*node {
	var out []*node
	for _, n := range list {
		n.children = pruneBelow(n.children)
		if n.uid != 0 {
			out = append(out, n)
		} else {
			out = append(out, n.children...)
		}
	}
	return out
}

// sortedTree sorts the children, and theirs: from below, since the date of an empty place is that of its first child.
func sortedTree(list []*node) []*node {
	for _, n := range list {
		n.children = sortedTree(n.children)
	}
	sortNodes(list)
	return list
}

// gather is step 5: roots of the same subject become one thread.
func gather(roots []*node) []*node {
	table := make(map[string]*node)
	for _, r := range roots {
		subject, reply := r.topic()
		if subject == "" {
			continue
		}
		old := table[subject]
		if old == nil || old.uid != 0 && (r.uid == 0 || old.isReply() && !reply) {
			table[subject] = r
		}
	}
	var out []*node
	under := make(map[*node]bool) // stands below a new place already
	for _, r := range roots {
		if under[r] {
			continue
		}
		subject, reply := r.topic()
		old := table[subject]
		switch {
		case subject == "" || old == r:
			out = append(out, r)
		case old.uid == 0 && r.uid == 0:
			old.children = append(old.children, r.children...)
		case old.uid == 0, reply && !old.isReply():
			old.children = append(old.children, r)
		default: // two that are alike, neither an answer to the other: siblings under a new place
			both := &node{children: []*node{old, r}}
			table[subject], under[old] = both, true
			if i := slices.Index(out, old); i >= 0 {
				out[i] = both
			} else {
				out = append(out, both)
			}
		}
	}
	return out
}

// topic is the subject of a thread: that of its root, or of the first child of an empty place.
func (n *node) topic() (string, bool) {
	for n.uid == 0 && len(n.children) > 0 {
		n = n.children[0]
	}
	return n.subject, n.reply
}

func (n *node) isReply() bool {
	_, reply := n.topic()
	return reply
}

// appendThread writes a thread: a line of only children without parentheses, each of several in its own
// (RFC 5256, Section 5, thread-list).
func (s *search) appendThread(b []byte, n *node, uid bool) []byte {
	b = append(b, '(')
	wrote := false
	for ; ; n = n.children[0] {
		if n.uid != 0 {
			if wrote {
				b = append(b, ' ')
			}
			num := uint64(n.uid)
			if !uid {
				num = uint64(s.sel.view.seq(n.uid))
			}
			b, wrote = wire.AppendNumber(b, num), true
		}
		if len(n.children) != 1 {
			break
		}
	}
	if len(n.children) > 0 && wrote {
		b = append(b, ' ')
	}
	for _, c := range n.children {
		b = s.appendThread(b, c, uid)
	}
	return append(b, ')')
}
