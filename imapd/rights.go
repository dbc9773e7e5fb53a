package imapd

import (
	"errors"
	"sync"
	"time"

	"mssd/auth"
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

func (s *sessions) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// ended are the sessions whose right to the BAL they were opened for is over, with why.
func (s *sessions) ended(check func(*auth.Principal, auth.Grant) error) map[*conn]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[*conn]error{}
	for c, p := range s.all {
		if err := check(p, p.Grants[0]); err != nil {
			out[c] = err
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
		for c, err := range s.sessions.ended(s.Auth.Check) {
			over := errRight
			if errors.Is(err, auth.ErrSessionOver) {
				over = err
			}
			c.over.Store(&over)
			c.guard.HangUp()
		}
	}
}
