package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Problem is a broken invariant.
type Problem struct {
	Invariant int // its number in the package comment
	Text      string
}

func (p Problem) String() string { return fmt.Sprintf("invariant %d: %s", p.Invariant, p.Text) }

const maxProblems = 1000

// Check tests the invariants against one moment of the index and yields what is broken, at most 1000 problems. It
// may run while the store is in use; commits wait while the pages of the index are looked at.
func (s *Store) Check(ctx context.Context) ([]Problem, error) {
	c := &checker{s: s, ctx: ctx, prefixRefs: map[balMessage]uint32{}, blobRefs: map[MessageID]uint32{}, prefixLen: map[balMessage]int64{},
		blobs: map[MessageID]blobRec{}, keys: map[MessageID]secret{}}
	err := s.guard.run(c.run)
	if s.guard.bad.Load() {
		err = s.Err()
	}
	return c.problems, err
}

func (c *checker) run() error {
	c.pages()
	tx, err := c.memoryAndIndex()
	if err != nil {
		return err
	}
	defer c.s.guard.end(tx)
	steps := []func(){c.bals, c.prefixes, c.boxes, c.expunged, c.refs, c.bodies, c.onces, c.events, c.backups, c.annotations, c.slots}
	for _, step := range steps {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		step()
	}
	return nil
}

// memoryAndIndex begins the transaction. What is in memory must be compared with the index of the same moment:
// nothing is published meanwhile.
func (c *checker) memoryAndIndex() (*bolt.Tx, error) {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	tx, err := c.s.guard.begin(c.s.index)
	if err != nil {
		return nil, err
	}
	c.tx = tx
	c.memory()
	return tx, nil
}

type balMessage struct {
	bal BALID
	id  MessageID
}

type checker struct {
	s        *Store
	ctx      context.Context
	tx       *bolt.Tx
	disk     *memory
	problems []Problem

	prefixRefs map[balMessage]uint32 // counted from rows
	prefixLen  map[balMessage]int64  // of the records
	blobRefs   map[MessageID]uint32  // counted from prefix records
	blobs      map[MessageID]blobRec
	keys       map[MessageID]secret // of bodies, as the prefix records hold them
}

func (c *checker) bad(invariant int, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, Problem{invariant, fmt.Sprintf(format, args...)})
	}
}

// faulty reports a BAL that is unavailable: this is said once, its records are left alone. Those of a destroyed one
// cannot be opened, and go.
func (c *checker) faulty(id BALID) bool {
	b := c.disk.bals[id]
	return b != nil && (b.fault != nil || b.State == Destroyed)
}

func (c *checker) bucket(i int) *bolt.Bucket { return c.tx.Bucket(bucketNames[i]) }

func (c *checker) each(bucket int, fn func(k, v []byte) error) {
	err := c.bucket(bucket).ForEach(func(k, v []byte) error {
		if err := fn(k, v); err != nil {
			c.bad(1, "%s %x: %v", bucketNames[bucket], k, err)
		}
		return c.ctx.Err()
	})
	if err != nil && c.ctx.Err() == nil {
		c.bad(1, "%s: %v", bucketNames[bucket], err)
	}
}

// pages asks bbolt whether its file is sound. The list of free pages is only right while nobody writes, so this
// takes the place of the writer.
func (c *checker) pages() {
	tx, err := c.s.guard.start(c.s.index, true)
	if err != nil {
		c.bad(1, "index.db: %v", err)
		return
	}
	defer tx.Rollback()
	if err := walk(tx, 0); err != nil { // here, where a fault is caught: bbolt looks in a goroutine of its own
		c.bad(1, "index.db: %v", err)
	}
	for err := range tx.Check() {
		c.bad(1, "index.db: %v", err)
	}
}

