package store

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/klauspost/compress/s2"

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

// Text is the words of a message, derived again from its body where they are missing. It is shared: never change
// it.
func (s *Store) Text(ctx context.Context, id MessageID) (message.Text, error) {
	var t [1]message.Text
	var bad error
	ids := []trace.ID{id}
	missing := s.meta.texts.fill(ids, t[:], nil)
	if len(missing) == 0 {
		return t[0], nil
	}
	err := s.meta.complete(ctx, ids, missing, t[:], func(_ int, err error) { bad = err })
	return t[0], cmp.Or(err, bad)
}

// Texts calls fn for each message in order until it returns false; outside of any transaction. A message that is
// gone meanwhile yields the empty Text. One whose words are not kept and whose body cannot be read is left out; when
// all others were shown, ErrMissing or ErrCorrupt says that there are such. The texts are shared: never change one.
func (s *Store) Texts(ctx context.Context, ids []MessageID, fn func(i int, t message.Text) bool) error {
	var unread error
	var pages [2]textsRead                              // one is looked at while the other is read
	defer func() { pages[0].wait(); pages[1].wait() }() // nothing goes on behind the caller's back
	pages[0].begin(ctx, s.meta, ids[:min(len(ids), textPage)])
	for n, from := 0, 0; from < len(ids); n, from = n+1, from+textPage {
		page, next := &pages[n%2], min(from+textPage, len(ids))
		page.wait()
		pages[(n+1)%2].begin(ctx, s.meta, ids[next:min(next+textPage, len(ids))])
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

// textsRead is a page of texts that is read, aside where that takes work.
type textsRead struct {
	texts   []message.Text
	missing []int
	bad     map[int]bool // cannot be read
	unread  error        // why the first of these cannot
	err     error        // none can
	done    chan struct{}
}

func (r *textsRead) begin(ctx context.Context, m *metaDB, ids []MessageID) {
	r.texts = slices.Grow(r.texts[:0], len(ids))[:len(ids)]
	r.bad, r.unread, r.err, r.done = nil, nil, ctx.Err(), nil
	r.missing = m.texts.fill(ids, r.texts, r.missing[:0])
	if r.err != nil || len(r.missing) == 0 {
		return
	}
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		r.err = m.complete(ctx, ids, r.missing, r.texts, func(i int, err error) {
			if !errors.Is(err, ErrNoMessage) {
				if r.bad == nil {
					r.bad = map[int]bool{}
				}
				r.bad[i], r.unread = true, cmp.Or(r.unread, err)
			}
		})
	}()
}

func (r *textsRead) wait() {
	if r.done != nil {
		<-r.done
	}
}

// complete fills out with the texts of ids at the places of missing. bad is told of each that has none: it is gone (ErrNoMessage), or its
// body cannot be read.
func (m *metaDB) complete(ctx context.Context, ids []trace.ID, missing []int, out []message.Text, bad func(i int, err error)) error {
	stored, err := m.stored(ids, missing, bktText)
	if err != nil {
		return err
	}
	ok := make([]bool, len(missing))
	share(len(missing), textShare, func(j int) {
		v, err := stored[j].open(m, bktText)
		if err != nil || v == nil {
			return
		}
		if t, err := m.unpack(v); err == nil {
			out[missing[j]], ok[j] = t, true
		}
	})
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
