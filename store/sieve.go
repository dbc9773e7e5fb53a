package store

import (
	"bytes"
	"cmp"
	"context"

	"mssd/message"
	"mssd/trace"
)

const (
	sieveRoom  = 48 << 20 // octets of sieves kept: those of some 70,000 messages of 5 KB
	sieveEntry = 96       // octets of a kept sieve beside its own
	sieveShare = 64       // sieves that are worth a goroutine to open them
)

// Sieves are those of the words of messages (Text), in the order of ids. One that is not kept, or that does not open, is the zero
// Sieve, which rules nothing out: nothing is derived here.
func (s *Store) Sieves(ctx context.Context, ids []MessageID) ([]message.Sieve, error) {
	return s.meta.sieves.all(ids, func(page []trace.ID, missing []int, out []message.Sieve, room *[]byte) error {
		return s.meta.readSieves(ctx, page, missing, out, room)
	})
}

func (m *metaDB) readSieves(ctx context.Context, ids []trace.ID, missing []int, out []message.Sieve, room *[]byte) error {
	era := m.sieves.now()
	stored, err := m.stored(ids, missing, bktSieve, room)
	if err = cmp.Or(err, ctx.Err()); err != nil {
		return err
	}
	ok := make([]bool, len(missing))
	share(len(missing), sieveShare, func(j int) {
		if v, err := stored[j].open(m, bktSieve); err == nil && v != nil {
			out[missing[j]], ok[j] = unpackSieve(v)
		}
	})
	for j, i := range missing {
		if ok[j] {
			m.sieves.keep(ids[i], out[i], era)
		}
	}
	return nil
}

// sieveForm is before the octets of a sieve: what is not of this form rules nothing out.
const sieveForm = 1

func packSieve(v message.Sieve) []byte { return append([]byte{sieveForm}, v...) }

func unpackSieve(v []byte) (message.Sieve, bool) {
	if len(v) == 0 || v[0] != sieveForm {
		return nil, false
	}
	return bytes.Clone(v[1:]), true // v is a part of a page
}

// complement adds what meta.db lacks of a message: the sieve alone where that is all, as in one of before sieves.
func (m *metaDB) complement(ctx context.Context, id trace.ID) error {
	meta, haveMeta, err := m.get(id, bktMeta)
	if err != nil {
		return err
	}
	text, haveText, err := m.get(id, bktText)
	if err != nil {
		return err
	}
	if haveMeta && haveText && len(meta) > 0 && meta[0] == message.MetaVersion {
		if t, err := m.unpack(text); err == nil {
			_, bal, err := m.s.keyOfBody(id)
			if err == nil {
				m.add(derived{id: id, bal: bal, meta: meta, text: text, sieve: packSieve(message.NewSieve(t))})
			}
			return err
		}
	}
	_, _, err = m.derive(ctx, id)
	return err
}