// memory compares what is answered from memory with the index; a commit may be between the two, so what was read
// is the older or the same.
func (c *checker) memory() {
	var err error
	if c.disk, err = loadMemory(c.tx, c.s.keys); err != nil {
		c.bad(1, "%v", err)
		c.disk = newMemory(c.s.keys)
		return
	}
	for _, f := range c.disk.faults() {
		c.bad(1, "%v", f)
	}
	c.problems = append(c.problems, c.disk.damage...)
	m, d := c.s.mem, c.disk
	if m.sys.Commits != d.sys.Commits {
		// The commit is done, the publishing waits for our lock: memory is one group behind. Nothing to compare.
		return
	}
	if len(m.bals) != len(d.bals) || len(m.boxes) != len(d.boxes) || !maps.Equal(m.sets, d.sets) || !maps.Equal(m.byAddr, d.byAddr) || !sameHolders(m.held, d.held) {
		c.bad(13, "memory holds %d BALs and %d mailboxes, the index %d and %d", len(m.bals), len(m.boxes), len(d.bals), len(d.boxes))
	}
	for id, b := range d.bals {
		w := m.bals[id]
		if w == nil || w.BAL != b.BAL || (w.fault == nil) != (b.fault == nil) || !maps.Equal(w.names, b.names) || !maps.Equal(w.subs, b.subs) || !maps.Equal(w.members, b.members) {
			c.bad(13, "BAL %d", id)
		}
	}
	for id, b := range d.boxes {
		w := m.boxes[id]
		if w == nil {
			c.bad(13, "mailbox %d is not in memory", id)
			continue
		}
		if w.rec != b.rec || w.recent < b.rec.RecentFrom {
			c.bad(13, "mailbox %d: %+v in memory, %+v in the index", id, w.rec, b.rec)
		}
		if w.view != nil && !slices.Equal(w.view.runs, c.uids(b.rec.Ref)) {
			c.bad(13, "mailbox %d: UIDs in memory are not those of the index", id)
		}
	}
}

func (c *checker) uids(r Ref) (runs []Run) {
	prefix := appendRef(nil, r)
	cur := c.bucket(bktRow).Cursor()
	for k, _ := cur.Seek(prefix); bytes.HasPrefix(k, prefix) && keyIs(k, 12); k, _ = cur.Next() {
		runs = appendUID(runs, uidOfKey(k))
	}
	return runs
}

func (c *checker) bals() {
	d := c.disk
	names := 0
	for _, b := range d.bals {
		if b.fault != nil || b.State == Destroyed {
			continue
		}
		if _, ok := b.names["INBOX"]; !ok {
			c.bad(10, "BAL %d has no INBOX", b.ID)
		}
		if b.ID > d.sys.LastBAL {
			c.bad(10, "BAL %d is above the last number %d", b.ID, d.sys.LastBAL)
		}
		if d.byAddr[b.Address] != b.ID {
			c.bad(10, "two BALs have the address of BAL %d", b.ID)
		}
		names += len(b.names)
		var octets, messages int64
		for _, id := range b.names {
			octets += d.boxes[id].rec.Octets
			messages += int64(d.boxes[id].rec.Messages)
		}
		if octets != b.Octets || messages != b.Messages {
			c.bad(5, "BAL %d counts %d octets in %d messages, its mailboxes %d in %d", b.ID, b.Octets, b.Messages, octets, messages)
		}
	}
	if names != len(d.boxes) {
		c.bad(10, "%d mailboxes have %d names", len(d.boxes), names)
	}
	validity := map[UIDValidity]MailboxID{}
	for id, b := range d.boxes {
		if b.rec.UIDValidity == 0 || b.rec.UIDValidity > d.sys.LastValidity || validity[b.rec.UIDValidity] != 0 || id > d.sys.LastMailbox {
			c.bad(2, "mailbox %d: number or UIDVALIDITY %d", id, b.rec.UIDValidity)
		}
		validity[b.rec.UIDValidity] = id
	}
}

