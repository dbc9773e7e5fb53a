package store

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// rescue brings messages back whose rows are lost: what a BAL holds the key of but has nowhere, what no BAL has any
// more although its record says so, and, when pages are lost, bodies without a record. They come into INBOX, unread.
func (r *repair) rescue() error {
	rescued := 0
	for _, bm := range r.rowless() {
		n, err := r.rescueKept(bm)
		if err != nil {
			return err
		}
		rescued += n
	}
	held := map[MessageID]bool{}
	for bm, p := range r.prefixes {
		held[bm.id] = held[bm.id] || p.refs > 0
	}
	var ids []MessageID
	for id, b := range r.blobs {
		if b.known && b.bals == 0 && !held[id] && b.rec.Refs > 0 {
			ids = append(ids, id)
		}
	}
	if r.src.lostPages(bktRow, bktPrefix, bktBlob, bktMailbox, bktBAL) > 0 {
		spans, err := spansOf(r.opt.Dir)
		if err != nil {
			return err
		}
		for _, span := range spans {
			all, err := bodiesIn(r.opt.Dir, span, 0)
			if err != nil {
				return err
			}
			for _, id := range all {
				if b := r.blobs[id]; b == nil || !b.known && b.bals == 0 && !held[id] {
					ids = append(ids, id)
				}
			}
		}
	}
	slices.Sort(ids)
	for page := range slices.Chunk(slices.Compact(ids), rebuildBatch) {
		r.opt.Progress.tell("messages without a row", int64(rescued), 0)
		all := lookAll(r.opt.Dir, r.codec, r.keys, page)
		for i, id := range page {
			n, err := r.rescueBody(id, &all[i])
			if err != nil {
				return err
			}
			rescued += n
		}
	}
	if rescued > 0 {
		r.note("%d messages whose rows were lost are in INBOX again, unread; some may have been deleted before", rescued)
	}
	return nil
}

// rowless are the messages of which a BAL has the key and no row, though its record counts one: the two come and go in
// one commit. An expunged message counts too.
func (r *repair) rowless() (out []balMessage) {
	for bm, p := range r.prefixes {
		if p.rows == 0 && max(p.was, 1) > p.refs && p.made == nil && !p.dropped {
			out = append(out, bm)
		}
	}
	slices.SortFunc(out, func(a, b balMessage) int { return cmp.Or(cmp.Compare(a.bal, b.bal), cmp.Compare(a.id, b.id)) })
	return out
}

// rescueKept brings a message back whose key a BAL has. A body that is damaged goes into lost/; one that the disk does
// not give now keeps all its records, for the next repair.
func (r *repair) rescueKept(bm balMessage) (n int, err error) {
	b, p := r.lookWhole(bm.id), r.prefixes[bm]
	if b.err != nil {
		if refusedByDisk(b.err) {
			p.kept, b.known = true, true
			return 0, nil
		}
		r.line("message %s of %s: row and body are lost: %v", bm.id, r.bals[bm.bal].Address, b.err)
		r.note("message %s of %s: row and body are lost", bm.id, r.bals[bm.bal].Address)
		return 0, nil
	}
	p.refs, b.known = p.refs+1, true
	return 1, r.addRow(bm.bal, Row{Message: bm.id, Date: bm.id.Time().Truncate(time.Second), Size: p.length + b.rec.Size})
}

// addRow puts a message into the INBOX of a BAL, unread.
func (r *repair) addRow(bal BALID, row Row) error {
	box, err := r.inboxOf(bal)
	if err != nil {
		return err
	}
	row.UID = max(box.last+1, box.UIDNext)
	box.last, box.UIDNext = row.UID, row.UID+1
	box.HighestModSeq++
	row.ModSeq, row.SaveDate = box.HighestModSeq, row.Date
	box.counted.tally(&row, 1)
	return r.putIn(bktRow, keyRow(box.Ref, row.UID), encodeRow(&row))
}

// rescueBody brings a message back to those whose key opens the header of its body.
func (r *repair) rescueBody(id MessageID, f *found) (n int, err error) {
	b := r.blob(id)
	if b.err != nil && !errors.Is(b.err, errLockedBody) && !refusedByDisk(b.err) {
		return 0, nil // its row was dropped: it is not to come back
	}
	to := slices.DeleteFunc(f.to, func(bal BALID) bool { return r.usable(bal) == nil })
	if f.err == nil && len(to) == 0 {
		f.err = errors.New("none of its BALs is known")
	}
	if f.err == nil {
		b.key, b.hasKey, b.looked, b.rec.Size = f.key, true, true, f.size
		f.err = r.lookWhole(id).err
	}
	if f.err != nil {
		r.line("body %s that no BAL has: %v", id, f.err)
		switch {
		case errors.Is(f.err, errLockedBody), refusedByDisk(f.err):
			b.kept = true // a start takes a body without a record for an orphan
		default:
			b.err = f.err
		}
		return 0, nil
	}
	for _, bal := range to {
		p, err := r.keys.sealPrefix(bal, id, &f.key, nil)
		if err != nil {
			return n, err
		}
		b.known = true
		r.prefixes[balMessage{bal, id}] = &mendedPrefix{refs: 1, made: p.Sealed}
		if err := r.addRow(bal, Row{Message: id, Date: f.time, Size: f.size}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// inboxOf is the INBOX of a BAL, made where it is missing.
func (r *repair) inboxOf(bal BALID) (*mendedBox, error) {
	for _, b := range r.boxes {
		if b.BAL == bal && b.Name == "INBOX" {
			return b, nil
		}
	}
	r.sys.LastMailbox++
	b := &mendedBox{boxRec: boxRec{Ref: Ref{bal, r.sys.LastMailbox}, Name: "INBOX", UIDNext: 1, HighestModSeq: 1, RecentFrom: 1, UIDValidity: r.newValidity()}}
	r.boxes[b.Mailbox] = b
	r.note("BAL %s had no INBOX", r.bals[bal].Address)
	return b, r.keys.sealBox(&b.boxRec)
}
