package trace

import (
	"errors"
	"math"
	"sync"
	"time"
)

// ID names a transaction, a message and its blob. IDs are ordered by time: milliseconds since 2020-01-01 UTC
// in the upper 44 bits, a counter in the lower 20. Zero means none.
type ID uint64

// ErrID is the answer of ParseID to text that is not an ID.
var ErrID = errors.New("trace: not an id (13 characters of 0-9 and A-Z without I, L, O, U)")

const (
	idLen   = 13 // characters: 65 bits, the first one is always 0
	lowBits = 20
	// alphabet is Crockford's base32: no I, L, O, U, so that an ID survives a telephone.
	alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)

var epoch = time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)

// String is the form for people, logs and replies: 13 characters.
func (id ID) String() string {
	var b [idLen]byte
	for i := idLen - 1; i >= 0; i-- {
		b[i] = alphabet[id&31]
		id >>= 5
	}
	return string(b[:])
}

// Time is when the ID was given, to the millisecond.
func (id ID) Time() time.Time {
	ms := int64(id >> lowBits)
	// A Duration holds 292 years only, an ID 557: seconds and the rest are added apart.
	return time.Unix(epoch.Unix()+ms/1000, ms%1000*int64(time.Millisecond)).UTC()
}

// ParseID reads what String writes, in any case.
func ParseID(s string) (ID, error) {
	if len(s) != idLen {
		return 0, ErrID
	}
	var id ID
	for i := range idLen {
		d, ok := digit(s[i])
		if !ok || (i == 0 && d > 15) { // 13 characters hold 65 bits
			return 0, ErrID
		}
		id = id<<5 | ID(d)
	}
	return id, nil
}

func digit(c byte) (byte, bool) {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	for i := range len(alphabet) {
		if alphabet[i] == c {
			return byte(i), true
		}
	}
	return 0, false
}

// Source gives IDs. It is safe for concurrent use.
type Source struct {
	mu   sync.Mutex
	last ID // the newest given
	now  func() time.Time
}

// NewSource returns a Source whose IDs are all greater than last. A nil now means time.Now.
func NewSource(last ID, now func() time.Time) *Source {
	if now == nil {
		now = time.Now
	}
	return &Source{last: last, now: now}
}

// Next returns an ID greater than every one before. When the clock steps back, or more than a million are
// asked for in a millisecond, IDs go on from the last one and their time runs ahead of the clock.
func (s *Source) Next() ID {
	var id ID
	if ms := s.now().Sub(epoch).Milliseconds(); ms > 0 {
		id = ID(ms) << lowBits
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == math.MaxUint64 {
		panic("trace: no id is left")
	}
	if id <= s.last {
		id = s.last + 1
	}
	s.last = id
	return id
}
