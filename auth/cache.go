package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"sync"
	"time"
)

const maxCached = 100_000 // logins remembered

// cache remembers passwords that were verified, as HMAC-SHA256 over password and stamp under a key of this process. The
// stamp holds all that the login depends on, so that a change of it makes the entry worthless.
type cache struct {
	ttl time.Duration // <= 0: nothing is remembered
	key [32]byte

	mu      *sync.Mutex
	entries map[string]cached // guarded by mu; by member
}

type cached struct {
	mac   [sha256.Size]byte
	until time.Time
}

func newCache(ttl time.Duration) cache {
	c := cache{ttl: ttl, mu: new(sync.Mutex), entries: make(map[string]cached)}
	rand.Read(c.key[:]) // never fails
	return c
}

func (c *cache) mac(member, password, stamp string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, c.key[:])
	for _, s := range []string{member, stamp, password} {
		var n [4]byte
		n[0], n[1], n[2], n[3] = byte(len(s)>>24), byte(len(s)>>16), byte(len(s)>>8), byte(len(s))
		h.Write(n[:])
		_, _ = io.WriteString(h, s)
	}
	h.Sum(sum[:0])
	return sum
}

func (c *cache) has(member, password, stamp string, now time.Time) bool {
	c.mu.Lock()
	e, ok := c.entries[member]
	c.mu.Unlock()
	if !ok || !now.Before(e.until) || len(password) > maxPassword {
		return false
	}
	want := c.mac(member, password, stamp)
	return hmac.Equal(e.mac[:], want[:])
}

func (c *cache) put(member, password, stamp string, now time.Time) {
	if c.ttl <= 0 {
		return
	}
	e := cached{mac: c.mac(member, password, stamp), until: now.Add(c.ttl)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCached {
		for k, old := range c.entries { // the order of a map is random
			if !now.Before(old.until) || len(c.entries) >= maxCached {
				delete(c.entries, k)
			}
		}
	}
	c.entries[member] = e
}
