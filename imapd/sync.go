package imapd

import (
	"slices"
	"strconv"

	"mssd/auth"
	"mssd/store"
)

// selected is the mailbox that a session has open. It is made by SELECT and thrown away whole.
type selected struct {
	ref      store.Ref
	grant    auth.Grant
	readOnly bool
	validity store.UIDValidity
	view     view
	modSeq   store.ModSeq // the view shows the mailbox as of here
	// gone holds messages that others expunged and whose EXPUNGE could not be sent yet, ascending.
	gone []store.Run
	sure store.ModSeq // up to here the client was told all, EXPUNGE too
	// quiet is where NOTIFY began to hide what happens, 0 where it hides nothing.
	quiet store.ModSeq
	mine  []store.Run // put here by this session, where NOTIFY is to tell of new messages
	left  bool        // the command at hand told of messages that went
	// recent are the messages that this session is the first to see (RFC 3501, Section 2.3.2): those from
	// recentFrom on within the snapshot, later ones run by run.
	recent   []store.Run
	saved    []store.Run // what "$" means (RFC 5182): UIDs, some of which may be gone
	own      []ownChange
	told     []store.Run // whose flags the last sync told, ascending
	keywords []string
	watch    *store.Watcher
}

// unselect leaves the mailbox, if one is selected.
func (c *conn) unselect() {
	if c.sel != nil {
		c.leave()
		c.sel.watch.Close()
		c.sel = nil
		c.live.Needs(auth.Grant{})
	}
}

// announce says which of its moments a command allows.
type announce uint8

const (
	nothing   announce = iota // the command says all itself
	noExpunge                 // everything but EXPUNGE (RFC 3501, Section 7.4.1)
	all
	removed // all, also what NOTIFY hides of what went: the command asked for it
)

// sync compares the view with the store and tells the client the difference.
func (c *conn) sync(how announce) error {
	s := c.sel
	if s == nil || how == nothing {
		return nil
	}
	ch, err := c.srv.Store.Changes(s.ref, s.modSeq)
	if err != nil {
		return err
	}
	if ch.Reset || ch.Mailbox.UIDValidity != s.validity {
		return errGone
	}
	s.gone = mergeRuns(s.gone, ch.Vanished)
	tells := c.told()
	if (how == all && tells.messages || how == removed) && len(s.gone) > 0 {
		c.expunge(s.gone)
		s.gone = nil
	}
	old, hidden := s.view.next, false
	var fresh []store.Run
	if tells.messages {
		if fresh = c.takeNew(ch); len(fresh) > 0 {
			c.exists()
		}
	}
	c.newKeywords()
	s.told = nil
	for _, r := range ch.Rows {
		switch {
		case r.UID >= old:
			hidden = hidden || !tells.messages
		case hides(s.own, r):
		case !tells.flags:
			hidden = true
		default:
			c.flagsOf(r, c.notify != nil)
			s.told = addRun(s.told, r.UID, 1)
		}
	}
	s.own = nil
	if hidden && s.quiet == 0 {
		s.quiet = s.modSeq
	}
	s.modSeq = ch.Mailbox.HighestModSeq
	if len(s.gone) == 0 && s.quiet == 0 {
		s.sure = s.modSeq
	}
	if len(fresh) > 0 && c.notify != nil {
		if err := c.push(fresh); err != nil {
			c.log.Warn("new messages could not be told of", "err", err)
			c.overflow()
		}
	}
	return nil
}

// takeNew appends the new messages to the view and gives their UIDs.
func (c *conn) takeNew(ch store.Changes) []store.Run {
	s, old := c.sel, c.sel.view.next
	var fresh []store.Run
	for _, r := range ch.Rows {
		if s.view.append(r.UID) {
			fresh = addRun(fresh, r.UID, 1)
		}
	}
	s.view.next = max(s.view.next, ch.Mailbox.UIDNext)
	if len(fresh) == 0 {
		return nil
	}
	if !s.readOnly {
		first := max(c.srv.Store.ClaimRecent(s.ref, s.view.next), old)
		for _, r := range fresh {
			if r.Last() < first {
				continue
			}
			from := max(r.First, first)
			s.recent = addRun(s.recent, from, uint32(r.Last()-from)+1)
		}
	}
	c.notified(fresh)
	return fresh
}

