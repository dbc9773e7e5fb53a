package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Event is one station in the life of a message, or one act around it.
type Event struct {
	Seq     uint64    // place in the record; given by the committer, 0 before
	ID      ID        // the message or transaction; 0 for events that concern none
	Time    time.Time // read back in UTC
	Kind    Kind
	Conn    uint64 // connection number of the front; 0 none
	Person  string // who acted: member id or operator user; "" for nobody
	BAL     string // address of the BAL (professional, in clear)
	Mailbox uint32 // number of the mailbox inside the store; 0 none
	UIDs    string // IMAP set form "1:40,55"; "" none
	Attrs   []Attr // keys from the constants of this package, each at most once
}

// Attr is a named fact of an event. Key is one of the Key constants.
type Attr struct{ Key, Value string }

// Attr returns the value of the attribute of that key, "" where there is none.
func (e Event) Attr(key string) string {
	for _, a := range e.Attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// Limits of one event, octets. They hold when encoding and when parsing.
const (
	maxText  = 1024 // Person, BAL
	maxUIDs  = 64 << 10
	maxValue = 4096
)

const eventVersion = 1

var (
	ErrEvent   = errors.New("trace: damaged event")
	ErrVersion = errors.New("trace: unknown version of event")
	ErrKey     = errors.New("trace: attribute key is not in the list, or stands twice")
	ErrTooLong = errors.New("trace: event is too long")
	ErrKind    = errors.New("trace: unknown kind of event")
)

// AppendBinary appends the stored form of e to b: a version octet, then numbers as varints and texts with
// their length before them.
func (e Event) AppendBinary(b []byte) ([]byte, error) {
	if err := e.check(); err != nil {
		return b, err
	}
	b = append(b, eventVersion, byte(e.Kind))
	b = binary.AppendUvarint(b, e.Seq)
	b = binary.AppendUvarint(b, uint64(e.ID))
	b = binary.AppendVarint(b, e.Time.Unix())
	b = binary.AppendUvarint(b, uint64(e.Time.Nanosecond()))
	b = binary.AppendUvarint(b, e.Conn)
	b = binary.AppendUvarint(b, uint64(e.Mailbox))
	b = appendText(b, e.Person)
	b = appendText(b, e.BAL)
	b = appendText(b, e.UIDs)
	b = append(b, byte(len(e.Attrs)))
	for _, a := range e.Attrs {
		i, _ := keyIndex(a.Key) // checked above
		b = append(b, byte(i))
		b = appendText(b, a.Value)
	}
	return b, nil
}

func (e Event) check() error {
	if !e.Kind.Valid() {
		return fmt.Errorf("%w: %d", ErrKind, e.Kind)
	}
	if len(e.Person) > maxText || len(e.BAL) > maxText || len(e.UIDs) > maxUIDs {
		return ErrTooLong
	}
	var seen [len(keys)]bool
	for _, a := range e.Attrs {
		i, ok := keyIndex(a.Key)
		if !ok || seen[i] {
			return fmt.Errorf("%w: %q", ErrKey, a.Key)
		}
		seen[i] = true
		if len(a.Value) > maxValue {
			return fmt.Errorf("%w: %s", ErrTooLong, a.Key)
		}
	}
	return nil
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// ParseEvent reads what AppendBinary wrote. Octets after the event are a fault.
func ParseEvent(b []byte) (Event, error) {
	if len(b) == 0 {
		return Event{}, ErrEvent
	}
	if b[0] != eventVersion {
		return Event{}, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	r := reader{b: b[1:]}
	e := Event{Kind: Kind(r.octet()), Seq: r.uvarint(), ID: ID(r.uvarint())}
	sec, nsec := r.varint(), r.uvarint()
	e.Conn = r.uvarint()
	mailbox := r.uvarint()
	e.Mailbox = uint32(mailbox)
	e.Person, e.BAL, e.UIDs = r.text(maxText), r.text(maxText), r.text(maxUIDs)
	n := int(r.octet())
	if r.bad || n > len(keys) || nsec >= uint64(time.Second) || mailbox != uint64(e.Mailbox) {
		return Event{}, ErrEvent
	}
	e.Time = time.Unix(sec, int64(nsec)).UTC()
	for range n {
		i := int(r.octet())
		v := r.text(maxValue)
		if r.bad || i >= len(keys) {
			return Event{}, ErrEvent
		}
		e.Attrs = append(e.Attrs, Attr{keys[i], v})
	}
	if r.bad || len(r.b) != 0 {
		return Event{}, ErrEvent
	}
	if err := e.check(); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	return e, nil
}

// reader takes values off the front of b; after the first fault it is bad and yields zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) octet() byte {
	if r.bad || len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	return take(r, v, n)
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	return take(r, v, n)
}

func take[T uint64 | int64](r *reader, v T, n int) T {
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text(limit int) string {
	n := r.uvarint()
	if r.bad || n > uint64(limit) || n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// Line is the event for people, on one line: time, id, what happened, then facts as key=value, always in the
// same order. Values with spaces or odd characters are quoted.
func (e Event) Line() string {
	var b strings.Builder
	b.WriteString(e.Time.UTC().Format("2006-01-02 15:04:05.000Z"))
	b.WriteByte(' ')
	if e.ID != 0 {
		b.WriteString(e.ID.String())
	} else {
		b.WriteString("-------------")
	}
	b.WriteByte(' ')
	if e.Kind.Valid() {
		b.WriteString(kinds[e.Kind].says)
	} else {
		b.WriteString(e.Kind.String())
	}
	if e.BAL != "" {
		field(&b, "bal", e.BAL)
	}
	if e.Mailbox != 0 {
		field(&b, "mailbox", strconv.FormatUint(uint64(e.Mailbox), 10))
	}
	if e.UIDs != "" {
		field(&b, "uid", e.UIDs)
	}
	if e.Person != "" {
		field(&b, "person", e.Person)
	}
	for _, a := range inOrder(e.Attrs) {
		field(&b, a.Key, a.Value)
	}
	if e.Conn != 0 {
		field(&b, "conn", strconv.FormatUint(e.Conn, 10))
	}
	return b.String()
}

// inOrder returns the attributes in the order of keys.
func inOrder(attrs []Attr) []Attr {
	sorted := slices.Clone(attrs)
	slices.SortStableFunc(sorted, func(a, b Attr) int {
		i, _ := keyIndex(a.Key)
		j, _ := keyIndex(b.Key)
		return i - j
	})
	return sorted
}

func field(b *strings.Builder, key, value string) {
	b.WriteString("  ")
	b.WriteString(key)
	b.WriteByte('=')
	if plain(value) {
		b.WriteString(value)
	} else {
		b.WriteString(strconv.Quote(value))
	}
}

// plain reports whether a value can stand on a line without quotes.
func plain(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c == '"' || c >= 0x7f {
			return false
		}
	}
	return s != ""
}
