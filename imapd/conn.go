package imapd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
	"mssd/tlsconf/guard"
)

// maxEarly bounds a command before login: a bearer token fits.
const maxEarly = 16 << 10 // octets

// conn is one connection. Its goroutine alone touches it, but for hangUp.
type conn struct {
	srv    *Server
	guard  *guard.Conn
	nc     net.Conn // guard, or TLS over it
	in     in
	out    out
	log    *slog.Logger
	remote netip.Addr
	ctx    context.Context // of the server: it ends when sessions are cut off

	tls      *tls.Conn // nil in clear
	opened   time.Time
	commands int    // before login
	pace     pace   // after it
	failures int    // logins
	client   string // name of the client's software (ID), for the trace

	user *user                 // nil before login; replaced whole
	live *auth.Session         // nil before login
	sel  *selected             // nil unless a mailbox is selected; replaced whole
	bye  bool                  // the client was told that the connection ends
	over atomic.Pointer[error] // why the session was ended from outside; nil: it was not

	unconfirmed unconfirmed
	notify      *notify // nil: the client never sent NOTIFY

	condStore bool // the client knows of MODSEQ (RFC 7162, Section 3.1)
	rev2      bool // it speaks IMAP4rev2 (RFC 9051): names in UTF-8, ESEARCH, no \Recent
	utf8      bool // it takes UTF-8 in quoted strings (RFC 9755)
	uidOnly   bool // it knows no message numbers (RFC 9586)
	qresync   bool // it takes VANISHED in place of EXPUNGE (RFC 7162, Section 3.2)
}

// user is what a login brings.
type user struct {
	who    *auth.Principal
	names  namespace
	rights <-chan struct{} // one entry: a right on a further BAL ended or came back; nil where there is none
}

func newConn(s *Server, g *guard.Conn) *conn {
	c := &conn{srv: s, guard: g, nc: g, ctx: s.ctx, opened: g.Opened()}
	c.log = s.log.With("conn", g.ID(), "remote", g.RemoteAddr().String())
	if ap, err := netip.ParseAddrPort(g.RemoteAddr().String()); err == nil {
		c.remote = ap.Addr().Unmap()
	}
	c.in.nc = g
	c.out = out{nc: g, timeout: s.WriteTime}
	// Until a login, one absolute deadline: a session that does not want to log in holds nothing for long.
	_ = g.SetReadDeadline(c.opened.Add(s.LoginTime))
	return c
}

// secure replaces everything learnt in clear (RFC 9051, Section 6.2.1).
func (c *conn) secure(tc *tls.Conn) {
	c.nc, c.tls = tc, tc
	c.in = in{nc: tc}
	c.out = out{nc: tc, timeout: c.srv.WriteTime}
	c.user, c.sel, c.failures, c.client = nil, nil, 0, ""
}

func (c *conn) close() {
	c.live.Remove()
	c.unselect()
	c.endNotify()
	_ = c.nc.Close()
	_ = c.guard.Close()
}

