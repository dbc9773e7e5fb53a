package imapd

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"mssd/imapd/wire"
	"mssd/message"
	"mssd/store"
)

// sortable is a hit with what SORT compares, one value for each criterion.
type sortable struct {
	hit
	values []sortValue
}

// sortValue is a number or a text; n is then the beginning of s.
type sortValue struct {
	n int64
	s string
}

// SORT: RFC 5256, Section 3; ESORT: RFC 5267, Section 3; DISPLAYFROM and DISPLAYTO: RFC 5957.
func (c *conn) cmdSort(cmd *wire.Command) (response, error) {
	s := &search{conn: c, tag: cmd.Tag}
	a, err := wire.ParseSort(cmd)
	if err != nil {
		return response{}, s.failed(a.Search, err)
	}
	var rows []store.Row
	s.take = func(r store.Row) { rows = append(rows, r) }
	if err := s.find(a.Key, a.ModSeq); err != nil {
		return response{}, s.failed(a.Search, err)
	}
	if s.hits, err = s.sorted(rows, a.By); err != nil {
		return response{}, s.failed(a.Search, err)
	}
	s.answer(a.Search, "SORT")
	return s.done(cmd.Name, a.Search), nil
}

// sorted orders rows by the criteria, and where these are alike by number.
func (s *search) sorted(rows []store.Row, by []wire.SortKey) ([]hit, error) {
	keys, err := s.sortKeys(rows, slices.ContainsFunc(by, func(k wire.SortKey) bool { return k.Field != wire.SortArrival && k.Field != wire.SortSize }))
	if err != nil {
		return nil, err
	}
	list, values := make([]sortable, len(rows)), make([]sortValue, len(rows)*len(by))
	for i, r := range rows {
		list[i] = sortable{hit{r.UID, r.ModSeq}, values[i*len(by) : (i+1)*len(by)]}
		for k, key := range by {
			list[i].values[k] = sortValueOf(key.Field, r, &keys[i])
		}
	}
	slices.SortFunc(list, func(x, y sortable) int {
		for k := range by {
			a, b := &x.values[k], &y.values[k]
			c := cmp.Compare(a.n, b.n)
			if c == 0 {
				c = strings.Compare(a.s, b.s)
			}
			if by[k].Reverse {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return cmp.Compare(x.uid, y.uid)
	})
	hits := make([]hit, len(list))
	for i := range list {
		hits[i] = list[i].hit
	}
	return hits, nil
}

// sortPage is how many messages are read between two looks at the clock.
const sortPage = 1024

// sortKeys is what rows are compared by; zero where nothing but the row itself is needed. A message that cannot be read is sorted as
// if it had no fields, and is not missing in the answer.
func (s *search) sortKeys(rows []store.Row, needed bool) ([]message.SortKeys, error) {
	if !needed {
		return make([]message.SortKeys, len(rows)), nil
	}
	keys := make([]message.SortKeys, 0, len(rows))
	ids := make([]store.MessageID, 0, sortPage)
	s.part(len(rows))
	for page := range slices.Chunk(rows, sortPage) {
		ids = ids[:0]
		for _, r := range page {
			s.progress(1)
			ids = append(ids, r.Message)
		}
		if err := s.pointless(); err != nil {
			return nil, err
		}
		some, err := s.srv.Store.SortKeys(s.ctx, ids)
		if err != nil {
			return nil, err
		}
		keys = append(keys, some...)
	}
	return keys, nil
}

func sortValueOf(f wire.SortField, r store.Row, k *message.SortKeys) sortValue {
	switch f {
	case wire.SortArrival:
		return sortValue{n: r.Date.Unix()}
	case wire.SortSize:
		return sortValue{n: r.Size}
	case wire.SortDate:
		return sortValue{n: sentDate(r, k)}
	case wire.SortFrom:
		return sortText(k.From)
	case wire.SortTo:
		return sortText(k.To)
	case wire.SortCc:
		return sortText(k.Cc)
	case wire.SortDisplayFrom:
		return sortText(k.DisplayFrom)
	case wire.SortDisplayTo:
		return sortText(k.DisplayTo)
	}
	return sortText(k.Subject)
}

// sentDate is the moment of the Date field, or that of arrival where it is missing or cannot be read
// (RFC 5256, Section 2.2).
func sentDate(r store.Row, k *message.SortKeys) int64 {
	if !k.Dated {
		return r.Date.Unix()
	}
	return k.Sent
}

// sortText orders by the first octets, and by the text where these are alike: most comparisons are then one of numbers.
func sortText(s string) sortValue {
	var first [8]byte
	copy(first[:], s)
	return sortValue{n: int64(binary.BigEndian.Uint64(first[:]) ^ 1<<63), s: s}
}
