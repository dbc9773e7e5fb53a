package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"mssd/trace"
)

// MaxExpunge is how many messages one operation Expunge removes at most.
const MaxExpunge = 5000

const (
	maxLook     = 50_000 // rows and runs that it looks at
	maxUndelete = 1000   // messages that one operation brings back

	// Never is the retention of a mailbox that keeps its messages, whatever the default of its special use is.
	Never = ^uint32(0)
	// MaxRetention is the longest retention of a mailbox, days.
	MaxRetention = 36500
	// recovered is the mailbox for what comes back when its own is gone.
	recovered = "Recovered"
)

type (
	// Undelete makes rows again of expunged messages, with new UIDs: in the mailbox To, else in the one where each was,
	// else in the one that has its name now, else in "Recovered". What is missing of To and Recovered is created and
	// subscribed. Flags but \Deleted, keywords and the internal date stay; a keyword for which the mailbox has no room
	// is left out. The quota may be overrun, as by a delivery. What is not there any more is passed over:
	// OpResult.Undeleted tells what came back.
	Undelete struct {
		BAL   BALID
		Which []ExpungedID // at most 1000
		To    string       // "": where it was
		Event trace.Event  // written for each run of messages, with mailboxes and UIDs; no Kind: none
	}
	// SetHold begins or ends the legal hold of a BAL: while it lasts nothing expunged is let go, retention does nothing,
	// and what is moved to another BAL stays here as expunged. One that lasts already keeps its beginning.
	SetHold struct {
		Address Address
		On      bool
	}
	// SetRetention says after how many days in a mailbox a message is expunged: 0 the default of its special use
	// (Options.Retention), Never, or 1 to MaxRetention.
	SetRetention struct {
		Ref  Ref
		Days uint32
	}
)

func (Undelete) isOp()     {}
func (SetHold) isOp()      {}
func (SetRetention) isOp() {}

// Undeleted is a message that came back.
type Undeleted struct {
	ExpungedID
	To  Ref
	New UID
}

// expungeRow takes a row away; the message can come back for some time. The tombstone is the caller's.
func (a *apply) expungeRow(b *boxWork, w *balWork, row *Row) error {
	if !w.Held() && a.s.retainExpunged() <= 0 {
		return a.removeRow(b, w, row)
	}
	if err := a.dropRow(b, w, row); err != nil {
		return err
	}
	k := keyExpunged(b.BAL, ExpungedID{a.notBefore(), b.Mailbox, row.UID})
	name, err := a.s.keys.seal(b.BAL, bktExpunged, k, []byte(b.Name))
	if err != nil {
		return err
	}
	return a.put(bktExpunged, k, encodeExpunged(row, name))
}

// expungeable are the rows that op means, at most MaxExpunge; rest is what one that looked at enough left to look at.
func (a *apply) expungeable(op Expunge) (rows []Row, rest []Run, err error) {
	c := a.buckets[bktRow].Cursor()
	prefix := appendRef(nil, op.Ref)
	runs, looked := normal(op.Runs), 0
	for i, run := range runs {
		if looked++; looked > maxLook {
			return rows, runs[i:], nil
		}
		for k, v := c.Seek(keyRow(op.Ref, run.First)); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			row, err := decodeRow(k, v)
			if err != nil {
				return nil, nil, err
			}
			if row.UID > run.Last() {
				break
			}
			if looked++; looked > maxLook || len(rows) == MaxExpunge {
				return rows, append([]Run{{row.UID, uint32(run.Last()-row.UID) + 1}}, runs[i+1:]...), nil
			}
			if op.All || row.Flags&Deleted != 0 {
				rows = append(rows, row)
			}
		}
	}
	return rows, nil, nil
}

