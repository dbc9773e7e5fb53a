package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mssd/message"
	"mssd/tlsconf/guard"
	"mssd/trace"
)

// Limits of the dialogue.
const (
	maxLine    = 4096 // octets of a command line (RFC 5321, Section 4.5.3.1.4 wants 512, extensions more)
	maxJunk    = 200  // commands without an accepted message in between, besides recipients
	maxHold    = 32 << 10
	maxChunk   = 1<<32 - 1 // octets of one BDAT: what go-smtp can count
	windowSize = 64 << 10  // octets of a message in memory
)

// A wire is the connection as go-smtp sees it, above TLS. It hands over one checked command line at a
// time, so that nothing is read ahead, keeps addresses out of the library, frames BDAT, reads DATA itself
// (go-smtp's reader works octet by octet), gives the library's replies the texts of the reply table,
// and sends replies together before it waits. Read is used by the goroutine of the connection; the
// output may be used by several.
type wire struct {
	*tls.Conn
	guard   *guard.Conn
	host    string
	maxErrs int
	maxMsg  int64
	maxRcpt int
	log     *slog.Logger
	confirm func(trace.ID)
	onClose func()
	login   *login // of the submission front; nil: the operator front

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	// Owned by the goroutine of the connection.
	in       []byte          // read, not yet used
	store    []byte          // memory of in
	feed     []byte          // what Read gives to go-smtp before anything else
	chunk    int64           // octets left of a BDAT chunk
	last     bool            // it is the last one
	verb     string          // of the last line handed over
	path     message.Address // of the last MAIL or RCPT
	junk     int
	protocol string   // for Received
	session  *session // nil before EHLO
	sasl     bool     // the line to be read is one of a SASL dialogue

	active atomic.Int32 // message transfers that run

	mu         sync.Mutex // guards what follows, and the order of output
	part       []byte     // an unfinished line of go-smtp
	out        []byte     // replies not yet sent
	greeted    bool       // go-smtp's greeting was dropped (ours was said before TLS)
	ehlo       bool       // the next reply is that to EHLO
	replyTo    string     // verb that go-smtp answers
	errs       int        // refusals since the last accepted message
	said       []trace.ID // 250 in out
	unproven   []trace.ID // 250 sent, nothing heard since
	dead       bool
	over       error // why the session is over whose right has ended
	committing bool  // a message is being committed: the session is not cut off
	closed     sync.Once
}

func newWire(t *tls.Conn, g *guard.Conn) *wire {
	w := &wire{Conn: t, guard: g, store: make([]byte, maxLine+512)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Read gives go-smtp what it may see: a command line, or the end of a message.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.feed) == 0 {
		if err := w.skipChunk(); err != nil {
			return 0, err
		}
		line, err := w.nextLine()
		if err != nil {
			return 0, err
		}
		w.feed = line
	}
	n := copy(p, w.feed)
	w.feed = w.feed[n:]
	return n, nil
}

// nextLine answers lines that are not for the library until one is.
func (w *wire) nextLine() ([]byte, error) {
	for {
		line, err := w.readLine()
		if err != nil {
			return nil, err
		}
		if w.junk++; w.junk > maxJunk+w.maxRcpt {
			return nil, w.end(errTooManyJunk)
		}
		pass, err := w.command(line)
		switch {
		case errors.Is(err, errChunk):
			return nil, w.end(err)
		case err != nil:
			w.answer(err)
		default:
			return pass, nil
		}
	}
}

// readLine reads up to LF. What it returns is valid until the next read.
func (w *wire) readLine() ([]byte, error) {
	w.endCommit()
	if w.active.Load() == 0 && w.guard.Ending() {
		return nil, w.end(w.whyEnding())
	}
	for {
		if w.isDead() {
			return nil, io.EOF
		}
		limit := w.lineLimit()
		if i := bytes.IndexByte(w.in, '\n'); i >= 0 && i < limit {
			line := w.in[:i+1]
			w.in = w.in[i+1:]
			return line, nil
		} else if len(w.in) >= limit {
			return nil, w.end(errLineTooLong)
		}
		w.in = w.store[:copy(w.store, w.in)]
		if len(w.in) == len(w.store) {
			w.larger()
		}
		w.flush()
		if w.active.Load() == 0 {
			w.guard.SetBusy(false)
		}
		n, err := w.recv(w.store[len(w.in):])
		w.in = w.store[:len(w.in)+n]
		if err != nil {
			return nil, err
		}
	}
}

