package store

import "context"

// Problem is a broken invariant.
type Problem struct {
	Invariant int // its number in the package comment
	Text      string
}

// Check tests the invariants.
func (s *Store) Check(ctx context.Context) ([]Problem, error) { return nil, nil }
