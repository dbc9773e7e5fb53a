package smtpd

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

func plain(user, password string) string { return b64("\x00" + user + "\x00" + password) }

// nothing says that no BAL got anything.
func (m *members) nothing(what string) {
	m.t.Helper()
	for _, a := range []string{pharmacy, doctor} {
		if n := len(m.inbox(a)); n != 0 {
			m.t.Errorf("%s: %s has %d messages", what, a, n)
		}
	}
}

// Before a login nothing is done, and the octets of a message that is not wanted are no commands.
func TestNothingBeforeALogin(t *testing.T) {
	m := newMembers(t, nil)
	p := m.secure("none")
	for _, cmd := range []string{"MAIL FROM:<" + pharmacy + ">", "RCPT TO:<" + doctor + ">", "DATA", "VRFY " + doctor, "EXPN equipe", "HELP", "ETRN x", "TURN", "data"} {
		p.cmd(cmd, "530 5.7.0")
	}
	for _, bdat := range []string{"BDAT 60 LAST", "bdat 60", "BDAT x", "BDAT 0 LAST"} {
		p := m.secure("none")
		p.send(bdat + "\r\nAUTH PLAIN " + plain(pharmacy, password) + "\r\nMAIL FROM:<" + pharmacy + ">\r\n")
		p.expect("530 5.7.0")
		p.gone()
	}
	if strings.Contains(m.events.String(), pharmacy) {
		t.Error("what stood behind a BDAT was taken for a login")
	}
	m.nothing("before a login")
}

// What came in clear behind STARTTLS is not run after the handshake (CVE-2011-0411), and nobody logs in in clear.
func TestNoInjectionInClear(t *testing.T) {
	m := newMembers(t, nil)
	login := "AUTH PLAIN " + plain(pharmacy, password)
	p := m.dial()
	p.expect("220 ")
	if r := p.cmd("EHLO client.test", "250 "); strings.Contains(r, "AUTH") {
		t.Errorf("AUTH is offered in clear: %q", r)
	}
	p.cmd(login, "530 5.7.0")
	p.cmd("AUTH LOGIN", "530 5.7.0")
	p.send("STARTTLS\r\n" + login + "\r\nMAIL FROM:<" + pharmacy + ">\r\nRCPT TO:<" + doctor + ">\r\nDATA\r\n" + note + ".\r\n")
	p.expect("220 ")
	rest, _ := io.ReadAll(p.br) // a TLS alert at the most
	if strings.Contains(string(rest), "235") || strings.Contains(string(rest), "250") {
		t.Errorf("what stood behind STARTTLS was run: %q", rest)
	}
	m.nothing("behind STARTTLS")
	if strings.Contains(m.events.String(), "logged") || strings.Contains(m.events.String(), pharmacy) {
		t.Errorf("a login in clear: %s", m.events.String())
	}
}

