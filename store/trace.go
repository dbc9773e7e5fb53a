package store

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

const (
	tracePage  = 2000             // events looked at in one read transaction
	traceSlack = 10 * time.Second // how far the clock of an event may lie before those numbered earlier
	maxUIDRuns = 180              // runs in one event: its UIDs stay under 4 KiB
)

// Record writes an event down without waiting: it rides on the next commit, at most a second later. When too many
// wait it is dropped and counted.
func (s *Store) Record(e trace.Event) {
	if e.Time.IsZero() {
		e.Time = s.now().UTC()
	}
	s.later(func(l *lazy) {
		if len(l.events) >= maxRecorded {
			s.dropped.Add(1)
			return
		}
		l.events = append(l.events, e)
	})
}

// Dropped counts the events that Record had no room for or that could not be written.
func (s *Store) Dropped() uint64 { return s.dropped.Load() }

// event numbers an event and writes it.
func (a *apply) event(e trace.Event) error {
	if e.Time.IsZero() {
		e.Time = a.now
	}
	e.Seq = a.sys.LastSeq + 1
	v, err := encodeEvent(e)
	if err != nil {
		return err
	}
	a.sys.LastSeq++
	a.used(e)
	if err := a.put(bktTrace, keySeq(e.Seq), v); err != nil || a.s.opt.Observe == nil {
		return err
	}
	n := len(a.told)
	a.told = append(a.told, e)
	a.undo = append(a.undo, func() error { a.told = a.told[:n]; return nil })
	return nil
}

// events writes the events of a batch, with the UIDs that only now are known.
func (a *apply) events(b *Batch, res *Result) error {
	for _, e := range b.Events {
		if e.ID == 0 && b.Blob != nil {
			e.ID = b.Blob.id
		}
		if e.Mailbox == 0 || e.UIDs != "" {
			if err := a.event(e); err != nil {
				return err
			}
			continue
		}
		if err := a.eventOfOps(e, b, res); err != nil {
			return err
		}
	}
	return nil
}

// eventOfOps writes the event e once for each operation on its mailbox.
func (a *apply) eventOfOps(e trace.Event, b *Batch, res *Result) error {
	written := false
	for i, op := range b.Ops {
		box, runs, to, first := opTouched(op, &res.Ops[i])
		if uint32(box.Mailbox) != e.Mailbox || !speaksOf(e.Kind, op) || !b.about(e.ID, op) {
			continue
		}
		for len(runs) > 0 {
			part := runs[:min(len(runs), maxUIDRuns)]
			runs = runs[len(part):]
			ev := e
			ev.UIDs = formatRuns(part)
			if to.Mailbox != 0 && (e.Kind == trace.Moved || e.Kind == trace.Copied) {
				n := count(part)
				ev.Attrs = withTarget(e.Attrs, to, Run{first, uint32(n)})
				first += UID(n)
			}
			if err := a.event(ev); err != nil {
				return err
			}
			written = true
		}
	}
	switch e.Kind {
	case trace.Flagged, trace.Moved, trace.Copied, trace.Expunged:
		return nil
	}
	if written {
		return nil
	}
	return a.event(e)
}

// speaksOf: where one batch adds and removes in the same mailbox, each event is about its own operation.
func speaksOf(k trace.Kind, op Op) bool {
	_, adds := op.(AddMessage)
	switch k {
	case trace.Appended:
		return adds
	case trace.Expunged:
		return !adds
	}
	return true
}

// about: where a batch adds several messages, an event is about its own.
func (b *Batch) about(id trace.ID, op Op) bool {
	add, ok := op.(AddMessage)
	if !ok || len(b.Blobs) == 0 {
		return true
	}
	body := b.body(add)
	return body == nil || body.id == id
}

// opTouched says which UIDs of which mailbox an operation touched, and where they went. The UIDs of a target are
// always one run.
func opTouched(op Op, r *OpResult) (box Ref, runs []Run, to Ref, first UID) {
	switch op := op.(type) {
	case AddMessage:
		return op.Ref, r.New, Ref{}, 0
	case StoreFlags:
		return op.Ref, r.touched, Ref{}, 0
	case Expunge:
		return op.Ref, r.touched, Ref{}, 0
	case retire:
		return op.ref, r.touched, Ref{}, 0
	case DeleteMailbox:
		return op.Ref, r.UIDs, Ref{}, 0
	case Copy:
		box = op.From
	case Move:
		box = op.From
	case RenameMailbox:
		box = op.Ref
	}
	if len(r.New) > 0 {
		first = r.New[0].First
	}
	return box, r.touched, r.Ref, first
}

