package store

import (
	"fmt"
	"time"
)

// MemberByOwner is a change of the members of a BAL that one of its owners makes. It is held to what stands when it is
// applied: the BAL is active and By an owner in force (ErrNotOwner), and the BAL is not left without an owner sooner than it
// was before (ErrLastOwner).
type MemberByOwner struct {
	Address Address
	By      string // Member.ID
	Act     MemberAct
	// Member is who is added (ErrMemberExists where the membership has not ended), or changed: role and dates become these,
	// the password stays. Of who ends only ID is looked at.
	Member Member
}

// MemberAct is what an owner does.
type MemberAct uint8

// The acts of owners.
const (
	AddMember MemberAct = iota + 1
	ChangeMember
	DropMember
)

func (MemberByOwner) isOp() {}

func (a *apply) memberByOwner(op MemberByOwner, res *OpResult) error {
	w, err := a.balByAddress(op.Address)
	if err != nil {
		return err
	}
	if by, ok := w.members[op.By]; !ok || w.State != Active || by.Role != Owner || !by.Active(a.now) {
		return ErrNotOwner
	}
	old, known := w.members[op.Member.ID]
	known = known && !old.Ended
	before := ownedUntil(w.members, a.now)
	switch {
	case op.Act == AddMember && known:
		return ErrMemberExists
	case op.Act != AddMember && !known:
		return ErrNoMember
	case op.Act == DropMember:
		err = a.endMember(EndMember{op.Address, op.Member.ID}, res)
	case op.Act == ChangeMember:
		op.Member.PasswordHash, op.Member.SCRAM, op.Member.Ended = old.PasswordHash, old.SCRAM, false
		fallthrough
	case op.Act == AddMember:
		err = a.putMember(PutMember{op.Address, op.Member}, res)
	default:
		return fmt.Errorf("%w: act of an owner", ErrInvalid)
	}
	if err != nil {
		return err
	}
	if w, err = a.balByAddress(op.Address); err != nil {
		return err
	}
	if ownedUntil(w.members, a.now).Before(before) {
		return ErrLastOwner
	}
	return nil
}

// forEver is after the end of every membership.
var forEver = time.Unix(1<<40, 0)

// ownedUntil is how long the owners now in force last: the latest end of them, zero where there is none.
func ownedUntil(members map[string]Member, now time.Time) (last time.Time) {
	for _, m := range members {
		until := m.Until
		if until.IsZero() {
			until = forEver
		}
		if m.Role == Owner && m.Active(now) && until.After(last) {
			last = until
		}
	}
	return last
}
