package smtpd

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mssd/store"
)

// ErrQuota says that as many recipients were written to within an hour as may be. It is temporary.
var ErrQuota = errors.New("smtpd: too many recipients within an hour")

// QuotaError is ErrQuota with the limit that was reached: Of is "person", "bal" or "application".
type QuotaError struct{ Of string }

func (e *QuotaError) Error() string { return ErrQuota.Error() + " (" + e.Of + ")" }
func (e *QuotaError) Unwrap() error { return ErrQuota }

// Defaults of Quota, recipients an hour.
//
// A person: somebody who signs and sends letters all day long writes one a minute or two, each to a few recipients; software
// that sends a day's letters in one go stays below 500. A stolen token reaches that many people before somebody is asked. A BAL
// of several persons may send for two of them at a time. An application sends what a hospital makes: a large one has about
// 10,000 documents a day, each to two or three recipients, and after a breakdown the whole day comes in one burst. Its limit is
// twice that: it stops a program that runs in circles, and nothing else.
const (
	DefaultPersonQuota      = 500
	DefaultBALQuota         = 1_000
	DefaultApplicationQuota = 50_000
)

// Quota counts the recipients of the last hour, by person and by BAL, for a submission front. What is over a limit is refused
// for now, and gets through when older recipients are an hour (and five minutes at most) old. An application is held to its
// own limit alone. Counts are kept in memory: a restart forgets them. It is safe for use by many goroutines.
type Quota struct {
	Person      int // recipients an hour; 0: DefaultPersonQuota
	BAL         int // of a BAL that is no application's; 0: DefaultBALQuota
	Application int // of an APP BAL; 0: DefaultApplicationQuota
	Now         func() time.Time

	persons, bals, apps atomic.Uint64 // refusals

	mu   sync.Mutex
	keys map[string]*lastHour // guarded by mu
	most int                  // keys remembered; 0: maxQuotaKeys; tests set it lower
}

// maxQuotaKeys bounds the memory of a Quota to some 15 MB. Only those who are logged in have a key.
const maxQuotaKeys = 100_000

const (
	quotaStep  = 5 * time.Minute
	quotaSteps = int64(time.Hour/quotaStep) + 1 // the oldest may be partly over: never more than the limit in any hour
)

// lastHour is a ring of counts, one for each step of the clock.
type lastHour struct {
	at    int64 // last step that was counted, since the epoch
	count [quotaSteps]uint32
}

// to moves to a step and yields the sum of the hour. A clock that was put back counts on in the step that it had reached.
func (h *lastHour) to(step int64) (sum int) {
	for ; h.at < step && step-h.at < quotaSteps; h.at++ {
		h.count[(h.at+1)%quotaSteps] = 0
	}
	if step > h.at {
		*h = lastHour{at: step}
	}
	for _, n := range h.count {
		sum += int(n)
	}
	return sum
}

// Take counts n more recipients of a person who writes from a BAL, or counts none and returns a *QuotaError. A nil Quota has
// no limits.
func (q *Quota) Take(bal store.BAL, person string, n int) error {
	if q == nil {
		return nil
	}
	step := q.step()
	q.mu.Lock()
	defer q.mu.Unlock()
	var hours []*lastHour
	for _, k := range q.of(bal, person) {
		h := q.hour(k.key, step)
		if h.to(step)+n > k.limit {
			k.refused.Add(1)
			return &QuotaError{k.name}
		}
		hours = append(hours, h)
	}
	for _, h := range hours {
		h.count[h.at%quotaSteps] += uint32(n)
	}
	return nil
}

// Give takes back n recipients, counted since a time, of a message that was not stored after all. What is too long ago to be
// counted any more is not taken off what came later.
func (q *Quota) Give(bal store.BAL, person string, n int, since time.Time) {
	if q == nil {
		return
	}
	step, began := q.step(), stepOf(since)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range q.of(bal, person) {
		h := q.keys[k.key]
		if h == nil {
			continue
		}
		if h.to(step); began <= h.at-quotaSteps {
			continue
		}
		left := uint32(n)
		for i := began; left > 0 && i <= h.at; i++ {
			c := &h.count[i%quotaSteps]
			m := min(left, *c)
			*c, left = *c-m, left-m
		}
	}
}

// Refused is how often a limit was reached, by its name.
func (q *Quota) Refused() map[string]uint64 {
	return map[string]uint64{"person": q.persons.Load(), "bal": q.bals.Load(), "application": q.apps.Load()}
}

func (q *Quota) step() int64 {
	now := time.Now
	if q.Now != nil {
		now = q.Now
	}
	return stepOf(now())
}

func stepOf(t time.Time) int64 { return t.UnixNano() / int64(quotaStep) }

// quotaKey is one of the counts that a recipient goes to.
type quotaKey struct {
	key, name string
	limit     int
	refused   *atomic.Uint64
}

func (q *Quota) of(bal store.BAL, person string) []quotaKey {
	address := string(bal.Address)
	if bal.Kind == store.APP {
		return []quotaKey{{"b" + address, "application", limitOr(q.Application, DefaultApplicationQuota), &q.apps}}
	}
	if !strings.HasPrefix(person, "rpps:") && !strings.HasPrefix(person, "adeli:") {
		person += "@" + address // the same local name on two BALs is not the same person
	}
	return []quotaKey{{"p" + person, "person", limitOr(q.Person, DefaultPersonQuota), &q.persons},
		{"b" + address, "bal", limitOr(q.BAL, DefaultBALQuota), &q.bals}}
}

func limitOr(n, d int) int {
	if n <= 0 {
		return d
	}
	return n
}

// hour is what is known of a key; q.mu is held.
func (q *Quota) hour(key string, step int64) *lastHour {
	h := q.keys[key]
	if h == nil {
		if q.keys == nil {
			q.keys = make(map[string]*lastHour)
		}
		if most := limitOr(q.most, maxQuotaKeys); len(q.keys) >= most {
			q.shrink(step, most)
		}
		h = &lastHour{at: step}
		q.keys[key] = h
	}
	return h
}

// shrink makes room: those who have been silent for an hour go, then, if that was not enough, any tenth.
func (q *Quota) shrink(step int64, most int) {
	for k, h := range q.keys {
		if step-h.at >= quotaSteps {
			delete(q.keys, k)
		}
	}
	for k := range q.keys { // the order of a map is random
		if len(q.keys) <= most*9/10 {
			return
		}
		delete(q.keys, k)
	}
}
