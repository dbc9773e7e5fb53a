package store

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// checkName refuses what cannot be the name of a mailbox.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", ErrName)
	case len(name) > MaxName:
		return fmt.Errorf("%w: more than %d octets", ErrName, MaxName)
	case !plain(name):
		return fmt.Errorf("%w: control character or no UTF-8", ErrName)
	case strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return fmt.Errorf("%w: empty level", ErrName)
	case strings.Count(name, "/") >= MaxDepth:
		return fmt.Errorf("%w: more than %d levels", ErrName, MaxDepth)
	}
	return nil
}

func (a *apply) createMailbox(op CreateMailbox, res *OpResult) error {
	name := canonicalName(op.Name)
	if err := checkName(name); err != nil {
		return err
	}
	if len(op.SpecialUse) > maxText || !plain(op.SpecialUse) {
		return fmt.Errorf("%w: special use", ErrInvalid)
	}
	w, err := a.bal(op.BAL)
	if err != nil {
		return err
	}
	if _, ok := w.names[name]; ok {
		return ErrMailboxExists
	}
	if err := a.makeParents(op.BAL, name); err != nil {
		return err
	}
	b, err := a.makeMailbox(op.BAL, name, op.SpecialUse)
	if err != nil {
		return err
	}
	res.Ref, res.UIDValidity, res.ModSeq = b.Ref, b.UIDValidity, b.HighestModSeq
	return nil
}

// makeParents creates the missing names above a name.
func (a *apply) makeParents(bal BALID, name string) error {
	w, err := a.bal(bal)
	if err != nil {
		return err
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if _, ok := w.names[name[:i]]; !ok {
			if _, err := a.makeMailbox(bal, name[:i], ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeMailbox creates a mailbox that does not exist.
func (a *apply) makeMailbox(bal BALID, name, use string) (*boxWork, error) {
	w, err := a.ownBAL(bal)
	if err != nil {
		return nil, err
	}
	if len(w.names) >= MaxMailbox {
		return nil, fmt.Errorf("%w: mailboxes", ErrLimit)
	}
	if a.sys.LastMailbox == math.MaxUint32 || a.sys.LastValidity == math.MaxUint32 {
		return nil, fmt.Errorf("%w: numbers of mailboxes", ErrLimit)
	}
	// One counter for the whole store, pushed on by the clock: a name that comes back, or a store restored from a
	// backup, never shows a former UIDVALIDITY (RFC 9051, Section 2.3.1.1).
	a.sys.LastValidity = max(a.sys.LastValidity+1, UIDValidity(min(max(a.now.Unix(), 1), math.MaxUint32)))
	a.sys.LastMailbox++
	id := a.sys.LastMailbox
	b := &boxWork{saved: a.batchNo, boxRec: boxRec{Ref: Ref{bal, id}, Name: name, SpecialUse: use,
		UIDValidity: a.sys.LastValidity, UIDNext: 1, HighestModSeq: 1, RecentFrom: 1}}
	if err := a.s.keys.sealBox(&b.boxRec); err != nil {
		return nil, err
	}
	a.boxes[id] = b
	w.names[name] = id
	a.undo = append(a.undo, func() error { delete(a.boxes, id); return nil })
	return b, nil
}

func (a *apply) deleteMailbox(op DeleteMailbox, res *OpResult) error {
	b, err := a.box(op.Ref)
	if err != nil {
		return err
	}
	if b.Name == "INBOX" {
		return fmt.Errorf("%w: INBOX cannot be deleted", ErrName)
	}
	if b.Messages > MaxExpunge {
		return fmt.Errorf("%w: %d messages in a mailbox that is deleted", ErrLimit, b.Messages)
	}
	w, err := a.ownBAL(op.Ref.BAL)
	if err != nil {
		return err
	}
	rows, err := a.rows(op.Ref, everything)
	if err != nil {
		return err
	}
	for i := range rows {
		if err := a.expungeRow(b, w, &rows[i]); err != nil {
			return err
		}
		res.UIDs = appendUID(res.UIDs, rows[i].UID)
	}
	if err := a.dropTombs(b); err != nil {
		return err
	}
	if err := a.dropAnnotations(op.Ref); err != nil {
		return err
	}
	delete(w.names, b.Name)
	b.gone = true
	return a.del(bktMailbox, keyBox(op.Ref))
}

func (a *apply) renameMailbox(op RenameMailbox, res *OpResult) error {
	b, err := a.box(op.Ref)
	if err != nil {
		return err
	}
	if b.Name != "INBOX" {
		res.Ref, res.UIDValidity, res.ModSeq = b.Ref, b.UIDValidity, b.HighestModSeq
		return a.renameTree(op.Ref.BAL, b.Name, op.To)
	}
	if err := a.createMailbox(CreateMailbox{BAL: op.Ref.BAL, Name: op.To}, res); err != nil {
		return err
	}
	return a.copy(op.Ref, res.Ref, everything, true, res)
}

// renameTree renames the mailbox of a name, if it exists, and those below it.
func (a *apply) renameTree(bal BALID, from, to string) error {
	from, to = canonicalName(from), canonicalName(to)
	if err := checkName(to); err != nil {
		return err
	}
	if from == "INBOX" || strings.HasPrefix(to, from+"/") {
		return fmt.Errorf("%w: cannot be renamed to that", ErrName)
	}
	w, err := a.ownBAL(bal)
	if err != nil {
		return err
	}
	var old []string
	for n := range w.names {
		if n == from || strings.HasPrefix(n, from+"/") {
			old = append(old, n)
		}
	}
	if len(old) == 0 {
		return ErrNoMailbox
	}
	slices.Sort(old) // parents before children
	if _, ok := w.names[to]; ok {
		return ErrMailboxExists
	}
	moved := maps.Clone(w.names)
	for _, n := range old {
		delete(moved, n)
	}
	for _, n := range old {
		name := to + n[len(from):]
		if err := checkName(name); err != nil {
			return err
		}
		if _, ok := moved[name]; ok {
			return ErrMailboxExists
		}
		moved[name] = w.names[n]
		b, err := a.box(Ref{bal, w.names[n]})
		if err != nil {
			return err
		}
		b.Name = name
		if err := a.s.keys.sealBox(&b.boxRec); err != nil {
			return err
		}
	}
	w.names = moved
	return a.makeParents(bal, to)
}
