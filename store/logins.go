package store

import (
	"context"
	"time"

	"mssd/trace"
)

// Logins is what the trace knows of the logins of each BAL.
type Logins struct {
	Last  map[Address]time.Time // the latest login of each BAL that had one
	Since time.Time             // the trace reaches back to here: what was before nobody knows. Zero: it is empty
}

// LastLogins reads the whole trace, a page at a time: half a second for a million events.
func (s *Store) LastLogins(ctx context.Context) (Logins, error) {
	l := Logins{Last: map[Address]time.Time{}}
	if err := s.flush(ctx); err != nil && s.Err() == nil {
		return l, err
	}
	look := func(e trace.Event) {
		if l.Since.IsZero() {
			l.Since = e.Time
		}
		if e.Kind == trace.Login && e.BAL != "" && e.Time.After(l.Last[Address(e.BAL)]) {
			l.Last[Address(e.BAL)] = e.Time
		}
	}
	from, err := s.traceStart(time.Time{})
	for err == nil && from != 0 {
		if err = ctx.Err(); err == nil {
			from, err = s.tracePage(from, look)
		}
	}
	return l, err
}
