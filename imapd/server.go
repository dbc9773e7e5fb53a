package imapd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/tlsconf/guard"
	"mssd/trace"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("imapd: server closed")

// Server is an IMAP front. Its fields must not change after the first Serve.
type Server struct {
	Hostname string              // named in the greeting; "" leaves it out
	TLS      *tlsconf.Front      // needed: nobody can log in without TLS
	Implicit bool                // TLS from the first octet (port 993); false: STARTTLS (port 143)
	Store    *store.Store        // needed
	Auth     *auth.Authenticator // needed
	Log      *slog.Logger        // nil: slog.Default()

	// Mechanisms are the SASL mechanisms offered; nil: PLAIN. LOGIN, the command, is there where PLAIN or LOGIN is.
	Mechanisms []string
	App        *tlsconf.AppFront // front of applications; nil: none

	MaxMessage      int64         // octets of an APPEND, advertised as APPENDLIMIT; 0: 100 MiB
	MaxConns        int           // live connections in all; 0: 10,000
	MaxConnsPerAddr int           // live connections of one address; 0: 200
	LoginTime       time.Duration // from the accept to a login; 0: 60 s
	IdleTime        time.Duration // between commands after login; 0: 30 min (RFC 9051, Section 5.4)
	WriteTime       time.Duration // for one write; 0: 60 s
	KeepAlive       time.Duration // between "* OK Still here" in IDLE; 0: 2 min
	Progress        time.Duration // between "* OK [INPROGRESS …]" of a long SEARCH; 0: 10 s
	MaxFailures     int           // failed logins before the connection is closed; 0: 5
	MaxCommands     int           // commands before login; 0: 50
	MaxRate         int           // commands of one session in a second after login, beyond it waits; 0: 5,000
	Now             func() time.Time

	maxSorted int // messages of one SORT or THREAD; tests set it lower

	once     sync.Once
	log      *slog.Logger
	tls      *tls.Config // of every handshake
	set      *guard.Set
	refusals trace.Folding // logins
	sessions auth.Sessions // logged in
	watching sync.Once     // sessions.Watch runs
	mu       sync.Mutex
	lns      map[net.Listener]struct{} // open listeners
	closing  bool
	ended    chan struct{}   // closed when closing is set
	running  sync.WaitGroup  // sessions
	ctx      context.Context // of what sessions ask of the store and of logins
	cancel   context.CancelFunc
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (s *Server) init() {
	s.once.Do(func() {
		def(&s.MaxMessage, 100<<20)
		def(&s.LoginTime, 60*time.Second)
		def(&s.IdleTime, 30*time.Minute)
		def(&s.WriteTime, 60*time.Second)
		def(&s.KeepAlive, 2*time.Minute)
		def(&s.Progress, 10*time.Second)
		def(&s.maxSorted, maxSorted)
		def(&s.MaxFailures, 5)
		def(&s.MaxCommands, 50)
		def(&s.MaxRate, 5000)
		if s.Now == nil {
			s.Now = time.Now
		}
		s.log = s.Log
		if s.log == nil {
			s.log = slog.Default()
		}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.sessions.Auth = s.Auth
		s.lns = make(map[net.Listener]struct{})
		s.ended = make(chan struct{})
		s.tls = s.App.Config(s.TLS)
		s.set = guard.NewSet(s.limits())
		s.set.LogTo(s.log)
		s.refusals.Record, s.refusals.Now = s.Store.Record, s.Now
	})
}

func (s *Server) limits() guard.Limits {
	return guard.Limits{
		MaxConns: s.MaxConns, MaxPerAddr: s.MaxConnsPerAddr,
		HandshakeTimeout: min(s.LoginTime, 30*time.Second), IdleTimeout: s.IdleTime, WriteTimeout: s.WriteTime,
		Evict: true, // who has not logged in, never who has
	}
}

// Serve accepts connections of ln until Shutdown, then returns ErrServerClosed. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	s.init()
	gl := &guard.Listener{Listener: ln, Limits: s.limits(), Log: s.log, Refuse: s.refuse}
	gl.UseSet(s.set)
	if !s.track(gl) {
		ln.Close()
		return ErrServerClosed
	}
	defer s.untrack(gl)
	delay := time.Duration(0)
	for {
		nc, err := gl.Accept()
		switch {
		case err == nil:
			delay = 0
		case s.isClosing():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// No file descriptors left: others will come when some are free.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log.Warn("accept failed", "err", err)
			select {
			case <-time.After(delay):
			case <-s.ended:
				return ErrServerClosed
			}
			continue
		}
		s.running.Add(1)
		go s.handle(nc.(*guard.Conn))
	}
}

// refuse says why to a connection over a cap. Inside implicit TLS there is nobody to say it to.
func (s *Server) refuse(nc net.Conn, _ guard.Cap) {
	if !s.Implicit {
		_, _ = io.WriteString(nc, "* BYE [UNAVAILABLE] Too many connections, try later\r\n")
	}
}

func (s *Server) track(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.lns[ln] = struct{}{}
	s.watching.Do(func() {
		s.running.Add(1)
		go func() {
			defer s.running.Done()
			s.sessions.Watch(s.ended)
		}()
	})
	return true
}

func (s *Server) untrack(ln net.Listener) {
	s.mu.Lock()
	delete(s.lns, ln)
	s.mu.Unlock()
	ln.Close()
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Shutdown closes the listeners, says BYE to idle sessions, lets running commands end, and returns when no
// session is left: nothing of this front uses the store any longer. When ctx ends first, it closes what is left
// and returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.ended)
	}
	for ln := range s.lns {
		ln.Close()
	}
	s.mu.Unlock()
	s.set.HangUpIdle()
	defer s.refusals.Flush()
	defer s.set.FlushLines()
	done := make(chan struct{})
	go func() {
		_ = s.set.Wait(ctx)
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.set.CloseAll()
		s.cancel() // a long search ends too
		return ctx.Err()
	}
}

// Sessions is the number of live connections.
func (s *Server) Sessions() int {
	s.init()
	return s.set.Len()
}

// handle is the life of one connection.
func (s *Server) handle(g *guard.Conn) {
	defer s.running.Done()
	c := newConn(s, g)
	defer c.close()
	defer c.recover()
	g.OnHangUp(func() { g.Close() }) // in the handshake there is nobody to say BYE to
	if s.Implicit && !c.handshake(g) {
		return
	}
	if !s.Implicit {
		g.HandshakeDone()
	}
	c.serve()
}

// handshake makes the connection a TLS one. It runs on a goroutine of its own, whose grown stack goes away
// with it: an idle session keeps a small one.
func (c *conn) handshake(under net.Conn) bool {
	ctx, cancel := context.WithTimeout(c.ctx, min(c.srv.LoginTime, 30*time.Second))
	defer cancel()
	tc := tls.Server(under, c.srv.tls)
	done := make(chan error, 1)
	go func() { done <- tc.HandshakeContext(ctx) }()
	if err := <-done; err != nil {
		c.log.Debug("tls handshake failed", "err", err)
		return false
	}
	c.guard.HandshakeDone()
	c.secure(tc)
	return true
}
