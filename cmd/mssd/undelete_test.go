package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// imapClient speaks IMAP over TLS, one command at a time.
type imapClient struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func (h *house) imapLogin(user, password string) *imapClient {
	h.t.Helper()
	conn, err := tls.Dial("tcp", h.imaps, &tls.Config{RootCAs: h.roots, ServerName: "localhost"})
	must(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	must(h.t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
	c := &imapClient{t: h.t, conn: conn, r: bufio.NewReader(conn)}
	c.line()
	c.ok("LOGIN %q %q", user, password)
	return c
}

func (c *imapClient) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("IMAP: %v", err)
	}
	return strings.TrimSuffix(s, "\r\n")
}

// cmd sends a command, and literal after its continuation; it yields the untagged lines and the tagged one.
func (c *imapClient) cmd(literal, format string, args ...any) (lines []string, end string) {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("a%d ", c.n)
	_, err := fmt.Fprintf(c.conn, tag+format+"\r\n", args...)
	must(c.t, err)
	for {
		s := c.line()
		switch {
		case strings.HasPrefix(s, "+") && literal != "":
			_, err := fmt.Fprintf(c.conn, "%s\r\n", literal)
			must(c.t, err)
		case strings.HasPrefix(s, "+"):
			return lines, s
		case strings.HasPrefix(s, tag):
			return lines, strings.TrimPrefix(s, tag)
		default:
			lines = append(lines, s)
		}
	}
}

func (c *imapClient) ok(format string, args ...any) []string {
	c.t.Helper()
	lines, end := c.cmd("", format, args...)
	if !strings.HasPrefix(end, "OK") {
		c.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), end)
	}
	return lines
}

// until reads untagged lines until one ends so.
func (c *imapClient) until(end string) {
	c.t.Helper()
	for !strings.HasSuffix(c.line(), end) {
	}
}

