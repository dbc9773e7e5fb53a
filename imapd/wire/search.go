package wire

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// flagKeys is the search keys that ask for a system flag; "UN" before them asks for its absence.
var flagKeys = map[string]Flag{
	"ANSWERED": Answered, "DELETED": Deleted, "DRAFT": Draft, "FLAGGED": Flagged, "SEEN": Seen,
}

// textKeys is the search keys with a string.
var textKeys = map[string]Key{
	"BCC": {Op: KeyHeader, Field: "BCC"}, "CC": {Op: KeyHeader, Field: "CC"}, "FROM": {Op: KeyHeader, Field: "FROM"},
	"SUBJECT": {Op: KeyHeader, Field: "SUBJECT"}, "TO": {Op: KeyHeader, Field: "TO"},
	"BODY": {Op: KeyBody}, "TEXT": {Op: KeyText},
}

var dateKeys = map[string]KeyOp{
	"BEFORE": KeyBefore, "ON": KeyOn, "SINCE": KeySince,
	"SAVEDBEFORE": KeySavedBefore, "SAVEDON": KeySavedOn, "SAVEDSINCE": KeySavedSince,
	"SENTBEFORE": KeySentBefore, "SENTON": KeySentOn, "SENTSINCE": KeySentSince,
}

// searcher parses search keys; it counts them.
type searcher struct {
	*lexer
	keys     int
	modSeq   bool
	declared bool // the charset has been named
}

// ParseSearch reads the arguments of SEARCH and UID SEARCH (RFC 9051, Section 6.4.4; RFC 3501 for RECENT, NEW and
// OLD; RFC 4731, RFC 5182 for RETURN; RFC 7162, Section 3.1.5). With ErrBadCharset it gives what RETURN asked for.
func ParseSearch(c *Command) (Search, error) {
	l := &searcher{lexer: c.lexer()}
	s := Search{UID: c.UID}
	if err := l.returns(&s); err != nil {
		return Search{}, err
	}
	if l.takeWord("CHARSET") {
		if l.lim.NoChars {
			return Search{}, bad("After UTF8=ACCEPT a search names no charset")
		}
		if err := l.space(); err != nil {
			return Search{}, err
		}
		if err := l.charset(); err != nil {
			return s, err
		}
	}
	var err error
	if s.Key, err = l.criteria(); err != nil {
		return Search{}, err
	}
	s.ModSeq = l.modSeq
	return s, nil
}

// returns reads "RETURN (" options ") ", where it is.
func (l *searcher) returns(s *Search) error {
	if !l.takeWord("RETURN") {
		return nil
	}
	s.Extended = true
	if err := l.space(); err != nil {
		return err
	}
	if err := l.list(func() error { return l.searchReturn(s) }); err != nil {
		return err
	}
	// RFC 9394, Section 3.1: one of them at most.
	if s.Return&ReturnAll != 0 && s.Return&ReturnPartial != 0 {
		return bad("ALL and PARTIAL exclude each other")
	}
	// RFC 4731, Section 3.1: an empty list means ALL.
	if s.Return == 0 {
		s.Return = ReturnAll
	}
	return l.space()
}

// criteria reads the search keys up to the end of the command.
func (l *searcher) criteria() (Key, error) {
	all := Key{Op: KeyAnd}
	for {
		k, err := l.key(0)
		if err != nil {
			return Key{}, err
		}
		all.Keys = append(all.Keys, k)
		if !l.take(' ') {
			return all, l.end()
		}
	}
}

func (l *searcher) searchReturn(s *Search) error {
	w, err := l.word()
	switch w {
	case "MIN":
		s.Return |= ReturnMin
	case "MAX":
		s.Return |= ReturnMax
	case "ALL":
		s.Return |= ReturnAll
	case "COUNT":
		s.Return |= ReturnCount
	case "SAVE":
		s.Return |= ReturnSave
	case "PARTIAL":
		if s.Return&ReturnPartial != 0 {
			return bad("PARTIAL stands twice")
		}
		s.Return |= ReturnPartial
		if err = l.space(); err != nil {
			return err
		}
		s.Partial, err = l.window()
	default:
		return bad("Unknown result option")
	}
	return err
}

// charset reads the name of a charset and the space behind it.
func (l *searcher) charset() error {
	name, err := l.astring()
	if err != nil {
		return err
	}
	if err := l.space(); err != nil {
		return err
	}
	if l.lim.NoChars && !strings.EqualFold(name, "UTF-8") { // RFC 6855, erratum 4029: of SORT and THREAD, which must name one
		return bad("After UTF8=ACCEPT the charset is UTF-8")
	}
	if !strings.EqualFold(name, "UTF-8") && !strings.EqualFold(name, "US-ASCII") {
		return ErrBadCharset
	}
	l.declared = true
	return nil
}

// words reads the words that are looked for. Where no charset is named, what is not UTF-8 is read as windows-1252: JavaMail
// 1.6 sends ISO-8859-1 after ENABLE UTF8=ACCEPT, and a BAD would keep those who write French from finding anything.
func (l *searcher) words() (s string, err error) {
	if l.declared {
		return l.text()
	}
	if l.peek('"') {
		s, err = l.unquoted()
	} else {
		s, err = l.astring()
	}
	if err == nil && !utf8.ValidString(s) {
		s, err = charmap.Windows1252.NewDecoder().String(s)
	}
	return s, err
}

