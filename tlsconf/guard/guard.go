// Package guard stands between the network and a front: every accepted connection of smtpd and
// imapd passes through it, below TLS.
//
// Behind, in front of it all, learns from our own balancers who the peer is (PROXY protocol).
//
// A Listener accepts, counts and caps connections and hands each out as a *Conn; the front reads and
// writes the Conn (or TLS over it) and tells it which phase the session is in: handshake, waiting
// for a command, message transfer. A Set knows all live connections, for a graceful end and for a
// hard one.
//
// When all places are taken, an arrival gets that of a connection worth less: the oldest of which nothing is known
// yet (Prove was not called), then, where Limits.EvictIdle allows, the one that has been idle longest. Partners, who
// are known by their network addresses, are never sent away.
//
// Invariants:
//  1. After the first read error every later read fails with the same error: octets that arrive
//     after a timeout in mid-message can never be taken for commands. Writes likewise.
//  2. No read waits without a deadline. In the handshake phase the deadline is absolute (from the
//     accept on), between commands it starts anew with each octet received, in a transfer it is the
//     idle limit and, besides, a minimum number of octets per window.
//  3. A connection is in its Set from the accept until Close or until it is sent away, once.
//
// It does not look at what is carried, and knows neither SMTP nor IMAP: the polite refusal of a
// connection over a cap is written by a hook of the front.
//
// Security: the peer controls timing and volume only. What an attacker can hold is bounded: MaxConns
// connections, MaxPerAddr from one address (an IPv6 /64 counts as one), MaxPerPeer of one proven peer, each for at
// most the limits. Whoever takes all places and proves nothing keeps nobody out.
package guard

import (
	"container/list"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what one peer can hold. Zero values mean the defaults named beside each.
type Limits struct {
	MaxConns         int           // live connections in all; 0: 10,000
	MaxPerAddr       int           // live connections of one address; 0: 200
	MaxPerPeer       int           // live connections of one proven peer; 0: 200
	Partners         []Partner     // peers that are expected
	Evict            bool          // when all places are taken, the oldest unproven connection makes room
	EvictIdle        time.Duration // and then a proven one that waited so long between commands; 0: never
	HandshakeTimeout time.Duration // from the accept to HandshakeDone; 0: 30 s
	IdleTimeout      time.Duration // between two reads with octets; 0: 5 min (RFC 5321, Section 4.5.3.2.7)
	WriteTimeout     time.Duration // for one write; 0: 5 min
	MinRate          int           // octets per second received while a transfer runs; 0: 500; negative: none
	RateWindow       time.Duration // over which MinRate is measured; 0: 60 s
}

func (l Limits) withDefaults() Limits {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	if l.MaxConns <= 0 {
		l.MaxConns = 10000
	}
	if l.MaxPerAddr <= 0 {
		l.MaxPerAddr = 200
	}
	if l.MaxPerPeer <= 0 {
		l.MaxPerPeer = 200
	}
	if l.MinRate == 0 {
		l.MinRate = 500
	}
	def(&l.HandshakeTimeout, 30*time.Second)
	def(&l.IdleTimeout, 5*time.Minute)
	def(&l.WriteTimeout, 5*time.Minute)
	def(&l.RateWindow, time.Minute)
	return l
}

// Limit names the rule that ended a connection.
type Limit string

const (
	Handshake Limit = "handshake" // HandshakeTimeout passed
	Idle      Limit = "idle"      // IdleTimeout passed without an octet
	Slow      Limit = "slow"      // fewer than MinRate octets per second during a transfer
	Caller    Limit = "deadline"  // the deadline that the caller set
)

// A TimeoutError says which limit a connection broke. It is a net.Error whose Timeout is true, and
// matches os.ErrDeadlineExceeded.
type TimeoutError struct{ Limit Limit }

func (e *TimeoutError) Error() string   { return "guard: " + string(e.Limit) + " limit reached" }
func (e *TimeoutError) Timeout() bool   { return true }
func (e *TimeoutError) Temporary() bool { return false }
func (e *TimeoutError) Is(target error) bool {
	return target == os.ErrDeadlineExceeded
}

type phase uint8

const (
	handshake phase = iota
	waiting         // for a command, or for nothing in particular
	transfer        // message octets are on their way in
)

// A Conn is a net.Conn under the rules of the package comment. Read, Write and the phase methods may
// be called from different goroutines; there is at most one reader and one writer at a time, as TLS does it.
type Conn struct {
	net.Conn
	limits Limits
	id     uint64
	set    *Set // nil for Wrap
	opened time.Time

	read, written atomic.Int64 // octets
	closed        atomic.Bool
	evicted       atomic.Bool

	// Guarded by the mutex of the set.
	unproven *list.Element // in Set.unproven; nil once proven
	partner  *Partner
	peer     string // proven name

	mu       sync.Mutex
	phase    phase
	idle     time.Duration // current idle limit
	last     time.Time     // last octet received, or phase change
	caller   time.Time     // read deadline set by the caller; zero: none
	winStart time.Time     // transfer: start of the window
	winRead  int64         // transfer: octets in the window
	readErr  error         // sticky
	writeErr error         // sticky
	busy     bool
	hangUp   func() // told once that the server ends; see OnHangUp
	ending   bool   // HangUpIdle has been called
}

// Wrap puts a connection that no Listener accepted under limits. It is in the handshake phase.
func Wrap(c net.Conn, l Limits) *Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
	}
	now := time.Now()
	l = l.withDefaults()
	return &Conn{Conn: c, limits: l, opened: now, last: now, idle: l.IdleTimeout}
}

