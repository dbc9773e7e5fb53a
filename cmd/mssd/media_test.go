package main

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	if out, err := h.run("bal", "show", bad); err != nil || !strings.Contains(out, "unavailable") || strings.Contains(out, "0 messages") || strings.Contains(out, "MAILBOX") {
		t.Errorf("bal show: %v\n%s", err, out)
	}
	for _, what := range []string{"retention", "quota"} {
		if out, err := h.run("bal", what, bad); err == nil || !strings.Contains(out, bad+" is unavailable") || strings.Contains(out, "MAILBOX") {
			t.Errorf("bal %s: %v\n%s", what, err, out)
		}
	}
	if out, err := h.run("bal", "list"); err != nil || !strings.Contains(out, "unavailable") {
		t.Errorf("bal list: %v\n%s", err, out)
	}
	if out, err := h.run("member", "add", bad, "local:b"); err == nil || !strings.Contains(out, "unavailable") {
		t.Errorf("member add: %v\n%s", err, out)
	}
	if out, err := h.run("fsck"); err == nil || !strings.Contains(out, bad+" is unavailable") || !strings.Contains(out, "1 problem found") {
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

// fetched are the messages of INBOX that a FETCH of all of them answers, by number, and how it ended.
func (h *house) fetched(user, password string, options *imap.FetchOptions) (map[uint32][]byte, error) {
	h.t.Helper()
	c := h.imapClient(user, password)
	defer c.Close()
	_, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	must(h.t, err)
	msgs, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, options).Collect()
	out := map[uint32][]byte{}
	for _, m := range msgs {
		out[m.SeqNum] = nil
		for _, s := range options.BodySection {
			out[m.SeqNum] = m.FindBodySection(s)
		}
	}
	return out, err
}

// fetchToTheEnd fetches all messages of INBOX and reads until the connection ends or the FETCH is answered. (The client
// of go-imap has a data race when a connection ends inside a literal.)
func (h *house) fetchToTheEnd(user, password string) string {
	h.t.Helper()
	c, err := tls.Dial("tcp", h.imaps, &tls.Config{RootCAs: h.roots, ServerName: "localhost"})
	must(h.t, err)
	defer c.Close()
	must(h.t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = fmt.Fprintf(c, "a1 LOGIN %q %q\r\na2 EXAMINE INBOX\r\na3 FETCH 1:* BODY.PEEK[]\r\n", user, password)
	must(h.t, err)
	var said strings.Builder
	b := make([]byte, 64<<10)
	for !strings.Contains(said.String(), "\na3 ") {
		n, err := c.Read(b)
		said.Write(b[:n])
		if err != nil {
			break
		}
	}
	return said.String()
}

func (h *house) searched(user, password, text string) []uint32 {
	h.t.Helper()
	c := h.imapClient(user, password)
	defer c.Close()
	_, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	must(h.t, err)
	data, err := c.Search(&imap.SearchCriteria{Text: []string{text}}, nil).Wait()
	must(h.t, err)
	return data.AllSeqNums()
}

// TestDamagedBodies damages bodies under a running daemon in every way: each such message alone cannot be read, a FETCH
// of all answers the others, SEARCH and COPY go on, and with the files as they were all is there again.
func TestDamagedBodies(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	const bal = "pharmacie@test-officines.mssante.fr"
	user, password := h.addBAL(bal, "ORG")
	c, err := h.dial()
	must(t, err)
	var sent [][]byte
	for i, size := range []int{2000, 2000, 2000, 2000, 300_000, 2000, 3000, 2000} {
		msg := letter(i, size, bal)
		_, err = c.send("274990000000145@"+patientDomain, []string{bal}, msg)
		must(t, err)
		sent = append(sent, msg)
	}
	files, err := filepath.Glob(h.path("data/blobs/*/*"))
	must(t, err)
	slices.Sort(files) // the order of delivery
	if len(files) != len(sent) {
		t.Fatalf("%d bodies for %d letters", len(files), len(sent))
	}
	var was [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		was = append(was, b)
	}
	write := func(i int, b []byte) { must(t, os.WriteFile(files[i], b, 0o600)) }
	flip := func(b []byte, at int) []byte { b = slices.Clone(b); b[at] ^= 4; return b }
	write(1, was[1][:len(was[1])/2])            // truncated
	must(t, os.Remove(files[2]))                // missing
	write(3, flip(was[3], 20))                  // altered
	write(4, flip(was[4], len(was[4])*6/10))    // altered, far behind its beginning
	write(5, was[6])                            // another one's
	write(6, append(slices.Clone(was[6]), 'x')) // longer

	want := func(when string, sound ...int) {
		t.Helper()
		whole := &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}
		got, err := h.fetched(user, password, whole)
		if all := len(sound) == len(sent); all && err != nil || !all && !isUnavailable(err) {
			t.Errorf("%s: FETCH of all ends with %v", when, err)
		}
		for _, i := range sound {
			if body, err := afterPrefix(got[uint32(i+1)]); err != nil || string(body) != string(sent[i]) {
				t.Errorf("%s: message %d, which is sound, was not answered as it is", when, i+1)
			}
		}
		if len(got) != len(sound) {
			t.Errorf("%s: %d messages were answered, want %d", when, len(got), len(sound))
		}
	}
	// The damage in the middle of the long one is met when its octets were announced: this connection is cut, once.
	if said := h.fetchToTheEnd(user, password); strings.Contains(said, "\na3 ") || !strings.Contains(said, "* 1 FETCH") {
		t.Errorf("FETCH of damaged messages was not cut: %d octets", len(said))
	}
	want("damaged", 0, 7)
	if got, err := h.fetched(user, password, &imap.FetchOptions{Flags: true, RFC822Size: true, Envelope: true}); err != nil || len(got) != len(sent) {
		t.Errorf("FETCH FLAGS: %d messages, %v", len(got), err)
	}
	if got := h.searched(user, password, "ordonnance"); len(got) != len(sent) {
		t.Errorf("SEARCH: %v, want all: the words are in meta.db", got)
	}
	ic := h.imapClient(user, password)
	_, err = ic.Select("INBOX", nil).Wait()
	must(t, err)
	if data, err := ic.Copy(imap.SeqSet{{Start: 1, Stop: 0}}, "Archive").Wait(); err != nil || len(data.DestUIDs) == 0 {
		t.Errorf("COPY: %v", err)
	}
	ic.Close()
	if out, err := h.run("fsck"); err == nil || !strings.Contains(out, "4 problems found") {
		t.Errorf("fsck, which opens no frames, wants the truncated, the missing, the swapped and the longer body: %v\n%s", err, out)
	}
	must(t, h.stop())

	must(t, os.Remove(h.path("data/meta.db"))) // now words and structure must come from the bodies
	h.start()
	if got := h.searched(user, password, "ordonnance"); !slices.Equal(got, []uint32{1, 8}) {
		t.Errorf("SEARCH without meta.db: %v, want the sound ones", got)
	}
	if got, err := h.fetched(user, password, &imap.FetchOptions{Envelope: true}); !isUnavailable(err) || len(got) != 2 {
		t.Errorf("FETCH ENVELOPE without meta.db: %d messages, %v", len(got), err)
	}
	c, err = h.dial()
	must(t, err)
	sent = append(sent, letter(99, 2000, bal))
	_, err = c.send("274990000000145@"+patientDomain, []string{bal}, sent[8])
	must(t, err)
	for i := range was {
		write(i, was[i])
	}
	want("mended", 0, 1, 2, 3, 4, 5, 6, 7, 8)
	must(t, h.stop())
	if out, err := h.run("fsck", "--config", h.config); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}

