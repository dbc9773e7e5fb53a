package wire

import "strings"

// ParseList reads the arguments of LIST and LSUB (RFC 9051, Section 6.3.9; RFC 5258, Section 6; RFC 5819; RFC 6154).
func ParseList(c *Command) (List, error) {
	l := c.lexer()
	var a List
	ext := c.Name != "LSUB"
	if ext && l.peek('(') {
		a.Extended = true
		if err := l.list(func() error { return l.listSelect(&a) }); err != nil {
			return List{}, err
		}
		// RFC 5258, Section 3: RECURSIVEMATCH needs an option that it can be recursive about.
		if a.SelectRecursive && !a.SelectSubscribed && !a.SelectSpecialUse {
			return List{}, bad("RECURSIVEMATCH needs another selection option")
		}
		if err := l.space(); err != nil {
			return List{}, err
		}
	}
	var err error
	if a.Reference, err = l.mailbox(); err != nil {
		return List{}, err
	}
	if err = l.space(); err != nil {
		return List{}, err
	}
	if err = l.patterns(&a, ext); err != nil {
		return List{}, err
	}
	if ext && l.take(' ') {
		a.Extended = true
		if !l.takeWord("RETURN") {
			return List{}, bad("Unknown argument of LIST")
		}
		if err = l.space(); err != nil {
			return List{}, err
		}
		if err = l.list(func() error { return l.listReturn(&a) }); err != nil {
			return List{}, err
		}
	}
	return a, l.end()
}

// noName is a pattern that no mailbox fits.
const noName = "\x00"

// maxWild bounds the octets behind the first wildcard of each pattern, in all patterns of a command: by them, times the octets of all
// names, the time is counted that LIST takes. What stands before a wildcard is free.
const maxWild = 1000

func (l *lexer) patterns(a *List, ext bool) error {
	wild := 0
	one := func() error {
		s, err := l.charsOr(isListChar)
		if err != nil {
			return err
		}
		// "%" and "*" stand for themselves in modified UTF-7.
		if s, err = decodeName(s, l.lim.UTF8); err != nil {
			s = noName // nothing has such a name
		}
		if i := strings.IndexAny(a.Reference+s, "*%"); i >= 0 {
			wild += len(a.Reference) + len(s) - i
		}
		if wild > maxWild {
			return bad("Too many wildcards, or too much behind them")
		}
		a.Patterns = append(a.Patterns, s)
		return nil
	}
	if !ext || !l.peek('(') {
		return one()
	}
	a.Extended = true
	if err := l.list(one); err != nil {
		return err
	}
	if len(a.Patterns) == 0 {
		return bad("Pattern missing")
	}
	return nil
}

func (l *lexer) listSelect(a *List) error {
	w, err := l.word()
	switch w {
	case "SUBSCRIBED":
		a.SelectSubscribed = true
	case "REMOTE":
		a.SelectRemote = true
	case "RECURSIVEMATCH":
		a.SelectRecursive = true
	case "SPECIAL-USE":
		a.SelectSpecialUse = true
	default:
		return bad("Unknown selection option")
	}
	return err
}

func (l *lexer) listReturn(a *List) error {
	w, err := l.word()
	switch w {
	case "SUBSCRIBED":
		a.ReturnSubscribed = true
	case "CHILDREN":
		a.ReturnChildren = true
	case "SPECIAL-USE":
		a.ReturnSpecialUse = true
	case "MYRIGHTS":
		a.ReturnMyRights = true
	case "METADATA": // RFC 9590, Section 3
		if err = l.space(); err != nil {
			return err
		}
		if !l.peek('(') {
			return bad("List of entries expected")
		}
		a.ReturnMetadata, err = l.entries()
	case "STATUS":
		if err = l.space(); err != nil {
			return err
		}
		a.ReturnStatus, err = l.statusItems()
	default:
		return bad("Unknown return option")
	}
	return err
}

// MatchList reports whether name matches a LIST pattern: "*" is anything, "%" anything without delim (0: flat names).
// INBOX, alone or as the first level, matches without case (RFC 9051, Section 5.1). It never backtracks: the time is
// at most the product of both lengths, and a pattern with more plain octets than the name costs nothing.
func MatchList(pattern, name string, delim byte) bool {
	inbox := 0
	if len(name) >= 5 && strings.EqualFold(name[:5], "INBOX") && (len(name) == 5 || delim != 0 && name[5] == delim) {
		inbox = 5
	}
	same := func(p byte, at int) bool {
		return p == name[at] || at < inbox && upper(p) == upper(name[at])
	}
	// Up to the first wildcard there is one place to be.
	start := 0
	for pattern != "" && pattern[0] != '*' && pattern[0] != '%' {
		if start == len(name) || !same(pattern[0], start) {
			return false
		}
		pattern, start = pattern[1:], start+1
	}
	if pattern == "" {
		return start == len(name)
	}
	if len(pattern)-strings.Count(pattern, "*")-strings.Count(pattern, "%") > len(name)-start {
		return false
	}
	// at[i]: what came before in the pattern matches the first i octets of name.
	at := make([]bool, len(name)+1)
	at[start] = true
	for k := 0; k < len(pattern); k++ {
		p := pattern[k]
		switch {
		case p == '*':
			if k > 0 && pattern[k-1] == '*' {
				continue
			}
			for i := start; i < len(name); i++ {
				at[i+1] = at[i+1] || at[i]
			}
		case p == '%':
			if k > 0 && (pattern[k-1] == '%' || pattern[k-1] == '*') {
				continue
			}
			for i := start; i < len(name); i++ {
				at[i+1] = at[i+1] || at[i] && (delim == 0 || name[i] != delim)
			}
		default:
			any := false
			for i := len(name) - 1; i >= start; i-- {
				at[i+1] = at[i] && same(p, i)
				any = any || at[i+1]
			}
			at[start] = false
			if !any {
				return false
			}
			start++
		}
	}
	return at[len(name)]
}

func upper(ch byte) byte {
	if ch >= 'a' && ch <= 'z' {
		ch -= 0x20
	}
	return ch
}
