package auth

import (
	"slices"
	"sync"
	"time"
)

// throttle makes failed logins wait. Each key (a user, or an address of the network) has a number of failures that are
// free; each one beyond doubles the time during which the key is refused. Failures are forgotten after a quiet time.
type throttle struct {
	free   int
	first  time.Duration // wait after the first failure that is not free
	most   time.Duration
	forget time.Duration // without a failure
	max    int           // keys remembered

	mu   sync.Mutex
	keys map[string]*strikes // guarded by mu
}

type strikes struct {
	n     int
	last  time.Time
	until time.Time
	wrong [4]guess // the latest ones, in a ring
	next  int
}

func (t *throttle) blocked(key string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.keys[key]
	return s != nil && now.Before(s.until)
}

// fail counts a guess that was wrong; the zero guess cannot be told from others.
func (t *throttle) fail(key string, g guess, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keys == nil {
		t.keys = make(map[string]*strikes)
	}
	s := t.keys[key]
	if s == nil || now.Sub(s.last) > t.forget {
		if s == nil && len(t.keys) >= t.max {
			t.shrink(now)
		}
		s = &strikes{}
		t.keys[key] = s
	}
	s.n, s.last = s.n+1, now
	if g != (guess{}) {
		s.wrong[s.next] = g
		s.next = (s.next + 1) % len(s.wrong)
	}
	if over := s.n - t.free; over > 0 {
		s.until = now.Add(min(t.first<<min(over-1, 20), t.most))
	}
}

// tried says whether a guess is one of the latest that failed.
func (t *throttle) tried(key string, g guess) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.keys[key]
	return s != nil && slices.Contains(s.wrong[:], g)
}

// success forgets the failures of a key.
func (t *throttle) success(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.keys, key)
}

// ease takes one failure off a key that many share: a correct login there tells that it is not all attack.
func (t *throttle) ease(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.keys[key]; s != nil && s.n > 0 {
		s.n--
	}
}

// shrink makes room: what is over goes, then, if that was not enough, any tenth. Called with mu held.
func (t *throttle) shrink(now time.Time) {
	for k, s := range t.keys {
		if now.Sub(s.last) > t.forget {
			delete(t.keys, k)
		}
	}
	for k := range t.keys { // the order of a map is random
		if len(t.keys) <= t.max*9/10 {
			return
		}
		delete(t.keys, k)
	}
}