// expunge removes rows, and says what is left to be looked at.
func (a *apply) expunge(op Expunge, res *OpResult) error {
	b, err := a.box(op.Ref)
	if err != nil {
		return err
	}
	res.Ref, res.UIDValidity, res.ModSeq = b.Ref, b.UIDValidity, b.HighestModSeq
	if b.Deleted == 0 && !op.All {
		return nil
	}
	rows, rest, err := a.expungeable(op)
	if err != nil {
		return err
	}
	res.Rest = rest
	return a.expungeRows(b, rows, res)
}

func (a *apply) expungeRows(b *boxWork, rows []Row, res *OpResult) error {
	if len(rows) == 0 {
		return nil
	}
	w, err := a.bal(b.BAL)
	if err != nil {
		return err
	}
	for i := range rows {
		if err := a.expungeRow(b, w, &rows[i]); err != nil {
			return err
		}
		res.UIDs = appendUID(res.UIDs, rows[i].UID)
	}
	err = a.entomb(b, res.UIDs)
	res.ModSeq, res.touched = b.HighestModSeq, res.UIDs
	return err
}

func (a *apply) undelete(op Undelete, res *OpResult) error {
	if len(op.Which) > maxUndelete {
		return fmt.Errorf("%w: %d messages to bring back", ErrLimit, len(op.Which))
	}
	w, err := a.bal(op.BAL)
	if err != nil {
		return err
	}
	which := slices.Clone(op.Which)
	slices.SortFunc(which, func(x, y ExpungedID) int { return cmp.Or(cmp.Compare(x.Mailbox, y.Mailbox), cmp.Compare(x.UID, y.UID)) })
	touched := map[MailboxID]bool{}
	for _, id := range which {
		k := keyExpunged(op.BAL, id)
		v := a.get(bktExpunged, k)
		if v == nil {
			continue
		}
		e, sealed, err := decodeExpunged(k, v)
		if err != nil {
			return err
		}
		dst, err := a.undeleteTo(op, k, id.Mailbox, sealed)
		if err != nil {
			return err
		}
		if !touched[dst.Mailbox] {
			touched[dst.Mailbox] = true
			dst.HighestModSeq++
		}
		if err := a.noteKeywords(dst, e.Keywords); errors.Is(err, ErrLimit) {
			e.Keywords = 0 // better without keywords than not at all
		} else if err != nil {
			return err
		}
		row := Row{Message: e.Message, Flags: e.Flags &^ Deleted, Keywords: e.Keywords, Date: e.Date, Size: e.Size}
		if err := a.insertRow(dst, w, &row); err != nil {
			return err
		}
		if err := a.del(bktExpunged, k); err != nil { // its reference is the row's now
			return err
		}
		res.Undeleted = append(res.Undeleted, Undeleted{id, dst.Ref, row.UID})
	}
	return a.undeleteEvents(op.Event, res.Undeleted)
}

