package store

import (
	"errors"
	"time"
)

// ErrNotInactive says that a BAL has been used, or noticed, or is not active any more.
var ErrNotInactive = errors.New("store: the BAL is not inactive as expected")

// NoteInactive notes, in the commit that brings the notice into its INBOX, that a BAL was told of its inactivity: there is never
// a second notice before it is used again. Since is the BAL's Silent that the notice speaks of: where that is not so any more,
// the batch is refused (ErrNotInactive).
type NoteInactive struct {
	BAL   BALID
	Since time.Time
}

func (NoteInactive) isOp() {}

func (a *apply) noteInactive(op NoteInactive, res *OpResult) error {
	w, err := a.bal(op.BAL)
	if err != nil {
		return err
	}
	if w.State != Active || !w.Use.Noticed.IsZero() || !w.Silent().Equal(op.Since) {
		return ErrNotInactive
	}
	w.Use.Noticed, res.BAL = seconds(a.now), w.ID
	return nil
}

// Believed is the clock, or the time that the last sweep believed where the clock is far ahead of it (ClockWait): by this time
// nothing is called old because a clock jumped.
func (s *Store) Believed() time.Time {
	now := s.now().UTC()
	s.mu.RLock()
	last := s.mem.sys.believed()
	s.mu.RUnlock()
	if !last.IsZero() && now.Sub(last) > clockStep {
		return last
	}
	return now
}
