package imapd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/auth"
	"mssd/message"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
	"mssd/trace"
)

// The BAL of the tests, and what its members type.
const (
	balAddress = "pharmacie@exemple.test"
	ownerName  = "anne%" + balAddress
	readerName = "luc%" + balAddress
	password   = "correct horse 7"
)

// world is a real store with one BAL, behind a real server on a real socket.
type world struct {
	t      testing.TB
	srv    *Server
	store  *store.Store
	bal    store.BAL
	addr   string
	client *tls.Config
	ca     string // file with the authority
	logs   *syncBuffer
	stop   func()

	mu     sync.Mutex
	events []trace.Event // that became durable; guarded by mu

	dir     string // of the store
	unsound bool   // the test damages the store
}

// syncBuffer is a log that a test can read.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// worlds finds the world of a test, to show its log.
var worlds sync.Map

// pki is made once: keys are slow, and nothing in it changes.
var pki = sync.OnceValues(func() (*testpki.PKI, error) { return testpki.New() })

func must[T any](t testing.TB, what string) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return v
	}
}

// newWorld starts a server; change may alter its fields before.
func newWorld(t testing.TB, change func(*Server)) *world {
	t.Helper()
	return newWorldAt(t, change, nil)
}

// newWorldAt is newWorld with a clock for the store.
func newWorldAt(t testing.TB, change func(*Server), now func() time.Time) *world {
	t.Helper()
	return newWorldOn(t, change, store.Options{NoSync: true, Now: now})
}

// newWorldOn is newWorld on a store opened in its own way.
func newWorldOn(t testing.TB, change func(*Server), opt store.Options) *world {
	t.Helper()
	dir := t.TempDir()
	p, err := pki()
	if err != nil {
		t.Fatal(err)
	}
	id := must[*testpki.Identity](t, "certificate")(p.Server("localhost", "127.0.0.1"))
	cert, key, ca := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	if err := errors.Join(id.WriteFiles(cert, key), p.WriteAnchors(ca)); err != nil {
		t.Fatal(err)
	}
	logs := &syncBuffer{}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	front := must[*tlsconf.Front](t, "front")(tlsconf.NewFront(tlsconf.FrontConfig{Name: "imap", CertFile: cert, KeyFile: key}))
	w := &world{t: t, ca: ca, logs: logs, dir: filepath.Join(dir, "store")}
	opt.Dir, opt.Create, opt.Log, opt.Observe = w.dir, true, log, w.observe
	st := must[*store.Store](t, "store")(store.Open(opt))
	w.store = st
	argon := auth.Params{Time: 1, MemoryKiB: 64, Threads: 1}
	hash := must[string](t, "hash")(auth.HashPassword(argon, password))
	w.commit(
		store.PutBAL{BAL: store.BAL{Address: balAddress, Kind: store.ORG, State: store.Active, Listing: store.Published}, Create: true},
		store.PutMember{Address: balAddress, Member: store.Member{ID: "local:anne", Role: store.Owner, PasswordHash: hash}},
		store.PutMember{Address: balAddress, Member: store.Member{ID: "local:luc", Role: store.Reader, PasswordHash: hash}},
	)
	w.bal = must[store.BAL](t, "bal")(st.BAL(balAddress))
	w.srv = &Server{Hostname: "localhost", TLS: front, Implicit: true, Store: st, Log: log,
		Auth: auth.New(auth.Config{Store: st, Argon: argon, Log: log})}
	if change != nil {
		change(w.srv)
	}
	pool := x509.NewCertPool()
	pool.AddCert(p.Root.Cert)
	w.client = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	worlds.Store(t, w)
	w.listen()
	return w
}

func (w *world) observe(e trace.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// listen serves until the end of the test, at which the store must be in order.
func (w *world) listen() {
	ln := must[net.Listener](w.t, "listen")(net.Listen("tcp", "127.0.0.1:0"))
	w.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- w.srv.Serve(ln) }()
	w.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.srv.Shutdown(ctx); err != nil {
			w.t.Errorf("shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			w.t.Errorf("Serve returned %v", err)
		}
		problems, err := w.store.Check(ctx)
		if err != nil || len(problems) > 0 && !w.unsound {
			w.t.Errorf("store after the test: %v %v", problems, err)
		}
		if err := w.store.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
		if s := w.logs.String(); strings.Contains(s, "panic") {
			w.t.Errorf("a session panicked:\n%s", s)
		}
	})
	w.t.Cleanup(w.stop)
}

