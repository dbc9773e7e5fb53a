package store

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

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
	era    int // how often all was forgotten
}

// now is the era of what is read from here on, for keep.
func (c *derivedCache[T]) now() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.era
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

// derivedPage is how many are looked up at once.
const derivedPage = 512

// all is what there is of ids, in their order, after complete made and kept what was missing. The values that complete reads lie in room.
func (c *derivedCache[T]) all(ids []trace.ID, complete func(page []trace.ID, missing []int, out []T, room *[]byte) error) ([]T, error) {
	out := make([]T, len(ids))
	missing := make([]int, 0, min(len(ids), derivedPage))
	var room []byte
	for from := 0; from < len(ids); from += derivedPage {
		to := min(from+derivedPage, len(ids))
		if missing = c.fill(ids[from:to], out[from:to], missing[:0]); len(missing) == 0 {
			continue
		}
		if err := complete(ids[from:to], missing, out[from:to], &room); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keep keeps what was read in an era, which may be over: a BAL that was destroyed since may have had it.
func (c *derivedCache[T]) keep(id trace.ID, v T, era int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.kept[id]; ok || era != c.era {
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
	c.kept, c.octets, c.era = nil, 0, c.era+1
}

// storedValue is what meta.db holds of a message, v nil where there is nothing.
type storedValue struct {
	id     trace.ID
	v      []byte
	sealed bool // read from the file
}

// open opens a value in its own place.
func (p storedValue) open(m *metaDB, bucket []byte) ([]byte, error) {
	if p.v == nil || !p.sealed {
		return p.v, nil
	}
	return m.s.keys.openDerived(p.id, string(bucket), p.v, true)
}

// stored reads the values of a bucket of the messages at the places of missing. They lie in room, which grows as needed.
func (m *metaDB) stored(ids []trace.ID, missing []int, bucket []byte, room *[]byte) ([]storedValue, error) {
	values := make([]storedValue, len(missing))
	for j, i := range missing {
		values[j].id = ids[i]
		if d, ok := m.waiting(ids[i]); ok {
			values[j].v = d.of(bucket)
		}
	}
	err := m.view(func(tx *bolt.Tx) error {
		c, octets := tx.Bucket(bucket).Cursor(), 0
		var next []byte // behind the last one: messages that came one after the other are often asked for so
		var v []byte
		for j := range values {
			p := &values[j]
			if p.v != nil {
				continue
			}
			k := keyID(p.id)
			if !bytes.Equal(next, k) {
				next, v = c.Seek(k)
			}
			if bytes.Equal(next, k) {
				p.v, octets = v, octets+len(v)
				next, v = c.Next()
			}
			p.sealed = true
		}
		kept := slices.Grow((*room)[:0], octets) // they are the transaction's; one copy of all
		for j := range values {
			if p := &values[j]; p.sealed && p.v != nil {
				at := len(kept)
				kept = append(kept, p.v...)
				p.v = kept[at:len(kept):len(kept)]
			}
		}
		*room = kept
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

// share calls f for 0 to n-1 on as many goroutines as there are processors, each of which has at least least of them. A panic in one
// is one of the caller.
func share(n, least int, f func(j int)) {
	workers := max(1, min(runtime.GOMAXPROCS(0), (n+least-1)/least))
	var broken atomic.Pointer[any]
	part := func(w int) {
		defer func() {
			if p := recover(); p != nil {
				broken.CompareAndSwap(nil, &p)
			}
		}()
		for j := w; j < n && broken.Load() == nil; j += workers {
			f(j)
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { part(w) })
	}
	part(0)
	wg.Wait()
	if p := broken.Load(); p != nil {
		panic(*p)
	}
}
