package imapd

import (
	"strings"

	"mssd/imapd/wire"
	"mssd/store"
	"mssd/trace"
)

// storeFlag is the store's bit for each of the wire's.
func storeFlag(f wire.Flag) store.Flag {
	var out store.Flag
	for _, p := range [...]struct {
		wire  wire.Flag
		store store.Flag
	}{{wire.Seen, store.Seen}, {wire.Answered, store.Answered}, {wire.Flagged, store.Flagged},
		{wire.Deleted, store.Deleted}, {wire.Draft, store.Draft}} {
		if f&p.wire != 0 {
			out |= p.store
		}
	}
	return out
}

// RFC 9051, Section 6.4.6.
func (c *conn) cmdStore(cmd *wire.Command) (response, error) {
	a, err := wire.ParseStore(cmd)
	if err != nil {
		return response{}, err
	}
	if c.sel.readOnly {
		return response{}, errReadOnly
	}
	if a.HasUnchangedSince {
		c.enableCondStore()
	}
	runs, err := c.messages(a.Set, a.UID)
	if err != nil {
		return response{}, err
	}
	if len(runs) == 0 {
		return okay(cmd.Name + " completed"), nil
	}
	// What others changed before is told first, so that a silent change hides nothing but itself. A message that
	// was told of just now is told of again after the change: a client that takes the last word for the flags is right
	// then (RFC 9051, Section 6.4.6: "determinate without a race").
	if err := c.sync(noExpunge); err != nil {
		return response{}, err
	}
	before, done := c.sel.modSeq, 0
	var left []store.Run // changed by others since
	for part, rest := cutRuns(runs, maxAtOnce); len(part) > 0; part, rest = cutRuns(rest, maxAtOnce) {
		op := store.StoreFlags{Ref: c.sel.ref, Runs: part, Mode: storeMode(a.Mode), Flags: storeFlag(a.Flags.System), Keywords: a.Flags.Keywords,
			Conditional: a.HasUnchangedSince, UnchangedSince: store.ModSeq(a.UnchangedSince)}
		res, err := c.srv.Store.Commit(c.ctx, &store.Batch{
			Ops:    []store.Op{op},
			Events: []trace.Event{c.event(trace.Flagged, c.sel.ref, "", trace.Attr{Key: trace.KeyFlags, Value: describeFlags(a)})},
		})
		if err != nil {
			return response{}, err
		}
		c.tellRows(res, before, a.Silent, a.UID)
		before = res.Ops[0].ModSeq
		done += runsCount(res.Ops[0].UIDs) + runsCount(res.Ops[0].Modified)
		left = mergeRuns(left, res.Ops[0].Modified)
	}
	missing := done < runsCount(runs) && !a.UID
	switch {
	case len(left) > 0 && missing:
		return response{}, no(c.modifiedCode(left, a.UID), "Some of the messages no longer exist, others were changed meanwhile")
	case len(left) > 0:
		return response{statusOK, c.modifiedCode(left, a.UID), "Conditional STORE left some messages alone"}, nil
	case missing && a.Silent: // RFC 2180, Section 4.2.1
		return response{statusOK, "EXPUNGEISSUED", cmd.Name + " completed, some of the messages no longer exist"}, nil
	case missing:
		return response{}, no("EXPUNGEISSUED", "Some of the messages no longer exist")
	}
	return okay(cmd.Name + " completed"), nil
}

func storeMode(m wire.StoreMode) store.Mode {
	switch m {
	case wire.StoreAdd:
		return store.Add
	case wire.StoreRemove:
		return store.Remove
	}
	return store.Replace
}

// describeFlags is the change for the trace: system flags by name, keywords by their number only, since a
// client may put anything into a keyword.
func describeFlags(a wire.Store) string {
	sign := map[wire.StoreMode]string{wire.StoreAdd: "+", wire.StoreRemove: "-"}[a.Mode]
	var names []string
	for _, f := range flagNames {
		if storeFlag(a.Flags.System)&f.flag != 0 {
			names = append(names, f.name)
		}
	}
	if n := len(a.Flags.Keywords); n > 0 {
		names = append(names, itoa(int64(n))+" keywords")
	}
	return sign + strings.Join(names, " ")
}

// tellRows says what a change of flags made of the messages, unless it was silent, and takes note that the
// session knows. before is the state of the view when the change was asked for.
func (c *conn) tellRows(res *store.Result, before store.ModSeq, silent, withUID bool) {
	c.newKeywords()
	for _, r := range res.Ops[0].Rows {
		switch {
		case !silent || runsHold(c.sel.told, r.UID):
			c.flagsOf(r, withUID)
		case c.condStore:
			c.modSeqOf(r, withUID)
		}
	}
	c.sel.own = append(c.sel.own, ownChange{before: before, after: res.Ops[0].ModSeq, uids: res.Ops[0].UIDs, silent: silent})
}