func (w *world) commit(ops ...store.Op) *store.Result {
	w.t.Helper()
	return must[*store.Result](w.t, "commit")(w.store.Commit(context.Background(), &store.Batch{Ops: ops}))
}

func (w *world) box(name string) store.Mailbox {
	w.t.Helper()
	return must[store.Mailbox](w.t, "mailbox")(w.store.Mailbox(w.bal.ID, name))
}

// prefix is what delivery puts before a message.
const prefix = "Return-Path: <expediteur@exemple.test>\r\n"

// foldedPrefix has a field over several lines, as a real Received is.
const foldedPrefix = prefix + "Received: from smtp.exemple.test (127.0.0.1)\r\n\tby mss.exemple.test with ESMTPS\r\n\tid 06AKKCVTA0000; Fri, 14 Mar 2025 10:26:53 +0100\r\n"

// deliver puts a message into a mailbox as a delivery would, and returns its UID.
func (w *world) deliver(box, raw string) store.UID {
	w.t.Helper()
	uid, err := w.tryDeliver(box, raw)
	if err != nil {
		w.t.Fatalf("deliver: %v", err)
	}
	return uid
}

func (w *world) tryDeliver(box, raw string) (store.UID, error) {
	return w.deliverBehind(prefix, box, raw)
}

func (w *world) deliverBehind(prefix, box, raw string) (store.UID, error) {
	return w.deliverTo(w.bal, prefix, box, raw)
}

func (w *world) deliverTo(bal store.BAL, prefix, box, raw string) (store.UID, error) {
	m, err := w.store.Mailbox(bal.ID, box)
	if err != nil {
		return 0, err
	}
	blob, err := w.store.NewBlob()
	if err != nil {
		return 0, err
	}
	defer blob.Abort()
	meta, text, err := message.Scan(io.TeeReader(strings.NewReader(raw), blob))
	if err != nil {
		return 0, err
	}
	if err := blob.Finish(meta, text); err != nil {
		return 0, err
	}
	res, err := w.store.Commit(context.Background(), &store.Batch{Blob: blob, Ops: []store.Op{store.AddMessage{
		Ref: m.Ref, Message: blob.ID(), Prefix: []byte(prefix), Date: time.Date(2025, 3, 14, 9, 26, 53, 0, time.UTC)}},
		Events: []trace.Event{{Kind: trace.Committed, BAL: string(bal.Address), Mailbox: uint32(m.Ref.Mailbox)}}})
	if err != nil {
		return 0, err
	}
	return res.Ops[0].New[0].First, nil
}

// session is a client that speaks lines.
type session struct {
	t   testing.TB
	nc  net.Conn
	br  *bufio.Reader
	tag int
	all strings.Builder // the dialogue
}

// patience is how long a client waits for the server before the test fails.
const patience = 20 * time.Second

func (w *world) dial() *session {
	w.t.Helper()
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatalf("dial: %v", err)
	}
	w.t.Cleanup(func() { nc.Close() })
	if w.srv.Implicit {
		nc = tls.Client(nc, w.client)
	}
	return newSession(w.t, nc)
}

func newSession(t testing.TB, nc net.Conn) *session {
	_ = nc.SetDeadline(time.Now().Add(patience))
	return &session{t: t, nc: nc, br: bufio.NewReader(nc)}
}

// login dials, logs in as user and selects box unless it is "".
func (w *world) login(user, box string) *session {
	w.t.Helper()
	s := w.dial()
	s.line()
	s.ok(`LOGIN "` + user + `" "` + password + `"`)
	if box != "" {
		s.ok("SELECT " + box)
	}
	return s
}

func (s *session) fail(format string, args ...any) {
	s.t.Helper()
	if testing.Verbose() {
		if w, ok := worlds.Load(s.t); ok {
			s.t.Log(w.(*world).logs.String())
		}
	}
	s.t.Fatalf(format+"\ndialogue:\n%s", append(args, s.all.String())...)
}

