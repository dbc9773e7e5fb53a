package auth

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"mssd/store"
)

// maxHeld bounds the BALs of one session. Those beyond, in the order of byRank, are opened by their address.
const maxHeld = 100

// isThemselves says whether a user name stands for the person of a token rather than for a BAL: it is empty, or it identifies
// this person as the token does ("899900000052", "0759900015"), by the number alone, or as members are written
// ("rpps:99900000052"). All of these are compared with the token: whoever else they name, they name no BAL.
func isThemselves(user, person string) bool {
	family, number, _ := strings.Cut(person, ":")
	national := map[string]string{"rpps": "8", "adeli": "0"}[family] + number
	return user == "" || slices.ContainsFunc([]string{national, number, person}, func(s string) bool { return strings.EqualFold(user, s) })
}

// held are the BALs that a person may open, the first of them as their own, or the reason why there are none. The error is
// store.ErrUnavailable where nobody can tell.
func (a *Authenticator) held(person string, now time.Time) (grants []Grant, reason string, err error) {
	all, err := a.cfg.Store.HeldBy(person)
	if err != nil {
		return nil, "", err
	}
	reason = "NoRight"
	for _, h := range all {
		switch {
		case !h.Member.Active(now):
			if reason == "NoRight" {
				reason = "RightNotInForce"
			}
		case h.BAL.State != store.Active:
			reason = "BALNotActive"
		case len(grants) > 0 && grants[len(grants)-1].BAL.ID == h.BAL.ID: // the same person, written twice
		default:
			grants = append(grants, Grant{BAL: h.BAL, Role: h.Member.Role, member: h.Member.ID})
		}
	}
	if len(grants) == 0 {
		return nil, reason, nil
	}
	slices.SortStableFunc(grants, byRank)
	if len(grants) > maxHeld {
		a.cfg.Log.Warn("person with many BALs", "person", person, "bals", len(grants), "opened", maxHeld)
		grants = slices.Clone(grants[:maxHeld])
	}
	return grants, "", nil
}

// byRank is the order of the BALs of a person: their own PER, which is the one they own; then what they may do; then the address.
func byRank(a, b Grant) int {
	own := func(g Grant) int {
		if g.BAL.Kind == store.PER && g.Role == store.Owner {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(own(a), own(b)), cmp.Compare(a.Role, b.Role), cmp.Compare(a.BAL.Address, b.BAL.Address))
}

// grantsOf are the BALs that a person opens with a user name, or the reason why there are none; bal is the one that was named.
func (a *Authenticator) grantsOf(user, person string, now time.Time) (grants []Grant, bal store.Address, reason string, err error) {
	if isThemselves(user, person) {
		grants, reason, err = a.held(person, now)
	} else {
		var b store.BAL
		var m store.Member
		b, m, reason, err = a.memberOf(user, person, now)
		grants, bal = []Grant{{BAL: b, Role: m.Role, member: m.ID}}, b.Address
	}
	return grants, bal, reason, err
}
