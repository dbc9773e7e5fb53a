package guard

import (
	"net"
	"net/netip"
	"time"
)

// A Partner is a peer that is expected, known by the networks it connects from. Its connections have a cap of their
// own in place of MaxPerAddr, and are never sent away for another.
type Partner struct {
	Addresses []netip.Prefix
	MaxConns  int // live connections, together; 0: as many as there is room for
}

// partner is the first one that an address belongs to, nil where there is none.
func (l *Limits) partner(a net.Addr) *Partner {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return nil
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	for i := range l.Partners {
		for _, p := range l.Partners[i].Addresses {
			if p.Contains(addr) {
				return &l.Partners[i]
			}
		}
	}
	return nil
}

const lastWords = time.Second // for saying why a connection is sent away

// evict ends a connection whose place another has taken: by its OnHangUp function, and a little later in any case.
func (c *Conn) evict() {
	c.evicted.Store(true)
	c.mu.Lock()
	c.limits.WriteTimeout = lastWords
	c.mu.Unlock()
	c.maybeHangUp()
	time.AfterFunc(2*lastWords, func() { _ = c.Close() })
}

// Evicted reports whether the connection had to make room for another.
func (c *Conn) Evicted() bool { return c.evicted.Load() }

// idleFor is how long the peer has been silent between two commands; 0 while something runs.
func (c *Conn) idleFor(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != waiting || c.busy {
		return 0
	}
	return now.Sub(c.last)
}
