package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// apply is one group of batches on its way into one commit. The batches are evaluated one after the other, each
// against what the former ones left; a batch that fails is undone and leaves no trace. Only the committer's
// goroutine touches it.
type apply struct {
	s       *Store
	tx      *bolt.Tx
	buckets [numBuckets]*bolt.Bucket
	now     time.Time

	sys    sysRec
	bals   map[BALID]*balWork
	byAddr map[Address]BALID // created in this group
	boxes  map[MailboxID]*boxWork
	words  map[KeywordSet][]string // interned in this group
	sets   map[string]KeywordSet
	// wordOctets counts those of sets.
	wordOctets int
	once       onceChanges
	told       []trace.Event       // written in this group, for Options.Observe
	dirs       map[string]struct{} // directories of bodies stored by this group
	blobs      []*Blob             // stored by this group
	dups       []*Blob             // whose batch was a repetition

	changes []change // in order, for watchers
	subs    []subChange
	notes   []AnnotationName
	undo    []func() error
	batchNo int
	log     groupLog            // for followers
	emptied map[string]struct{} // spans from which bodies went
}

// balWork is the working copy of a BAL. While shared its maps belong to another copy.
type balWork struct {
	balState
	shared bool
	saved  int // number of the batch that saved a copy
}

type boxWork struct {
	boxRec
	gone  bool
	saved int
}

// change is one entry for the ring of a mailbox: a row, or UIDs that vanished.
type change struct {
	box    MailboxID
	modSeq ModSeq
	row    Row
	gone   []Run
}

func newApply(s *Store, tx *bolt.Tx) *apply {
	a := &apply{s: s, tx: tx, now: s.now().UTC(), sys: s.mem.sys, bals: map[BALID]*balWork{}, byAddr: map[Address]BALID{},
		boxes: map[MailboxID]*boxWork{}, words: map[KeywordSet][]string{}, sets: map[string]KeywordSet{},
		dirs: map[string]struct{}{}, emptied: map[string]struct{}{}, once: onceChanges{}}
	a.log.on = s.batchLog.wanted()
	for i, n := range bucketNames {
		a.buckets[i] = tx.Bucket(n)
	}
	// These only grow at the end: fill their pages.
	for _, i := range []int{bktBlob, bktTrace, bktOnce, bktDead} {
		a.buckets[i].FillPercent = 0.95
	}
	return a
}

func (a *apply) get(bucket int, k []byte) []byte { return a.buckets[bucket].Get(k) }

// put writes a value and remembers how to undo it. k and v must not be changed afterwards.
func (a *apply) put(bucket int, k, v []byte) error {
	b := a.buckets[bucket]
	old := b.Get(k)
	if old == nil {
		a.undo = append(a.undo, func() error { return b.Delete(k) })
	} else {
		old = bytes.Clone(old)
		a.undo = append(a.undo, func() error { return b.Put(k, old) })
	}
	a.log.note(bucket, k, v)
	return fatal(b.Put(k, v))
}

func (a *apply) del(bucket int, k []byte) error {
	b := a.buckets[bucket]
	old := b.Get(k)
	if old == nil {
		return nil
	}
	old = bytes.Clone(old)
	a.undo = append(a.undo, func() error { return b.Put(k, old) })
	a.log.note(bucket, k, nil)
	return fatal(b.Delete(k))
}

// fatalError is an error after which the group cannot go on.
type fatalError struct{ err error }

func (e fatalError) Error() string { return e.err.Error() }
func (e fatalError) Unwrap() error { return e.err }

func fatal(err error) error {
	if err == nil {
		return nil
	}
	return fatalError{err}
}

