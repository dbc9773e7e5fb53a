package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mssd/directory/whitelist"
	"mssd/tlsconf/testpki"
)

// house is a real daemon in a process of its own, with its certificates, its white list and its configuration, in a
// folder of the test. It can be killed and started again.
type house struct {
	t      *testing.T
	dir    string
	config string
	smtp   string // address of the operator front
	imap   string // STARTTLS
	imaps  string // implicit TLS
	socket string
	roots  *x509.CertPool
	peer   tls.Certificate // the patient platform's
	log    *lockedBuffer   // what the daemon wrote

	pki      *testpki.PKI
	peerDN   string
	signer   *testpki.Identity      // of the white list
	sessions tls.ClientSessionCache // of dial; nil: none is resumed

	under []string // command line that the daemon runs under (strace); none
	cmd   *exec.Cmd
	done  chan error
}

// lockedBuffer is a bytes.Buffer that the daemon's output and the test may use at a time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// patientDomain is bound to the peer's certificate by the list of a house.
const patientDomain = "patient.mssante.fr"

// newHouse lays the folder out; directory is the TOML of [directory], "" for none.
func newHouse(t *testing.T, directory string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), log: &lockedBuffer{}}
	h.config = filepath.Join(h.dir, "mssd.toml")
	h.socket = filepath.Join(h.dir, "s")
	h.smtp, h.imap, h.imaps = freeAddr(t), freeAddr(t), freeAddr(t)

	pki, err := testpki.New()
	must(t, err)
	server, err := pki.Server("localhost", "127.0.0.1")
	must(t, err)
	must(t, server.WriteFiles(h.path("server.pem"), h.path("server.key")))
	must(t, pki.WriteAnchors(h.path("anchors.pem")))
	peer, err := pki.Operator(testpki.Subject{C: "FR", ST: "Paris (75)", O: "PLATEFORME TEST", OU: "300000000000009", CN: "smtp.patients.test"})
	must(t, err)
	must(t, peer.WriteFiles(h.path("peer.pem"), h.path("peer.key")))
	h.peer, h.peerDN, h.pki = peer.TLS(), peer.DN(), pki
	signer, err := pki.Signer("liste.test", "liste@mssante.test")
	must(t, err)
	h.signer = signer
	var list bytes.Buffer
	must(t, whitelist.Make(&list, []whitelist.Binding{{Domain: patientDomain, DN: peer.DN()}}, signer.Cert, signer.Key, time.Now()))
	must(t, os.WriteFile(h.path("liste.xml"), list.Bytes(), 0o600))
	pem, err := os.ReadFile(h.path("anchors.pem"))
	must(t, err)
	h.roots = x509.NewCertPool()
	h.roots.AppendCertsFromPEM(pem)

	must(t, os.WriteFile(h.config, fmt.Appendf(nil, `
hostname = "localhost"
data_dir = %q
[smtp]
listen = [%q]
cert = "server.pem"
key = "server.key"
[imap]
listen = [%q]
listen_tls = [%q]
cert = "server.pem"
key = "server.key"
[trust]
anchors = ["anchors.pem"]
[whitelist]
file = "liste.xml"
signer_names = ["liste.test"]
[login]
argon2_time = 1
argon2_memory_kib = 64
argon2_threads = 1
[admin]
socket = %q
[shutdown]
grace = "5s"
%s
`, h.path("data"), h.smtp, h.imap, h.imaps, h.socket, directory), 0o600))
	t.Cleanup(func() {
		h.kill()
		if t.Failed() {
			t.Logf("what the daemon wrote:\n%s", h.log.String())
		}
	})
	return h
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// freeAddr is a loopback address that was free a moment ago.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// need returns the path of a program. Without it the test is skipped on a laptop and fails in CI.
func need(t testing.TB, program string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		p := filepath.Join(dir, program)
		if st, err := os.Stat(p); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return p
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed; `make test` installs it", program)
	}
	t.Skipf("%s is not installed; `make test` installs it", program)
	return ""
}

// start runs the daemon and returns when the operator answers on the socket.
func (h *house) start(args ...string) {
	h.t.Helper()
	if err := h.tryStart(args...); err != nil {
		h.t.Fatalf("%v\n%s", err, h.log)
	}
}

