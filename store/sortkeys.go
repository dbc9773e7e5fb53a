package store

import (
	"cmp"
	"context"
	"errors"

	"mssd/message"
	"mssd/trace"
)

const (
	sortRoom  = 32 << 20 // octets of sort keys kept: those of some 100,000 messages
	sortEntry = 256      // octets of kept keys beside their texts
	sortShare = 16       // keys that are worth a goroutine to make them
)

// SortKeys is what SORT compares of each message, in the order of ids. A message that is gone, or that cannot be read, has the
// keys of one without any field.
func (s *Store) SortKeys(ctx context.Context, ids []MessageID) ([]message.SortKeys, error) {
	return s.meta.sort.all(ids, func(page []trace.ID, missing []int, out []message.SortKeys, room *[]byte) error {
		return s.meta.makeSortKeys(ctx, page, missing, out, room)
	})
}

// makeSortKeys makes the keys of the messages at the places of missing, on all processors, and keeps them.
func (m *metaDB) makeSortKeys(ctx context.Context, ids []trace.ID, missing []int, out []message.SortKeys, room *[]byte) error {
	era := m.sort.now()
	stored, err := m.stored(ids, missing, bktMeta, room)
	if err = cmp.Or(err, ctx.Err()); err != nil {
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
		m.sort.keep(ids[i], out[i], era)
	}
	return nil
}
