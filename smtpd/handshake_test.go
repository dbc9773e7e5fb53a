package smtpd

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// handshaker is a front with the certificates of one kind of key, and what a client needs to greet it.
type handshaker struct {
	addr string
	cfg  *tls.Config
	cpu  func() time.Duration // of the server, beside that of this process
}

// chainOf makes root, authority, server and client with one kind of key, and writes the files.
func chainOf(b *testing.B, dir string, kind testpki.KeyKind) (root *x509.Certificate, client *testpki.Identity) {
	file := func(name string) string { return filepath.Join(dir, name) }
	up := must(testpki.NewRoot("AC RACINE TEST", kind))(b)
	issuing := must(up.Authority("AC TEST", kind))(b)
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	server := must(issuing.Issue(testpki.Request{Subject: testpki.Subject{C: "FR", CN: "mx.operateur.test"}, Key: kind,
		DNSNames: []string{"mx.operateur.test"}, Usages: usages}))(b)
	client = must(issuing.Issue(testpki.Request{Subject: testpki.Subject{C: "FR", CN: "mail.patient.test"}, Key: kind, Usages: usages}))(b)
	check(b, server.WriteFiles(file("server.pem"), file("server.key")))
	check(b, testpki.WriteCerts(file("ca.pem"), up.Cert, issuing.Cert))
	return up.Cert, client
}

// ours is the operator front of this package.
func ours(b *testing.B, dir string) (addr string, cpu func() time.Duration) {
	file := func(name string) string { return filepath.Join(dir, name) }
	w := newWorld(b, func(s *Server) {
		s.Log = slog.New(slog.DiscardHandler)
		s.TLS = must(tlsconf.NewFront(tlsconf.FrontConfig{Name: "operator", CertFile: file("server.pem"), KeyFile: file("server.key"), RequestClientCert: true}))(b)
		s.Judge = must(tlsconf.NewJudge(tlsconf.JudgeConfig{AnchorFiles: []string{file("ca.pem")}}))(b)
	})
	return w.addr, func() time.Duration { return 0 }
}

// postfix is Postfix's smtpd with the same files, all else as it comes but for limits of one client. It takes no mail.
func postfix(b *testing.B, dir string) (addr string, cpu func() time.Duration) {
	program, err := exec.LookPath("postfix")
	if err != nil || os.Getuid() != 0 {
		b.Skip("postfix is missing, or this is not root: Postfix wants to be started by it")
	}
	l := must(net.Listen("tcp", "127.0.0.1:0"))(b)
	addr = l.Addr().String()
	l.Close()
	// Its own folder, which its users may enter.
	home := must(os.MkdirTemp("", "postfix"))(b)
	check(b, os.Chmod(home, 0o755))
	b.Cleanup(func() { os.RemoveAll(home) })
	path := func(name string) string { return filepath.Join(home, name) }
	for _, d := range []string{"conf", "queue", "data"} {
		check(b, os.Mkdir(path(d), 0o755))
	}
	check(b, exec.Command("chown", "postfix", path("data")).Run())
	defaults := string(must(exec.Command("postconf", "-d", "command_directory", "daemon_directory", "meta_directory").Output())(b))
	check(b, os.WriteFile(path("conf/main.cf"), fmt.Appendf([]byte(defaults), `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file_prefixes = %[1]s
maillog_file = %[1]s/log
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.operateur.test
mydestination =
mynetworks = 127.0.0.1/32
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_recipient_maps =
alias_maps =
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = %[2]s/server.pem
smtpd_tls_key_file = %[2]s/server.key
smtpd_tls_CAfile = %[2]s/ca.pem
smtpd_tls_req_ccert = yes
smtpd_tls_protocols = >=TLSv1.2
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_tls_session_cache_database = btree:%[1]s/data/smtpd_scache
`, home, dir), 0o644))
	check(b, os.WriteFile(path("conf/master.cf"), fmt.Appendf(nil, `%s inet n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
rewrite   unix  - - n - - trivial-rewrite
tlsmgr    unix  - - n 1000? 1 tlsmgr
proxymap  unix  - - n - - proxymap
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
`, addr), 0o644))
	if out, err := exec.Command(program, "-c", path("conf"), "start").CombinedOutput(); err != nil {
		b.Skipf("postfix does not start: %v\n%s", err, out)
	}
	b.Cleanup(func() { _ = exec.Command(program, "-c", path("conf"), "stop").Run() })
	pid, err := strconv.Atoi(strings.TrimSpace(string(must(os.ReadFile(path("queue/pid/master.pid")))(b))))
	check(b, err)
	return addr, func() time.Duration { return cpuOfTree(pid) }
}

