package imapd

import (
	"slices"
	"strings"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// maxNotifyNames bounds the mailbox names of one NOTIFY.
const maxNotifyNames = 1000

// notify is what a session asked to be told. A session that never asked has none, and costs nothing.
type notify struct {
	selection
	others *others // nil: nothing of mailboxes that are not selected
}

// selection is what is told of the selected mailbox.
type selection struct {
	messages bool             // new and expunged ones
	flags    bool             // that others changed
	delayed  bool             // EXPUNGE only while a command allows it
	push     []wire.FetchItem // told of each new message
}

// everything is what a session is told that never sent NOTIFY (RFC 5465, Section 3.1).
var everything = selection{messages: true, flags: true, delayed: true}

// told is what is told of the selected mailbox.
func (c *conn) told() selection {
	if c.notify == nil {
		return everything
	}
	return c.notify.selection
}

// others is what is told of mailboxes that are not selected.
type others struct {
	news  *store.News
	want  []*interest // by index of the grant; nil: nothing of this BAL
	lost  []bool      // the right on it has ended, by index of the grant
	left  []left      // mailboxes that were selected
	made  map[store.BoxName]bool
	added map[store.Ref]added
	noted map[store.AnnotationName]bool
}

// left is a mailbox that was selected, as the client was told of it.
type left struct {
	ref store.Ref
	was store.Mailbox
}

// added is what this session put into another mailbox: the client knows.
type added struct{ commits, messages uint32 }

// interest is what matters of the mailboxes of one BAL. It does not change.
type interest struct {
	all, inbox, subscribed store.Matters
	names, trees           map[string]store.Matters // names within the BAL
	bal                    store.Matters            // of the BAL itself
}

// of is a store.Interest. The groups of a NOTIFY add up (RFC 5465, Section 6).
func (w *interest) of(name string, subscribed bool) store.Matters {
	if name == "" {
		return w.bal
	}
	m := w.all | w.names[name]
	if name == "INBOX" {
		m |= w.inbox
	}
	if subscribed {
		m |= w.subscribed
	}
	if len(w.trees) > 0 {
		m |= w.trees[name]
		for i := range len(name) {
			if name[i] == delim {
				m |= w.trees[name[:i]]
			}
		}
	}
	return m
}

// errBadEvent: RFC 5465, Section 3.1 wants all events that are supported.
var errBadEvent = no("BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)", "This event is not supported")

// RFC 5465, Section 3.1.
func (c *conn) cmdNotify(cmd *wire.Command) (response, error) {
	a, err := wire.ParseNotify(cmd)
	if err != nil {
		return response{}, err
	}
	names := 0
	for _, g := range a.Groups {
		if g.Events&wire.NotifyUnknown != 0 {
			return response{}, errBadEvent
		}
		names += len(g.Names)
	}
	if names > maxNotifyNames {
		return response{}, no("NOTIFICATIONOVERFLOW", "Name fewer mailboxes")
	}
	c.endNotify()
	if len(a.Groups) == 0 {
		c.notify = &notify{}
		return okay("NOTIFY completed"), nil
	}
	n := &notify{selection: selectionOf(a.Groups), others: c.watchOthers(a.Groups)}
	if slices.ContainsFunc(n.push, func(it wire.FetchItem) bool { return it.Kind == wire.FetchModSeq }) {
		c.enableCondStore()
	}
	// Whatever happened until now is told, also to who wants to hear no more.
	c.notify = &notify{selection: everything}
	c.notify.push = n.push
	if c.sel != nil {
		c.sel.rewind()
	}
	err = c.sync(all)
	c.notify = n
	if err != nil {
		return response{}, err
	}
	if a.Status {
		if err := c.statusOfOthers(); err != nil {
			return response{}, err
		}
	}
	return okay("NOTIFY completed"), nil
}

// endNotify ends what NOTIFY asked for before; then the session is told nothing, as after NOTIFY NONE.
func (c *conn) endNotify() {
	if c.notify == nil {
		return
	}
	if o := c.notify.others; o != nil {
		o.news.Close()
	}
	c.notify = &notify{}
}

// overflow gives up telling, and says so (RFC 5465, Section 5.8).
func (c *conn) overflow() {
	c.endNotify()
	c.out.line("* OK [NOTIFICATIONOVERFLOW] Changes are no longer told, ask again")
}

func selectionOf(groups []wire.NotifyGroup) (s selection) {
	for _, g := range groups {
		if g.OfSelected() {
			s = selection{messages: g.Events&wire.NotifyMessageNew != 0, flags: g.Events&wire.NotifyFlagChange != 0,
				delayed: g.Filter == wire.NotifySelectedDelayed, push: g.Fetch}
		}
	}
	return s
}

// watchOthers begins to watch what the groups name, nil where they name nothing.
func (c *conn) watchOthers(groups []wire.NotifyGroup) *others {
	grants := c.user.names.grants
	o := &others{want: make([]*interest, len(grants)), lost: make([]bool, len(grants))}
	for _, g := range groups {
		if g.Events&wire.NotifyServerMetadataChange != 0 {
			o.in(0).bal = store.MatterAnnotations // the server is the BAL of the session (metadata.go)
		}
		if m := mattersOf(g.Events); m != 0 && !g.OfSelected() {
			o.add(c.user.names, g, m)
		}
	}
	want := map[store.BALID]store.Interest{}
	for i, w := range o.want {
		if w != nil {
			want[grants[i].BAL.ID] = w.of
			o.lost[i] = c.srv.Auth.Check(c.user.who, grants[i]) != nil
		}
	}
	if len(want) == 0 {
		return nil
	}
	o.news = c.srv.Store.WatchNews(want)
	return o
}

func mattersOf(e wire.NotifyEvents) (m store.Matters) {
	for _, p := range [...]struct {
		event   wire.NotifyEvents
		matters store.Matters
	}{{wire.NotifyMessageNew, store.MatterMessages}, {wire.NotifyFlagChange, store.MatterFlags},
		{wire.NotifyMailboxName, store.MatterNames}, {wire.NotifySubscriptionChange, store.MatterSubscriptions},
		{wire.NotifyMailboxMetadataChange, store.MatterAnnotations}} {
		if e&p.event != 0 {
			m |= p.matters
		}
	}
	return m
}

func (o *others) add(names namespace, g wire.NotifyGroup, m store.Matters) {
	switch g.Filter {
	case wire.NotifyPersonal: // the first BAL is the personal namespace
		o.in(0).all |= m
	case wire.NotifyInboxes: // where deliveries go
		o.in(0).inbox |= m
	case wire.NotifySubscribed:
		for i := range o.want {
			o.in(i).subscribed |= m
		}
	}
	for _, name := range g.Names {
		if g.Filter == wire.NotifySubtree {
			o.levelsAbove(names, name, m)
		}
		p := names.resolve(name)
		i := slices.IndexFunc(names.grants, func(g auth.Grant) bool { return g.BAL.ID == p.grant.BAL.ID })
		if g.Filter == wire.NotifySubtree {
			o.in(i).trees[p.name] |= m
		} else {
			o.in(i).names[p.name] |= m
		}
	}
}

// levelsAbove is the subtree of a name above the mailboxes of other BALs.
func (o *others) levelsAbove(names namespace, name string, m store.Matters) {
	for i := 1; i < len(names.grants); i++ {
		if strings.EqualFold(name+string(delim), otherPrefix) || strings.EqualFold(name, otherPrefix+string(names.grants[i].BAL.Address)) {
			o.in(i).all |= m
		}
	}
}

func (o *others) in(i int) *interest {
	if o.want[i] == nil {
		o.want[i] = &interest{names: map[string]store.Matters{}, trees: map[string]store.Matters{}}
	}
	return o.want[i]
}

// statusOfOthers answers the word STATUS of NOTIFY SET: one for each mailbox whose messages are watched, but not for the
// selected one.
func (c *conn) statusOfOthers() error {
	if c.notify.others == nil {
		return nil
	}
	for i, w := range c.notify.others.want {
		if w == nil || c.notify.others.lost[i] {
			continue
		}
		id := c.user.names.grants[i].BAL.ID
		boxes, err := c.srv.Store.Mailboxes(id)
		if err != nil {
			return err
		}
		for _, b := range boxes {
			m := w.of(b.Name, c.srv.Store.Subscribed(id, b.Name))
			if m&store.MatterMessages == 0 || !b.Created || c.isSelected(b.Ref) {
				continue
			}
			items := []wire.StatusItem{wire.StatusMessages, wire.StatusUIDNext, wire.StatusUIDValidity}
			if m&store.MatterFlags != 0 {
				items = append(items, wire.StatusUnseen, wire.StatusHighestModSeq)
			}
			c.statusLine(c.user.names.show(i, b.Name), b, items)
		}
	}
	return nil
}

func (c *conn) isSelected(r store.Ref) bool { return c.sel != nil && c.sel.ref == r }

// rewind goes back to where a session that NOTIFY kept in the dark was last told all.
func (s *selected) rewind() {
	if s.quiet != 0 {
		s.modSeq, s.quiet = s.quiet, 0
	}
}