// Commands sent along with AUTH are done after it when it succeeds, and not at all when it fails.
func TestPipelinedAuth(t *testing.T) {
	m := newMembers(t, nil)
	mail := "MAIL FROM:<" + pharmacy + ">\r\nRCPT TO:<" + doctor + ">\r\nDATA\r\n"
	p := m.secure("none")
	p.send("AUTH PLAIN " + plain(pharmacy, "Faux-Secret-41") + "\r\n" + mail + note + ".\r\n")
	p.expect("535 5.7.8")
	for range 3 {
		p.expect("530 5.7.0")
	}
	m.nothing("behind a refused AUTH")
	p = m.secure("none")
	p.send("AUTH PLAIN " + plain(pharmacy, password) + "\r\n" + mail)
	p.expect("235 2.7.0")
	p.expect("250 2.1.0")
	p.expect("250 2.1.5")
	p.expect("354")
	p.send(note + ".\r\n")
	p.expect("250 2.0.0")
	if n := len(m.inbox(doctor)); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// Lines of AUTH are read up to 16 KiB (RFC 4954, Section 4 asks for 12,288 octets), those of no other command, and of nobody
// who has logged in.
func TestLongAuthLines(t *testing.T) {
	m := newMembers(t, nil)
	long := plain(pharmacy, strings.Repeat("x", 9000)) // 12,036 octets
	p := m.secure("none")
	p.cmd("AUTH PLAIN "+long, "535 5.7.8")
	p.cmd("AUTH PLAIN", "334")
	p.cmd(long, "535 5.7.8")
	p.cmd("AUTH LOGIN "+b64(pharmacy), "334")
	p.cmd(long, "535 5.7.8")
	p.cmd("NOOP", "250")
	for name, line := range map[string]string{
		"AUTH":    "AUTH PLAIN " + strings.Repeat("A", 17<<10),
		"EHLO":    "EHLO " + strings.Repeat("a", 5000),
		"no word": strings.Repeat("AUTH", 2000),
		"a tab":   "AUTH\t" + strings.Repeat("A", 5000),
	} {
		p := m.secure("none")
		p.send(line + "\r\nNOOP\r\n")
		if r, _ := p.reply(); !strings.HasPrefix(r, "500 5.5.6") {
			t.Errorf("%s: %q", name, r)
		}
	}
	p = m.secure("none")
	p.cmd("AUTH PLAIN", "334")
	p.send(strings.Repeat("A", 17<<10) + "\r\n")
	p.expect("500 5.5.6")
	p = m.logged(t)
	p.send("AUTH PLAIN " + strings.Repeat("A", 5000) + "\r\n")
	p.expect("500 5.5.6")
}

// The dialogue of AUTH, out of order and malformed.
func TestAuthOutOfOrder(t *testing.T) {
	m := newMembers(t, nil)
	p := m.dial()
	p.expect("220 ")
	p.cmd("STARTTLS", "220 ")
	p.upgrade(m.world, "none")
	p.cmd("AUTH PLAIN "+plain(pharmacy, password), "503 5.5.1") // before EHLO
	p.cmd("EHLO client.test", "250 ")
	p.cmd("AUTH", "501 5.5.4")
	p.cmd("AUTH CRAM-MD5", "504 5.5.4")
	p.cmd("AUTH EXTERNAL =", "504 5.5.4")
	p.cmd("AUTH PLAIN *", "501 5.5.2")
	p.cmd("AUTH PLAIN ====", "501 5.5.2")
	p.cmd("AUTH PLAIN", "334")
	p.cmd("*", "501 5.7.0")
	p.cmd("AUTH LOGIN", "334")
	p.cmd("MAIL FROM:<"+pharmacy+">", "501 5.5.2") // an answer, not a command
	p.cmd("MAIL FROM:<"+pharmacy+">", "530 5.7.0")
	p.cmd("auth plain "+plain(pharmacy, password), "235 2.7.0")
	p.cmd("AUTH PLAIN "+plain(pharmacy, password), "503 5.5.1")
	p.cmd("EHLO client.test", "250 ")
	p.cmd("AUTH PLAIN "+plain(doctor, password), "503 5.5.1")
	p.cmd("MAIL FROM:<"+pharmacy+">", "250")
}

// After five refused logins the connection ends.
func TestGuessing(t *testing.T) {
	m := newMembers(t, nil)
	p := m.secure("none")
	for i := range 4 {
		p.cmd("AUTH PLAIN "+plain(pharmacy, fmt.Sprintf("Faux-Secret-%d", i)), "535 5.7.8")
	}
	p.send("AUTH PLAIN " + plain(pharmacy, "Faux-Secret-5") + "\r\nAUTH PLAIN " + plain(pharmacy, password) + "\r\n")
	rest, _ := io.ReadAll(p.br)
	if !strings.Contains(string(rest), "421 4.7.0") || strings.Contains(string(rest), "235") {
		t.Errorf("%q", rest)
	}
}

// No password, nor a name that may be one, stands in a log or an event, however it was sent.
func TestNoSecretsWritten(t *testing.T) {
	m := newMembers(t, nil)
	secrets := []string{password, "Faux-Secret-41", "Secret-Par-Erreur-40"}
	p := m.dial()
	p.expect("220 ")
	p.cmd("EHLO "+"client.test", "250 ")
	p.cmd("AUTH PLAIN "+plain(pharmacy, password), "530")
	p = m.secure("none")
	p.cmd("AUTH PLAIN "+plain(pharmacy, "Faux-Secret-41"), "535")
	p.cmd("AUTH PLAIN "+plain("Secret-Par-Erreur-40", pharmacy), "535")
	p.cmd("AUTH LOGIN "+b64("Secret-Par-Erreur-40"), "334")
	p.cmd(b64("Faux-Secret-41"), "535")
	p.cmd("AUTH LOGIN", "334")
	p.cmd("Secret-Par-Erreur-40", "501")
	p.cmd("Secret-Par-Erreur-40 "+b64(password), "500")
	p.cmd("AUTH Secret-Par-Erreur-40", "504")
	p = m.logged(t)
	p.cmd("AUTH PLAIN "+plain(pharmacy, password), "503")
	p.deliver(pharmacy, doctor, note)
	for _, out := range []string{m.logs.String(), m.events.String()} {
		for _, s := range append(secrets, "Question secrete") {
			for _, form := range []string{s, b64(s), plain(pharmacy, s), strings.ToLower(s), strings.ToUpper(s)} {
				if i := strings.Index(out, form); i >= 0 {
					t.Errorf("%s is written: %s", s, out[max(0, i-100):min(len(out), i+100)])
				}
			}
		}
	}
}

// Nobody writes in the name of another, whatever the envelope and the header say.
func TestNoSpoofing(t *testing.T) {
	m := newMembers(t, nil)
	p := m.logged(t)
	for _, from := range []string{doctor, "x" + pharmacy, "\"pharmacie\"@officine.test", "pharmacie@autre.test", "pharmacie+x@officine.test", "@a.test:" + doctor} {
		p.cmd("MAIL FROM:<"+from+">", "550 5.7.1")
	}
	p = m.logged(t)
	for _, header := range []string{
		"From: <" + doctor + ">\r\n",
		"From: <" + pharmacy + ">\r\nFrom: <" + doctor + ">\r\n",
		"From: <" + pharmacy + ">, <" + doctor + ">\r\n",
		"From: <" + pharmacy + ">\r\nSender: <" + doctor + ">\r\n",
		"From: \"" + doctor + "\" <" + pharmacy + ">\r\n",
		"From: g: " + pharmacy + ";\r\n",
		"To: <" + doctor + ">\r\n",
		"From\x01: <" + doctor + ">\r\nFrom: <" + pharmacy + ">\r\n",
		" From: <" + doctor + ">\r\nFrom: <" + pharmacy + ">\r\n",
		"",
	} {
		p.cmd("MAIL FROM:<"+pharmacy+">", "250")
		p.cmd("RCPT TO:<"+doctor+">", "250")
		p.cmd("DATA", "354")
		p.send(header + "Subject: x\r\n\r\nFrom: <" + pharmacy + ">\r\n.\r\n")
		if r := p.expect("550 5."); strings.Contains(r, "officine") {
			t.Errorf("%q: the answer repeats an address: %q", header, r)
		}
	}
	p = m.logged(t) // the null sender is for receipts
	p.cmd("MAIL FROM:<>", "250")
	p.cmd("RCPT TO:<"+doctor+">", "250")
	p.cmd("DATA", "354")
	p.send(note + ".\r\n")
	p.expect("550 5.7.1")
	p.cmd("MAIL FROM:<>", "250")
	p.cmd("RCPT TO:<"+doctor+">", "250")
	p.cmd("DATA", "354")
	p.send("From: <" + doctor + ">\r\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n--b--\r\n.\r\n")
	p.expect("550 5.7.1")
	m.nothing("in the name of another")
}

// Who has logged in is no relay to places outside the trust space, however the address is written.
func TestNoOpenRelay(t *testing.T) {
	m := newMembers(t, nil)
	for _, to := range []string{
		"x@gmail.test", "@officine.test:x@gmail.test", "x%gmail.test@evil.test", "\"x@gmail.test\"@evil.test", "gmail.test!x@evil.test",
		"x@[192.0.2.1]", "x@[IPv6:2001:db8::1]", "x@localhost", "x@officine.test.evil.test", "x@autre.test.", "x@" + strings.Repeat("a.", 100) + "test",
		"x%gmail.test@officine.test", "\"x@gmail.test\"@officine.test", "gmail.test!x@officine.test", "pharmacie", "postmaster@gmail.test",
	} {
		p := m.logged(t)
		p.cmd("MAIL FROM:<"+pharmacy+">", "250")
		p.send("RCPT TO:<" + to + ">\r\n")
		r, err := p.reply()
		if err != nil || r[0] != '5' && r[0] != '4' || strings.Contains(r, "gmail") {
			t.Errorf("%s: %q, %v", to, r, err)
		}
		p.cmd("DATA", "503 5.5.1")
	}
	if s := m.logs.String() + m.events.String(); strings.Contains(s, "gmail") {
		t.Error("an address elsewhere is written")
	}
}

// Only CRLF.CRLF ends a message: what looks like an end to others smuggles no second one (CVE-2023-51764).
func TestNoSmuggling(t *testing.T) {
	m := newMembers(t, nil)
	second := "MAIL FROM:<" + pharmacy + ">\r\nRCPT TO:<" + doctor + ">\r\nDATA\r\nFrom: <" + doctor + ">\r\n\r\nx\r\n.\r\n"
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\n\n.\r\n", "\r\n\x00.\r\n"} {
		p := m.logged(t)
		p.send("MAIL FROM:<" + pharmacy + ">\r\nRCPT TO:<" + doctor + ">\r\nDATA\r\n")
		p.expect("250")
		p.expect("250")
		p.expect("354")
		p.send(note[:len(note)-2] + end + second)
		p.expect("550 5.5.2")
		p.cmd("NOOP", "250")
	}
	m.nothing("smuggled")
	// A dot that the sender put before a line is taken away, and the line is no end.
	p := m.logged(t)
	p.deliver(pharmacy, doctor, note+"..\r\n..x\r\n")
	box := m.inbox(doctor)
	if len(box) != 1 || !strings.HasSuffix(box[0], "Bonjour.\r\n.\r\n.x\r\n") {
		t.Errorf("%q", box)
	}
}

