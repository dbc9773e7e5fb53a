package store

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	bolt "go.etcd.io/bbolt"
)

const (
	ringSize  = 1024 // changes kept per watched mailbox
	pageRows  = 1000 // rows copied in one read transaction
	firstRows = 16   // rows copied in the first of them
	maxView   = 4096 // runs of a view that is kept
	maxClaims = 1 << 16
)

// view is what the sessions of a mailbox share: its UIDs. Runs are append-only: a published slice is never
// changed below its length, the last run is replaced by copying.
type view struct {
	runs   []Run
	unseen UID // no message below is unseen
}

// ring holds the latest changes of a watched mailbox.
type ring struct {
	from    ModSeq // changes after this one are all here
	changes []change
}

// Watcher is told of changes: in a mailbox (Watch), or of who may open a BAL (WatchBAL).
type Watcher struct {
	C    <-chan struct{} // one entry: something changed since the last look
	c    chan struct{}
	s    *Store
	boxS *boxState
	bal  BALID // of WatchBAL, else 0
}

// Watch begins to watch a mailbox. The watcher of a mailbox that is gone is told at once.
func (s *Store) Watch(r Ref) *Watcher {
	w := &Watcher{c: make(chan struct{}, 1), s: s}
	w.C = w.c
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.box(r)
	if b == nil {
		w.wake()
		return w
	}
	if b.watchers == nil {
		b.watchers = map[*Watcher]struct{}{}
	}
	if b.ring == nil {
		b.ring = &ring{from: b.rec.HighestModSeq}
	}
	b.watchers[w] = struct{}{}
	w.boxS = b
	return w
}

// Close ends the watching. C stays open.
func (w *Watcher) Close() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.bal != 0 {
		w.closeBAL()
	}
	if w.boxS == nil {
		return
	}
	delete(w.boxS.watchers, w)
	if len(w.boxS.watchers) == 0 {
		w.boxS.ring = nil
		if w.boxS.view != nil && len(w.boxS.view.runs) > maxView/8 {
			w.boxS.view = nil
		}
	}
	w.boxS = nil
}

func (w *Watcher) wake() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

func (b *boxState) wake() {
	for w := range b.watchers {
		w.wake()
	}
}

// apply brings view and ring up to date with a committed change; under Store.mu.
func (b *boxState) apply(c change) {
	if v := b.view; v != nil {
		switch {
		case c.gone != nil:
			v.runs = without(v.runs, c.gone)
		case c.row.UID > lastUID(v.runs):
			v.runs = appendShared(v.runs, c.row.UID)
		}
		if c.gone == nil && c.row.Flags&Seen == 0 && c.row.UID < v.unseen {
			v.unseen = c.row.UID
		}
		if len(v.runs) > maxView && len(b.watchers) == 0 {
			b.view = nil
		}
	}
	if r := b.ring; r != nil {
		if len(r.changes) >= 2*ringSize {
			// Cut between two MODSEQs: one operation may have made many changes with the same.
			cut := ringSize
			for cut < len(r.changes) && r.changes[cut].modSeq == r.changes[cut-1].modSeq {
				cut++
			}
			r.from = r.changes[cut-1].modSeq
			r.changes = append([]change(nil), r.changes[cut:]...)
		}
		r.changes = append(r.changes, c)
	}
}

func lastUID(runs []Run) UID {
	if len(runs) == 0 {
		return 0
	}
	return runs[len(runs)-1].Last()
}

// appendShared is appendUID for runs that others hold: the last run is not changed in place.
func appendShared(runs []Run, uid UID) []Run {
	if n := len(runs); n > 0 && runs[n-1].Last()+1 == uid {
		last := Run{runs[n-1].First, runs[n-1].Count + 1}
		return append(slices.Clone(runs[:n-1]), last)
	}
	return append(runs[:len(runs):len(runs)], Run{uid, 1})
}

// Snapshot is the mailbox at one moment. With claimRecent the recent messages are this session's, and recent for
// no other.
func (s *Store) Snapshot(r Ref, claimRecent bool) (Snapshot, error) {
	snap, unseen, ok, err := s.cachedSnapshot(r)
	if err == nil && !ok {
		snap, unseen, err = s.scanSnapshot(r)
	}
	if err != nil {
		return Snapshot{}, err
	}
	if snap.Unseen > 0 {
		if err := s.firstUnseen(&snap, unseen); err != nil {
			return Snapshot{}, err
		}
	}
	if claimRecent {
		snap.Recent = s.ClaimRecent(r, snap.UIDNext)
	}
	return snap, nil
}

