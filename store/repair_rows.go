package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
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
			if err == nil {
				r.lengths[balMessage{bal, id}] = prefixLength(p)
			}
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
		r.prefixes[balMessage{bal, id}] = &mendedPrefix{length: prefixLength(p), was: p.Refs}
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

// prefixLength is how long a prefix is, without its key.
func prefixLength(p prefixRec) int64 { return max(int64(len(p.Sealed)-sealedMore-keyLen), 0) }

// look opens the file of a body, once, and believes it about its size: that is sealed. With Bodies every frame is opened.
func (r *repair) look(id MessageID) *mendedBlob {
	b := r.blob(id)
	if b.looked {
		return b
	}
	b.looked = true
	if !b.hasKey {
		f := lookAt(filepath.Join(r.opt.Dir, BodyFile(id)), r.codec, r.keys, id)
		if b.err = f.err; f.err == nil {
			b.key, b.hasKey = f.key, true
			r.sizeIs(id, b, f.size)
		}
		if f.err != nil || !r.opt.Bodies {
			return b
		}
	}
	r.open(id, b, r.opt.Bodies)
	return b
}

// lookWhole is look to the last frame.
func (r *repair) lookWhole(id MessageID) *mendedBlob {
	b := r.look(id)
	if b.err == nil && !b.whole {
		r.open(id, b, true)
	}
	return b
}

// open opens a body with its key.
func (r *repair) open(id MessageID, b *mendedBlob, whole bool) {
	f, err := osFiles{}.Open(filepath.Join(r.opt.Dir, BodyFile(id)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b.err = fmt.Errorf("%w: %s", ErrMissing, id)
		return
	case err != nil:
		b.err = fmt.Errorf("body %s: %w", id, err)
		return
	}
	defer f.Close()
	end, err := readEnd(f)
	if err != nil {
		b.err = err
		return
	}
	u, err := newUnsealer(r.codec, uint64(id), &b.key, end, -1)
	if err != nil {
		b.err = err
		return
	}
	defer u.release()
	if h, err := u.end.header(uint64(id)); err != nil {
		b.err = err
	} else {
		b.err = h.verify(&b.key)
	}
	if whole && b.err == nil {
		_, b.err = io.Copy(io.Discard, io.NewSectionReader(u, 0, u.size))
		b.whole = b.err == nil
	}
	r.sizeIs(id, b, u.size)
}

// guessSize takes the size of a body whose record is lost, and which no key opens now, from a message that shows it.
func (r *repair) guessSize(bal BALID, id MessageID, size int64) {
	n, ok := r.lengths[balMessage{bal, id}]
	if b := r.blobs[id]; ok && b != nil && !b.known && b.rec.Size == 0 {
		b.rec.Size = max(size-n, 0)
	}
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
			if row, err := decodeRow(k, v); err == nil {
				r.guessSize(balOfKey(k), row.Message, row.Size)
			}
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
		if r.out.Rows++; len(r.out.Lost) < maxProblems {
			r.out.Lost = append(r.out.Lost, l)
		}
		if l.Dropped {
			r.out.Dropped++
			r.note("message %s of %s, mailbox %d, UID %d dropped: %s", l.Message, l.BAL, l.Mailbox, l.UID, l.Reason)
			r.line("message %s of %s, mailbox %d, UID %d: %s", l.Message, l.BAL, l.Mailbox, l.UID, l.Reason)
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
			if e, _, err := decodeExpunged(k, v); err == nil {
				r.guessSize(balOfKey(k), e.Message, e.Size)
			}
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
