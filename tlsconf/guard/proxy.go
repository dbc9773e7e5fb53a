package guard

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	proxyTimeout = 5 * time.Second // for the header of a balancer
)

// MaxHeaders is the most connections at a time, for each listener, whose PROXY header is still awaited.
const MaxHeaders = 1000

// proxied is a listener behind balancers.
type proxied struct {
	net.Listener
	from []netip.Prefix
	log  *slog.Logger

	start sync.Once
	ready chan net.Conn
	errs  chan error
	slots chan struct{} // one for each header that is awaited
	done  chan struct{}
	close sync.Once
	lines lines
}

// Behind gives the connections of l the addresses of the real peers. Connections from the addresses of from must begin
// with a header of the PROXY protocol (version 1 or 2, of HAProxy); those without one in 5 seconds are closed. Every
// other connection is handed on as it is: who is no balancer cannot choose an address. The health check of a balancer
// (LOCAL) keeps the balancer's address. A silent balancer holds nobody up.
func Behind(l net.Listener, from []netip.Prefix, log *slog.Logger) net.Listener {
	if len(from) == 0 {
		return l
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &proxied{Listener: l, from: from, log: log, ready: make(chan net.Conn), errs: make(chan error),
		slots: make(chan struct{}, MaxHeaders), done: make(chan struct{})}
	p.lines.log = log
	return p
}

// Accept yields the next connection whose real peer is known.
func (p *proxied) Accept() (net.Conn, error) {
	p.start.Do(func() { go p.run() })
	select {
	case c := <-p.ready:
		return c, nil
	case err := <-p.errs:
		return nil, err
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *proxied) Close() error {
	p.close.Do(func() { close(p.done); p.lines.flush() })
	return p.Listener.Close()
}

// run accepts until the listener is closed.
func (p *proxied) run() {
	for {
		c, err := p.Listener.Accept()
		switch {
		case err != nil:
			select {
			case p.errs <- err:
			case <-p.done:
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
		case !p.balancer(c.RemoteAddr()):
			p.hand(c)
		default:
			select {
			case p.slots <- struct{}{}:
				go p.header(c)
			default:
				p.warn("connection of a balancer refused: too many without a PROXY header", c)
				_ = c.Close()
			}
		}
	}
}

func (p *proxied) hand(c net.Conn) {
	select {
	case p.ready <- c:
	case <-p.done:
		_ = c.Close()
	}
}

// header waits for the header of a balancer.
func (p *proxied) header(c net.Conn) {
	defer func() { <-p.slots }()
	pc := proxyproto.NewConn(c, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(proxyTimeout))
	h := pc.ProxyHeader()
	tcp := false
	if h != nil {
		_, tcp = h.SourceAddr.(*net.TCPAddr)
	}
	if h == nil || !tcp && !h.Command.IsLocal() {
		p.warn("connection of a balancer closed: no PROXY header for TCP", c)
		_ = c.Close()
		return
	}
	p.hand(pc)
}

// warn is bounded: whoever reaches a balancer can cause any number.
func (p *proxied) warn(msg string, c net.Conn) {
	if p.lines.take(time.Now(), slog.LevelWarn, lineKind{msg: msg}, network(c.RemoteAddr()), false) {
		p.log.Warn(msg, "remote", c.RemoteAddr().String())
	}
}

func (p *proxied) balancer(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, f := range p.from {
		if f.Contains(addr) {
			return true
		}
	}
	return false
}
