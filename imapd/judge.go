package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mssd/imapd/wire"
	"mssd/message"
	"mssd/store"
)

type textOf = message.Text

// verdict on one message. open means that what is known so far does not settle it.
type verdict uint8

const (
	no_ verdict = iota
	open
	yes
)

func verdictOf(b bool) verdict {
	if b {
		return yes
	}
	return no_
}

// depth is how much of a message may be looked at.
type depth uint8

const (
	byRow   depth = iota // flags, dates, size, UID
	bySieve              // which words it cannot have
	byText               // the stored words too
	byBody               // the octets too, where the words were cut
)

// candidate is a message being judged.
type candidate struct {
	row   store.Row
	sieve message.Sieve
	text  *message.Text
	depth depth

	verdict verdict // the last one
	err     error
}

// judge is a compiled search key. Several goroutines ask it at a time.
type judge func(*candidate) (verdict, error)

// compile makes a judge of a key. Sets are resolved now: they mean the messages of this moment.
func (c *conn) compile(k wire.Key) (judge, error) {
	switch k.Op {
	case wire.KeyAll:
		return rowJudge(func(store.Row) bool { return true }), nil
	case wire.KeyAnd, wire.KeyOr, wire.KeyNot:
		return c.compileTree(k)
	case wire.KeySeq, wire.KeyUID:
		return c.setJudge(k)
	case wire.KeyFlag:
		return c.flagJudge(k.Flag), nil
	case wire.KeyKeyword:
		return rowJudge(func(r store.Row) bool {
			return slices.ContainsFunc(c.srv.Store.Keywords(r.Keywords), func(s string) bool { return strings.EqualFold(s, k.Text) })
		}), nil
	case wire.KeyLarger:
		return rowJudge(func(r store.Row) bool { return uint64(r.Size) > k.Number }), nil
	case wire.KeySmaller:
		return rowJudge(func(r store.Row) bool { return uint64(r.Size) < k.Number }), nil
	case wire.KeyModSeq: // RFC 7162, Section 3.1.5
		return rowJudge(func(r store.Row) bool { return uint64(r.ModSeq) >= k.Number }), nil
	case wire.KeyOlder, wire.KeyYounger: // RFC 5032, Section 2: to the second, and that second is in both
		limit := c.srv.Now().Truncate(time.Second).Add(-time.Duration(k.Number) * time.Second)
		if k.Op == wire.KeyOlder {
			return rowJudge(func(r store.Row) bool { return !r.Date.After(limit) }), nil
		}
		return rowJudge(func(r store.Row) bool { return !r.Date.Before(limit) }), nil
	case wire.KeySavedBefore, wire.KeySavedOn, wire.KeySavedSince:
		op := map[wire.KeyOp]wire.KeyOp{wire.KeySavedBefore: wire.KeyBefore, wire.KeySavedOn: wire.KeyOn, wire.KeySavedSince: wire.KeySince}[k.Op]
		return onDay(op, k.Date, func(r store.Row) time.Time { return r.SaveDate }), nil
	case wire.KeyEmailID:
		return rowJudge(func(r store.Row) bool { return c.emailID(r) == k.Text }), nil
	case wire.KeyThreadID:
		return c.threadJudge(k.Text), nil
	case wire.KeyBefore, wire.KeyOn, wire.KeySince:
		return onDay(k.Op, k.Date, func(r store.Row) time.Time { return r.Date }), nil
	case wire.KeySentBefore, wire.KeySentOn, wire.KeySentSince:
		return c.sentJudge(k), nil
	case wire.KeyHeader, wire.KeyBody, wire.KeyText:
		return c.wordJudge(k), nil
	}
	return nil, bad("", "This search key is not offered")
}

// setJudge looks a message up in a set, as the client wrote it: a mailbox with many holes makes thousands of runs of "1:*", and a
// command may say that a thousand times.
func (c *conn) setJudge(k wire.Key) (judge, error) {
	view, saved := &c.sel.view, c.sel.saved
	switch {
	case k.Set.Saved:
		return rowJudge(func(r store.Row) bool { return runsHold(saved, r.UID) }), nil
	case k.Op == wire.KeyUID:
		in := k.Set.Resolve(uint32(view.lastUID()))
		return rowJudge(func(r store.Row) bool { return rangesHold(in, uint32(r.UID)) }), nil
	case c.uidOnly:
		return nil, errUIDRequired
	}
	in := k.Set.Resolve(view.count())
	if n := len(in); n > 0 && in[n-1].Last > view.count() {
		return nil, errNumber
	}
	return rowJudge(func(r store.Row) bool { return rangesHold(in, uint32(view.seq(r.UID))) }), nil
}

// compileTree is AND, OR and NOT over three values: an open verdict stays open unless another settles it.
func (c *conn) compileTree(k wire.Key) (judge, error) {
	subs := make([]judge, len(k.Keys))
	for i, sub := range k.Keys {
		j, err := c.compile(sub)
		if err != nil {
			return nil, err
		}
		subs[i] = j
	}
	switch k.Op {
	case wire.KeyNot:
		return func(m *candidate) (verdict, error) {
			v, err := subs[0](m)
			return yes - v, err
		}, nil
	case wire.KeyOr:
		return fold(subs, yes), nil
	}
	return fold(subs, no_), nil
}