// ID is the number of the connection at its Set, counted from 1; 0 for Wrap.
func (c *Conn) ID() uint64 { return c.id }

// Opened is when the connection was accepted.
func (c *Conn) Opened() time.Time { return c.opened }

// BytesRead and BytesWritten count octets on the wire, TLS included.
func (c *Conn) BytesRead() int64    { return c.read.Load() }
func (c *Conn) BytesWritten() int64 { return c.written.Load() }

// HandshakeDone ends the handshake phase: from here on the idle limit holds.
func (c *Conn) HandshakeDone() { c.enter(waiting, 0) }

// SetIdle changes the idle limit; 0 or less restores that of the Limits.
func (c *Conn) SetIdle(d time.Duration) {
	if d <= 0 {
		d = c.limits.IdleTimeout
	}
	c.enter(waiting, d)
}

// StartTransfer says that the peer is now to send, and keep sending: the minimum rate holds.
func (c *Conn) StartTransfer() { c.enter(transfer, 0) }

// EndTransfer ends it.
func (c *Conn) EndTransfer() { c.enter(waiting, 0) }

func (c *Conn) enter(p phase, idle time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if idle > 0 {
		c.idle = idle
		if c.phase != waiting {
			p = c.phase // SetIdle alone does not end a handshake or a transfer
		}
	}
	now := time.Now()
	c.phase, c.last = p, now
	if p == transfer {
		c.winStart, c.winRead = now, 0
	}
	c.arm()
}

// arm sets the deadline of the socket for the present phase. c.mu is held.
func (c *Conn) arm() Limit {
	deadline, limit := c.last.Add(c.idle), Idle
	switch c.phase {
	case handshake:
		deadline, limit = c.opened.Add(c.limits.HandshakeTimeout), Handshake
	case transfer:
		if end := c.winStart.Add(c.limits.RateWindow); c.limits.MinRate > 0 && end.Before(deadline) {
			deadline, limit = end, Slow
		}
	}
	if !c.caller.IsZero() && c.caller.Before(deadline) {
		deadline, limit = c.caller, Caller
	}
	_ = c.Conn.SetReadDeadline(deadline)
	return limit
}