func withTarget(attrs []trace.Attr, to Ref, uids Run) []trace.Attr {
	out := slices.DeleteFunc(slices.Clone(attrs), func(a trace.Attr) bool { return a.Key == trace.KeyTo || a.Key == trace.KeyToUIDs })
	return append(out, trace.Attr{Key: trace.KeyTo, Value: strconv.FormatUint(uint64(to.Mailbox), 10)},
		trace.Attr{Key: trace.KeyToUIDs, Value: formatRuns([]Run{uids})})
}

// Trace is the life of a message or transaction, in order: the events of its id, and those of a mailbox that touch
// a row which the message has or had there, followed through copies and moves.
func (s *Store) Trace(ctx context.Context, id trace.ID) ([]trace.Event, error) {
	if err := s.flush(ctx); err != nil && s.Err() == nil {
		return nil, err
	}
	f := follower{id: id, rows: map[uint32]map[UID]bool{}}
	from, err := s.traceStart(id.Time().Add(-traceSlack))
	for err == nil && from != 0 {
		if err = ctx.Err(); err == nil {
			from, err = s.tracePage(from, f.look)
		}
	}
	return f.events, err
}

// traceStart is the number of the first event not before t, 0 where there is none.
func (s *Store) traceStart(t time.Time) (seq uint64, err error) {
	err = s.read(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNames[bktTrace])
		lo, _ := b.Cursor().First()
		hi, _ := b.Cursor().Last()
		if lo == nil {
			return nil
		}
		if !keyIs(lo, 8) || !keyIs(hi, 8) {
			return corrupt("key of an event")
		}
		first, last := seqOfKey(lo), seqOfKey(hi)
		n := sort.Search(int(last-first)+1, func(i int) bool {
			e, err2 := decodeEvent(b.Get(keySeq(first + uint64(i))))
			err = cmp.Or(err, err2)
			return !e.Time.Before(t)
		})
		if seq = first + uint64(n); seq > last {
			seq = 0
		}
		return err
	})
	return seq, err
}

// tracePage shows events from a number on; next is where to go on, 0 at the end.
func (s *Store) tracePage(from uint64, look func(trace.Event)) (next uint64, err error) {
	err = s.read(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNames[bktTrace]).Cursor()
		n := 0
		for k, v := c.Seek(keySeq(from)); k != nil; k, v = c.Next() {
			if !keyIs(k, 8) {
				return corrupt("key of an event")
			}
			if n++; n > tracePage {
				next = seqOfKey(k)
				return nil
			}
			e, err := decodeEvent(v)
			if err != nil {
				return err
			}
			look(e)
		}
		return nil
	})
	return next, err
}

// follower collects the events of one message.
type follower struct {
	id     trace.ID
	rows   map[uint32]map[UID]bool // mailbox → UIDs that are or were this message
	events []trace.Event
}

func (f *follower) look(e trace.Event) {
	own := f.rows[e.Mailbox]
	if e.ID != f.id && (len(own) == 0 || e.UIDs == "") {
		return
	}
	runs, _ := parseRuns(e.UIDs)
	if e.ID == f.id {
		f.events = append(f.events, e)
		switch e.Kind {
		case trace.Committed, trace.Appended, trace.Recipient:
			for _, r := range runs {
				for i := range min(r.Count, 1000) {
					f.add(e.Mailbox, r.First+UID(i))
				}
			}
			return
		}
	}
	hit := false
	for uid := range own {
		if i, ok := within(runs, uid); ok {
			hit = true
			f.follow(e, i)
		}
	}
	if hit && e.ID != f.id {
		f.events = append(f.events, e)
	}
}

// follow notes where the message at a place of a copied or moved set went.
func (f *follower) follow(e trace.Event, i int) {
	if e.Kind != trace.Moved && e.Kind != trace.Copied && e.Kind != trace.Recovered {
		return
	}
	to, err := strconv.ParseUint(e.Attr(trace.KeyTo), 10, 32)
	runs, ok := parseRuns(e.Attr(trace.KeyToUIDs))
	if uid, found := at(runs, i); err == nil && ok && found {
		f.add(uint32(to), uid)
	}
}

func (f *follower) add(box uint32, uid UID) {
	if f.rows[box] == nil {
		f.rows[box] = map[UID]bool{}
	}
	f.rows[box][uid] = true
}

// TraceByMessageID yields the ids of the messages with that Message-ID.
func (s *Store) TraceByMessageID(ctx context.Context, messageID string) ([]trace.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.meta.byMessageID(messageID)
}
