package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mssd/directory/whitelist"
)

// replace puts a file in the place of another in one step, as a tool that renews certificates does.
func replace(t *testing.T, name string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(name+".new", b, 0o600))
	must(t, os.Rename(name+".new", name))
}

// TestReloadUnderLoad reloads again and again, with renewed certificates, a new white list and, now and then, spoiled files,
// while operators send on kept and on new connections, full and resumed, and a pharmacy reads: no session ends, no
// handshake fails, no letter is refused or lost, what is spoiled is refused and named, what is new is in force.
func TestReloadUnderLoad(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	var sent, handshakes, resumed atomic.Int64
	var faults sync.Map
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var load sync.WaitGroup
	run := func(what string, f func() error) {
		load.Go(func() {
			for !stopped() {
				if err := f(); err != nil {
					faults.Store(what, err)
					return
				}
			}
		})
	}
	letterTo := func(c *client) error {
		_, err := c.send("274990000000145@"+patientDomain, []string{bal}, letter(int(sent.Add(1)), 1000, bal))
		return err
	}
	kept, err := h.dial()
	must(t, err)
	defer kept.conn.Close()
	run("a session that is kept", func() error { return letterTo(kept) })
	idle, err := h.dial() // begins when all is over
	must(t, err)
	defer idle.conn.Close()
	h.sessions = tls.NewLRUClientSessionCache(4)
	for i, c := range []tls.ClientSessionCache{nil, tls.NewLRUClientSessionCache(4)} {
		run(fmt.Sprintf("new connections, %d", i), func() error {
			n, err := h.dial()
			if err != nil {
				return err
			}
			defer n.quit()
			handshakes.Add(1)
			if n.conn.(*tls.Conn).ConnectionState().DidResume {
				resumed.Add(1)
			}
			return letterTo(n)
		})
		run(fmt.Sprintf("handshakes of imaps, %d", i), func() error {
			conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", h.imaps, &tls.Config{RootCAs: h.roots, ServerName: "localhost", ClientSessionCache: c})
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			handshakes.Add(1)
			if conn.ConnectionState().DidResume {
				resumed.Add(1)
			}
			_, err = conn.Read(make([]byte, 1)) // the greeting, and the ticket before it
			return err
		})
	}
	ic := h.imapClient(user, password)
	defer ic.Close()
	run("the pharmacy", func() error { return ic.Noop().Wait() })

	count := func(word string) int { return strings.Count(h.log.String(), word) }
	reload := func(file string) {
		t.Helper()
		before := count("msg=reloaded refused=")
		h.signal(syscall.SIGHUP)
		for end := time.Now().Add(60 * time.Second); count("msg=reloaded refused=") == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no reload after %s changed", file)
			}
		}
	}
	spoiled := 0
	rows := []whitelist.Binding{{Domain: patientDomain, DN: h.peerDN}}
	made := time.Now()
	for i := range 12 {
		id, err := h.pki.Server("localhost", "127.0.0.1")
		must(t, err)
		must(t, id.WriteFiles(h.path("next.pem"), h.path("next.key")))
		for _, end := range []string{"key", "pem"} { // a reload in between finds a key of another certificate: refused
			b, err := os.ReadFile(h.path("next." + end))
			must(t, err)
			replace(t, h.path("server."+end), b)
			if i%4 == 0 {
				reload(end)
			}
		}
		reload("the certificate")
		if shown := h.shown(); !bytes.Equal(shown.Raw, id.Cert.Raw) {
			t.Fatalf("round %d: the renewed certificate is not shown", i)
		}
		var list bytes.Buffer
		rows = append(rows, whitelist.Binding{Domain: fmt.Sprintf("d%d.test", i), DN: h.peerDN})
		must(t, whitelist.Make(&list, rows, h.signer.Cert, h.signer.Key, made.Add(time.Duration(i+1)*time.Second)))
		good := list.Bytes()
		if i%3 == 0 {
			spoiled++
			anchors, err := os.ReadFile(h.path("anchors.pem"))
			must(t, err)
			replace(t, h.path("liste.xml"), good[:len(good)/2])
			replace(t, h.path("anchors.pem"), anchors[:len(anchors)/2])
			reload("the spoiled files")
			replace(t, h.path("anchors.pem"), anchors)
		}
		replace(t, h.path("liste.xml"), good)
		reload("the list")
	}
	out, err := h.run("whitelist", "find", "d11.test")
	if err != nil {
		t.Errorf("the newest list is not in force: %v\n%s", err, out)
	}
	close(stop)
	load.Wait()
	faults.Range(func(what, err any) bool { t.Errorf("%v: %v", what, err); return true })
	must(t, letterTo(idle))
	idle.quit()
	kept.quit()
	if n := count("msg=\"handshake failed\""); n > 0 {
		t.Errorf("%d handshakes failed", n)
	}
	if count("anchors and revocation lists: the former one stays") < spoiled || count("white list: the former one stays") < spoiled {
		t.Error("not every spoiled file was refused and named")
	}
	if resumed.Load() == 0 {
		t.Error("no session was resumed")
	}
	must(t, ic.Logout().Wait())
	if n := len(fetchHashes(t, h, user, password)); int64(n) != sent.Load() {
		t.Errorf("%d letters are there, %d were sent", n, sent.Load())
	}
	t.Logf("%d letters, %d handshakes, %d resumed", sent.Load(), handshakes.Load(), resumed.Load())
	must(t, h.stop())
}

// shown is the certificate that a new client of the IMAP front sees.
func (h *house) shown() *x509.Certificate {
	h.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", h.imaps, &tls.Config{RootCAs: h.roots, ServerName: "localhost"})
	must(h.t, err)
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}
