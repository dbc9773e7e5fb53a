package store

import (
	"context"
	"errors"
	"fmt"
)

// passedOver counts what work in the background could not do and left behind, so that the rest is done.
type passedOver struct {
	count int
	first []error
}

const tellPassed = 5

func (p *passedOver) add(err error) {
	p.count++
	if len(p.first) < tellPassed {
		p.first = append(p.first, err)
	}
}

// err is nil where nothing was passed over.
func (p *passedOver) err(what string) error {
	if p.count == 0 {
		return nil
	}
	return fmt.Errorf("%s: %d passed over, mssd fsck says more; the first: %w", what, p.count, errors.Join(p.first...))
}

// commitEach commits a list by parts. A part that is refused is cut in two until pass is told of each one that cannot be
// done; the others are done. The error is one that ends the work.
func commitEach[T any](ctx context.Context, s *Store, list []T, commit func(part []T) error, pass func(T, error)) error {
	if len(list) == 0 {
		return nil
	}
	err := commit(list)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, s.Err() != nil, errors.Is(err, ErrClosed), errors.Is(err, ErrSlow):
		return err
	case len(list) == 1:
		pass(list[0], err)
		return nil
	}
	half := len(list) / 2
	if err := commitEach(ctx, s, list[:half], commit, pass); err != nil {
		return err
	}
	return commitEach(ctx, s, list[half:], commit, pass)
}
