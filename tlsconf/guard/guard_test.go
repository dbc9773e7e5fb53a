package guard

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pair is a guarded connection and its peer, in memory, so that synctest gives the time.
func pair(l Limits) (*Conn, net.Conn) {
	a, b := net.Pipe()
	return Wrap(a, l), b
}

// leave closes the peer's end and lets its goroutines see that (the time is synctest's).
func leave(peer net.Conn) {
	peer.Close()
	time.Sleep(time.Minute)
}

func limitOf(t *testing.T, err error) Limit {
	t.Helper()
	var te *TimeoutError
	if !errors.As(err, &te) {
		t.Fatalf("err = %v, want a TimeoutError", err)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || !te.Timeout() {
		t.Errorf("%v is no timeout to net and os", err)
	}
	return te.Limit
}

func TestReadErrorIsSticky(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pair(Limits{IdleTimeout: time.Second})
		defer c.Close()
		c.HandshakeDone()
		buf := make([]byte, 64)
		_, err := c.Read(buf)
		if got := limitOf(t, err); got != Idle {
			t.Fatalf("limit = %q, want idle", got)
		}
		go peer.Write([]byte("X-Evil: QUIT\r\n"))
		synctest.Wait()
		c.SetIdle(time.Hour)
		_ = c.SetReadDeadline(time.Time{})
		for range 3 {
			n, again := c.Read(buf)
			if n != 0 || again != err {
				t.Fatalf("after a read error: read %q, %v; want nothing and the first error", buf[:n], again)
			}
		}
		leave(peer)
	})
}

func TestHandshakeDeadlineIsAbsolute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pair(Limits{HandshakeTimeout: 10 * time.Second, IdleTimeout: time.Hour})
		defer c.Close()
		go func() { // an octet every 3 s must not keep the handshake alive
			for {
				if _, err := peer.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(3 * time.Second)
			}
		}()
		start, buf := time.Now(), make([]byte, 1)
		var err error
		for err == nil {
			_, err = c.Read(buf)
		}
		if got := limitOf(t, err); got != Handshake || time.Since(start) != 10*time.Second {
			t.Errorf("ended by %q after %v, want handshake after 10s", got, time.Since(start))
		}
		leave(peer)
	})
}

func TestIdleStartsAnewWithEachOctet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pair(Limits{IdleTimeout: 5 * time.Second})
		defer c.Close()
		c.HandshakeDone()
		go func() {
			for range 4 {
				time.Sleep(4 * time.Second)
				peer.Write([]byte("n"))
			}
		}()
		start, n, buf := time.Now(), 0, make([]byte, 8)
		var err error
		for err == nil {
			var m int
			m, err = c.Read(buf)
			n += m
		}
		if n != 4 || limitOf(t, err) != Idle || time.Since(start) != 21*time.Second {
			t.Errorf("read %d octets, ended after %v; want 4 and 21s", n, time.Since(start))
		}
		leave(peer)
	})
}

func TestMinimumRate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		every time.Duration
		want  Limit
		after time.Duration
	}{
		{"one octet a second", time.Second, Slow, 10 * time.Second},
		{"twenty octets a second, then silence", 50 * time.Millisecond, Idle, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, peer := pair(Limits{IdleTimeout: 5 * time.Second, MinRate: 10, RateWindow: 10 * time.Second})
				defer c.Close()
				c.HandshakeDone()
				c.StartTransfer()
				stop := time.Now().Add(35 * time.Second)
				go func() {
					for time.Now().Before(stop) {
						if _, err := peer.Write([]byte{'x'}); err != nil {
							return
						}
						time.Sleep(tc.every)
					}
				}()
				start, buf := time.Now(), make([]byte, 4)
				var err error
				for err == nil {
					_, err = c.Read(buf)
				}
				got := limitOf(t, err)
				if tc.want == Idle {
					// Three windows were fast enough; the fourth ends slow or the silence ends it first.
					if time.Since(start) < 35*time.Second {
						t.Fatalf("a fast sender was cut by %q after %v", got, time.Since(start))
					}
				} else if got != tc.want || time.Since(start) != tc.after {
					t.Errorf("ended by %q after %v, want %q after %v", got, time.Since(start), tc.want, tc.after)
				}
				leave(peer)
			})
		})
	}
}

func TestRateHoldsInTransfersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pair(Limits{IdleTimeout: time.Minute, MinRate: 1000, RateWindow: time.Second})
		defer c.Close()
		c.HandshakeDone()
		c.StartTransfer()
		c.EndTransfer()
		go func() { time.Sleep(30 * time.Second); peer.Write([]byte("NOOP")) }()
		buf := make([]byte, 8)
		if n, err := c.Read(buf); n != 4 || err != nil {
			t.Errorf("read %d, %v; want the command that came after 30 s", n, err)
		}
		leave(peer)
	})
}

func TestCallerMayShortenOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pair(Limits{IdleTimeout: 5 * time.Second})
		defer peer.Close()
		defer c.Close()
		c.HandshakeDone()
		_ = c.SetReadDeadline(time.Now().Add(time.Hour))
		start := time.Now()
		_, err := c.Read(make([]byte, 1))
		if limitOf(t, err) != Idle || time.Since(start) != 5*time.Second {
			t.Errorf("the caller lengthened the limit: %v after %v", err, time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c, peer := pair(Limits{})
		defer peer.Close()
		defer c.Close()
		c.HandshakeDone()
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, err := c.Read(make([]byte, 1))
		if limitOf(t, err) != Caller {
			t.Errorf("err = %v, want the caller's deadline", err)
		}
	})
}

