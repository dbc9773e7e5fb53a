package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

const (
	maxGroup    = 256 // batches in one commit
	onceExpiry  = 5 * 24 * time.Hour
	lazyDelay   = 500 * time.Millisecond // what rides on the next commit waits no longer
	maxRecorded = 8192                   // events waiting for a commit
)

// request is a batch on its way through the committer.
type request struct {
	batch *Batch
	done  chan reply // cap 1
	state atomic.Int32
}

type reply struct {
	res *Result
	err error
}

// lazy is what rides on the next commit without anybody waiting for it.
type lazy struct {
	events   []trace.Event
	confirms []trace.ID
	recent   map[Ref]UID
	flush    []chan reply
}

func (l *lazy) empty() bool {
	return len(l.events)+len(l.confirms)+len(l.recent)+len(l.flush) == 0
}

// Commit carries out a batch, all of it or nothing, and returns when it would survive a power failure. ctx counts
// only until the committer has taken the batch. ErrFailed says that the state on disk is not known; ErrSlow that nobody
// waited to the end (Options.CommitWait): the batch may still be stored, and its Blob, if any, is not the caller's any
// more (Abort then does nothing).
func (s *Store) Commit(ctx context.Context, b *Batch) (*Result, error) {
	wait, err := s.Submit(ctx, b)
	if err != nil {
		return nil, err
	}
	return wait()
}

// Submit is the first half of Commit: it puts the batch into the queue. The batches that one goroutine submits are
// carried out in this order, and may share a sync. wait is the second half; it is called once.
func (s *Store) Submit(ctx context.Context, b *Batch) (wait func() (*Result, error), err error) {
	if err := s.Slow(); err != nil {
		return nil, err
	}
	t := time.NewTimer(s.commitWait())
	w, err := s.submit(ctx, b, t.C)
	if err != nil {
		t.Stop()
		return nil, err
	}
	return func() (*Result, error) { defer t.Stop(); return w() }, nil
}

// commitPatiently is Commit for work in the background, which waits as long as it takes.
func (s *Store) commitPatiently(ctx context.Context, b *Batch) (*Result, error) {
	wait, err := s.submit(ctx, b, nil)
	if err != nil {
		return nil, err
	}
	return wait()
}

func (s *Store) submit(ctx context.Context, b *Batch, giveUp <-chan time.Time) (wait func() (*Result, error), err error) {
	for _, body := range b.bodies() {
		if err := body.address(b); err != nil {
			return nil, err
		}
	}
	r := &request{batch: b, done: make(chan reply, 1)}
	select {
	case s.queue <- r:
	case <-s.quit:
		return nil, ErrClosed
	case <-s.failed:
		return nil, s.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-giveUp:
		return nil, fmt.Errorf("%w: not begun", ErrSlow)
	}
	return func() (*Result, error) { return s.waitFor(r, giveUp) }, nil
}