// exists says how many messages there are, and how many are recent.
func (c *conn) exists() {
	c.out.number(c.sel.view.count(), "EXISTS")
	if !c.rev2 {
		c.out.number(c.sel.recentCount(), "RECENT")
	}
}

// recentCount counts the recent messages that are still in the view.
func (s *selected) recentCount() uint32 {
	return uint32(runsCount(s.view.hold(s.recent)))
}

// expunge takes messages out of the view and says so, from the highest number down: each number is then
// right at the moment the client reads it.
func (c *conn) expunge(gone []store.Run) {
	c.sel.left = true
	if c.vanishes() {
		c.vanished(false, c.sel.view.hold(gone))
		c.sel.view.remove(gone)
		return
	}
	for _, n := range slices.Backward(c.sel.view.remove(gone)) {
		c.out.number(uint32(n), "EXPUNGE")
	}
}

// newKeywords tells of keywords that the mailbox did not have at the last FLAGS response: a client must see
// a flag there before it meets it in a FETCH (RFC 9051, Section 7.3.5).
func (c *conn) newKeywords() {
	now := c.srv.Store.MailboxKeywords(c.sel.ref)
	if slices.Equal(now, c.sel.keywords) {
		return
	}
	c.sel.keywords = slices.Clone(now)
	c.flagsLine()
}

// flagsLine is the FLAGS response.
func (c *conn) flagsLine() {
	c.out.add(func(b []byte) []byte {
		b = append(b, "* FLAGS ("...)
		b = append(b, systemFlags...)
		for _, k := range c.sel.keywords {
			b = append(b, ' ')
			b = append(b, k...)
		}
		return append(b, ")\r\n"...)
	})
}

// systemFlags in the order in which they are always written.
const systemFlags = `\Answered \Flagged \Deleted \Seen \Draft`

// flagNames are the names of the bits.
var flagNames = [...]struct {
	flag store.Flag
	name string
}{
	{store.Answered, `\Answered`}, {store.Flagged, `\Flagged`}, {store.Deleted, `\Deleted`},
	{store.Seen, `\Seen`}, {store.Draft, `\Draft`},
}

// flagsOf tells of the flags of one message, with its UID where the command speaks in UIDs
// (RFC 9051, Section 6.4.9).
func (c *conn) flagsOf(r store.Row, withUID bool) {
	n := c.sel.view.seq(r.UID)
	if n == 0 {
		return
	}
	c.out.add(func(b []byte) []byte {
		b = c.head(b, n, r.UID)
		if c.withUID(withUID) {
			b = append(b, "UID "...)
			b = strconv.AppendUint(b, uint64(r.UID), 10)
			b = append(b, ' ')
		}
		b = c.appendFlags(b, r)
		if c.condStore {
			b = appendModSeq(append(b, ' '), r)
		}
		return append(b, ")\r\n"...)
	})
}

// appendFlags appends the FLAGS item of a message.
func (c *conn) appendFlags(b []byte, r store.Row) []byte {
	b = append(b, "FLAGS ("...)
	start := len(b)
	for _, f := range flagNames {
		if r.Flags&f.flag != 0 {
			b = append(b, f.name...)
			b = append(b, ' ')
		}
	}
	if !c.rev2 && runsHold(c.sel.recent, r.UID) {
		b = append(b, `\Recent `...)
	}
	if r.Keywords != 0 {
		for _, k := range c.srv.Store.Keywords(r.Keywords) {
			b = append(b, k...)
			b = append(b, ' ')
		}
	}
	if len(b) > start {
		b = b[:len(b)-1]
	}
	return append(b, ')')
}

// ownChange is what this session did to flags itself and has told, or need not tell.
type ownChange struct {
	before, after store.ModSeq // of the mailbox when it was asked for, and by the change
	uids          []store.Run  // what it touched
	silent        bool
}

// hides says whether sync need not tell of a row: the client knows. A silent change is hidden only when nobody
// else wrote in between, since a row then shows that other change too.
func hides(own []ownChange, r store.Row) bool {
	return slices.ContainsFunc(own, func(o ownChange) bool {
		return r.ModSeq == o.after && runsHold(o.uids, r.UID) && (!o.silent || o.after == o.before+1)
	})
}
