package imapd

import (
	"errors"
	"slices"

	"mssd/imapd/wire"
	"mssd/store"
)

// page is how many messages are held at once while their words are looked at.
const page = 4096

// search is one running SEARCH. Each message is judged first by its row alone; what stays open is judged by its
// stored words, and what those cannot settle by its body.
type search struct {
	*conn
	judge judge
	open  []candidate // not settled by their rows
	hits  []store.UID
	top   modSeqs
	lost  int // messages left out: they cannot be read
}

// modSeqs is what the answer to a search by MODSEQ tells of the hits.
type modSeqs struct {
	min, max hit // the first and the last
	high     store.ModSeq
}

type hit struct {
	uid    store.UID
	modSeq store.ModSeq
}

// hit takes a message into the result.
func (s *search) hit(r store.Row) {
	s.hits = append(s.hits, r.UID)
	h := hit{r.UID, r.ModSeq}
	if s.top.min.uid == 0 || h.uid < s.top.min.uid {
		s.top.min = h
	}
	if h.uid > s.top.max.uid {
		s.top.max = h
	}
	s.top.high = max(s.top.high, r.ModSeq)
}

// of is the MODSEQ to be told: that of the messages which the answer names (RFC 7162, Section 3.1.10).
func (m modSeqs) of(ret wire.SearchReturn) store.ModSeq {
	switch ret &^ wire.ReturnSave {
	case wire.ReturnMin:
		return m.min.modSeq
	case wire.ReturnMax:
		return m.max.modSeq
	case wire.ReturnMin | wire.ReturnMax:
		return max(m.min.modSeq, m.max.modSeq)
	}
	return m.high
}

// RFC 9051, Section 6.4.4; ESEARCH: RFC 4731.
func (c *conn) cmdSearch(cmd *wire.Command) (response, error) {
	a, err := wire.ParseSearch(cmd)
	if err != nil {
		return response{}, err
	}
	if a.Return&wire.ReturnSave != 0 {
		return response{}, bad("", "Saving a search result is not offered")
	}
	if a.ModSeq {
		c.enableCondStore()
	}
	s := &search{conn: c}
	if s.judge, err = c.compile(a.Key); err != nil {
		return response{}, err
	}
	runs, err := c.within(a.Key)
	if err != nil {
		return response{}, err
	}
	if err := s.run(runs); err != nil {
		return response{}, err
	}
	s.answer(cmd.Tag, a)
	if s.lost > 0 {
		// The answer holds for all others: a NO would make clients throw it away.
		return okay(cmd.Name + " completed; messages that cannot be read were left out"), nil
	}
	return okay(cmd.Name + " completed"), nil
}

// within narrows the messages to look at by the sets that every hit must be in.
func (c *conn) within(k wire.Key) ([]store.Run, error) {
	switch k.Op {
	case wire.KeySeq, wire.KeyUID:
		return c.messages(k.Set, k.Op == wire.KeyUID)
	case wire.KeyAnd:
		for _, sub := range k.Keys {
			if sub.Op == wire.KeySeq || sub.Op == wire.KeyUID {
				return c.messages(sub.Set, sub.Op == wire.KeyUID)
			}
		}
	}
	return c.sel.view.runs(), nil
}

func (s *search) run(runs []store.Run) error {
	var inner error
	err := s.srv.Store.Rows(s.ctx, s.sel.ref, runs, func(r store.Row) bool {
		if s.sel.view.seq(r.UID) == 0 {
			return true
		}
		cand := candidate{row: r}
		v, err := s.judge(&cand)
		switch {
		case errors.Is(err, errUnreadable):
			s.leaveOut(r, err)
		case err != nil:
			inner = err
		case v == yes:
			s.hit(r)
		case v == open:
			s.open = append(s.open, cand)
		}
		if inner == nil && len(s.open) >= page {
			inner = s.settle()
		}
		return inner == nil
	})
	if err == nil {
		err = inner
	}
	if err == nil {
		err = s.settle()
	}
	slices.Sort(s.hits)
	return err
}

// settle judges the open messages by their words, in one pass over what is stored.
func (s *search) settle() error {
	if len(s.open) == 0 {
		return nil
	}
	ids := make([]store.MessageID, len(s.open))
	for i, c := range s.open {
		ids[i] = c.row.Message
	}
	var inner error
	err := s.srv.Store.Texts(s.ctx, ids, func(i int, t textOf) bool {
		cand := &s.open[i]
		cand.text, cand.depth = &t, byText
		var v verdict
		if v, inner = s.judge(cand); inner == nil && v == open {
			cand.depth = byBody
			v, inner = s.judge(cand)
		}
		if errors.Is(inner, errUnreadable) {
			s.leaveOut(cand.row, inner)
			v, inner = no_, nil
		}
		if inner == nil && v == yes {
			s.hit(cand.row)
		}
		cand.text = nil
		return inner == nil
	})
	s.open = s.open[:0]
	if err := unreadable(err); errors.Is(err, errUnreadable) { // one or more, the others were judged
		s.lost++
		s.log.Error("a search left out messages whose words are lost", "mailbox", uint32(s.sel.ref.Mailbox), "err", err)
		return inner
	}
	if err == nil {
		err = inner
	}
	return err
}

// leaveOut notes a message that nobody can judge.
func (s *search) leaveOut(r store.Row, err error) {
	s.lost++
	s.log.Error("a search left a message out", "uid", uint32(r.UID), "mailbox", uint32(s.sel.ref.Mailbox), "err", err)
}

// answer writes the result: numbers or UIDs, as runs.
func (s *search) answer(tag string, a wire.Search) {
	var found []wire.Range
	for _, u := range s.hits {
		n := uint32(u)
		if !a.UID {
			n = uint32(s.sel.view.seq(u))
		}
		if k := len(found); k > 0 && found[k-1].Last+1 == n {
			found[k-1].Last = n
			continue
		}
		found = append(found, wire.Range{First: n, Last: n})
	}
	if !a.Extended {
		s.out.add(func(b []byte) []byte {
			b = wire.AppendSearch(append(b, "* SEARCH"...), found)
			if a.ModSeq && len(found) > 0 {
				b = append(wire.AppendNumber(append(b, " (MODSEQ "...), uint64(s.top.high)), ')')
			}
			return append(b, "\r\n"...)
		})
		return
	}
	e := wire.ESearch{Tag: tag, UID: a.UID, Return: a.Return, Count: uint32(len(s.hits)), All: found}
	if a.ModSeq {
		e.ModSeq = uint64(s.top.of(a.Return))
	}
	if len(found) > 0 {
		e.Min, e.Max = found[0].First, found[len(found)-1].Last
	}
	s.out.add(func(b []byte) []byte { return wire.AppendESearch(b, e) })
}
