package guard

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// from is a connection in memory that seems to come from an address.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

// arrive adds a connection from an address to a set.
func arrive(t *testing.T, s *Set, addr string) (*Conn, net.Conn, Cap) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	c, why := s.Add(from{a, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr + ":1000"))})
	return c, b, why
}

// Strangers who hold every place make room for whoever comes, the oldest first; a peer who has proven itself stays.
func TestArrivalTakesThePlaceOfTheOldestUnproven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet(Limits{MaxConns: 3, Evict: true})
		proven, _, _ := arrive(t, s, "192.0.2.1")
		first, firstPeer, _ := arrive(t, s, "192.0.2.2")
		second, _, _ := arrive(t, s, "192.0.2.3")
		if why := s.Prove(proven, "operator", 0); why != "" {
			t.Fatal(why)
		}
		first.OnHangUp(func() { first.Write([]byte("421\r\n")); first.Close() })
		third, _, why := arrive(t, s, "192.0.2.4")
		if third == nil {
			t.Fatalf("refused: %s", why)
		}
		if b, _ := io.ReadAll(firstPeer); string(b) != "421\r\n" {
			t.Errorf("the oldest stranger read %q, want 421 and the end", b)
		}
		if !first.Evicted() || second.Evicted() || proven.Evicted() || s.Len() != 3 || s.Refused(Evicted) != 1 {
			t.Errorf("evicted: first %v second %v proven %v, %d live", first.Evicted(), second.Evicted(), proven.Evicted(), s.Len())
		}
	})
}

// A connection that does not read its last words, or has none, is closed all the same.
func TestEvictedConnectionIsClosedInAnyCase(t *testing.T) {
	for _, deaf := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := NewSet(Limits{MaxConns: 1, Evict: true})
			old, _, _ := arrive(t, s, "192.0.2.2")
			old.HandshakeDone()
			if deaf {
				old.OnHangUp(func() { old.Write([]byte("421\r\n")) }) // nobody reads: it blocks
			}
			if c, _, why := arrive(t, s, "192.0.2.3"); c == nil {
				t.Fatal(why)
			}
			start := time.Now()
			if _, err := old.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) || time.Since(start) > 3*time.Second {
				t.Errorf("read of the evicted: %v after %v", err, time.Since(start))
			}
			time.Sleep(time.Minute)
		})
	}
}

// Proven peers make room only after a long silence, and never in the middle of something.
func TestProvenPeersAreEvictedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet(Limits{MaxConns: 2, Evict: true, EvictIdle: time.Minute, IdleTimeout: time.Hour})
		idle, _, _ := arrive(t, s, "192.0.2.1")
		busy, _, _ := arrive(t, s, "192.0.2.2")
		for _, c := range []*Conn{idle, busy} {
			c.HandshakeDone()
			if why := s.Prove(c, "operator", 0); why != "" {
				t.Fatal(why)
			}
		}
		busy.StartTransfer()
		time.Sleep(59 * time.Second)
		if _, _, why := arrive(t, s, "192.0.2.3"); why != TooMany {
			t.Fatalf("after 59 s: %q, want %q", why, TooMany)
		}
		time.Sleep(2 * time.Second)
		if c, _, why := arrive(t, s, "192.0.2.3"); c == nil {
			t.Fatalf("after a minute: %q", why)
		}
		if !idle.Evicted() || busy.Evicted() {
			t.Errorf("evicted: idle %v, busy %v", idle.Evicted(), busy.Evicted())
		}
		time.Sleep(time.Minute)
	})
}

func TestCapOfAPeer(t *testing.T) {
	s := NewSet(Limits{MaxPerPeer: 2})
	var conns []*Conn
	for range 3 {
		c, _, _ := arrive(t, s, "192.0.2.1")
		conns = append(conns, c)
	}
	for i, want := range []Cap{"", "", TooManyPerPeer} {
		if why := s.Prove(conns[i], "operator", 0); why != want {
			t.Errorf("connection %d: %q, want %q", i, why, want)
		}
	}
	if why := s.Prove(conns[2], "operator", 3); why != "" {
		t.Errorf("with a limit of its own: %q", why)
	}
	conns[0].Close()
	conns[1].Close()
	c, _, _ := arrive(t, s, "192.0.2.1")
	if why := s.Prove(c, "operator", 0); why != "" {
		t.Errorf("after two have gone: %q", why)
	}
}

// Partners have a cap of their own and are not sent away, even before they have proven themselves.
func TestPartners(t *testing.T) {
	s := NewSet(Limits{MaxConns: 4, MaxPerAddr: 1, Evict: true,
		Partners: []Partner{{Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, MaxConns: 3}}})
	var partners []*Conn
	for i := range 4 {
		c, _, why := arrive(t, s, "198.51.100.7")
		if (c == nil) != (i == 3) || i == 3 && why != TooManyPerPeer {
			t.Fatalf("connection %d of the partner: %v %q", i, c, why)
		}
		partners = append(partners, c)
	}
	for i := range 5 {
		if c, _, why := arrive(t, s, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()); c == nil {
			t.Fatalf("stranger %d: %q", i, why)
		}
	}
	for i, c := range partners[:3] {
		if c.Evicted() {
			t.Errorf("connection %d of the partner was sent away", i)
		}
	}
	partners[0].Close()
	if c, _, why := arrive(t, s, "198.51.100.9"); c == nil {
		t.Errorf("a place became free: %q", why)
	}
}

// Without Evict nobody loses a place: IMAP clients may be silent for long.
func TestNoEviction(t *testing.T) {
	s := NewSet(Limits{MaxConns: 1})
	old, _, _ := arrive(t, s, "192.0.2.1")
	if _, _, why := arrive(t, s, "192.0.2.2"); why != TooMany || old.Evicted() {
		t.Errorf("%q, evicted %v", why, old.Evicted())
	}
}
