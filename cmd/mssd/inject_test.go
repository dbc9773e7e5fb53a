package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"strings"
	"testing"
)

// TestPowerCutInjected lets the nth call of a kind of a thread fail inside the real daemon, or kills it there, by strace. It never
// acknowledges what it then does not have: it refuses for now, or ends with an error. What got no 250 is sent again after
// the next start, and each letter is there once.
func TestPowerCutInjected(t *testing.T) {
	strace := needStrace(t)
	h := newHouse(t, "")
	h.start("--create")
	const address = "pharmacie0@test-officines.mssante.fr"
	user, password := h.addBAL(address, "ORG")
	must(t, h.stop())

	long := os.Getenv("MSSD_CRASH_ROUNDS") != ""
	upTo, step := 3, 2 // strace counts the calls of each thread, of which there are some
	if long {
		upTo, step = 10, 1
	}
	type kind struct{ call, what string }
	next, turn := 0, 0
	refused, ended := map[kind]int{}, map[kind]int{}
	var kinds []kind
	for _, call := range []string{"fdatasync", "fsync", "pwrite64", "rename,renameat,renameat2"} {
		for _, what := range []string{"error=EIO", "error=ENOSPC", "signal=KILL"} {
			k := kind{call, what}
			kinds = append(kinds, k)
			for n := 1 + turn%step; n <= upTo; n += step {
				h.under = []string{strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", call, what, n), "--"}
				var again []int
				err := h.tryStart()
				if err == nil {
					again = sendSome(t, h, &next, address)
					err = h.stop()
				}
				h.under = nil
				switch {
				case err != nil:
					ended[k]++
				case len(again) > 0:
					refused[k]++
				}
				if len(again) > 0 {
					h.start()
					c, err := h.dial()
					must(t, err)
					for _, n := range again {
						if _, err := c.send("274990000000145@"+patientDomain, []string{address}, letter(n, 900, address)); err != nil {
							t.Fatalf("letter %d sent again: %v", n, err)
						}
					}
					c.quit()
					must(t, h.stop())
				}
			}
			turn++
		}
	}
	h.start()
	got := fetchHashes(t, h, user, password)
	for n := range next {
		sum := sha256.Sum256(letter(n, 900, address))
		if got[sum] != 1 {
			t.Errorf("letter %d is there %d times", n, got[sum])
		}
		delete(got, sum)
	}
	if len(got) > 0 {
		t.Errorf("%d messages that nobody sent", len(got))
	}
	if out, err := h.run("fsck"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	must(t, h.stop())
	var table strings.Builder
	sum := 0
	for _, k := range kinds {
		fmt.Fprintf(&table, "| %s | %s | %d | %d |\n", k.call, k.what, refused[k], ended[k])
		sum += refused[k] + ended[k]
	}
	if sum == 0 {
		t.Error("no fault was felt: the test shows nothing")
	}
	t.Logf("%d letters, each there once:\n| call | fault | refused for now | ended |\n|---|---|---|---|\n%s", next, &table)
}

// sendSome sends five letters and yields those that got no 250. A refusal must be one for now.
func sendSome(t *testing.T, h *house, next *int, address string) (again []int) {
	t.Helper()
	c, err := h.dial()
	for range 5 {
		n := *next
		*next++
		if err == nil {
			_, err = c.send("274990000000145@"+patientDomain, []string{address}, letter(n, 900, address))
		}
		if err == nil {
			continue
		}
		again = append(again, n)
		if refusal := (*textproto.Error)(nil); errors.As(err, &refusal) {
			if refusal.Code/100 != 4 {
				t.Errorf("letter %d: %v, want a refusal for now", n, err)
			}
			if c != nil { // refused at its greeting
				c.conn.Close()
			}
			c, err = h.dial() // as a peer does it
		}
	}
	if err == nil {
		c.quit()
	}
	return again
}