func (c *checker) prefixes() {
	c.each(bktPrefix, func(k, v []byte) error {
		if !keyIs(k, 12) {
			return corrupt("key")
		}
		r, err := decodePrefix(v)
		if err != nil {
			return err
		}
		bal, id := balOfKey(k), idOfKey(k)
		c.blobRefs[id]++
		c.prefixLen[balMessage{bal, id}] = int64(len(r.Sealed) - sealedMore - keyLen)
		if c.faulty(bal) {
			return nil
		}
		key, _, err := c.s.keys.openPrefix(bal, id, r)
		if err != nil {
			return err
		}
		if had, ok := c.keys[id]; ok && had != key {
			c.bad(8, "BAL %d message %s: another key than other BALs have", bal, id)
		}
		c.keys[id] = key
		return nil
	})
	c.each(bktBlob, func(k, v []byte) error {
		if !keyIs(k, 8) {
			return corrupt("key")
		}
		r, err := decodeBlob(v)
		c.blobs[idOfKey(k)] = r
		return err
	})
}

// boxes goes through rows and tombstones.
func (c *checker) boxes() {
	counted := map[MailboxID]*boxRec{}
	for id, b := range c.disk.boxes {
		counted[id] = &boxRec{Ref: b.rec.Ref}
	}
	c.each(bktRow, func(k, v []byte) error {
		row, err := decodeRow(k, v)
		if err != nil {
			return err
		}
		b := c.disk.boxes[refOfKey(k).Mailbox]
		if c.faulty(balOfKey(k)) {
			return nil
		}
		if b == nil || b.rec.BAL != balOfKey(k) {
			c.bad(10, "row %x has no mailbox", k)
			return nil
		}
		counted[b.rec.Mailbox].tally(&row, 1)
		c.row(&b.rec, &row)
		return nil
	})
	c.each(bktGone, func(k, v []byte) error {
		if !keyIs(k, 16) {
			return corrupt("key")
		}
		runs, err := decodeRuns(v)
		if err != nil {
			return err
		}
		b := c.disk.boxes[refOfKey(k).Mailbox]
		if c.faulty(balOfKey(k)) {
			return nil
		}
		if b == nil {
			c.bad(3, "tombstone %x has no mailbox", k)
			return nil
		}
		counted[b.rec.Mailbox].Tombs++
		c.tomb(&b.rec, modSeqOfKey(k), runs)
		return nil
	})
	for id, n := range counted {
		b := c.disk.boxes[id].rec
		if n.Messages != b.Messages || n.Unseen != b.Unseen || n.Deleted != b.Deleted || n.Octets != b.Octets {
			c.bad(4, "mailbox %d counts %d/%d/%d/%d, its rows %d/%d/%d/%d", id, b.Messages, b.Unseen, b.Deleted, b.Octets,
				n.Messages, n.Unseen, n.Deleted, n.Octets)
		}
		if n.Tombs != b.Tombs || b.Tombs > maxTombs {
			c.bad(3, "mailbox %d counts %d tombstones, it has %d", id, b.Tombs, n.Tombs)
		}
	}
}

