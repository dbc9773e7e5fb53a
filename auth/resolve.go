package auth

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"mssd/store"
)

const maxUser = 512 // octets of a user name

// candidate is what a user name leads to, before the password is looked at.
type candidate struct {
	bal    store.BAL
	member store.Member
	found  bool   // bal and member are set
	inBAL  bool   // bal is set
	refuse string // why this login cannot succeed; "" it can
	later  bool   // the store cannot tell for now
}

func (c candidate) ok() bool { return c.found && c.refuse == "" }

// key names the member for cache and throttle.
func (c candidate) key() string { return strconv.FormatUint(uint64(c.bal.ID), 10) + "/" + c.member.ID }

// stamp is what a remembered login depends on.
func (c candidate) stamp() string {
	m := c.member
	return strings.Join([]string{m.PasswordHash, m.SCRAM, m.Role.String(), m.From.String(), m.Until.String(), strconv.FormatBool(m.Ended),
		c.bal.State.String()}, "\x00")
}

// logBAL is the address for the log, "" if it is none of ours: what a stranger typed may be a password.
func (c candidate) logBAL() string {
	if !c.inBAL {
		return ""
	}
	return string(c.bal.Address)
}

func (c candidate) why(match bool) string {
	switch {
	case !c.inBAL:
		return "no such BAL"
	case c.refuse != "":
		return c.refuse
	case !match:
		return "wrong password"
	}
	return ""
}

// resolve finds the member that a user name stands for.
func (a *Authenticator) resolve(user string, now time.Time) candidate {
	if len(user) > maxUser {
		return candidate{}
	}
	user = strings.ToLower(user)
	name := ""
	bal, err := a.cfg.Store.BAL(store.Address(user))
	if errors.Is(err, store.ErrUnavailable) && bal.Address != "" {
		return unavailable(bal)
	}
	if err != nil {
		at := strings.LastIndexByte(user, '@')
		if at < 0 {
			return candidate{}
		}
		cut := strings.LastIndexByte(user[:at], '%')
		if cut < 0 {
			return candidate{later: errors.Is(err, store.ErrUnavailable)}
		}
		name = user[:cut]
		bal, err = a.cfg.Store.BAL(store.Address(user[cut+1:]))
		if errors.Is(err, store.ErrUnavailable) {
			return unavailable(bal)
		}
		if err != nil || name == "" {
			return candidate{}
		}
	}
	c := candidate{bal: bal, inBAL: true}
	c.pick(a.cfg.Store.Members(bal.ID), name, now)
	if c.refuse == "" && bal.State != store.Active {
		c.refuse = "the BAL is " + bal.State.String()
	}
	return c
}

// unavailable is a BAL of which nobody can say who may log in; bal may be empty.
func unavailable(bal store.BAL) candidate {
	return candidate{bal: bal, inBAL: bal.Address != "", later: true}
}

// pick chooses the member: the one named, or the only one whose password is in force.
func (c *candidate) pick(members []store.Member, name string, now time.Time) {
	n := 0
	var outOfForce *store.Member
	for i, m := range members {
		if m.PasswordHash == "" || name != "" && !isNamed(m, name) {
			continue
		}
		if !m.Active(now) {
			outOfForce = &members[i]
			continue
		}
		n++
		c.member = m
	}
	switch {
	case n == 1:
		c.found = true
	case n > 1:
		c.member = store.Member{}
		c.refuse = "several members have a password: the user name must be member%address"
	case outOfForce != nil:
		c.member, c.found, c.refuse = *outOfForce, true, "the membership is not in force"
	default:
		c.refuse = "no such member with a password"
	}
}

func isNamed(m store.Member, name string) bool {
	_, short, ok := strings.Cut(m.ID, ":")
	return strings.EqualFold(m.ID, name) || ok && strings.EqualFold(short, name)
}

// UserName is what a member types to log in to a BAL: its address where no other member has a password in force at now.
func UserName(address store.Address, m store.Member, members []store.Member, now time.Time) string {
	for _, o := range members {
		if o.ID != m.ID && o.PasswordHash != "" && o.Active(now) {
			_, short, ok := strings.Cut(m.ID, ":")
			if !ok {
				short = m.ID
			}
			return short + "%" + string(address)
		}
	}
	return string(address)
}
