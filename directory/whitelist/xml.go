package whitelist

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

const maxDepth = 16 // the form has 6

// token is one piece of the document.
type token struct {
	kind   tokenKind
	name   string // of an element
	attr   string // name of its one attribute, "" for none
	value  string // of that attribute
	empty  bool   // <x/>: an end token follows all the same
	text   []byte // decoded
	offset int    // in the document
}

type tokenKind uint8

const (
	tokStart tokenKind = iota
	tokEnd
	tokText
	tokEOF
)

// scanner cuts a document into tokens. It takes the small part of XML in which lists are written: elements without
// prefix and with at most one attribute, single blanks and double quotes in tags, text with the predefined entities and
// character references. In that part an octet can hardly be changed without changing the canonical form, and where it
// can, the octet is refused.
type scanner struct {
	b       []byte
	i       int
	stack   []string
	started bool   // the root was seen
	pending string // end of an empty element, to be given next
	buf     []byte // of the text token given last
}

// FormError says where a document leaves the form of a list.
type FormError struct {
	Line     int
	Expected string
}

func (e *FormError) Error() string {
	return fmt.Sprintf("line %d: expected %s", e.Line, e.Expected)
}

func (s *scanner) fail(at int, expected string) error {
	return &FormError{Line: 1 + bytes.Count(s.b[:min(at, len(s.b))], []byte{'\n'}), Expected: expected}
}

// declarations are the only ones accepted, octet for octet.
var declarations = []string{
	`<?xml version="1.0" encoding="UTF-8"?>`,
	`<?xml version="1.0" encoding="UTF-8" standalone="no"?>`,
	`<?xml version="1.0" encoding="UTF-8" standalone="yes"?>`,
}

// prolog passes the XML declaration, if there is one, and a line feed.
func (s *scanner) prolog() error {
	if !utf8.Valid(s.b) {
		return &FormError{1, "UTF-8 throughout"}
	}
	for _, d := range declarations {
		if bytes.HasPrefix(s.b, []byte(d)) {
			s.i = len(d)
		}
	}
	if s.i < len(s.b) && s.b[s.i] == '\n' {
		s.i++
	}
	return nil
}

// next gives the next token. Text is valid until the call after.
func (s *scanner) next() (token, error) {
	if s.pending != "" {
		t := token{kind: tokEnd, name: s.pending, offset: s.i}
		s.pending = ""
		return t, nil
	}
	if len(s.stack) == 0 && s.started {
		rest := bytes.TrimSuffix(s.b[s.i:], []byte{'\n'})
		if len(rest) > 0 {
			return token{}, s.fail(s.i, "the end of the document after the root element")
		}
		return token{kind: tokEOF, offset: s.i}, nil
	}
	if s.i >= len(s.b) {
		return token{}, s.fail(s.i, "more: the document is cut off")
	}
	switch {
	case s.b[s.i] != '<' && len(s.stack) > 0:
		return s.scanText()
	case bytes.HasPrefix(s.b[s.i:], []byte("</")):
		return s.scanEnd()
	default:
		return s.scanStart()
	}
}

