package imapd

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"mssd/imapd/wire"
	"mssd/message"
	"mssd/store"
)

// page is how many messages are held at once while their words are looked at.
const page = 4096

// search is one running SEARCH, SORT or THREAD. Each message is judged first by its row alone; what stays open is
// judged by its stored words, and what those cannot settle by its body.
type search struct {
	*conn
	tag   string
	judge judge
	texts func(ctx context.Context, ids []store.MessageID, fn func(i int, t textOf)) error // the words that judge looks at
	sieve bool                                                                             // some of the words are long enough for sieves
	open  []candidate                                                                      // not settled by their rows
	hits  []hit
	take  func(store.Row) // told of each hit, where more than UID and MODSEQ is needed; nil else
	lost  int             // messages left out: they cannot be read
	prog  progress
}

type hit struct {
	uid    store.UID
	modSeq store.ModSeq
}

// RFC 9051, Section 6.4.4; ESEARCH: RFC 4731; SEARCHRES: RFC 5182; PARTIAL: RFC 9394.
func (c *conn) cmdSearch(cmd *wire.Command) (response, error) {
	s := &search{conn: c, tag: cmd.Tag}
	a, err := wire.ParseSearch(cmd)
	if err != nil {
		return response{}, s.failed(a, err)
	}
	if c.rev2 && !a.Extended {
		a.Extended, a.Return = true, wire.ReturnAll // RFC 9051, Section 6.4.4: SEARCH is answered by ESEARCH
	}
	if err := s.find(a.Key, a.ModSeq); err != nil {
		return response{}, s.failed(a, err)
	}
	slices.SortFunc(s.hits, func(x, y hit) int { return cmp.Compare(x.uid, y.uid) })
	s.answer(a, "SEARCH")
	return s.done(cmd.Name, a), nil
}

// find judges all messages that may fit.
func (s *search) find(k wire.Key, modSeq bool) error {
	if modSeq {
		s.enableCondStore()
	}
	var err error
	if s.judge, err = s.compile(k); err != nil {
		return err
	}
	if s.texts = s.srv.Store.Texts; headersOnly(k) {
		s.texts = s.srv.Store.Headers
	}
	s.sieve = sieved(k)
	runs, err := s.within(k)
	if err != nil {
		return err
	}
	s.part(runsCount(runs))
	return s.run(runs)
}

// headersOnly says whether no words of bodies are asked for.
func headersOnly(k wire.Key) bool {
	return k.Op != wire.KeyBody && k.Op != wire.KeyText && !slices.ContainsFunc(k.Keys, func(sub wire.Key) bool { return !headersOnly(sub) })
}

// sieved says whether sieves can rule out messages.
func sieved(k wire.Key) bool {
	switch k.Op {
	case wire.KeyHeader, wire.KeyBody, wire.KeyText:
		return len(message.Fold(nil, []byte(k.Text))) >= message.MinSieved
	}
	return slices.ContainsFunc(k.Keys, sieved)
}

// failed forgets the result that SAVE was to replace: what is kept must never be that of another search. A BAD leaves it
// (RFC 5182, Section 2.1).
func (s *search) failed(a wire.Search, err error) error {
	if r, _ := respond(err); r.status == statusNO && a.Return&wire.ReturnSave != 0 {
		s.sel.saved = nil
	}
	return err
}

func (s *search) done(name string, a wire.Search) response {
	text := name + " completed"
	if a.Return&wire.ReturnSave != 0 {
		text += ", result saved"
	}
	if s.lost > 0 {
		// The answer holds for all others: a NO would make clients throw it away.
		text += "; messages that cannot be read were left out"
	}
	return okay(text)
}

// maxSorted bounds the messages of one SORT or THREAD, of which more must be held than of those of a SEARCH.
const maxSorted = 200_000

