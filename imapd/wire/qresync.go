package wire

// qresync reads SP "(" uidvalidity SP modseq [SP known-uids] [SP "(" seqs SP uids ")"] ")"
// (RFC 7162, Section 7, select-param).
func (l *lexer) qresync() (*QResync, error) {
	var q QResync
	if err := l.space(); err != nil {
		return nil, err
	}
	if err := l.need('('); err != nil {
		return nil, err
	}
	v, err := l.number(maxUint32)
	if err == nil && v == 0 {
		err = bad("Number missing or out of range")
	}
	if err == nil {
		err = l.space()
	}
	if err != nil {
		return nil, err
	}
	q.UIDValidity = uint32(v)
	if q.ModSeq, err = l.number(maxModSeq); err != nil {
		return nil, err
	}
	if q.ModSeq == 0 {
		return nil, bad("Number missing or out of range")
	}
	if l.take(' ') && !l.peek('(') {
		if q.Known, err = l.plainSet(); err != nil {
			return nil, err
		}
		l.take(' ')
	}
	if l.take('(') {
		if err := l.seqMatch(&q); err != nil {
			return nil, err
		}
	}
	return &q, l.need(')')
}

// seqMatch reads the numbers and UIDs of messages that the client remembers; as many of the one as of the other.
func (l *lexer) seqMatch(q *QResync) (err error) {
	if q.MatchSeqs, err = l.plainSet(); err != nil {
		return err
	}
	if err = l.space(); err != nil {
		return err
	}
	if q.MatchUIDs, err = l.plainSet(); err != nil {
		return err
	}
	if q.MatchSeqs.Count() != q.MatchUIDs.Count() {
		return bad("As many numbers as UIDs are expected")
	}
	return l.need(')')
}

// plainSet is a set of numbers alone: neither "*" nor "$" means anything to who is not in the mailbox yet.
func (l *lexer) plainSet() (Set, error) {
	s, err := l.set()
	if err != nil {
		return s, err
	}
	for _, r := range s.Ranges {
		if r.First == 0 || r.Last == 0 {
			s.Saved = true
		}
	}
	if s.Saved {
		return s, bad("Malformed set")
	}
	return s, nil
}

// Count is how many numbers the set names, as written; "*" counts as one.
func (s Set) Count() uint64 {
	n := uint64(0)
	for _, r := range s.Ranges {
		n += r.size()
	}
	return n
}

// At is the number at place i of the set, counted from 0, in the order in which it is written.
func (s Set) At(i uint64) uint32 {
	for _, r := range s.Ranges {
		if n := r.size(); i >= n {
			i -= n
			continue
		}
		if r.First > r.Last {
			return r.Last + uint32(i) // RFC 9051, Section 9: 4:2 is 2:4
		}
		return r.First + uint32(i)
	}
	return 0
}

func (r Range) size() uint64 { return uint64(max(r.First, r.Last)-min(r.First, r.Last)) + 1 }

// AppendVanished appends a VANISHED response, a whole line; ranges holds at least one UID.
func AppendVanished(dst []byte, earlier bool, ranges []Range) []byte {
	dst = append(dst, "* VANISHED "...)
	if earlier {
		dst = append(dst, "(EARLIER) "...)
	}
	return append(AppendSet(dst, ranges), "\r\n"...)
}
