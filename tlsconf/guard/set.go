package guard

import (
	"container/list"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Cap names the bound that a refused connection met.
type Cap string

const (
	TooMany        Cap = "total"
	TooManyPerAddr Cap = "address"
	TooManyPerPeer Cap = "peer"
	Evicted        Cap = "evicted" // had a place and made room for another
)

// A Set holds the live connections of one front.
type Set struct {
	limits Limits
	lines  lines

	mu         sync.Mutex
	lastID     uint64
	conns      map[*Conn]struct{}
	unproven   list.List // of *Conn, oldest first; no partners
	perAddr    map[netip.Addr]int
	perPartner map[*Partner]int
	perPeer    map[string]int
	refused    map[Cap]uint64
	ending     bool
	empty      chan struct{} // closed when ending and no connection is left; nil until somebody waits
}

// NewSet makes an empty Set.
func NewSet(l Limits) *Set {
	return &Set{
		limits:     l.withDefaults(),
		conns:      make(map[*Conn]struct{}),
		perAddr:    make(map[netip.Addr]int),
		perPartner: make(map[*Partner]int),
		perPeer:    make(map[string]int),
		refused:    make(map[Cap]uint64),
	}
}

// Limits are those in force, defaults included.
func (s *Set) Limits() Limits { return s.limits }

// Add puts a connection under the guard, or says which cap refuses it; it is then still open.
func (s *Set) Add(nc net.Conn) (*Conn, Cap) {
	key := addrKey(nc.RemoteAddr())
	partner := s.limits.partner(nc.RemoteAddr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if why := s.full(key, partner); why != "" {
		s.refused[why]++
		return nil, why
	}
	c := Wrap(nc, s.limits)
	s.lastID++
	c.id, c.set, c.ending = s.lastID, s, s.ending
	s.conns[c] = struct{}{}
	s.perAddr[key]++
	if c.partner = partner; partner != nil {
		s.perPartner[partner]++
	} else {
		c.unproven = s.unproven.PushBack(c)
	}
	return c, ""
}

// full says which cap refuses an arrival. It makes room where it can.
func (s *Set) full(key netip.Addr, partner *Partner) Cap {
	switch {
	case partner != nil && partner.MaxConns > 0 && s.perPartner[partner] >= partner.MaxConns:
		return TooManyPerPeer
	case partner == nil && s.perAddr[key] >= s.limits.MaxPerAddr:
		return TooManyPerAddr
	case len(s.conns) < s.limits.MaxConns:
		return ""
	}
	victim := s.victim(time.Now())
	if victim == nil {
		return TooMany
	}
	s.forget(victim)
	s.refused[Evicted]++
	victim.evict()
	return ""
}

// victim is the connection that is missed least, nil where each has a right to its place.
func (s *Set) victim(now time.Time) *Conn {
	if !s.limits.Evict {
		return nil
	}
	if e := s.unproven.Front(); e != nil {
		return e.Value.(*Conn)
	}
	if s.limits.EvictIdle <= 0 {
		return nil
	}
	var victim *Conn
	longest := s.limits.EvictIdle
	for c := range s.conns {
		if d := c.idleFor(now); c.partner == nil && d >= longest {
			victim, longest = c, d
		}
	}
	return victim
}

// Prove says that the peer of a connection has shown who it is: it keeps its place before those who have not. max
// is the most live connections of this peer, 0: MaxPerPeer. TooManyPerPeer: it has them already, and this
// connection stays unproven.
func (s *Set) Prove(c *Conn, peer string, max int) Cap {
	if max <= 0 {
		max = s.limits.MaxPerPeer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, live := s.conns[c]; !live || c.peer != "" {
		return ""
	}
	if s.perPeer[peer] >= max {
		s.refused[TooManyPerPeer]++
		return TooManyPerPeer
	}
	s.perPeer[peer]++
	c.peer = peer
	if c.unproven != nil {
		s.unproven.Remove(c.unproven)
		c.unproven = nil
	}
	return ""
}

func (s *Set) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(c)
}

// forget takes a connection out of all counts; s.mu is held.
func (s *Set) forget(c *Conn) {
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	lower(s.perAddr, addrKey(c.RemoteAddr()))
	if c.partner != nil {
		lower(s.perPartner, c.partner)
	}
	if c.peer != "" {
		lower(s.perPeer, c.peer)
	}
	if c.unproven != nil {
		s.unproven.Remove(c.unproven)
		c.unproven = nil
	}
	if len(s.conns) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// lower counts one less, and forgets what is at zero.
func lower[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}

// Len is the number of live connections.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Refused counts the connections turned away by a cap since the start.
func (s *Set) Refused(c Cap) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused[c]
}

func (s *Set) all() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// HangUpIdle ends every connection that is not busy by its OnHangUp function, now, and every other
// one as soon as it is no longer busy. Connections accepted later are hung up too.
func (s *Set) HangUpIdle() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	for _, c := range s.all() {
		c.end()
	}
}

// CloseAll closes every connection at once, whatever it does.
func (s *Set) CloseAll() {
	for _, c := range s.all() {
		_ = c.Close()
	}
}

// Wait returns when no connection is left or ctx ends, with its error.
func (s *Set) Wait(ctx context.Context) error {
	s.mu.Lock()
	if len(s.conns) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// addrKey is what MaxPerAddr counts: an IPv4 address, or the /64 of an IPv6 one, which is what one
// subscriber has. Addresses of other networks (tests) count together.
func addrKey(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap()
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// A Listener hands out guarded connections; those over a cap are refused and never seen.
type Listener struct {
	net.Listener
	Limits Limits

	// Refuse says to a peer, in the words of the protocol, that there is no room (`421`, `* BYE`).
	// It must write at most one short line; the Listener sets the deadline and closes. Optional.
	Refuse func(c net.Conn, why Cap)

	// Log gets a line at most once a second while connections are refused. Optional.
	Log *slog.Logger

	once    sync.Once
	set     *Set
	lastLog time.Time // owned by the accepting goroutine
}

// Set is the registry of this listener.
func (l *Listener) Set() *Set {
	l.once.Do(func() {
		if l.set == nil {
			l.set = NewSet(l.Limits)
		}
	})
	return l.set
}

// UseSet lets several listeners share one registry and its caps. Call it before the first Accept.
func (l *Listener) UseSet(s *Set) { l.once.Do(func() { l.set = s }) }

// Accept returns the next connection within the caps. Its net.Conn is a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	set := l.Set()
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, why := set.Add(nc)
		if c != nil {
			return c, nil
		}
		l.refuse(nc, why)
	}
}

// refuse writes the polite line without waiting for a peer that does not read: a fresh socket has
// room for one line in its send buffer.
func (l *Listener) refuse(nc net.Conn, why Cap) {
	if now := time.Now(); l.Log != nil && now.Sub(l.lastLog) >= time.Second {
		l.lastLog = now
		l.Log.Warn("connection refused", "remote", nc.RemoteAddr().String(), "cap", string(why))
	}
	if l.Refuse != nil {
		_ = nc.SetDeadline(time.Now().Add(100 * time.Millisecond))
		l.Refuse(nc, why)
	}
	_ = nc.Close()
}
