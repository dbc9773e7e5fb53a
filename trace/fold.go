package trace

import (
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Bounds of what refusals may add to the trace, which is kept for years.
const (
	FoldAfter  = 60   // refusals that are alike and are recorded one by one, per window
	foldKinds  = 8000 // kinds that are told apart, per window
	foldWindow = time.Minute
)

// foldRoom is what all may have recorded one by one, by Known: at once, and what is added for each window.
var foldRoom = map[bool]struct{ most, more int }{false: {600, 10}, true: {6000, 120}}

// Alike says what makes two refusals alike.
type Alike struct {
	Who   string // operator's DN where Known, else the network, see Network
	Known bool   // it has shown who it is: strangers do not use up its room
	Cmd   string
	Code  string
}

// Network is what is alike of a network address: all of it, or the /64 of an IPv6 one, which is what one subscriber has.
func Network(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// Folding keeps whoever is refused for ever from filling the trace: of refusals that are alike the first of a minute are
// recorded one by one, the others are counted and recorded as one event (KeyCount) when the minute is over. All strangers
// together, from however many networks, have 600 one by one, and 10 more each minute; then those with one command and
// code are alike: a flood that goes on for days adds some events a minute.
// Its fields are set before the first Add. It is safe for concurrent use.
type Folding struct {
	Record func(Event)      // takes an event; required
	Now    func() time.Time // required

	mu    sync.Mutex
	began time.Time // of the window; zero: none
	kinds map[Alike]*foldCount
	room  map[bool]int // by Known: what may be recorded one by one yet
	added time.Time    // to room
	timer *time.Timer
}

type foldCount struct {
	single, folded int
	last           Event // the first that was folded, with its facts
}

// Add records an event, or counts it.
func (f *Folding) Add(k Alike, e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.Now()
	if f.began.IsZero() || now.Sub(f.began) >= foldWindow || now.Before(f.began) {
		f.closeWindow()
		f.began, f.kinds = now, make(map[Alike]*foldCount)
		f.addRoom(now)
	}
	c := f.count(k)
	if c.single < FoldAfter && f.room[k.Known] > 0 {
		c.single++
		f.room[k.Known]--
		f.Record(e)
		return
	}
	if c.folded++; c.folded == 1 {
		e.BAL, e.ID = "", 0
		c.last = e
	}
	if f.timer == nil {
		f.timer = time.AfterFunc(foldWindow, f.Flush)
	}
}

// addRoom adds what the time since it was last called brings; f.mu is held.
func (f *Folding) addRoom(now time.Time) {
	if f.added.IsZero() || now.Before(f.added) {
		f.added = now
	}
	n := int(now.Sub(f.added) / foldWindow)
	f.added = f.added.Add(time.Duration(n) * foldWindow)
	if f.room == nil {
		f.room, n = make(map[bool]int), foldKinds // full
	}
	for known, r := range foldRoom {
		f.room[known] = min(r.most, f.room[known]+min(n, foldKinds)*r.more)
	}
}

// count finds the kind, which is that of all others where there is no room left to tell it apart; f.mu is held.
func (f *Folding) count(k Alike) *foldCount {
	if c := f.kinds[k]; c != nil {
		return c
	}
	if f.room[k.Known] == 0 && !k.Known || len(f.kinds) >= foldKinds { // who is known is named always
		k.Who = ""
	}
	if f.kinds[k] == nil && len(f.kinds) >= 2*foldKinds {
		k = Alike{}
	}
	if f.kinds[k] == nil {
		f.kinds[k] = &foldCount{}
	}
	return f.kinds[k]
}

// Flush records what was counted.
func (f *Folding) Flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closeWindow()
}

// closeWindow records what was counted; f.mu is held.
func (f *Folding) closeWindow() {
	for _, c := range f.kinds {
		if c.folded > 0 {
			e := c.last
			e.Attrs = append([]Attr{{Key: KeyCount, Value: strconv.Itoa(c.folded)}}, e.Attrs...)
			f.Record(e)
		}
	}
	f.kinds, f.began = nil, time.Time{}
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
}
