package imapd

import (
	"errors"
	"sync"
	"time"

	"mssd/auth"
	"mssd/trace"
)

// rightsEvery is the time between two looks at the rights of silent sessions. One that runs a command or waits in IDLE finds
// out by itself.
const rightsEvery = 500 * time.Millisecond

// sessions are those that have logged in.
type sessions struct {
	mu  sync.Mutex
	all map[*conn]*auth.Principal // guarded by mu
}

func (s *sessions) add(c *conn, p *auth.Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*conn]*auth.Principal)
	}
	s.all[c] = p
}

// remove reports whether the session was there.
func (s *sessions) remove(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.all[c]
	delete(s.all, c)
	return there
}

// endedRight is why the session of a person is over.
type endedRight struct {
	who *auth.Principal
	err error
}

// ended are the sessions whose right to the BAL they were opened for is over; they are taken out.
func (s *sessions) ended(check func(*auth.Principal, auth.Grant) error) map[*conn]endedRight {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[*conn]endedRight{}
	for c, p := range s.all {
		if err := check(p, p.Grants[0]); err != nil {
			out[c] = endedRight{p, err}
			delete(s.all, c)
		}
	}
	return out
}

// endRights hangs up whose right has ended, until the server ends: a right withdrawn, a BAL suspended, a membership or a session
// that is over, a certificate revoked. RFC 9051, Section 7.1.5: the untagged BYE says so.
func (s *Server) endRights() {
	tick := time.NewTicker(rightsEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ended:
			return
		case <-tick.C:
		}
		for c, end := range s.sessions.ended(s.Auth.Check) {
			over := errRight
			if errors.Is(end.err, auth.ErrSessionOver) {
				over = end.err
			}
			s.recordEnd(c, end.who, end.who.Grants[0], over)
			c.over.Store(&over)
			c.guard.HangUp()
		}
	}
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
