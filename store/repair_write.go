package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"mssd/trace"
)

// The last part of Repair: what hangs on rows, and the records that count them.

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
		if p.kept {
			return r.putIn(bktPrefix, k, v)
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
		if p.refs == 0 && !p.kept {
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
		switch {
		case b.bals == 0 && b.kept: // Check goes on telling of it
			err = r.keepBlob(id, b)
		case b.bals == 0 && b.err != nil && !missing(b.err):
			err = r.loseBlob(id, b)
		case b.bals > 0 || b.known:
			at, dead := listed[id]
			err = r.writeBlob(id, b, at, dead)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func missing(err error) bool { return errors.Is(err, ErrMissing) || errors.Is(err, fs.ErrNotExist) }

// keepBlob writes a record for a body that may come back: no sweep takes its file.
func (r *repair) keepBlob(id MessageID, b *mendedBlob) error {
	r.sys.LastID = max(r.sys.LastID, id)
	if !b.known {
		b.rec.Refs = 1 // a BAL that is not known now
		r.note("body %s: its record was lost, and its key is not there now: it is kept until it is", id)
	}
	return r.putIn(bktBlob, keyID(id), encodeBlob(b.rec))
}

// loseBlob leaves a damaged body without a record; its file gets its name in lost/ before the new index takes its place.
func (r *repair) loseBlob(id MessageID, b *mendedBlob) error {
	r.out.Bodies++
	r.lost = append(r.lost, id)
	r.note("body %s goes into the folder lost: %v", id, b.err)
	r.sys.LastID = max(r.sys.LastID, id)
	return r.putIn(bktDead, keyDead(r.now, id), deadGoes)
}

// writeBlob writes the record of a body that BALs have, or had: at is when it died as far as that is listed.
func (r *repair) writeBlob(id MessageID, b *mendedBlob, at time.Time, dead bool) error {
	if b.bals > 0 && !b.known { // of a BAL that is left as it is
		r.look(id)
		r.note("body %s: its record was lost and is made again", id)
	}
	was := b.rec
	b.rec.Refs = b.bals
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
	return r.putIn(bktBlob, keyID(id), encodeBlob(b.rec))
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
