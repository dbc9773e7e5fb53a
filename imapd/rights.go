package imapd

import (
	"errors"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/trace"
)

// lastWords is what a command has for its end, once the right is over by which it runs.
const lastWords = 2 * time.Second

// errNobody: the connection is gone, and with it whoever waited for the answer.
var errNobody = no("UNAVAILABLE", "The connection is lost")

// pointless says why a long command need not go on: the right by which it runs is over, or nobody reads its answer.
func (c *conn) pointless() error {
	if over := c.over.Load(); over != nil {
		return *over
	}
	if c.out.err != nil {
		return errNobody
	}
	return nil
}

// mayStill asks once more for the right to write to a BAL, when what was to be written has come: that may have taken long.
func (c *conn) mayStill(bal store.BALID) error {
	if err := c.stillAllowed(); err != nil {
		return err
	}
	for _, g := range c.user.who.Grants {
		if g.BAL.ID == bal {
			return c.mayOpen(g)
		}
	}
	return errRight
}

// enter has the session ended when its right is over. RFC 9051, Section 7.1.5: the untagged BYE says so.
func (c *conn) enter(p *auth.Principal) {
	c.live = c.srv.sessions.Add(p, func(err error) {
		over, grant := endedBy(err), p.Grants[0]
		if right := (*auth.Ended)(nil); errors.As(err, &right) {
			grant = right.Grant
		}
		c.srv.recordEnd(c, p, grant, over)
		c.over.Store(&over)
		c.guard.HangUp()
		// A command that runs is left a moment to say how it ended. One that does not end, because its client reads slowly or
		// sends slowly, would else go on reading and writing for as long as the client likes.
		time.AfterFunc(lastWords, func() { _ = c.guard.Close() })
	})
	if len(p.Grants) > 1 {
		c.user.rights = c.several(p)
	}
}

// endedBy is what the client is told of a grant that is no longer in force.
func endedBy(err error) error {
	if errors.Is(err, auth.ErrSessionOver) {
		return err
	}
	return errRight
}

// recordEnd has the trace say whose session on which BAL ended, and why. Who takes a session out of s.sessions calls it, so
// that it is said once.
func (s *Server) recordEnd(c *conn, p *auth.Principal, g auth.Grant, err error) {
	reason := "RightEnded"
	if errors.Is(err, auth.ErrSessionOver) {
		reason = "SessionOver"
	}
	s.Store.Record(trace.Event{Time: s.Now(), Kind: trace.Logout, Conn: c.guard.ID(), Person: p.Person, BAL: string(g.BAL.Address),
		Attrs: []trace.Attr{{Key: trace.KeyReason, Value: reason}, {Key: trace.KeyMethod, Value: p.Method}}})
}
