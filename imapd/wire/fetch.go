package wire

import (
	"strconv"
	"strings"
)

const (
	maxModSeq    = 1<<63 - 1
	maxPartDepth = 64  // levels of a part number
	maxField     = 128 // octets of a header field's name
)

// fetchNames is the items without arguments. RFC822 and its kin are sections under their own names
// (RFC 3501, Section 6.4.5).
var fetchNames = map[string]FetchItem{
	"UID":           {Kind: FetchUID},
	"FLAGS":         {Kind: FetchFlags},
	"INTERNALDATE":  {Kind: FetchInternalDate},
	"RFC822.SIZE":   {Kind: FetchSize},
	"ENVELOPE":      {Kind: FetchEnvelope},
	"BODYSTRUCTURE": {Kind: FetchBodyStructure},
	"BODY":          {Kind: FetchBody},
	"MODSEQ":        {Kind: FetchModSeq},
	"SAVEDATE":      {Kind: FetchSaveDate},
	"PREVIEW":       {Kind: FetchPreview, Peek: true},
	"EMAILID":       {Kind: FetchEmailID},
	"THREADID":      {Kind: FetchThreadID},
	"RFC822":        {Kind: FetchSection},
	"RFC822.HEADER": {Kind: FetchSection, Section: Section{Text: SectionHeader}, Peek: true},
	"RFC822.TEXT":   {Kind: FetchSection, Section: Section{Text: SectionText}},
}

// macro expands ALL, FAST and FULL (RFC 9051, Section 6.4.5).
func macro(name string) []string {
	switch name {
	case "FAST":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE"}
	case "ALL":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"}
	case "FULL":
		return []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"}
	}
	return nil
}

// ParseFetch reads the arguments of FETCH and UID FETCH (RFC 9051, Section 6.4.5; RFC 7162, Section 3.1.4.1).
func ParseFetch(c *Command) (Fetch, error) {
	l := c.lexer()
	f := Fetch{UID: c.UID}
	var err error
	if f.Set, err = l.set(); err != nil {
		return Fetch{}, err
	}
	if err = l.space(); err != nil {
		return Fetch{}, err
	}
	if l.peek('(') {
		if err = l.list(func() error { return l.fetchItem(&f) }); err == nil && len(f.Items) == 0 {
			err = bad("Fetch item missing")
		}
	} else {
		err = l.fetchSingle(&f)
	}
	if err != nil {
		return Fetch{}, err
	}
	if l.take(' ') {
		if err = l.list(func() error { return l.fetchModifier(&f) }); err != nil {
			return Fetch{}, err
		}
	}
	if f.Vanished && !(f.UID && f.HasChangedSince) {
		return Fetch{}, bad("VANISHED needs UID FETCH and CHANGEDSINCE")
	}
	if f.HasPartial && !f.UID {
		return Fetch{}, bad("PARTIAL needs UID FETCH")
	}
	return f, l.end()
}

func (l *lexer) fetchModifier(f *Fetch) error {
	if !f.Vanished && l.takeWord("VANISHED") {
		f.Vanished = true
		return nil
	}
	if !f.HasPartial && l.takeWord("PARTIAL") {
		f.HasPartial = true
		err := l.space()
		if err == nil {
			f.Partial, err = l.window()
		}
		return err
	}
	if !l.takeWord("CHANGEDSINCE") || f.HasChangedSince {
		return bad("Unknown FETCH modifier")
	}
	if err := l.space(); err != nil {
		return err
	}
	n, err := l.number(maxModSeq)
	if n == 0 && err == nil {
		err = bad("Number missing or out of range")
	}
	f.ChangedSince, f.HasChangedSince = n, true
	return err
}

// fetchSingle reads a macro or one item.
func (l *lexer) fetchSingle(f *Fetch) error {
	for _, name := range []string{"ALL", "FAST", "FULL"} {
		if !l.takeWord(name) {
			continue
		}
		for _, n := range macro(name) {
			item := fetchNames[n]
			item.Label = n
			f.add(item)
		}
		return nil
	}
	return l.fetchItem(f)
}

// lazy is what may stand behind PREVIEW.
const lazy = " (LAZY)"

func isItemChar(ch byte) bool { return isAtomChar(ch) && ch != '[' && ch != '<' }

func (l *lexer) fetchItem(f *Fetch) error {
	name := strings.ToUpper(string(l.span(isItemChar)))
	if (name == "BODY" || name == "BODY.PEEK") && l.peek('[') {
		item, err := l.bodySection()
		item.Peek = name == "BODY.PEEK"
		f.add(item)
		return err
	}
	if name == "BINARY" || name == "BINARY.PEEK" || name == "BINARY.SIZE" {
		item, err := l.binarySection(name)
		f.add(item)
		return err
	}
	item, ok := fetchNames[name]
	if item.Kind == FetchPreview && len(l.b) >= len(lazy) && strings.EqualFold(string(l.b[:len(lazy)]), lazy) {
		l.b = l.b[len(lazy):] // RFC 8970, Section 4.1: what can be answered at once may be answered
	}
	if !ok {
		return bad("Unknown fetch item")
	}
	item.Label = name
	f.add(item)
	return nil
}

