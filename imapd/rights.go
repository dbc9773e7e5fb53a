package imapd

import (
	"errors"

	"mssd/auth"
	"mssd/trace"
)

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