// hit takes a message into the result.
func (s *search) hit(r store.Row) error {
	if len(s.hits) == cap(s.hits) { // a list of tens of thousands is not copied over and over
		s.hits = slices.Grow(s.hits, max(len(s.hits), 64))
	}
	s.hits = append(s.hits, hit{r.UID, r.ModSeq})
	if s.take == nil {
		return nil
	}
	if len(s.hits) > s.srv.maxSorted {
		return errTooMany
	}
	s.take(r)
	return nil
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
	var cand candidate // one for all: a mailbox has many
	err := s.srv.Store.Rows(s.ctx, s.sel.ref, runs, func(r store.Row) bool {
		if inner = s.pointless(); inner != nil {
			return false
		}
		if s.sel.view.seq(r.UID) == 0 {
			s.progress(1)
			return true
		}
		cand = candidate{row: r}
		v, err := s.judge(&cand)
		switch {
		case errors.Is(err, errUnreadable):
			s.leaveOut(r, err)
		case err != nil:
			inner = err
		case v == yes:
			inner = s.hit(r)
		}
		if err == nil && v == open {
			s.open = append(s.open, cand)
		} else {
			s.progress(1)
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
	return err
}

// settle judges the open messages by their words, in one pass over what is stored, after those that sieves rule out.
func (s *search) settle() error {
	if s.sieve {
		if err := s.sift(); err != nil {
			return err
		}
	}
	if len(s.open) == 0 {
		return nil
	}
	err := s.read()
	for i := range s.open {
		cand := &s.open[i]
		switch {
		case err != nil:
		case isUnreadable(cand.err):
			s.leaveOut(cand.row, cand.err)
		case cand.err != nil:
			err = cand.err
		case cand.verdict == yes:
			err = s.hit(cand.row)
		}
	}
	s.open = s.open[:0]
	return err
}

// readAtOnce is how many messages are read between two looks at the clock; fewer where the last ones took longer than slowRead,
// as those do whose bodies must be read.
const (
	readAtOnce = 256
	slowRead   = time.Second
)

// read judges the open messages by their words, and where those were cut by their octets.
func (s *search) read() error {
	atOnce := readAtOnce
	for rest := s.open; len(rest) > 0; {
		some := rest[:min(len(rest), atOnce)]
		rest = rest[len(some):]
		began := time.Now()
		s.tell()
		if err := s.pointless(); err != nil {
			return err
		}
		err := unreadable(s.texts(s.ctx, messagesOf(some), func(i int, t textOf) {
			cand := &some[i]
			cand.text, cand.depth = &t, byText
			if cand.verdict, cand.err = s.judge(cand); cand.err == nil && cand.verdict == open {
				cand.depth = byBody
				cand.verdict, cand.err = s.judge(cand)
			}
			cand.text = nil
		}))
		if errors.Is(err, errUnreadable) { // one or more, the others were judged
			s.lost++
			s.log.Error("a search left out messages whose words are lost", "mailbox", uint32(s.sel.ref.Mailbox), "err", err)
		} else if err != nil {
			return err
		}
		s.prog.done += len(some)
		if time.Since(began) > slowRead {
			atOnce = max(2, atOnce/4)
		}
	}
	return nil
}

// sift judges the open messages by their sieves.
func (s *search) sift() error {
	sieves, err := s.srv.Store.Sieves(s.ctx, messagesOf(s.open))
	if err != nil {
		return unreadable(err)
	}
	left := 0
	for i := range s.open {
		cand := &s.open[i]
		cand.sieve, cand.depth = sieves[i], bySieve
		v, err := s.judge(cand)
		if err == nil && v == yes {
			err = s.hit(cand.row)
		}
		if err != nil {
			return err
		}
		if v == open {
			if left < i {
				s.open[left] = *cand
			}
			left++
		}
	}
	s.sieve = left <= len(s.open)-len(s.open)/8 // else they cost more than they save: nearly all messages have these words
	s.prog.done += len(s.open) - left
	s.open = s.open[:left]
	return nil
}

func messagesOf(cands []candidate) []store.MessageID {
	ids := make([]store.MessageID, len(cands))
	for i, c := range cands {
		ids[i] = c.row.Message
	}
	return ids
}

// leaveOut notes a message that nobody can judge.
func (s *search) leaveOut(r store.Row, err error) {
	s.lost++
	s.log.Error("a search left a message out", "uid", uint32(r.UID), "mailbox", uint32(s.sel.ref.Mailbox), "err", err)
}

// answer writes the result, in the order of hits: numbers or UIDs. name is the plain response, which RETURN turns
// into ESEARCH.
func (s *search) answer(a wire.Search, name string) {
	from, to := a.Partial.Cut(len(s.hits))
	if a.Return&wire.ReturnSave != 0 {
		s.save(a.Return, from, to)
		if a.Return == wire.ReturnSave {
			return // RFC 5182, Section 2.1: nothing else was asked for
		}
	}
	found := s.numbers(s.hits, a.UID)
	if !a.Extended {
		s.out.add(func(b []byte) []byte {
			b = wire.AppendSearch(append(append(b, "* "...), name...), found)
			if a.ModSeq && len(found) > 0 {
				b = append(wire.AppendNumber(append(b, " (MODSEQ "...), uint64(high(s.hits))), ')')
			}
			return append(b, "\r\n"...)
		})
		return
	}
	e := wire.ESearch{Tag: s.tag, UID: a.UID, Return: a.Return, Count: uint32(len(s.hits)), All: found, Window: a.Partial}
	if a.Return&wire.ReturnPartial != 0 {
		e.Partial = s.numbers(s.hits[from:to], a.UID)
	}
	if len(found) > 0 {
		e.Min, e.Max = found[0].First, found[len(found)-1].Last
	}
	if a.ModSeq && len(s.hits) > 0 {
		e.ModSeq = uint64(s.told(a.Return, from, to))
	}
	s.out.add(func(b []byte) []byte { return wire.AppendESearch(b, e) })
}

// numbers is what the client calls the hits, in their order.
func (s *search) numbers(hits []hit, uid bool) []wire.Range {
	var found []wire.Range
	for _, h := range hits {
		n := uint32(h.uid)
		if !uid {
			n = uint32(s.sel.view.seq(h.uid))
		}
		if k := len(found); k > 0 && found[k-1].Last+1 == n {
			found[k-1].Last = n
			continue
		}
		found = append(found, wire.Range{First: n, Last: n})
	}
	return found
}

// shown are the hits that the answer names: first, last, a part, or all where it speaks of all.
func (s *search) shown(ret wire.SearchReturn, from, to int) []hit {
	const some = wire.ReturnMin | wire.ReturnMax | wire.ReturnPartial
	if ret&some == 0 || ret&(wire.ReturnAll|wire.ReturnCount) != 0 || len(s.hits) == 0 {
		return s.hits
	}
	var out []hit
	if ret&wire.ReturnMin != 0 {
		out = append(out, s.hits[0])
	}
	if ret&wire.ReturnMax != 0 {
		out = append(out, s.hits[len(s.hits)-1])
	}
	if ret&wire.ReturnPartial != 0 {
		out = append(out, s.hits[from:to]...)
	}
	return out
}

// told is the MODSEQ of the answer: the highest of the messages that it names (RFC 7162, Section 3.1.10).
func (s *search) told(ret wire.SearchReturn, from, to int) store.ModSeq {
	return high(s.shown(ret, from, to))
}

func high(hits []hit) store.ModSeq {
	top := store.ModSeq(0)
	for _, h := range hits {
		top = max(top, h.modSeq)
	}
	return top
}

// save keeps the result for "$" (RFC 5182, Section 2.4: of MIN, MAX and PARTIAL alone what they name).
func (s *search) save(ret wire.SearchReturn, from, to int) {
	var uids []store.UID
	for _, h := range s.shown(ret, from, to) {
		uids = append(uids, h.uid)
	}
	slices.Sort(uids)
	s.sel.saved = nil
	for _, u := range slices.Compact(uids) {
		s.sel.saved = addRun(s.sel.saved, u, 1)
	}
}
