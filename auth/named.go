package auth

import (
	"errors"

	"mssd/store"
)

// NamedRefusal is a refused login with a password whose user name leads to a BAL of ours: what the trace says of it. It wraps
// ErrCredentials or ErrThrottled; the client is told these alone. Who tried is not known: Member is whom the name stands for.
type NamedRefusal struct {
	Err    error
	Reason string // WrongPassword, NoVerifier (of SCRAM), NoSuchMember, RightNotInForce, BALNotActive, Throttled
	BAL    store.Address
	Member string // member id, "" where the name stands for no single member
}

func (r *NamedRefusal) Error() string { return r.Err.Error() }
func (r *NamedRefusal) Unwrap() error { return r.Err }

// refused adds to an error what the user name led to; a name that leads to no BAL may be a password and adds nothing.
func (c candidate) refused(err error) error {
	if !c.inBAL {
		return err
	}
	r := &NamedRefusal{Err: err, Reason: "WrongPassword", BAL: c.bal.Address}
	if c.found {
		r.Member = c.member.ID
	}
	switch {
	case errors.Is(err, ErrThrottled):
		r.Reason = "Throttled"
	case c.bal.State != store.Active:
		r.Reason = "BALNotActive"
	case !c.found:
		r.Reason = "NoSuchMember"
	case c.refuse != "":
		r.Reason = "RightNotInForce"
	}
	return r
}
