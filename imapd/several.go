package imapd

import (
	"mssd/auth"
	"mssd/store"
	"mssd/trace"
)

// several has the trace told of each right on a further BAL that ends while the session goes on, with fewer mailboxes. The channel
// has one entry when such a right has ended or came back.
func (c *conn) several(p *auth.Principal) <-chan struct{} {
	changed := make(chan struct{}, 1)
	c.live.OnChange(func(g auth.Grant, over bool) {
		if over {
			c.srv.recordEnd(c, p, g, errRight)
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	return changed
}

// recordLogin has the trace say that the person has opened each of their BALs.
func (c *conn) recordLogin() {
	p := c.user.who
	for _, g := range p.Grants {
		attrs := []trace.Attr{{Key: trace.KeyMethod, Value: p.Method}, {Key: trace.KeyRemote, Value: c.remote.String()}}
		if !c.user.names.isFirst(g.BAL.ID) {
			attrs = append(attrs, trace.Attr{Key: trace.KeyNote, Value: trace.NoteFurther})
		}
		c.record(trace.Login, store.Ref{BAL: g.BAL.ID}, "", attrs...)
	}
}

// toOther adds to the event of a copy, a move or a replacement the BAL that it goes to, where that is another one.
func (c *conn) toOther(e trace.Event, to store.Ref) trace.Event {
	if to.BAL != c.sel.ref.BAL {
		e.Attrs = append(e.Attrs, trace.Attr{Key: trace.KeyToBAL, Value: string(c.address(to.BAL))})
	}
	return e
}