// expunged goes through what can come back.
func (c *checker) expunged() {
	rows := c.bucket(bktRow)
	c.each(bktExpunged, func(k, v []byte) error {
		e, sealed, err := decodeExpunged(k, v)
		if err != nil {
			return err
		}
		bal := balOfKey(k)
		bm := balMessage{bal, e.Message}
		c.prefixRefs[bm]++
		if c.faulty(bal) {
			return nil
		}
		if c.disk.bals[bal] == nil {
			c.bad(14, "expunged %s has no BAL %d", e.ExpungedID, bal)
			return nil
		}
		if _, err := c.s.keys.open(bal, bktExpunged, k, sealed); err != nil {
			c.bad(14, "BAL %d expunged %s: %v", bal, e.ExpungedID, err)
		}
		ref := Ref{bal, e.Mailbox}
		if b := c.disk.boxes[e.Mailbox]; b != nil && (b.rec.BAL != bal || e.UID >= b.rec.UIDNext) || e.Mailbox > c.disk.sys.LastMailbox || e.UID == 0 {
			c.bad(14, "BAL %d expunged %s: no mailbox of it had this UID", bal, e.ExpungedID)
		}
		if rows.Get(keyRow(ref, e.UID)) != nil {
			c.bad(14, "BAL %d expunged %s has a row", bal, e.ExpungedID)
		}
		if e.Keywords != 0 && c.disk.words[e.Keywords] == nil || e.Flags&^allFlags != 0 {
			c.bad(14, "BAL %d expunged %s: keyword set %d, flags %d", bal, e.ExpungedID, e.Keywords, e.Flags)
		}
		if n, ok := c.prefixLen[bm]; !ok {
			c.bad(6, "BAL %d expunged %s: no prefix record", bal, e.ExpungedID)
		} else if want := n + c.blobs[e.Message].Size; e.Size != want {
			c.bad(14, "BAL %d expunged %s: size %d, not %d", bal, e.ExpungedID, e.Size, want)
		}
		return nil
	})
}

func (c *checker) row(b *boxRec, row *Row) {
	if row.UID == 0 || row.UID >= b.UIDNext {
		c.bad(2, "mailbox %d: UID %d, UIDNEXT %d", b.Mailbox, row.UID, b.UIDNext)
	}
	if row.ModSeq == 0 || row.ModSeq > b.HighestModSeq {
		c.bad(3, "mailbox %d UID %d: MODSEQ %d, highest %d", b.Mailbox, row.UID, row.ModSeq, b.HighestModSeq)
	}
	bm := balMessage{b.BAL, row.Message}
	c.prefixRefs[bm]++
	if n, ok := c.prefixLen[bm]; !ok {
		c.bad(6, "mailbox %d UID %d: no prefix record", b.Mailbox, row.UID)
	} else if want := n + c.blobs[row.Message].Size; row.Size != want {
		c.bad(8, "mailbox %d UID %d: size %d, not %d", b.Mailbox, row.UID, row.Size, want)
	}
	if row.Keywords != 0 {
		all := c.disk.words[b.Keywords]
		words := c.disk.words[row.Keywords]
		if words == nil {
			c.bad(9, "mailbox %d UID %d: keyword set %d", b.Mailbox, row.UID, row.Keywords)
		}
		for _, w := range words {
			if !slices.ContainsFunc(all, func(x string) bool { return strings.EqualFold(x, w) }) {
				c.bad(9, "mailbox %d UID %d: a keyword the mailbox does not know", b.Mailbox, row.UID)
			}
		}
	}
}

func (c *checker) tomb(b *boxRec, m ModSeq, runs []Run) {
	if m <= b.Pruned || m > b.HighestModSeq {
		c.bad(3, "mailbox %d: tombstone at MODSEQ %d, pruned %d, highest %d", b.Mailbox, m, b.Pruned, b.HighestModSeq)
	}
	cur := c.bucket(bktRow).Cursor()
	prefix := appendRef(nil, b.Ref)
	for _, r := range runs {
		if r.Last() >= b.UIDNext {
			c.bad(3, "mailbox %d: tombstone of UID %d, UIDNEXT %d", b.Mailbox, r.Last(), b.UIDNext)
		}
		if k, _ := cur.Seek(keyRow(b.Ref, r.First)); bytes.HasPrefix(k, prefix) && uidOfKey(k) <= r.Last() {
			c.bad(3, "mailbox %d: UID %d has a tombstone and a row", b.Mailbox, uidOfKey(k))
		}
	}
}

