package wire

import (
	"cmp"
	"slices"
	"strconv"
)

const maxUint32 = 1<<32 - 1

// set reads a sequence set or "$" (RFC 9051, Section 9, sequence-set).
func (l *lexer) set() (Set, error) {
	if l.take('$') {
		return Set{Saved: true}, nil
	}
	var s Set
	for {
		if len(s.Ranges) == l.lim.SetItems {
			return Set{}, bad("Set has too many items")
		}
		first, err := l.setNumber()
		if err != nil {
			return Set{}, err
		}
		r := Range{first, first}
		if l.take(':') {
			if r.Last, err = l.setNumber(); err != nil {
				return Set{}, err
			}
		}
		s.Ranges = append(s.Ranges, r)
		if !l.take(',') {
			return s, nil
		}
	}
}

func (l *lexer) setNumber() (uint32, error) {
	if l.take('*') {
		return 0, nil
	}
	n, ok := parseUint(l.span(isDigit), maxUint32)
	if !ok || n == 0 {
		return 0, bad("Malformed set")
	}
	return uint32(n), nil
}

// Resolve turns the set into ascending, disjoint, merged ranges, "*" being max: the number of messages, or the
// largest UID. With max 0 there is nothing for "*" to be, and ranges with it are dropped. Numbers above max stay.
// It holds nothing for "$", which only the session knows.
func (s Set) Resolve(max uint32) []Range {
	out := make([]Range, 0, len(s.Ranges))
	for _, r := range s.Ranges {
		if max == 0 && (r.First == 0 || r.Last == 0) {
			continue
		}
		if r.First == 0 {
			r.First = max
		}
		if r.Last == 0 {
			r.Last = max
		}
		// RFC 9051, Section 9: 2:4 and 4:2 are the same.
		if r.First > r.Last {
			r.First, r.Last = r.Last, r.First
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	return merge(out)
}

// merge joins what overlaps or touches, in place.
func merge(rs []Range) []Range {
	n := 0
	for _, r := range rs {
		if n > 0 && uint64(r.First) <= uint64(rs[n-1].Last)+1 {
			rs[n-1].Last = max(rs[n-1].Last, r.Last)
			continue
		}
		rs[n] = r
		n++
	}
	return rs[:n]
}

// AppendSet appends ranges as "1:3,5". An empty set has no syntax: the caller leaves the item out.
func AppendSet(dst []byte, ranges []Range) []byte {
	return AppendSetFunc(dst, len(ranges), func(i int) Range { return ranges[i] })
}

// AppendSetFunc is AppendSet over the n ranges that at gives: a store's runs, without a copy. Ranges that touch are
// written as one.
func AppendSetFunc(dst []byte, n int, at func(i int) Range) []byte {
	for i := 0; i < n; i++ {
		r := at(i)
		for i+1 < n {
			next := at(i + 1)
			if r.Last == maxUint32 || next.First != r.Last+1 {
				break
			}
			r.Last = next.Last
			i++
		}
		dst = strconv.AppendUint(dst, uint64(r.First), 10)
		if r.Last != r.First {
			dst = append(dst, ':')
			dst = strconv.AppendUint(dst, uint64(r.Last), 10)
		}
		dst = append(dst, ',')
	}
	if n > 0 {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// ParseUIDSet reads the argument of UID EXPUNGE (RFC 4315, Section 2.1).
func ParseUIDSet(c *Command) (Set, error) {
	l := c.lexer()
	s, err := l.set()
	if err == nil {
		err = l.end()
	}
	return s, err
}

// ParseCopy reads the arguments of COPY, MOVE and their UID forms (RFC 9051, Section 6.4.7; RFC 6851).
func ParseCopy(c *Command) (Copy, error) {
	l := c.lexer()
	a := Copy{UID: c.UID}
	var err error
	if a.Set, err = l.set(); err != nil {
		return Copy{}, err
	}
	if err = l.space(); err != nil {
		return Copy{}, err
	}
	if a.Mailbox, err = l.mailbox(); err != nil {
		return Copy{}, err
	}
	return a, l.end()
}
