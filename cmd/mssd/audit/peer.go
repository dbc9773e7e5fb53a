package audit

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

const (
	patience    = 15 * time.Second // for one answer
	maxReply    = 64 << 10         // octets of one reply
	lineOctets  = 2048
	helo        = "autotest.test"
	alertPrefix = "TLS alert: "
)

// mail is one attempt of a peer to hand over a message.
type mail struct {
	as       *tls.Certificate       // shown; nil: none
	clear    bool                   // without STARTTLS
	version  uint16                 // highest TLS version; 0: any
	session  tls.ClientSessionCache // nil: no resumption
	from, to string
	noData   bool          // no message is sent, only the envelope
	through  *renegotiator // lies below TLS; nil: nothing does
}

// seen is what came of it.
type seen struct {
	At      string // the command that was answered: MAIL, RCPT, DATA, STARTTLS
	Reply   string // last line of its reply, or what ended the connection
	resumed bool
	// fault is what differed besides: a refusal that did not hold, a hang-up where a refusal should have been.
	fault error
}

// text is what the report shows.
func (s seen) text() string { return strings.TrimSpace(s.At + " " + s.Reply) }

// id is the trace's identifier in a final 250.
func (s seen) id() string {
	if f := strings.Fields(s.Reply); s.At == "DATA" && len(f) > 2 && f[0] == "250" {
		return f[2]
	}
	return ""
}

// peer is a connection that speaks raw SMTP: a library would hide replies, and stop at the first refusal.
type peer struct {
	conn net.Conn
	br   *bufio.Reader
	tls  *tls.Conn // nil before TLS
}

// front says how the front is reached and what it must show.
type front struct {
	addr   string
	name   string         // in its certificate
	roots  *x509.CertPool // nil: not verified
	source net.Addr       // address to come from; nil: any
}

func (f front) dial(ctx context.Context) (*peer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := net.Dialer{LocalAddr: f.source}
	c, err := d.DialContext(ctx, "tcp", f.addr)
	if err != nil {
		return nil, err
	}
	return &peer{conn: c, br: bufio.NewReaderSize(c, lineOctets)}, nil
}

func (p *peer) close() { _ = p.conn.Close() }

