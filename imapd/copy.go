package imapd

import (
	"mssd/imapd/wire"
	"mssd/store"
	"mssd/trace"
)

// RFC 9051, Section 6.4.7; COPYUID: RFC 4315, Section 3.
func (c *conn) cmdCopy(cmd *wire.Command) (response, error) {
	a, runs, to, err := c.copyArgs(cmd)
	if err != nil {
		return response{}, err
	}
	if len(runs) == 0 {
		return okay(cmd.Name + " completed, nothing to copy"), nil
	}
	res, err := c.srv.Store.Commit(c.ctx, &store.Batch{
		// By number a message that others expunged was asked for by name: nothing is copied then, since a COPY
		// that fails leaves its target as it was (RFC 2180, Section 4.4.1). A UID that is gone is no fault.
		Ops:    []store.Op{store.Copy{From: c.sel.ref, Runs: runs, To: to, All: !a.UID}},
		Events: []trace.Event{c.toOther(c.event(trace.Copied, c.sel.ref, ""), to)},
	})
	if err != nil {
		return response{}, tryCreate(err)
	}
	c.put(to, res.Ops[0].New)
	return response{statusOK, copyCode(res.Ops[0]), cmd.Name + " completed"}, nil
}

// maxAtOnce bounds the messages that MOVE and STORE change in one commit: while a commit is made everybody else waits
// for theirs. COPY must be done whole or not at all (RFC 9051, Section 6.4.7), so it is one commit.
const maxAtOnce = 10_000

// RFC 6851. Each commit moves its part: never a copy without the expunge; a client hears of more than one part by
// more than one COPYUID, before the EXPUNGE responses (Section 4.3), which come from comparing with the store.
func (c *conn) cmdMove(cmd *wire.Command) (response, error) {
	a, runs, to, err := c.copyArgs(cmd)
	if err != nil {
		return response{}, err
	}
	if c.sel.readOnly {
		return response{}, errReadOnly
	}
	if len(runs) == 0 {
		return okay(cmd.Name + " completed, nothing to move"), nil
	}
	moved := 0
	for part, rest := cutRuns(runs, maxAtOnce); len(part) > 0; part, rest = cutRuns(rest, maxAtOnce) {
		res, err := c.srv.Store.Commit(c.ctx, &store.Batch{
			Ops:    []store.Op{store.Move{From: c.sel.ref, Runs: part, To: to}},
			Events: []trace.Event{c.toOther(c.event(trace.Moved, c.sel.ref, ""), to)},
		})
		if err != nil {
			return response{}, tryCreate(err)
		}
		c.put(to, res.Ops[0].New)
		c.copyUID(res.Ops[0])
		moved += runsCount(res.Ops[0].UIDs)
	}
	if moved < runsCount(runs) && !a.UID {
		return response{}, no("EXPUNGEISSUED", "Some of the messages no longer exist")
	}
	return okay(cmd.Name + " completed"), nil
}

func (c *conn) copyArgs(cmd *wire.Command) (wire.Copy, []store.Run, store.Ref, error) {
	a, err := wire.ParseCopy(cmd)
	if err != nil {
		return a, nil, store.Ref{}, err
	}
	runs, err := c.messages(a.Set, a.UID)
	if err != nil {
		return a, nil, store.Ref{}, err
	}
	m, _, err := c.target(a.Mailbox)
	return a, runs, m.Ref, tryCreate(err)
}

// copyUID is the untagged form of the code.
func (c *conn) copyUID(r store.OpResult) {
	if code := copyCode(r); code != "" {
		c.out.line("* OK [" + code + "] Done")
	}
}

// copyCode is the COPYUID code without its brackets, "" when nothing was copied: an empty set would break the
// line.
func copyCode(r store.OpResult) string {
	if len(r.UIDs) == 0 || len(r.New) == 0 {
		return ""
	}
	b := wire.AppendCopyUID(nil, uint32(r.UIDValidity), ranges(r.UIDs), ranges(r.New))
	return string(b[1 : len(b)-1])
}
