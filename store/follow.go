package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// logRoom bounds what is kept for followers, octets.
const logRoom = 64 << 20

// ErrBehind says that the log no longer reaches back so far: begin again from a copy of the store.
var ErrBehind = errors.New("store: the follower is too far behind")

// Change is one write to the index: the value that now stands under a key, nil where it was taken away.
type Change struct {
	Bucket string
	Key    []byte
	Value  []byte
}

// Slot is what now stands in a slot of the file keys.
type Slot struct {
	Number uint32
	Octets []byte
}

// Commit is all that one commit did to the store. Done in order to a copy that holds the commit before it (slots and
// bodies first, durably; then the changes, in one transaction) it makes the copy equal: see Replica. It is shared:
// never change it.
type Commit struct {
	Number  uint64 // Commits after it
	Changes []Change
	Slots   []Slot
	Stored  []MessageID // bodies that the changes speak of for the first time
	Removed []MessageID // bodies of which they no longer speak
}

// size is about what a commit takes in memory, octets.
func (c *Commit) size() int {
	n := 200 + 8*(len(c.Stored)+len(c.Removed))
	for i := range c.Changes {
		n += changeSize(c.Changes[i].Key, c.Changes[i].Value)
	}
	return n + len(c.Slots)*(slotLen+32)
}

func changeSize(k, v []byte) int { return 64 + len(k) + len(v) }

// batchLog keeps the latest commits for those who follow. Nothing is kept while nobody does.
type batchLog struct {
	mu        sync.Mutex
	followers int
	last      uint64    // number of the latest commit
	kept      []*Commit // the latest ones, without a gap; the last one has the number last
	octets    int
	room      int
	news      chan struct{} // closed with each commit
	over      bool          // no more will come
}

func newBatchLog() *batchLog {
	return &batchLog{room: logRoom, news: make(chan struct{})}
}

// wanted reports whether the next commit must be written down.
func (l *batchLog) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.followers > 0
}

// add takes a commit that is durable; nil where it was not written down, or was too big.
func (l *batchLog) add(number uint64, c *Commit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = number
	switch {
	case l.followers == 0 || c == nil:
		l.kept, l.octets = nil, 0
	default:
		l.kept = append(l.kept, c)
		l.octets += c.size()
		for l.octets > l.room && len(l.kept) > 0 {
			l.octets -= l.kept[0].size()
			l.kept[0] = nil
			l.kept = l.kept[1:]
		}
	}
	l.wake()
}

func (l *batchLog) wake() {
	close(l.news)
	l.news = make(chan struct{})
}

func (l *batchLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.wake()
}

// Follower reads the commits of a store one after the other. One goroutine uses it.
type Follower struct {
	l    *batchLog
	at   uint64 // the last commit given
	done sync.Once
}

// Commits is the number of the latest commit.
func (s *Store) Commits() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mem.sys.Commits
}

// Follow gives the commits that come after the one of that number: Commits(), or that of a copy. To make a copy of
// a store in use, follow first, copy then, and skip what the copy holds. ErrBehind: these commits are no longer
// known. It waits for a commit under way. Whoever follows never slows a commit down: at most 64 MiB are kept for all together. End it with Close.
func (s *Store) Follow(after uint64) (*Follower, error) {
	l := s.batchLog
	l.mu.Lock()
	l.followers++
	l.mu.Unlock()
	f := &Follower{l: l, at: after}
	// A commit that began when nobody followed is not written down: whoever begins waits until it is over.
	if err := s.betweenCommits(context.Background(), func() {}); err != nil {
		f.Close()
		return nil, err
	}
	l.mu.Lock()
	known := after <= l.last && after >= l.last-uint64(len(l.kept))
	over := l.over
	l.mu.Unlock()
	switch {
	case over:
		f.Close()
		return nil, ErrClosed
	case !known:
		f.Close()
		return nil, ErrBehind
	}
	return f, nil
}

// Next waits for the next commit. ErrBehind: it was too slow; ErrClosed: the store is closed or has failed, and all
// that became durable was given.
func (f *Follower) Next(ctx context.Context) (*Commit, error) {
	for {
		c, news, err := f.look()
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *Follower) look() (*Commit, chan struct{}, error) {
	l := f.l
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.last - uint64(len(l.kept)) // the last commit that is not kept
	switch {
	case f.at < first:
		return nil, nil, ErrBehind
	case f.at < l.last:
		f.at++
		return l.kept[f.at-first-1], nil, nil
	case l.over:
		return nil, nil, ErrClosed
	}
	return nil, l.news, nil
}

// Close ends the following; what was kept goes with the last follower.
func (f *Follower) Close() {
	f.done.Do(func() {
		f.l.mu.Lock()
		defer f.l.mu.Unlock()
		if f.l.followers--; f.l.followers == 0 {
			f.l.kept, f.l.octets = nil, 0
		}
	})
}

// groupLog collects what a group writes, while it is on its way into a commit.
type groupLog struct {
	on      bool // somebody follows, and it is not too big
	changes []Change
	removed []MessageID
	octets  int
}

// logMark is a place to which groupLog can go back.
type logMark struct{ changes, removed, octets int }

func (g *groupLog) mark() logMark { return logMark{len(g.changes), len(g.removed), g.octets} }

func (g *groupLog) back(m logMark) {
	if g.on {
		g.changes, g.removed, g.octets = g.changes[:m.changes], g.removed[:m.removed], m.octets
	}
}

// note writes a change down; v nil: the key is taken away.
func (g *groupLog) note(bucket int, k, v []byte) {
	if !g.on {
		return
	}
	if g.octets += changeSize(k, v); g.octets > logRoom {
		*g = groupLog{} // nobody could be given it
		return
	}
	g.changes = append(g.changes, Change{string(bucketNames[bucket]), k, v})
}

// logged is the commit as followers get it, nil where nobody asked in time or it is too big.
func (a *apply) logged() (*Commit, error) {
	slots, err := a.s.keys.takeWritten(a.log.on)
	if err != nil || !a.log.on {
		return nil, err
	}
	c := &Commit{Number: a.sys.Commits, Changes: a.log.changes, Slots: slots, Removed: slices.Clone(a.log.removed)}
	for _, b := range a.blobs {
		c.Stored = append(c.Stored, b.id)
	}
	return c, nil
}

// takeWritten gives the slots written since the last commit, when somebody wants them.
func (k *keyring) takeWritten(wanted bool) (slots []Slot, err error) {
	wrote := k.wrote
	k.wrote = nil
	if !wanted {
		return nil, nil
	}
	for _, n := range wrote {
		b := make([]byte, slotLen)
		if _, err := k.f.ReadAt(b, keysHead+int64(n)*slotLen); err != nil {
			return nil, fmt.Errorf("slot %d: %w", n, err)
		}
		slots = append(slots, Slot{n, b})
	}
	return slots, nil
}
