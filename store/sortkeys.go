package store

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"

	bolt "go.etcd.io/bbolt"

	"mssd/message"
	"mssd/trace"
)

const (
	sortRoom  = 32 << 20 // octets of sort keys kept: those of some 100,000 messages
	sortEntry = 256      // octets of kept keys beside their texts
	sortPage  = 256      // keys looked up at once
	sortShare = 16       // keys that are worth a goroutine to make them
)

// sortCache keeps the sort keys of messages. A full one loses some, whichever the map yields first. The zero value is empty.
type sortCache struct {
	mu     sync.Mutex
	keys   map[trace.ID]message.SortKeys
	octets int
}

// fill looks up ids and yields the places of those it does not have, which it appends to missing.
func (c *sortCache) fill(ids []trace.ID, out []message.SortKeys, missing []int) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range ids {
		k, ok := c.keys[id]
		if !ok {
			missing = append(missing, i)
		}
		out[i] = k
	}
	return missing
}

func (c *sortCache) keep(id trace.ID, k message.SortKeys) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.keys[id]; ok {
		return
	}
	if c.keys == nil {
		c.keys = map[trace.ID]message.SortKeys{}
	}
	c.octets += k.Len() + sortEntry
	c.keys[id] = k
	for old, o := range c.keys {
		if c.octets <= sortRoom {
			break
		}
		delete(c.keys, old)
		c.octets -= o.Len() + sortEntry
	}
}

// clear forgets all keys: those of a BAL that was destroyed may be among them.
func (c *sortCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys, c.octets = nil, 0
}

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

// storedValue is what meta.db holds of a message, v nil where there is nothing.
type storedValue struct {
	id     trace.ID
	v      []byte
	sealed bool // read from the file
}

func (p storedValue) open(m *metaDB, bucket []byte) ([]byte, error) {
	if p.v == nil || !p.sealed {
		return p.v, nil
	}
	return m.s.keys.openDerived(p.id, string(bucket), p.v)
}

// stored reads the values of a bucket of the messages at the places of missing.
func (m *metaDB) stored(ids []trace.ID, missing []int, bucket []byte) ([]storedValue, error) {
	values := make([]storedValue, len(missing))
	for j, i := range missing {
		values[j].id = ids[i]
		if d, ok := m.waiting(ids[i]); ok {
			values[j].v = d.meta
			if bytes.Equal(bucket, bktText) {
				values[j].v = d.text
			}
		}
	}
	err := m.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		for j := range values {
			if p := &values[j]; p.v == nil {
				p.v, p.sealed = bytes.Clone(b.Get(keyID(p.id))), true
			}
		}
		return nil
	})
	if errors.Is(err, ErrCorrupt) {
		return values, nil // as if it were not there
	}
	return values, err
}

// share calls f for 0 to n-1 on as many goroutines as there are processors, each of which has at least least of them.
func share(n, least int, f func(j int)) {
	workers := min(runtime.GOMAXPROCS(0), (n+least-1)/least)
	part := func(w int) {
		for j := w; j < n; j += workers {
			f(j)
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { part(w) })
	}
	part(0)
	wg.Wait()
}
