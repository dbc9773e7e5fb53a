package wire

// sortFields is the criteria of SORT (RFC 5256, Section 5; RFC 5957, Section 5).
var sortFields = map[string]SortField{
	"ARRIVAL": SortArrival, "CC": SortCc, "DATE": SortDate, "FROM": SortFrom, "SIZE": SortSize, "SUBJECT": SortSubject,
	"TO": SortTo, "DISPLAYFROM": SortDisplayFrom, "DISPLAYTO": SortDisplayTo,
}

// maxSortKeys bounds the criteria of one SORT: each field in both directions says nothing new beyond that.
const maxSortKeys = 16

// ParseSort reads the arguments of SORT and UID SORT (RFC 5256, Section 3; RFC 5267, Section 3 for RETURN).
func ParseSort(c *Command) (Sort, error) {
	l := &searcher{lexer: c.lexer()}
	s := Sort{Search: Search{UID: c.UID}}
	if err := l.returns(&s.Search); err != nil {
		return Sort{}, err
	}
	err := l.list(func() error { return l.sortKey(&s) })
	if err == nil && len(s.By) == 0 {
		err = bad("Sort criterion missing")
	}
	if err != nil {
		return Sort{}, err
	}
	if s.Key, err = l.charsetAndKeys(); err != nil {
		return s, err
	}
	s.ModSeq = l.modSeq
	return s, nil
}

// charsetAndKeys reads SP charset SP keys: unlike in SEARCH the charset is not left out (RFC 5256, Section 3).
func (l *searcher) charsetAndKeys() (Key, error) {
	if err := l.space(); err != nil {
		return Key{}, err
	}
	if err := l.charset(); err != nil {
		return Key{}, err
	}
	return l.criteria()
}

func (l *searcher) sortKey(s *Sort) error {
	var k SortKey
	w, err := l.word()
	if err == nil && w == "REVERSE" {
		k.Reverse = true
		if err = l.space(); err == nil {
			w, err = l.word()
		}
	}
	if err != nil {
		return err
	}
	if k.Field = sortFields[w]; k.Field == 0 {
		return bad("Unknown sort criterion")
	}
	if len(s.By) == maxSortKeys {
		return bad("Too many sort criteria")
	}
	s.By = append(s.By, k)
	return nil
}

// ParseThread reads the arguments of THREAD and UID THREAD (RFC 5256, Section 3).
func ParseThread(c *Command) (Thread, error) {
	l := &searcher{lexer: c.lexer()}
	t := Thread{UID: c.UID}
	var err error
	if t.Algorithm, err = l.word(); err != nil {
		return Thread{}, err
	}
	if t.Algorithm != "ORDEREDSUBJECT" && t.Algorithm != "REFERENCES" {
		return Thread{}, bad("Unknown threading algorithm")
	}
	if t.Key, err = l.charsetAndKeys(); err != nil {
		return Thread{}, err
	}
	t.ModSeq = l.modSeq
	return t, nil
}

// window reads a range of places, "1:100" or "-1:-100" (RFC 9394, Section 4, partial-range).
func (l *lexer) window() (Window, error) {
	start := l.b
	end, fromEnd, err := l.place()
	if err == nil && !l.take(':') {
		err = bad("Malformed range")
	}
	if err != nil {
		return Window{}, err
	}
	w := Window{First: end, FromEnd: fromEnd}
	if w.Last, fromEnd, err = l.place(); err != nil {
		return Window{}, err
	}
	if fromEnd != w.FromEnd {
		return Window{}, bad("Malformed range")
	}
	w.Label = string(start[:len(start)-len(l.b)])
	if w.First > w.Last {
		w.First, w.Last = w.Last, w.First
	}
	return w, nil
}

func (l *lexer) place() (n uint32, fromEnd bool, err error) {
	fromEnd = l.take('-')
	v, err := l.number(maxUint32)
	if err == nil && v == 0 {
		err = bad("Number missing or out of range")
	}
	return uint32(v), fromEnd, err
}

// Cut is the places of a list of n things, from 0, that the window shows; none: from == to.
func (w Window) Cut(n int) (from, to int) {
	first, last := min(int(w.First)-1, n), min(int(w.Last), n)
	if w.FromEnd {
		return n - last, n - first
	}
	return first, last
}
