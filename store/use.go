package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"mssd/trace"
)

// When a BAL was last used stands in its own record. It rides on the commit that writes the event of a login, or of mail
// that was read, down: no login waits for it, nothing is synced for it, and a kill loses what it loses of the trace, the
// last second. The record is written anew when it is useStep behind.

// useStep is how far Use.Last may lie behind the latest login.
const useStep = time.Hour

// Use says when a BAL was last used.
type Use struct {
	// Since is from when on its logins are known, and count: it was made, or became active again. Zero: it is of an index
	// older than this, or was made anew from bodies (Usage).
	Since time.Time
	Last  time.Time // latest login, or reading of mail; zero: none since Since
	// Noticed is when a notice of its inactivity came into its INBOX; zero: none since it was last used.
	Noticed time.Time
}

// Silent is since when nobody has used an active BAL, as far as is known; zero: nobody knows.
func (b BAL) Silent() time.Time {
	if b.Use.Since.IsZero() || b.Use.Last.After(b.Use.Since) {
		return b.Use.Last
	}
	return b.Use.Since
}

// Inactive reports an active BAL that nobody has used for so many days.
func (b BAL) Inactive(now time.Time, days int) bool {
	return b.State == Active && !b.Silent().IsZero() && !b.Silent().After(now.AddDate(0, 0, -days))
}

// used notes an event that shows a person in a BAL.
func (a *apply) used(e trace.Event) {
	if e.Kind != trace.Login && e.Kind != trace.Fetched || e.BAL == "" {
		return
	}
	id, ok := a.byAddr[Address(e.BAL)]
	if !ok {
		if id, ok = a.s.mem.byAddr[Address(e.BAL)]; !ok {
			return
		}
	}
	now := a.s.mem.bals[id]
	if w := a.bals[id]; w != nil {
		now = &w.balState
	}
	at := seconds(e.Time)
	if now == nil || now.fault != nil || now.State == Destroyed || now.Use.Noticed.IsZero() && at.Before(now.Use.Last.Add(useStep)) {
		return
	}
	if w, err := a.bal(id); err == nil {
		w.Use.Last, w.Use.Noticed = later(w.Use.Last, at), time.Time{}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// activated begins the counting of the days that a BAL is not used when it becomes active.
func (w *balWork) activated(before State, now time.Time) {
	if w.State == Active && before != Active {
		w.Use.Since, w.Use.Noticed = seconds(now), time.Time{}
	}
}

// learnUse sets what the trace says of a BAL whose record says nothing.
type learnUse struct {
	bal BALID
	use Use
}

func (learnUse) isOp() {}

func (a *apply) learnUse(op learnUse) error {
	w, err := a.bal(op.bal)
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrDestroyed) {
		return nil // meanwhile
	}
	if err != nil {
		return err
	}
	if w.Use.Since.IsZero() {
		w.Use.Since, w.Use.Last = op.use.Since, later(op.use.Last, w.Use.Last)
	}
	return nil
}

// learnPage is how many records one commit sets.
const learnPage = 500

// Usage is every BAL, with all logins so far in Use. Once it reads the whole trace, for the BALs whose records say nothing:
// those of an index that is older than Use, and those that were made anew from bodies, of which nothing is known before the
// trace began.
func (s *Store) Usage(ctx context.Context) ([]BAL, error) {
	if err := s.flush(ctx); err != nil && s.Err() == nil {
		return nil, err
	}
	if err := s.learn(ctx); err != nil {
		return nil, err
	}
	return s.BALs(), nil
}

func (s *Store) learn(ctx context.Context) error {
	var blank []BAL
	damaged := map[BALID]bool{}
	for _, f := range s.Unavailable() {
		damaged[f.BAL] = true // nothing of it is written
	}
	for _, b := range s.BALs() {
		if !damaged[b.ID] && b.State != Destroyed && b.Use.Since.IsZero() {
			blank = append(blank, b)
		}
	}
	if len(blank) == 0 {
		return nil
	}
	last, since, err := s.tracedUse(ctx)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(blank, learnPage) {
		batch := &Batch{}
		for _, b := range part {
			batch.Ops = append(batch.Ops, learnUse{b.ID, Use{Since: later(seconds(since), b.Created), Last: seconds(last[b.Address])}})
		}
		if _, err := s.Commit(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// tracedUse is the latest use of each BAL that stands in the trace, and how far back that reaches; half a second for a
// million events.
func (s *Store) tracedUse(ctx context.Context) (last map[Address]time.Time, since time.Time, err error) {
	last = map[Address]time.Time{}
	look := func(e trace.Event) {
		if since.IsZero() {
			since = e.Time
		}
		if (e.Kind == trace.Login || e.Kind == trace.Fetched) && e.BAL != "" && e.Time.After(last[Address(e.BAL)]) {
			last[Address(e.BAL)] = e.Time
		}
	}
	from, err := s.traceStart(time.Time{})
	for err == nil && from != 0 {
		if err = ctx.Err(); err == nil {
			from, err = s.tracePage(from, look)
		}
	}
	if since.IsZero() {
		since = s.now()
	}
	return last, since, err
}
