package message

import (
	"bytes"
	"errors"
	"strings"
)

// Why a message does not say plainly who wrote it. Test with errors.Is.
var (
	ErrHeader     = errors.New("message: a header that readers would take in different ways")
	ErrNoField    = errors.New("message: the field is missing")
	ErrRepeated   = errors.New("message: the field stands more than once")
	ErrNotOne     = errors.New("message: not exactly one address")
	ErrNoMailbox  = errors.New("message: not an address in the form of RFC 5322, Section 3.4")
	ErrDisguise   = errors.New("message: a name that shows another address")
	ErrOtherWrote = errors.New("message: the address of somebody else")
)

// OriginError is a fault of one field, or of the whole header where Field is "". It repeats nothing of the message.
type OriginError struct {
	Field string // "From", "Sender" or ""
	Err   error  // one of those above
}

func (e *OriginError) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + " (" + e.Field + ")"
}

func (e *OriginError) Unwrap() error { return e.Err }

// Origin is what the top header says of who wrote a message, for a front that answers for it. Other readers must not be able
// to see something else in the same octets: what is not in the plain form of RFC 5322, Sections 3.4 and 3.6.2, is an error,
// obsolete forms included. It is known after Finish.
type Origin struct {
	From   Address // the one address of the one From field, in lower case; "" with Err
	Sender Address // the same of Sender; "" where there is none
	Err    error   // an *OriginError: the first fault of header, From and Sender; nil when there is none

	Receipt bool // a multipart/report of what became of a message (MDN, RFC 8098): it is sent with the null sender
}

// By reports whether From, and Sender where there is one, are the address a and nothing else; the error is an *OriginError.
func (o *Origin) By(a Address) error {
	a = a.Lower()
	switch {
	case o.Err != nil:
		return o.Err
	case o.From != a:
		return &OriginError{"From", ErrOtherWrote}
	case o.Sender != "" && o.Sender != a:
		return &OriginError{"Sender", ErrOtherWrote}
	}
	return nil
}

// Origin is who wrote the message, as its top header has it, after Finish.
func (s *Scanner) Origin() Origin { return s.origin }

// isReceipt reports whether a part is a multipart/report with report-type=disposition-notification (RFC 8098, Section 3.1).
func isReceipt(p *Part, params []param) bool {
	kind, _ := lookup(params, "report-type")
	return p.Type == "multipart" && p.Subtype == "report" && strings.EqualFold(kind, "disposition-notification")
}

// originOf reads the top header h; cut says that it was longer than MaxHeader.
func originOf(h []byte, cut bool) Origin {
	var o Origin
	var from, sender originator
	junk := eachField(h, func(name, value []byte) {
		var buf [48]byte
		switch string(lowerName(&buf, name)) {
		case "from":
			from.add(value)
		case "sender":
			sender.add(value)
		}
	})
	switch {
	case junk || cut || !plainLines(h):
		o.Err = &OriginError{"", ErrHeader}
	case from.fault() != nil:
		o.Err = &OriginError{"From", from.fault()}
	case sender.fields > 0 && sender.fault() != nil:
		o.Err = &OriginError{"Sender", sender.fault()}
	default:
		o.From, o.Sender = from.addr, sender.addr
	}
	return o
}

// plainLines reports whether a header has no NUL, and CR and LF as pairs only: elsewhere some readers see the end of a line.
func plainLines(h []byte) bool {
	pairs := bytes.Count(h, []byte("\r\n"))
	return bytes.IndexByte(h, 0) < 0 && bytes.Count(h, []byte{'\r'}) == pairs && bytes.Count(h, lf) == pairs
}

// originator is what the From fields, or the Sender fields, of a header hold.
type originator struct {
	fields int
	addr   Address
	err    error
}

func (o *originator) add(value []byte) {
	if o.fields++; o.fields == 1 {
		o.addr, o.err = parseMailbox(value)
	}
}

func (o *originator) fault() error {
	switch {
	case o.fields == 0:
		return ErrNoField
	case o.fields > 1:
		return ErrRepeated
	}
	return o.err
}

