package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mssd/cmd/mssd/story"
	"mssd/tlsconf/testpki"
)

// sharedDir is the folder of samples beside the project, "" where there is none.
func sharedDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			shared := filepath.Join(dir, "..", "shared")
			if _, err := os.Stat(filepath.Join(shared, "samples")); err != nil {
				return ""
			}
			return shared
		}
	}
	return ""
}

func haveSamples(t *testing.T) bool {
	if sharedDir() != "" {
		return true
	}
	if os.Getenv("CI") != "" {
		t.Error("../shared/samples is missing; CI has it")
	}
	t.Log("skipped: ../shared/samples (the real white list) is not there")
	return false
}

// pkiTool makes the files of a small trust space in a folder: pki DIR. With a second word "renew" it only issues the
// server's certificate anew.
func pkiTool() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: pki DIR")
		os.Exit(2)
	}
	if err := makePKI(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func makePKI(dir string) error {
	t, err := story.NewTrust(dir, "mss.test.example")
	if err != nil {
		return err
	}
	signer, err := t.PKI.Signer("liste.test", "liste@example.test")
	if err != nil {
		return err
	}
	if err := signer.WriteFiles(filepath.Join(dir, "signer.pem"), filepath.Join(dir, "signer.key")); err != nil {
		return err
	}
	// A second certificate for the front, to be put in place by a reload.
	next, err := t.PKI.Server("neuf.test.example", "localhost", "127.0.0.1")
	if err != nil {
		return err
	}
	if err := next.WriteFiles(filepath.Join(dir, "next.pem"), filepath.Join(dir, "next.key")); err != nil {
		return err
	}
	return writeForeign(dir)
}

// writeForeign writes the anchors of an authority that signed nothing here.
func writeForeign(dir string) error {
	p, err := testpki.New()
	if err != nil {
		return err
	}
	return p.WriteAnchors(filepath.Join(dir, "foreign.pem"))
}

func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"freeports":  freePortsCmd,
		"servername": serverName,
		"await":      await,
		"flip":       flip,
		"xz":         unxz,
		"page":       monitoring,
		"expand":     expand,
		"daemon":     startDaemon,
		"hup":        func(ts *testscript.TestScript, _ bool, _ []string) { signalDaemon(ts, syscall.SIGHUP) },
		"terminate":  terminate,
	}
}

// freeports sets variables to loopback addresses that are free now: freeports SMTP IMAP.
func freePortsCmd(ts *testscript.TestScript, _ bool, names []string) {
	addrs, err := freePorts(len(names))
	ts.Check(err)
	for i, n := range names {
		ts.Setenv(n, addrs[i])
	}
}

// servername says which name the certificate of a TLS front carries: [!] servername ADDR NAME. It waits for it.
func serverName(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: servername ADDR NAME")
	}
	last := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", args[0], &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			last = err.Error()
			continue
		}
		last = c.ConnectionState().PeerCertificates[0].Subject.CommonName
		c.Close()
		if last == args[1] {
			return
		}
	}
	ts.Fatalf("certificate of %s: %s, want %s", args[0], last, args[1])
}

// await waits for a text in a file: await FILE TEXT.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: await FILE TEXT")
	}
	var b []byte
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		b, _ = os.ReadFile(ts.MkAbs(args[0]))
		if bytes.Contains(b, []byte(args[1])) {
			return
		}
	}
	ts.Fatalf("%s never held %q; it holds:\n%s", args[0], args[1], b)
}

// flip changes one octet in the middle of the first place where TEXT stands: flip FILE TEXT.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	b, err := os.ReadFile(name)
	ts.Check(err)
	i := bytes.Index(b, []byte(args[1]))
	if i < 0 {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	i += len(args[1]) / 2
	if b[i] == 'x' {
		b[i] = 'y'
	} else {
		b[i] = 'x'
	}
	ts.Check(os.WriteFile(name, b, 0o600))
}

// xz unpacks: xz FROM TO.
func unxz(ts *testscript.TestScript, _ bool, args []string) {
	out, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	cmd := exec.Command("xz", "-dc", ts.MkAbs(args[0]))
	cmd.Stdout = out
	ts.Check(cmd.Run())
	ts.Check(out.Close())
}

// expand puts the values of variables into a file: expand FILE.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	b, err := os.ReadFile(name)
	ts.Check(err)
	ts.Check(os.WriteFile(name, []byte(os.Expand(string(b), ts.Getenv)), 0o600))
}

// monitoring looks at a page of a demo's metrics front, which must name no BAL: page DEMO.JSON PATH TEXT.
func monitoring(ts *testscript.TestScript, neg bool, args []string) {
	var doc demoFile
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &doc))
	var resp *http.Response
	var b []byte
	// Refusals and logins are counted with the next commit, at most a second later.
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		resp, err = http.Get("http://" + doc.Fronts["metrics"] + args[1])
		ts.Check(err)
		b, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if bytes.Contains(b, []byte(args[2])) {
			break
		}
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(b, []byte(args[2])) || bytes.Contains(b, []byte(doc.BALs[0].Address)) {
		ts.Fatalf("%s: %s, want %q and no address of a BAL:\n%s", args[1], resp.Status, args[2], b)
	}
}

// running is the daemon of a script.
type running struct {
	cmd  *exec.Cmd
	done chan error
}

var daemons sync.Map // *testscript.TestScript → *running

// startDaemon starts mssd serve with its log in daemon.log: daemon CONFIG [FLAG…].
func startDaemon(ts *testscript.TestScript, _ bool, args []string) {
	log, err := os.OpenFile(ts.MkAbs("daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	r := &running{cmd: exec.Command("mssd", append([]string{"serve", "--config", args[0]}, args[1:]...)...), done: make(chan error, 1)}
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = ts.MkAbs("."), log, log
	ts.Check(r.cmd.Start())
	log.Close()
	go func() { r.done <- r.cmd.Wait() }()
	daemons.Store(ts, r)
	ts.Defer(func() {
		_ = r.cmd.Process.Kill() // nothing to kill where the script has ended it
	})
	await(ts, false, []string{"daemon.log", fmt.Sprintf("pid=%d", r.cmd.Process.Pid)})
}

func signalDaemon(ts *testscript.TestScript, sig syscall.Signal) *running {
	r, ok := daemons.Load(ts)
	if !ok {
		ts.Fatalf("no daemon was started")
	}
	ts.Check(r.(*running).cmd.Process.Signal(sig))
	return r.(*running)
}

// terminate sends SIGTERM and wants exit status 0.
func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	r := signalDaemon(ts, syscall.SIGTERM)
	select {
	case err := <-r.done:
		ts.Check(err)
	case <-time.After(30 * time.Second):
		ts.Fatalf("the daemon does not end")
	}
}