// Read reads under the deadline of the present phase; its first error is its last word.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		if err := c.readErr; err != nil {
			c.mu.Unlock()
			return 0, err
		}
		c.arm()
		c.mu.Unlock()

		n, err := c.Conn.Read(p)
		c.read.Add(int64(n))

		c.mu.Lock()
		if n > 0 {
			c.last = time.Now()
			c.winRead += int64(n)
		}
		if err != nil {
			if err = c.explain(err); err != nil {
				c.readErr = err
			}
		} else if c.phase == transfer {
			// A peer whose octets keep coming never meets the deadline: the window is closed here too.
			if err = c.closeWindow(time.Now()); err != nil {
				c.readErr, n = err, 0
			}
		}
		c.mu.Unlock()
		if n > 0 {
			return n, nil // an error that came along is sticky and returned by the next call
		}
		if err != nil {
			return 0, err
		}
		if len(p) == 0 {
			return 0, nil
		}
	}
}

// explain turns a timeout of the socket into the limit that was broken, or into nil when the
// deadline was moved meanwhile or only ended a window that was fast enough. c.mu is held.
func (c *Conn) explain(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	now := time.Now()
	switch {
	case !c.caller.IsZero() && !now.Before(c.caller):
		return &TimeoutError{Caller}
	case c.phase == handshake:
		if !now.Before(c.opened.Add(c.limits.HandshakeTimeout)) {
			return &TimeoutError{Handshake}
		}
		return nil
	case !now.Before(c.last.Add(c.idle)):
		return &TimeoutError{Idle}
	case c.phase == transfer:
		return c.closeWindow(now)
	}
	return nil
}

func (c *Conn) closeWindow(now time.Time) error {
	passed := now.Sub(c.winStart)
	if c.limits.MinRate <= 0 || passed < c.limits.RateWindow {
		return nil
	}
	if float64(c.winRead) < float64(c.limits.MinRate)*c.limits.RateWindow.Seconds() {
		return &TimeoutError{Slow}
	}
	c.winStart, c.winRead = now, 0
	return nil
}

// Write writes within WriteTimeout; its first error is its last word.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if err := c.writeErr; err != nil {
		c.mu.Unlock()
		return 0, err
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.limits.WriteTimeout))
	c.mu.Unlock()

	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	if err != nil {
		c.mu.Lock()
		c.writeErr = err
		c.mu.Unlock()
	}
	return n, err
}

// SetReadDeadline adds an earlier deadline to those of the guard; it can never lengthen them.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caller = t
	c.arm()
	return nil
}

// SetWriteDeadline is refused silently: the guard sets it for each write.
// (crypto/tls calls it when it closes, with a time further away than is useful.)
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets the read deadline; see SetReadDeadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close closes the socket and leaves the Set.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if c.set != nil {
		c.set.remove(c)
	}
	return c.Conn.Close()
}

// OnHangUp names what ends the session politely (writes 421 or BYE, then closes). It is called at
// most once, on a goroutine of its own, when the server ends, HangUp was called, or the connection must make room (Evicted), and
// it is not busy.
func (c *Conn) OnHangUp(f func()) {
	c.mu.Lock()
	c.hangUp = f
	c.mu.Unlock()
	c.maybeHangUp()
}

// SetBusy says whether the session is inside something that should be finished when the server
// ends (a message transfer). A connection that ceases to be busy while the server ends is hung up.
func (c *Conn) SetBusy(busy bool) {
	c.mu.Lock()
	c.busy = busy
	c.mu.Unlock()
	if !busy {
		c.maybeHangUp()
	}
}

// Ending says that the server is about to end: the session should begin nothing new.
func (c *Conn) Ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// HangUp ends this connection by its OnHangUp function, now or when it ceases to be busy.
func (c *Conn) HangUp() { c.end() }

func (c *Conn) end() {
	c.mu.Lock()
	c.ending = true
	c.mu.Unlock()
	c.maybeHangUp()
}

func (c *Conn) maybeHangUp() {
	c.mu.Lock()
	f := c.hangUp
	if !c.ending && !c.evicted.Load() || c.busy || f == nil {
		c.mu.Unlock()
		return
	}
	c.hangUp = nil
	c.mu.Unlock()
	go f()
}
