package wire

import "strings"

// GetMetadata are the arguments of GETMETADATA (RFC 5464, Section 4.2).
type GetMetadata struct {
	Mailbox string // "": the server
	Entries []string
	MaxSize int64 // octets of a value; negative: no bound
	Depth   int   // 0, 1, or -1 for all that is below
}

// SetMetadata are the arguments of SETMETADATA (RFC 5464, Section 4.3).
type SetMetadata struct {
	Mailbox string // "": the server
	Values  []MetadataValue
}

// MetadataValue is an entry with its value.
type MetadataValue struct {
	Entry string
	Value string
	Set   bool // false: NIL, the entry is taken away
}

// maxEntry bounds the name of an entry, octets.
const maxEntry = 255

// maxEntries bounds the entries of one command.
const maxEntries = 100

// ParseGetMetadata reads the arguments of GETMETADATA. The grammar of RFC 5464, Section 5 has the options before the name of
// the mailbox, its examples behind it: both are taken.
func ParseGetMetadata(c *Command) (GetMetadata, error) {
	l := c.lexer()
	a := GetMetadata{MaxSize: -1}
	if l.peek('(') {
		if err := l.list(func() error { return l.metadataOption(&a) }); err != nil {
			return GetMetadata{}, err
		}
		if err := l.space(); err != nil {
			return GetMetadata{}, err
		}
	}
	var err error
	if a.Mailbox, err = l.mailbox(); err != nil {
		return GetMetadata{}, err
	}
	if err = l.space(); err != nil {
		return GetMetadata{}, err
	}
	if l.options() {
		if err = l.list(func() error { return l.metadataOption(&a) }); err != nil {
			return GetMetadata{}, err
		}
		if err = l.space(); err != nil {
			return GetMetadata{}, err
		}
	}
	if a.Entries, err = l.entries(); err != nil {
		return GetMetadata{}, err
	}
	return a, l.end()
}

// options says whether a list of options is next: an entry begins with "/".
func (l *lexer) options() bool {
	return len(l.b) > 1 && l.b[0] == '(' && isAtomChar(l.b[1]) && l.b[1] != '/'
}

func (l *lexer) metadataOption(a *GetMetadata) error {
	w, err := l.word()
	if err != nil {
		return err
	}
	if err := l.space(); err != nil {
		return err
	}
	switch w {
	case "MAXSIZE":
		n, err := l.number(1<<32 - 1)
		a.MaxSize = int64(n)
		return err
	case "DEPTH":
		if l.takeWord("INFINITY") {
			a.Depth = -1
			return nil
		}
		n, err := l.number(1)
		a.Depth = int(n)
		return err
	}
	return bad("Unknown option of GETMETADATA")
}

// entries reads one entry, or a list of them.
func (l *lexer) entries() (list []string, err error) {
	one := func() error {
		if len(list) >= maxEntries {
			return bad("Too many entries")
		}
		e, err := l.entry()
		list = append(list, e)
		return err
	}
	if !l.peek('(') {
		return list, one()
	}
	if err := l.list(one); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, bad("Entry missing")
	}
	return list, nil
}

// entry reads the name of an entry: "/private/…" or "/shared/…" (RFC 5464, Section 3.1).
func (l *lexer) entry() (string, error) {
	e, err := l.astring()
	if err != nil {
		return "", err
	}
	low := strings.ToLower(e)
	if !strings.HasPrefix(low, "/private/") && !strings.HasPrefix(low, "/shared/") && low != "/private" && low != "/shared" ||
		strings.HasSuffix(e, "/") || strings.Contains(e, "//") || len(e) > maxEntry || strings.ContainsFunc(e, func(r rune) bool { return r < ' ' || r > '~' || r == '*' || r == '%' }) {
		return "", bad("Malformed name of an entry")
	}
	return e, nil
}

// value reads a string or a literal8, which may hold NUL (RFC 5464, Section 5).
func (l *lexer) value() (string, error) {
	if l.take('~') {
		return l.literal()
	}
	return l.quotedOrLiteral()
}

// ParseSetMetadata reads the arguments of SETMETADATA.
func ParseSetMetadata(c *Command) (SetMetadata, error) {
	l := c.lexer()
	var a SetMetadata
	var err error
	if a.Mailbox, err = l.mailbox(); err != nil {
		return SetMetadata{}, err
	}
	if err = l.space(); err != nil {
		return SetMetadata{}, err
	}
	if !l.peek('(') {
		return SetMetadata{}, bad("List of entries expected")
	}
	err = l.list(func() error {
		if len(a.Values) >= maxEntries {
			return bad("Too many entries")
		}
		var v MetadataValue
		var err error
		if v.Entry, err = l.entry(); err != nil {
			return err
		}
		if err = l.space(); err != nil {
			return err
		}
		if !l.takeWord("NIL") {
			v.Set = true
			v.Value, err = l.value()
		}
		a.Values = append(a.Values, v)
		return err
	})
	if err != nil {
		return SetMetadata{}, err
	}
	if len(a.Values) == 0 {
		return SetMetadata{}, bad("Entry missing")
	}
	return a, l.end()
}

// AppendMetadata appends a METADATA response with values (RFC 5464, Section 4.4.1).
func AppendMetadata(dst []byte, mailbox string, inUTF8 bool, values []MetadataValue) []byte {
	dst = AppendMailbox(append(dst, "* METADATA "...), mailbox, inUTF8)
	dst = append(dst, " ("...)
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = AppendAString(dst, v.Entry)
		dst = appendValue(append(dst, ' '), v)
	}
	return append(dst, ")\r\n"...)
}

func appendValue(dst []byte, v MetadataValue) []byte {
	if v.Set && strings.IndexByte(v.Value, 0) >= 0 {
		return append(AppendLiteral8Head(dst, int64(len(v.Value))), v.Value...)
	}
	return AppendNString(dst, v.Value, v.Set)
}
