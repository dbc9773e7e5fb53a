package imapd

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"mssd/imapd/wire"
	"mssd/store"
	"mssd/trace"
)

// commit makes operations without an event of their own durable.
func (c *conn) commit(ops ...store.Op) error {
	_, err := c.srv.Store.Commit(c.ctx, &store.Batch{Ops: ops})
	return err
}

// RFC 9051, Section 6.3.4. A trailing delimiter only says that children will follow.
func (c *conn) cmdCreate(cmd *wire.Command) (response, error) {
	a, err := wire.ParseCreate(cmd)
	if err != nil {
		return response{}, err
	}
	p, err := c.fresh(strings.TrimSuffix(a.Mailbox, string(delim)))
	if err != nil {
		return response{}, err
	}
	if !fairName(p.name) {
		return response{}, store.ErrName
	}
	use, err := c.use(p, a.Uses)
	if err != nil {
		return response{}, err
	}
	if err := c.mailboxOp("create", p, store.CreateMailbox{BAL: p.grant.BAL.ID, Name: p.name, SpecialUse: use}); err != nil {
		return response{}, err
	}
	c.did(p)
	m, err := c.srv.Store.Mailbox(p.grant.BAL.ID, p.name)
	if err != nil {
		return okay("CREATE completed"), nil // it was, and somebody removed it
	}
	return response{statusOK, "MAILBOXID (" + mailboxID(m) + ")", "CREATE completed"}, nil
}

// fairName says whether a new name is what it looks like: no wildcard, by which nobody could ask for it alone, no mark
// that turns the direction of writing or that cannot be seen, one way only to write an accent (RFC 9051, Section 5.1; RFC 5198,
// Section 2). Levels named "." and ".." would lead clients that keep folders on a disk out of theirs, and a space at an end makes
// a twin of another name.
func fairName(name string) bool {
	if !norm.NFC.IsNormalString(name) ||
		strings.ContainsFunc(name, func(r rune) bool { return r == '%' || r == '*' || unicode.Is(unicode.Cf, r) }) {
		return false
	}
	for level := range strings.SplitSeq(name, string(delim)) {
		if level == "." || level == ".." || level != strings.TrimSpace(level) {
			return false
		}
	}
	return true
}

// uses are the special uses that a mailbox can be given (RFC 6154, Section 2).
var uses = []string{`\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`}

// use is the special use for a new mailbox, in its usual spelling. One mailbox of a BAL has it at most: of two a client
// would take either, and people would look for their mail in the other (RFC 6154, Section 3 allows to refuse).
func (c *conn) use(p place, asked []string) (string, error) {
	if len(asked) == 0 {
		return "", nil
	}
	bal := p.grant.BAL.ID
	if !c.user.names.isFirst(bal) {
		return "", no("USEATTR", "Special uses of another BAL are given by who opens it alone")
	}
	i := slices.IndexFunc(uses, func(u string) bool { return strings.EqualFold(u, asked[0]) })
	if len(asked) > 1 || i < 0 {
		return "", no("USEATTR", "A mailbox has one of the special uses Archive, Drafts, Junk, Sent and Trash")
	}
	boxes, err := c.srv.Store.Mailboxes(bal)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(boxes, func(m store.Mailbox) bool { return m.SpecialUse == uses[i] }) {
		return "", no("USEATTR", "Another mailbox has this special use")
	}
	return uses[i], nil
}

// RFC 9051, Section 6.3.5. The mailbox that this session has selected may go too: the session goes on with none
// selected. Sessions of others that have it open end with BYE.
func (c *conn) cmdDelete(cmd *wire.Command) (response, error) {
	name, err := wire.ParseMailbox(cmd)
	if err != nil {
		return response{}, err
	}
	m, g, err := c.target(name)
	if err != nil {
		return response{}, err
	}
	if m.Name == "INBOX" {
		return response{}, errNameFixed
	}
	gone := c.event(trace.Expunged, m.Ref, "")
	if err := c.srv.Store.DeleteMailbox(c.ctx, m.Ref, c.mailboxEvent("delete", place{grant: g, name: m.Name}), gone); err != nil {
		return response{}, err
	}
	c.did(place{grant: g, name: m.Name})
	if c.sel != nil && c.sel.ref == m.Ref {
		c.unselect() // the client deleted what it had open, and knows
	}
	return okay("DELETE completed"), nil
}

// RFC 9051, Section 6.3.6.
func (c *conn) cmdRename(cmd *wire.Command) (response, error) {
	from, to, err := wire.ParseTwoMailboxes(cmd)
	if err != nil {
		return response{}, err
	}
	src, err := c.free(from)
	if err != nil {
		return response{}, err
	}
	dst, err := c.fresh(strings.TrimSuffix(to, string(delim)))
	if err != nil {
		return response{}, err
	}
	if !fairName(dst.name) {
		return response{}, store.ErrName
	}
	if src.grant.BAL.ID != dst.grant.BAL.ID {
		return response{}, no("CANNOT", "A mailbox cannot be renamed into another BAL")
	}
	m, err := c.srv.Store.Mailbox(src.grant.BAL.ID, src.name)
	if err != nil {
		return response{}, err
	}
	var op store.Op = store.RenameMailbox{Ref: m.Ref, To: dst.name}
	if !m.Created {
		op = store.RenameTree{BAL: src.grant.BAL.ID, From: src.name, To: dst.name}
	}
	if err := c.mailboxOp("rename", src, op); err != nil {
		return response{}, err
	}
	c.did(dst)
	return okay("RENAME completed"), nil
}

// mailboxOp commits a change of the mailboxes of a BAL together with its event. The name of a mailbox may be
// that of a patient, so it is not in the event.
func (c *conn) mailboxOp(act string, p place, op store.Op) error {
	_, err := c.srv.Store.Commit(c.ctx, &store.Batch{Ops: []store.Op{op}, Events: []trace.Event{c.mailboxEvent(act, p)}})
	return err
}

func (c *conn) mailboxEvent(act string, p place) trace.Event {
	return c.event(trace.Mailbox, store.Ref{BAL: p.grant.BAL.ID}, "", trace.Attr{Key: trace.KeyAct, Value: act})
}
