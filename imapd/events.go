package imapd

import (
	"strconv"

	"mssd/imapd/wire"
	"mssd/store"
	"mssd/trace"
)

// event is a trace event of this session's person.
func (c *conn) event(kind trace.Kind, ref store.Ref, uids string, attrs ...trace.Attr) trace.Event {
	e := trace.Event{Time: c.srv.Now(), Kind: kind, Conn: c.guard.ID(), Person: c.user.who.Person,
		BAL: string(c.address(ref.BAL)), Mailbox: uint32(ref.Mailbox), UIDs: uids, Attrs: attrs}
	if c.client != "" {
		e.Attrs = append(e.Attrs, trace.Attr{Key: trace.KeyClient, Value: c.client})
	}
	return e
}

// record hands an event to the store without waiting: nothing was changed, so no commit carries it.
func (c *conn) record(kind trace.Kind, ref store.Ref, uids string, attrs ...trace.Attr) {
	c.srv.Store.Record(c.event(kind, ref, uids, attrs...))
}

func (c *conn) address(id store.BALID) store.Address {
	for _, g := range c.user.who.Grants {
		if g.BAL.ID == id {
			return g.BAL.Address
		}
	}
	return ""
}

// notified records that the session was told of new messages.
func (c *conn) notified(fresh []store.Run) {
	c.record(trace.Notified, c.sel.ref, uidSet(fresh))
}

// maxTraced bounds the UID set of one event; a set with more holes than this is cut, and its end is its own
// highest UID, so that the event says too much rather than too little.
const maxTraced = 500

// uidSet prints runs in the form of IMAP sets.
func uidSet(runs []store.Run) string {
	if len(runs) == 0 {
		return ""
	}
	list := ranges(runs)
	if len(list) > maxTraced {
		list[maxTraced-1].Last = list[len(list)-1].Last
		list = list[:maxTraced]
	}
	return string(wire.AppendSet(nil, list))
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
