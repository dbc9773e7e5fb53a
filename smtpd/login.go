package smtpd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mssd/auth"
	"mssd/trace"
)

// maxSASL bounds a line of a SASL dialogue, AUTH included (RFC 4954, Section 4 asks for 12,288 octets; tokens are long).
const maxSASL = 16 << 10

// A login is who a connection of the submission front belongs to. It is owned by the goroutine of the connection, but for
// what auth.Sessions calls.
type login struct {
	srv        *Server
	w          *wire
	mechanisms []string
	peer       auth.Peer

	who      *auth.Principal // nil: nobody yet
	live     *auth.Session
	failures int
}

// early are the commands of who has not logged in; everything else gets 530 (RFC 4954, Section 6).
var early = []string{"EHLO", "HELO", "AUTH", "NOOP", "RSET", "QUIT", "STARTTLS"}

// newLogin is the login of a connection whose TLS handshake is over.
func (s *Server) newLogin(w *wire) *login {
	state := w.ConnectionState()
	l := &login{srv: s, w: w, mechanisms: s.Submission.Mechanisms, peer: auth.Peer{Certs: state.PeerCertificates, Binding: auth.TLSBinding(&state)}}
	if ap, err := netip.ParseAddrPort(w.RemoteAddr().String()); err == nil {
		l.peer.Remote = ap.Addr().Unmap()
	}
	if a := s.Submission.App; a.Serves(state.ServerName) {
		l.mechanisms, l.peer.ByCertificate = a.Mechanisms, true
	}
	l.mechanisms = auth.Carried(&state, l.mechanisms)
	l.peer.Plus = slices.Contains(l.mechanisms, auth.ScramSHA256Plus)
	return l
}

// admit says whether a command may be done: before a login few are.
func (l *login) admit(verb string) error {
	if l == nil || l.who != nil || slices.Contains(early, verb) {
		return nil
	}
	if _, known := commands[verb]; !known {
		return nil // it is told so
	}
	l.srv.refusedEarly(l.w.guard, verb, "no login", replyTo(errNeedAuth).String())
	if verb == "BDAT" {
		return errors.Join(errNeedAuth, errChunk) // its octets would be taken for commands
	}
	return errNeedAuth
}

// authLine is AUTH: RFC 4954, Section 4. It is answered here; go-smtp never hears of it.
func authLine(w *wire, args string) (string, error) {
	l := w.login
	switch {
	case l == nil:
		return "", errNotImpl
	case l.who != nil:
		return "", errLoginTwice
	case w.session == nil, w.protocol == "SMTP": // SMTP: after HELO
		return "", errLoginEarly
	}
	mechanism, initial, _ := strings.Cut(args, " ")
	if mechanism == "" {
		return "", errSyntax
	}
	return "", l.authenticate(strings.ToUpper(mechanism), strings.TrimSpace(initial))
}

// authenticate carries one SASL exchange. Its success is an error as well: what is not handed to go-smtp is one.
func (l *login) authenticate(mechanism, initial string) error {
	if !slices.Contains(l.mechanisms, mechanism) {
		return auth.ErrMechanism
	}
	x, err := l.srv.Submission.Auth.Begin(mechanism, l.peer)
	if err != nil {
		return err
	}
	var msg []byte
	switch initial {
	case "":
		msg, err = l.challenge(x.First())
	case "=": // an empty response
	default:
		msg, err = decodeSASL(initial)
	}
	if err != nil {
		return err
	}
	for {
		challenge, p, err := x.Next(l.w.ctx, msg)
		switch {
		case err == nil && p != nil && len(p.Grants) == 0:
			return l.refused(auth.ErrCredentials)
		case err != nil:
			return l.refused(err)
		case p != nil:
			return l.welcome(p)
		}
		// What a client answers to being refused is of no matter, a cancellation included: it is told the refusal.
		if msg, err = l.challenge(challenge); err != nil && (!x.Refusing() || l.w.isDead()) {
			return err
		}
	}
}

// challenge sends a challenge and reads the answer.
func (l *login) challenge(data []byte) ([]byte, error) {
	l.w.mu.Lock()
	if !l.w.dead {
		l.w.put([]byte("334 " + base64.StdEncoding.EncodeToString(data) + "\r\n"))
	}
	l.w.mu.Unlock()
	l.w.sasl = true
	line, err := l.w.readLine()
	l.w.sasl = false
	if err != nil {
		return nil, err
	}
	text, err := checkLine(line)
	switch {
	case errors.Is(err, errNonASCII):
		return nil, errBase64
	case err != nil:
		return nil, err
	case text == "*":
		return nil, errCancelled
	}
	return decodeSASL(text)
}

func decodeSASL(text string) ([]byte, error) {
	msg, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errBase64
	}
	return msg, nil
}

