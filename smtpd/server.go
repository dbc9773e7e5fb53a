// Package smtpd takes mail in. Its operator front is port 25 of this operator: other operators and the
// patient platform connect to it, with TLS in both directions, and nobody else. Its submission front (587, 465) is
// where members send: they log in, over TLS.
//
// One connection passes through four hands. guard (tlsconf/guard) holds the socket: deadlines, caps,
// errors that stay. clear speaks before TLS and knows nothing but the way to TLS. wire sits above TLS:
// it hands go-smtp one checked line at a time, reads messages itself and puts replies into our words.
// session is what go-smtp calls: it asks its front who may send what (operator.go: tlsconf and the white list;
// submission.go: auth), then the store and the directory, and gives the message to delivery. 250 is said when
// delivery has returned. AUTH is the wire's (login.go).
//
// Invariants:
//  1. Without TLS nothing but EHLO, HELO, NOOP, RSET, QUIT and STARTTLS is done; after a failed handshake
//     nothing is said in clear.
//  2. Octets of a message are never taken for commands: not after a timeout, not after a refusal, not
//     after a malformed BDAT.
//  3. No verdict is given inside the handshake: each refusal can be read (reply.go).
//  4. A verdict on a kept connection is at most a minute old at MAIL, and never older than the trust data.
//  5. An ended transfer leaves no spool file, unless it was committed.
//  6. No address reaches go-smtp, no address of a patient reaches a log, an error or the trace.
//  7. On the submission front nothing is stored but from a BAL that the login opened, by who may write there at
//     the moment of the commit, with that BAL in MAIL FROM and From. A session whose right has ended is ended, in
//     the middle of a message too, but not in the middle of a commit.
//  8. No token and no password reaches go-smtp, a log, an error or the trace.
//
// It does not queue, relay or bounce.
//
// Security: whoever reaches the port can send anything. Lines, errors, commands, recipients, connections,
// time and octets are bounded by the constants of wire.go and by Server. What go-smtp v0.25.1 does not
// do well is kept from it: it sees neither the clear phase nor STARTTLS, no address, no line over 4 KiB,
// no AUTH, no BDAT; its DATA reader is not used.
//
// Standards: RFC 5321, RFC 3207 (STARTTLS), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 2920 (PIPELINING),
// RFC 3030 (CHUNKING, not BINARYMIME), RFC 2034 and RFC 3463 (ENHANCEDSTATUSCODES), RFC 3461 (DSN
// parameters: parsed and kept, not offered), RFC 9422 (LIMITS); RFC 6409 (submission), RFC 4954 (AUTH), RFC 8314.
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"mssd/auth"
	"mssd/delivery"
	"mssd/directory"
	"mssd/directory/whitelist"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/tlsconf/guard"
	"mssd/trace"
)

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = errors.New("smtpd: server closed")

// Decider answers whether a BAL of ours stands in the directory. *directory.Directory is one.
type Decider interface {
	Decide(context.Context, directory.Query) directory.Decision
	// Later asks on, once the message is stored, where the answer was given without the directory itself.
	Later(q directory.Query, dec directory.Decision, tell func(directory.Decision))
}