// begin starts a batch; the func it returns undoes everything since.
func (a *apply) begin() (rollback func() error) {
	a.batchNo++
	a.undo = a.undo[:0]
	sys, changes, subs, notes, log := a.sys, len(a.changes), len(a.subs), len(a.notes), a.log.mark()
	return func() error {
		a.sys, a.changes, a.subs, a.notes = sys, a.changes[:changes], a.subs[:subs], a.notes[:notes]
		a.log.back(log)
		for _, f := range slices.Backward(a.undo) {
			if err := f(); err != nil {
				return fatal(err)
			}
		}
		return nil
	}
}

// bal is the working copy of a BAL, for changing its counts.
func (a *apply) bal(id BALID) (*balWork, error) {
	w, err := a.anyBAL(id)
	if err == nil && w.State == Destroyed {
		return nil, ErrDestroyed
	}
	return w, err
}

// anyBAL is bal, but for destroyed BALs too.
func (a *apply) anyBAL(id BALID) (*balWork, error) {
	w := a.bals[id]
	if w == nil {
		m := a.s.mem.bals[id]
		if m == nil {
			return nil, ErrNoBAL
		}
		if m.fault != nil {
			return nil, m.fault
		}
		w = &balWork{balState: *m, shared: true}
		a.bals[id] = w
	}
	if w.saved != a.batchNo {
		// The saved copy keeps the maps as they are: the next change of a map must clone them.
		was := *w
		was.shared, w.shared = true, true
		w.saved = a.batchNo
		a.undo = append(a.undo, func() error { *w = was; return nil })
	}
	return w, nil
}

// ownBAL is bal for changing its maps too.
func (a *apply) ownBAL(id BALID) (*balWork, error) {
	w, err := a.bal(id)
	if err == nil && w.shared {
		w.names, w.members, w.subs = maps.Clone(w.names), maps.Clone(w.members), maps.Clone(w.subs)
		w.shared = false
	}
	return w, err
}

func (a *apply) balByAddress(addr Address) (*balWork, error) {
	id, ok := a.byAddr[addr]
	if !ok {
		if id, ok = a.s.mem.byAddr[addr]; !ok {
			return nil, a.s.mem.notFound()
		}
	}
	return a.ownBAL(id)
}

// box is the working copy of a mailbox.
func (a *apply) box(r Ref) (*boxWork, error) {
	w := a.boxes[r.Mailbox]
	if w == nil {
		m := a.s.mem.boxes[r.Mailbox]
		if b := a.s.mem.bals[r.BAL]; b != nil && b.fault != nil {
			return nil, b.fault
		}
		if m == nil {
			return nil, ErrNoMailbox
		}
		w = &boxWork{boxRec: m.rec}
		a.boxes[r.Mailbox] = w
	}
	if w.gone || w.BAL != r.BAL {
		return nil, ErrNoMailbox
	}
	if w.saved != a.batchNo {
		was := *w
		w.saved = a.batchNo
		a.undo = append(a.undo, func() error { *w = was; return nil })
	}
	return w, nil
}

// batch evaluates one batch. An error that is no fatalError left everything as it was.
func (a *apply) batch(b *Batch) (*Result, error) {
	rollback := a.begin()
	res, err := a.tryBatch(b)
	if err == nil {
		return res, nil
	}
	if err2 := rollback(); err2 != nil {
		return nil, err2
	}
	return nil, err
}

func (a *apply) tryBatch(b *Batch) (*Result, error) {
	res := &Result{Ops: make([]OpResult, len(b.Ops))}
	bodies := b.bodies()
	for i, body := range bodies {
		if !body.finished || b.Blob == nil || slices.Contains(bodies[:i], body) {
			return nil, fmt.Errorf("%w: the body is not finished, or not the first, or there twice", ErrInvalid)
		}
		res.ID = b.Blob.id
	}
	if b.Once != nil {
		if b.Blob == nil {
			return nil, fmt.Errorf("%w: Once without a body", ErrInvalid)
		}
		if first, ok := a.onceSeen(b.Once.Key); ok {
			there, err := a.firstIn(b.Once.In, first, b)
			if err != nil {
				return nil, err
			}
			if there != nil {
				return a.duplicate(b, res, first, there)
			}
		}
		if err := a.putOnce(b.Once.Key, b.Blob.id); err != nil {
			return nil, err
		}
	}
	for _, body := range bodies {
		if err := a.newBlob(body); err != nil {
			return nil, err
		}
	}
	for i, op := range b.Ops {
		if err := a.op(op, b, &res.Ops[i]); err != nil {
			return nil, fmt.Errorf("operation %d, %T: %w", i, op, err)
		}
	}
	if err := a.events(b, res); err != nil {
		return nil, err
	}
	return res, a.placeBlobs(bodies)
}

