package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"mssd/auth/psctest"
	"mssd/tlsconf/testpki"
)

// submission is a house with submission fronts.
type submission struct {
	*house
	psc               *psctest.Provider
	addr, implicit    string
	user, password    string // of sender
	sender, recipient string
}

func newSubmission(t *testing.T, more string) *submission {
	t.Helper()
	s := &submission{psc: psctest.New(t), addr: freeAddr(t), implicit: freeAddr(t), sender: "pharmacie@exemple.test", recipient: "medecin@exemple.test"}
	s.house = newHouse(t, fmt.Sprintf(`
[submission]
listen = [%q]
listen_tls = [%q]
[login.psc]
issuer = %q
anchors = ["psc.pem"]
client_id = %q
client_secret_file = "psc.secret"
%s`, s.addr, s.implicit, s.psc.URL, psctest.ClientID, more))
	must(t, os.WriteFile(s.path("psc.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.psc.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(s.path("psc.secret"), []byte(psctest.ClientSecret+"\n"), 0o600))
	return s
}

// begin starts the daemon with a sender, who has an owner with tokens and one with a password, and a recipient.
func (s *submission) begin() {
	s.t.Helper()
	s.start("--create")
	s.user, s.password = s.addBAL(s.sender, "ORG")
	if out, err := s.house.run("member", "add", s.sender, "rpps:99900000052", "--role", "writer", "--no-password"); err != nil {
		s.t.Fatalf("member add: %v\n%s", err, out)
	}
}

// try runs a client; its output is not taken for a fault of the test.
func try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err
}

// Members send with programs that we did not write, by password and by token, over STARTTLS and over TLS; the recipient reads it
// over IMAP. What may not be sent is refused, and the client told why.
func TestSubmission(t *testing.T) {
	swaks, curl, snail := need(t, "swaks"), need(t, "curl"), need(t, "s-nail")
	s := newSubmission(t, "")
	s.begin()
	reader, readerPassword := s.addBAL(s.recipient, "PER")
	ca := s.path("anchors.pem")
	_, port, _ := strings.Cut(s.addr, ":")
	_, portTLS, _ := strings.Cut(s.implicit, ":")
	letter := func(from, subject string) string {
		name := filepath.Join(t.TempDir(), "letter.eml")
		must(t, os.WriteFile(name, fmt.Appendf(nil, "From: La Pharmacie <%s>\nTo: %s\nSubject: %s\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nVoilà.\n", from, s.recipient, subject), 0o600))
		return name
	}
	base := []string{"--server", "localhost", "--tls-ca-path", ca, "--tls-verify", "--helo", "poste.test", "--suppress-data"}
	send := func(from, to, subject, password string, more ...string) (string, error) {
		args := append(append([]string{}, base...), "--port", port, "--tls", "--auth", "PLAIN", "--auth-user", s.user, "--auth-password", password,
			"--from", from, "--to", to, "--data", "@"+letter(from, subject))
		return try(t, swaks, append(args, more...)...)
	}
	if out, err := send(s.sender, s.recipient, "swaks 587", s.password); err != nil {
		t.Errorf("swaks, STARTTLS: %v\n%s", err, out)
	}
	if out, err := try(t, swaks, append(base, "--port", portTLS, "--tls-on-connect", "--auth", "LOGIN", "--auth-user", s.user, "--auth-password", s.password,
		"--from", s.sender, "--to", s.recipient, "--data", "@"+letter(s.sender, "swaks 465"))...); err == nil {
		t.Errorf("LOGIN is not offered unless the configuration says so:\n%s", out)
	}
	if out, err := try(t, swaks, append(base, "--port", portTLS, "--tls-on-connect", "--auth", "PLAIN", "--auth-user", s.user, "--auth-password", s.password,
		"--from", s.sender, "--to", s.recipient, "--data", "@"+letter(s.sender, "swaks 465"))...); err != nil {
		t.Errorf("swaks, TLS: %v\n%s", err, out)
	}
	for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
		for _, initial := range []bool{true, false} {
			args := []string{"-sS", "-v", "--ssl-reqd", "--cacert", ca, "--user", s.sender, "--oauth2-bearer", s.psc.Token(psctest.Claims{NameID: "899900000052"}), "--login-options", "AUTH=" + mechanism,
				"--mail-from", s.sender, "--mail-rcpt", s.recipient, "--crlf", "--upload-file", letter(s.sender, fmt.Sprintf("curl %s %v", mechanism, initial)), fmt.Sprintf("smtp://localhost:%s/poste.test", port)}
			if initial {
				args = append(args, "--sasl-ir")
			}
			if out, err := try(t, curl, args...); err != nil {
				t.Errorf("curl, %s, initial response %v: %v\n%s", mechanism, initial, err, out)
			}
		}
	}
	escaped := strings.NewReplacer("%", "%25", "@", "%40").Replace
	program(t, []string{"HOME=" + s.dir, "LC_ALL=C.UTF-8", "MAILRC=/dev/null", "SSL_CERT_FILE=" + ca}, "/bin/sh", "-c", fmt.Sprintf(
		"echo bonjour | %s -n -S v15-compat -S tls-ca-file=%s -S tls-ca-no-defaults -S tls-verify=strict -S smtp-auth=plain -S from=%s -S mta=smtps://%s:%s@localhost:%s -S sendwait -s 's-nail' %s",
		snail, ca, s.sender, escaped(s.user), escaped(s.password), portTLS, s.recipient))

	for name, c := range map[string]struct {
		from, to, password, want string
		more                     []string
	}{
		"wrong password":   {s.sender, s.recipient, "autre", "535 5.7.8", nil},
		"another sender":   {s.recipient, s.recipient, s.password, "550 5.7.1 MAIL FROM", nil},
		"another operator": {s.sender, "274990000000145@" + patientDomain, s.password, "550 5.3.3", nil},
		"outside":          {s.sender, "quelquun@exemple.invalid", s.password, "550 5.7.1 recipient's domain is not in the white list", nil},
		"nobody":           {s.sender, "personne@exemple.test", s.password, "550 5.1.1", nil},
		"another From":     {s.sender, s.recipient, s.password, "550 5.7.1 From", []string{"--data", "@" + letter(s.recipient, "refusé")}},
		"two From":         {s.sender, s.recipient, s.password, "550 5.7.1 From", []string{"--add-header", "From: " + s.recipient}},
		"a Sender besides": {s.sender, s.recipient, s.password, "550 5.7.1 Sender", []string{"--add-header", "Sender: " + s.recipient}},
		"no read receipt":  {"<>", s.recipient, s.password, "550 5.7.1", nil},
		"an old TLS":       {s.sender, s.recipient, s.password, "TLS", []string{"--tls-protocol", "tlsv1_1"}},
	} {
		args := c.more
		if name == "no read receipt" {
			args = []string{"--data", "@" + letter(s.sender, "refusé")}
		}
		if out, err := send(c.from, c.to, "refusé", c.password, args...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, want %s\n%s", name, err, c.want, out)
		}
	}
	if out, err := try(t, swaks, "--server", "localhost", "--port", port, "--auth", "PLAIN", "--auth-user", s.user, "--auth-password", s.password, "--from", s.sender, "--to", s.recipient); err == nil || strings.Contains(out, "250-AUTH") {
		t.Errorf("AUTH in clear: %v\n%s", err, out)
	}

	got := s.read(reader, readerPassword)
	if len(got) != 7 {
		t.Errorf("%d messages arrived, want 7", len(got))
	}
	for _, m := range got {
		for _, want := range []string{"Message-ID: <", "Date: ", "smtp.auth=" + s.sender} {
			if strings.Count(strings.ToLower(m), strings.ToLower(want)) != 1 {
				t.Errorf("%q does not stand once in:\n%s", want, m)
			}
		}
		if strings.Contains(m, "refusé") || strings.Contains(m, "99900000052") {
			t.Errorf("arrived:\n%s", m)
		}
	}
	if out, err := s.house.run("bal", "suspend", s.sender, "--reason", "essai"); err != nil {
		t.Fatalf("suspend: %v\n%s", err, out)
	}
	if out, err := send(s.sender, s.recipient, "refusé", s.password); err == nil || !strings.Contains(out, "535 5.7.8") {
		t.Errorf("a suspended BAL sends: %v\n%s", err, out)
	}
	must(t, s.stop())
	if strings.Contains(s.log.String(), "Voilà") || strings.Contains(s.log.String(), s.password) || strings.Contains(s.log.String(), "274990000000145") || strings.Contains(s.log.String(), "quelquun") {
		t.Error("the log holds a message, a password or an address of somebody else")
	}
}

// read is every message of INBOX.
func (s *submission) read(user, password string) (all []string) {
	s.t.Helper()
	c := s.imapClient(user, password)
	defer c.Close()
	box, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	must(s.t, err)
	if box.NumMessages == 0 {
		return nil
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	var set imap.SeqSet
	set.AddRange(1, box.NumMessages)
	msgs, err := c.Fetch(set, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	must(s.t, err)
	for _, m := range msgs {
		all = append(all, string(m.FindBodySection(whole)))
	}
	return all
}

// An application sends with its certificate, on the front of applications, with a client that is not ours.
func TestSubmissionOfApplication(t *testing.T) {
	curl := need(t, "curl")
	const front, labo = "app.exemple.test", "labo@exemple.test"
	s := newSubmission(t, fmt.Sprintf("[submission.app]\n[imap.app]\nhostname = %q\ncert = \"app.pem\"\nkey = \"app.key\"\n", front))
	id, err := s.pki.Server(front)
	must(t, err)
	must(t, id.WriteFiles(s.path("app.pem"), s.path("app.key")))
	soft, err := s.pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{C: "FR", O: "LABO TEST", OU: "300000000000017", CN: "logiciel.labo.test"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	must(t, err)
	must(t, soft.WriteFiles(s.path("soft.pem"), s.path("soft.key")))
	s.begin()
	reader, readerPassword := s.addBAL(s.recipient, "PER")
	for _, args := range [][]string{{"bal", "add", labo, "--kind", "APP"}, {"member", "add", labo, "cert:OU=300000000000017,CN=logiciel.labo.test", "--role", "writer"}} {
		if out, err := s.house.run(args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	letter := s.path("letter.eml")
	must(t, os.WriteFile(letter, fmt.Appendf(nil, "From: %s\nTo: %s\nSubject: resultats\n\nx\n", labo, s.recipient), 0o600))
	_, port, _ := strings.Cut(s.addr, ":")
	send := func(cert bool, more ...string) (string, error) {
		args := []string{"-sS", "-v", "--ssl-reqd", "--cacert", s.path("anchors.pem"), "--connect-to", front + ":" + port + ":localhost:" + port, "--mail-from", labo,
			"--mail-rcpt", s.recipient, "--crlf", "--upload-file", letter, fmt.Sprintf("smtp://%s:%s/labo.test", front, port)}
		if cert {
			args = append(args, "--cert", s.path("soft.pem"), "--key", s.path("soft.key"))
		}
		return try(t, curl, append(args, more...)...)
	}
	for _, more := range [][]string{{"--user", labo + ":", "--login-options", "AUTH=EXTERNAL"}, {"--user", labo + ":x", "--login-options", "AUTH=PLAIN"}} {
		if out, err := send(true, more...); err != nil {
			t.Errorf("%v: %v\n%s", more, err, out)
		}
	}
	if out, err := send(false, "--user", labo+":x", "--login-options", "AUTH=PLAIN"); err == nil || !strings.Contains(out, "535 5.7.8") {
		t.Errorf("without a certificate: %v\n%s", err, out)
	}
	if got := s.read(reader, readerPassword); len(got) == 0 || !strings.Contains(got[0], "smtp.auth="+labo) {
		t.Errorf("%d messages arrived", len(got))
	}
	must(t, s.stop())
}

// login is a session of the sender, written for the tests so that what is acknowledged is known to the octet.
func (s *submission) login() (*client, error) {
	tcp, err := net.DialTimeout("tcp", s.implicit, 10*time.Second)
	if err != nil {
		return nil, err
	}
	_ = tcp.SetDeadline(time.Now().Add(60 * time.Second))
	conn := tls.Client(tcp, &tls.Config{RootCAs: s.roots, ServerName: "localhost"})
	c := &client{conn: conn, r: textproto.NewReader(bufio.NewReader(conn))}
	if _, _, err := c.r.ReadResponse(220); err != nil {
		return c.fail(err)
	}
	if _, err := c.cmd(250, "EHLO poste.test"); err != nil {
		return c.fail(err)
	}
	if _, err := c.cmd(235, "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+s.user+"\x00"+s.password))); err != nil {
		return c.fail(err)
	}
	return c, nil
}

// submitted is letter n of the sender; every other one leaves Date and Message-ID to the daemon.
func (s *submission) submitted(n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\r\nSubject: lettre %d\r\n", s.sender, n)
	if n%2 == 0 {
		fmt.Fprintf(&b, "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <n%d@poste.test>\r\n", n)
	}
	b.WriteString("\r\n" + s.body(n))
	return b.Bytes()
}

func (s *submission) body(n int) string {
	return strings.Repeat(fmt.Sprintf("ligne de la lettre %d\r\n", n), 1+letterSize(n)/24)
}

// TestKillSubmission kills the daemon (-9) while members send. As their software would, they send again what they saw no 250
// for. Each letter is there for both recipients, whole; once, also where the 250 of a stored one was lost, if it came with a Date
// and a Message-ID.
func TestKillSubmission(t *testing.T) {
	s := newSubmission(t, "[submission.limits]\nperson_recipients = 1000000\nbal_recipients = 1000000\n")
	s.begin()
	users := map[string][2]string{}
	for _, a := range []string{s.recipient, "infirmier@exemple.test"} {
		user, password := s.addBAL(a, "PER")
		users[a] = [2]string{user, password}
	}
	to := []string{s.recipient, "infirmier@exemple.test"}
	book := &ledger{acked: make(map[int]bool)}
	var next atomic.Int64
	for range 2 {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				c, err := s.login()
				if err != nil {
					return // killed already
				}
				defer c.conn.Close()
				for {
					n := int(next.Add(1)) - 1
					book.set(n, false)
					if _, err := c.send(s.sender, to, s.submitted(n)); err != nil {
						return
					}
					book.set(n, true)
				}
			})
		}
		for end := time.Now().Add(20 * time.Second); next.Load() < 20 && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond) // on a slow machine the first letters take their time
		}
		time.Sleep(time.Duration(50+rand.IntN(300)) * time.Millisecond) // the moment of the kill, at random
		s.kill()
		wg.Wait()
		s.start()
	}
	c, err := s.login()
	must(t, err)
	acked := 0
	for n, ok := range book.acked {
		if ok {
			acked++
			continue
		}
		if _, err := c.send(s.sender, to, s.submitted(n)); err != nil {
			t.Fatalf("letter %d sent again: %v", n, err)
		}
	}
	_, _ = io.WriteString(c.conn, "QUIT\r\n")
	c.conn.Close()
	if acked == 0 {
		t.Fatal("no letter was acknowledged: the test shows nothing")
	}
	for a, up := range users {
		there := map[int]int{}
		for _, m := range s.read(up[0], up[1]) {
			var n int
			_, subject, _ := strings.Cut(m, "\r\nSubject: ")
			if _, err := fmt.Sscanf(subject, "lettre %d\r\n", &n); err != nil {
				t.Fatalf("%s: not a letter:\n%.500s", a, m)
			}
			head, body, _ := strings.Cut(m, "\r\n\r\n")
			if body != s.body(n) || strings.Count(head, "\r\nMessage-ID: <") != 1 || strings.Count(head, "\r\nDate: ") != 1 {
				t.Errorf("%s: letter %d is not what was sent:\n%.500s", a, n, m)
			}
			there[n]++
		}
		for n := range book.acked {
			if there[n] == 0 || there[n] > 1 && (n%2 == 0 || there[n] > 2) {
				t.Errorf("%s: letter %d is there %d times", a, n, there[n])
			}
		}
	}
	if out, err := s.house.run("fsck"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	must(t, s.stop())
	t.Logf("%d letters, %d acknowledged before a kill", next.Load(), acked)
}
