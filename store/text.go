package store

import (
	"bytes"
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
	headRoom   = 32 << 20  // octets of headers kept: those of some 70,000 messages
	textEntry  = 128       // octets of a kept text beside its words
	textPage   = 256       // texts looked up at once
	textShare  = 16        // texts that are worth a goroutine to unpack them
)

// Text is the words of a message, derived again from its body where they are missing. It is shared: never change
// it.
func (s *Store) Text(ctx context.Context, id MessageID) (message.Text, error) {
	return s.meta.one(ctx, id, &s.meta.texts)
}

// Header is Text without the words of the body, which is then said to be cut.
func (s *Store) Header(ctx context.Context, id MessageID) (message.Text, error) {
	return s.meta.one(ctx, id, &s.meta.heads)
}

func (m *metaDB) one(ctx context.Context, id MessageID, cache *derivedCache[message.Text]) (message.Text, error) {
	r := textsRead{cache: cache}
	r.begin(ctx, m, []MessageID{id})
	r.wait()
	return r.texts[0], cmp.Or(r.err, r.gone, r.unread)
}

// Texts calls fn for each message in order until it returns false; outside of any transaction. A message that is
// gone meanwhile yields the empty Text. One whose words are not kept and whose body cannot be read is left out; when
// all others were shown, ErrMissing or ErrCorrupt says that there are such. The texts are shared: never change one.
func (s *Store) Texts(ctx context.Context, ids []MessageID, fn func(i int, t message.Text) bool) error {
	return s.meta.each(ctx, ids, &s.meta.texts, fn)
}

// Headers is Texts without the words of bodies, which are then said to be cut: memory holds those of many more messages.
func (s *Store) Headers(ctx context.Context, ids []MessageID, fn func(i int, t message.Text) bool) error {
	return s.meta.each(ctx, ids, &s.meta.heads, fn)
}

func (m *metaDB) each(ctx context.Context, ids []MessageID, cache *derivedCache[message.Text], fn func(i int, t message.Text) bool) error {
	var unread error
	pages := [2]textsRead{{cache: cache}, {cache: cache}} // one is looked at while the other is read
	defer func() { pages[0].wait(); pages[1].wait() }()   // nothing goes on behind the caller's back
	pages[0].begin(ctx, m, ids[:min(len(ids), textPage)])
	for n, from := 0, 0; from < len(ids); n, from = n+1, from+textPage {
		page, next := &pages[n%2], min(from+textPage, len(ids))
		page.wait()
		pages[(n+1)%2].begin(ctx, m, ids[next:min(next+textPage, len(ids))])
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
	cache   *derivedCache[message.Text]
	texts   []message.Text
	missing []int
	bad     map[int]bool // cannot be read
	unread  error        // why the first of these cannot
	gone    error        // one is no more
	err     error        // none can
	done    chan struct{}
}

func (r *textsRead) begin(ctx context.Context, m *metaDB, ids []MessageID) {
	r.texts = slices.Grow(r.texts[:0], len(ids))[:len(ids)]
	r.bad, r.unread, r.gone, r.err, r.done = nil, nil, nil, ctx.Err(), nil
	r.missing = r.cache.fill(ids, r.texts, r.missing[:0])
	if r.cache == &m.heads {
		r.missing = slices.DeleteFunc(r.missing, func(i int) bool { return m.headInMemory(ids[i], &r.texts[i]) })
	}
	if r.err != nil || len(r.missing) == 0 {
		return
	}
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		r.err = m.complete(ctx, ids, r, func(i int, err error) {
			if errors.Is(err, ErrNoMessage) {
				r.gone = err
				return
			}
			if r.bad == nil {
				r.bad = map[int]bool{}
			}
			r.bad[i], r.unread = true, cmp.Or(r.unread, err)
		})
	}()
}

func (r *textsRead) wait() {
	if r.done != nil {
		<-r.done
	}
}

// headInMemory looks for a header among the texts.
func (m *metaDB) headInMemory(id MessageID, head *message.Text) bool {
	var t [1]message.Text
	if len(m.texts.fill([]MessageID{id}, t[:], nil)) > 0 {
		return false
	}
	*head = headOf(t[0])
	m.heads.keep(id, *head)
	return true
}

// headOf is a text without its body; it holds no more memory than it needs.
func headOf(t message.Text) message.Text {
	return message.Text{Header: bytes.Clone(t.Header), HeaderCut: t.HeaderCut, BodyCut: true}
}

// complete reads the texts of ids that are missing. bad is told of each that has none: it is gone (ErrNoMessage), or its body cannot be
// read.
func (m *metaDB) complete(ctx context.Context, ids []trace.ID, r *textsRead, bad func(i int, err error)) error {
	keep := func(t message.Text) message.Text { return t }
	if r.cache == &m.heads {
		keep = headOf
	}
	stored, err := m.stored(ids, r.missing, bktText)
	if err != nil {
		return err
	}
	ok := make([]bool, len(r.missing))
	share(len(r.missing), textShare, func(j int) {
		v, err := stored[j].open(m, bktText)
		if err != nil || v == nil {
			return
		}
		if t, err := m.unpack(v); err == nil {
			r.texts[r.missing[j]], ok[j] = keep(t), true
		}
	})
	for j, i := range r.missing {
		if !ok[j] {
			_, t, err := m.derive(ctx, ids[i])
			if unreadable(err) || errors.Is(err, ErrNoMessage) {
				bad(i, err)
				continue
			} else if err != nil {
				return err
			}
			r.texts[i] = keep(t)
		}
		r.cache.keep(ids[i], r.texts[i])
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
