package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mssd/trace"
)

// The second half of Repair: rows and what hangs on them.

func (r *repair) blob(id MessageID) *mendedBlob {
	b := r.blobs[id]
	if b == nil {
		b = &mendedBlob{}
		r.blobs[id] = b
	}
	return b
}

func (r *repair) loadPrefixes() error {
	return r.each(bktPrefix, func(k, v []byte) error {
		if !keyIs(k, 12) {
			r.setAside(bktPrefix, k, v, corrupt("key"))
			return nil
		}
		bal, id := balOfKey(k), idOfKey(k)
		p, err := decodePrefix(v)
		if r.verbatim(bal) {
			r.blob(id).bals++
			return r.putIn(bktPrefix, k, v)
		}
		var key secret
		if err == nil && r.bals[bal] == nil {
			err = errOrphan
		}
		if err == nil {
			key, _, err = r.keys.openPrefix(bal, id, p)
		}
		if err != nil {
			r.setAside(bktPrefix, k, v, err)
			return nil
		}
		b := r.blob(id)
		b.key, b.hasKey = key, true
		r.prefixes[balMessage{bal, id}] = &mendedPrefix{length: int64(len(p.Sealed) - sealedMore - keyLen), was: p.Refs}
		return nil
	})
}

func (r *repair) loadBlobs() error {
	return r.each(bktBlob, func(k, v []byte) error {
		rec, err := decodeBlob(v)
		if err != nil || !keyIs(k, 8) {
			r.setAside(bktBlob, k, v, corrupt("blob record"))
			return nil
		}
		b := r.blob(idOfKey(k))
		b.rec, b.known = rec, true
		return nil
	})
}

// look opens the file of a body, once, and believes it about its size: that is sealed. With Bodies every frame is opened.
func (r *repair) look(id MessageID) *mendedBlob {
	b := r.blob(id)
	if b.looked {
		return b
	}
	b.looked = true
	path := filepath.Join(r.opt.Dir, BodyFile(id))
	if !b.hasKey {
		f := lookAt(path, r.codec, r.keys, id)
		if b.err = f.err; f.err == nil {
			b.key, b.hasKey = f.key, true
			r.sizeIs(id, b, f.size)
		}
		if f.err != nil || !r.opt.Bodies {
			return b
		}
	}
	f, err := osFiles{}.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b.err = fmt.Errorf("%w: %s", ErrMissing, id)
		return b
	case err != nil:
		b.err = fmt.Errorf("body %s: %w", id, err)
		return b
	}
	defer f.Close()
	end, err := readEnd(f)
	if err != nil {
		b.err = err
		return b
	}
	u, err := newUnsealer(r.codec, uint64(id), &b.key, end, -1)
	if err != nil {
		b.err = err
		return b
	}
	defer u.release()
	if h, err := u.end.header(uint64(id)); err != nil {
		b.err = err
	} else {
		b.err = h.verify(&b.key)
	}
	if r.opt.Bodies && b.err == nil {
		_, b.err = io.Copy(io.Discard, io.NewSectionReader(u, 0, u.size))
		b.rotten = b.err != nil
	}
	r.sizeIs(id, b, u.size)
	return b
}

func (r *repair) sizeIs(id MessageID, b *mendedBlob, size int64) {
	if b.known && b.rec.Size != size {
		r.note("body %s has %d octets, its record said %d", id, size, b.rec.Size)
	}
	b.rec.Size = size
}

// ref counts a row or an expunged message; a lost prefix record is made again, where some key still opens the body. It
// yields the size of the message.
func (r *repair) ref(bal BALID, id MessageID, had int64) (size int64, err error) {
	p := r.prefixes[balMessage{bal, id}]
	b := r.look(id)
	if p == nil {
		if !b.hasKey {
			return 0, errors.New("its key is lost")
		}
		rec, err := r.keys.sealPrefix(bal, id, &b.key, nil)
		if err != nil {
			return 0, err
		}
		p = &mendedPrefix{made: rec.Sealed}
		r.prefixes[balMessage{bal, id}] = p
		r.note("message %s: its key in BAL %d was lost and is made again; what delivery had put before the message is gone", id, bal)
	}
	if b.err != nil && !b.known {
		b.rec.Size = max(had-p.length, 0) // nothing says better
	}
	if !b.known {
		b.known = true
		r.note("body %s: its record was lost and is made again", id)
	}
	p.refs++
	return p.length + b.rec.Size, nil
}