// add adds an item unless it stands there already. Asked for with and without PEEK, \Seen is set.
func (f *Fetch) add(item FetchItem) {
	for i := range f.Items {
		have := &f.Items[i]
		if have.Label != item.Label || (have.Partial == nil) != (item.Partial == nil) {
			continue
		}
		if have.Partial != nil && *have.Partial != *item.Partial {
			continue
		}
		have.Peek = have.Peek && item.Peek
		return
	}
	f.Items = append(f.Items, item)
}

// bodySection reads "[" section "]" and a partial, and makes the label to answer under.
func (l *lexer) bodySection() (FetchItem, error) {
	item := FetchItem{Kind: FetchSection}
	if err := l.need('['); err != nil {
		return item, err
	}
	if err := l.section(&item.Section); err != nil {
		return item, err
	}
	if !l.take(']') {
		return item, bad("Malformed section")
	}
	if l.peek('<') {
		p, err := l.partial()
		if err != nil {
			return item, err
		}
		item.Partial = p
	}
	item.Label = string(appendLabel(nil, &item))
	return item, nil
}

func (l *lexer) section(s *Section) error {
	for l.peekDigit() {
		n, err := l.number(1<<31 - 1)
		if err != nil || n == 0 || len(s.Part) == maxPartDepth {
			return bad("Malformed part number")
		}
		s.Part = append(s.Part, int(n))
		if !l.take('.') {
			return nil
		}
		if l.peek(']') {
			return bad("Malformed section")
		}
	}
	switch strings.ToUpper(string(l.span(func(ch byte) bool { return isAtomChar(ch) && ch != '[' }))) {
	case "":
		if len(s.Part) > 0 {
			return bad("Malformed section")
		}
	case "HEADER":
		s.Text = SectionHeader
	case "TEXT":
		s.Text = SectionText
	case "MIME":
		// RFC 9051, Section 6.4.5.1: MIME must be prefixed by part numbers.
		if len(s.Part) == 0 {
			return bad("MIME needs a part number")
		}
		s.Text = SectionMIME
	case "HEADER.FIELDS":
		s.Text = SectionHeaderFields
		return l.sectionFields(s)
	case "HEADER.FIELDS.NOT":
		s.Text = SectionHeaderFieldsNot
		return l.sectionFields(s)
	default:
		return bad("Unknown section")
	}
	return nil
}

func (l *lexer) peekDigit() bool { return len(l.b) > 0 && isDigit(l.b[0]) }

func (l *lexer) sectionFields(s *Section) error {
	if err := l.space(); err != nil {
		return err
	}
	err := l.list(func() error {
		name, err := l.astring()
		if err == nil && !isField(name) {
			err = bad("Malformed header field name")
		}
		s.Fields = append(s.Fields, name)
		return err
	})
	if err == nil && len(s.Fields) == 0 {
		err = bad("Header field name missing")
	}
	return err
}

// isField: RFC 5322, Section 3.6.8, field-name.
func isField(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return s != "" && len(s) <= maxField
}

// partial reads "<" offset "." size ">".
func (l *lexer) partial() (*Partial, error) {
	l.take('<')
	off, err := l.number(maxModSeq)
	if err != nil || !l.take('.') {
		return nil, bad("Malformed partial")
	}
	size, err := l.number(maxModSeq)
	if err != nil || size == 0 || !l.take('>') {
		return nil, bad("Malformed partial")
	}
	return &Partial{Offset: int64(off), Size: int64(size)}, nil
}

// appendLabel appends the name of a section in a response: without PEEK, a partial by its offset alone.
func appendLabel(dst []byte, item *FetchItem) []byte {
	s := &item.Section
	dst = append(dst, "BODY["...)
	for i, n := range s.Part {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	if len(s.Part) > 0 && s.Text != SectionAll {
		dst = append(dst, '.')
	}
	dst = append(dst, [...]string{"", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"}[s.Text]...)
	if len(s.Fields) > 0 {
		dst = append(dst, " ("...)
		for i, f := range s.Fields {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = AppendAString(dst, f)
		}
		dst = append(dst, ')')
	}
	dst = append(dst, ']')
	if item.Partial != nil {
		dst = append(dst, '<')
		dst = strconv.AppendInt(dst, item.Partial.Offset, 10)
		dst = append(dst, '>')
	}
	return dst
}
