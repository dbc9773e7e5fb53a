package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

const (
	sweepPause = time.Hour
	purgePage  = 500  // expunged messages that one commit lets go
	skipPage   = 1000 // BALs looked at in one read transaction
	retirePage = 2000 // messages that one commit expunges for their age
	// Sweeper is who acts in the events of the sweep.
	Sweeper = "system:sweep"
)

// sweeper is what the sweep knows between its rounds.
type sweeper struct {
	sweepMu sync.Mutex // one sweep at a time
	oldest  map[MailboxID]time.Time
	uptime  func() time.Duration // monotonic; a seam for tests
	clockMu sync.Mutex
	wait    ClockWait
	seen    time.Duration // uptime when the wait began
	fault   atomic.Pointer[error]
}

// SweepFault is what the last sweep could not do, nil when it did all.
func (s *Store) SweepFault() error {
	if p := s.sweeper.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// swept notes how a sweep ended; one that was broken off says nothing.
func (s *Store) swept(ctx context.Context, err error) {
	switch {
	case err == nil:
		s.sweeper.fault.Store(nil)
	case ctx.Err() == nil && !errors.Is(err, ErrClosed):
		s.sweeper.fault.Store(&err)
	}
}

func upSince(t time.Time) func() time.Duration { return func() time.Duration { return time.Since(t) } }

// Swept is what a sweep did.
type Swept struct {
	Retired int       // messages expunged for their age in a mailbox
	Purged  int       // expunged messages let go for good
	Bodies  int       // files removed
	Clock   ClockWait // not zero: the clock is not believed, what became due by it waits
}

// sweepEvery sweeps at start and every hour.
func (s *Store) sweepEvery(ctx context.Context) {
	t := time.NewTicker(sweepPause)
	defer t.Stop()
	for {
		if err := s.sweepHour(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
			s.log.Warn("sweep", "err", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) sweepHour(ctx context.Context) error {
	if s.opt.Aging {
		_, err := s.Sweep(ctx, false)
		return err
	}
	s.sweepMu.Lock()
	defer s.sweepMu.Unlock()
	err := s.forgetDead(ctx, &Swept{})
	s.swept(ctx, err)
	return err
}

// Sweep expunges what is in its mailbox too long, lets go what was expunged long enough ago, and removes the bodies that
// nobody has any more, each in commits of bounded size; the store does it every hour. A clock that jumped is not believed
// for a day unless trustClock says that it is right (ClockWait). What is damaged is passed over and is part of the error: the
// rest is done all the same.
func (s *Store) Sweep(ctx context.Context, trustClock bool) (Swept, error) {
	s.sweepMu.Lock()
	defer s.sweepMu.Unlock()
	var done Swept
	now, err := s.believedTime(ctx, trustClock)
	if err != nil {
		return done, err
	}
	done.Clock = s.ClockWait()
	err = errors.Join(s.retireOld(ctx, now, &done), s.purgeDue(ctx, now.Add(-s.retainExpunged()), &done), s.forgetDead(ctx, &done))
	s.swept(ctx, err)
	return done, err
}

// purgeDue lets expunged messages go that were expunged up to limit. A fault of one does not keep the others.
func (s *Store) purgeDue(ctx context.Context, limit time.Time, done *Swept) error {
	var faults passedOver
	for from := keyBAL(1); from != nil; {
		op, next, err := s.nextDue(from, limit)
		if err == nil {
			err = s.commitPurge(ctx, op, done, &faults)
		}
		if err != nil {
			return errors.Join(err, faults.err("expunged messages cannot be let go"))
		}
		from = next
	}
	return faults.err("expunged messages cannot be let go")
}

func (s *Store) commitPurge(ctx context.Context, op purge, done *Swept, faults *passedOver) error {
	op.event = trace.Event{Kind: trace.Expunged, Person: Sweeper, Attrs: []trace.Attr{{Key: trace.KeyAct, Value: "purge"}}}
	return commitEach(ctx, s, op.which, func(part []ExpungedID) error {
		op.which = part
		res, err := s.commitPatiently(ctx, &Batch{Ops: []Op{op}})
		if err == nil {
			done.Purged += res.Ops[0].purged // none of a BAL that is held since
		}
		return err
	}, func(id ExpungedID, err error) { faults.add(fmt.Errorf("BAL %d, %s: %w", op.bal, id, err)) })
}

// nextDue finds the first BAL from a key on that has something to let go; next is the key to go on with, nil at the end.
func (s *Store) nextDue(from []byte, limit time.Time) (op purge, next []byte, err error) {
	err = s.read(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNames[bktExpunged]).Cursor()
		k, _ := c.Seek(from)
		for range skipPage {
			switch {
			case k == nil:
			case !keyIs(k, 20): // Check reports it
				k, _ = c.Next()
				continue
			default:
				op.bal = balOfKey(k)
				k = s.dueOf(c, k, limit, &op)
			}
			if k == nil || len(op.which) > 0 {
				break
			}
		}
		next = bytes.Clone(k)
		return nil
	})
	return op, next, err
}

// dueOf notes what is to be let go of one BAL, from the key k on; it yields the key where the next look begins.
func (s *Store) dueOf(c *bolt.Cursor, k []byte, limit time.Time, op *purge) []byte {
	if !s.held(op.bal) {
		for ; k != nil && len(op.which) < purgePage; k, _ = c.Next() {
			if !keyIs(k, 20) {
				continue
			}
			if id := expungedID(k); balOfKey(k) != op.bal || id.At.After(limit) {
				break
			} else {
				op.which = append(op.which, id)
			}
		}
		if k == nil || keyIs(k, 20) && (balOfKey(k) != op.bal || !expungedID(k).At.After(limit)) {
			return k
		}
	}
	if op.bal+1 == 0 {
		return nil
	}
	k, _ = c.Seek(keyBAL(op.bal + 1))
	return k
}

// held reports a BAL of which nothing may go: under legal hold, unavailable, destroyed, or not there.
func (s *Store) held(id BALID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.mem.bals[id]
	return b == nil || b.Held() || b.fault != nil || b.State == Destroyed
}

// retentionOf is after how many days a message of a mailbox is expunged, 0 never.
func (s *Store) retentionOf(r *boxRec) uint32 {
	switch r.RetentionDays {
	case 0:
		return s.DefaultRetention(r.SpecialUse)
	case Never:
		return 0
	}
	return r.RetentionDays
}

// DefaultRetention is the retention, in days, of mailboxes of a special use that have none of their own; 0: never.
func (s *Store) DefaultRetention(specialUse string) uint32 {
	if specialUse == "" {
		return 0
	}
	return s.opt.Retention[specialUse]
}

// aging is a mailbox with a retention.
type aging struct {
	ref  Ref
	addr Address
	days uint32
}

func (s *Store) agingBoxes() (list []aging) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, b := range s.mem.boxes {
		if b.rec.Messages == 0 {
			continue
		}
		if days := s.retentionOf(&b.rec); days > 0 {
			if bal := s.mem.bals[b.rec.BAL]; bal != nil && !bal.Held() && bal.fault == nil {
				list = append(list, aging{b.rec.Ref, bal.Address, days})
			}
		}
	}
	slices.SortFunc(list, func(a, b aging) int { return bytes.Compare(keyBox(a.ref), keyBox(b.ref)) })
	return list
}

// retireOld expunges what is in its mailbox for longer than its retention. Where the oldest message of a mailbox is
// known from a former round its rows are read only when that one is due: later ones have later save dates.
func (s *Store) retireOld(ctx context.Context, now time.Time, done *Swept) error {
	var errs []error
	known := s.oldest
	s.oldest = map[MailboxID]time.Time{}
	for _, m := range s.agingBoxes() {
		limit := now.AddDate(0, 0, -int(m.days))
		if old, ok := known[m.ref.Mailbox]; ok && !old.Before(limit) {
			s.oldest[m.ref.Mailbox] = old
			continue
		}
		if err := s.retireBox(ctx, m, now, limit, done); err != nil {
			if ctx.Err() != nil || errors.Is(err, ErrClosed) || errors.Is(err, ErrFailed) {
				return err
			}
			errs = append(errs, fmt.Errorf("mailbox %d: %w", m.ref.Mailbox, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) retireBox(ctx context.Context, m aging, now, limit time.Time, done *Swept) error {
	var due []Run
	var err error
	oldest := now // of those that stay and those to come
	n := 0
	flush := func() bool {
		if n == 0 {
			return true
		}
		ev := trace.Event{Kind: trace.Expunged, Person: Sweeper, BAL: string(m.addr), Mailbox: uint32(m.ref.Mailbox),
			Attrs: []trace.Attr{{Key: trace.KeyAct, Value: "retention"}}}
		var res *Result
		res, err = s.commitPatiently(ctx, &Batch{Ops: []Op{retire{m.ref, m.days, limit, due}}, Events: []trace.Event{ev}})
		if err == nil {
			done.Retired += count(res.Ops[0].UIDs)
		}
		due, n = nil, 0
		return err == nil
	}
	err2 := s.Rows(ctx, m.ref, everything, func(r Row) bool {
		if !r.SaveDate.Before(limit) {
			if r.SaveDate.Before(oldest) {
				oldest = r.SaveDate
			}
			return true
		}
		due, n = appendUID(due, r.UID), n+1
		return n < retirePage || flush()
	})
	if err == nil && err2 == nil {
		flush()
	}
	if err = errors.Join(err, err2); err == nil {
		s.oldest[m.ref.Mailbox] = oldest
	}
	return err
}