// undeleteTo is the mailbox for a message that comes back.
func (a *apply) undeleteTo(op Undelete, k []byte, was MailboxID, sealed []byte) (*boxWork, error) {
	name := canonicalName(op.To)
	if name == "" {
		if b, err := a.box(Ref{op.BAL, was}); err == nil {
			return b, nil
		}
		had, err := a.s.keys.open(op.BAL, bktExpunged, k, sealed)
		w, err2 := a.bal(op.BAL)
		if err2 != nil {
			return nil, err2
		}
		if name = recovered; err == nil {
			if _, ok := w.names[string(had)]; ok {
				name = string(had)
			}
		}
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	w, err := a.bal(op.BAL)
	if err != nil {
		return nil, err
	}
	if id, ok := w.names[name]; ok {
		return a.box(Ref{op.BAL, id})
	}
	if err := a.makeParents(op.BAL, name); err != nil {
		return nil, err
	}
	if err := a.subscribe(Subscribe{BAL: op.BAL, Name: name, On: true}); err != nil && !errors.Is(err, ErrLimit) {
		return nil, err
	}
	return a.makeMailbox(op.BAL, name, "")
}

// undeleteEvents writes an event for each run of messages that went from one mailbox to another: their new UIDs are one
// run, because they were given one after the other.
func (a *apply) undeleteEvents(e trace.Event, list []Undeleted) error {
	if e.Kind == 0 {
		return nil
	}
	for len(list) > 0 {
		var uids []Run
		n := 0
		for n < len(list) && list[n].Mailbox == list[0].Mailbox && list[n].To == list[0].To {
			next := appendUID(uids, list[n].UID)
			if len(next) > maxUIDRuns {
				break
			}
			uids, n = next, n+1
		}
		ev := e
		ev.Mailbox, ev.UIDs = uint32(list[0].Mailbox), formatRuns(uids)
		ev.Attrs = withTarget(e.Attrs, list[0].To, Run{list[0].New, uint32(n)})
		if err := a.event(ev); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (a *apply) setHold(op SetHold, res *OpResult) error {
	w, err := a.balByAddress(op.Address)
	if err != nil {
		return err
	}
	res.BAL = w.ID
	switch {
	case !op.On:
		w.HeldSince = time.Time{}
	case !w.Held():
		w.HeldSince = seconds(a.now)
	}
	return nil
}

func (a *apply) setRetention(op SetRetention, res *OpResult) error {
	b, err := a.box(op.Ref)
	if err != nil {
		return err
	}
	if op.Days > MaxRetention && op.Days != Never {
		return fmt.Errorf("%w: retention of %d days; the longest is %d", ErrInvalid, op.Days, MaxRetention)
	}
	b.RetentionDays, res.Ref = op.Days, b.Ref
	return nil
}

// purge lets expunged messages of a BAL go for good, unless it is held.
type purge struct {
	bal   BALID
	which []ExpungedID
	event trace.Event // for each mailbox
}

func (purge) isOp() {}

func (a *apply) purge(op purge, res *OpResult) error {
	w, err := a.bal(op.bal)
	if err != nil || w.Held() {
		return err
	}
	slices.SortFunc(op.which, func(x, y ExpungedID) int { return cmp.Or(cmp.Compare(x.Mailbox, y.Mailbox), cmp.Compare(x.UID, y.UID)) })
	gone := map[MailboxID][]Run{}
	for _, id := range op.which {
		k := keyExpunged(op.bal, id)
		v := a.get(bktExpunged, k)
		if v == nil { // it came back
			continue
		}
		e, _, err := decodeExpunged(k, v)
		if err != nil {
			return err
		}
		if err := a.del(bktExpunged, k); err != nil {
			return err
		}
		if err := a.unrefPrefix(op.bal, e.Message); err != nil {
			return err
		}
		gone[id.Mailbox] = appendUID(gone[id.Mailbox], id.UID)
		res.purged++
	}
	for _, box := range slices.Sorted(maps.Keys(gone)) {
		for part := range slices.Chunk(gone[box], maxUIDRuns) {
			ev := op.event
			ev.BAL, ev.Mailbox, ev.UIDs = string(w.Address), uint32(box), formatRuns(part)
			if err := a.event(ev); err != nil {
				return err
			}
		}
	}
	return nil
}

// retire expunges what is in a mailbox too long. What the sweep saw may have changed: hold and days are asked again.
type retire struct {
	ref    Ref
	days   uint32
	before time.Time
	runs   []Run
}

func (retire) isOp() {}

func (a *apply) retire(op retire, res *OpResult) error {
	b, err := a.box(op.ref)
	if errors.Is(err, ErrNoMailbox) {
		return nil
	}
	if err != nil {
		return err
	}
	w, err := a.bal(op.ref.BAL)
	if err != nil || w.Held() || a.s.retentionOf(&b.boxRec) != op.days {
		return err
	}
	rows, _, err := a.expungeable(Expunge{Ref: op.ref, Runs: op.runs, All: true})
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r Row) bool { return !r.SaveDate.Before(op.before) })
	return a.expungeRows(b, rows, res)
}
