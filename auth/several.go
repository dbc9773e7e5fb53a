package auth

import "sync/atomic"

// several is what a session of a principal with more than one grant has beside others. The right on a further BAL may end while
// the session goes on.
type several struct {
	need    atomic.Pointer[Grant]             // a further grant that the session cannot do without for now; nil: none
	changed atomic.Pointer[func(Grant, bool)] // nil: nobody wants to know
	lost    []bool                            // rights that are over, by index of the grant; only Watch touches it
}

func newSeveral(p *Principal) *several {
	if len(p.Grants) < 2 {
		return nil
	}
	return &several{lost: make([]bool, len(p.Grants))}
}

// Ended is the end of the right on a further BAL that the session cannot do without. It wraps the error of Check.
type Ended struct {
	Grant Grant
	Err   error
}

func (e *Ended) Error() string { return string(e.Grant.BAL.Address) + ": " + e.Err.Error() }
func (e *Ended) Unwrap() error { return e.Err }

// Needs says which of the grants the session cannot do without from now on, beside the first: that of the mailbox it has
// opened. One that is the first, or the zero Grant, is none.
func (n *Session) Needs(g Grant) {
	switch {
	case n == nil || n.several == nil:
	case g.BAL.ID == 0 || g.BAL.ID == n.who.Grants[0].BAL.ID:
		n.several.need.Store(nil)
	default:
		need := g // on the heap only here
		n.several.need.Store(&need)
	}
}

// Over is the right without which the session cannot go on, with the error of Check once it is over; an Ended where it is one
// that Needs named.
func (n *Session) Over() (Grant, error) {
	if n == nil {
		return Grant{}, nil
	}
	first := n.who.Grants[0]
	if err := n.of.Auth.Check(n.who, first); err != nil || n.several == nil {
		return first, err
	}
	if g := n.several.need.Load(); g != nil {
		if err := n.of.Auth.Check(n.who, *g); err != nil {
			return *g, &Ended{*g, err}
		}
	}
	return first, nil
}

// OnChange has f told, on the goroutine of Watch, of each further grant that is over, or in force again, within a second. The
// session goes on: it is called for those that Needs does not name. f must not block.
func (n *Session) OnChange(f func(g Grant, over bool)) {
	if n.several != nil {
		n.several.changed.Store(&f)
	}
}

// look tells of further grants that changed since it was called before.
func (n *Session) look() {
	if n.several == nil {
		return
	}
	f := n.several.changed.Load()
	if f == nil {
		return
	}
	for i, g := range n.who.Grants[1:] {
		if over := n.of.Auth.Check(n.who, g) != nil; over != n.several.lost[i+1] {
			n.several.lost[i+1] = over
			(*f)(g, over)
		}
	}
}