// Server is the operator front, or the submission front. Fields are set before Serve and not changed afterwards.
type Server struct {
	Hostname  string // in the greeting, in Received
	TLS       *tlsconf.Front
	Judge     *tlsconf.Judge
	List      *whitelist.Keeper
	Directory Decider
	Store     *store.Store
	Delivery  *delivery.Delivery

	// Postmaster receives what is sent to postmaster at any domain of ours. Empty: the first active ORG
	// BAL of the domain, by address; where there is none, such mail is deferred.
	Postmaster store.Address

	// Seen is told who was let in, by the domain of the sender ("" without one). Optional.
	Seen func(domain string, v tlsconf.Verdict)
	// Stored is told of each message that was stored and had not been before. Optional.
	Stored func(domain string, v tlsconf.Verdict)

	// PatientDomains are those of the patient platform, lower case; nil: patient.mssante.fr. PatientFirst is done when a
	// patient begins a conversation with a BAL that is not ORG; zero: directory.AcceptNote.
	PatientDomains []string
	PatientFirst   directory.Action

	HeaderFrom HeaderFrom
	DKIM       *delivery.DKIM // verifies signatures; nil: nobody does

	MaxMessage       int64         // octets; 0: 150 MiB
	MaxRecipients    int           // per message; 0: 100 (RFC 5321, Section 4.5.3.1.8)
	MaxErrors        int           // refusals in a row on one connection; 0: 20
	MaxConns         int           // 0: 10,000
	MaxConnsPerAddr  int           // 0: 200
	MaxConnsPerPeer  int           // of one operator, known by its certificate; 0: 200
	Partners         []Partner     // operators that have limits of their own
	EvictIdle        time.Duration // idle for so long, an operator makes room when all places are taken; 0: 30 s, negative: never
	HandshakeTimeout time.Duration // from the accept to the end of the TLS handshake; 0: 60 s
	ReadTimeout      time.Duration // without an octet; 0: 5 min (RFC 5321, Section 4.5.3.2.7)
	MinRate          int           // octets per second of a message; 0: 500; negative: none
	RateWindow       time.Duration // over which MinRate is measured; 0: 60 s

	Submission *Submission // makes this the submission front; nil: the operator front

	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: time.Now

	once      sync.Once
	set       *guard.Set
	tls       *tls.Config // of every handshake
	refusals  trace.Folding
	sessions  auth.Sessions // those that have logged in
	lib       *smtp.Server
	ready     chan net.Conn // connections past their handshake, on their way to go-smtp
	done      chan struct{} // closed by Shutdown
	conns     sync.WaitGroup
	transfers sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	ending    bool
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
		if s.Now == nil {
			s.Now = time.Now
		}
		if s.HandshakeTimeout <= 0 {
			s.HandshakeTimeout = time.Minute
		}
		if s.MaxErrors <= 0 {
			s.MaxErrors = 20
		}
		if s.EvictIdle == 0 {
			s.EvictIdle = 30 * time.Second
		}
		s.tls = s.tlsConfig()
		s.set = guard.NewSet(s.limits())
		s.set.LogTo(s.Log)
		s.refusals.Record, s.refusals.Now = s.Store.Record, s.Now
		s.ready, s.done = make(chan net.Conn), make(chan struct{})
		s.listeners = make(map[net.Listener]struct{})
		s.lib = smtp.NewServer(smtp.BackendFunc(s.newSession))
		s.lib.Domain = s.Hostname
		s.lib.MaxMessageBytes = s.maxMessage()
		s.lib.MaxRecipients = s.MaxRecipients
		if s.lib.MaxRecipients <= 0 {
			s.lib.MaxRecipients = 100
		}
		s.lib.MaxLineLength = maxLine + 512 // the wire has judged the line already
		s.lib.EnableDSN = true              // parsed; the wire does not offer it
		s.lib.ErrorLog = libraryLog{s.Log}
		go func() { _ = s.lib.Serve(&handover{s}) }()
		if sub := s.Submission; sub != nil {
			sub.init()
			s.sessions.Auth = sub.Auth
			s.conns.Add(1)
			go func() {
				defer s.conns.Done()
				s.sessions.Watch(s.done)
			}()
		}
	})
}

// tlsConfig is that of every handshake.
func (s *Server) tlsConfig() *tls.Config {
	if s.Submission == nil {
		return s.TLS.Config()
	}
	return s.Submission.App.Config(s.TLS)
}

func (s *Server) implicit() bool { return s.Submission != nil && s.Submission.Implicit }

func (s *Server) limits() guard.Limits {
	return guard.Limits{MaxConns: s.MaxConns, MaxPerAddr: s.MaxConnsPerAddr, HandshakeTimeout: s.HandshakeTimeout,
		IdleTimeout: s.ReadTimeout, MinRate: s.MinRate, RateWindow: s.RateWindow,
		MaxPerPeer: s.MaxConnsPerPeer, Partners: s.partners(), Evict: true, EvictIdle: s.EvictIdle}
}

func (s *Server) maxMessage() int64 {
	if s.MaxMessage <= 0 {
		return 150 << 20
	}
	return s.MaxMessage
}

func (s *Server) now() time.Time { return s.Now() }

// Connections is the number of live connections.
func (s *Server) Connections() int {
	s.init()
	return s.set.Len()
}

// Serve accepts connections on l until Shutdown, and then returns ErrServerClosed. It may be called for
// several listeners.
func (s *Server) Serve(l net.Listener) error {
	s.init()
	gl := &guard.Listener{Listener: l, Limits: s.limits(), Log: s.Log, Refuse: func(c net.Conn, _ guard.Cap) {
		if !s.implicit() { // inside TLS there is nobody to say it to
			_, _ = c.Write([]byte(replyTo(errTooManyConns).line()))
		}
	}}
	gl.UseSet(s.set)
	if !s.listening(l, true) {
		_ = l.Close()
		return ErrServerClosed
	}
	defer s.listening(l, false)
	delay := time.Duration(0)
	for {
		c, err := gl.Accept()
		if err == nil {
			delay = 0
			s.conns.Add(1)
			go s.front(c.(*guard.Conn))
			continue
		}
		select {
		case <-s.done:
			return ErrServerClosed
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("smtpd: accept: %w", err)
		}
		// No file descriptors left, a connection that ended before it began: others will come.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		s.Log.Warn("accept failed", "err", err)
		select {
		case <-time.After(delay):
		case <-s.done:
			return ErrServerClosed
		}
	}
}

func (s *Server) listening(l net.Listener, on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on && s.ending {
		return false
	}
	if on {
		s.listeners[l] = struct{}{}
	} else {
		delete(s.listeners, l)
	}
	return true
}

// Shutdown stops accepting, says 421 to idle sessions at once and to others after their message, and
// returns when all have ended. When ctx ends first, every connection is closed and its error returned.
// When it has returned no session uses the store.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	if !s.ending {
		s.ending = true
		close(s.done)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	s.set.HangUpIdle()
	err := s.set.Wait(ctx)
	if err != nil {
		s.set.CloseAll()
	}
	s.conns.Wait()
	s.transfers.Wait()
	s.refusals.Flush()
	s.set.FlushLines()
	_ = s.lib.Close()
	return err
}

