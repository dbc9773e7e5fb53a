package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mssd/delivery"
	"mssd/directory"
	"mssd/directory/whitelist"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
	"mssd/trace"
)

// An invented patient: the local part has the form of a national health number.
const (
	patientINS = "274999999999999"
	patient    = patientINS + "@patient.mssante.test"
	pharmacy   = "pharmacie@officine.test"
	doctor     = "medecin@officine.test"
)

// world is a whole operator front on real parts: store, white list, judge, TLS. Only the directory
// answers from a map: directory has tests of its own.
type world struct {
	t      testing.TB
	srv    *Server
	store  *store.Store
	addr   string
	root   string // folder of everything
	roots  *x509.CertPool
	peers  map[string]*testpki.Identity // patient, null (in the list, other domain), stranger, foreign
	logs   *syncBuffer
	dir    fakeDirectory
	served chan error
	pki    *testpki.PKI
	ahead  atomic.Int64 // of the clock of judge and server, nanoseconds
	events syncBuffer   // every event of the trace, printed
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// revoke publishes a list of the issuing authority, and has it read.
func (w *world) revoke(at time.Time, serials ...*big.Int) {
	w.t.Helper()
	crl := must(w.pki.Issuing.CRL(at, time.Now().AddDate(0, 0, 7), serials...))(w.t)
	check(w.t, os.WriteFile(filepath.Join(w.root, "issuing.crl"), crl, 0o600))
	if w.srv != nil {
		check(w.t, w.srv.Judge.Reload())
	}
}

type fakeDirectory map[string]directory.Decision

func (d fakeDirectory) Decide(_ context.Context, q directory.Query) directory.Decision {
	if dec, ok := d[q.Address]; ok {
		return dec
	}
	return directory.Decision{Answer: directory.Known, Action: directory.Accept, Source: "test", Generation: 1}
}

func (d fakeDirectory) Later(q directory.Query, dec directory.Decision, tell func(directory.Decision)) {
	if later, ok := d["later:"+q.Address]; ok && dec.Answer != directory.Known {
		tell(later)
	}
}

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

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld starts a server; change may set fields of it first.
func newWorld(t testing.TB, change func(*Server)) *world {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	pki := must(testpki.New())(t)
	check(t, pki.WriteAnchors(file("anchors.pem")))
	front := must(pki.Server("mx.operateur.test", "127.0.0.1"))(t)
	check(t, front.WriteFiles(file("front.pem"), file("front.key")))
	w := &world{t: t, root: dir, logs: &syncBuffer{}, dir: fakeDirectory{}, peers: map[string]*testpki.Identity{}, roots: x509.NewCertPool(), served: make(chan error, 1)}
	w.pki = pki
	w.revoke(time.Now().Add(-time.Hour))
	w.roots.AddCert(pki.Root.Cert)
	w.peers["patient"] = must(pki.Operator(testpki.Subject{C: "FR", ST: "Paris (75)", O: "PLATEFORME PATIENT TEST", OU: "300000000000003", CN: "mail.patient.test"}))(t)
	w.peers["other"] = must(pki.Operator(testpki.Subject{C: "FR", O: "AUTRE OPERATEUR TEST", CN: "mail.autre.test"}))(t)
	w.peers["stranger"] = must(pki.Operator(testpki.Subject{C: "FR", O: "HORS LISTE TEST", CN: "mail.horsliste.test"}))(t)
	w.peers["foreign"] = must(must(testpki.New())(t).Operator(testpki.Subject{C: "FR", O: "PLATEFORME PATIENT TEST", CN: "mail.patient.test"}))(t)
	w.peers["expired"] = must(pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{CN: "mail.expire.test"}, DNSNames: []string{"mail.expire.test"},
		NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(-1, 0, 0), Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}))(t)

	w.peers["brief"] = must(pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{CN: "mail.bref.test"}, DNSNames: []string{"mail.bref.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * time.Second), Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}))(t)

	w.peers["self"] = front
	w.peers["moved"] = must(pki.Operator(testpki.Subject{C: "FR", ST: "Paris (75)", O: "AUTRE PLATEFORME TEST", OU: "300000000000003", CN: "mail.patient.test"}))(t)
	w.peers["alone"] = must(testpki.SelfSigned(testpki.Request{Subject: testpki.Subject{C: "FR", ST: "Paris (75)", O: "PLATEFORME PATIENT TEST", OU: "300000000000003", CN: "mail.patient.test"}}))(t)
	w.peers["early"] = must(pki.Issuing.Issue(testpki.Request{NotBefore: time.Now().AddDate(0, 0, 2), NotAfter: time.Now().AddDate(1, 0, 0)}))(t)
	w.peers["mail"] = must(pki.Issuing.Issue(testpki.Request{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}))(t)
	w.peers["leaf"] = &testpki.Identity{Cert: w.peers["patient"].Cert, Key: w.peers["patient"].Key, Chain: w.peers["patient"].Chain[:1]}

	signer := must(pki.Signer("signataire.test", "liste@mssante.test"))(t)
	var list bytes.Buffer
	check(t, whitelist.Make(&list, []whitelist.Binding{
		{Domain: "patient.mssante.test", DN: w.peers["patient"].DN(), Description: "patients"},
		{Domain: "autre.test", DN: w.peers["other"].DN(), Description: "autre"},
		{Domain: "officine.test", DN: front.DN(), Description: "nous"},
		{Domain: "bref.test", DN: w.peers["brief"].DN(), Description: "bref"},
	}, signer.Cert, signer.Key, time.Now().Add(-time.Hour)))
	check(t, os.WriteFile(file("list.xml"), list.Bytes(), 0o600))
	anchors := must(tlsconf.LoadAnchors([]string{file("anchors.pem")}))(t)
	log := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))

	w.store = must(store.Open(store.Options{Dir: file("store"), Create: true, Log: log, Observe: func(e trace.Event) {
		fmt.Fprintf(&w.events, "%+v\n", e)
	}}))(t)
	bals := []store.Op{}
	for _, b := range []store.BAL{
		{Address: pharmacy, Kind: store.ORG, State: store.Active},
		{Address: doctor, Kind: store.PER, State: store.Active},
		{Address: "declaree@officine.test", Kind: store.PER, State: store.Declared},
		{Address: "suspendue@officine.test", Kind: store.PER, State: store.Suspended},
		{Address: "fermee@officine.test", Kind: store.PER, State: store.Closed},
		{Address: "detruite@officine.test", Kind: store.PER, State: store.Closed},
		{Address: "pleine@officine.test", Kind: store.PER, State: store.Active, QuotaOctets: 1},
		{Address: "absente@officine.test", Kind: store.ORG, State: store.Active},
		{Address: "incertaine@officine.test", Kind: store.ORG, State: store.Active},
	} {
		b.Listing = store.Published
		bals = append(bals, store.PutBAL{BAL: b, Create: true})
	}
	must(w.store.Commit(t.Context(), &store.Batch{Ops: bals}))(t)
	must(w.store.DestroyBAL(t.Context(), "detruite@officine.test"))(t)
	w.dir["absente@officine.test"] = directory.Decision{Answer: directory.Unknown, Action: directory.Refuse550}
	w.dir["incertaine@officine.test"] = directory.Decision{Answer: directory.CannotTell, Action: directory.Defer451}

	w.srv = &Server{
		Hostname:  "mx.operateur.test",
		TLS:       must(tlsconf.NewFront(tlsconf.FrontConfig{Name: "operator", CertFile: file("front.pem"), KeyFile: file("front.key"), RequestClientCert: true}))(t),
		Judge:     must(tlsconf.NewJudge(tlsconf.JudgeConfig{AnchorFiles: []string{file("anchors.pem")}, CRLFiles: []string{file("issuing.crl")}, Now: w.now}))(t),
		List:      must(whitelist.NewKeeper(whitelist.KeeperConfig{File: file("list.xml"), StateDir: t.TempDir(), Load: whitelist.Options{Anchors: anchors, SignerNames: []string{"signataire.test"}}, Log: log}))(t),
		Directory: w.dir, Store: w.store,
		Delivery: delivery.New(delivery.Config{Store: w.store, Hostname: "mx.operateur.test"}),
		Log:      log,
		Now:      w.now,
	}
	if change != nil {
		change(w.srv)
	}
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	w.addr = l.Addr().String()
	go func() { w.served <- w.srv.Serve(l) }()
	t.Cleanup(w.close)
	return w
}

