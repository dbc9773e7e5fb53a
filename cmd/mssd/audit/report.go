package audit

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Outcome of a case.
type Outcome string

const (
	Pass      Outcome = "PASS"
	Fail      Outcome = "FAIL"
	NotPlayed Outcome = "NOT PLAYED"
)

// Report is what an operator hands over. Times are RFC 3339.
type Report struct {
	Program     string      `json:"program"`
	Version     string      `json:"version"`
	Date        time.Time   `json:"date"`
	Host        string      `json:"host"`
	System      string      `json:"system"`
	Tested      string      `json:"tested"`
	Authorities []Authority `json:"authorities,omitempty"`
	Notes       []string    `json:"notes,omitempty"`
	Cases       []Result    `json:"cases"`
	Passed      int         `json:"passed"`
	Failed      int         `json:"failed"`
	NotPlayed   int         `json:"not_played"`
	Seconds     float64     `json:"seconds"`
	// OK: every case was played, or could not be, and none failed.
	OK bool `json:"ok"`
}

// Authority is a certificate authority of the report's own.
type Authority struct {
	Subject string `json:"subject"`
	SHA256  string `json:"sha256"` // of the certificate
}

// Result is one case.
type Result struct {
	Number  int     `json:"number"`
	Name    string  `json:"name"`
	Audit   string  `json:"audit,omitempty"` // the sub-domain of the trust space's own audit that this resembles
	Outcome Outcome `json:"outcome"`
	Why     string  `json:"why,omitempty"` // of one that was not played
	Steps   []Step  `json:"steps,omitempty"`
}

// Step is one thing done in a case.
type Step struct {
	Does     string   `json:"does,omitempty"`
	Expected string   `json:"expected"`
	Seen     string   `json:"seen"`
	Stored   *int64   `json:"stored,omitempty"` // messages that the instance has more than before
	Trace    string   `json:"trace,omitempty"`  // the line of the trace that proves it
	Faults   []string `json:"faults,omitempty"`
	Passed   bool     `json:"passed"`

	event string // Trace, in short
}

// Add numbers the results of a stage and counts them.
func (r *Report) Add(results []Result) {
	for _, c := range results {
		c.Number = len(r.Cases) + 1
		switch c.Outcome {
		case Pass:
			r.Passed++
		case NotPlayed:
			r.NotPlayed++
		default:
			r.Failed++
		}
		r.Cases = append(r.Cases, c)
	}
	r.OK = r.Failed == 0 && r.Passed > 0
}

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-10s %s\n", key, value)
		}
	}
	fmt.Fprintf(&b, "%s: report\n\n", r.Program)
	line("version", r.Version)
	line("date", r.Date.UTC().Format(time.RFC3339))
	line("host", r.Host)
	line("system", r.System)
	line("tested", r.Tested)
	for _, a := range r.Authorities {
		line("authority", fmt.Sprintf("%s, SHA-256 %s", a.Subject, a.SHA256))
	}
	for _, n := range r.Notes {
		line("note", n)
	}
	for _, c := range r.Cases {
		c.text(&b)
	}
	fmt.Fprintf(&b, "\n%d cases: %d PASS, %d FAIL, %d not played, in %.1f s\n", len(r.Cases), r.Passed, r.Failed, r.NotPlayed, r.Seconds)
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Result) text(b *strings.Builder) {
	fmt.Fprintf(b, "\n%3d  %-10s  %s", c.Number, c.Outcome, c.Name)
	if c.Audit != "" {
		fmt.Fprintf(b, "  [%s]", c.Audit)
	}
	b.WriteByte('\n')
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(b, "     %-10s  %s\n", key, value)
		}
	}
	line("why", c.Why)
	for _, s := range c.Steps {
		line("step", s.Does)
		line("expected", s.Expected)
		kept := ""
		if s.Stored != nil {
			kept = fmt.Sprintf("; stored: %d", *s.Stored)
		}
		line("seen", s.Seen+kept)
		line("trace", s.event)
		for _, f := range s.Faults {
			line("FAULT", f)
		}
	}
}
