package guard

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A flood writes some lines a minute, one network does not hide the others, who is known has room of its own, and what was
// left out is said.
func TestLinesAreBounded(t *testing.T) {
	var out bytes.Buffer
	l := lines{log: slog.New(slog.NewTextHandler(&out, nil))}
	now := time.Now()
	kind := lineKind{"handshake failed", ""}
	written := func(n int, who func(i int) string, proven bool) (w int) {
		for i := range n {
			if l.take(now, slog.LevelInfo, kind, who(i), proven) {
				w++
			}
		}
		return w
	}
	one := func(int) string { return "192.0.2.1" }
	if n := written(1000, one, false); n != linesOfOne {
		t.Errorf("%d lines of one network", n)
	}
	if n := written(1, func(int) string { return "192.0.2.2" }, false); n != 1 {
		t.Error("another network has no line")
	}
	if n := written(100_000, func(i int) string { return fmt.Sprint(i) }, false); n != linesOfAll-linesOfOne-1 {
		t.Errorf("%d lines of many networks", n)
	}
	if n := written(100, func(int) string { return "CN=smtp.test" }, true); n != linesOfProven {
		t.Errorf("%d lines of a known peer", n)
	}
	if len(l.one) > linesOfAll+1 {
		t.Errorf("%d networks are remembered", len(l.one))
	}
	if !l.take(now, slog.LevelWarn, lineKind{"refused", "550 5.7.1"}, "192.0.2.1", false) {
		t.Error("another kind has no line")
	}
	now = now.Add(lineWindow)
	if n := written(1, one, false); n != 1 {
		t.Error("the next minute begins anew")
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="handshake failed" more=100981`) {
		t.Errorf("what was left out: %q", got)
	}
}

// Whoever reaches a balancer can make it connect for nothing as often as it likes.
func TestBadHeadersAreNotALineEach(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	b := Behind(inner, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, slog.New(slog.NewTextHandler(&out, nil)))
	ended := make(chan error)
	go func() { _, err := b.Accept(); ended <- err }()
	const n = 100
	for range n {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "EHLO x\r\n")
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatal(err)
		}
		c.Close()
	}
	b.Close()
	<-ended
	if got := out.String(); strings.Count(got, "\n") != linesOfOne+1 || !strings.Contains(got, fmt.Sprint("more=", n-linesOfOne)) {
		t.Errorf("%d lines:\n%s", strings.Count(got, "\n"), got)
	}
}
