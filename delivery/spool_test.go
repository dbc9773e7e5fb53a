package delivery

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// feedAll gives msg in windows of n octets.
func feedAll(c *lineCheck, msg []byte, n int) error {
	for len(msg) > 0 {
		k := min(n, len(msg))
		if err := c.feed(msg[:k]); err != nil {
			return err
		}
		msg = msg[k:]
	}
	return c.finish()
}

func TestLineCheck(t *testing.T) {
	hops := func(n int) string {
		return strings.Repeat("Received: from a by b; Sun, 22 Nov 2026 10:00:00 +0000\r\n", n) + "\r\nbody\r\n"
	}
	for _, tc := range []struct {
		name, msg string
		want      error
	}{
		{"plain", "Subject: a\r\n\r\nbody\r\n", nil},
		{"empty", "", nil},
		{"no final CRLF", "A: b\r\n\r\nx", nil},
		{"only CRLF", "\r\n\r\n\r\n", nil},
		{"8-bit", "A: \xc3\xa9\r\n\r\n\xe9\r\n", nil},
		{"bare LF", "A: b\r\n\r\nx\ny\r\n", ErrBareLF},
		{"LF first", "\nA: b\r\n", ErrBareLF},
		{"LF twice", "A: b\r\n\n", ErrBareLF},
		{"bare CR", "A: b\r\n\r\nx\ry\r\n", ErrBareCR},
		{"CR twice", "A: b\r\r\n", ErrBareCR},
		{"CR last", "A: b\r\n\r\nx\r", ErrBareCR},
		{"smuggling by LF.LF", "A: b\r\n\r\nx\n.\nMAIL FROM:<a@b>\r\n", ErrBareLF},
		{"smuggling by CR.CR", "A: b\r\n\r\nx\r.\rMAIL FROM:<a@b>\r\n", ErrBareCR},
		{"NUL", "A: b\r\n\r\nx\x00y\r\n", ErrNUL},
		{"100 hops", hops(100), nil},
		{"101 hops", hops(101), ErrHops},
		{"case and space", strings.Repeat("rEcEiVeD : x\r\n", 101), ErrHops},
		{"other fields with that beginning", strings.Repeat("Received-SPF: pass\r\nReceivedX: y\r\nReceive: z\r\n", 101), nil},
		{"folded lines are no fields", "A: b\r\n" + strings.Repeat(" Received: x\r\n", 101), nil},
		{"in the body", "A: b\r\n\r\n" + strings.Repeat("Received: x\r\n", 101), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, n := range []int{1, 2, 3, 7, 64, 1 << 20} {
				c := lineCheck{strict: true, maxReceived: 100, header: true}
				if err := feedAll(&c, []byte(tc.msg), n); !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
					t.Errorf("windows of %d octets: %v, want %v", n, err, tc.want)
				}
			}
		})
	}
	c := lineCheck{maxReceived: 100, header: true}
	if err := feedAll(&c, []byte("A: b\n\nx\ry\x00\r"), 3); err != nil {
		t.Errorf("not strict, and yet: %v", err)
	}
}

// FuzzLineCheck: the verdict does not depend on the windows, and is that of a plain reading.
func FuzzLineCheck(f *testing.F) {
	f.Add([]byte("A: b\r\n\r\nx\r\n"), uint8(3))
	f.Add([]byte("\r\r\n\n"), uint8(1))
	f.Add([]byte("a\r"), uint8(1))
	f.Fuzz(func(t *testing.T, msg []byte, n uint8) {
		c := lineCheck{strict: true, maxReceived: 100, header: true}
		err := feedAll(&c, msg, int(n)+1)
		rest := bytes.ReplaceAll(msg, []byte("\r\n"), nil)
		bad := bytes.ContainsAny(rest, "\r\n\x00")
		if !bad && err != nil && !errors.Is(err, ErrHops) {
			t.Errorf("%q: %v, want nothing", msg, err)
		}
		if bad && err == nil {
			// Removing CRLF can join a bare CR to a bare LF; then the message was bad all the same.
			t.Errorf("%q was taken", msg)
		}
	})
}

func BenchmarkLineCheck(b *testing.B) {
	line := []byte(strings.Repeat("x", 76) + "\r\n")
	msg := bytes.Repeat(line, 200_000/len(line))
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		c := lineCheck{strict: true, maxReceived: 100, header: true}
		if err := feedAll(&c, msg, 16<<10); err != nil {
			b.Fatal(err)
		}
	}
}
