package imapd

import (
	"errors"
	"slices"
	"strconv"

	"mssd/imapd/wire"
	"mssd/store"
	"mssd/trace"
)

// RFC 9051, Sections 6.3.2 and 6.3.3.
func (c *conn) cmdSelect(cmd *wire.Command) (response, error)  { return c.selectBox(cmd, false) }
func (c *conn) cmdExamine(cmd *wire.Command) (response, error) { return c.selectBox(cmd, true) }

func (c *conn) selectBox(cmd *wire.Command, readOnly bool) (response, error) {
	a, err := wire.ParseSelect(cmd)
	if err != nil {
		return response{}, err
	}
	if a.QResync != nil && !c.qresync {
		return response{}, errQResync
	}
	if a.QResync != nil && c.uidOnly && len(a.QResync.MatchSeqs.Ranges) > 0 {
		return response{}, errUIDRequired // RFC 9586, Section 3.7
	}
	if c.sel != nil {
		// What was selected is left, also when the command fails (RFC 9051, Section 6.3.2).
		c.unselect()
		c.out.line("* OK [CLOSED] The former mailbox is closed")
	}
	c.condStore = c.condStore || a.CondStore
	m, g, err := c.box(a.Mailbox)
	if err != nil {
		return response{}, err
	}
	readOnly = readOnly || !mayWrite(g.Role)
	watch := c.srv.Store.Watch(m.Ref) // before the snapshot, so that nothing falls between
	snap, err := c.srv.Store.Snapshot(m.Ref, !readOnly)
	if err != nil {
		watch.Close()
		return response{}, err
	}
	c.sel = &selected{ref: m.Ref, grant: g, readOnly: readOnly, validity: snap.UIDValidity, watch: watch,
		view: newView(snap.Runs, snap.UIDNext), modSeq: snap.HighestModSeq, sure: snap.HighestModSeq,
		keywords: slices.Clone(c.srv.Store.MailboxKeywords(m.Ref))}
	c.live.Needs(g)
	if snap.Recent != 0 && snap.UIDNext > snap.Recent {
		c.sel.recent = []store.Run{{First: snap.Recent, Count: uint32(snap.UIDNext - snap.Recent)}}
	}
	c.describe(snap)
	if err := c.listSelected(m); err != nil {
		c.unselect()
		return response{}, err
	}
	if q := a.QResync; q != nil && store.UIDValidity(q.UIDValidity) == snap.UIDValidity {
		if err := c.resync(q); err != nil {
			c.unselect()
			return response{}, err
		}
	}
	code := "READ-WRITE"
	if readOnly {
		code = "READ-ONLY"
	}
	return response{statusOK, code, cmd.Name + " completed"}, nil
}

// listSelected is the LIST response of SELECT, which IMAP4rev2 has (RFC 9051, Section 6.3.2).
func (c *conn) listSelected(m store.Mailbox) error {
	if !c.rev2 {
		return nil
	}
	list, err := c.entries()
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.box.Created && e.box.Ref == m.Ref {
			c.listLine(wire.ListData{Command: "LIST", Attributes: e.attributes(wire.List{}), Delim: delim, Name: e.shown})
		}
	}
	return nil
}

// describe writes the untagged responses of SELECT (RFC 3501, Section 6.3.1).
func (c *conn) describe(snap store.Snapshot) {
	c.flagsLine()
	c.exists()
	if n := c.sel.view.seq(snap.FirstUnseen); n != 0 && !c.rev2 && !c.uidOnly {
		c.out.line("* OK [UNSEEN " + strconv.FormatUint(uint64(n), 10) + "] First unseen")
	}
	c.out.line("* OK [UIDVALIDITY " + strconv.FormatUint(uint64(snap.UIDValidity), 10) + "] UIDs valid")
	c.out.line("* OK [UIDNEXT " + strconv.FormatUint(uint64(snap.UIDNext), 10) + "] Predicted next UID")
	c.highest(snap.HighestModSeq)
	c.out.line("* OK [MAILBOXID (" + mailboxID(snap.Mailbox) + ")] Name of the mailbox")
	flags := `()`
	if !c.sel.readOnly {
		flags = "(" + systemFlags
		for _, k := range c.sel.keywords {
			flags += " " + k
		}
		flags += ` \*)`
	}
	c.out.line("* OK [PERMANENTFLAGS " + flags + "] Flags that are kept")
}

// RFC 9051, Section 6.4.1: what is \Deleted goes, silently; not with a mailbox selected read-only.
func (c *conn) cmdClose(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	if !c.sel.readOnly {
		// A mailbox that somebody deleted has nothing left to expunge.
		if err := c.expungeRuns(c.sel.view.runs()); err != nil && !errors.Is(err, store.ErrNoMailbox) {
			return response{}, err
		}
	}
	c.unselect()
	return okay("CLOSE completed"), nil
}

// RFC 9051, Section 6.4.2.
func (c *conn) cmdUnselect(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	c.unselect()
	return okay("UNSELECT completed"), nil
}

// RFC 9051, Section 6.4.3. The EXPUNGE responses come from comparing with the store, as for changes of others.
func (c *conn) cmdExpunge(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	return c.expungeCommand(cmd, c.sel.view.runs())
}

// RFC 9051, Section 6.4.9; RFC 4315, Section 2.1.
func (c *conn) cmdUIDExpunge(cmd *wire.Command) (response, error) {
	set, err := wire.ParseUIDSet(cmd)
	if err != nil {
		return response{}, err
	}
	runs, err := c.messages(set, true)
	if err != nil {
		return response{}, err
	}
	return c.expungeCommand(cmd, runs)
}

func (c *conn) expungeCommand(cmd *wire.Command, runs []store.Run) (response, error) {
	if c.sel.readOnly {
		return response{}, errReadOnly
	}
	if err := c.expungeRuns(runs); err != nil {
		return response{}, err
	}
	return okay(cmd.Name + " completed"), nil
}

// expungeRuns removes what is \Deleted among runs: only messages that the client was told of.
func (c *conn) expungeRuns(runs []store.Run) error {
	if len(runs) == 0 {
		return nil
	}
	return c.srv.Store.Expunge(c.ctx, store.Expunge{Ref: c.sel.ref, Runs: runs}, c.event(trace.Expunged, c.sel.ref, ""))
}
