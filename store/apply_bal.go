package store

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// defaultMailboxes are what a new BAL has (RFC 6154 for the special uses).
var defaultMailboxes = []struct{ name, use string }{
	{"INBOX", ""}, {"Drafts", `\Drafts`}, {"Sent", `\Sent`}, {"Trash", `\Trash`}, {"Archive", `\Archive`}, {"Junk", `\Junk`},
}

func (a *apply) putBAL(op PutBAL, res *OpResult) error {
	if err := checkBAL(op.BAL); err != nil {
		return err
	}
	w, err := a.balByAddress(op.BAL.Address)
	switch {
	case err == nil && op.Create:
		return ErrBALExists
	case err == nil:
		if op.BAL.Kind != 0 && op.BAL.Kind != w.Kind {
			return ErrBALFixed
		}
		before := w.State
		w.State, w.Listing = cmp.Or(op.BAL.State, w.State), cmp.Or(op.BAL.Listing, w.Listing)
		w.activated(before, a.now)
		w.Structure = op.BAL.Structure
		w.QuotaOctets, w.QuotaMessages = op.BAL.QuotaOctets, op.BAL.QuotaMessages
		res.BAL = w.ID
		return nil
	case !op.Create || !errors.Is(err, ErrNoBAL):
		return err
	}
	if err := a.mayBeGiven(op.AfterRestore); err != nil {
		return err
	}
	return a.createBAL(op.BAL, res)
}

func (a *apply) createBAL(b BAL, res *OpResult) error {
	if b.Kind == 0 || b.State == 0 || b.Listing == 0 {
		return fmt.Errorf("%w: a new BAL needs kind, state and listing", ErrInvalid)
	}
	id, err := a.s.keys.next(a.sys.LastBAL)
	if err != nil {
		return err
	}
	a.sys.LastBAL = id
	b.ID, b.Created, b.Octets, b.Messages, b.HeldSince = id, a.now.Truncate(time.Second), 0, 0, time.Time{}
	b.Use, b.Told = Use{Since: seconds(b.Created)}, Told{}
	if err := a.s.keys.newBAL(&b); err != nil {
		return err
	}
	a.bals[b.ID] = &balWork{saved: a.batchNo, balState: balState{BAL: b, names: map[string]MailboxID{},
		members: map[string]Member{}, subs: map[string]struct{}{}}}
	a.byAddr[b.Address] = b.ID
	a.undo = append(a.undo, func() error {
		delete(a.bals, b.ID)
		delete(a.byAddr, b.Address)
		return nil
	})
	res.BAL = b.ID
	for _, d := range defaultMailboxes {
		if _, err := a.makeMailbox(b.ID, d.name, d.use); err != nil {
			return err
		}
		if err := a.subscribe(Subscribe{BAL: b.ID, Name: d.name, On: true}); err != nil {
			return err
		}
	}
	return nil
}

func checkBAL(b BAL) error {
	addr := string(b.Address)
	at := strings.LastIndexByte(addr, '@')
	if at <= 0 || at == len(addr)-1 || len(addr) > maxAddress || addr != strings.ToLower(addr) || !plain(addr) || strings.ContainsAny(addr, " <>") {
		return fmt.Errorf("%w: address of a BAL", ErrInvalid)
	}
	if len(b.Structure) > maxText || !plain(b.Structure) {
		return fmt.Errorf("%w: structure of a BAL", ErrInvalid)
	}
	if b.Kind > CAB || b.State > Closed || b.Listing > Unlisted || b.QuotaOctets < 0 || b.QuotaMessages < 0 {
		return fmt.Errorf("%w: fields of a BAL", ErrInvalid)
	}
	return nil
}

// plain reports text without control characters.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, isControl)
}

func isControl(r rune) bool {
	// U+2028 and U+2029 are forbidden in Net-Unicode as line ends are (RFC 5198, Section 2).
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029
}

func (a *apply) setBALState(op SetBALState, res *OpResult) error {
	if op.State == 0 || op.State > Closed {
		return fmt.Errorf("%w: state of a BAL", ErrInvalid)
	}
	w, err := a.balByAddress(op.Address)
	if err != nil {
		return err
	}
	before := w.State
	w.State, res.BAL = op.State, w.ID
	w.activated(before, a.now)
	return nil
}

func (a *apply) setListing(op SetListing, res *OpResult) error {
	if op.Listing == 0 || op.Listing > Unlisted {
		return fmt.Errorf("%w: listing of a BAL", ErrInvalid)
	}
	w, err := a.balByAddress(op.Address)
	if err != nil {
		return err
	}
	w.Listing, res.BAL = op.Listing, w.ID
	return nil
}

func (a *apply) setQuota(op SetQuota, res *OpResult) error {
	w, err := a.balByAddress(op.Address)
	if err != nil {
		return err
	}
	if op.Octets != nil {
		w.QuotaOctets = *op.Octets
	}
	if op.Messages != nil {
		w.QuotaMessages = *op.Messages
	}
	if w.QuotaOctets < 0 || w.QuotaMessages < 0 {
		return fmt.Errorf("%w: quota below 0", ErrInvalid)
	}
	res.BAL = w.ID
	return nil
}

func (a *apply) putMember(op PutMember, res *OpResult) error {
	m := op.Member
	if m.ID == "" || len(m.ID) > maxText || !plain(m.ID) || m.Role == 0 || m.Role > Reader || max(len(m.PasswordHash), len(m.SCRAM)) > maxHash {
		return fmt.Errorf("%w: member", ErrInvalid)
	}
	w, err := a.balByAddress(op.Address)
	if err != nil {
		return err
	}
	m.From, m.Until = seconds(m.From), seconds(m.Until)
	k := keyMember(w.ID, m.ID)
	v, err := a.s.keys.seal(w.ID, bktMember, k, encodeMember(m))
	if err != nil {
		return err
	}
	w.members[m.ID], res.BAL = m, w.ID
	return a.put(bktMember, k, v)
}

// seconds is what the format keeps of a time.
func seconds(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.Unix(t.Unix(), 0).UTC()
}

func (a *apply) endMember(op EndMember, res *OpResult) error {
	w, err := a.balByAddress(op.Address)
	if err != nil {
		return err
	}
	m, ok := w.members[op.Member]
	if !ok {
		return ErrNoMember
	}
	m.Ended, m.PasswordHash, m.SCRAM = true, "", ""
	return a.putMember(PutMember{op.Address, m}, res)
}

func (a *apply) subscribe(op Subscribe) error {
	name := canonicalName(op.Name)
	if err := checkName(name); err != nil {
		return err
	}
	w, err := a.ownBAL(op.BAL)
	if err != nil {
		return err
	}
	key, err := a.s.keys.bal(op.BAL)
	if err != nil {
		return err
	}
	names := key.names()
	k := keySub(op.BAL, &names, name)
	if _, was := w.subs[name]; was != op.On {
		a.subs = append(a.subs, subChange{BoxName{op.BAL, name}, was})
	}
	if !op.On {
		delete(w.subs, name)
		return a.del(bktSub, k)
	}
	if len(w.subs) >= maxSubs {
		return fmt.Errorf("%w: subscriptions", ErrLimit)
	}
	v, err := a.s.keys.seal(op.BAL, bktSub, k, []byte(name))
	if err != nil {
		return err
	}
	w.subs[name] = struct{}{}
	return a.put(bktSub, k, v)
}