// duplicate answers a batch that repeats a delivery whose 250 was not confirmed.
func (a *apply) duplicate(b *Batch, res *Result, first trace.ID, there []OpResult) (*Result, error) {
	res.ID, res.Duplicate, res.Ops = first, true, there
	e := trace.Event{ID: first, Kind: trace.Duplicate}
	if len(b.Events) > 0 {
		e.Conn = b.Events[0].Conn
	}
	a.dups = append(a.dups, b.bodies()...)
	return res, a.event(e)
}

// maxLookBack bounds the search for the first message of a repetition: everybody waits for it.
const maxLookBack = 10_000

// firstIn says where in a mailbox the messages of a former batch like b are, of which first is the first: nil when one of
// them is not there any more. Without a mailbox they count wherever they are.
func (a *apply) firstIn(in Ref, first MessageID, again *Batch) ([]OpResult, error) {
	if in == (Ref{}) {
		return []OpResult{}, nil
	}
	b, err := a.box(in)
	if errors.Is(err, ErrNoMailbox) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	prefix := appendRef(nil, in)
	c := a.buckets[bktRow].Cursor()
	k, v := c.Seek(keyRow(in, math.MaxUint32))
	if k == nil {
		k, v = c.Last()
	} else if !bytes.HasPrefix(k, prefix) {
		k, v = c.Prev()
	}
	for range maxLookBack {
		if !bytes.HasPrefix(k, prefix) {
			return nil, nil
		}
		row, err := decodeRow(k, v)
		if err == nil && row.Message == first {
			return a.alike(b, row.UID, again)
		}
		k, v = c.Prev() // damaged: Check reports it
	}
	return nil, nil
}

// alike holds the messages that a batch would add to a mailbox against those that stand there from a UID on. One batch
// gives UIDs without a gap and no UID is given twice, so they are those of a former batch like it.
func (a *apply) alike(box *boxWork, from UID, again *Batch) (there []OpResult, err error) {
	for _, op := range again.Ops {
		add, ok := op.(AddMessage)
		if !ok || add.Ref != box.Ref {
			continue
		}
		uid := from + UID(len(there))
		k := keyRow(box.Ref, uid)
		v := a.get(bktRow, k)
		if v == nil {
			return nil, nil
		}
		row, err := decodeRow(k, v)
		if err != nil {
			return nil, nil // Check reports it
		}
		if body := again.body(add); body != nil && row.Size != int64(len(add.Prefix))+body.size {
			return nil, nil
		}
		there = append(there, OpResult{Ref: box.Ref, UIDValidity: box.UIDValidity, New: []Run{{uid, 1}}})
	}
	return there, nil
}

