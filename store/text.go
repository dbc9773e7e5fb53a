package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	bolt "go.etcd.io/bbolt"

	"mssd/message"
	"mssd/trace"
)

const (
	maxTextLen = 256 << 10 // octets of a text, unpacked
	textRoom   = 64 << 20  // octets of unpacked texts kept: those of 10,000 messages of 5 KB
	textEntry  = 128       // octets of a kept text beside its words
	textPage   = 256       // texts looked up at once
	textShare  = 16        // texts that are worth a goroutine to unpack them
)

// textCache keeps unpacked texts. A full one loses some, whichever the map yields first. The zero value is empty.
type textCache struct {
	mu     sync.Mutex
	texts  map[trace.ID]message.Text
	octets int
}

// fill looks up ids and yields the places of those it does not have.
func (c *textCache) fill(ids []trace.ID, out []message.Text) (missing []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range ids {
		t, ok := c.texts[id]
		if !ok {
			missing = append(missing, i)
		}
		out[i] = t
	}
	return missing
}

func (c *textCache) keep(id trace.ID, t message.Text) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.texts[id]; ok {
		return
	}
	if c.texts == nil {
		c.texts = map[trace.ID]message.Text{}
	}
	c.octets += len(t.Header) + len(t.Body) + textEntry
	c.texts[id] = t
	for old, o := range c.texts {
		if c.octets <= textRoom {
			break
		}
		delete(c.texts, old)
		c.octets -= len(o.Header) + len(o.Body) + textEntry
	}
}

// clear forgets all texts: those of a BAL that was destroyed may be among them.
func (c *textCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts, c.octets = nil, 0
}

// Text is the words of a message, derived again from its body where they are missing. It is shared: never change
// it.
func (s *Store) Text(ctx context.Context, id MessageID) (message.Text, error) {
	var t [1]message.Text
	var bad error
	err := s.meta.page(ctx, []trace.ID{id}, t[:], func(_ int, err error) { bad = err })
	return t[0], cmp.Or(err, bad)
}

// Texts calls fn for each message in order until it returns false; outside of any transaction. A message that is
// gone meanwhile yields the empty Text. One whose words are not kept and whose body cannot be read is left out; when
// all others were shown, ErrMissing or ErrCorrupt says that there are such. The texts are shared: never change one.
func (s *Store) Texts(ctx context.Context, ids []MessageID, fn func(i int, t message.Text) bool) error {
	var unread error
	ahead := s.meta.read(ctx, ids[:min(len(ids), textPage)])
	defer func() { <-ahead }() // nothing goes on behind the caller's back
	for from := 0; from < len(ids); from += textPage {
		page := <-ahead
		// While these are looked at the next ones are unpacked.
		next := min(from+textPage, len(ids))
		ahead = s.meta.read(ctx, ids[next:min(next+textPage, len(ids))])
		if page.err != nil {
			return page.err
		}
		unread = cmp.Or(unread, page.unread)
		for i := range page.texts {
			if !page.bad[i] && !fn(from+i, page.texts[i]) {
				return nil
			}
		}
	}
	return unread
}

// textsRead is a page of texts.
type textsRead struct {
	texts  []message.Text
	bad    map[int]bool // cannot be read
	unread error        // why the first of these cannot
	err    error        // none can
}

// read reads a page aside. It comes once; after that, and of no ids, there is nothing at once.
func (m *metaDB) read(ctx context.Context, ids []MessageID) <-chan textsRead {
	done := make(chan textsRead, 1)
	if len(ids) == 0 {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		r := textsRead{texts: make([]message.Text, len(ids))}
		if r.err = ctx.Err(); r.err == nil {
			r.err = m.page(ctx, ids, r.texts, func(i int, err error) {
				if !errors.Is(err, ErrNoMessage) {
					if r.bad == nil {
						r.bad = map[int]bool{}
					}
					r.bad[i], r.unread = true, cmp.Or(r.unread, err)
				}
			})
		}
		done <- r
	}()
	return done
}

// page fills out with the texts of ids. bad is told of each that has none: it is gone (ErrNoMessage), or its body
// cannot be read.
func (m *metaDB) page(ctx context.Context, ids []trace.ID, out []message.Text, bad func(i int, err error)) error {
	missing := m.texts.fill(ids, out)
	if len(missing) == 0 {
		return nil
	}
	packed, err := m.packed(ids, missing)
	if err != nil {
		return err
	}
	ok := make([]bool, len(missing))
	m.unpackAll(packed, func(j int, t message.Text) { out[missing[j]], ok[j] = t, true })
	for j, i := range missing {
		if !ok[j] {
			_, t, err := m.derive(ctx, ids[i])
			if unreadable(err) || errors.Is(err, ErrNoMessage) {
				bad(i, err)
				continue
			} else if err != nil {
				return err
			}
			out[i] = t
		}
		m.texts.keep(ids[i], out[i])
	}
	return nil
}

// packedText is a text as it is stored, v nil where there is none.
type packedText struct {
	id     trace.ID
	v      []byte
	sealed bool // read from the file
}

// packed reads the texts of ids at the places of missing.
func (m *metaDB) packed(ids []trace.ID, missing []int) ([]packedText, error) {
	packed := make([]packedText, len(missing))
	for j, i := range missing {
		packed[j].id = ids[i]
		if d, ok := m.waiting(ids[i]); ok {
			packed[j].v = d.text
		}
	}
	err := m.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bktText)
		for j := range packed {
			if p := &packed[j]; p.v == nil {
				p.v, p.sealed = bytes.Clone(b.Get(keyID(p.id))), true
			}
		}
		return nil
	})
	if errors.Is(err, ErrCorrupt) {
		return packed, nil // as if it were not there
	}
	return packed, err
}

// unpackAll opens and unpacks on all processors what is worth it; those that cannot be unpacked are left out.
func (m *metaDB) unpackAll(packed []packedText, put func(j int, t message.Text)) {
	workers := min(runtime.GOMAXPROCS(0), (len(packed)+textShare-1)/textShare)
	part := func(w int) {
		for j := w; j < len(packed); j += workers {
			p := packed[j]
			if p.v == nil {
				continue
			}
			var err error
			if p.sealed {
				p.v, err = m.s.keys.openDerived(p.id, string(bktText), p.v)
			}
			if err != nil {
				continue
			}
			if t, err := m.unpack(p.v); err == nil {
				put(j, t)
			}
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { part(w) })
	}
	part(0)
	wg.Wait()
}

// textS2 is before a text that is packed with S2, which is unpacked in a fifth of the time that zstd takes for so little. Texts
// that were stored before are zstd frames, which begin with 0x28.
const textS2 = 1

func packText(raw []byte) []byte {
	b := make([]byte, 1+s2.MaxEncodedLen(len(raw)))
	b[0] = textS2
	return slices.Clone(b[:1+len(s2.EncodeBetter(b[1:], raw))])
}

// unpack reads a text as packText, or former versions, have written it.
func (m *metaDB) unpack(v []byte) (message.Text, error) {
	var raw []byte
	var err error
	if len(v) > 0 && v[0] == textS2 {
		if n, lenErr := s2.DecodedLen(v[1:]); lenErr != nil || n > maxTextLen {
			return message.Text{}, corrupt("text")
		}
		raw, err = s2.Decode(nil, v[1:])
	} else {
		raw, err = m.dec.DecodeAll(v, nil)
	}
	if err != nil || len(raw) > maxTextLen {
		return message.Text{}, corrupt("text")
	}
	return message.ParseText(raw)
}
