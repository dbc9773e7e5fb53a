// Package slapdtest runs a real OpenLDAP server with the sample of the Annuaire Santé, for tests.
//
// Start loads schema and entries with slapadd into a folder of the test and runs slapd on a loopback port until the test
// ends. Where slapd or the samples are missing the test is skipped by name, in CI it fails.
package slapdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Base is the suffix; Admin and Password are its manager's.
const (
	Base     = "dc=mssante,dc=fr"
	Admin    = "cn=admin,dc=mssante,dc=fr"
	Password = "change-me"
)

// Server is a running slapd.
type Server struct {
	URL  string // ldap://127.0.0.1:port
	Base string
	Dir  string // its folder

	t      testing.TB
	addr   string
	conf   string
	cmd    *exec.Cmd
	exited chan struct{}
}

// Option changes the server's configuration.
type Option func(conf string) string

// Global adds lines before the first database, such as TLS settings; Database adds lines at the end.
func Global(lines string) Option {
	return func(conf string) string { return strings.Replace(conf, "\ndatabase", "\n"+lines+"\n\ndatabase", 1) }
}

// Database adds lines at the end of the configuration.
func Database(lines string) Option {
	return func(conf string) string { return conf + "\n" + lines + "\n" }
}

// Start runs a server with the sample entries and those of extraLDIF.
func Start(t testing.TB, extraLDIF ...string) *Server { return StartWith(t, nil, extraLDIF...) }

// StartWith is Start with a changed configuration.
func StartWith(t testing.TB, options []Option, extraLDIF ...string) *Server {
	t.Helper()
	samples := Samples(t)
	slapadd, slapd := program(t, "slapadd"), program(t, "slapd")
	s := &Server{Base: Base, Dir: t.TempDir(), t: t}
	s.conf = filepath.Join(s.Dir, "slapd.conf")
	raw, err := os.ReadFile(filepath.Join(samples, "slapd.conf.example"))
	if err != nil {
		t.Fatal(err)
	}
	conf := strings.NewReplacer("SCHEMADIR", "/etc/ldap/schema", "MODULEDIR", "/usr/lib/ldap", "DATADIR", s.Dir,
		"include   annuaire", "include   "+samples+"/annuaire", "4294967296", "268435456").Replace(comments(string(raw)))
	for _, o := range options {
		conf = o(conf)
	}
	write(t, s.conf, conf)
	if err := os.Mkdir(filepath.Join(s.Dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(samples, "annuaire-mssante-sample.ldif")}
	if len(extraLDIF) > 0 {
		extra := filepath.Join(s.Dir, "extra.ldif")
		write(t, extra, strings.Join(extraLDIF, "\n\n")+"\n")
		files = append(files, extra)
	}
	for _, f := range files {
		if out, err := exec.Command(slapadd, "-q", "-f", s.conf, "-l", f).CombinedOutput(); err != nil {
			t.Fatalf("slapadd %s: %v\n%s", filepath.Base(f), err, out)
		}
	}
	s.start(slapd)
	t.Cleanup(s.Kill)
	return s
}

// Samples is the folder with schema, entries and extraction: ../shared/annuaire beside the project's root.
func Samples(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
	samples := filepath.Join(dir, "..", "shared", "annuaire")
	if _, err := os.Stat(samples); err != nil {
		missing(t, "../shared/annuaire")
	}
	return samples
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is missing", what)
}

func program(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		missing(t, name)
	}
	return p
}

// comments drops them: placeholders stand there, too.
func comments(conf string) string {
	var out []string
	for line := range strings.Lines(conf) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs slapd on a free port. Another program may take the port between our look and slapd's bind: try again.
func (s *Server) start(slapd string) {
	s.t.Helper()
	var last string
	for range 5 {
		if s.addr == "" {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				s.t.Fatal(err)
			}
			s.addr = ln.Addr().String()
			_ = ln.Close()
		}
		s.URL = "ldap://" + s.addr
		var out bytes.Buffer
		s.cmd = exec.Command(slapd, "-d", "0", "-f", s.conf, "-h", s.URL)
		s.cmd.Stdout, s.cmd.Stderr = &out, &out
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := s.cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
		s.exited = make(chan struct{})
		go func(cmd *exec.Cmd, exited chan struct{}) { _ = cmd.Wait(); close(exited) }(s.cmd, s.exited)
		if s.ready() {
			return
		}
		s.Kill()
		last = out.String()
		s.addr = ""
	}
	s.t.Fatalf("slapd does not start:\n%s", last)
}

