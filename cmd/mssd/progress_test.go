package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// paper is a progress printer with a clock of its own.
func paper(width int, octets ...string) (*progress, *strings.Builder, func(time.Duration)) {
	var out strings.Builder
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	p := newProgress(&out, false, octets...)
	p.width, p.now = width, func() time.Time { return now }
	return p, &out, func(d time.Duration) { now = now.Add(d) }
}

func TestProgressInLines(t *testing.T) {
	p, out, pass := paper(0, "bodies")
	p.tell("bodies", 0, 10<<20)
	pass(9 * time.Second)
	p.tell("bodies", 1<<20, 10<<20)
	if out.Len() != 0 {
		t.Fatalf("printed before 10 seconds: %q", out)
	}
	pass(time.Second)
	p.tell("bodies", 2<<20, 10<<20)
	pass(5 * time.Second)
	p.tell("bodies", 10<<20, 10<<20)
	p.tell("rows", 400, 0) // taken up again at 400
	pass(4 * time.Second)
	p.tell("rows", 800, 0)
	p.end()
	p.end()
	want := "bodies: 2.0 MiB/10.0 MiB, 20%, 204.8 KiB/s, 40s left\n" +
		"bodies: 10.0 MiB/10.0 MiB, 100%, 682.7 KiB/s\n" +
		"rows: 800, 100/s\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out, want)
	}
}

func TestProgressOnTerminal(t *testing.T) {
	p, out, pass := paper(30)
	for i := range int64(101) {
		p.tell("messages", i*10, 1000)
		pass(100 * time.Millisecond)
	}
	p.end()
	s := out.String()
	if n := strings.Count(s, "\r"); n < 30 || n > 42 {
		t.Errorf("10 seconds at 250 ms are 40 states at most, got %d", n)
	}
	for state := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\r") {
		if state = strings.TrimSuffix(state, "\x1b[K"); len(state) >= 30 {
			t.Errorf("%q would wrap on a terminal of 30 columns", state)
		}
	}
	if strings.Count(s, "\n") != 1 || !strings.Contains(s, "\rmessages: 1000/1000, 100%") || !strings.HasSuffix(s, "\x1b[K\n") {
		t.Errorf("the last state is not left behind on its line: %q", s)
	}
}

func TestProgressSilent(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out, true)
	p.tell("messages", 1, 2)
	p.tell("more", 1, 2)
	p.end()
	if out.Len() != 0 {
		t.Errorf("quiet, but it said %q", out.String())
	}
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newProgress(f, false).width != 0 {
		t.Error("a file is taken for a terminal")
	}
}

func TestRemaining(t *testing.T) {
	for seconds, want := range map[float64]string{0.2: "1s", 59: "59s", 61: "1m01s", 3661: "1h01m", 90000: "1d01h", 1e30: "99d00h"} {
		if got := remaining(seconds); got != want {
			t.Errorf("%v seconds: %q, want %q", seconds, got, want)
		}
	}
}

// TestProgressWithoutCount tells steps that count nothing by their name alone.
func TestProgressWithoutCount(t *testing.T) {
	p, out, _ := paper(0)
	p.tell("syncing", 0, 0)
	p.tell("messages", 0, 7)
	p.end()
	if want := "syncing\nmessages: 0/7, 0%\n"; out.String() != want {
		t.Errorf("got %q, want %q", out, want)
	}
}