// refs compares the reference counts with what was counted.
func (c *checker) refs() {
	c.each(bktPrefix, func(k, v []byte) error {
		if !keyIs(k, 12) {
			return nil // said before
		}
		r, err := decodePrefix(v)
		if n := c.prefixRefs[balMessage{balOfKey(k), idOfKey(k)}]; err == nil && !c.faulty(balOfKey(k)) && (n != r.Refs || n == 0) {
			c.bad(6, "BAL %d message %s: %d rows and expunged ones, counted %d", balOfKey(k), idOfKey(k), n, r.Refs)
		}
		if _, ok := c.blobs[idOfKey(k)]; !ok {
			c.bad(7, "message %s: no record of its body", idOfKey(k))
		}
		return nil
	})
	dead := map[MessageID]time.Time{}
	c.each(bktDead, func(k, v []byte) error {
		if !keyIs(k, 16) {
			return corrupt("key")
		}
		if bytes.Equal(v, deadGoes) {
			if _, ok := c.blobs[idOfKey(k)]; ok {
				c.bad(7, "body %s is being taken away, it has a record", idOfKey(k))
			}
			return nil
		}
		dead[idOfKey(k)] = timeOfKey(k)
		return nil
	})
	for id, r := range c.blobs {
		if c.blobRefs[id] != r.Refs {
			c.bad(7, "body %s: %d BALs, counted %d", id, c.blobRefs[id], r.Refs)
		}
		at, listed := dead[id]
		if listed != (r.Refs == 0) || listed && !at.Equal(r.Dead) {
			c.bad(7, "body %s: %d references, listed as dead: %v", id, r.Refs, listed)
		}
		delete(dead, id)
		if id > c.disk.sys.LastID {
			c.bad(7, "body %s is above the last id", id)
		}
	}
	for id := range dead {
		c.bad(7, "dead body %s has no record", id)
	}
}

// bodies looks at the files: table and header of each, not the frames. One that was swept since the transaction
// began is no problem.
func (c *checker) bodies() {
	for id, r := range c.blobs {
		if c.ctx.Err() != nil {
			return
		}
		key, ok := c.keys[id]
		if r.Refs == 0 || !ok { // no BAL has it, or its record was reported
			continue
		}
		if err := c.s.checkBody(id, r.Size, &key); err != nil {
			c.bad(8, "%v", err)
		}
	}
}

// checkBody opens a body and verifies its header: each BAL there, as far as its key is known, gets the same key.
func (s *Store) checkBody(id MessageID, size int64, key *secret) error {
	b, err := s.openBlob(id, size, key)
	if err != nil {
		return err
	}
	defer b.Close()
	h, err := b.end.header(uint64(id))
	if err == nil {
		err = h.verify(key)
	}
	for i := range h.to {
		if err != nil {
			break
		}
		w := &h.to[i]
		k, kerr := s.keys.bal(w.bal)
		if kerr != nil {
			continue // gone
		}
		var got secret
		if got, err = w.unwrap(h.id, k.wrap()); err == nil && got != *key {
			err = corrupt("wrapped key of a body")
		}
	}
	if err != nil {
		return fmt.Errorf("body %s: %w", id, err)
	}
	return nil
}

func (c *checker) onces() {
	seen := map[[32]byte]bool{}
	c.each(bktOnce, func(k, v []byte) error {
		if !keyIs(k, 40) || len(v) != 8 {
			return corrupt("entry")
		}
		key := [32]byte(k[8:])
		if seen[key] {
			c.bad(11, "delivery %s stands twice", idOfKey(v))
		}
		seen[key] = true
		return nil
	})
}

func (c *checker) events() {
	var last uint64
	c.each(bktTrace, func(k, v []byte) error {
		if !keyIs(k, 8) {
			return corrupt("key")
		}
		seq := seqOfKey(k)
		e, err := decodeEvent(v)
		if err == nil && (e.Seq != seq || last != 0 && seq != last+1) {
			c.bad(12, "event %d after %d has the number %d", seq, last, e.Seq)
		}
		last = seq
		return err
	})
	if last != c.disk.sys.LastSeq && last != 0 || last > math.MaxInt64 {
		c.bad(12, "the last event is %d, not %d", last, c.disk.sys.LastSeq)
	}
}
