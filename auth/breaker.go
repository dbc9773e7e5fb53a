package auth

import (
	"fmt"
	"sync"
	"time"
)

const (
	breakAfter = 3 // failures in a row
	breakFirst = 2 * time.Second
	breakMost  = 30 * time.Second
)

// breaker keeps questions from a server that does not answer them: after breakAfter failures in a row nobody asks for a
// while, then one who tries it out.
type breaker struct {
	mu     sync.Mutex
	failed int       // in a row
	until  time.Time // nobody asks before
	trying bool      // one does
	what   string    // of the last failure
	err    error
}

// allow says whether to ask now; who is allowed calls record, or abandon when nothing was asked.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < breakAfter {
		return true
	}
	if b.trying || now.Before(b.until) {
		return false
	}
	b.trying = true
	return true
}

// abandon takes back an allow.
func (b *breaker) abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// record takes the outcome of what was allowed. It is true when the outcome begins a pause.
func (b *breaker) record(err error, what string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	if err == nil {
		b.failed, b.err, b.until = 0, nil, time.Time{}
		return false
	}
	b.failed++
	b.err, b.what = err, what
	if b.failed < breakAfter {
		return false
	}
	b.until = now.Add(min(breakFirst<<min(b.failed-breakAfter, 10), breakMost))
	return b.failed == breakAfter
}

// warning is the last failure while nothing has succeeded since.
func (b *breaker) warning() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < breakAfter {
		return nil
	}
	return fmt.Errorf("%s failed %d times in a row: %w", b.what, b.failed, b.err)
}
