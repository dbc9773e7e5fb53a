package store

import (
	"context"
	"errors"

	"mssd/message"
	"mssd/trace"
)

const (
	sortRoom  = 32 << 20 // octets of sort keys kept: those of some 100,000 messages
	sortEntry = 256      // octets of kept keys beside their texts
	sortPage  = 256      // keys looked up at once
	sortShare = 16       // keys that are worth a goroutine to make them
)

// SortKeys is what SORT compares of each message, in the order of ids. A message that is gone, or that cannot be read, has the
// keys of one without any field.
func (s *Store) SortKeys(ctx context.Context, ids []MessageID) ([]message.SortKeys, error) {
	out := make([]message.SortKeys, len(ids))
	missing := make([]int, 0, sortPage)
	for from := 0; from < len(ids); from += sortPage {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		page := ids[from:min(from+sortPage, len(ids))]
		missing = s.meta.sort.fill(page, out[from:], missing[:0])
		if len(missing) == 0 {
			continue
		}
		if err := s.meta.makeSortKeys(ctx, page, missing, out[from:]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// makeSortKeys makes the keys of the messages at the places of missing, on all processors, and keeps them.
func (m *metaDB) makeSortKeys(ctx context.Context, ids []trace.ID, missing []int, out []message.SortKeys) error {
	stored, err := m.stored(ids, missing, bktMeta)
	if err != nil {
		return err
	}
	ok := make([]bool, len(missing))
	share(len(missing), sortShare, func(j int) {
		v, err := stored[j].open(m, bktMeta)
		if err != nil || v == nil {
			return
		}
		if meta, err := message.ParseMeta(v); err == nil && meta.Version == message.MetaVersion {
			out[missing[j]], ok[j] = meta.SortKeys(), true
		}
	})
	for j, i := range missing {
		if !ok[j] {
			meta, _, err := m.derive(ctx, ids[i])
			if unreadable(err) || errors.Is(err, ErrNoMessage) {
				continue
			} else if err != nil {
				return err
			}
			out[i] = meta.SortKeys()
		}
		m.sort.keep(ids[i], out[i])
	}
	return nil
}
