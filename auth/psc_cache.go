package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	maxTokens   = 50_000           // tokens remembered
	refusalKept = 10 * time.Second // at most, that the issuer's no is repeated without asking it
)

// tokenAnswer is what is remembered of a token: whose it is, or why it is refused.
type tokenAnswer struct {
	id    identity
	fault *tokenFault // nil: good
	until time.Time
}

// tokenCache remembers answers by the SHA-256 of the token: a token has entropy of its own and the hash tells nothing.
type tokenCache struct {
	max int // entries

	mu      sync.Mutex
	entries map[[sha256.Size]byte]tokenAnswer // guarded by mu
}

func (c *tokenCache) get(key [sha256.Size]byte, now time.Time) (tokenAnswer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.entries[key]
	return a, ok && now.Before(a.until)
}

func (c *tokenCache) put(key [sha256.Size]byte, a tokenAnswer, now time.Time) {
	if !now.Before(a.until) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[[sha256.Size]byte]tokenAnswer)
	}
	if len(c.entries) >= c.max {
		c.shrink(now)
	}
	c.entries[key] = a
}

// shrink makes room: what is over goes, then, if that was not enough, any tenth. Called with mu held.
func (c *tokenCache) shrink(now time.Time) {
	for k, a := range c.entries {
		if !now.Before(a.until) {
			delete(c.entries, k)
		}
	}
	for k := range c.entries { // the order of a map is random
		if len(c.entries) <= c.max*9/10 {
			return
		}
		delete(c.entries, k)
	}
}
