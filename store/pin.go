package store

import (
	"context"
	"sync/atomic"
)

// pinning lets those who read many bodies keep them from being removed.
type pinning struct {
	removing chan struct{} // cap 1: taken while bodies are removed
	pins     atomic.Int64  // grows only with removing taken
}

func newPinning() pinning { return pinning{removing: make(chan struct{}, 1)} }

// pin keeps every body that the index names from being removed, until unpin. A removal that has begun is ended before:
// that may take as long as the disk does.
func (s *Store) pin(ctx context.Context) error {
	select {
	case s.removing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.failed:
		return s.Err()
	}
	s.pins.Add(1)
	<-s.removing
	return nil
}

// Pins is how many read bodies that are kept for them.
func (s *Store) Pins() int { return int(s.pins.Load()) }

func (s *Store) unpin() { s.pins.Add(-1) }
