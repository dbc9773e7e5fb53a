package message

import (
	"io"
	"strings"
)

// Place is where SearchBlob looks.
type Place uint8

// Places, with the SEARCH keys of RFC 9051, Section 6.4.4 that they answer.
const (
	PlaceText  Place = iota // TEXT: header and body
	PlaceBody               // BODY
	PlaceField              // HEADER, FROM, SUBJECT …: the fields of one name
)

// SearchBlob looks for needle, folded by Fold, in a message of any size with bounded memory. It sees exactly the
// words that Text holds, without its bound: it gives the answer where Text says that it is not sure. field is the name
// of the header field for PlaceField. The error is that of r.
func SearchBlob(r io.Reader, needle []byte, place Place, field string) (bool, error) {
	s := newScanner()
	m := &matcher{needle: needle}
	switch place {
	case PlaceText:
		if len(needle) == 0 {
			return true, nil
		}
		s.headers, s.names, s.body = m, m, m
	case PlaceBody:
		s.names, s.body = m, m
		if len(needle) == 0 {
			return true, nil
		}
	case PlaceField:
		s.headers, s.field = m, strings.ToLower(field)
	}
	buf := make([]byte, 64<<10)
	for !m.found && !(place == PlaceField && !s.topHeader()) {
		n, err := r.Read(buf)
		s.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
	}
	s.end()
	m.look()
	return m.found, nil
}

// topHeader reports whether the header of the message itself is still being read.
func (s *Scanner) topHeader() bool { return s.inHeader && len(s.open) == 1 }
