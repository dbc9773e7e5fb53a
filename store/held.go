package store

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Membership is what somebody is in a BAL.
type Membership struct {
	BAL    BAL
	Member Member
}

// HeldBy are the memberships of a member in all BALs that are available, those that are not in force too, by address and id.
// Ids are compared without regard to case. Where there are none and a BAL is damaged, nobody can tell: ErrUnavailable.
func (s *Store) HeldBy(member string) ([]Membership, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.mem
	var list []Membership
	for _, id := range m.held[strings.ToLower(member)] {
		b := m.bals[id]
		for _, o := range b.members {
			if strings.EqualFold(o.ID, member) {
				list = append(list, Membership{b.BAL, o})
			}
		}
	}
	slices.SortFunc(list, func(a, b Membership) int {
		return cmp.Or(cmp.Compare(a.BAL.Address, b.BAL.Address), cmp.Compare(a.Member.ID, b.Member.ID))
	})
	if len(list) == 0 && m.anyFault() {
		return nil, ErrUnavailable
	}
	return list, nil
}

// anyFault reports a BAL whose members nobody knows; under Store.mu.
func (m *memory) anyFault() bool {
	for b := range maps.Values(m.bals) {
		if b.fault != nil {
			return true
		}
	}
	return false
}

// holders brings held up to date when the members of a BAL become others; under Store.mu.
func (m *memory) holders(id BALID, was, now map[string]Member) {
	for member := range now {
		if _, there := was[member]; !there {
			m.hold(id, member)
		}
	}
	for member := range was {
		if _, there := now[member]; !there {
			m.release(id, member)
		}
	}
}

func (m *memory) hold(id BALID, member string) {
	key := strings.ToLower(member)
	if !slices.Contains(m.held[key], id) {
		m.held[key] = append(m.held[key], id)
	}
}

// release forgets a member of a BAL, as when the BAL is destroyed: all of its members go then.
func (m *memory) release(id BALID, member string) {
	key := strings.ToLower(member)
	left := slices.DeleteFunc(slices.Clone(m.held[key]), func(o BALID) bool { return o == id })
	if len(left) == 0 {
		delete(m.held, key)
		return
	}
	m.held[key] = left
}

// sameHolders compares two registers of holders, whose BALs are in no order.
func sameHolders(a, b map[string][]BALID) bool {
	return maps.EqualFunc(a, b, func(x, y []BALID) bool {
		return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
	})
}
