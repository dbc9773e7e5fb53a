package message

import (
	"bytes"
	"html"
)

// stripper takes the tags out of HTML and XML: what a person would read stays. Tags that end a word become a
// space, tags inside a word nothing; comments, scripts and styles vanish.
type stripper struct {
	next  writer
	state htmlState
	name  []byte // of the tag being read, lower case, at most maxName octets
	named bool   // the name is complete
	raw   []byte // "script" or "style" while inside one
	hold  []byte // an entity, or the last octets of a comment
	quote byte   // in an attribute value: its quote
	out   []byte
}

type htmlState uint8

const (
	htmlText   htmlState = iota
	htmlOpen             // after "<"
	htmlTag              // in a tag
	htmlEquals           // after "=" in a tag
	htmlQuoted           // in a quoted attribute value
	htmlMarkup           // after "<!", perhaps a comment
	htmlComment
	htmlEntity // after "&"
)

const (
	maxTagName = 16
	maxEntity  = 32
)

func (s *stripper) write(p []byte) {
	for _, c := range p {
		s.octet(c)
		if len(s.out) >= 1024 {
			s.flush()
		}
	}
	s.flush()
}

func (s *stripper) flush() {
	s.next.write(s.out)
	s.out = s.out[:0]
}

func (s *stripper) end() {
	switch s.state {
	case htmlOpen:
		s.text('<')
	case htmlEntity:
		s.entity()
	}
	s.flush()
	s.next.end()
}

func (s *stripper) octet(c byte) {
	switch s.state {
	case htmlText:
		switch {
		case c == '<':
			s.state = htmlOpen
		case c == '&' && s.raw == nil:
			s.state, s.hold = htmlEntity, append(s.hold[:0], c)
		default:
			s.text(c)
		}
	case htmlOpen:
		s.open(c)
	case htmlTag, htmlEquals:
		s.tag(c)
	case htmlQuoted:
		if c == s.quote {
			s.state = htmlTag
		}
	case htmlMarkup, htmlComment:
		s.markup(c)
	case htmlEntity:
		if c != ';' && len(s.hold) < maxEntity && (c == '#' || isAlnum(c)) {
			s.hold = append(s.hold, c)
			return
		}
		if c == ';' {
			s.hold = append(s.hold, c)
		}
		s.entity()
		if c != ';' {
			s.octet(c)
		}
	}
}

func (s *stripper) text(c byte) {
	if s.raw == nil {
		s.out = append(s.out, c)
	}
}

func (s *stripper) entity() {
	s.state = htmlText
	s.out = append(s.out, html.UnescapeString(string(s.hold))...)
	s.hold = s.hold[:0]
}

func (s *stripper) open(c byte) {
	s.name, s.named = s.name[:0], false
	switch {
	case c == '/' || isAlnum(c) && (c < '0' || c > '9'):
		s.state = htmlTag
		s.tag(c)
	case s.raw == nil && (c == '!' || c == '?'):
		s.state, s.hold = htmlMarkup, s.hold[:0]
	default:
		s.state = htmlText
		s.text('<')
		s.octet(c)
	}
}

func (s *stripper) tag(c byte) {
	switch {
	case c == '>':
		s.state = htmlText
		s.closeTag()
	case s.raw != nil && c == '<': // a "<" in a script is no tag
		s.state = htmlOpen
	case !s.named && (isAlnum(c) || c == '/' && len(s.name) == 0):
		if len(s.name) < maxTagName {
			s.name = append(s.name, lowerASCII(c))
		}
	case s.state == htmlEquals && (c == '"' || c == '\''):
		s.state, s.quote = htmlQuoted, c
	case c == '=':
		s.named, s.state = true, htmlEquals
	case s.state == htmlEquals && (c == ' ' || c == '\t' || c == '\r' || c == '\n'):
	default:
		s.named, s.state = true, htmlTag
	}
}

func (s *stripper) closeTag() {
	name := s.name
	if s.raw != nil {
		if len(name) > 0 && name[0] == '/' && bytes.Equal(name[1:], s.raw) {
			s.raw = nil
		}
		return
	}
	switch string(name) {
	case "script", "style":
		s.raw = bytes.Clone(name)
		return
	}
	if len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	switch string(name) {
	case "a", "abbr", "b", "big", "code", "del", "em", "font", "i", "ins", "mark", "q", "s", "small", "span",
		"strike", "strong", "sub", "sup", "tt", "u", "wbr":
	default:
		s.out = append(s.out, ' ')
	}
}

// markup is <!doctype …>, <?xml …?> or a comment; hold has up to two octets: the first ones, then the last ones.
func (s *stripper) markup(c byte) {
	if s.state == htmlComment {
		if c == '>' && string(s.hold) == "--" {
			s.state = htmlText
			s.out = append(s.out, ' ')
			return
		}
		if c != '-' {
			s.hold = s.hold[:0]
		} else if len(s.hold) < 2 {
			s.hold = append(s.hold, c)
		}
		return
	}
	if c == '-' && len(s.hold) < 2 {
		if s.hold = append(s.hold, c); len(s.hold) == 2 && s.hold[0] == '-' {
			// "<!-->" is a comment that is closed already, as browsers have it.
			s.state = htmlComment
		}
		return
	}
	if len(s.hold) < 2 {
		s.hold = append(s.hold[:0], ' ', ' ')
	}
	if c == '>' {
		s.state = htmlText
		s.out = append(s.out, ' ')
	}
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