// tryStart is start for a daemon that may not come up: then it has ended.
func (h *house) tryStart(args ...string) error {
	line := append(append(slices.Clone(h.under), "mssd", "serve", "--config", h.config), args...)
	h.cmd = exec.Command(line[0], line[1:]...)
	h.cmd.Stdout, h.cmd.Stderr = h.log, h.log
	h.done = make(chan error, 1)
	must(h.t, h.cmd.Start())
	done, cmd := h.done, h.cmd
	go func() { done <- cmd.Wait() }()
	for end := time.Now().Add(30 * time.Second); ; {
		out, err := h.run("bal", "list")
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			h.kill()
			return fmt.Errorf("the daemon does not answer: %w\n%s", err, out)
		}
		select {
		case err := <-h.done:
			h.cmd = nil
			return fmt.Errorf("the daemon ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill is kill -9; it returns when the process is gone.
func (h *house) kill() {
	if h.cmd == nil {
		return
	}
	h.signal(syscall.SIGKILL)
	<-h.done
	h.cmd = nil
}

// stop is SIGTERM; it returns when the process has ended, with its error.
func (h *house) stop() error {
	h.signal(syscall.SIGTERM)
	err := <-h.done
	h.cmd = nil
	return err
}

// signal goes to the daemon itself, also where it runs under another program, which ends with it.
func (h *house) signal(sig syscall.Signal) {
	pid := h.cmd.Process.Pid
	if len(h.under) > 0 {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if _, err := fmt.Sscan(string(b), &pid); err != nil {
			_ = h.cmd.Process.Kill() // it has no child any more
			return
		}
	}
	_ = syscall.Kill(pid, sig)
}

// run runs the command line against the daemon.
func (h *house) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mssd", append(args, "--socket", h.socket)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// addBAL makes a BAL with one member and returns the user name and the password.
func (h *house) addBAL(address, kind string, args ...string) (user, password string) {
	h.t.Helper()
	out, err := h.run(append([]string{"bal", "add", address, "--kind", kind, "--json"}, args...)...)
	if err != nil {
		h.t.Fatalf("bal add: %v\n%s", err, out)
	}
	var made struct{ User, Password string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Password == "" {
		h.t.Fatalf("bal add printed no password: %v\n%s", err, out)
	}
	return made.User, made.Password
}

// client is a minimal operator of its own: SMTP over mutual TLS, written for the tests so that what is sent and
// acknowledged is known to the octet.
type client struct {
	conn net.Conn
	r    *textproto.Reader
	wire *countedConn
}

// countedConn counts the octets that came over the wire.
type countedConn struct {
	net.Conn
	read int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read += int64(n)
	return n, err
}

// dial connects, says EHLO, STARTTLS with the peer's certificate, EHLO.
func (h *house) dial() (*client, error) {
	tcp, err := net.DialTimeout("tcp", h.smtp, 10*time.Second)
	if err != nil {
		return nil, err
	}
	conn := &countedConn{Conn: tcp}
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	c := &client{conn: conn, wire: conn, r: textproto.NewReader(bufio.NewReader(conn))}
	if _, _, err := c.r.ReadResponse(220); err != nil {
		return c.fail(err)
	}
	if _, err := c.cmd(250, "EHLO smtp.patients.test"); err != nil {
		return c.fail(err)
	}
	if _, err := c.cmd(220, "STARTTLS"); err != nil {
		return c.fail(err)
	}
	t := tls.Client(conn, &tls.Config{RootCAs: h.roots, ServerName: "localhost", Certificates: []tls.Certificate{h.peer}, ClientSessionCache: h.sessions})
	if err := t.Handshake(); err != nil {
		return c.fail(err)
	}
	c.conn, c.r = t, textproto.NewReader(bufio.NewReader(t))
	if _, err := c.cmd(250, "EHLO smtp.patients.test"); err != nil {
		return c.fail(err)
	}
	return c, nil
}

func (c *client) fail(err error) (*client, error) { c.conn.Close(); return nil, err }

// cmd sends a line and wants a code.
func (c *client) cmd(want int, format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(c.conn, format+"\r\n", args...); err != nil {
		return "", err
	}
	_, msg, err := c.r.ReadResponse(want)
	return msg, err
}

// send delivers one message and returns the text of the 250. The message must end in CRLF and is dot-stuffed here.
func (c *client) send(from string, to []string, msg []byte) (string, error) {
	_ = c.conn.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := c.cmd(250, "MAIL FROM:<%s> SIZE=%d", from, len(msg)); err != nil {
		return "", err
	}
	for _, rcpt := range to {
		if _, err := c.cmd(250, "RCPT TO:<%s>", rcpt); err != nil {
			return "", err
		}
	}
	if _, err := c.cmd(354, "DATA"); err != nil {
		return "", err
	}
	stuffed := bytes.ReplaceAll(msg, []byte("\r\n."), []byte("\r\n.."))
	if _, err := c.conn.Write(append(stuffed, ".\r\n"...)); err != nil {
		return "", err
	}
	_, text, err := c.r.ReadResponse(250)
	return text, err
}

func (c *client) quit() {
	_, _ = io.WriteString(c.conn, "QUIT\r\n")
	_, _, _ = c.r.ReadResponse(221)
	c.conn.Close()
}

// letter is a patient's message of about size octets, its number in the Message-ID.
func letter(n, size int, to string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "From: Camille Exemple <274990000000145@%s>\r\nTo: <%s>\r\nSubject: Ordonnance %d\r\n", patientDomain, to, n)
	fmt.Fprintf(&b, "Date: Sun, 22 Nov 2026 10:00:00 +0100\r\nMessage-ID: <m%d@patients.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", n)
	for b.Len() < size {
		fmt.Fprintf(&b, "Bonjour, voici la ligne %d de la lettre %d.\r\n.une ligne qui commence par un point\r\n", b.Len(), n)
	}
	return []byte(b.String())
}