// as is the same world for a sub-test.
func (w *world) as(t testing.TB) *world {
	return &world{t: t, srv: w.srv, store: w.store, addr: w.addr, root: w.root, roots: w.roots, peers: w.peers,
		logs: w.logs, dir: w.dir, served: w.served, pki: w.pki}
}

func (w *world) close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.srv.Shutdown(ctx)
	if err := <-w.served; err != ErrServerClosed {
		w.t.Errorf("Serve: %v, want ErrServerClosed", err)
	}
	problems, err := w.store.Check(context.Background())
	if err != nil || len(problems) > 0 {
		w.t.Errorf("store after the test: %v %v", err, problems)
	}
	if err := w.store.Close(); err != nil {
		w.t.Errorf("close store: %v", err)
	}
	if w.t.Failed() {
		w.t.Logf("log:\n%s", w.logs)
	}
}

// peer is a client that speaks raw SMTP.
type peer struct {
	t    testing.TB
	conn net.Conn
	br   *bufio.Reader
}

func (w *world) dial() *peer {
	w.t.Helper()
	c := must(net.Dial("tcp", w.addr))(w.t)
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &peer{w.t, c, bufio.NewReader(c)}
}

// secure dials and goes through STARTTLS with the certificate of who; "none" shows none.
func (w *world) secure(who string) *peer {
	w.t.Helper()
	p := w.dial()
	p.expect("220 ")
	p.cmd("EHLO client.test", "250 ")
	p.cmd("STARTTLS", "220 ")
	p.upgrade(w, who)
	p.cmd("EHLO client.test", "250 ")
	return p
}