// fold combines judges: one verdict of stop decides, open is weaker than that, else it is the opposite.
func fold(subs []judge, stop verdict) judge {
	return func(m *candidate) (verdict, error) {
		result := yes - stop
		for _, j := range subs {
			v, err := j(m)
			if err != nil || v == stop {
				return v, err
			}
			if v == open {
				result = open
			}
		}
		return result, nil
	}
}

func rowJudge(f func(store.Row) bool) judge {
	return func(m *candidate) (verdict, error) { return verdictOf(f(m.row)), nil }
}

func (c *conn) flagJudge(f wire.Flag) judge {
	if f == wire.Recent {
		return rowJudge(func(r store.Row) bool { return runsHold(c.sel.recent, r.UID) })
	}
	want := storeFlag(f)
	return rowJudge(func(r store.Row) bool { return r.Flags&want == want })
}

// onDay compares a date of a row, in UTC, with a day.
func onDay(op wire.KeyOp, day time.Time, date func(store.Row) time.Time) judge {
	first := day.Unix() // days are read as UTC
	next := first + 24*60*60
	return rowJudge(func(r store.Row) bool {
		t := date(r).Unix()
		switch op {
		case wire.KeyBefore:
			return t < first
		case wire.KeyOn:
			return t >= first && t < next
		}
		return t >= first
	})
}

// dayMatches compares dates without their time and zone (RFC 9051, Section 6.4.4).
func dayMatches(op wire.KeyOp, t, day time.Time) bool {
	d := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	switch op {
	case wire.KeySentBefore:
		return d.Before(day)
	case wire.KeySentOn:
		return d.Equal(day)
	}
	return !d.Before(day)
}

// sentJudge looks at the Date field, in the zone in which it was written. A message without one never matches.
func (c *conn) sentJudge(k wire.Key) judge {
	return func(m *candidate) (verdict, error) {
		if m.depth < byText {
			return open, nil
		}
		meta, err := c.srv.Store.Meta(c.ctx, m.row.Message)
		if err != nil {
			return no_, unreadable(err)
		}
		return verdictOf(!meta.SentDate.IsZero() && dayMatches(k.Op, meta.SentDate, k.Date)), nil
	}
}

// wordJudge looks for words, folded on both sides, so that accents and encoded words compare right.
func (c *conn) wordJudge(k wire.Key) judge {
	needle := message.Fold(nil, []byte(k.Text))
	if len(needle) == 0 && k.Op != wire.KeyHeader {
		return rowJudge(func(store.Row) bool { return true }) // the empty string is in everything
	}
	ours := k.Op == wire.KeyHeader && slices.Contains(prefixFields, strings.ToUpper(k.Field))
	return func(m *candidate) (verdict, error) {
		switch {
		case m.depth == bySieve && !ours && !m.sieve.MayHold(needle):
			return no_, nil
		case m.depth < byText:
			return open, nil
		}
		var found, sure bool
		switch k.Op {
		case wire.KeyHeader:
			found, sure = m.text.Field(k.Field, needle)
		case wire.KeyBody:
			found, sure = m.text.BodyContains(needle)
		default:
			found, sure = m.text.Contains(needle)
		}
		switch {
		case found:
			return yes, nil
		case sure && !ours:
			return no_, nil
		case m.depth == byText:
			return open, nil
		}
		hit, err := c.searchBody(m.row, k, needle, ours)
		return verdictOf(hit), unreadable(err)
	}
}

// prefixFields are the header fields that stand in the prefix of a BAL, outside of the stored words.
var prefixFields = []string{"RETURN-PATH", "RECEIVED", "AUTHENTICATION-RESULTS", "ORIGINAL-RECIPIENT"}

var unfold = strings.NewReplacer("\r\n ", " ", "\r\n\t", " ")

// searchBody looks at the octets of a message: the words that are stored were cut, or stand in the prefix.
func (c *conn) searchBody(r store.Row, k wire.Key, needle []byte, ours bool) (bool, error) {
	content, err := c.srv.Store.OpenMessage(c.sel.ref.BAL, r.Message)
	if err != nil {
		return false, err
	}
	defer content.Close()
	prefix := content.Prefix()
	if ours {
		// A folded field is one line to a reader (RFC 5322, Section 2.2.3).
		fields := unfold.Replace(string(message.SelectFields(prefix, []string{k.Field}, false)))
		for line := range strings.SplitSeq(fields, "\r\n") {
			if _, value, ok := strings.Cut(line, ":"); ok && bytes.Contains(message.Fold(nil, []byte(value)), needle) {
				return true, nil
			}
		}
	}
	place := map[wire.KeyOp]message.Place{wire.KeyHeader: message.PlaceField, wire.KeyBody: message.PlaceBody, wire.KeyText: message.PlaceText}[k.Op]
	blob := io.NewSectionReader(content, int64(len(prefix)), content.Size()-int64(len(prefix)))
	return message.SearchBlob(blob, needle, place, k.Field)
}

// errUnreadable: nobody can say whether a message fits, because its body is missing or damaged. It is left out.
var errUnreadable = errors.New("imapd: a message cannot be read")

func isUnreadable(err error) bool { return errors.Is(unreadable(err), errUnreadable) }

// unreadable makes one sentence of a message that cannot be read.
func unreadable(err error) error {
	switch {
	case errors.Is(err, store.ErrMissing), errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrNoMessage):
		return fmt.Errorf("%w: %w", errUnreadable, err)
	case err != nil:
		return fmt.Errorf("imapd: search: %w", err)
	}
	return nil
}
