package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mssd/trace"
)

// Doomed says what a BAL holds that is or was to be destroyed, and who could still open it afterwards.
type Doomed struct {
	BAL       BAL // as it is now; Messages and Octets are those of its mailboxes
	Mailboxes int
	Members   int
	Expunged  int64    // messages that were expunged and could still come back
	Backups   []Backup // that have its key: with the master key of their day they open its mail
	Refused   error    // why it cannot be destroyed now (ErrNotClosed, ErrHeld, ErrDestroyed); nil: it can
}

// Shredded reports that nothing opens any more what the BAL held: its slot is overwritten, and no backup that this store
// knows of has its key.
func (d *Doomed) Shredded() bool { return d.BAL.Destroyed.KeyGone && len(d.Backups) == 0 }

// Doom says what DestroyBAL would do, or has done.
func (s *Store) Doom(addr Address) (Doomed, error) {
	b, err := s.BAL(addr)
	if err != nil {
		return Doomed{}, err
	}
	d := Doomed{BAL: b, Members: len(s.Members(b.ID))}
	switch {
	case b.State == Destroyed:
		d.Refused = ErrDestroyed
	case b.Held():
		d.Refused = ErrHeld
	case b.State != Closed:
		d.Refused = fmt.Errorf("%w: it is %s", ErrNotClosed, b.State)
	}
	s.mu.RLock()
	d.Mailboxes = len(s.mem.bals[b.ID].names)
	s.mu.RUnlock()
	if d.Expunged, _, err = s.CountExpunged(b.ID); err != nil {
		return d, err
	}
	open := s.openMoments()
	all, err := s.Backups()
	for _, m := range open {
		if !slices.ContainsFunc(all, func(k Backup) bool { return k.ID == m.ID }) {
			all = append(all, m)
		}
	}
	for _, k := range all {
		if k.Holds(b) {
			d.Backups = append(d.Backups, k)
		}
	}
	return d, err
}

// DestroyBAL destroys a closed BAL: when it returns without an error the decision and the overwritten key are durable,
// and its records go in the background, at the next start too. The record and the address of the BAL stay for ever. The
// events are in the commit of the decision. ErrNotClosed, ErrHeld, ErrDestroyed: nothing was done. After any other error
// BAL(…).Destroyed tells how far it came; what was decided is done, now or at the next start.
func (s *Store) DestroyBAL(ctx context.Context, addr Address, events ...trace.Event) (Doomed, error) {
	d, err := s.Doom(addr)
	if err != nil {
		return d, err
	}
	if d.Refused != nil {
		return d, d.Refused
	}
	if _, err := s.Commit(ctx, &Batch{Ops: []Op{destroyBAL{addr}}, Events: events}); err != nil {
		return d, err // the committer sees to the rest of what it decides after ErrSlow
	}
	defer s.wipeSoon()
	ctx = context.WithoutCancel(ctx) // who asked may go away
	if err := s.shred(ctx, d.BAL.ID); err != nil {
		return d, err
	}
	after, err := s.Doom(addr)
	d.BAL.State, d.BAL.Destroyed, d.Backups = after.BAL.State, after.BAL.Destroyed, after.Backups
	return d, err
}

// shred overwrites the key of a BAL for which that was decided, and forgets what memory holds of it.
func (s *Store) shred(ctx context.Context, id BALID) error {
	_, err := s.commitPatiently(ctx, &Batch{Ops: []Op{shredKey{id}}})
	s.meta.forgetBAL(id)
	s.meta.heads.clear()
	s.meta.sieves.clear()
	s.meta.sort.clear()
	return err
}

func (s *Store) wipeSoon() {
	select {
	case s.wipe <- struct{}{}:
	default:
	}
}

// finishDestroying finishes, at start and when it is told, what was begun.
func (s *Store) finishDestroying(ctx context.Context) {
	t := time.NewTicker(sweepPause) // after an error
	defer t.Stop()
	for {
		if err := s.FinishDestroying(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
			s.log.Error("destruction of a BAL is not finished", "err", err)
		}
		select {
		case <-s.wipe:
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// FinishDestroying finishes the destruction of all BALs for which it was decided; the store does it by itself. A fault of
// one does not keep the others.
func (s *Store) FinishDestroying(ctx context.Context) error {
	var errs []error
	work := false
	for _, b := range s.BALs() {
		if b.State != Destroyed || b.Destroyed.Wiped {
			continue
		}
		work = true
		if err := s.wipeAll(ctx, b); err != nil {
			errs = append(errs, fmt.Errorf("BAL %s: %w", b.Address, err))
		}
	}
	if work {
		s.sweepMu.Lock()
		defer s.sweepMu.Unlock()
		errs = append(errs, s.forgetDead(ctx, &Swept{})) // the files of its bodies
	}
	return errors.Join(errs...)
}

func (s *Store) wipeAll(ctx context.Context, b BAL) error {
	if !b.Destroyed.KeyGone {
		if err := s.shred(ctx, b.ID); err != nil {
			return err
		}
	}
	for {
		res, err := s.commitPatiently(ctx, &Batch{Ops: []Op{wipeBAL{b.ID}}})
		if err != nil {
			return err
		}
		for _, id := range res.Ops[0].wiped {
			s.meta.forget(id) // it may be sealed under the key that is gone
		}
		now, err := s.BALByID(b.ID)
		if err != nil || now.Destroyed.Wiped {
			s.log.Info("a destroyed BAL left no record but its own", "bal", string(b.Address))
			return err
		}
	}
}
