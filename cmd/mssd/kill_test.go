package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// ledger is what the senders know: which letters were acknowledged.
type ledger struct {
	mu    sync.Mutex
	acked map[int]bool // by number; false: sent, no 250 seen
}

func (l *ledger) set(n int, acked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[n] = acked
}

// TestKill kills the daemon (-9) in mid-delivery again and again. As an operator's queue would, the senders send again
// what they saw no 250 for. At the end every letter is there exactly once, octet for octet.
func TestKill(t *testing.T) {
	const senders, bals = 8, 4
	rounds := 4
	if s := os.Getenv("MSSD_CRASH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		rounds = n
	}
	h := newHouse(t, "")
	h.start("--create")
	users := make(map[string][2]string)
	var addrs []string
	for i := range bals {
		a := fmt.Sprintf("pharmacie%d@test-officines.mssante.fr", i)
		user, password := h.addBAL(a, "ORG")
		users[a] = [2]string{user, password}
		addrs = append(addrs, a)
	}
	book := &ledger{acked: make(map[int]bool)}
	var next atomic.Int64
	for round := range rounds {
		deliverUntilKilled(t, h, book, &next, addrs, senders)
		nothingInClear(t, h.path("data"))
		h.start()
		t.Logf("round %d: %d letters sent, restarted", round, next.Load())
	}
	resent := resend(t, h, book, addrs)
	acked := int(next.Load()) - resent
	if acked == 0 || resent == 0 {
		t.Logf("acknowledged before a kill: %d, sent again after it: %d", acked, resent)
	}
	if acked == 0 {
		t.Fatal("no letter was acknowledged: the test shows nothing")
	}
	want := make(map[string]map[[32]byte]int) // address -> hash of letter -> times
	for n := range int(next.Load()) {
		a := addrs[n%len(addrs)]
		if want[a] == nil {
			want[a] = make(map[[32]byte]int)
		}
		want[a][sha256.Sum256(letter(n, letterSize(n), a))]++
	}
	for a, up := range users {
		got := fetchHashes(t, h, up[0], up[1])
		for sum, times := range want[a] {
			if got[sum] != times {
				t.Errorf("%s: a letter is there %d times, want %d", a, got[sum], times)
			}
			delete(got, sum)
		}
		if len(got) > 0 {
			t.Errorf("%s: %d messages that nobody sent", a, len(got))
		}
	}
	if out, err := h.run("fsck"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	must(t, h.stop())
	nothingInClear(t, h.path("data"))
	t.Logf("%d letters in %d rounds, %d of them sent again", next.Load(), rounds, resent)
}

// nothingInClear looks for what the letters say and who sent them in every file of the data, the spool of a killed daemon
// included.
func nothingInClear(t *testing.T, dir string) {
	t.Helper()
	files := 0
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		files++
		for _, s := range []string{"274990000000145", "Camille", "Ordonnance", "@patients.test", "voici la ligne", "qui commence par un point"} {
			for _, form := range []string{s, strings.ToLower(s), base64.StdEncoding.EncodeToString([]byte(s))[:len(s)/3*4]} {
				if bytes.Contains(b, []byte(form)) {
					t.Errorf("%s holds %q", p, form)
				}
			}
		}
		return err
	}))
	if files < 10 {
		t.Errorf("only %d files below %s", files, dir)
	}
}

// letterSize varies from small to large enough that a kill falls into the body.
func letterSize(n int) int { return 500 + n%7*n%7*40_000 }

func deliverUntilKilled(t *testing.T, h *house, book *ledger, next *atomic.Int64, addrs []string, senders int) {
	t.Helper()
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			c, err := h.dial()
			if err != nil {
				return // killed already
			}
			defer c.conn.Close()
			for {
				n := int(next.Add(1)) - 1
				a := addrs[n%len(addrs)]
				book.set(n, false)
				if _, err := c.send("274990000000145@"+patientDomain, []string{a}, letter(n, letterSize(n), a)); err != nil {
					return // no 250 seen: the letter stays in the queue
				}
				book.set(n, true)
			}
		})
	}
	time.Sleep(time.Duration(150+rand.IntN(500)) * time.Millisecond) // the moment of the kill, at random
	h.kill()
	wg.Wait()
}

// resend sends what no 250 was seen for, and returns how many that were.
func resend(t *testing.T, h *house, book *ledger, addrs []string) int {
	t.Helper()
	c, err := h.dial()
	must(t, err)
	defer c.quit()
	resent := 0
	for n, acked := range book.acked {
		if acked {
			continue
		}
		a := addrs[n%len(addrs)]
		if _, err := c.send("274990000000145@"+patientDomain, []string{a}, letter(n, letterSize(n), a)); err != nil {
			t.Fatalf("letter %d sent again: %v", n, err)
		}
		resent++
	}
	return resent
}

// fetchHashes reads every message of INBOX and returns the hashes of what the peer sent (the prefix taken off).
func fetchHashes(t *testing.T, h *house, user, password string) map[[32]byte]int {
	t.Helper()
	c := h.imapClient(user, password)
	defer c.Close()
	box, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	must(t, err)
	sums := make(map[[32]byte]int)
	if box.NumMessages == 0 {
		return sums
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	var set imap.SeqSet
	set.AddRange(1, box.NumMessages)
	msgs, err := c.Fetch(set, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
	must(t, err)
	for _, m := range msgs {
		body, err := afterPrefix(m.FindBodySection(whole))
		if err != nil {
			t.Errorf("%s: message %d: %v", user, m.SeqNum, err)
			continue
		}
		sums[sha256.Sum256(body)]++
	}
	return sums
}

// afterPrefix takes the delivery's own header fields off: a letter of these tests begins with From.
func afterPrefix(b []byte) ([]byte, error) {
	const first = "From: Camille Exemple"
	for i := 0; i+len(first) <= len(b); i++ {
		if (i == 0 || b[i-1] == '\n') && string(b[i:i+len(first)]) == first {
			return b[i:], nil
		}
	}
	return nil, errors.New("not one of the letters sent")
}
