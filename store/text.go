package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"

	"mssd/message"
)

const (
	maxTextLen = 256 << 10 // octets of a text, unpacked
	headRoom   = 32 << 20  // octets of headers kept: those of some 70,000 messages
	textEntry  = 128       // octets of a kept header beside its words
	textPage   = 64        // texts that one goroutine reads at once
)

// Text is the words of a message, derived again from its body where they are missing.
func (s *Store) Text(ctx context.Context, id MessageID) (message.Text, error) {
	return s.meta.one(ctx, id, false)
}

// Header is Text without the words of the body, which is then said to be cut. It is shared: never change it.
func (s *Store) Header(ctx context.Context, id MessageID) (message.Text, error) {
	return s.meta.one(ctx, id, true)
}

func (m *metaDB) one(ctx context.Context, id MessageID, heads bool) (t message.Text, err error) {
	r := textsRead{metaDB: m, heads: heads, fn: func(_ int, found message.Text) { t = found }}
	if err := r.page(ctx, 0, []MessageID{id}); err != nil {
		return t, err
	}
	return t, cmp.Or(r.unread, r.gone)
}

// Texts calls fn once for each message, on several goroutines at a time and in no order; outside of any transaction. A message that
// is gone meanwhile yields the empty Text. One whose words are not kept and whose body cannot be read is left out; when
// all others were shown, ErrMissing or ErrCorrupt says that there are such. A text holds until fn returns.
func (s *Store) Texts(ctx context.Context, ids []MessageID, fn func(i int, t message.Text)) error {
	return s.meta.each(ctx, ids, false, fn)
}

// Headers is Texts without the words of bodies, which are then said to be cut: memory holds some of them. They are shared:
// never change one.
func (s *Store) Headers(ctx context.Context, ids []MessageID, fn func(i int, t message.Text)) error {
	return s.meta.each(ctx, ids, true, fn)
}

func (m *metaDB) each(ctx context.Context, ids []MessageID, heads bool, fn func(i int, t message.Text)) error {
	r := textsRead{metaDB: m, heads: heads, fn: fn}
	share((len(ids)+textPage-1)/textPage, 1, func(j int) {
		r.mu.Lock()
		err := r.err
		r.mu.Unlock()
		if err == nil {
			r.fail(r.page(ctx, j*textPage, ids[j*textPage:min(len(ids), (j+1)*textPage)]))
		}
	})
	return cmp.Or(r.err, r.unread)
}

// textsRead is a reading of texts, by several goroutines.
type textsRead struct {
	*metaDB
	heads bool // headers alone, which are kept
	fn    func(i int, t message.Text)
	rooms sync.Pool // of pages as the file has them, in whose place the texts are opened

	mu     sync.Mutex
	unread error // why the first of those that cannot be read cannot
	gone   error // one is no more
	err    error // none can
}

func (r *textsRead) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = cmp.Or(r.err, err)
}

// page shows the texts of ids; first is the place of the first of them.
func (r *textsRead) page(ctx context.Context, first int, ids []MessageID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	era := r.metaDB.heads.now()
	var kept [textPage]message.Text
	var places [textPage]int
	missing := places[:0]
	if r.heads {
		missing = r.metaDB.heads.fill(ids, kept[:len(ids)], missing)
	} else {
		for i := range ids {
			missing = append(missing, i)
		}
	}
	room, ok := r.rooms.Get().(*[]byte)
	if !ok {
		room = new([]byte)
	}
	defer r.rooms.Put(room)
	stored, err := r.stored(ids, missing, bktText, room)
	if err != nil {
		return err
	}
	for i, j := 0, 0; i < len(ids); i++ {
		t := kept[i]
		if j < len(missing) && missing[j] == i {
			if t, err = r.read(ctx, stored[j], era); unreadable(err) {
				r.note(&r.unread, err)
				j++
				continue
			} else if errors.Is(err, ErrNoMessage) {
				r.note(&r.gone, err)
			} else if err != nil {
				return err
			}
			j++
		}
		r.fn(first+i, t)
	}
	return nil
}

func (r *textsRead) note(at *error, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*at = cmp.Or(*at, err)
}

// read opens a text, or derives it again; era is that of the reading.
func (r *textsRead) read(ctx context.Context, p storedValue, era int) (message.Text, error) {
	var t message.Text
	v, err := p.open(r.metaDB, bktText)
	if err == nil && v != nil {
		t, err = r.unpack(v)
	}
	if err != nil || v == nil {
		if _, t, err = r.derive(ctx, p.id); err != nil {
			return message.Text{}, err
		}
	}
	if r.heads {
		t = headOf(t)
		r.metaDB.heads.keep(p.id, t, era)
	}
	return t, nil
}

// headOf is a text without its body; it holds no more memory than it needs.
func headOf(t message.Text) message.Text {
	return message.Text{Header: bytes.Clone(t.Header), HeaderCut: t.HeaderCut, BodyCut: true}
}

// What is before a text in meta.db. A plain one is opened in a quarter of the time that S2 takes, and is what most mail has. Texts
// that were stored before S2 are zstd frames, which begin with 0x28.
const (
	textS2    = 1
	textPlain = 2
	maxPlain  = 8 << 10 // octets of a text that is stored plain
)

func packText(raw []byte) []byte {
	if len(raw) <= maxPlain {
		return append([]byte{textPlain}, raw...)
	}
	b := make([]byte, 1+s2.MaxEncodedLen(len(raw)))
	b[0] = textS2
	return slices.Clone(b[:1+len(s2.EncodeBetter(b[1:], raw))])
}

// unpack reads a text as packText, or former versions, have written it. The text may lie within v.
func (m *metaDB) unpack(v []byte) (message.Text, error) {
	var raw []byte
	var err error
	switch {
	case len(v) > 0 && v[0] == textPlain:
		raw = v[1:]
	case len(v) > 0 && v[0] == textS2:
		if n, lenErr := s2.DecodedLen(v[1:]); lenErr != nil || n > maxTextLen {
			return message.Text{}, corrupt("text")
		}
		raw, err = s2.Decode(nil, v[1:])
	default:
		raw, err = m.dec.DecodeAll(v, nil)
	}
	if err != nil || len(raw) > maxTextLen {
		return message.Text{}, corrupt("text")
	}
	return message.ParseText(raw)
}