// Who gets a copy is not told to the others, and no member speaks in the name of our verdict on the sender.
func TestHeaderOfMembersIsCleaned(t *testing.T) {
	m := newMembers(t, nil)
	p := m.logged(t)
	p.deliver(pharmacy, doctor, "Authentication-Results: mx.operateur.test; auth=pass smtp.auth="+laboratory+"\r\nReturn-Path: <"+doctor+">\r\n"+
		"Bcc: <"+patient+">,\r\n <"+readerBAL+">\r\nX-MSS-MES: FIN\r\n"+note)
	got := m.inbox(doctor)
	if len(got) != 1 || strings.Contains(got[0], patientINS) || strings.Contains(got[0], readerBAL) || strings.Contains(got[0], laboratory) ||
		strings.Count(got[0], "Return-Path:") != 1 || !strings.Contains(got[0], "X-MSS-MES: FIN\r\n"+strings.TrimSuffix(note, "\r\nBonjour.\r\n")) {
		t.Errorf("%q", got)
	}
}

// Answers stay in the trust space: to a BAL of ours or of another operator, never outside.
func TestReplyToStaysInside(t *testing.T) {
	m := newMembers(t, nil)
	from := "From: <" + pharmacy + ">\r\n"
	send := func(header string) string {
		t.Helper()
		p := m.logged(t)
		p.send("MAIL FROM:<" + pharmacy + ">\r\nRCPT TO:<" + doctor + ">\r\nDATA\r\n")
		p.expect("250")
		p.expect("250")
		p.expect("354")
		p.send(from + header + "Subject: x\r\n\r\n" + header + ".\r\n")
		r, err := p.reply()
		check(t, err)
		return r
	}
	for _, ok := range []string{"", "Reply-To:\r\n", "Reply-To: <" + doctor + ">\r\n", "Reply-To: \"Dr\" <x@AUTRE.test>, " + doctor + "\r\n", "Reply-To: g: x@autre.test, " + patient + ";\r\n"} {
		if r := send(ok); !strings.HasPrefix(r, "250 2.0.0 ") {
			t.Errorf("%q: %q", ok, r)
		}
	}
	for _, bad := range []string{"Reply-To: x@gmail.test\r\n", "Reply-To: " + doctor + ", x@gmail.test\r\n", "Reply-To: " + doctor + "\r\nReply-To: <x@gmail.test>\r\n", "Reply-To: personne\r\n",
		"Reply-To: g: " + doctor + ", x@gmail.test;\r\n", "Reply-To: <x@[192.0.2.1]>\r\n", "REPLY-TO\t: <x@officine.test.evil.test>\r\n"} {
		if r := send(bad); !strings.HasPrefix(r, "550 5.7.1 Reply-To") || strings.Contains(r, "gmail") {
			t.Errorf("%q: %q", bad, r)
		}
	}
}
