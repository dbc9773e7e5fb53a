package auth

import (
	"net/netip"
	"sync"
	"time"
)

// attempt is a login that somebody tries, as the throttles see it. A member who has logged in from a network address before is
// known there: only the failures of this member from this address count against them. So nobody is kept out of their work by
// the guesses of strangers, whoever they are aimed at, nor by a neighbour's at somebody else.
//
// Who is a stranger there is bounded by the failures of this user from anywhere, known origins aside, and of this address at anybody.
type attempt struct {
	known bool
	user  string // member, or the name as it was given
	addr  string
	place string // member and address
}

// attempt takes together what is known of a login before it is looked at.
func (a *Authenticator) attempt(user string, c candidate, remote netip.Addr, now time.Time) attempt {
	t := attempt{user: throttleUser(user, c), addr: throttleAddr(remote)}
	t.place = t.user + "\n" + t.addr
	t.known = c.found && a.origins.has(t.place, now)
	return t
}

// blocked says whether the login must wait. It is asked again by who waited for a turn: of a hundred guesses at a time
// each would else be looked at.
func (a *Authenticator) blocked(t attempt, now time.Time) bool {
	if t.known {
		return a.known.blocked(t.place, now)
	}
	return a.users.blocked(t.user, now) || a.addrs.blocked(t.addr, now)
}

// tried says whether this very guess was made from there lately, and was wrong: that is software which nobody has told the new
// password, day and night. It learns nothing, so it costs nothing and counts nothing.
func (a *Authenticator) tried(t attempt, g guess) bool {
	if t.known {
		return a.known.tried(t.place, g)
	}
	return a.users.tried(t.user, g)
}

func (a *Authenticator) failed(t attempt, g guess, now time.Time) {
	if t.known {
		a.known.fail(t.place, g, now)
		return
	}
	a.users.fail(t.user, g, now)
	a.addrs.fail(t.addr, guess{}, now)
}

func (a *Authenticator) succeeded(t attempt, now time.Time) {
	if t.known {
		a.known.ease(t.place)
	} else {
		a.users.success(t.user)
	}
	a.addrs.ease(t.addr)
	a.origins.add(t.place, now)
}

// guess is a password that was tried, as an HMAC under a key of this process; zero: it cannot be told from others.
type guess [16]byte

// guess is that of a password for a candidate, as long as the password and what else the login depends on stay the same.
func (a *Authenticator) guess(t attempt, c candidate, password string) guess {
	sum := a.cache.mac(t.place, password, c.stamp()+"\x00"+c.refuse)
	return guess(sum[:16])
}

const (
	maxKnown = 50_000
	knownFor = 30 * 24 * time.Hour // since the last login from there
)

// origins remembers from where members have logged in, until the process ends.
type origins struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

func (p *origins) has(place string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.last[place]
	return ok && now.Sub(at) < knownFor
}

func (p *origins) add(place string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = make(map[string]time.Time)
	}
	p.last[place] = now
	if len(p.last) <= maxKnown {
		return
	}
	for k, at := range p.last { // the order of a map is random
		if now.Sub(at) >= knownFor || len(p.last) > maxKnown*9/10 {
			delete(p.last, k)
		}
	}
}
