package smtpd

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"mssd/trace"
)

// Bounds of what refusals may add to the trace, which is kept for years.
const (
	foldAfter  = 60   // refusals of one kind that are written one by one, per window
	foldKinds  = 2000 // kinds that are told apart, per window
	foldWindow = time.Minute
)

// foldKey says what makes two refusals alike.
type foldKey struct {
	who  string // operator's DN, else network address, see foldAddr
	cmd  string
	code string
}

// foldAddr is what is alike of a network address: all of it, or the /64 of an IPv6 one, which is what one subscriber has.
func foldAddr(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// A folding keeps whoever is refused for ever from filling the trace: of refusals that are alike the first of a
// window are recorded one by one, the others are counted and recorded as one event when the window is over.
type folding struct {
	record func(trace.Event)
	now    func() time.Time

	mu    sync.Mutex
	began time.Time // of the window; zero: none
	kinds map[foldKey]*foldCount
	timer *time.Timer
}

type foldCount struct {
	seen int
	last trace.Event // the first that was folded, with its facts
}

// add records an event, or counts it.
func (f *folding) add(k foldKey, e trace.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if f.began.IsZero() || now.Sub(f.began) >= foldWindow || now.Before(f.began) {
		f.closeWindow()
		f.began, f.kinds = now, make(map[foldKey]*foldCount)
	}
	c := f.kinds[k]
	if c == nil {
		if len(f.kinds) >= foldKinds {
			k = foldKey{} // all others are alike
			c = f.kinds[k]
		}
		if c == nil {
			c = &foldCount{}
			f.kinds[k] = c
		}
	}
	if c.seen++; c.seen <= foldAfter {
		f.record(e)
		return
	}
	if c.seen == foldAfter+1 {
		e.BAL, e.ID = "", 0
		c.last = e
	}
	if f.timer == nil {
		f.timer = time.AfterFunc(foldWindow, f.flush)
	}
}

// flush records what was counted.
func (f *folding) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closeWindow()
}

// closeWindow records what was counted; f.mu is held.
func (f *folding) closeWindow() {
	for _, c := range f.kinds {
		if n := c.seen - foldAfter; n > 0 {
			e := c.last
			e.Attrs = append([]trace.Attr{{Key: trace.KeyCount, Value: strconv.Itoa(n)}}, e.Attrs...)
			f.record(e)
		}
	}
	f.kinds, f.began = nil, time.Time{}
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
}
