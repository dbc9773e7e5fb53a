package store

import (
	"context"
	"time"
)

// A clock that jumps must not wipe mailboxes. The sweep keeps the last time that it believed (sysRec.SweepTime) and goes
// along with the clock only by steps of up to two days. After a longer one, forwards or backwards, which may as well be
// a long stop of the daemon, it waits: for a day during which the daemon runs, or until the operator says that the
// clock is right. Meanwhile nothing more becomes due. What comes into a mailbox or is expunged under a clock that went
// back gets the believed time, so that it is not old at once when the clock is set right.

const (
	clockStep = 48 * time.Hour // steps of the clock that need no confirmation
	clockWait = 24 * time.Hour // for longer ones, of a running daemon
)

// ClockWait says that the clock jumped and is not believed yet. The zero value: it is.
type ClockWait struct {
	Believed time.Time     // the time that sweeping stands at
	Clock    time.Time     // what the clock said
	Left     time.Duration // until it is believed, if the daemon goes on running
}

// Waiting reports that the clock is not believed.
func (w ClockWait) Waiting() bool { return !w.Believed.IsZero() }

// ClockWait tells what the last sweep thought of the clock.
func (s *Store) ClockWait() ClockWait {
	s.clockMu.Lock()
	defer s.clockMu.Unlock()
	w := s.wait
	if w.Waiting() {
		w.Left = max(clockWait-(s.uptime()-s.seen), 0)
	}
	return w
}

// setSweepTime moves the believed time.
type setSweepTime struct{ at time.Time }

func (setSweepTime) isOp() {}

// notBefore is the time of this group, or the believed one where the clock went back behind it; seconds.
func (a *apply) notBefore() time.Time {
	now := seconds(a.now)
	if last := a.sys.believed(); now.Before(last) {
		return last
	}
	return now
}

// believed is the time that the last sweep believed. An index of an earlier day has none, and a new one before the first
// sweep: then it is that of the last body, zero where nothing was stored yet.
func (r *sysRec) believed() time.Time {
	if r.SweepTime.IsZero() && r.LastID != 0 {
		return seconds(r.LastID.Time())
	}
	return r.SweepTime
}

// believedTime is the time by which things are due.
func (s *Store) believedTime(ctx context.Context, trust bool) (time.Time, error) {
	now := seconds(s.now())
	s.mu.RLock()
	last := s.mem.sys.believed()
	s.mu.RUnlock()
	if last.IsZero() {
		return now, nil // nothing was stored yet
	}
	step := now.Sub(last)
	if !trust && (step > clockStep || step < -clockStep) && !s.waitedFor(now, last) {
		if now.Before(last) {
			return now, nil
		}
		return last, nil
	}
	s.clockMu.Lock()
	s.wait = ClockWait{}
	s.clockMu.Unlock()
	if step < 0 && step >= -clockStep && !trust {
		return now, nil // it will come again
	}
	_, err := s.commitPatiently(ctx, &Batch{Ops: []Op{setSweepTime{now}}})
	return now, err
}

// waitedFor begins the wait for a clock that jumped, or reports that it is over.
func (s *Store) waitedFor(now, last time.Time) bool {
	s.clockMu.Lock()
	defer s.clockMu.Unlock()
	if !s.wait.Waiting() {
		s.seen = s.uptime()
		s.log.Warn("the clock jumped since the last sweep; nothing is expunged or removed for its age for a day, unless mssd sweep --trust-clock says that it is right",
			"believed", last, "clock", now)
	}
	s.wait = ClockWait{Believed: last, Clock: now}
	return s.uptime()-s.seen >= clockWait
}