func (a *apply) op(op Op, b *Batch, res *OpResult) error {
	switch op := op.(type) {
	case PutBAL:
		return a.putBAL(op, res)
	case SetBALState:
		return a.setBALState(op, res)
	case SetListing:
		return a.setListing(op, res)
	case SetQuota:
		return a.setQuota(op, res)
	case PutMember:
		return a.putMember(op, res)
	case EndMember:
		return a.endMember(op, res)
	case MemberByOwner:
		return a.memberByOwner(op, res)
	case CreateMailbox:
		return a.createMailbox(op, res)
	case DeleteMailbox:
		return a.deleteMailbox(op, res)
	case RenameMailbox:
		return a.renameMailbox(op, res)
	case RenameTree:
		return a.renameTree(op.BAL, op.From, op.To)
	case PutAnnotation:
		return a.putAnnotation(op)
	case Subscribe:
		return a.subscribe(op)
	case AddMessage:
		return a.addMessage(op, b.body(op), res)
	case StoreFlags:
		return a.storeFlags(op, res)
	case Copy:
		err := a.copy(op.From, op.To, op.Runs, false, res)
		if err == nil && op.All && count(res.UIDs) < count(normal(op.Runs)) {
			return ErrNoMessage // the batch is undone
		}
		return err
	case Move:
		return a.copy(op.From, op.To, op.Runs, true, res)
	case Expunge:
		err := a.expunge(op, res)
		if err == nil && op.Each && count(res.UIDs) < count(normal(op.Runs)) {
			return ErrNoMessage // the batch is undone
		}
		return err
	case PutBackup:
		return a.putBackup(op)
	case ForgetBackup:
		return a.forgetBackup(op)
	case Undelete:
		return a.undelete(op, res)
	case SetHold:
		return a.setHold(op, res)
	case SetRetention:
		return a.setRetention(op, res)
	case purge:
		return a.purge(op, res)
	case retire:
		return a.retire(op, res)
	case Tell:
		return a.tell(op, res)
	case NoteInactive:
		return a.noteInactive(op, res)
	case AddressesSettled:
		return a.addressesSettled()
	case learnUse:
		return a.learnUse(op)
	case setSweepTime:
		a.sys.SweepTime = op.at
		return nil
	case forget:
		return a.forgetBlob(op)
	case destroyBAL:
		return a.destroyBAL(op, res)
	case shredKey:
		return a.shredKey(op)
	case wipeBAL:
		return a.wipeBAL(op, res)
	}
	return fmt.Errorf("%w: %T", ErrInvalid, op)
}

// flush writes the records that were changed in memory.
func (a *apply) flush() error {
	for id, w := range a.bals {
		if err := a.write(bktBAL, keyBAL(id), encodeBAL(w.BAL)); err != nil {
			return err
		}
	}
	for _, w := range a.boxes {
		if w.gone {
			continue
		}
		if err := a.write(bktMailbox, keyBox(w.Ref), encodeBox(&w.boxRec)); err != nil {
			return err
		}
	}
	a.sys.Commits++
	return a.write(bktSys, sysKey, encodeSys(a.sys))
}

// write is put for the end of a group, when no batch can be undone any more.
func (a *apply) write(bucket int, k, v []byte) error {
	a.log.note(bucket, k, v)
	return a.buckets[bucket].Put(k, v)
}

// publish makes the committed group visible and wakes the watchers.
func (a *apply) publish() {
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mem
	m.sys = a.sys
	maps.Copy(m.words, a.words)
	maps.Copy(m.sets, a.sets)
	m.wordOctets += a.wordOctets
	for _, w := range a.bals {
		b := w.balState
		m.wakeRights(&b)
		m.setBAL(&b)
	}
	for id, w := range a.boxes {
		m.boxNews(m.boxes[id], w)
		m.publishBox(id, w)
	}
	m.subNews(a.subs)
	m.annotationNews(a.notes)
	for _, c := range a.changes {
		if b := m.boxes[c.box]; b != nil {
			b.apply(c)
		}
	}
	for id := range a.boxes {
		if b := m.boxes[id]; b != nil {
			b.wake()
		}
	}
	s.once.update(a.once)
}

func (m *memory) publishBox(id MailboxID, w *boxWork) {
	b := m.boxes[id]
	switch {
	case w.gone:
		if b != nil {
			b.wake()
			delete(m.boxes, id)
		}
	case b == nil:
		m.boxes[id] = &boxState{rec: w.boxRec, recent: w.RecentFrom}
	default:
		b.rec = w.boxRec
	}
}
