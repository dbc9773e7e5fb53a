package wire

// NotifyFilter names the mailboxes of a group (RFC 5465, Section 6).
type NotifyFilter uint8

const (
	NotifySelected NotifyFilter = iota
	NotifySelectedDelayed
	NotifyInboxes
	NotifyPersonal
	NotifySubscribed
	NotifySubtree   // of Names
	NotifyMailboxes // Names
)

var notifyFilters = map[string]NotifyFilter{"SELECTED": NotifySelected, "SELECTED-DELAYED": NotifySelectedDelayed, "INBOXES": NotifyInboxes,
	"PERSONAL": NotifyPersonal, "SUBSCRIBED": NotifySubscribed, "SUBTREE": NotifySubtree, "MAILBOXES": NotifyMailboxes}

// NotifyEvents is a set of events (RFC 5465, Section 5).
type NotifyEvents uint8

const (
	NotifyMessageNew NotifyEvents = 1 << iota
	NotifyMessageExpunge
	NotifyFlagChange
	NotifyMailboxName
	NotifySubscriptionChange
	NotifyMailboxMetadataChange
	NotifyServerMetadataChange // of whatever mailboxes the group is
	NotifyUnknown              // an event that is not known here
)

var notifyEvents = map[string]NotifyEvents{"MESSAGENEW": NotifyMessageNew, "MESSAGEEXPUNGE": NotifyMessageExpunge, "FLAGCHANGE": NotifyFlagChange,
	"MAILBOXNAME": NotifyMailboxName, "SUBSCRIPTIONCHANGE": NotifySubscriptionChange,
	"MAILBOXMETADATACHANGE": NotifyMailboxMetadataChange, "SERVERMETADATACHANGE": NotifyServerMetadataChange}

// NotifyGroup is what a client wants to hear of some mailboxes.
type NotifyGroup struct {
	Filter NotifyFilter
	Names  []string
	Events NotifyEvents // none: NONE
	Fetch  []FetchItem  // of new messages; only with NotifySelected and NotifySelectedDelayed
}

// OfSelected says whether the group is about the selected mailbox.
func (g NotifyGroup) OfSelected() bool {
	return g.Filter == NotifySelected || g.Filter == NotifySelectedDelayed
}

// Notify is a NOTIFY command: without a group, NOTIFY NONE.
type Notify struct {
	Status bool // the STATUS of the mailboxes is asked for
	Groups []NotifyGroup
}

// ParseNotify reads the arguments of NOTIFY (RFC 5465, Section 8). Names may be as many as ranges of a set.
func ParseNotify(c *Command) (n Notify, err error) {
	l := c.lexer()
	if l.takeWord("NONE") {
		return n, l.end()
	}
	if !l.takeWord("SET") {
		return n, bad("NONE or SET is expected")
	}
	if err := l.space(); err != nil {
		return n, err
	}
	if l.takeWord("STATUS") {
		n.Status = true
		if err := l.space(); err != nil {
			return n, err
		}
	}
	selected := false
	for len(n.Groups) < l.lim.Keys {
		g, err := l.notifyGroup()
		if err != nil {
			return Notify{}, err
		}
		if g.OfSelected() && selected {
			return Notify{}, bad("Only one group is about the selected mailbox")
		}
		selected = selected || g.OfSelected()
		n.Groups = append(n.Groups, g)
		if !l.take(' ') {
			return n, l.end()
		}
	}
	return Notify{}, bad("Too many groups")
}

func (l *lexer) notifyGroup() (g NotifyGroup, err error) {
	if err := l.need('('); err != nil {
		return g, err
	}
	w, err := l.word()
	if err != nil {
		return g, err
	}
	known := false
	if g.Filter, known = notifyFilters[w]; !known {
		return g, bad("Unknown mailbox filter")
	}
	if err := l.space(); err != nil {
		return g, err
	}
	if g.Filter == NotifySubtree || g.Filter == NotifyMailboxes {
		if g.Names, err = l.notifyNames(); err != nil {
			return g, err
		}
		if err := l.space(); err != nil {
			return g, err
		}
	}
	if !l.takeWord("NONE") {
		if err := l.list(func() error { return l.notifyEvent(&g) }); err != nil {
			return g, err
		}
		if err := g.check(); err != nil {
			return g, err
		}
	}
	return g, l.need(')')
}

func (l *lexer) notifyNames() (names []string, err error) {
	keys := l.lim.Keys
	l.lim.Keys = l.lim.SetItems
	defer func() { l.lim.Keys = keys }()
	one := func() error {
		name, err := l.mailbox()
		names = append(names, name)
		return err
	}
	if !l.peek('(') {
		err = one()
		return names, err
	}
	if err = l.list(one); err == nil && len(names) == 0 {
		err = bad("Mailbox name missing")
	}
	return names, err
}

func (l *lexer) notifyEvent(g *NotifyGroup) error {
	w, err := l.word()
	if err != nil {
		return err
	}
	e, known := notifyEvents[w]
	if !known {
		e = NotifyUnknown
	}
	g.Events |= e
	if e != NotifyMessageNew || len(l.b) < 2 || l.b[0] != ' ' || l.b[1] != '(' {
		return nil
	}
	if !g.OfSelected() {
		return bad("What to fetch can be said of the selected mailbox alone")
	}
	l.take(' ')
	var f Fetch
	if err := l.list(func() error { return l.fetchItem(&f) }); err != nil {
		return err
	}
	if len(f.Items) == 0 {
		return bad("Fetch item missing")
	}
	g.Fetch = f.Items
	return nil
}

// check holds the rules of RFC 5465, Sections 5 and 6.1.
func (g *NotifyGroup) check() error {
	const messages = NotifyMessageNew | NotifyMessageExpunge
	switch {
	case g.Events == 0:
		return bad("Event missing")
	case g.OfSelected() && g.Events&(NotifyMailboxName|NotifySubscriptionChange|NotifyMailboxMetadataChange|NotifyServerMetadataChange) != 0:
		return bad("Only events of messages are for the selected mailbox")
	case g.Events&messages != 0 && g.Events&messages != messages:
		return bad("MessageNew and MessageExpunge go together")
	case g.Events&NotifyFlagChange != 0 && g.Events&messages == 0:
		return bad("FlagChange needs MessageNew and MessageExpunge")
	}
	return nil
}

// AppendMetadataChanged appends a METADATA response that names entries (RFC 5464, Section 4.4.2).
func AppendMetadataChanged(dst []byte, mailbox string, inUTF8 bool, entries []string) []byte {
	dst = AppendMailbox(append(dst, "* METADATA "...), mailbox, inUTF8)
	for _, e := range entries {
		dst = AppendAString(append(dst, ' '), e)
	}
	return append(dst, "\r\n"...)
}