func (s *scanner) scanName() string {
	start := s.i
	for s.i < len(s.b) && (isLetter(s.b[s.i]) || s.i > start && '0' <= s.b[s.i] && s.b[s.i] <= '9') {
		s.i++
	}
	return string(s.b[start:s.i])
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func (s *scanner) scanStart() (token, error) {
	t := token{kind: tokStart, offset: s.i}
	if s.b[s.i] != '<' {
		return t, s.fail(s.i, "the root element")
	}
	s.i++
	if t.name = s.scanName(); t.name == "" {
		return t, s.fail(s.i, "an element's name (no comment, CDATA, instruction or document type)")
	}
	if s.skip(" ") {
		t.attr = s.scanName()
		if t.attr == "" || !s.skip(`="`) {
			return t, s.fail(s.i, `one attribute as name="value"`)
		}
		end := bytes.IndexAny(s.b[s.i:], "\"&<\t\r\n")
		if end < 0 || s.b[s.i+end] != '"' {
			return t, s.fail(s.i, "an attribute value without entities or line ends")
		}
		t.value = string(s.b[s.i : s.i+end])
		s.i += end + 1
	}
	switch {
	case s.skip(">"):
		if len(s.stack) >= maxDepth {
			return t, s.fail(t.offset, fmt.Sprintf("at most %d elements in one another", maxDepth))
		}
		s.stack = append(s.stack, t.name)
	case s.skip("/>"):
		t.empty, s.pending = true, t.name
	default:
		return t, s.fail(s.i, `">" or "/>"`)
	}
	s.started = true
	return t, nil
}

func (s *scanner) skip(p string) bool {
	if !bytes.HasPrefix(s.b[s.i:], []byte(p)) {
		return false
	}
	s.i += len(p)
	return true
}

func (s *scanner) scanEnd() (token, error) {
	t := token{kind: tokEnd, offset: s.i}
	if len(s.stack) == 0 {
		return t, s.fail(s.i, "the root element")
	}
	s.i += len("</")
	t.name = s.stack[len(s.stack)-1]
	if !s.skip(t.name + ">") {
		return t, s.fail(t.offset, "</"+t.name+">")
	}
	s.stack = s.stack[:len(s.stack)-1]
	return t, nil
}

// entities are the references accepted. CR may only stand as a reference: a raw one would be normalised away
// (XML 1.0, Section 2.11), so two documents would have one canonical form.
var entities = []struct {
	ref string
	c   byte
}{{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&#13;", '\r'}, {"&#xD;", '\r'}}

func (s *scanner) scanText() (token, error) {
	t := token{kind: tokText, offset: s.i}
	s.buf = s.buf[:0]
	for s.i < len(s.b) && s.b[s.i] != '<' {
		c := s.b[s.i]
		if c != '&' {
			if c < ' ' && c != '\n' && c != '\t' || c == 0x7f || c == '>' {
				return t, s.fail(s.i, "text without control characters or a bare \">\"")
			}
			s.buf = append(s.buf, c)
			s.i++
			continue
		}
		known := false
		for _, e := range entities {
			if known = s.skip(e.ref); known {
				s.buf = append(s.buf, e.c)
				break
			}
		}
		if !known {
			return t, s.fail(s.i, "a predefined entity or &#13;")
		}
	}
	t.text = s.buf
	return t, nil
}

// appendCanonical writes a token in its canonical form (Canonical XML 1.0, Section 2.3, which the exclusive form
// follows; the only namespaces are default ones, declared where they are first used). ns, if not "", is a declaration
// that the element needs and does not have itself.
func appendCanonical(dst []byte, t token, ns string) []byte {
	switch t.kind {
	case tokStart:
		dst = append(append(dst, '<'), t.name...)
		if ns != "" {
			dst = append(append(append(dst, ` xmlns="`...), ns...), '"')
		}
		if t.attr != "" {
			dst = append(append(append(dst, ' '), t.attr...), `="`...)
			dst = append(append(dst, t.value...), '"')
		}
		dst = append(dst, '>')
	case tokEnd:
		dst = append(append(append(dst, "</"...), t.name...), '>')
	case tokText:
		dst = appendText(dst, t.text)
	}
	return dst
}

func appendText(dst, text []byte) []byte {
	for len(text) > 0 {
		n := bytes.IndexAny(text, "&<>\r")
		if n < 0 {
			return append(dst, text...)
		}
		dst = append(dst, text[:n]...)
		switch text[n] {
		case '&':
			dst = append(dst, "&amp;"...)
		case '<':
			dst = append(dst, "&lt;"...)
		case '>':
			dst = append(dst, "&gt;"...)
		case '\r':
			dst = append(dst, "&#xD;"...)
		}
		text = text[n+1:]
	}
	return dst
}
