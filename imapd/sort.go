package imapd

import (
	"cmp"
	"slices"
	"strings"

	"mssd/imapd/wire"
	"mssd/message"
	"mssd/store"
)

// maxSortText bounds a text that SORT compares, octets of its folded form: a mailbox of 100,000 messages then costs
// some tens of megabytes at most while it is sorted.
const maxSortText = 200

// sortable is a hit with what SORT compares, one value for each criterion.
type sortable struct {
	hit
	values []sortValue
}

// sortValue is a number or a text; the one that does not count is zero.
type sortValue struct {
	n int64
	s string
}

// SORT: RFC 5256, Section 3; ESORT: RFC 5267, Section 3; DISPLAYFROM and DISPLAYTO: RFC 5957.
func (c *conn) cmdSort(cmd *wire.Command) (response, error) {
	a, err := wire.ParseSort(cmd)
	if err != nil {
		return response{}, err
	}
	s := &search{conn: c, tag: cmd.Tag}
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
	meta := slices.ContainsFunc(by, func(k wire.SortKey) bool { return k.Field != wire.SortArrival && k.Field != wire.SortSize })
	list := make([]sortable, len(rows))
	for i, r := range rows {
		s.progress(0)
		list[i] = sortable{hit: hit{r.UID, r.ModSeq}, values: make([]sortValue, len(by))}
		m := &message.Meta{}
		if meta {
			var err error
			if m, err = s.metaOrNone(r); err != nil {
				return nil, err
			}
		}
		fields := m.SortFields()
		for k, key := range by {
			list[i].values[k] = sortValueOf(key.Field, r, m, &fields)
		}
	}
	slices.SortFunc(list, func(x, y sortable) int {
		for k, key := range by {
			c := cmp.Or(cmp.Compare(x.values[k].n, y.values[k].n), strings.Compare(x.values[k].s, y.values[k].s))
			if key.Reverse {
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

// metaOrNone is the structure of a message; of one that cannot be read an empty one: it is sorted as if it had no
// fields, and is not missing in the answer.
func (s *search) metaOrNone(r store.Row) (*message.Meta, error) {
	m, err := s.srv.Store.Meta(s.ctx, r.Message)
	if err != nil {
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
		if !isUnreadable(err) {
			return nil, err
		}
		return &message.Meta{}, nil
	}
	return m, nil
}

func sortValueOf(f wire.SortField, r store.Row, m *message.Meta, fields *message.SortFields) sortValue {
	switch f {
	case wire.SortArrival:
		return sortValue{n: r.Date.Unix()}
	case wire.SortSize:
		return sortValue{n: r.Size}
	case wire.SortDate:
		return sortValue{n: sentDate(r, m)}
	case wire.SortFrom:
		return sortValue{s: sortText(fields.From.Mailbox)}
	case wire.SortTo:
		return sortValue{s: sortText(fields.To.Mailbox)}
	case wire.SortCc:
		return sortValue{s: sortText(fields.Cc.Mailbox)}
	case wire.SortDisplayFrom:
		return sortValue{s: sortText(fields.From.Display())}
	case wire.SortDisplayTo:
		return sortValue{s: sortText(fields.To.Display())}
	}
	base, _ := message.BaseSubject(fields.Subject)
	return sortValue{s: sortText(base)}
}

// sentDate is the moment of the Date field, or that of arrival where it is missing or cannot be read
// (RFC 5256, Section 2.2).
func sentDate(r store.Row, m *message.Meta) int64 {
	if m.SentDate.IsZero() {
		return r.Date.Unix()
	}
	return m.SentDate.Unix()
}

// sortText is the form in which texts are compared.
func sortText(s string) string {
	b := message.Fold(nil, []byte(s))
	return string(b[:min(len(b), maxSortText)])
}