func (w *world) clientConfig(who string) *tls.Config {
	cfg := &tls.Config{RootCAs: w.roots, ServerName: "mx.operateur.test", MinVersion: tls.VersionTLS12}
	if id := w.peers[who]; id != nil {
		cert := id.TLS()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

func (p *peer) upgrade(w *world, who string) {
	p.t.Helper()
	c := tls.Client(p.conn, w.clientConfig(who))
	if err := c.Handshake(); err != nil {
		p.t.Fatalf("handshake: %v", err)
	}
	p.conn, p.br = c, bufio.NewReader(c)
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, s); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// reply reads one reply with all its lines.
func (p *peer) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := p.br.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String(), err
		}
		if !strings.HasSuffix(line, "\r\n") {
			return all.String(), fmt.Errorf("reply line %q does not end in CRLF", line)
		}
		if len(line) > 512 {
			return all.String(), fmt.Errorf("reply line of %d octets", len(line))
		}
		if len(line) < 4 || line[3] != '-' {
			return all.String(), nil
		}
	}
}

func (p *peer) expect(prefix string) string {
	p.t.Helper()
	r, err := p.reply()
	last := r
	if i := strings.LastIndex(strings.TrimSuffix(r, "\r\n"), "\n"); i >= 0 {
		last = r[i+1:]
	}
	if !strings.HasPrefix(last, prefix) {
		p.t.Fatalf("reply %q (%v), want %q", r, err, prefix)
	}
	return r
}

func (p *peer) cmd(line, prefix string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	return p.expect(prefix)
}

// gone says that the server closes, and says nothing more.
func (p *peer) gone() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.br); len(rest) > 0 || isTimeout(err) {
		p.t.Fatalf("read %q, %v; want the end of the connection", rest, err)
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// inbox returns the messages of a BAL's INBOX as stored: prefix and octets.
func (w *world) inbox(address string) []string {
	w.t.Helper()
	bal := must(w.store.BAL(store.Address(address)))(w.t)
	box := must(w.store.Mailbox(bal.ID, "INBOX"))(w.t)
	snap := must(w.store.Snapshot(box.Ref, false))(w.t)
	var got []string
	check(w.t, w.store.Rows(context.Background(), box.Ref, snap.Runs, func(r store.Row) bool {
		c := must(w.store.OpenMessage(bal.ID, r.Message))(w.t)
		defer c.Close()
		b := must(io.ReadAll(io.NewSectionReader(c, 0, c.Size())))(w.t)
		if int64(len(b)) != r.Size {
			w.t.Errorf("row says %d octets, the message has %d", r.Size, len(b))
		}
		got = append(got, string(b))
		return true
	}))
	return got
}

// spooled lists the files left in the spool.
func (w *world) spooled() []string {
	files, _ := filepath.Glob(filepath.Join(w.root, "store", "spool", "*"))
	return files
}

// deliver sends one message and returns the trace id of the 250.
func (p *peer) deliver(from, to, msg string) string {
	p.t.Helper()
	p.cmd("MAIL FROM:<"+from+">", "250 2.1.0")
	p.cmd("RCPT TO:<"+to+">", "250 2.1.5")
	p.cmd("DATA", "354")
	p.send(msg + ".\r\n")
	return strings.TrimSpace(strings.TrimPrefix(p.expect("250 2.0.0 "), "250 2.0.0 "))
}

const prescription = "From: <" + patient + ">\r\nTo: <" + pharmacy + ">\r\nSubject: Ordonnance secrete\r\n" +
	"Message-ID: <m1@patient.mssante.test>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0100\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: application/pdf; name=\"ordonnance-dupont.pdf\"\r\n\r\nVoici l'ordonnance.\r\n"
