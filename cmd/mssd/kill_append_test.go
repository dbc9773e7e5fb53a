package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// together is how many messages one APPEND of TestKillAppend brings.
const together = 4

// appender sends APPENDs of several messages over a connection of its own.
type appender struct {
	conn *tls.Conn
	br   *bufio.Reader
}

func newAppender(h *house, user, password string) (*appender, error) {
	conn, err := tls.Dial("tcp", h.imaps, &tls.Config{RootCAs: h.roots, ServerName: "localhost"})
	if err != nil {
		return nil, err
	}
	a := &appender{conn, bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return a, a.do(fmt.Sprintf("LOGIN %q %q", user, password))
}

// do sends a command and waits until it is OK.
func (a *appender) do(command string) error {
	if _, err := io.WriteString(a.conn, "x "+command+"\r\n"); err != nil {
		return err
	}
	for {
		line, err := a.br.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "x OK"):
			return nil
		case strings.HasPrefix(line, "x "):
			return fmt.Errorf("%s", strings.TrimSpace(line))
		}
	}
}

// set is the nth APPEND: always the same octets.
func set(n int) string {
	b := strings.Builder{}
	b.WriteString("APPEND Archive")
	for i := range together {
		raw := fmt.Sprintf("Subject: set %d\r\nX-Part: %d\r\n\r\n%s", n, i, strings.Repeat("0123456789abcdef\r\n", 20+i*40))
		fmt.Fprintf(&b, " (\\Seen) {%d+}\r\n%s", len(raw), raw)
	}
	return b.String()
}

// TestKillAppend kills the daemon (-9) while sessions append several messages at a time: of each command all are there or
// none, all where it was acknowledged; what was not is sent again, and then all are there once.
func TestKillAppend(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	user, password := h.addBAL("pharmacie@test-officines.mssante.fr", "ORG")
	var next, heard atomic.Int64
	var acked sync.Map
	for range 2 {
		before := heard.Load()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				a, err := newAppender(h, user, password)
				if err != nil {
					return // killed already
				}
				defer a.conn.Close()
				for {
					n := int(next.Add(1)) - 1
					if a.do(set(n)) != nil {
						return // no OK seen
					}
					acked.Store(n, true)
					heard.Add(1)
				}
			})
		}
		for end := time.Now().Add(time.Minute); heard.Load() < before+5 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // the moment of the kill, at random
		h.kill()
		wg.Wait()
		h.start()
	}
	there := setsThere(t, h, user, password)
	again, err := newAppender(h, user, password)
	must(t, err)
	defer again.conn.Close()
	confirmed, resent := 0, 0
	for n := range int(next.Load()) {
		_, ok := acked.Load(n)
		switch {
		case ok && there[n] != together:
			t.Errorf("acknowledged, and %d of %d are there", there[n], together)
		case there[n] != 0 && there[n] != together:
			t.Errorf("not acknowledged, and %d of %d are there", there[n], together)
		}
		if ok {
			confirmed++
			continue
		}
		resent++
		must(t, again.do(set(n)))
	}
	if confirmed == 0 {
		t.Fatal("nothing was acknowledged: the test shows nothing")
	}
	there = setsThere(t, h, user, password)
	for n := range int(next.Load()) {
		if there[n] != together {
			t.Errorf("in the end %d of %d are there", there[n], together)
		}
	}
	if len(there) != int(next.Load()) {
		t.Errorf("%d sets, want %d", len(there), next.Load())
	}
	if out, err := h.run("fsck"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	must(t, h.stop())
	t.Logf("%d commands acknowledged, %d sent again", confirmed, resent)
}

// setsThere counts the messages of each set.
func setsThere(t *testing.T, h *house, user, password string) map[int]int {
	t.Helper()
	c := h.imapClient(user, password)
	defer c.Close()
	_, err := c.Select("Archive", nil).Wait()
	must(t, err)
	there := map[int]int{}
	section := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true}
	all := imap.SeqSet{}
	all.AddRange(1, 0)
	msgs, err := c.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	must(t, err)
	for _, m := range msgs {
		n := 0
		if _, err := fmt.Fscanf(bytes.NewReader(m.FindBodySection(section)), "Subject: set %d\r\n", &n); err != nil {
			t.Fatal(err)
		}
		there[n]++
	}
	return there
}