func (s *Store) cachedSnapshot(r Ref) (snap Snapshot, unseen UID, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.box(r)
	if b == nil {
		return snap, 0, false, ErrNoMailbox
	}
	if b.view == nil {
		return snap, 0, false, nil
	}
	return Snapshot{Mailbox: b.rec.mailbox(), Runs: b.view.runs, Recent: b.recent}, b.view.unseen, true, nil
}

// scanSnapshot reads the UIDs from the index, and keeps them when nothing happened meanwhile.
func (s *Store) scanSnapshot(r Ref) (snap Snapshot, unseen UID, err error) {
	err = s.read(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketNames[bktMailbox]).Get(keyBox(r))
		if v == nil {
			return ErrNoMailbox
		}
		rec, err := decodeBox(keyBox(r), v)
		if err == nil {
			err = s.keys.openBox(&rec)
		}
		if err != nil {
			return err
		}
		snap = Snapshot{Mailbox: rec.mailbox(), Recent: rec.RecentFrom}
		prefix := appendRef(nil, r)
		c := tx.Bucket(bucketNames[bktRow]).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if !rowIs(k, v) {
				return corrupt("row")
			}
			snap.Runs = appendUID(snap.Runs, uidOfKey(k))
			if unseen == 0 && rowFlags(v)&Seen == 0 {
				unseen = uidOfKey(k)
			}
		}
		return nil
	})
	if err != nil {
		return snap, 0, err
	}
	if unseen == 0 {
		unseen = snap.UIDNext
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.box(r)
	if b == nil {
		return snap, 0, ErrNoMailbox
	}
	snap.Recent = b.recent
	if b.view == nil && b.rec.HighestModSeq == snap.HighestModSeq && b.rec.UIDNext == snap.UIDNext {
		b.view = &view{runs: snap.Runs, unseen: unseen}
	}
	return snap, unseen, nil
}

// firstUnseen looks from a lower bound on, and keeps what it found as the new bound.
func (s *Store) firstUnseen(snap *Snapshot, from UID) error {
	err := s.Rows(context.Background(), snap.Ref, []Run{{max(from, 1), ^uint32(0) - uint32(max(from, 1)) + 1}}, func(r Row) bool {
		if r.Flags&Seen == 0 {
			snap.FirstUnseen = r.UID
			return false
		}
		return true
	})
	if err != nil || snap.FirstUnseen <= from {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.box(snap.Ref); b != nil && b.view != nil && b.view.unseen == from && b.rec.HighestModSeq == snap.HighestModSeq {
		b.view.unseen = snap.FirstUnseen
	}
	return nil
}

// ClaimRecent tells that a session announces the messages below next: they are recent for no other. first is
// where its own recent ones begin.
func (s *Store) ClaimRecent(r Ref, next UID) (first UID) {
	s.mu.Lock()
	b := s.box(r)
	if b == nil {
		s.mu.Unlock()
		return next
	}
	first = b.recent
	grown := next > first
	if grown {
		b.recent = next
	}
	s.mu.Unlock()
	if grown {
		s.later(func(l *lazy) {
			if l.recent == nil {
				l.recent = map[Ref]UID{}
			}
			if len(l.recent) < maxClaims {
				l.recent[r] = max(l.recent[r], next)
			}
		})
	}
	return first
}

// Rows calls fn for the messages that exist among runs, ascending by UID, until it returns false. fn is called
// outside of any transaction and may take its time.
func (s *Store) Rows(ctx context.Context, r Ref, runs []Run, fn func(Row) bool) error {
	page := make([]Row, 0, min(firstRows, count(runs)))
	// The first page is small: who looks for one message is served at once.
	for rest, limit := normal(runs), firstRows; len(rest) > 0; limit = min(4*limit, pageRows) {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if page, rest, err = s.rowPage(r, rest, limit, page[:0]); err != nil {
			return err
		}
		for _, row := range page {
			if !fn(row) {
				return nil
			}
		}
	}
	return nil
}

// rowPage reads up to limit rows in one transaction; rest is what to ask for next.
func (s *Store) rowPage(r Ref, runs []Run, limit int, page []Row) (_ []Row, rest []Run, err error) {
	err = s.read(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNames[bktRow]).Cursor()
		var key [12]byte
		appendRef(key[:0], r)
		k, v := c.Seek(keyRow(r, runs[0].First))
		for i := range runs {
			run := runs[i]
			if i > 0 && bytes.HasPrefix(k, key[:8]) && uidOfKey(k) < run.First {
				be32(key[:8], uint32(run.First))
				if k, v = c.Next(); bytes.HasPrefix(k, key[:8]) && uidOfKey(k) < run.First {
					k, v = c.Seek(key[:])
				}
			}
			for ; bytes.HasPrefix(k, key[:8]); k, v = c.Next() {
				row, err := decodeRow(k, v)
				if err != nil {
					return err
				}
				if row.UID > run.Last() {
					break
				}
				if len(page) == limit {
					rest = append([]Run{{row.UID, uint32(run.Last()-row.UID) + 1}}, runs[i+1:]...)
					return nil
				}
				page = append(page, row)
			}
			if !bytes.HasPrefix(k, key[:8]) {
				return nil
			}
		}
		return nil
	})
	return page, rest, err
}