// welcome begins the session of who has logged in.
func (l *login) welcome(p *auth.Principal) error {
	w, s := l.w, l.srv
	l.who, l.failures = p, 0
	w.protocol = "ESMTPSA" // RFC 3848
	w.smaller()
	_ = w.guard.SetReadDeadline(time.Time{})
	// From here on it keeps its place before those who have not logged in. How many connections one person has is bounded by
	// their address only: a pharmacy's workstations share both.
	s.set.Prove(w.guard, p.Person, s.set.Limits().MaxConns)
	bal := string(p.Grants[0].BAL.Address)
	w.session.log = w.session.log.With("person", p.Person, "from", bal)
	w.log.Info("login", "user", p)
	s.Store.Record(trace.Event{Time: s.now(), Kind: trace.Login, Conn: w.guard.ID(), Person: p.Person, BAL: bal, Attrs: []trace.Attr{
		{Key: trace.KeyMethod, Value: p.Method}, {Key: trace.KeyRemote, Value: l.peer.Remote.String()}, {Key: trace.KeyCommand, Value: "AUTH"}}})
	l.live = s.sessions.Add(p, func(err error) {
		err = endedBy(err)
		s.recordEnd(w.guard.ID(), p, err)
		go w.cutOff(err) // it writes
	})
	return errLoggedIn
}

// ended notes that the session is over, where it is found out here and not by auth.Sessions.
func (l *login) ended(err error) {
	if l.live.Remove() {
		l.srv.recordEnd(l.w.guard.ID(), l.who, err)
	}
}

// refused counts and records a refused login; after too many the connection ends. The name that was tried is not logged: it
// may be a password typed into the wrong field.
func (l *login) refused(err error) error {
	w := l.w
	if !errors.Is(err, auth.ErrUnavailable) {
		l.failures++
	}
	r := replyTo(err)
	w.guard.Line(w.log, slog.LevelInfo, "login refused", r.String(), "code", r.code, "enhanced", r.status(), "err", err)
	who, e := l.refusal(err)
	l.srv.refusals.Add(trace.Alike{Who: who, Cmd: "AUTH", Code: e.Attr(trace.KeyReason)}, e)
	if l.failures >= l.srv.Submission.MaxFailures {
		w.answer(err)
		return w.end(errTooManyLogins)
	}
	return err
}

// refusal is the event of a refused login, and whose refusals are alike: those of a person whom a token names, else of whoever
// is behind an address.
func (l *login) refusal(err error) (who string, e trace.Event) {
	e = trace.Event{Time: l.srv.now(), Kind: trace.LoginRefused, Conn: l.w.guard.ID()}
	who = trace.Network(l.peer.Remote)
	reason, member := "Credentials", ""
	var r *auth.Refusal
	var named *auth.NamedRefusal
	switch {
	case errors.As(err, &r):
		reason = r.Reason
		if r.Person != "" {
			e.Person, e.BAL = r.Person, string(r.BAL)
			who = r.Person + " " + string(r.BAL)
		}
	case errors.As(err, &named):
		// Nobody has proven to be this member: it is whom the name stands for, not who acted.
		reason, member, e.BAL = named.Reason, named.Member, string(named.BAL)
	case errors.Is(err, auth.ErrThrottled):
		reason = "Throttled"
	case errors.Is(err, auth.ErrUnavailable):
		reason = "Unavailable"
	}
	e.Attrs = []trace.Attr{{Key: trace.KeyReason, Value: reason}, {Key: trace.KeyRemote, Value: l.peer.Remote.String()}, {Key: trace.KeyCommand, Value: "AUTH"}}
	if member != "" {
		e.Attrs = append(e.Attrs, trace.Attr{Key: trace.KeyMember, Value: member})
	}
	return who, e
}

// lineLimit is the most octets of the line that is being read.
func (w *wire) lineLimit() int {
	if w.login == nil || w.login.who != nil {
		return maxLine
	}
	const verb = "AUTH "
	if w.sasl || len(w.in) >= len(verb) && bytes.EqualFold(w.in[:len(verb)], []byte(verb)) {
		return maxSASL
	}
	return maxLine
}

// larger makes room for a line of a SASL dialogue; smaller takes it back once the login is over.
func (w *wire) larger() {
	w.store = make([]byte, maxSASL+512)
	w.in = w.store[:copy(w.store, w.in)]
}

func (w *wire) smaller() {
	if len(w.store) <= maxLine+512 || len(w.in) > maxLine {
		return
	}
	w.store = make([]byte, maxLine+512)
	w.in = w.store[:copy(w.store, w.in)]
}

// cutOff ends a session whose right is over. What is being committed is answered first; a message that is still coming in is
// not waited for.
func (w *wire) cutOff(why error) {
	w.mu.Lock()
	w.over = why
	committing := w.committing
	w.mu.Unlock()
	if committing {
		w.guard.HangUp()
		return
	}
	_ = w.end(why)
}

// beginCommit returns the reason when the session has ended; until endCommit, when go-smtp has queued the answer, it is not
// cut off: who is told 421 of a stored message sends it again.
func (w *wire) beginCommit() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.committing = w.over == nil
	return w.over
}

func (w *wire) endCommit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.committing = false
}

// whyEnding is what the connection is told that is hung up while it waits.
func (w *wire) whyEnding() error {
	w.mu.Lock()
	over := w.over
	w.mu.Unlock()
	if over != nil {
		return over
	}
	return whyEnding(w.guard)
}