func (s *session) send(text string) {
	s.t.Helper()
	if s.all.Len() < 1<<20 {
		fmt.Fprintf(&s.all, "C: %s", text)
	}
	_ = s.nc.SetDeadline(time.Now().Add(patience)) // for each command: a test may take longer on a machine with much to do
	if _, err := io.WriteString(s.nc, text); err != nil {
		s.fail("send: %v", err)
	}
}

// line reads a response, with the octets of its literals; "" at the end of the connection.
func (s *session) line() string {
	s.t.Helper()
	l, err := readResponse(s.br)
	if err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			s.fail("no answer")
		}
		return ""
	}
	if s.all.Len() < 1<<20 {
		fmt.Fprintf(&s.all, "S: %s\n", l)
	}
	return l
}

// readResponse reads a line without its CRLF, literals included.
func readResponse(br *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		l, err := br.ReadString('\n')
		if err != nil {
			return b.String(), err
		}
		if !strings.HasSuffix(l, "\r\n") {
			return "", fmt.Errorf("a line without CRLF: %q", l)
		}
		l = strings.TrimSuffix(l, "\r\n")
		b.WriteString(l)
		open := strings.LastIndexByte(l, '{')
		if open < 0 || !strings.HasSuffix(l, "}") {
			return b.String(), nil
		}
		n, err := strconv.Atoi(l[open+1 : len(l)-1])
		if err != nil {
			return b.String(), nil
		}
		lit := make([]byte, n)
		if _, err := io.ReadFull(br, lit); err != nil {
			return "", err
		}
		b.WriteString("\r\n")
		b.Write(lit)
	}
}

// cmd sends a command and returns the untagged lines and the tagged one without its tag.
func (s *session) cmd(text string) (untagged []string, tagged string) {
	s.t.Helper()
	s.tag++
	tag := fmt.Sprintf("t%d", s.tag)
	s.send(tag + " " + text + "\r\n")
	return s.until(tag)
}

func (s *session) until(tag string) (untagged []string, tagged string) {
	s.t.Helper()
	for {
		l := s.line()
		if l == "" {
			return untagged, ""
		}
		if rest, ok := strings.CutPrefix(l, tag+" "); ok {
			return untagged, rest
		}
		untagged = append(untagged, l)
	}
}

// ok is cmd for a command that must succeed.
func (s *session) ok(text string) []string {
	s.t.Helper()
	un, tagged := s.cmd(text)
	if !strings.HasPrefix(tagged, "OK") {
		s.fail("%s: %s", text, tagged)
	}
	return un
}

// want is cmd for a command whose end must begin with something.
func (s *session) want(text, begin string) []string {
	s.t.Helper()
	un, tagged := s.cmd(text)
	if !strings.HasPrefix(tagged, begin) {
		s.fail("%s: got %q, want %q", text, tagged, begin)
	}
	return un
}

// needProgram is the path of a program that a test drives: missing is a skip by name on a laptop, a failure in CI.
func needProgram(t *testing.T, name string, look func(string) (string, error)) string {
	t.Helper()
	path, err := look(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
	return ""
}

// mail is a message with words that need folding.
const mail = "From: =?utf-8?Q?H=C3=A9l=C3=A8ne_Durand?= <helene@exemple.test>\r\n" +
	"To: pharmacie@exemple.test\r\n" +
	"Subject: Ordonnance pour =?iso-8859-1?Q?No=EBl?=\r\n" +
	"Date: Fri, 14 Mar 2025 10:26:53 +0100\r\n" +
	"Message-ID: <1@exemple.test>\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n" +
	"Content-Transfer-Encoding: 8bit\r\n" +
	"\r\n" +
	"Voici l'élément demandé.\r\n"

// multipart is a message with a text, an attachment and a message inside.
const multipart = "From: a@exemple.test\r\nTo: b@exemple.test\r\nSubject: parties\r\n" +
	"Date: Sat, 15 Mar 2025 08:00:00 +0000\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=xx\r\n\r\npreamble\r\n" +
	"--xx\r\nContent-Type: text/plain\r\n\r\nfirst part\r\n" +
	"--xx\r\nContent-Type: application/pdf; name=\"o.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQK\r\n" +
	"--xx\r\nContent-Type: message/rfc822\r\n\r\nFrom: inner@exemple.test\r\nSubject: dedans\r\n\r\ninner text\r\n" +
	"--xx--\r\n"
