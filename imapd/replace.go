package imapd

import (
	"mssd/imapd/wire"
	"mssd/store"
	"mssd/trace"
)

// REPLACE and UID REPLACE: RFC 8508, Section 3. The new message comes and the old one goes in one commit, so that a
// draft that is saved every half minute is never there twice and never lost. Of two sessions that replace the same
// message one is told that it is gone.
func (c *conn) cmdReplace(cmd *wire.Command) (response, error) {
	a, err := wire.ParseAppend(cmd)
	if err != nil {
		return response{}, err
	}
	if c.sel.readOnly {
		return response{}, errReadOnly
	}
	runs, err := c.messages(a.Replace, cmd.UID)
	if err != nil {
		return response{}, err
	}
	if len(runs) != 1 || runs[0].Count != 1 {
		return response{}, no("NONEXISTENT", "No such message")
	}
	old, err := c.oldRow(runs)
	if err != nil {
		return response{}, err
	}
	m, room, err := c.appendable(a, old)
	if err != nil {
		return response{}, err
	}
	msgs, err := c.spool(cmd, a, m.Ref, room)
	defer abort(msgs)
	if err == nil {
		err = c.mayStill(m.Ref.BAL)
	}
	if err != nil {
		return response{}, err
	}
	blob := msgs[0].blob
	res, err := c.srv.Store.Commit(c.ctx, &store.Batch{
		Blob: blob,
		// The old one first: its room counts for the new one.
		Ops: []store.Op{
			store.Expunge{Ref: c.sel.ref, Runs: runs, All: true, Each: true},
			msgs[0].op(m),
		},
		Events: []trace.Event{c.toOther(c.event(trace.Expunged, c.sel.ref, ""), m.Ref),
			c.event(trace.Appended, m.Ref, "", trace.Attr{Key: trace.KeySize, Value: itoa(blob.Size())})},
	})
	if err != nil {
		return response{}, tryCreate(err)
	}
	c.put(m.Ref, res.Ops[1].New)
	c.out.line("* OK " + appendUID(res.Ops[1:]) + " Replacement stored")
	return okay(cmd.Name + " completed"), nil
}

// oldRow is the message that is to be replaced.
func (c *conn) oldRow(runs []store.Run) (row store.Row, err error) {
	err = c.srv.Store.Rows(c.ctx, c.sel.ref, runs, func(r store.Row) bool {
		row = r
		return false
	})
	if err == nil && row.UID == 0 {
		err = store.ErrNoMessage
	}
	return row, err
}
