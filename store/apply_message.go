package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	maxTombs    = 1000 // tombstone entries kept per mailbox
	maxMailSize = math.MaxInt64 / 2
)

var everything = []Run{{1, math.MaxUint32}}

// rows are the messages that exist among runs, ascending, as this group left them.
func (a *apply) rows(r Ref, runs []Run) ([]Row, error) {
	var out []Row
	c := a.buckets[bktRow].Cursor()
	for _, run := range normal(runs) {
		prefix := appendRef(nil, r)
		for k, v := c.Seek(keyRow(r, run.First)); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			row, err := decodeRow(k, v)
			if err != nil {
				return nil, err
			}
			if row.UID > run.Last() {
				break
			}
			out = append(out, row)
		}
	}
	return out, nil
}

// addMessage puts a message into a mailbox; blob is its body, nil when that is stored already.
func (a *apply) addMessage(op AddMessage, blob *Blob, res *OpResult) error {
	b, err := a.box(op.Ref)
	if err != nil {
		return err
	}
	if op.ExpectUIDValidity != 0 && op.ExpectUIDValidity != b.UIDValidity {
		return ErrUIDValidity
	}
	if op.Message == 0 && blob != nil {
		op.Message = blob.id
	}
	rec, err := a.blob(op.Message)
	if err != nil {
		return err
	}
	if len(op.Prefix) > MaxPrefix || op.Flags&^allFlags != 0 {
		return fmt.Errorf("%w: prefix or flags", ErrInvalid)
	}
	size := int64(len(op.Prefix)) + rec.Size
	if op.Size != 0 && op.Size != size {
		return fmt.Errorf("%w: size %d, not %d", ErrInvalid, op.Size, size)
	}
	w, err := a.bal(op.Ref.BAL)
	if err != nil {
		return err
	}
	if !op.Delivery && w.Full(size) {
		return ErrOverQuota
	}
	set, err := a.intern(op.Keywords)
	if err == nil {
		err = a.noteKeywords(b, set)
	}
	if op.Delivery && errors.Is(err, ErrLimit) {
		set, err = 0, nil // better without keywords than not at all
	}
	if err != nil {
		return err
	}
	var key *secret // of a body that is stored already: to be looked for
	if blob != nil {
		key = &blob.key
	}
	if err := a.refPrefix(op.Ref.BAL, op.Message, key, op.Prefix); err != nil {
		return err
	}
	if op.Date.IsZero() {
		op.Date = a.now
	}
	b.HighestModSeq++
	row := Row{Message: op.Message, Flags: op.Flags, Keywords: set, Date: seconds(op.Date), Size: size}
	if err := a.insertRow(b, w, &row); err != nil {
		return err
	}
	res.Ref, res.UIDValidity, res.ModSeq = b.Ref, b.UIDValidity, b.HighestModSeq
	res.New = []Run{{row.UID, 1}}
	return nil
}

// insertRow gives row a UID and the mailbox's HIGHESTMODSEQ, and counts it. References are the caller's.
func (a *apply) insertRow(b *boxWork, w *balWork, row *Row) error {
	if b.UIDNext == math.MaxUint32 {
		return fmt.Errorf("%w: UIDs of the mailbox", ErrLimit)
	}
	row.UID, row.ModSeq, row.SaveDate = b.UIDNext, b.HighestModSeq, a.notBefore()
	b.UIDNext++
	b.tally(row, 1)
	w.Messages++
	w.Octets += row.Size
	a.changes = append(a.changes, change{box: b.Mailbox, modSeq: row.ModSeq, row: *row})
	return a.put(bktRow, keyRow(b.Ref, row.UID), encodeRow(row))
}

// removeRow takes a row away with its reference to the message. The tombstone is the caller's.
func (a *apply) removeRow(b *boxWork, w *balWork, row *Row) error {
	if err := a.dropRow(b, w, row); err != nil {
		return err
	}
	return a.unrefPrefix(b.BAL, row.Message)
}

// dropRow takes a row away but leaves its reference.
func (a *apply) dropRow(b *boxWork, w *balWork, row *Row) error {
	b.tally(row, -1)
	w.Messages--
	w.Octets -= row.Size
	return a.del(bktRow, keyRow(b.Ref, row.UID))
}

// tally counts a row in (n = 1) or out (n = -1).
func (r *boxRec) tally(row *Row, n int32) {
	r.Messages += uint32(n)
	r.Octets += int64(n) * row.Size
	if row.Flags&Seen == 0 {
		r.Unseen += uint32(n)
	}
	if row.Flags&Deleted != 0 {
		r.Deleted += uint32(n)
	}
}

func (a *apply) copy(from, to Ref, runs []Run, move bool, res *OpResult) error {
	src, err := a.box(from)
	if err != nil {
		return err
	}
	dst, err := a.box(to)
	if err != nil {
		return err
	}
	srcBAL, err := a.bal(from.BAL)
	if err != nil {
		return err
	}
	dstBAL, err := a.bal(to.BAL)
	if err != nil {
		return err
	}
	rows, err := a.rows(from, runs)
	if err != nil {
		return err
	}
	res.Ref, res.UIDValidity, res.ModSeq = to, dst.UIDValidity, src.HighestModSeq
	if len(rows) == 0 {
		return nil
	}
	// A move inside a BAL needs no room. The quota is judged per message, so that the error comes before the
	// one that would overrun it; the whole operation is then undone.
	free := move && from.BAL == to.BAL
	dst.HighestModSeq++
	for i := range rows {
		old := rows[i]
		if err := a.copyRow(old, src, dst, srcBAL, dstBAL, move, free); err != nil {
			return err
		}
		res.UIDs = appendUID(res.UIDs, old.UID)
		res.New = appendUID(res.New, dst.UIDNext-1)
	}
	if move {
		if err := a.entomb(src, res.UIDs); err != nil {
			return err
		}
	}
	res.ModSeq, res.touched = src.HighestModSeq, res.UIDs
	return nil
}