// front leads one connection to TLS and hands it to go-smtp.
func (s *Server) front(g *guard.Conn) {
	log := s.Log.With("conn", g.ID(), "remote", g.RemoteAddr().String())
	handed := false
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic", "cmd", "STARTTLS", "err", fmt.Sprintf("%T", v))
		}
		if !handed {
			_ = g.Close()
			s.conns.Done()
		}
	}()
	c := clear{conn: g, host: s.Hostname, size: fmt.Sprintf("250-SIZE %d\r\n", s.maxMessage()),
		refused: func(cmd string, r reply) { s.refusedEarly(g, cmd, "no TLS", r.String()) }}
	if !s.implicit() && !c.run() {
		return
	}
	g.OnHangUp(func() { _ = g.Close() }) // in mid-handshake nothing can be said
	t := tls.Server(&replay{g, c.in}, s.tls)
	if err := t.HandshakeContext(context.Background()); err != nil {
		g.Line(log, slog.LevelInfo, "handshake failed", "", "err", err)
		s.refusedEarly(g, "STARTTLS", "handshake", "")
		return
	}
	g.HandshakeDone()
	w := newWire(t, g)
	w.host, w.maxErrs, w.maxMsg, w.log = s.Hostname, s.MaxErrors, s.maxMessage(), log
	w.maxRcpt = s.lib.MaxRecipients
	w.confirm, w.onClose = s.Store.Confirm, s.conns.Done
	if s.Submission != nil {
		w.login = s.newLogin(w)
		_ = g.SetReadDeadline(time.Now().Add(s.Submission.LoginTime))
	}
	if s.implicit() {
		w.put([]byte(c.greeting())) // go-smtp's own is dropped
	}
	g.OnHangUp(func() { _ = w.end(w.whyEnding()) })
	select {
	case s.ready <- w:
		handed = true
	case <-s.done:
		_ = w.end(errEnding)
	}
}

// newSession is called by go-smtp at the first EHLO or HELO after TLS.
func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	w, ok := c.Conn().(*wire)
	if !ok {
		return nil, replyTo(errNeedTLS).smtp()
	}
	sess := &session{srv: s, w: w, log: w.log, state: w.ConnectionState(), start: w.guard.Opened(), helo: c.Hostname}
	if ap, err := netip.ParseAddrPort(w.RemoteAddr().String()); err == nil {
		sess.remote = ap.Addr().Unmap()
	}
	if w.session = sess; w.login != nil {
		sess.front = memberFront{s, w.login}
		return sess, nil
	}
	f := operatorFront{s}
	sess.front = f
	if err := f.prove(sess); err != nil {
		return nil, replyTo(err).smtp()
	}
	return sess, nil
}

// refusedEarly records what was refused before there was a session; code "" where nothing could be said.
func (s *Server) refusedEarly(g *guard.Conn, cmd, reason, code string) {
	remote := addrOf(g)
	attrs := []trace.Attr{{Key: trace.KeyReason, Value: reason}, {Key: trace.KeyCommand, Value: cmd}, {Key: trace.KeyRemote, Value: remote}}
	if code != "" {
		attrs = append(attrs, trace.Attr{Key: trace.KeyCode, Value: code})
	}
	who := remote
	if a, err := netip.ParseAddr(remote); err == nil {
		who = trace.Network(a)
	}
	s.refusals.Add(trace.Alike{Who: who, Cmd: cmd, Code: code},
		trace.Event{ID: s.Store.NewID(), Time: s.now(), Kind: trace.Refused, Conn: g.ID(), Attrs: attrs})
}

// addrOf is the peer's network address without its port, which no two connections share.
func addrOf(g *guard.Conn) string {
	if ap, err := netip.ParseAddrPort(g.RemoteAddr().String()); err == nil {
		return ap.Addr().Unmap().String()
	}
	return g.RemoteAddr().String()
}

// postmasterBAL is where mail for the postmaster of a domain goes; "" is any domain.
func (s *Server) postmasterBAL(domain string) (store.BAL, error) {
	if s.Postmaster != "" {
		return s.Store.BAL(s.Postmaster)
	}
	var found store.BAL
	for _, b := range s.Store.BALs() {
		fits := b.Kind == store.ORG && b.State == store.Active && (domain == "" || b.Address.Domain() == domain)
		if !fits || found.Address != "" && b.Address > found.Address {
			continue
		}
		if _, err := s.Store.BAL(b.Address); err == nil { // else it is unavailable
			found = b
		}
	}
	if found.Address == "" {
		return found, errors.New("smtpd: no BAL for the postmaster")
	}
	return found, nil
}

// handover is the listener of which go-smtp takes its connections.
type handover struct{ s *Server }

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.s.ready:
		return c, nil
	case <-h.s.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error { return nil }

func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }

// libraryLog keeps the values that go-smtp would print (addresses, panics) out of the log.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, _ ...any) { l.log.Warn("smtp library", "err", format) }
func (l libraryLog) Println(...any)                 { l.log.Warn("smtp library") }