// TestLostMailComesBack is the day of an operator: a member empties a mailbox and expunges it, over IMAP; the operator
// lists what is gone and brings it back, and a client that waits in IDLE sees it at once. Then hold, quota and retention,
// each over the real sockets.
func TestLostMailComesBack(t *testing.T) {
	const bal = "pharmacie@officines.example"
	h := newHouse(t, "")
	f, err := os.ReadFile(h.config)
	must(t, err)
	must(t, os.WriteFile(h.config, append(f, "\n[store]\nkeep_expunged = \"30d\"\n[store.retention]\ntrash = \"60d\"\n"...), 0o600))
	h.start("--create")
	user, password := h.addBAL(bal, "ORG")
	run := func(args ...string) string {
		t.Helper()
		out, err := h.run(args...)
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return out
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if out, err := h.run(args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%q: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	c, err := h.dial()
	must(t, err)
	var ids []string
	for n := range 3 {
		text, err := c.send("274990000000145@"+patientDomain, []string{bal}, letter(n, 500, bal))
		must(t, err)
		ids = append(ids, text[strings.LastIndexByte(text, ' ')+1:])
	}
	member := h.imapLogin(user, password)
	member.ok("SELECT INBOX")
	member.ok("STORE 1:2 +FLAGS (\\Deleted \\Flagged)")
	member.ok("EXPUNGE")
	member.ok("CREATE Dossier")
	member.ok("MOVE 1 Dossier")
	member.ok("DELETE Dossier")

	waiting := h.imapLogin(user, password)
	waiting.ok("SELECT INBOX")
	if _, plus := waiting.cmd("", "IDLE"); !strings.HasPrefix(plus, "+") {
		t.Fatal(plus)
	}
	out := run("bal", "deleted", bal)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 4 || strings.Contains(out, "Ordonnance") || !strings.Contains(lines[3], "Dossier") {
		t.Errorf("bal deleted:\n%s", out)
	}
	if out := run("bal", "deleted", bal, "--subjects"); !strings.Contains(out, "Ordonnance 0") {
		t.Errorf("bal deleted --subjects:\n%s", out)
	}
	if out := run("bal", "show", bal); !strings.Contains(out, "3 expunged messages") || !strings.Contains(out, "60 days (default)") {
		t.Errorf("bal show:\n%s", out)
	}
	var list []struct{ ID, Mailbox string }
	must(t, json.Unmarshal([]byte(run("bal", "deleted", bal, "--json")), &list))
	if len(list) != 3 {
		t.Fatalf("bal deleted --json: %+v", list)
	}
	run("bal", "undelete", bal, "--id", list[0].ID)
	waiting.until("1 EXISTS")
	if out := run("bal", "undelete", bal, "--all"); !strings.Contains(out, "1 message is back in INBOX") || !strings.Contains(out, "1 message is back in Recovered") {
		t.Errorf("undelete --all:\n%s", out)
	}
	waiting.until("2 EXISTS")
	member.ok("NOOP")
	if lines := strings.Join(member.ok("UID FETCH 1:* (FLAGS)"), "\n"); strings.Contains(lines, `\Deleted`) || strings.Count(lines, `\Flagged`) != 2 {
		t.Errorf("what came back:\n%s", lines)
	}
	if lines := member.ok("LSUB \"\" *"); !slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, " Recovered") }) {
		t.Errorf("Recovered is not subscribed: %q", lines)
	}

	if out := run("trace", ids[2]); !strings.Contains(out, "expunged") || !strings.Contains(out, "brought back after it was expunged") {
		t.Errorf("the life of a message whose mailbox was deleted:\n%s", out)
	}

	// Quota, at all three doors. What was accepted at RCPT is delivered.
	run("bal", "quota", bal, "--messages", "4")
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, letter(9, 500, bal))
	must(t, err)
	if out := run("bal", "quota", bal); !strings.Contains(out, "4 messages") {
		t.Errorf("bal quota:\n%s", out)
	}
	_, err = c.cmd(250, "MAIL FROM:<274990000000145@%s>", patientDomain)
	must(t, err)
	if text, err := c.cmd(452, "RCPT TO:<%s>", bal); err != nil || !strings.HasPrefix(text, "4.2.2 ") {
		t.Errorf("RCPT to a full BAL: %v %q", err, text)
	}
	msg := "Subject: x\r\n\r\nx\r\n"
	if _, end := member.cmd(msg, "APPEND Sent {%d}", len(msg)); !strings.HasPrefix(end, "NO [OVERQUOTA]") {
		t.Errorf("APPEND into a full BAL: %s", end)
	}
	if _, end := member.cmd("", "COPY 1 Sent"); !strings.HasPrefix(end, "NO [OVERQUOTA]") {
		t.Errorf("COPY in a full BAL: %s", end)
	}
	member.ok("MOVE 1 Sent") // needs no room
	run("bal", "quota", bal, "--messages", "0", "--octets", "100")
	if text, err := c.cmd(452, "RCPT TO:<%s>", bal); err != nil || !strings.HasPrefix(text, "4.2.2 ") {
		t.Errorf("RCPT to a BAL full of octets: %v %q", err, text)
	}
	run("bal", "quota", bal, "--octets", "0")
	if _, end := member.cmd(msg, "APPEND Sent {%d}", len(msg)); !strings.HasPrefix(end, "OK") {
		t.Errorf("APPEND without quota: %s", end)
	}
	c.quit()

	// Hold and retention as an operator says them.
	refused("--reason is missing", "bal", "hold", bal)
	run("bal", "hold", bal, "--reason", "ordonnance 26/123")
	if out := run("bal", "list"); !strings.Contains(out, "active, held") {
		t.Errorf("bal list:\n%s", out)
	}
	run("bal", "release", bal)
	refused("under no legal hold", "bal", "release", bal)
	if out := run("bal", "retention", bal, "Sent", "90"); !strings.Contains(out, "90 days") {
		t.Errorf("bal retention:\n%s", out)
	}
	if out := run("bal", "retention", bal, "Trash", "none"); strings.Contains(out, "60 days") {
		t.Errorf("bal retention:\n%s", out)
	}
	run("bal", "retention", bal, "Trash", "default")
	if out := run("bal", "retention", bal); !strings.Contains(out, "60 days (default)") {
		t.Errorf("bal retention:\n%s", out)
	}
	refused("expected a number of days", "bal", "retention", bal, "Sent", "soon")
	refused("after the mailbox comes", "bal", "retention", bal, "Sent")
	refused("1 is not there", "bal", "undelete", bal, "--id", list[0].ID) // it came back before
	refused("only one of these", "bal", "undelete", bal)
	refused("only one of these", "bal", "undelete", bal, "--all", "--since", "2026-01-01")
	if out := run("sweep"); !strings.Contains(out, "0 messages expunged for their age") {
		t.Errorf("sweep:\n%s", out)
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil || !strings.Contains(out, "no problem found") {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}
