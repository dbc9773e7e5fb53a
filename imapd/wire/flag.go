package wire

import "strings"

// systemFlags in the order of their bits.
var systemFlags = [...]string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Draft`, `\Recent`}

// ParseFlag reads one flag as a client may set it: a system flag in any case, or a keyword. \Recent is the server's
// (RFC 3501, Section 2.3.2), and other names with a backslash are not defined: both are refused.
func ParseFlag(s string) (system Flag, keyword string, err error) {
	name, isSystem := strings.CutPrefix(s, `\`)
	if name == "" || len(name) > MaxKeywordLen {
		return 0, "", bad("Flag empty or too long")
	}
	for i := 0; i < len(name); i++ {
		if !isAtomChar(name[i]) {
			return 0, "", bad("Malformed flag")
		}
	}
	if !isSystem {
		return 0, s, nil
	}
	for i, f := range systemFlags {
		if strings.EqualFold(s, f) && Flag(1)<<i != Recent {
			return 1 << i, "", nil
		}
	}
	return 0, "", bad("This flag cannot be set")
}

// flag reads one flag into f.
func (l *lexer) flag(f *Flags) error {
	name := ""
	if l.take('\\') {
		name = `\`
	}
	name += string(l.span(isAtomChar))
	sys, kw, err := ParseFlag(name)
	if err != nil {
		return err
	}
	f.System |= sys
	if kw == "" {
		return nil
	}
	for _, k := range f.Keywords {
		if strings.EqualFold(k, kw) {
			return nil
		}
	}
	if len(f.Keywords) == MaxKeywords {
		return bad("Too many keywords")
	}
	f.Keywords = append(f.Keywords, kw)
	return nil
}

func (l *lexer) flagList() (Flags, error) {
	var f Flags
	err := l.list(func() error { return l.flag(&f) })
	return f, err
}

// AppendFlags appends a flag list with its parentheses. A keyword that is no atom would break the response and is
// left out.
func AppendFlags(dst []byte, system Flag, keywords []string) []byte {
	dst = append(dst, '(')
	start := len(dst)
	for i, f := range systemFlags {
		if system&(1<<i) != 0 {
			dst = append(append(dst, f...), ' ')
		}
	}
	for _, k := range keywords {
		if isAtom(k) {
			dst = append(append(dst, k...), ' ')
		}
	}
	if len(dst) > start {
		dst = dst[:len(dst)-1]
	}
	return append(dst, ')')
}

func isAtom(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAtomChar(s[i]) {
			return false
		}
	}
	return s != ""
}

// ParseStore reads the arguments of STORE (RFC 9051, Section 6.4.6; RFC 7162, Section 3.1.3).
func ParseStore(c *Command) (Store, error) {
	l := c.lexer()
	s := Store{UID: c.UID}
	var err error
	if s.Set, err = l.set(); err != nil {
		return Store{}, err
	}
	if err = l.space(); err != nil {
		return Store{}, err
	}
	if l.peek('(') {
		if err = l.list(func() error { return l.storeModifier(&s) }); err != nil {
			return Store{}, err
		}
		if err = l.space(); err != nil {
			return Store{}, err
		}
	}
	if err = l.storeMode(&s); err != nil {
		return Store{}, err
	}
	if err = l.storeFlags(&s); err != nil {
		return Store{}, err
	}
	return s, l.end()
}

func (l *lexer) storeModifier(s *Store) error {
	if !l.takeWord("UNCHANGEDSINCE") || s.HasUnchangedSince {
		return bad("Unknown STORE modifier")
	}
	if err := l.space(); err != nil {
		return err
	}
	// RFC 7162, Section 7: mod-sequence-valzer.
	n, err := l.number(maxModSeq)
	s.UnchangedSince, s.HasUnchangedSince = n, true
	return err
}

func (l *lexer) storeMode(s *Store) error {
	word, err := l.word()
	if err != nil {
		return err
	}
	word, s.Silent = strings.CutSuffix(word, ".SILENT")
	switch word {
	case "FLAGS":
		s.Mode = StoreReplace
	case "+FLAGS":
		s.Mode = StoreAdd
	case "-FLAGS":
		s.Mode = StoreRemove
	default:
		return bad("Unknown STORE item")
	}
	return l.space()
}

// storeFlags reads a flag list, with or without parentheses.
func (l *lexer) storeFlags(s *Store) (err error) {
	if l.peek('(') {
		s.Flags, err = l.flagList()
		return err
	}
	for n := 0; n < l.lim.Keys; n++ {
		if err = l.flag(&s.Flags); err != nil || !l.take(' ') {
			return err
		}
	}
	return bad("Too many flags")
}