// parseMailbox reads the value of a field that holds one mailbox (RFC 5322, Section 3.4) and yields its address in lower case.
// It refuses groups, lists, routes, comments and space inside the address, and a line of a folded value that looks empty.
func parseMailbox(value []byte) (Address, error) {
	// The first line may be empty, as JavaMail folds; one behind it is the form of obs-FWS, at which readers stop (RFC 5322, Section 4.2).
	if _, folded, more := bytes.Cut(bytes.TrimSuffix(value, []byte("\r\n")), []byte("\r\n")); more {
		for line := range bytes.SplitSeq(folded, []byte("\r\n")) {
			if len(bytes.Trim(line, " \t")) == 0 {
				return "", ErrNoMailbox
			}
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
			return "", ErrNoMailbox
		}
	}
	p := mailboxParser{s: unfold(value)}
	if err := p.parse(); err != nil {
		return "", err
	}
	text := strings.Trim(string(p.text), " \t")
	if p.angle {
		p.show(text)
		text = p.inner
	}
	addr, err := ParseAddress(text)
	if err != nil {
		return "", ErrNoMailbox
	}
	addr = addr.Lower()
	for _, shown := range p.shown {
		if !harmless(shown, addr) {
			return "", ErrDisguise
		}
	}
	return addr, nil
}

// mailboxParser is one pass over the value of a field.
type mailboxParser struct {
	s     string
	text  []byte   // outside angle brackets, without comments, quotes as written
	angle bool     // "<" was seen
	inner string   // what stands in "<>"
	shown []string // comments, and the name: what people read beside the address or in its place
}

func (p *mailboxParser) show(s string) { p.shown = append(p.shown, s) }

func (p *mailboxParser) parse() error {
	for i := 0; i < len(p.s); {
		switch c := p.s[i]; {
		case c == '(':
			end := skipComment(p.s, i)
			if end == i+1 {
				return ErrNoMailbox
			}
			p.show(commentText(p.s[i+1 : end-1]))
			p.text = append(p.text, ' ')
			i = end
		case c == ',', c == ';', c == ':':
			return ErrNotOne
		case p.angle && c != ' ' && c != '\t':
			return ErrNoMailbox // behind ">"
		case c == '"':
			end := quotedEnd(p.s, i)
			if end < 0 {
				return ErrNoMailbox
			}
			p.text = append(p.text, p.s[i:end]...)
			i = end
		case c == '<':
			n := strings.IndexByte(p.s[i:], '>')
			if n < 0 {
				return ErrNoMailbox
			}
			p.angle, p.inner = true, p.s[i+1:i+n]
			i += n + 1
		case c == '>', c == ')', c == '\\':
			return ErrNoMailbox
		default:
			p.text = append(p.text, c)
			i++
		}
	}
	return nil
}

// quotedEnd is the index behind the quoted string that begins at i, -1 when it never ends.
func quotedEnd(s string, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// harmless reports whether a name or comment shows no address but that of the mailbox, and nothing that a reader who decodes
// it before parsing would take for the end of a name. Many clients give the address as the name.
func harmless(shown string, addr Address) bool {
	if !readableWords(shown) {
		return false
	}
	text := string(decodeWords(shown))
	if strings.Contains(text, "=?") || strings.ContainsFunc(text, unshowable) {
		return false
	}
	for word := range strings.FieldsSeq(strings.ToLower(text)) {
		if strings.Trim(word, `"'<>()[]`) != string(addr) && (strings.ContainsAny(word, "<>") || likeAddress(word)) {
			return false
		}
	}
	return true
}

// likeAddress reports whether a word has an "@" with a dot behind it, each in any of its widths; "Pharm@cie" has none.
func likeAddress(word string) bool {
	at := strings.IndexAny(word, "@\uff20\ufe6b")
	return at >= 0 && strings.ContainsAny(word[at:], ".\uff0e\ufe52\u3002\uff61\u2024")
}

// unshowable are control characters, and those that turn the direction of writing.
func unshowable(r rune) bool {
	return r < ' ' && r != '\t' || r == 0x7f || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// readableWords reports whether decodeWords reads all encoded words of a text: in one that is too long, or in a charset that is
// not known, UTF-7 above all, an "@" may hide.
func readableWords(s string) bool {
	for {
		i := strings.Index(s, "=?")
		if i < 0 {
			return true
		}
		charset, _, n := decodeWord(s[i:])
		if n == 0 {
			return false
		}
		switch strings.ToLower(charset) {
		case "utf-8", "utf8", "us-ascii", "ascii":
		default:
			if charsetDecoder(charset) == nil {
				return false
			}
		}
		s = s[i+n:]
	}
}