// ready waits until the server answers, or ended.
func (s *Server) ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", s.addr); err == nil {
			_ = c.Close()
			return true
		}
		select {
		case <-s.exited:
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// Stop ends the server in good order; Restart may follow.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server at once.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	s.cmd = nil
}

// Restart runs the server again, on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.start(program(s.t, "slapd"))
}

// Freeze stops the server in mid-air: connections stay, nothing answers, until Thaw.
func (s *Server) Freeze() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	// The signal is under way when kill(2) returns: wait until each thread stands.
	for end := time.Now().Add(10 * time.Second); !s.stands(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("slapd does not stop")
		}
	}
}

// stands reports whether all threads are stopped ("T" behind the name in stat, proc(5)).
func (s *Server) stands() bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	if err != nil || len(stats) == 0 {
		return false
	}
	for _, f := range stats {
		raw, err := os.ReadFile(f)
		if err == nil && !bytes.Contains(raw, []byte(") T ")) {
			return false
		}
	}
	return true
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Addr is the address of the server, host:port.
func (s *Server) Addr() string { return s.addr }

// AddBAL adds a BAL to the running server.
func (s *Server) AddBAL(address, kind, structure string) {
	s.t.Helper()
	req := ldap.NewAddRequest(DN(address), nil)
	req.Attribute("objectClass", []string{"balMSSante"})
	req.Attribute("mail", []string{address})
	req.Attribute("TypeBAL", []string{kind})
	if structure != "" {
		req.Attribute("TypeIdentifiantPM", []string{"FINESS"})
		req.Attribute("IdentifiantPM", []string{structure})
	}
	s.Do(func(c *ldap.Conn) error { return c.Add(req) })
}

// DeleteBAL takes a BAL out of the running server.
func (s *Server) DeleteBAL(address string) {
	s.t.Helper()
	s.Do(func(c *ldap.Conn) error { return c.Del(ldap.NewDelRequest(DN(address), nil)) })
}

// Do runs something as the manager.
func (s *Server) Do(do func(*ldap.Conn) error) {
	s.t.Helper()
	c, err := ldap.DialURL(s.URL)
	if err == nil {
		defer c.Close()
		err = errors.Join(c.Bind(Admin, Password), do(c))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// DN is where a BAL stands in the tree.
func DN(address string) string { return fmt.Sprintf("mail=%s,ou=bal,%s", ldap.EscapeDN(address), Base) }

// LDIF is the entry of a BAL, for Start.
func LDIF(address, kind, structure string) string {
	s := fmt.Sprintf("dn: %s\nobjectClass: balMSSante\nmail: %s\nTypeBAL: %s\n", DN(address), address, kind)
	if structure != "" {
		s += fmt.Sprintf("TypeIdentifiantPM: FINESS\nIdentifiantPM: %s\n", structure)
	}
	return s
}

// Rename gives a BAL another address; its entry keeps its entryUUID.
func (s *Server) Rename(address, other string) {
	s.t.Helper()
	s.Do(func(c *ldap.Conn) error {
		return c.ModifyDN(ldap.NewModifyDNRequest(DN(address), "mail="+ldap.EscapeDN(other), true, ""))
	})
}

// Set gives an attribute of a BAL other values; none removes it.
func (s *Server) Set(address, attribute string, values ...string) {
	s.t.Helper()
	req := ldap.NewModifyRequest(DN(address), nil)
	req.Replace(attribute, values)
	s.Do(func(c *ldap.Conn) error { return c.Modify(req) })
}

// Without takes lines that begin with one of the words out of the configuration.
func Without(words ...string) Option {
	return func(conf string) string {
		var out strings.Builder
		for line := range strings.Lines(conf) {
			drop := false
			for _, w := range words {
				drop = drop || strings.HasPrefix(strings.TrimSpace(line), w)
			}
			if !drop {
				out.WriteString(line)
			}
		}
		return out.String()
	}
}
