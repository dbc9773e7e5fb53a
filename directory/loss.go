package directory

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
)

// LossError says what a refused feed has lost.
type LossError struct {
	Held, Lost int      // addresses, or rows where Rows is set
	Rows       bool     // Held is the number of rows a day ago, or less
	Max        float64  // share allowed
	Domains    []string // that lost most, at most five, as "domain (lost of held)"
}

func (e *LossError) Error() string {
	what := ""
	if e.Rows {
		what = " rows within a day"
	}
	return fmt.Sprintf("%v: %d of %d%s (%.1f %%, allowed %.1f %%); most at %s", ErrLoss, e.Lost, e.Held, what,
		100*float64(e.Lost)/float64(e.Held), 100*e.Max, strings.Join(e.Domains, ", "))
}

func (e *LossError) Unwrap() error { return ErrLoss }

// losses counts, by domain, the addresses of an image that another one lacks.
func losses(held, img *image) (all, lost int, domains []string) {
	type tally struct{ held, lost int }
	tallies := make(map[string]*tally)
	held.addresses(func(addr []byte) {
		all++
		gone := true
		img.each(addr, func(row) bool { gone = false; return false })
		domain := addr[bytes.LastIndexByte(addr, '@')+1:]
		t := tallies[string(domain)]
		if t == nil {
			t = &tally{}
			tallies[string(domain)] = t
		}
		t.held++
		if gone {
			lost++
			t.lost++
		}
	})
	names := make([]string, 0, len(tallies))
	for name, t := range tallies {
		if t.lost > 0 {
			names = append(names, name)
		}
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := tallies[names[i]], tallies[names[j]]
		return a.lost > b.lost || a.lost == b.lost && names[i] < names[j]
	})
	for _, name := range names[:min(len(names), 5)] {
		domains = append(domains, fmt.Sprintf("%s (%d of %d)", name, tallies[name].lost, tallies[name].held))
	}
	return all, lost, domains
}

// checkLoss refuses an image that lost more than a share of the addresses held.
func checkLoss(held, img *image, most float64) error {
	if most >= 1 {
		return nil
	}
	all, lost, domains := losses(held, img)
	if lost == 0 || float64(lost) <= most*float64(all) {
		return nil
	}
	return &LossError{Held: all, Lost: lost, Max: most, Domains: domains}
}

// checkFall refuses an image whose number of rows fell by more than a share since the reference: many small losses are as
// bad as one.
func checkFall(ref reference, held, img *image, most float64) error {
	fall := ref.Rows - img.rows()
	if most >= 1 || fall <= 0 || float64(fall) <= most*float64(ref.Rows) {
		return nil
	}
	_, _, domains := losses(held, img)
	return &LossError{Held: ref.Rows, Lost: fall, Rows: true, Max: most, Domains: domains}
}