// recv reads from the network. The first octet after a 250 proves that the peer goes on.
func (w *wire) recv(p []byte) (int, error) {
	w.flush()
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.mu.Lock()
		proven := w.unproven
		w.unproven = nil
		w.mu.Unlock()
		for _, id := range proven {
			w.confirm(id)
		}
		return n, nil
	}
	if err == nil {
		return 0, nil
	}
	return 0, w.lost(err)
}

// lost ends the connection after a read error, saying why where somebody may still listen.
func (w *wire) lost(err error) error {
	var limit *guard.TimeoutError
	switch {
	case errors.As(err, &limit) && limit.Limit == guard.Slow:
		return w.end(errSlow)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return w.end(errIdle)
	}
	w.kill()
	return io.EOF
}

// end says why, and closes. It returns what Read tells go-smtp, which then says nothing of its own.
func (w *wire) end(why error) error {
	r := replyTo(why)
	w.guard.Line(w.log, slog.LevelInfo, "connection ended", r.String(), "enhanced", r.status(), "err", why.Error())
	w.mu.Lock()
	if !w.dead {
		w.put([]byte(r.line()))
		w.flushLocked()
	}
	w.mu.Unlock()
	w.kill()
	return io.EOF
}

// kill closes without a word; go-smtp notices at its next read.
func (w *wire) kill() {
	w.mu.Lock()
	w.dead = true
	w.mu.Unlock()
	w.cancel()
	_ = w.Conn.Close()
	_ = w.guard.Close()
}

func (w *wire) isDead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

// Close is called by go-smtp when it is done with the connection.
func (w *wire) Close() error {
	w.flush()
	w.kill()
	w.closed.Do(func() {
		if w.login != nil {
			w.login.live.Remove()
		}
		if w.onClose != nil {
			w.onClose()
		}
	})
	return nil
}

// command looks at one line: what may go-smtp see of it?
func (w *wire) command(line []byte) ([]byte, error) {
	text, err := checkLine(line)
	if errors.Is(err, errNonASCII) {
		return nil, notASCII(line)
	}
	if err != nil {
		return nil, err
	}
	verb, args, _ := strings.Cut(text, " ")
	verb, args = strings.ToUpper(verb), strings.TrimSpace(args)
	w.verb = verb
	handler, ok := commands[verb]
	if !ok {
		return nil, errCommand
	}
	if err := w.login.admit(verb); err != nil {
		return nil, err
	}
	if args, err = handler(w, args); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.replyTo, w.ehlo = verb, verb == "EHLO"
	w.mu.Unlock()
	switch {
	case verb == "BDAT":
		verb = "DATA" // see chunked
	case args != "":
		return []byte(verb + " " + args + "\r\n"), nil
	}
	return []byte(verb + "\r\n"), nil
}

// checkLine refuses what RFC 5321, Section 2.3.8 and 4.1.2 do: LF alone, control characters; octets
// outside ASCII are for SMTPUTF8, which is not offered.
func checkLine(line []byte) (string, error) {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return "", errLineEnd
	}
	for _, c := range text {
		switch {
		case c < ' ' && c != '\t', c == 0x7f:
			return "", errLineEnd
		case c >= 0x80:
			return "", errNonASCII
		}
	}
	return string(text), nil
}

// notASCII is what a line with octets outside ASCII is told: only of an address can SMTPUTF8 be the matter.
func notASCII(line []byte) error {
	verb, _, _ := strings.Cut(string(line), " ")
	switch verb = strings.ToUpper(verb); verb {
	case "MAIL", "RCPT", "VRFY", "EXPN":
		return errNonASCII
	}
	if _, known := commands[verb]; known {
		return errSyntax
	}
	return errCommand
}

// commands says what happens to each command before go-smtp sees it.
var commands = map[string]func(w *wire, args string) (string, error){
	"EHLO":     helloLine,
	"HELO":     helloLine,
	"MAIL":     mailLine,
	"RCPT":     rcptLine,
	"DATA":     transferLine,
	"BDAT":     chunkLine,
	"RSET":     bareLine,
	"QUIT":     bareLine,
	"NOOP":     noArgs,
	"VRFY":     noArgs,
	"STARTTLS": func(*wire, string) (string, error) { return "", errTLSActive },
	"AUTH":     authLine,
	"EXPN":     notImplemented,
	"HELP":     notImplemented,
	"ETRN":     notImplemented,
	"TURN":     notImplemented,
	"SEND":     notImplemented,
	"SOML":     notImplemented,
	"SAML":     notImplemented,
}

