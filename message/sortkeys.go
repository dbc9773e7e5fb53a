package message

import (
	"crypto/sha256"
	"strings"
)

// maxSortText bounds a text that SORT compares, octets of its folded form.
const maxSortText = 200

// SortKeys is what of a message SORT and THREAD compare (RFC 5256; RFC 5957). Texts are decoded, folded and at most 200 octets
// long, "" where a field is missing.
type SortKeys struct {
	Sent                   int64  // seconds since 1970 of the Date field; see Dated
	Dated                  bool   // there is a Date field that can be read
	Reply                  bool   // the subject has the marks of a reply
	Subject                string // base subject
	From, To, Cc           string // local part of the first address
	DisplayFrom, DisplayTo string // what a person sees of the first address
	ID, InReplyTo          RefID  // Message-ID; the first of In-Reply-To
}

// RefID stands for a message identifier: its octets are the sender's, of any length, and need not be kept. The zero value is none.
type RefID [16]byte

// NewRefID stands for what stands between the angle brackets.
func NewRefID(id string) RefID {
	sum := sha256.Sum256([]byte(id))
	return RefID(sum[:len(RefID{})])
}

// SortKeys makes the keys out of the date and of Envelope.
func (m *Meta) SortKeys() SortKeys {
	f := m.sortFields()
	base, reply := BaseSubject(f.Subject)
	k := SortKeys{Reply: reply, ID: firstRef(f.MessageID), InReplyTo: firstRef(f.ReplyTo)}
	if k.Dated = !m.SentDate.IsZero(); k.Dated {
		k.Sent = m.SentDate.Unix()
	}
	from := [...]string{base, f.From.Mailbox, f.To.Mailbox, f.Cc.Mailbox, f.From.Display(), f.To.Display()}
	to := [len(from)]*string{&k.Subject, &k.From, &k.To, &k.Cc, &k.DisplayFrom, &k.DisplayTo}
	var b []byte
	var ends [len(from)]int
	for i, s := range from {
		start := len(b)
		b = Fold(b, []byte(s))
		b = b[:min(len(b), start+maxSortText)]
		ends[i] = len(b)
	}
	texts, start := string(b), 0 // one allocation for all
	for i, end := range ends {
		*to[i] = texts[start:end]
		start = end
	}
	return k
}

// Len is the size of the texts, octets.
func (k *SortKeys) Len() int {
	return len(k.Subject) + len(k.From) + len(k.To) + len(k.Cc) + len(k.DisplayFrom) + len(k.DisplayTo)
}

func firstRef(field string) RefID {
	for id := range References(field) {
		return NewRefID(id)
	}
	return RefID{}
}

// References yields the message identifiers of an unfolded field: what stands in angle brackets.
func References(field string) func(yield func(id string) bool) {
	return func(yield func(string) bool) {
		for s := field; ; {
			_, rest, ok := strings.Cut(s, "<")
			id, after, ended := strings.Cut(rest, ">")
			if !ok || !ended {
				return
			}
			if id != "" && !strings.ContainsAny(id, "< \t") && !yield(id) {
				return
			}
			s = after
		}
	}
}
