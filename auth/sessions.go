package auth

import (
	"sync"
	"time"
)

// endedEvery is the time between two looks at the rights of live sessions.
const endedEvery = 500 * time.Millisecond

// Sessions are the live sessions of one front. Watch ends those whose right is over, whatever they wait for: within a second,
// although they run no command. Auth must be set before the first use; the zero value is otherwise ready, and is safe for use
// by many goroutines.
type Sessions struct {
	Auth *Authenticator // needed

	mu  sync.Mutex
	all map[*Session]struct{} // guarded by mu
}

// Session is one that has logged in. A nil Session is one that has not.
type Session struct {
	of      *Sessions
	who     *Principal
	end     func(error)
	several *several // nil where the principal has one grant
}

// Add enters a session. end is called at most once, with the error of Check, when the right to the BAL named at login is
// over, or another one that the session cannot do without (Session.Needs: an Ended); the session is out by then. It is
// called on the goroutine of Watch and must not block: it has what is about to be done noted, and the connection hung up
// on a goroutine of its own.
func (s *Sessions) Add(p *Principal, end func(error)) *Session {
	n := &Session{of: s, who: p, end: end, several: newSeveral(p)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*Session]struct{})
	}
	s.all[n] = struct{}{}
	return n
}

// Remove takes the session out and reports whether it was there: of several who find out that a session is over, one is
// told so, and says it to the trace.
func (n *Session) Remove() bool {
	if n == nil {
		return false
	}
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	_, there := n.of.all[n]
	delete(n.of.all, n)
	return there
}

// Watch ends the sessions whose right is over, until done is closed: a right withdrawn, a role lowered, a BAL suspended or
// closed, a membership or a session that is over, a certificate revoked.
func (s *Sessions) Watch(done <-chan struct{}) {
	tick := time.NewTicker(endedEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			s.endOver()
		}
	}
}

// endOver looks once at each session. Nobody who logs in or leaves waits for it.
func (s *Sessions) endOver() {
	s.mu.Lock()
	live := make([]*Session, 0, len(s.all))
	for n := range s.all {
		live = append(live, n)
	}
	s.mu.Unlock()
	for _, n := range live {
		if _, err := n.Over(); err != nil && n.Remove() {
			n.end(err)
		} else if err == nil {
			n.look()
		}
	}
}