func notImplemented(*wire, string) (string, error) { return "", errNotImpl }
func noArgs(*wire, string) (string, error)         { return "", nil }

func bareLine(_ *wire, args string) (string, error) {
	if args != "" {
		return "", errSyntax
	}
	return "", nil
}

func helloLine(w *wire, args string) (string, error) {
	if args == "" || len(args) > 255 {
		return "", errSyntax
	}
	w.protocol = "ESMTPS" // RFC 3848
	if w.login != nil && w.login.who != nil {
		w.protocol = "ESMTPSA"
	}
	if w.verb == "HELO" {
		w.protocol = "SMTP"
	}
	return args, nil
}

func transferLine(w *wire, args string) (string, error) {
	if args != "" {
		return "", errSyntax
	}
	w.guard.SetBusy(true)
	return "", nil
}

// chunkLine reads a BDAT line (RFC 3030, Section 2). A size that cannot be read leaves the end of the chunk
// unknown: the connection cannot go on.
func chunkLine(w *wire, args string) (string, error) {
	f := strings.Fields(args)
	if len(f) == 0 || len(f) > 2 || len(f) == 2 && !strings.EqualFold(f[1], "LAST") {
		return "", errChunk
	}
	n, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil || n > maxChunk || f[0][0] == '+' {
		return "", errChunk
	}
	w.chunk, w.last = int64(n), len(f) == 2
	w.guard.SetBusy(true)
	return "", nil
}

// mailLine takes the address out: go-smtp checks addresses loosely, unquotes local parts and echoes them.
func mailLine(w *wire, args string) (string, error) {
	path, params, err := cutPath(args, "FROM:")
	if err != nil {
		return "", err
	}
	w.path = ""
	if path != "" {
		if w.path, err = message.ParseAddress(path); err != nil {
			return "", errAddress
		}
		path = "x@x"
	}
	for p := range strings.FieldsSeq(params) {
		// go-smtp reads SIZE in 32 bits: RFC 1870 allows 20 digits.
		if v, ok := cutFold(p, "SIZE="); ok && len(strings.TrimLeft(v, "0")) > 9 && strings.Trim(v, "0123456789") == "" {
			return "", errTooLarge
		}
	}
	return "FROM:<" + path + ">" + params, nil
}

func rcptLine(w *wire, args string) (string, error) {
	path, params, err := cutPath(args, "TO:")
	if err != nil {
		return "", err
	}
	switch {
	case strings.EqualFold(path, "postmaster"): // RFC 5321, Section 4.5.1: with or without a domain
		w.path = "postmaster"
	default:
		if w.path, err = message.ParseAddress(path); err != nil {
			return "", errAddress
		}
	}
	return "TO:<x@x>" + params, nil
}

// cutPath splits `FROM:<path> params` (RFC 5321, Section 4.1.2) and drops a source route, which must be
// accepted and ignored. params begin with a space when there are any.
func cutPath(args, keyword string) (path, params string, err error) {
	rest, ok := cutFold(args, keyword)
	if !ok {
		return "", "", errSyntax
	}
	rest = strings.TrimLeft(rest, " ")
	if !strings.HasPrefix(rest, "<") {
		return "", "", errAddress
	}
	quoted, end := false, -1
	for i := 1; i < len(rest) && end < 0; i++ {
		switch {
		case quoted && rest[i] == '\\':
			i++
		case rest[i] == '"':
			quoted = !quoted
		case rest[i] == '>' && !quoted:
			end = i
		}
	}
	if end < 0 {
		return "", "", errAddress
	}
	path, params = rest[1:end], rest[end+1:]
	if params != "" && params[0] != ' ' {
		return "", "", errSyntax
	}
	if strings.HasPrefix(path, "@") {
		_, path, ok = strings.Cut(path, ":")
		if !ok || path == "" { // a route to nobody is not the null sender
			return "", "", errAddress
		}
	}
	return path, params, nil
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// SetDeadline and its like do nothing: deadlines are the guard's.
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = (*wire)(nil)