func (a *apply) copyRow(old Row, src, dst *boxWork, srcBAL, dstBAL *balWork, move, free bool) error {
	row := old
	if err := a.noteKeywords(dst, old.Keywords); err != nil {
		return err
	}
	if !free {
		var err error
		if row.Size, err = a.sharePrefix(src.BAL, dst.BAL, &old); err != nil {
			return err
		}
		if dstBAL.Full(row.Size) {
			return ErrOverQuota
		}
	}
	if err := a.insertRow(dst, dstBAL, &row); err != nil || !move {
		return err
	}
	if free {
		return a.dropRow(src, srcBAL, &old)
	}
	// The BAL that it leaves loses it, and those who share that BAL may want it back.
	return a.expungeRow(src, srcBAL, &old)
}

// entomb remembers that UIDs went, at a new HIGHESTMODSEQ, and forgets the oldest entry when there are too many.
func (a *apply) entomb(b *boxWork, uids []Run) error {
	b.HighestModSeq++
	b.Tombs++
	a.changes = append(a.changes, change{box: b.Mailbox, modSeq: b.HighestModSeq, gone: uids})
	if err := a.put(bktGone, keyGone(b.Ref, b.HighestModSeq), encodeRuns(uids)); err != nil {
		return err
	}
	for b.Tombs > maxTombs {
		k, _ := a.buckets[bktGone].Cursor().Seek(appendRef(nil, b.Ref))
		if !keyIs(k, 16) || refOfKey(k) != b.Ref {
			return corrupt("tombstones")
		}
		k = bytes.Clone(k)
		b.Pruned = modSeqOfKey(k)
		b.Tombs--
		if err := a.del(bktGone, k); err != nil {
			return err
		}
	}
	return nil
}

func (a *apply) dropTombs(b *boxWork) error {
	prefix := appendRef(nil, b.Ref)
	var keys [][]byte
	c := a.buckets[bktGone].Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := a.del(bktGone, k); err != nil {
			return err
		}
	}
	return nil
}

func (a *apply) storeFlags(op StoreFlags, res *OpResult) error {
	b, err := a.box(op.Ref)
	if err != nil {
		return err
	}
	if op.Mode < Add || op.Mode > Replace || op.Flags&^allFlags != 0 {
		return fmt.Errorf("%w: mode or flags", ErrInvalid)
	}
	words, err := checkKeywords(op.Keywords)
	if err != nil {
		return err
	}
	rows, err := a.rows(op.Ref, op.Runs)
	if err != nil {
		return err
	}
	next := b.HighestModSeq + 1 // one MODSEQ for the whole operation, used only if something changes
	for _, row := range rows {
		if op.Conditional && row.ModSeq > op.UnchangedSince {
			res.Modified = appendUID(res.Modified, row.UID)
			continue
		}
		changed, err := a.changeFlags(b, &row, op, words, next)
		if err != nil {
			return err
		}
		if changed {
			res.touched = appendUID(res.touched, row.UID)
		}
		res.UIDs = appendUID(res.UIDs, row.UID)
		res.Rows = append(res.Rows, row)
	}
	res.Ref, res.UIDValidity, res.ModSeq = b.Ref, b.UIDValidity, b.HighestModSeq
	return nil
}

func (a *apply) changeFlags(b *boxWork, row *Row, op StoreFlags, words []string, next ModSeq) (bool, error) {
	was := *row
	switch op.Mode {
	case Add:
		row.Flags |= op.Flags
	case Remove:
		row.Flags &^= op.Flags
	case Replace:
		row.Flags = op.Flags
	}
	if len(words) > 0 || op.Mode == Replace {
		set, err := a.intern(mixWords(a.keywords(row.Keywords), op.Mode, words))
		if err != nil {
			return false, err
		}
		row.Keywords = set
		if err := a.noteKeywords(b, set); err != nil {
			return false, err
		}
	}
	if *row == was {
		return false, nil
	}
	b.tally(&was, -1)
	b.tally(row, 1)
	b.HighestModSeq, row.ModSeq = next, next
	a.changes = append(a.changes, change{box: b.Mailbox, modSeq: next, row: *row})
	return true, a.put(bktRow, keyRow(b.Ref, row.UID), encodeRow(row))
}

// mixWords is the keywords after a change; had is sorted and is not changed.
func mixWords(had []string, mode Mode, words []string) []string {
	switch mode {
	case Replace:
		return words
	case Add:
		return append(slices.Clone(had), words...)
	}
	return slices.DeleteFunc(slices.Clone(had), func(w string) bool {
		return slices.ContainsFunc(words, func(x string) bool { return strings.EqualFold(w, x) })
	})
}
