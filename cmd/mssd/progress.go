package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	progressRewrite = 250 * time.Millisecond // between two states of the line on a terminal
	progressLines   = 10 * time.Second       // between two lines elsewhere
	progressWarmUp  = 2 * time.Second        // before a rate is told
)

// progress prints how far long work has come; its method tell is a store.Progress. On a terminal one line is written
// over and over; elsewhere a line is written every 10 seconds and at the end of each stage. It belongs to one
// goroutine.
type progress struct {
	w      io.Writer // nil: silent
	width  int       // columns of the terminal; 0: no terminal
	now    func() time.Time
	octets []string // stages that count octets; the others count things

	stage       string
	began       time.Time // of the stage
	from        int64     // done at the first word of the stage: work taken up again has some done already
	done, total int64
	printed     time.Time // when a line was written last
	shown       bool      // the state last told stands in a line
}

// newProgress prints to w, which is the standard error of a command. quiet: nothing is printed (--quiet, --json).
// The stages named in octets count octets, all others count things. The caller calls end when the work is over.
func newProgress(w io.Writer, quiet bool, octets ...string) *progress {
	p := &progress{now: time.Now, octets: octets}
	if !quiet {
		p.w = w
		if f, ok := w.(*os.File); ok {
			p.width = columns(f)
		}
	}
	return p
}

// columns is the width of a terminal, 0 where f is none.
func columns(f *os.File) int {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return 0
	}
	if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col >= 20 {
		return int(ws.Col)
	}
	return 80
}

// tell says how far it has come.
func (p *progress) tell(stage string, done, total int64) {
	if p.w == nil {
		return
	}
	now := p.now()
	if stage != p.stage {
		p.endStage(now)
		p.stage, p.began, p.from, p.printed = stage, now, done, now
		if p.width > 0 {
			p.printed = time.Time{} // at once
		}
	}
	p.done, p.total, p.shown = done, total, false
	pause := progressLines
	if p.width > 0 {
		pause = progressRewrite
	}
	if now.Sub(p.printed) >= pause {
		p.print(now)
	}
}

// end writes the last state of the last stage and leaves the line. It may be called again.
func (p *progress) end() {
	if p.w != nil {
		p.endStage(p.now())
		p.stage = ""
	}
}

func (p *progress) endStage(now time.Time) {
	if p.stage == "" {
		return
	}
	if !p.shown {
		p.print(now)
	}
	if p.width > 0 {
		fmt.Fprintln(p.w)
	}
}

func (p *progress) print(now time.Time) {
	p.printed, p.shown = now, true
	line := p.line(now)
	if p.width == 0 {
		fmt.Fprintln(p.w, line)
		return
	}
	if r := []rune(line); len(r) >= p.width { // a line that wraps could not be written over
		line = string(r[:p.width-1])
	}
	fmt.Fprintf(p.w, "\r%s\x1b[K", line)
}

// line is the state in words: stage, done/total, share, rate and time left.
func (p *progress) line(now time.Time) string {
	amount := func(n int64) string { return fmt.Sprint(n) }
	if slices.Contains(p.octets, p.stage) {
		amount = octets
	}
	if p.done == 0 && p.total == 0 {
		return p.stage // it has no count, or none yet
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", p.stage, amount(p.done))
	if p.total > 0 {
		fmt.Fprintf(&b, "/%s, %d%%", amount(p.total), min(100, int64(float64(p.done)/float64(p.total)*100)))
	}
	spent := now.Sub(p.began)
	if spent < progressWarmUp || p.done <= p.from {
		return b.String()
	}
	rate := float64(p.done-p.from) / spent.Seconds()
	fmt.Fprintf(&b, ", %s/s", amount(int64(rate+0.5)))
	if left := p.total - p.done; left > 0 {
		fmt.Fprintf(&b, ", %s left", remaining(float64(left)/rate))
	}
	return b.String()
}

// remaining is a time in seconds for people: two units at most.
func remaining(seconds float64) string {
	s := int64(min(seconds, 99*86400) + 0.999)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}