func (s *Store) await(done chan reply) (*Result, error) {
	select {
	case rep := <-done:
		return rep.res, rep.err
	case <-s.stopped:
	case <-s.failed: // the committer may hang in an index that was given up
	}
	select {
	case rep := <-done: // answered just before it stopped
		return rep.res, rep.err
	default:
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return nil, ErrClosed
}

// later puts something into the lazy list and sees to it that a commit comes.
func (s *Store) later(put func(l *lazy)) {
	s.lazyMu.Lock()
	first := s.lazy.empty()
	put(&s.lazy)
	if first && !s.lazy.empty() {
		s.lazyTimer.Reset(lazyDelay)
	}
	s.lazyMu.Unlock()
}

func (s *Store) takeLazy() lazy {
	s.lazyMu.Lock()
	defer s.lazyMu.Unlock()
	l := s.lazy
	s.lazy = lazy{}
	return l
}

// flush waits until everything recorded so far is committed.
func (s *Store) flush(ctx context.Context) error {
	done := make(chan reply, 1)
	s.lazyMu.Lock()
	s.lazy.flush = append(s.lazy.flush, done)
	s.lazyMu.Unlock()
	s.lazyTimer.Reset(0)
	t := time.NewTimer(s.commitWait())
	defer t.Stop()
	select {
	case rep := <-done:
		return rep.err
	case <-t.C:
		return ErrSlow
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
	case <-s.failed: // the committer may hang in an index that was given up
	}
	_, err := s.await(done)
	return err
}

// Confirm tells that the peer went on after the 250 of that delivery: the same mail again is another one.
func (s *Store) Confirm(id trace.ID) {
	s.later(func(l *lazy) { l.confirms = append(l.confirms, id) })
}

// run is the committer: the only goroutine that writes the index.
func (s *Store) run() {
	defer close(s.stopped)
	defer s.batchLog.end()
	for {
		select {
		case r := <-s.queue:
			s.commitGroup(s.collect(r))
		case f := <-s.aside:
			f()
		case <-s.lazyTimer.C:
			s.commitGroup(nil)
		case <-s.quit:
			for {
				select {
				case r := <-s.queue:
					s.commitGroup(s.collect(r))
				default:
					s.commitGroup(nil)
					return
				}
			}
		}
	}
}

// collect takes whatever is queued, without waiting.
func (s *Store) collect(r *request) []*request {
	group := s.group[:0]
	if r.take() {
		group = append(group, r)
	}
	for len(group) < maxGroup {
		select {
		case r := <-s.queue:
			if r.take() {
				group = append(group, r)
			}
		default:
			s.group = group
			return group
		}
	}
	s.group = group
	return group
}

// commitGroup makes a group durable with one sync of the bodies and one commit of the index, then answers.
func (s *Store) commitGroup(group []*request) {
	s.slow.begin()
	defer s.endGroup()
	l := s.takeLazy()
	replies := make([]reply, len(group))
	err := s.Err()
	if err == nil {
		err = s.guard.run(func() error { return s.tryGroup(group, replies, &l) })
	}
	if err != nil {
		if !errors.Is(err, ErrFailed) {
			s.fail(err)
			err = s.Err()
		}
		for i := range replies {
			replies[i] = reply{nil, err}
		}
	}
	for i, r := range group {
		if !r.answer(replies[i]) && replies[i].err == nil && slices.ContainsFunc(r.batch.Ops, func(op Op) bool { _, ok := op.(destroyBAL); return ok }) {
			s.wipeSoon() // who asked for it did not wait
		}
	}
	for _, done := range l.flush {
		done <- reply{nil, err}
	}
}

func (s *Store) endGroup() {
	s.slow.end()
	if s.slow.noted.Swap(false) {
		s.log.Warn("the disk answers again")
	}
}

// tryGroup fills the replies. An error says that the state is unknown.
func (s *Store) tryGroup(group []*request, replies []reply, l *lazy) error {
	if len(group) == 0 && len(l.events)+len(l.confirms)+len(l.recent) == 0 {
		return nil
	}
	tx, err := s.guard.start(s.index, true)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after the commit
	if err := s.inPlace(tx); err != nil {
		return err
	}
	a := newApply(s, tx)
	if err := a.lazies(l); err != nil {
		return err
	}
	for i, r := range group {
		res, err := a.batch(r.batch)
		if errors.As(err, new(fatalError)) {
			return err
		}
		replies[i] = reply{res, err}
	}
	if err := a.expireOnce(); err != nil {
		return err
	}
	if err := s.syncBodies(a); err != nil {
		return err
	}
	if err := a.flush(); err != nil {
		return err
	}
	logged, err := a.logged()
	if err != nil {
		return err
	}
	s.keepFreeList()
	if err := (*s.commitIndex.Load())(tx); err != nil {
		return fmt.Errorf("commit of the index: %w", err)
	}
	a.publish()
	s.batchLog.add(a.sys.Commits, logged)
	for _, e := range a.told {
		s.opt.Observe(e)
	}
	for _, b := range a.blobs {
		b.stored()
	}
	for _, b := range a.dups {
		b.drop()
	}
	s.places.tidy(a.emptied)
	return nil
}

// syncBodies makes the bodies of the group and the keys of its new BALs durable, before the index speaks of them.
func (s *Store) syncBodies(a *apply) error {
	if !s.opt.NoSync {
		if err := s.keys.sync(); err != nil {
			return fmt.Errorf("keys: %w", err)
		}
	}
	if len(a.blobs) == 0 || s.opt.NoSync {
		return nil
	}
	switch {
	case s.opt.SyncEach: // the bodies are synced
	case len(a.blobs) > s.syncFew, slices.ContainsFunc(a.blobs, func(b *Blob) bool { return b.f == nil }):
		return s.fs.SyncAll()
	default: // a sync of everything would wait for what others write to the disk
		for _, b := range a.blobs {
			if err := b.f.Sync(); err != nil {
				return err
			}
		}
	}
	for dir := range a.dirs {
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// fail stops all writing: the state on disk is unknown, only the next start can tell.
func (s *Store) fail(err error) {
	s.failOnce.Do(func() {
		s.failErr = fmt.Errorf("%w: %w", ErrFailed, err)
		s.log.Error("store failed; no more writing", "err", err)
		close(s.failed)
		s.batchLog.end()
	})
}

// Failed is closed after a failed sync or commit: the process must exit, the next start recovers.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err is nil until Failed is closed.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.failErr
	default:
		return nil
	}
}

func commitTx(tx *bolt.Tx) error { return tx.Commit() }

// lazies carries out what rides along.
func (a *apply) lazies(l *lazy) error {
	a.batchNo++
	for _, e := range l.events {
		if err := a.event(e); errors.As(err, new(fatalError)) {
			return err
		} else if err != nil {
			a.s.log.Warn("event not recorded", "err", err)
			a.s.dropped.Add(1)
		}
	}
	for _, id := range l.confirms {
		if err := a.dropOnce(id); err != nil {
			return err
		}
	}
	for ref, uid := range l.recent {
		if b, err := a.box(ref); err == nil {
			b.RecentFrom = max(b.RecentFrom, uid)
		}
	}
	return nil
}

// onceEntry is a delivery whose 250 is not confirmed.
type onceEntry struct {
	id trace.ID
	at time.Time // seconds
}

// onceTable is owned by the committer.
type onceTable struct {
	byKey map[[32]byte]onceEntry
	byID  map[trace.ID][32]byte
}

// onceChanges are those of a group; the zero id says that the entry is gone.
type onceChanges map[[32]byte]onceEntry

func (a *apply) onceSeen(key [32]byte) (trace.ID, bool) {
	e, ok := a.once[key]
	if !ok {
		e = a.s.once.byKey[key]
	}
	if e.id == 0 || a.now.Sub(e.at) >= onceExpiry {
		return 0, false
	}
	return e.id, true
}

func (a *apply) putOnce(key [32]byte, id trace.ID) error {
	if err := a.forgetOnce(key); err != nil { // an expired one
		return err
	}
	was, had := a.once[key]
	a.once[key] = onceEntry{id, seconds(a.now)}
	a.undo = append(a.undo, func() error {
		if had {
			a.once[key] = was
		} else {
			delete(a.once, key)
		}
		return nil
	})
	return a.put(bktOnce, keyOnce(a.now, key), keyID(id))
}

func (a *apply) forgetOnce(key [32]byte) error {
	if e, ok := a.s.once.byKey[key]; ok {
		return a.del(bktOnce, keyOnce(e.at, key))
	}
	return nil
}

func (a *apply) dropOnce(id trace.ID) error {
	key, ok := a.s.once.byID[id]
	if !ok {
		return nil
	}
	a.once[key] = onceEntry{}
	return a.forgetOnce(key)
}

// expireOnce takes a few entries away that are too old.
func (a *apply) expireOnce() error {
	c := a.buckets[bktOnce].Cursor()
	k, v := c.First()
	for range 100 {
		for k != nil && (!keyIs(k, 40) || len(v) != 8) {
			k, v = c.Next() // damaged: Check reports it
		}
		if k == nil {
			return nil
		}
		if a.now.Sub(timeOfKey(k)) < onceExpiry {
			return nil
		}
		key := [32]byte(k[8:])
		if e, ok := a.s.once.byKey[key]; ok && e.at.Equal(timeOfKey(k)) && a.once[key].id == 0 {
			a.once[key] = onceEntry{}
		}
		at := append([]byte(nil), k...)
		if err := a.del(bktOnce, at); err != nil {
			return err
		}
		k, v = c.Seek(at)
	}
	return nil
}

func (t *onceTable) update(changes onceChanges) {
	for key, e := range changes {
		if old, ok := t.byKey[key]; ok {
			delete(t.byID, old.id)
			delete(t.byKey, key)
		}
		if e.id != 0 {
			t.byKey[key], t.byID[e.id] = e, key
		}
	}
}

func loadOnce(tx *bolt.Tx) (*onceTable, error) {
	t := &onceTable{map[[32]byte]onceEntry{}, map[trace.ID][32]byte{}}
	err := tx.Bucket(bucketNames[bktOnce]).ForEach(func(k, v []byte) error {
		if !keyIs(k, 40) || len(v) != 8 {
			return nil // Check reports it
		}
		t.update(onceChanges{[32]byte(k[8:]): {idOfKey(v), timeOfKey(k)}})
		return nil
	})
	return t, err
}
