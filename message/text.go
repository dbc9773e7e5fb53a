package message

import (
	"bytes"
	"log/slog"
	"strings"
)

// Text holds the words of a message, folded by Fold. It is bounded: what was left out is marked, and the
// question then goes to SearchBlob.
type Text struct {
	Header    []byte // "from: …\nsubject: …\n", one line per field of the top header
	Body      []byte // words of the text and HTML parts, attachment names, one line per part
	HeaderCut bool   // Header is not complete
	BodyCut   bool   // Body is not complete
}

// LogValue hides everything but the sizes.
func (t Text) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("header", len(t.Header)), slog.Int("body", len(t.Body)))
}

// Field looks for needle in the header fields of that name. The empty needle asks whether there is one.
// sure is false when it was not found in a Header that is not complete.
func (t Text) Field(name string, needle []byte) (found, sure bool) {
	prefix := []byte(strings.ToLower(name) + ": ")
	rest := t.Header
	for len(rest) > 0 {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if bytes.HasPrefix(line, prefix) && contains(line[len(prefix):], needle) {
			return true, true
		}
	}
	return false, !t.HeaderCut
}

// BodyContains looks for needle in the body; sure is false when it was not found in a Body that is cut.
func (t Text) BodyContains(needle []byte) (found, sure bool) {
	if contains(t.Body, needle) {
		return true, true
	}
	return false, !t.BodyCut
}

// Contains looks for needle in header and body, as SEARCH TEXT does.
func (t Text) Contains(needle []byte) (found, sure bool) {
	if contains(t.Header, needle) {
		return true, true
	}
	found, sure = t.BodyContains(needle)
	return found, found || sure && !t.HeaderCut
}
