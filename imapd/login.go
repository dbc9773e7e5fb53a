package imapd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/trace"
)

// maxSASL bounds one line of a SASL dialogue (RFC 4954 asks for 12,288 octets; tokens are long).
const maxSASL = 16 << 10

// Only what works is advertised.
var (
	capsBase  = []string{"IMAP4rev1", "IMAP4rev2", "LITERAL-", "SASL-IR", "ID"}
	capsClear = []string{"STARTTLS", "LOGINDISABLED"}
	capsUser  = []string{"ENABLE", "IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "UNSELECT", "CHILDREN", "SPECIAL-USE",
		"LIST-EXTENDED", "LIST-STATUS", "ESEARCH", "STATUS=SIZE", "CONDSTORE", "QRESYNC",
		"SEARCHRES", "PARTIAL", "ESORT", "SORT", "SORT=DISPLAY", "THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES", "INPROGRESS",
		"QUOTA", "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE", "ACL", "RIGHTS=texk", "LIST-MYRIGHTS", "CREATE-SPECIAL-USE", "WITHIN", "SAVEDATE", "OBJECTID",
		"REPLACE", "BINARY", "PREVIEW", "UIDONLY", "UTF8=ACCEPT", "NOTIFY", "METADATA", "LIST-METADATA", "MULTIAPPEND"}
)

// capabilities is the text of the CAPABILITY response and code in the present state.
func (c *conn) capabilities() string {
	var b strings.Builder
	for i, s := range capsBase {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s)
	}
	more := capsUser
	switch c.state() {
	case clear_:
		more = capsClear
	case secured:
		more = c.capsLogin()
	}
	for _, s := range more {
		b.WriteString(" " + s)
	}
	if c.user != nil {
		b.WriteString(" APPENDLIMIT=")
		b.WriteString(itoa(c.srv.MaxMessage))
		if !c.out.packs {
			b.WriteString(" COMPRESS=DEFLATE")
		}
	}
	return b.String()
}

// RFC 9051, Section 6.1.1.
func (c *conn) cmdCapability(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	c.out.line("* CAPABILITY " + c.capabilities())
	return okay("CAPABILITY completed"), nil
}

// NOOP and CHECK: RFC 9051, Section 6.1.2; RFC 3501, Section 6.4.1. What happened is told by run.
func (c *conn) cmdNoop(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	return okay(cmd.Name + " completed"), nil
}

// RFC 9051, Section 6.1.3.
func (c *conn) cmdLogout(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	c.out.line("* BYE Logging out")
	c.bye = true
	return okay("LOGOUT completed"), nil
}

// RFC 2971. The name of the client is kept for the trace of its acts, the rest is thrown away.
func (c *conn) cmdID(cmd *wire.Command) (response, error) {
	fields, err := wire.ParseID(cmd)
	if err != nil {
		return response{}, err
	}
	for _, f := range fields {
		if strings.EqualFold(f.Name, "name") {
			c.client = printable(f.Value, 64)
		}
	}
	c.out.line(`* ID ("name" "mssd")`)
	return okay("ID completed"), nil
}

// printable keeps the ASCII of a text from outside, at most n octets of it.
func printable(s string, n int) string {
	b := make([]byte, 0, min(len(s), n))
	for i := 0; i < len(s) && len(b) < n; i++ {
		if s[i] >= ' ' && s[i] < 0x7f {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// RFC 9051, Section 6.2.1. Octets that came behind the command belong to the handshake, never to the commands
// after it (CVE-2011-0411).
func (c *conn) cmdStartTLS(cmd *wire.Command) (response, error) {
	if err := wire.ParseNone(cmd); err != nil {
		return response{}, err
	}
	c.finish(cmd.Tag, okay("Begin TLS negotiation now"))
	if err := c.out.flush(); err != nil {
		return response{}, nil
	}
	early := make([]byte, c.in.br.Buffered())
	if _, err := io.ReadFull(c.in.br, early); err != nil {
		return response{}, err
	}
	if !c.handshake(&replay{Conn: c.guard, early: bytes.NewReader(early)}) {
		c.bye = true
		return response{}, nil
	}
	c.guard.OnHangUp(c.hangUp(c.nc))
	return response{}, nil
}

// replay is a connection whose first octets were read already.
type replay struct {
	net.Conn
	early *bytes.Reader
}

func (r *replay) Read(p []byte) (int, error) {
	if r.early != nil {
		if n, err := r.early.Read(p); err == nil {
			return n, nil
		}
		r.early = nil
	}
	return r.Conn.Read(p)
}

// RFC 9051, Section 6.2.3.
func (c *conn) cmdLogin(cmd *wire.Command) (response, error) {
	if c.tls == nil {
		return response{}, auth.ErrPrivacy
	}
	if !c.takesLogin() {
		return response{}, errNoPasswords
	}
	args, err := wire.ParseLogin(cmd)
	if err != nil {
		return response{}, err
	}
	return c.password(args.User, args.Password)
}

// challenge sends a SASL challenge and reads the answer.
func (c *conn) challenge(data []byte) ([]byte, error) {
	c.out.str("+ " + base64.StdEncoding.EncodeToString(data) + "\r\n")
	if err := c.out.flush(); err != nil {
		return nil, err
	}
	line, err := c.in.line(maxSASL)
	if err != nil {
		c.sayBye("", "The answer cannot be read")
		return nil, err
	}
	msg, cancelled, err := wire.DecodeSASL(line)
	if cancelled {
		return nil, bad("", "Cancelled")
	}
	return msg, err
}

// password logs in, or counts a failure.
func (c *conn) password(name, password string) (response, error) {
	p, err := c.srv.Auth.PasswordFrom(c.ctx, name, password, c.peer())
	if err != nil {
		return c.loginFailed(err)
	}
	return c.welcome(p)
}

// loginFailed answers a refused login; after too many the connection ends. The name that was tried is not
// logged: it may be a password typed into the wrong field.
func (c *conn) loginFailed(err error) (response, error) {
	if !errors.Is(err, auth.ErrUnavailable) {
		c.failures++
	}
	c.guard.Line(c.log, slog.LevelInfo, "login refused", "", "err", err)
	who, person, bal := c.refusedWho(err)
	e := trace.Event{Time: c.srv.Now(), Kind: trace.LoginRefused, Conn: c.guard.ID(),
		Person: person, BAL: bal, Attrs: []trace.Attr{{Key: trace.KeyReason, Value: refusal(err)}, {Key: trace.KeyRemote, Value: c.remote.String()}}}
	var named *auth.NamedRefusal
	if errors.As(err, &named) {
		// Nobody has proven to be this member: it is whom the name stands for, not who acted.
		if e.BAL = string(named.BAL); named.Member != "" {
			e.Attrs = append(e.Attrs, trace.Attr{Key: trace.KeyMember, Value: named.Member})
		}
	}
	c.srv.refusals.Add(trace.Alike{Who: who, Cmd: "LOGIN", Code: refusal(err)}, e)
	if c.failures >= c.srv.MaxFailures {
		r := c.answer("LOGIN", err)
		c.out.line("* BYE [" + r.code + "] Too many failed logins")
		c.bye = true
	}
	return response{}, err
}

// refusal names why a login failed, for the trace.
func refusal(err error) string {
	var r *auth.Refusal
	var named *auth.NamedRefusal
	switch {
	case errors.As(err, &r):
		return r.Reason
	case errors.As(err, &named):
		return named.Reason
	case errors.Is(err, auth.ErrThrottled):
		return "Throttled"
	case errors.Is(err, auth.ErrUnavailable):
		return "Unavailable"
	}
	return "Credentials"
}
