package store

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"syscall"
	"time"
)

// A disk can take minutes for a sync, or refuse to be written. Nobody waits for it without bound: Commit gives up
// waiting after Options.CommitWait with ErrSlow, while its batch stays with the committer and may still be stored. What
// is repeated meanwhile is caught by Once.

const defaultCommitWait = time.Minute

func (s *Store) commitWait() time.Duration {
	switch {
	case s.opt.CommitWait == 0:
		return defaultCommitWait
	case s.opt.CommitWait < 0:
		return 1<<63 - 1
	}
	return s.opt.CommitWait
}

// How far a request has come.
const (
	queued   = iota
	taken    // the committer works on it
	left     // nobody waits any more: while queued it is thrown away, once taken the committer cleans up
	answered // the reply is on its way
)

// take is told by the committer that it begins; false: nobody waits for this batch any more.
func (r *request) take() bool { return r.state.CompareAndSwap(queued, taken) }

// answer hands the reply to who waits, or cleans up where nobody does (heard is false then).
func (r *request) answer(rep reply) (heard bool) {
	if r.state.CompareAndSwap(taken, answered) {
		r.done <- rep
		return true
	}
	if rep.err != nil {
		for _, b := range r.batch.bodies() {
			b.drop()
		}
	}
	return false
}

// leave gives up waiting. stays: the committer has the batch and may store it. ok false: the answer is there.
func (r *request) leave() (stays, ok bool) {
	if r.state.CompareAndSwap(queued, left) {
		return false, true
	}
	// Before the committer can see that nobody waits: from then on the body is its own.
	for _, b := range r.batch.bodies() {
		b.held.Store(true)
	}
	if r.state.CompareAndSwap(taken, left) {
		return true, true
	}
	for _, b := range r.batch.bodies() {
		b.held.Store(false)
	}
	return false, false
}

// slowness knows since when the committer has been at one group.
type slowness struct {
	epoch time.Time    // of the monotonic clock
	since atomic.Int64 // nanoseconds after epoch; 0: idle
	noted atomic.Bool  // the log said so
}

func (w *slowness) begin() { w.since.Store(max(int64(time.Since(w.epoch)), 1)) }
func (w *slowness) end()   { w.since.Store(0) }

func (w *slowness) waiting() time.Duration {
	if at := w.since.Load(); at != 0 {
		return time.Since(w.epoch) - time.Duration(at)
	}
	return 0
}

// Slow is ErrSlow while a write has been waiting for the disk for longer than Options.CommitWait: the fronts then take
// nothing new.
func (s *Store) Slow() error {
	if d := s.slow.waiting(); d > s.commitWait() {
		if !s.slow.noted.Swap(true) {
			s.log.Error("the disk does not answer: nothing new is taken until it does", "dur", d)
		}
		return fmt.Errorf("%w: a write has been waiting for %v", ErrSlow, d.Round(time.Second))
	}
	return nil
}

// waitFor waits for the answer to a request that is queued.
func (s *Store) waitFor(r *request, giveUp <-chan time.Time) (*Result, error) {
	select {
	case rep := <-r.done:
		return rep.res, rep.err
	case <-s.stopped:
		return s.await(r.done)
	case <-s.failed: // the committer may hang in an index that was given up
		return s.await(r.done)
	case <-giveUp:
	}
	stays, ok := r.leave()
	switch {
	case !ok:
		return s.await(r.done)
	case stays:
		s.log.Warn("a write takes long: given up waiting, it may still be stored", "dur", s.commitWait())
		return nil, fmt.Errorf("%w: given up waiting, it may still be stored", ErrSlow)
	}
	return nil, fmt.Errorf("%w: not begun", ErrSlow)
}

// WriteFault is why the last body could not be begun, nil when it could: a disk that went read-only, or away.
func (s *Store) WriteFault() error {
	if p := s.writeFault.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *Store) noteWrite(err error) {
	if err == nil {
		if s.writeFault.Load() != nil {
			s.writeFault.Store(nil)
		}
		return
	}
	s.writeFault.Store(&err)
}

// noWrite names a disk that cannot be written for now: full, read-only, failing, or not there.
func noWrite(err error) error {
	if err = noSpace(err); err == nil || errors.Is(err, ErrNoSpace) {
		return err
	}
	for _, e := range []error{syscall.EROFS, syscall.EIO, syscall.ENODEV, syscall.ENXIO, syscall.ESTALE, syscall.ENOTDIR, fs.ErrNotExist, fs.ErrPermission} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrNoWrite, err)
		}
	}
	return err
}
