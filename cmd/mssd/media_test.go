package main

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net/textproto"
	"os"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// login tries a login over TLS.
func (h *house) login(user, password string) error {
	h.t.Helper()
	c, err := imapclient.DialTLS(h.imaps, &imapclient.Options{TLSConfig: &tls.Config{RootCAs: h.roots, ServerName: "localhost"}})
	must(h.t, err)
	defer c.Close()
	return c.Login(user, password).Wait()
}

func isUnavailable(err error) bool {
	var e *imap.Error
	return errors.As(err, &e) && e.Type == imap.StatusResponseTypeNo && e.Code == imap.ResponseCodeUnavailable
}

// TestDamagedBAL spoils the key of one BAL under a stopped daemon: it starts, this BAL is refused for a time, the
// others have their mail, health and fsck say it, and with the file as it was all is well again.
func TestDamagedBAL(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	const good, bad = "pharmacie@test-officines.mssante.fr", "cabinet@test-cabinets.mssante.fr"
	goodUser, goodPassword := h.addBAL(good, "ORG")
	before, err := os.Stat(h.path("data/keys"))
	must(t, err)
	badUser, badPassword := h.addBAL(bad, "ORG")
	c, err := h.dial()
	must(t, err)
	msg := letter(1, 2000, bad)
	_, err = c.send("274990000000145@"+patientDomain, []string{bad, good}, msg)
	must(t, err)
	c.quit()
	must(t, h.stop())

	whole, err := os.ReadFile(h.path("data/keys"))
	must(t, err)
	spoiled := append([]byte(nil), whole...)
	for i := before.Size() + 16; i < int64(len(spoiled)); i++ { // the slot that was added for it
		spoiled[i] ^= 0x55
	}
	must(t, os.WriteFile(h.path("data/keys"), spoiled, 0o600))
	h.start()

	if out, err := h.run("health"); err == nil || !strings.Contains(out, "degraded") || !strings.Contains(out, bad+" is unavailable") {
		t.Errorf("health: %v\n%s", err, out)
	}
	if out, err := h.run("bal", "show", bad); err != nil || !strings.Contains(out, "unavailable") {
		t.Errorf("bal show: %v\n%s", err, out)
	}
	if out, err := h.run("bal", "list"); err != nil || !strings.Contains(out, "unavailable") {
		t.Errorf("bal list: %v\n%s", err, out)
	}
	if out, err := h.run("member", "add", bad, "local:b"); err == nil || !strings.Contains(out, "unavailable") {
		t.Errorf("member add: %v\n%s", err, out)
	}
	if out, err := h.run("fsck"); err == nil || !strings.Contains(out, bad+" is unavailable") || !strings.Contains(out, "1 problems found") {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	c, err = h.dial()
	must(t, err)
	_, err = c.send("274990000000145@"+patientDomain, []string{bad}, msg)
	var reply *textproto.Error
	if !errors.As(err, &reply) || reply.Code != 451 {
		t.Errorf("RCPT to the damaged BAL: %v, want 451", err)
	}
	_, err = c.cmd(250, "RSET")
	must(t, err)
	second := letter(2, 2000, good)
	_, err = c.send("274990000000145@"+patientDomain, []string{good}, second)
	must(t, err)
	c.quit()
	if err := h.login(badUser, badPassword); !isUnavailable(err) {
		t.Errorf("login to the damaged BAL: %v, want NO [UNAVAILABLE]", err)
	}
	if got := fetchHashes(t, h, goodUser, goodPassword); got[sha256.Sum256(second)] != 1 || len(got) != 2 {
		t.Errorf("the other BAL has %d messages, want two", len(got))
	}
	must(t, h.stop())

	now, err := os.ReadFile(h.path("data/keys"))
	must(t, err)
	if string(now) != string(spoiled) {
		t.Error("the damaged file of keys was written to")
	}
	must(t, os.WriteFile(h.path("data/keys"), whole, 0o600))
	h.start()
	if got := fetchHashes(t, h, badUser, badPassword); got[sha256.Sum256(msg)] != 1 || len(got) != 1 {
		t.Errorf("mended, but the BAL has %d messages, want the one", len(got))
	}
	if out, err := h.run("health"); err != nil {
		t.Errorf("health: %v\n%s", err, out)
	}
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}