// ended waits for the daemon to end by itself, with an error.
func (h *house) ended() {
	h.t.Helper()
	select {
	case exit := <-h.done:
		h.cmd = nil
		if exit == nil {
			h.t.Error("the daemon ended with status 0")
		}
		h.t.Logf("the daemon ended: %v", exit)
	case <-time.After(20 * time.Second):
		h.t.Fatal("the daemon goes on")
	}
}

// TestIndexCutUnderTheDaemon cuts index.db short while the daemon serves: it ends cleanly and says what to do, nothing
// more is acknowledged, the next start is refused with the same advice, and with the file of before all is there.
func TestIndexCutUnderTheDaemon(t *testing.T) {
	for _, size := range []int64{0, 2 * 4096} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			h := newHouse(t, "")
			h.start("--create")
			const bal = "pharmacie@test-officines.mssante.fr"
			user, password := h.addBAL(bal, "ORG")
			c, err := h.dial()
			must(t, err)
			msg := letter(1, 2000, bal)
			_, err = c.send("274990000000145@"+patientDomain, []string{bal}, msg)
			must(t, err)
			ic := h.imapClient(user, password)
			defer ic.Close()
			must(t, h.stop())
			index := h.path("data/index.db")
			whole, err := os.ReadFile(index)
			must(t, err)
			h.start()
			must(t, os.Truncate(index, size))
			if c, err = h.dial(); err == nil {
				if text, err := c.send("274990000000145@"+patientDomain, []string{bal}, letter(2, 2000, bal)); err == nil {
					t.Errorf("a letter was acknowledged into a file that is cut off: %s", text)
				}
				c.conn.Close()
			}
			h.ended()
			if log := h.log.String(); !strings.Contains(log, "fsck --repair") || strings.Contains(log, "goroutine ") || strings.Contains(log, "SIGBUS") {
				t.Error("the log does not say what to do, or holds a stack")
			}
			cmd := exec.Command("mssd", "serve", "--config", h.config)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "index.db") || !strings.Contains(string(out), "fsck --repair") {
				t.Errorf("the next start: %v\n%s", err, out)
			}
			must(t, os.WriteFile(index, whole, 0o600))
			h.start()
			if got := fetchHashes(t, h, user, password); got[sha256.Sum256(msg)] != 1 || len(got) != 1 {
				t.Errorf("%d letters, want the one", len(got))
			}
			must(t, h.stop())
			if out, err := h.run("fsck", "--config", h.config); err != nil {
				t.Errorf("fsck: %v\n%s", err, out)
			}
		})
	}
}