// Changes is what happened after since: from memory for a watched mailbox, else from the index.
func (s *Store) Changes(r Ref, since ModSeq) (Changes, error) {
	s.mu.RLock()
	b := s.box(r)
	if b == nil {
		s.mu.RUnlock()
		return Changes{Reset: true}, nil
	}
	ch := Changes{Mailbox: b.rec.mailbox()}
	if since >= b.rec.HighestModSeq {
		s.mu.RUnlock()
		return ch, nil
	}
	if b.ring != nil && since >= b.ring.from {
		i := len(b.ring.changes)
		for i > 0 && b.ring.changes[i-1].modSeq > since {
			i--
		}
		recent := b.ring.changes[i:len(b.ring.changes):len(b.ring.changes)] // never changed in place
		s.mu.RUnlock()
		ch.Rows, ch.Vanished = digest(recent)
		return ch, nil
	}
	s.mu.RUnlock()
	return s.scanChanges(r, since)
}

// digest keeps the last state of each message.
func digest(changes []change) ([]Row, []Run) {
	if len(changes) == 1 {
		if c := changes[0]; c.gone != nil {
			return nil, c.gone
		} else {
			return []Row{c.row}, nil
		}
	}
	var gone []Run
	rows := make([]Row, 0, len(changes))
	for _, c := range slices.Backward(changes) {
		if c.gone != nil {
			gone = append(gone, c.gone...)
		} else {
			rows = append(rows, c.row)
		}
	}
	gone = normal(gone)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.UID, b.UID) }) // the newest first
	rows = slices.CompactFunc(rows, func(a, b Row) bool { return a.UID == b.UID })
	rows = slices.DeleteFunc(rows, func(r Row) bool { _, ok := within(gone, r.UID); return ok })
	return rows, gone
}

func (s *Store) scanChanges(r Ref, since ModSeq) (ch Changes, err error) {
	err = s.read(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketNames[bktMailbox]).Get(keyBox(r))
		if v == nil {
			ch = Changes{Reset: true}
			return nil
		}
		rec, err := decodeBox(keyBox(r), v)
		if err == nil {
			err = s.keys.openBox(&rec)
		}
		if err != nil {
			return err
		}
		ch.Mailbox = rec.mailbox()
		var all []Run
		prefix := appendRef(nil, r)
		c := tx.Bucket(bucketNames[bktRow]).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if !rowIs(k, v) {
				return corrupt("row")
			}
			if since < rec.Pruned {
				all = appendUID(all, uidOfKey(k))
			}
			if rowModSeq(v) > since {
				row, err := decodeRow(k, v)
				if err != nil {
					return err
				}
				ch.Rows = append(ch.Rows, row)
			}
		}
		if since < rec.Pruned {
			if rec.UIDNext > 1 {
				ch.Vanished = without([]Run{{1, uint32(rec.UIDNext) - 1}}, all)
			}
			return nil
		}
		c = tx.Bucket(bucketNames[bktGone]).Cursor()
		for k, v := c.Seek(keyGone(r, since+1)); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			runs, err := decodeRuns(v)
			if err != nil {
				return err
			}
			ch.Vanished = append(ch.Vanished, runs...)
		}
		ch.Vanished = normal(ch.Vanished)
		return nil
	})
	return ch, err
}

// RecentCount is how many messages were announced to no session. It reads no more than these, and mostly none: a poll asks for
// it in each mailbox.
func (s *Store) RecentCount(r Ref) (n uint32, err error) {
	s.mu.RLock()
	b := s.box(r)
	if b == nil {
		s.mu.RUnlock()
		return 0, ErrNoMailbox
	}
	from, next, all := max(b.recent, 1), b.rec.UIDNext, b.rec.Messages
	var runs []Run
	if b.view != nil {
		runs = b.view.runs
	}
	s.mu.RUnlock()
	switch {
	case all == 0 || from >= next:
		return 0, nil
	case from == 1:
		return all, nil
	case runs != nil:
		for _, run := range slices.Backward(runs) {
			if run.Last() < from {
				break
			}
			n += uint32(run.Last()-max(run.First, from)) + 1
		}
		return n, nil
	}
	err = s.Rows(context.Background(), r, []Run{{from, ^uint32(0) - uint32(from) + 1}}, func(Row) bool {
		n++
		return true
	})
	return n, err
}