// recover ends a connection whose handler broke an invariant, and only that one.
func (c *conn) recover() {
	if p := recover(); p != nil {
		c.log.Error("panic in a session", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// hangUp ends an idle session when the server ends; called from another goroutine, while the session's own
// waits in a read (a tls.Conn takes concurrent writes, whole responses only).
func (c *conn) hangUp(nc net.Conn) func() {
	packs := c.out.packs
	return func() {
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		bye := "* BYE The server is going down, come back in a moment\r\n"
		if c.guard.Evicted() {
			bye = "* BYE [UNAVAILABLE] Too many connections, and this one has not logged in\r\n"
		}
		if over := c.over.Load(); over != nil {
			r, _ := respond(*over)
			bye = "* BYE " + r.text + "\r\n"
		}
		if packs {
			_, _ = nc.Write(lastBlock(bye))
		} else {
			_, _ = io.WriteString(nc, bye)
		}
		_ = nc.Close()
		_ = c.guard.Close()
	}
}

func (c *conn) serve() {
	c.greet()
	if c.out.flush() != nil {
		return
	}
	c.guard.OnHangUp(c.hangUp(c.nc))
	for !c.bye && c.step() {
	}
}

// step reads one command, runs it and writes the responses. It is false when the connection is to be closed.
func (c *conn) step() bool {
	var cmd *wire.Command
	var br *bufio.Reader
	err := c.await()
	if c.bye || c.out.err != nil {
		return false
	}
	if err == nil {
		br, err = c.in.reader()
	}
	if err == nil {
		cmd, err = wire.ReadCommand(br, c.limits(), c.more)
	}
	c.guard.SetBusy(true)
	defer c.guard.SetBusy(false)
	if c.user != nil {
		time.Sleep(c.pace.next(c.srv.MaxRate, time.Now()))
	}
	if err != nil {
		return c.readFailed(cmd, err)
	}
	if !c.countEarly() {
		return false
	}
	c.heard()
	c.run(cmd)
	c.in.giveBack()
	return c.out.flush() == nil && !c.bye
}

func (c *conn) limits() wire.Limits {
	l := wire.DefaultLimits()
	if c.user == nil {
		l.Line, l.Total, l.Literal = maxEarly, maxEarly, maxEarly
	}
	l.UTF8, l.NoChars = c.inUTF8(), c.utf8 && !c.rev2
	return l
}

// inUTF8 says whether names of mailboxes are in UTF-8, both ways (RFC 9051, Section 5.1; RFC 9755, Section 3).
func (c *conn) inUTF8() bool { return c.rev2 || c.utf8 }

// more asks for the octets of a literal.
func (c *conn) more() error {
	c.out.str("+ Ready\r\n")
	return c.out.flush()
}

// readFailed answers a command that could not be read. Where the rest of the command may still be on its way
// the connection ends: it must never be taken for commands.
func (c *conn) readFailed(cmd *wire.Command, err error) bool {
	var syn *wire.SyntaxError
	var fatal *wire.FatalError
	var ne net.Error
	switch {
	case errors.As(err, &syn), errors.As(err, &fatal):
		if !c.countEarly() {
			return false
		}
		r, _ := respond(err)
		c.finish(tagOf(cmd), r)
		return c.out.flush() == nil && !c.bye
	case errors.As(err, &ne) && ne.Timeout():
		c.sayBye("", "Nothing was heard for too long")
	case errors.Is(err, errDeflate):
		c.sayBye("", "What was compressed cannot be read")
	}
	return false
}

func tagOf(cmd *wire.Command) string {
	if cmd == nil || cmd.Tag == "" {
		return "*"
	}
	return cmd.Tag
}

// countEarly counts a command before login; it is false, and BYE said, when there were too many.
func (c *conn) countEarly() bool {
	if c.user != nil {
		return true
	}
	if c.commands++; c.commands <= c.srv.MaxCommands {
		return true
	}
	c.sayBye("", "Too many commands before a login")
	return false
}

func (c *conn) sayBye(code, text string) {
	c.finish("*", response{statusBYE, code, text})
	_ = c.out.flush()
	c.bye = true
}

// finish writes the response that ends a command.
func (c *conn) finish(tag string, r response) {
	if r.status == statusBYE {
		tag, c.bye = "*", true
	}
	c.out.add(func(b []byte) []byte {
		b = append(b, tag...)
		b = append(b, ' ')
		b = append(b, r.status.String()...)
		if r.code != "" {
			b = append(b, " ["...)
			b = append(b, r.code...)
			b = append(b, ']')
		}
		b = append(b, ' ')
		b = append(b, r.text...)
		return append(b, '\r', '\n')
	})
}

// greet says who is here (RFC 9051, Section 7.1).
func (c *conn) greet() {
	text := "mssd ready"
	if c.srv.Hostname != "" {
		text = c.srv.Hostname + " ready"
	}
	c.finish("*", response{statusOK, "CAPABILITY " + c.capabilities(), text})
}

// loggedIn replaces the state of the connection after a login.
func (c *conn) loggedIn(p *auth.Principal) {
	c.user = &user{who: p, names: namespace{grants: p.Grants}}
	c.sel, c.failures = nil, 0
	c.enter(p)
	c.log = c.log.With("bal", string(p.Grants[0].BAL.Address))
	_ = c.guard.SetReadDeadline(time.Time{})
	c.guard.SetIdle(c.srv.IdleTime)
	// From here on it keeps its place before those who have not logged in. How many connections one person has is
	// bounded by their address only: a pharmacy's workstations share both.
	c.srv.set.Prove(c.guard, p.Person, c.srv.set.Limits().MaxConns)
}

// home is the BAL whose name stands in the log and the trace for the whole session.
func (c *conn) home() store.BAL { return c.user.who.Grants[0].BAL }
