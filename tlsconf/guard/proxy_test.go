package guard

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// behind is a listener behind the balancers of loopback's first addresses, and what dials it from an address.
func behind(t *testing.T) (net.Listener, func(from string) net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := Behind(l, []netip.Prefix{netip.MustParsePrefix("127.0.0.8/29")}, nil)
	t.Cleanup(func() { b.Close() })
	return b, func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		return c
	}
}

func accepted(t *testing.T, l net.Listener) (from, text string) {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return host, string(b)
}

// Version 1 and 2, IPv4 and IPv6: what the balancer says is the peer; what comes with the header is not lost.
func TestBalancerTellsThePeer(t *testing.T) {
	l, dial := behind(t)
	for _, version := range []byte{1, 2} {
		for _, peer := range []string{"192.0.2.33", "2001:db8::7"} {
			c := dial("127.0.0.9")
			dst := "198.51.100.1"
			if netip.MustParseAddr(peer).Is6() {
				dst = "2001:db8::1"
			}
			h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(peer), 4000)),
				net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(dst), 25)))
			head, err := h.Format()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(append(head, "hello"...)); err != nil {
				t.Fatal(err)
			}
			if from, text := accepted(t, l); from != peer || text != "hello" {
				t.Errorf("version %d: peer %s says %q, want %s and hello", version, from, text, peer)
			}
		}
	}
}

// Who is no balancer cannot give itself another address: the header is only octets then.
func TestStrangerCannotChooseAnAddress(t *testing.T) {
	l, dial := behind(t)
	c := dial("127.0.0.77")
	fmt.Fprint(c, "PROXY TCP4 192.0.2.33 198.51.100.1 4000 25\r\n")
	if from, text := accepted(t, l); from != "127.0.0.77" || text != "PROXY" {
		t.Errorf("peer %s says %q, want 127.0.0.77 and the octets it sent", from, text)
	}
}

// A balancer without a header, with a broken or a foreign one is closed; one that is silent holds nobody up.
func TestBadHeaders(t *testing.T) {
	l, dial := behind(t)
	dial("127.0.0.9") // silent
	udp, err := proxyproto.HeaderProxyFromAddrs(2, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2}).Format()
	if err != nil {
		t.Fatal(err)
	}
	var closed []net.Conn
	for _, head := range []string{"EHLO pharmacie.test\r\n", "PROXY TCP4 192.0.2.33\r\n", "PROXY TCP4 nobody 198.51.100.1 4000 25\r\n", string(udp)} {
		c := dial("127.0.0.9")
		fmt.Fprint(c, head)
		closed = append(closed, c)
	}
	good := dial("127.0.0.10")
	go func() {
		for _, c := range closed {
			if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("a bad header was answered: %d, %v", n, err)
			}
		}
		fmt.Fprint(good, "PROXY TCP4 192.0.2.33 198.51.100.1 4000 25\r\nhello")
	}()
	if from, _ := accepted(t, l); from != "192.0.2.33" {
		t.Errorf("accepted %s, want the good one alone", from)
	}
}

// The health check of a balancer is the balancer itself.
func TestLocalHeader(t *testing.T) {
	l, dial := behind(t)
	c := dial("127.0.0.9")
	head, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
	if err != nil {
		t.Fatal(err)
	}
	c.Write(append(head, "hello"...))
	if from, _ := accepted(t, l); from != "127.0.0.9" {
		t.Errorf("peer %s, want the balancer", from)
	}
}

func TestBehindEnds(t *testing.T) {
	l, dial := behind(t)
	dial("127.0.0.9")
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}