// reply reads a whole reply (RFC 5321, Section 4.2.1) and returns its last line.
func (p *peer) reply() (string, error) {
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	for n := 0; n < maxReply; {
		line, err := p.br.ReadSlice('\n')
		n += len(line)
		if err != nil {
			return "", broken(err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		if len(text) < 3 {
			return "", fmt.Errorf("not a reply: %q", text)
		}
		if len(text) == 3 || text[3] != '-' {
			return printable(text), nil
		}
	}
	return "", errors.New("a reply without an end")
}

func (p *peer) cmd(line string) (string, error) {
	if err := p.send(line + "\r\n"); err != nil {
		return "", err
	}
	return p.reply()
}

func (p *peer) send(s string) error {
	_ = p.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(p.conn, s)
	return err
}

// broken puts the end of a connection into words.
func broken(err error) error {
	var alert tls.AlertError
	var op *net.OpError
	var ne net.Error
	switch {
	case errors.As(err, &alert):
		return errors.New(alertPrefix + strings.TrimPrefix(alert.Error(), "tls: "))
	case errors.As(err, &op) && op.Op == "remote error":
		return errors.New(alertPrefix + strings.TrimPrefix(op.Err.Error(), "tls: "))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errors.New("connection closed without an answer")
	case errors.As(err, &ne) && ne.Timeout():
		return fmt.Errorf("no answer within %v", patience)
	}
	return err
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// open goes from the greeting to the state in which MAIL is asked. A refusal before is what was seen; its At is not "".
func (p *peer) open(f front, m mail) (s seen) {
	hello := func() (seen, bool) {
		r, err := p.cmd("EHLO " + helo)
		return step("EHLO", r, err, "250")
	}
	r, err := p.reply()
	if s, ok := step("greeting", r, err, "220"); !ok {
		return s
	}
	if s, ok := hello(); !ok || m.clear {
		if ok {
			s = seen{}
		}
		return s
	}
	r, err = p.cmd("STARTTLS")
	if s, ok := step("STARTTLS", r, err, "220"); !ok {
		return s
	}
	if err := p.secure(f, m); err != nil {
		return seen{At: "STARTTLS", Reply: broken(err).Error()}
	}
	s.resumed = p.tls.ConnectionState().DidResume
	if e, ok := hello(); !ok {
		return e
	}
	return s
}

// step turns an answer into what was seen; ok when it begins with want.
func step(at, reply string, err error, want string) (seen, bool) {
	if err != nil {
		return seen{At: at, Reply: err.Error()}, false
	}
	return seen{At: at, Reply: reply}, strings.HasPrefix(reply, want)
}

func (p *peer) secure(f front, m mail) error {
	cfg := &tls.Config{ServerName: f.name, RootCAs: f.roots, InsecureSkipVerify: f.roots == nil, //nolint:gosec // see PlayOutside
		MinVersion: tls.VersionTLS12, MaxVersion: m.version, ClientSessionCache: m.session}
	if m.version != 0 && m.version < tls.VersionTLS12 {
		cfg.MinVersion = m.version
	}
	if m.as != nil {
		// Shown whatever authorities the front names: who is refused must be refused by the front.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.as, nil }
	}
	if m.through != nil {
		p.conn = m.through.under(p.conn, cfg)
	}
	c := tls.Client(p.conn, cfg)
	_ = p.conn.SetDeadline(time.Now().Add(patience))
	if err := c.Handshake(); err != nil {
		return err
	}
	p.conn, p.tls, p.br = c, c, bufio.NewReaderSize(c, lineOctets)
	return nil
}

// deliver sends one message on an open session, or the envelope of one. Who is refused goes on all the same, then leaves in good order.
func (p *peer) deliver(m mail, text string) (s seen) {
	said := func(at, line, want string) bool {
		r, err := p.cmd(line)
		var ok bool
		e, ok := step(at, r, err, want)
		s.At, s.Reply = e.At, e.Reply
		if !ok && err == nil {
			s.fault = p.insist(at, m, text)
		}
		return ok
	}
	if !said("MAIL", "MAIL FROM:<"+m.from+">", "250") || !said("RCPT", "RCPT TO:<"+m.to+">", "250") || m.noData || !said("DATA", "DATA", "354") {
		return s
	}
	if err := p.send(text + ".\r\n"); err != nil {
		s.Reply = broken(err).Error()
		return s
	}
	r, err := p.reply()
	e, _ := step("DATA", r, err, "250")
	s.At, s.Reply = e.At, e.Reply
	return s
}

// insist goes on after a refusal: nothing of it may be taken, and the session must still end in good order.
func (p *peer) insist(at string, m mail, text string) error {
	next := map[string][]string{"MAIL": {"RCPT TO:<" + m.to + ">", "DATA"}, "RCPT": {"DATA"}}[at]
	if m.noData && len(next) > 0 {
		next = next[:len(next)-1]
	}
	for _, line := range append(next, "QUIT") {
		verb, _, _ := strings.Cut(line, " ")
		r, err := p.cmd(line)
		switch {
		case err != nil:
			return fmt.Errorf("%s after the refusal: %w", verb, err)
		case verb == "QUIT" && !strings.HasPrefix(r, "221"):
			return fmt.Errorf("QUIT after the refusal: %s", r)
		case verb != "QUIT" && r[0] != '5':
			if strings.HasPrefix(r, "354") { // let it show whether it keeps what comes
				_ = p.send(text + ".\r\n")
				_, _ = p.reply()
			}
			return fmt.Errorf("the refusal does not hold: %s was answered %s", verb, r)
		}
	}
	return nil
}