// cpuOfTree is what a process, its children and those that it has waited for have used; 100 ticks are a second.
func cpuOfTree(pid int) time.Duration {
	var ticks int64
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range files {
		stat, _ := os.ReadFile(name)
		_, rest, ok := bytes.Cut(stat, []byte(") "))
		f := strings.Fields(string(rest))
		if !ok || len(f) < 15 {
			continue
		}
		self := name == fmt.Sprintf("/proc/%d/stat", pid)
		if !self && f[1] != strconv.Itoa(pid) {
			continue
		}
		fields := f[11:13] // utime, stime
		if self {
			fields = f[11:15] // and those of children that ended
		}
		for _, v := range fields {
			n, _ := strconv.ParseInt(v, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// greet is one connection: EHLO, STARTTLS with both certificates, EHLO, QUIT.
func (h *handshaker) greet(cfg *tls.Config) (resumed bool, err error) {
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		return false, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	var conn net.Conn = c
	br := bufio.NewReader(c)
	said := func(line, want string) error {
		if line != "" {
			if _, err := conn.Write([]byte(line + "\r\n")); err != nil {
				return err
			}
		}
		for {
			r, err := br.ReadString('\n')
			if err != nil || !strings.HasPrefix(r, want) {
				return fmt.Errorf("%s: %q, %v", line, r, err)
			}
			if r[3] == ' ' {
				return nil
			}
		}
	}
	for _, step := range [][2]string{{"", "220"}, {"EHLO mail.patient.test", "250"}, {"STARTTLS", "220"}} {
		if err := said(step[0], step[1]); err != nil {
			return false, err
		}
	}
	t := tls.Client(c, cfg)
	if err := t.Handshake(); err != nil {
		return false, err
	}
	conn, br = t, bufio.NewReader(t)
	if err := said("EHLO mail.patient.test", "250"); err != nil { // the tickets of TLS 1.3 come with it
		return false, err
	}
	return t.ConnectionState().DidResume, said("QUIT", "221")
}

// handshakers is how many clients greet at a time.
const handshakers = 8

// BenchmarkHandshake is a connection per message without the message, full and resumed, here and with Postfix of the same
// files. cpu-ms counts client and server: the client is the same for both.
func BenchmarkHandshake(b *testing.B) {
	for _, kind := range []struct {
		name string
		key  testpki.KeyKind
	}{{"P256", testpki.P256}, {"RSA2048", testpki.RSA2048}} {
		for _, server := range []struct {
			name  string
			start func(*testing.B, string) (string, func() time.Duration)
		}{{"mssd", ours}, {"postfix", postfix}} {
			for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
				for _, resume := range []bool{false, true} {
					how := map[bool]string{false: "full", true: "resumed"}[resume]
					b.Run(fmt.Sprintf("%s/%s/%s/%s", kind.name, strings.ReplaceAll(tls.VersionName(version), " ", ""), how, server.name), func(b *testing.B) {
						dir := must(os.MkdirTemp("", "handshake"))(b)
						defer os.RemoveAll(dir)
						check(b, os.Chmod(dir, 0o755))
						root, client := chainOf(b, dir, kind.key)
						h := &handshaker{}
						h.addr, h.cpu = server.start(b, dir)
						h.cfg = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "mx.operateur.test", Certificates: []tls.Certificate{client.TLS()}, MaxVersion: version}
						h.cfg.RootCAs.AddCert(root)
						h.bench(b, resume)
					})
				}
			}
		}
	}
}

func (h *handshaker) bench(b *testing.B, resume bool) {
	var next, resumed atomic.Int64
	var wg sync.WaitGroup
	warm := make([]*tls.Config, handshakers)
	for i := range warm {
		warm[i] = h.cfg.Clone()
		if resume {
			warm[i].ClientSessionCache = tls.NewLRUClientSessionCache(4)
		}
		if _, err := h.greet(warm[i]); err != nil {
			b.Fatal(err)
		}
	}
	cpu := cpuTime() + h.cpu()
	b.ResetTimer()
	for _, cfg := range warm {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				did, err := h.greet(cfg)
				if err != nil {
					b.Error(err)
					return
				}
				if did {
					resumed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if n := resumed.Load(); resume && n < int64(b.N) || !resume && n > 0 {
		b.Errorf("%d of %d were resumed", n, b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conn/s")
	b.ReportMetric((cpuTime()+h.cpu()-cpu).Seconds()*1000/float64(b.N), "cpu-ms/conn")
}