func TestWriteErrorIsSticky(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pair(Limits{WriteTimeout: time.Second})
		defer c.Close()
		_, first := c.Write([]byte("nobody reads this"))
		if first == nil {
			t.Fatal("a write that nobody reads succeeded")
		}
		go io.Copy(io.Discard, peer)
		synctest.Wait()
		if _, err := c.Write([]byte("x")); err != first {
			t.Errorf("second write: %v, want %v", err, first)
		}
		leave(peer)
	})
}

func listen(t *testing.T, l Limits) *Listener {
	t.Helper()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gl := &Listener{Listener: nl, Limits: l, Refuse: func(c net.Conn, why Cap) {
		io.WriteString(c, "421 "+string(why)+"\r\n")
	}}
	t.Cleanup(func() { nl.Close(); gl.Set().CloseAll() })
	return gl
}

func TestCaps(t *testing.T) {
	for _, tc := range []struct {
		limits Limits
		want   Cap
	}{
		{Limits{MaxConns: 2, MaxPerAddr: 9}, TooMany},
		{Limits{MaxConns: 9, MaxPerAddr: 2}, TooManyPerAddr},
	} {
		t.Run(string(tc.want), func(t *testing.T) {
			gl := listen(t, tc.limits)
			got := make(chan *Conn)
			go func() {
				for {
					c, err := gl.Accept()
					if err != nil {
						close(got)
						return
					}
					got <- c.(*Conn)
				}
			}()
			dial := func() net.Conn {
				c, err := net.Dial("tcp", gl.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			dial()
			first := <-got
			dial()
			second := <-got
			if first.ID() == 0 || first.ID() == second.ID() {
				t.Errorf("connection numbers %d and %d", first.ID(), second.ID())
			}
			refused, _ := io.ReadAll(dial())
			if !strings.HasPrefix(string(refused), "421 "+string(tc.want)) {
				t.Errorf("the third connection read %q, want the polite refusal %q", refused, tc.want)
			}
			if n := gl.Set().Refused(tc.want); n != 1 {
				t.Errorf("refused = %d, want 1", n)
			}
			first.Close()
			first.Close() // counted once
			dial()
			if c := <-got; c == nil {
				t.Error("no place was freed by Close")
			}
			if n := gl.Set().Len(); n != 2 {
				t.Errorf("live connections = %d, want 2", n)
			}
		})
	}
}

func TestHangUpIdleAndCloseAll(t *testing.T) {
	gl := listen(t, Limits{})
	var conns []*Conn
	for range 3 {
		peer, err := net.Dial("tcp", gl.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		c, err := gl.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c.(*Conn))
	}
	idle, busy, stuck := conns[0], conns[1], conns[2]
	told := make(chan *Conn, 8)
	for _, c := range conns {
		c.OnHangUp(func() { told <- c; c.Close() })
	}
	busy.SetBusy(true)
	stuck.SetBusy(true)
	gl.Set().HangUpIdle()
	if c := <-told; c != idle {
		t.Errorf("connection %d was hung up first, want the idle one", c.ID())
	}
	if !busy.Ending() {
		t.Error("a busy session cannot see that the server ends")
	}
	busy.SetBusy(false)
	if c := <-told; c != busy {
		t.Errorf("connection %d was hung up, want the one that is no longer busy", c.ID())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := gl.Set().Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with a stuck session: %v", err)
	}
	gl.Set().CloseAll()
	if _, err := stuck.Read(make([]byte, 1)); err == nil {
		t.Error("CloseAll left a connection readable")
	}
	if err := gl.Set().Wait(context.Background()); err != nil {
		t.Errorf("Wait after CloseAll: %v", err)
	}
	select {
	case c := <-told:
		t.Errorf("connection %d was told twice or although busy", c.ID())
	default:
	}
}

func TestCountersAndAddrKey(t *testing.T) {
	c, peer := pair(Limits{})
	defer c.Close()
	var wg sync.WaitGroup
	wg.Go(func() { io.WriteString(peer, "hello"); io.ReadFull(peer, make([]byte, 3)) })
	io.ReadFull(c, make([]byte, 5))
	c.Write([]byte("abc"))
	wg.Wait()
	if c.BytesRead() != 5 || c.BytesWritten() != 3 {
		t.Errorf("counted %d in, %d out; want 5, 3", c.BytesRead(), c.BytesWritten())
	}
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true},
		{"192.0.2.1:1", "[::ffff:192.0.2.1]:2", true},
		{"192.0.2.1:1", "192.0.2.2:1", false},
		{"[2001:db8::1]:1", "[2001:db8::2]:1", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
	} {
		a, _ := net.ResolveTCPAddr("tcp", tc.a)
		b, _ := net.ResolveTCPAddr("tcp", tc.b)
		if got := addrKey(a) == addrKey(b); got != tc.same {
			t.Errorf("%s and %s count together: %v, want %v", tc.a, tc.b, got, tc.same)
		}
	}
}
