package store

import (
	"bytes"
	"errors"
	"runtime"
	"sync"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// derivedCache keeps what was made of messages, at most room octets of it. A full one loses some, whichever the map yields first.
type derivedCache[T any] struct {
	room int
	size func(T) int // octets, with what an entry takes beside

	mu     sync.Mutex
	kept   map[trace.ID]T
	octets int
}

// fill looks up ids and yields the places of those it does not have, which it appends to missing.
func (c *derivedCache[T]) fill(ids []trace.ID, out []T, missing []int) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range ids {
		v, ok := c.kept[id]
		if !ok {
			missing = append(missing, i)
		}
		out[i] = v
	}
	return missing
}

func (c *derivedCache[T]) keep(id trace.ID, v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.kept[id]; ok {
		return
	}
	if c.kept == nil {
		c.kept = map[trace.ID]T{}
	}
	c.octets += c.size(v)
	c.kept[id] = v
	for old, o := range c.kept {
		if c.octets <= c.room {
			break
		}
		delete(c.kept, old)
		c.octets -= c.size(o)
	}
}

// clear forgets all: what a BAL that was destroyed held may be among it.
func (c *derivedCache[T]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept, c.octets = nil, 0
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
		b, octets := tx.Bucket(bucket), 0
		for j := range values {
			if p := &values[j]; p.v == nil {
				p.v, p.sealed = b.Get(keyID(p.id)), true
				octets += len(p.v)
			}
		}
		kept := make([]byte, 0, octets) // they are the transaction's; one copy of all
		for j := range values {
			if p := &values[j]; p.sealed && p.v != nil {
				at := len(kept)
				kept = append(kept, p.v...)
				p.v = kept[at:]
			}
		}
		return nil
	})
	if err != nil {
		for j := range values {
			if values[j].sealed { // what it points to may be gone with the transaction
				values[j].v = nil
			}
		}
	}
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
