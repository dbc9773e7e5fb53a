package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// What is damaged of one BAL is a matter of this BAL: it answers ErrUnavailable, is never written to, and stays as it
// is until it is mended (keys or index brought back from a backup, or mssd fsck --repair). All others go on.

// Fault says why a BAL is unavailable.
type Fault struct {
	BAL     BALID
	Address Address // "" where it cannot be read
	Reason  string
}

func (f Fault) String() string {
	if f.Address == "" {
		return fmt.Sprintf("BAL %d, whose address cannot be read, is unavailable: %s", f.BAL, f.Reason)
	}
	return fmt.Sprintf("BAL %s is unavailable: %s", f.Address, f.Reason)
}

// errFault carries the reason of a Fault; it is ErrUnavailable and what the reason is.
type errFault struct{ reason error }

func (e errFault) Error() string        { return ErrUnavailable.Error() + ": " + e.reason.Error() }
func (e errFault) Unwrap() error        { return e.reason }
func (e errFault) Is(target error) bool { return target == ErrUnavailable }

// damaged notes that a record cannot be used. The records of BALs are loaded first.
func (m *memory) damaged(bucket int, k []byte, err error) {
	invariant := 1
	switch {
	case bucket == bktKeywords:
		invariant = 9
	case len(k) < 4:
	case bucket == bktBAL && keyIs(k, 4):
		m.spoil(m.nameless(balOfKey(k)), err)
		return
	case bucket != bktBAL:
		id := balOfKey(k)
		if b := m.bals[id]; b != nil {
			m.spoil(b, fmt.Errorf("record in %s: %w", bucketNames[bucket], err))
			return
		}
		if _, ok := m.keys.named[id]; ok {
			m.spoil(m.nameless(id), corrupt("its record is missing"))
			return
		}
		invariant, err = 10, errOrphan
	}
	if len(m.damage) < maxProblems {
		m.damage = append(m.damage, Problem{invariant, fmt.Sprintf("%s %x: %v", bucketNames[bucket], k, err)})
	}
}

// nameless puts a BAL in whose record cannot be used, under the address that its slot vouches for, if any.
func (m *memory) nameless(id BALID) *balState {
	b := newBALState(BAL{ID: id})
	if named, ok := m.keys.named[id]; !ok {
		m.unnamed++
	} else if _, taken := m.byAddr[named.Address]; !taken {
		b.BAL = named
	}
	m.setBAL(b)
	return b
}

// errOrphan: a record of a BAL that is not there.
var errOrphan = fmt.Errorf("%w: its BAL is not there", ErrCorrupt)

// spoil makes a BAL unavailable; the first reason stays.
func (m *memory) spoil(b *balState, reason error) {
	if b.fault == nil {
		b.fault = errFault{reason}
	}
}

// setAside looks for BALs without a key, and takes out of memory what was read of the unavailable ones: half of it
// would mislead.
func (m *memory) setAside() {
	for id, b := range m.bals {
		if b.State == Destroyed {
			continue // has no key, and nothing was read of it
		}
		if _, err := m.keys.bal(id); err != nil {
			b.fault = errFault{m.keys.why(id)} // rather than the first record that it did not open
		}
		if b.fault != nil {
			clear(b.names)
			clear(b.members)
			clear(b.subs)
		}
	}
	for id, b := range m.boxes {
		if m.bals[b.rec.BAL].fault != nil {
			delete(m.boxes, id)
		}
	}
}

// balOf is the BAL that a record belongs to.
func (m *memory) balOf(id BALID) (*balState, error) {
	if b := m.bals[id]; b != nil {
		return b, nil
	}
	return nil, errOrphan
}

func (m *memory) balAt(a Address) (BAL, error) {
	if b := m.bals[m.byAddr[a]]; b != nil {
		return b.BAL, b.fault
	}
	return BAL{}, m.notFound()
}

// notFound is the error for an address that no BAL is known to have.
func (m *memory) notFound() error {
	if m.unnamed > 0 {
		return errFault{errors.New("the address of a BAL cannot be read, it may be this one")}
	}
	return ErrNoBAL
}

// Unavailable are the BALs that cannot be used because something kept of them is damaged, by number.
func (s *Store) Unavailable() []Fault {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mem.faults()
}

func (m *memory) faults() []Fault {
	var out []Fault
	for id, b := range m.bals {
		var f errFault
		if errors.As(b.fault, &f) {
			out = append(out, Fault{id, b.Address, f.reason.Error()})
		}
	}
	slices.SortFunc(out, func(a, b Fault) int { return cmp.Compare(a.BAL, b.BAL) })
	return out
}

// Damage are the records that could not be used when the store was opened and that belong to no BAL; Check says more.
func (s *Store) Damage() []Problem {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.mem.damage)
}

func (s *Store) logDamage() {
	for _, f := range s.mem.faults() {
		s.log.Error("a BAL is unavailable: mssd fsck says more", "bal", string(f.Address), "number", uint32(f.BAL), "err", f.Reason)
	}
	for _, p := range s.mem.damage {
		s.log.Error("a record of the index cannot be used: mssd fsck says more", "err", p.Text)
	}
}