func (r *repair) mendRows() error {
	return r.each(bktRow, func(k, v []byte) error {
		if r.rows++; r.rows%1000 == 0 || r.opt.Bodies && r.rows%100 == 0 {
			r.opt.Progress.tell("rows and their bodies", r.rows, 0)
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if len(k) >= 4 && r.verbatim(balOfKey(k)) {
			return r.putIn(bktRow, k, v)
		}
		row, err := decodeRow(k, v)
		var box *mendedBox
		if err == nil {
			if box = r.boxOf(refOfKey(k)); box == nil {
				err = errOrphan
			} else if row.UID == 0 {
				err = corrupt("UID 0")
			}
		}
		var size int64
		if err == nil {
			if size, err = r.ref(box.BAL, row.Message, row.Size); err == nil {
				r.prefixes[balMessage{box.BAL, row.Message}].rows++
			}
		}
		if err != nil {
			r.setAside(bktRow, k, v, err)
			return nil
		}
		return r.mendRow(box, row, size)
	})
}

// refusedByDisk reports that the system gave an error other than that the file is not there: a disk that fails for a
// moment must cost no message.
func refusedByDisk(err error) bool {
	var e syscall.Errno
	return errors.As(err, &e) && e != syscall.ENOENT
}

func (r *repair) mendRow(box *mendedBox, row Row, size int64) error {
	was := row
	bal := r.bals[box.BAL]
	box.last = max(box.last, row.UID)
	if b := r.look(row.Message); b.err != nil {
		l := LostRow{BAL: bal.Address, Mailbox: box.Mailbox, UID: row.UID, Message: row.Message, Reason: b.err.Error(),
			Dropped: r.opt.DropLost && bal.HeldSince.IsZero() && !refusedByDisk(b.err)}
		if len(r.out.Lost) < maxAside {
			r.out.Lost = append(r.out.Lost, l)
		}
		if l.Dropped {
			r.note("message %s of %s, mailbox %d, UID %d dropped: %s", l.Message, l.BAL, l.Mailbox, l.UID, l.Reason)
			p := r.prefixes[balMessage{box.BAL, row.Message}]
			p.dropped = true
			p.refs--
			p.rows--
			box.dropped = appendUID(box.dropped, row.UID)
			return nil
		}
	}
	row.Size = size
	if row.Flags &= allFlags; row.Keywords != 0 && r.words[row.Keywords] == nil {
		row.Keywords = 0
	}
	if row.ModSeq == 0 {
		row.ModSeq = 1
	}
	if row.ModSeq >= 1<<62 { // no mailbox counts so far
		row.ModSeq = 1
	}
	box.HighestModSeq = max(box.HighestModSeq, row.ModSeq)
	if row != was {
		r.note("row of mailbox %d, UID %d: size, flags, keywords or MODSEQ were wrong", box.Mailbox, row.UID)
	}
	for _, w := range r.words[row.Keywords] {
		if box.words == nil {
			box.words = map[string]string{}
		}
		box.words[strings.ToLower(w)] = w
	}
	box.counted.tally(&row, 1)
	return r.putIn(bktRow, keyRow(box.Ref, row.UID), encodeRow(&row))
}

func (r *repair) mendExpunged() error {
	return r.each(bktExpunged, func(k, v []byte) error {
		if len(k) >= 4 && r.verbatim(balOfKey(k)) {
			return r.putIn(bktExpunged, k, v)
		}
		e, name, err := decodeExpunged(k, v)
		if err == nil && r.usable(balOfKey(k)) == nil {
			err = errOrphan
		}
		if err == nil {
			_, err = r.keys.open(balOfKey(k), bktExpunged, k, name)
		}
		if err == nil && (e.UID == 0 || r.tx.Bucket(bucketNames[bktRow]).Get(keyRow(Ref{balOfKey(k), e.Mailbox}, e.UID)) != nil) {
			err = corrupt("an expunged message that is there")
		}
		if err == nil {
			if b := r.boxes[e.Mailbox]; b != nil && b.BAL != balOfKey(k) {
				err = corrupt("mailbox of another BAL")
			}
		}
		var size int64
		if err == nil {
			size, err = r.ref(balOfKey(k), e.Message, e.Size)
		}
		if err != nil {
			r.setAside(bktExpunged, k, v, err)
			return nil
		}
		row := Row{Message: e.Message, Flags: e.Flags & allFlags, Keywords: e.Keywords, Date: e.Date, SaveDate: e.SaveDate, Size: size}
		if row.Keywords != 0 && r.words[row.Keywords] == nil {
			row.Keywords = 0
		}
		now := encodeExpunged(&row, name)
		if !bytes.Equal(now, v) {
			r.note("expunged message %s: size, flags or keywords were wrong", e.ExpungedID)
		}
		r.sys.LastMailbox = max(r.sys.LastMailbox, e.Mailbox)
		if b := r.boxes[e.Mailbox]; b != nil {
			b.last = max(b.last, e.UID)
		}
		return r.putIn(bktExpunged, k, now)
	})
}

// mendGone keeps the tombstones that fit. Where one is lost clients are told of all UIDs that are not there instead: the
// record of them then begins anew (RFC 7162, Section 3.2.6).
func (r *repair) mendGone() error {
	if err := r.each(bktGone, func(_, _ []byte) error { return nil }); err != nil { // only to see whether all can be read
		return err
	}
	lost := r.src.lostPages(bktRow, bktGone) > 0
	err := r.each(bktGone, func(k, v []byte) error {
		if len(k) >= 4 && r.verbatim(balOfKey(k)) {
			return r.putIn(bktGone, k, v)
		}
		if !keyIs(k, 16) {
			r.setAside(bktGone, k, v, corrupt("key"))
			return nil
		}
		runs, err := decodeRuns(v)
		b := r.boxes[refOfKey(k).Mailbox]
		switch {
		case b == nil || b.BAL != balOfKey(k):
			r.setAside(bktGone, k, v, errors.New("its mailbox is not there"))
			return nil
		case err != nil || modSeqOfKey(k) >= 1<<62 || r.living(b, runs):
			r.setAside(bktGone, k, v, errors.New("a tombstone that does not fit"))
			b.Pruned = max(b.Pruned, min(modSeqOfKey(k), b.HighestModSeq+1))
			return nil
		case lost || modSeqOfKey(k) <= b.Pruned:
			return nil
		}
		b.HighestModSeq = max(b.HighestModSeq, modSeqOfKey(k))
		if n := len(runs); n > 0 {
			b.last = max(b.last, runs[n-1].Last())
		}
		b.counted.Tombs++
		return r.putIn(bktGone, k, v)
	})
	if err != nil {
		return err
	}
	for _, id := range sortedKeys(r.boxes) {
		b := r.boxes[id]
		if len(b.dropped) > 0 && !lost {
			b.HighestModSeq++
			b.counted.Tombs++
			if err := r.putIn(bktGone, keyGone(b.Ref, b.HighestModSeq), encodeRuns(b.dropped)); err != nil {
				return err
			}
		}
		if lost {
			b.HighestModSeq++
			b.Pruned = b.HighestModSeq
		}
		if err := r.prune(b); err != nil {
			return err
		}
	}
	return nil
}

// living reports a row among UIDs that are said to be gone.
func (r *repair) living(b *mendedBox, runs []Run) bool {
	c := r.tx.Bucket(bucketNames[bktRow]).Cursor()
	for _, run := range runs {
		if k, _ := c.Seek(keyRow(b.Ref, run.First)); keyIs(k, 12) && refOfKey(k) == b.Ref && uidOfKey(k) <= run.Last() {
			return true
		}
	}
	return false
}

// prune takes away the tombstones up to Pruned, and the oldest when there are too many.
func (r *repair) prune(b *mendedBox) error {
	b.HighestModSeq = max(b.HighestModSeq, b.Pruned)
	bucket := r.tx.Bucket(bucketNames[bktGone])
	for {
		k, _ := bucket.Cursor().Seek(appendRef(nil, b.Ref))
		if !keyIs(k, 16) || refOfKey(k) != b.Ref || modSeqOfKey(k) > b.Pruned && b.counted.Tombs <= maxTombs {
			return nil
		}
		b.Pruned = max(b.Pruned, modSeqOfKey(k))
		b.counted.Tombs--
		if err := bucket.Delete(bytes.Clone(k)); err != nil {
			return err
		}
	}
}

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

func (r *repair) rescueKept(bm balMessage) (n int, err error) {
	b := r.look(bm.id)
	if b.err != nil {
		r.aside = append(r.aside, fmt.Sprintf("message %s of %s: row and body are lost: %v", bm.id, r.bals[bm.bal].Address, b.err))
		r.note("message %s of %s: row and body are lost", bm.id, r.bals[bm.bal].Address)
		return 0, nil
	}
	p := r.prefixes[bm]
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

func (r *repair) rescueBody(id MessageID, f *found) (n int, err error) {
	if b := r.blobs[id]; b != nil && b.rotten {
		return 0, nil // its row was dropped: it is not to come back
	}
	if f.err != nil {
		if b := r.blobs[id]; b != nil && b.known {
			b.kept = errors.Is(f.err, errLockedBody)
		}
		r.aside = append(r.aside, fmt.Sprintf("body %s that no BAL has: %v", id, f.err))
		return 0, nil
	}
	for _, bal := range f.to {
		if r.usable(bal) == nil {
			continue
		}
		p, err := r.keys.sealPrefix(bal, id, &f.key, nil)
		if err != nil {
			return n, err
		}
		b := r.blob(id)
		b.key, b.hasKey, b.known, b.looked, b.rec.Size = f.key, true, true, true, f.size
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

func (r *repair) mendMembers() error {
	return r.each(bktMember, func(k, v []byte) error {
		if len(k) >= 4 && r.verbatim(balOfKey(k)) {
			return r.putIn(bktMember, k, v)
		}
		err := errOrphan
		if len(k) > 4 && r.bals[balOfKey(k)] != nil {
			var plain []byte
			if plain, err = r.keys.open(balOfKey(k), bktMember, k, v); err == nil {
				_, _, err = decodeMember(k, plain)
			}
			if err != nil {
				err = fmt.Errorf("a member of %s, who must be added again: %w", r.bals[balOfKey(k)].Address, err)
			}
		}
		if err != nil {
			r.setAside(bktMember, k, v, err)
			return nil
		}
		return r.putIn(bktMember, k, v)
	})
}

func (r *repair) mendSubs() error {
	return r.each(bktSub, func(k, v []byte) error {
		if len(k) >= 4 && r.verbatim(balOfKey(k)) {
			return r.putIn(bktSub, k, v)
		}
		err := errOrphan
		if keyIs(k, 20) && r.bals[balOfKey(k)] != nil {
			_, err = r.keys.open(balOfKey(k), bktSub, k, v)
		}
		if err != nil {
			r.setAside(bktSub, k, v, err)
			return nil
		}
		return r.putIn(bktSub, k, v)
	})
}

// writePrefixes writes the records that rows use, with their count.
func (r *repair) writePrefixes() error {
	err := r.each(bktPrefix, func(k, v []byte) error {
		if !keyIs(k, 12) || r.verbatim(balOfKey(k)) {
			return nil
		}
		p := r.prefixes[balMessage{balOfKey(k), idOfKey(k)}]
		if p == nil || p.made != nil {
			return nil
		}
		rec, err := decodePrefix(v)
		if err != nil {
			return err
		}
		if rec.Refs != p.refs {
			r.note("message %s of BAL %d is used by %d rows, counted were %d", idOfKey(k), balOfKey(k), p.refs, rec.Refs)
		}
		if p.refs == 0 {
			return nil
		}
		rec.Refs = p.refs
		return r.putIn(bktPrefix, k, encodePrefix(rec))
	})
	if err != nil {
		return err
	}
	for bm, p := range r.prefixes {
		if p.refs == 0 {
			continue
		}
		r.blob(bm.id).bals++
		if p.made == nil {
			continue
		}
		if err := r.putIn(bktPrefix, keyPrefix(bm.bal, bm.id), encodePrefix(prefixRec{p.refs, p.made})); err != nil {
			return err
		}
	}
	return nil
}

// writeBlobs writes the records of bodies and the list of the dead.
func (r *repair) writeBlobs() error {
	listed := map[MessageID]time.Time{}
	err := r.each(bktDead, func(k, v []byte) error {
		if !keyIs(k, 16) {
			r.setAside(bktDead, k, v, corrupt("key"))
			return nil
		}
		id := idOfKey(k)
		if b := r.blobs[id]; b != nil && (b.known || b.bals > 0) {
			listed[id] = timeOfKey(k)
			return nil
		}
		if bytes.Equal(v, deadGoes) {
			return r.putIn(bktDead, k, v) // its file goes at the next sweep
		}
		r.setAside(bktDead, k, v, errors.New("a dead body without a record"))
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range sortedKeys(r.blobs) {
		b := r.blobs[id]
		if !b.known && b.bals == 0 {
			continue
		}
		if b.kept && b.bals == 0 { // Check goes on telling of it
			r.sys.LastID = max(r.sys.LastID, id)
			if err := r.putIn(bktBlob, keyID(id), encodeBlob(b.rec)); err != nil {
				return err
			}
			continue
		}
		if b.bals > 0 && !b.known { // of a BAL that is left as it is
			r.look(id)
			r.note("body %s: its record was lost and is made again", id)
		}
		was := b.rec
		b.rec.Refs = b.bals
		at, dead := listed[id]
		switch {
		case b.bals > 0:
			b.rec.Dead = time.Time{}
		case !was.Dead.IsZero():
		case dead:
			b.rec.Dead = at
		default:
			b.rec.Dead = r.now
		}
		if was.Refs != b.bals || !was.Dead.Equal(b.rec.Dead) || dead != (b.bals == 0) || dead && !at.Equal(b.rec.Dead) {
			r.note("body %s is held by %d BALs, counted were %d", id, b.bals, was.Refs)
		}
		if b.bals == 0 {
			if err := r.putIn(bktDead, keyDead(b.rec.Dead, id), deadWaits); err != nil {
				return err
			}
		}
		r.sys.LastID = max(r.sys.LastID, id)
		if err := r.putIn(bktBlob, keyID(id), encodeBlob(b.rec)); err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) writeBoxes() error {
	for id := range r.bals {
		if r.usable(id) != nil {
			if _, err := r.inboxOf(id); err != nil {
				return err
			}
		}
	}
	for _, id := range sortedKeys(r.boxes) {
		b := r.boxes[id]
		if b.last >= b.UIDNext {
			if b.UIDNext > 1 {
				b.UIDValidity = r.newValidity() // UIDs may have been given twice
			}
			b.UIDNext = b.last + 1
		}
		b.Messages, b.Unseen, b.Deleted, b.Octets, b.Tombs = b.counted.Messages, b.counted.Unseen, b.counted.Deleted, b.counted.Octets, b.counted.Tombs
		for _, w := range r.words[b.Keywords] {
			if b.words == nil {
				b.words = map[string]string{}
			}
			b.words[strings.ToLower(w)] = w
		}
		if len(b.words) != len(r.words[b.Keywords]) || b.Keywords != 0 && r.words[b.Keywords] == nil {
			var all []string
			for _, w := range b.words {
				all = append(all, w)
			}
			var err error
			if b.Keywords, err = r.intern(all); err != nil {
				return err
			}
		}
		sums := &r.bals[b.BAL].sums
		sums.Octets += b.Octets
		sums.Messages += int64(b.Messages)
		if b.boxRec != b.was {
			r.note("mailbox %d of %s: counted anew, %d messages, %d unseen, %d octets, UIDNEXT %d", id, r.bals[b.BAL].Address, b.Messages, b.Unseen, b.Octets, b.UIDNext)
		}
		if err := r.putIn(bktMailbox, keyBox(b.Ref), encodeBox(&b.boxRec)); err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) writeBALs() error {
	for _, id := range sortedKeys(r.bals) {
		b := r.bals[id]
		if !b.verbatim && (b.Octets != b.sums.Octets || b.Messages != b.sums.Messages) {
			r.note("BAL %s holds %d octets in %d messages, counted were %d in %d", b.Address, b.sums.Octets, b.sums.Messages, b.Octets, b.Messages)
			b.Octets, b.Messages = b.sums.Octets, b.sums.Messages
		}
		if err := r.putIn(bktBAL, keyBAL(id), encodeBAL(b.BAL)); err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) mendOnce() error {
	seen := map[[32]byte]bool{}
	return r.each(bktOnce, func(k, v []byte) error {
		if !keyIs(k, 40) || len(v) != 8 || seen[[32]byte(k[8:])] {
			r.setAside(bktOnce, k, v, corrupt("an unconfirmed delivery"))
			return nil
		}
		seen[[32]byte(k[8:])] = true
		return r.putIn(bktOnce, k, v)
	})
}

// mendTrace fills the numbers of lost events with events that say so: the others keep theirs.
func (r *repair) mendTrace() error {
	var last uint64
	at := r.now
	fill := func(to uint64) error {
		if to-last > maxGap {
			r.note("events %d to %d of the trace are lost", last+1, to)
			return nil
		}
		for last < to {
			last++
			r.note("event %d of the trace is lost", last)
			e := trace.Event{Seq: last, Time: at, Kind: trace.System, Attrs: []trace.Attr{{Key: trace.KeyAct, Value: "lost"}}}
			v, err := encodeEvent(e)
			if err == nil {
				err = r.putIn(bktTrace, keySeq(last), v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := r.each(bktTrace, func(k, v []byte) error {
		e, err := decodeEvent(v)
		if err != nil || !keyIs(k, 8) || e.Seq != seqOfKey(k) || r.sysOK && e.Seq > r.sys.LastSeq {
			r.setAside(bktTrace, k, v, corrupt("an event of the trace"))
			return nil
		}
		at = e.Time
		if last != 0 {
			if err := fill(e.Seq - 1); err != nil {
				return err
			}
		}
		last = e.Seq
		return r.putIn(bktTrace, k, v)
	})
	if err == nil && r.sysOK && last != 0 {
		err = fill(r.sys.LastSeq)
	}
	r.sys.LastSeq = max(last, r.sys.LastSeq)
	return err
}

// copyRest copies backups, and buckets that this program does not know.
func (r *repair) copyRest() error {
	for _, name := range sortedKeys(r.src.buckets) {
		if i := slices.IndexFunc(bucketNames[:], func(n []byte) bool { return string(n) == name }); i >= 0 && i != bktBackup {
			continue
		}
		err := r.src.each(name, func(k, v []byte) error {
			if name == string(bucketNames[bktBackup]) {
				if _, err := decodeBackup(k, v); err != nil {
					r.setAside(bktBackup, k, v, err)
					return nil
				}
			}
			return r.put(name, k, v)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) writeSys() error {
	r.sys.Commits++
	if r.out.Count > 0 {
		e := trace.Event{Time: r.now, Kind: trace.System, Attrs: []trace.Attr{{Key: trace.KeyAct, Value: "repaired"}, {Key: trace.KeyCount, Value: fmt.Sprint(r.out.Count)}}}
		if err := putEvent(r.tx, &r.sys, e); err != nil {
			return err
		}
	}
	return r.putIn(bktSys, sysKey, encodeSys(r.sys))
}