// key reads one search key; depth is how many parentheses, NOT and OR are around it.
func (l *searcher) key(depth int) (Key, error) {
	if l.keys++; l.keys > l.lim.Keys {
		return Key{}, bad("Too many search keys")
	}
	if depth > l.lim.Depth {
		return Key{}, bad("Search keys nested too deep")
	}
	switch {
	case l.peek('('):
		return l.group(depth)
	case l.peekDigit(), l.peek('*'), l.peek('$'):
		set, err := l.set()
		return Key{Op: KeySeq, Set: set}, err
	}
	w, err := l.word()
	if err != nil {
		return Key{}, bad("Search key expected")
	}
	if k, ok := simpleKey(w); ok {
		return k, nil
	}
	if w != "OR" && w != "NOT" && !l.hasArgument(w) {
		return Key{}, bad("Unknown search key")
	}
	if err = l.space(); err != nil {
		return Key{}, err
	}
	switch w {
	case "OR":
		return l.or(depth)
	case "NOT":
		k, err := l.key(depth + 1)
		return not(k), err
	}
	return l.argument(w)
}

func not(k Key) Key { return Key{Op: KeyNot, Keys: []Key{k}} }

// group reads "(" key *(SP key) ")".
func (l *searcher) group(depth int) (Key, error) {
	g := Key{Op: KeyAnd}
	err := l.list(func() error {
		k, err := l.key(depth + 1)
		g.Keys = append(g.Keys, k)
		return err
	})
	if err == nil && len(g.Keys) == 0 {
		err = bad("Search key expected")
	}
	return g, err
}

// or reads what follows OR. Clients chain them to the right, "OR a OR b c", for long lists: such a chain is one key
// and costs no depth.
func (l *searcher) or(depth int) (Key, error) {
	or := Key{Op: KeyOr}
	for {
		k, err := l.key(depth + 1)
		if err != nil {
			return Key{}, err
		}
		or.Keys = append(or.Keys, k)
		if err = l.space(); err != nil {
			return Key{}, err
		}
		if !l.takeWord("OR") {
			break
		}
		if err = l.space(); err != nil {
			return Key{}, err
		}
	}
	k, err := l.key(depth + 1)
	or.Keys = append(or.Keys, k)
	return or, err
}

// simpleKey gives the keys without argument.
func simpleKey(w string) (Key, bool) {
	if f, ok := flagKeys[w]; ok {
		return Key{Op: KeyFlag, Flag: f}, true
	}
	if name, un := strings.CutPrefix(w, "UN"); un {
		if f, ok := flagKeys[name]; ok {
			return not(Key{Op: KeyFlag, Flag: f}), true
		}
	}
	recent := Key{Op: KeyFlag, Flag: Recent}
	switch w {
	case "ALL", "SAVEDATESUPPORTED": // RFC 8514, Section 4.3: all mailboxes have it
		return Key{Op: KeyAll}, true
	case "RECENT":
		return recent, true
	case "OLD":
		return not(recent), true
	case "NEW":
		return Key{Op: KeyAnd, Keys: []Key{recent, not(Key{Op: KeyFlag, Flag: Seen})}}, true
	}
	return Key{}, false
}

func (l *searcher) hasArgument(w string) bool {
	switch w {
	case "KEYWORD", "UNKEYWORD", "HEADER", "LARGER", "SMALLER", "UID", "MODSEQ", "OLDER", "YOUNGER", "EMAILID", "THREADID":
		return true
	}
	_, text := textKeys[w]
	_, date := dateKeys[w]
	return text || date
}

// argument reads the argument of the key w.
func (l *searcher) argument(w string) (k Key, err error) {
	if k, ok := textKeys[w]; ok {
		k.Text, err = l.words()
		return k, err
	}
	if op, ok := dateKeys[w]; ok {
		k.Op = op
		k.Date, err = l.date()
		return k, err
	}
	switch w {
	case "KEYWORD", "UNKEYWORD":
		k, err = l.keyword()
		if w == "UNKEYWORD" {
			k = not(k)
		}
	case "HEADER":
		return l.header()
	case "LARGER":
		k.Op = KeyLarger
		k.Number, err = l.number(maxModSeq)
	case "SMALLER":
		k.Op = KeySmaller
		k.Number, err = l.number(maxModSeq)
	case "OLDER", "YOUNGER":
		return l.within(w)
	case "EMAILID", "THREADID":
		return l.objectID(w)
	case "UID":
		k.Op = KeyUID
		k.Set, err = l.set()
	case "MODSEQ":
		l.modSeq = true
		return l.modSeqKey()
	}
	return k, err
}

func (l *searcher) keyword() (Key, error) {
	s, err := l.atom()
	if err == nil && len(s) > MaxKeywordLen {
		err = bad("Flag empty or too long")
	}
	return Key{Op: KeyKeyword, Text: s}, err
}

func (l *searcher) header() (Key, error) {
	name, err := l.astring()
	if err == nil && !isField(name) {
		err = bad("Malformed header field name")
	}
	if err == nil {
		err = l.space()
	}
	if err != nil {
		return Key{}, err
	}
	text, err := l.words()
	return Key{Op: KeyHeader, Field: strings.ToUpper(name), Text: text}, err
}

// modSeqKey reads [entry-name SP entry-type SP] value. Flags have one MODSEQ here, as RFC 7162, Section 3.1.5
// allows: the entry is read and forgotten.
func (l *searcher) modSeqKey() (Key, error) {
	if l.peek('"') {
		if _, err := l.quoted(); err != nil {
			return Key{}, err
		}
		if err := l.space(); err != nil {
			return Key{}, err
		}
		if !l.takeWord("ALL") && !l.takeWord("PRIV") && !l.takeWord("SHARED") {
			return Key{}, bad("Malformed MODSEQ key")
		}
		if err := l.space(); err != nil {
			return Key{}, err
		}
	}
	n, err := l.number(maxModSeq)
	return Key{Op: KeyModSeq, Number: n}, err
}
