package store

import (
	"bytes"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// A BAL is destroyed in three steps, each a commit or more, so that a kill anywhere leaves what the next start goes on
// with: destroyBAL decides (the state says Destroyed from then on), shredKey overwrites the slot of its key, wipeBAL takes
// its records away, some at a time.

// wipePage is how many records one commit takes away.
const wipePage = 1000

// Destroyer is who acts in the events of work that goes on after the answer.
const Destroyer = "system:destroy"

type (
	destroyBAL struct{ address Address }
	shredKey   struct{ bal BALID }
	wipeBAL    struct{ bal BALID }
)

func (destroyBAL) isOp() {}
func (shredKey) isOp()   {}
func (wipeBAL) isOp()    {}

// wipedBuckets hold records of BALs, each with the number of the BAL first in its key; in the order in which they go.
var wipedBuckets = [...]int{bktMember, bktSub, bktAnnotation, bktMailbox, bktRow, bktGone, bktExpunged, bktPrefix}

// destroyBAL takes a closed BAL out of use for ever. Its mailboxes leave memory now, their records go later.
func (a *apply) destroyBAL(op destroyBAL, res *OpResult) error {
	w, err := a.balByAddress(op.address)
	if err != nil {
		return err
	}
	if w.Held() {
		return ErrHeld
	}
	if w.State != Closed {
		return fmt.Errorf("%w: it is %s", ErrNotClosed, w.State)
	}
	for _, id := range w.names {
		b, err := a.box(Ref{w.ID, id})
		if err != nil {
			return err
		}
		b.gone = true
	}
	clear(w.names)
	clear(w.members)
	clear(w.subs)
	w.State, w.Destroyed = Destroyed, Destruction{At: seconds(a.now)}
	w.Octets, w.Messages = 0, 0
	res.BAL = w.ID
	return nil
}

func (a *apply) shredKey(op shredKey) error {
	w, err := a.anyBAL(op.bal)
	if err != nil {
		return err
	}
	if w.State != Destroyed {
		return fmt.Errorf("%w: BAL %d is %s", ErrInvalid, op.bal, w.State)
	}
	if w.Destroyed.KeyGone {
		return nil
	}
	w.Destroyed.KeyGone, w.Destroyed.Commit = true, a.sys.Commits+1 // that of this group, see flush
	return a.s.keys.destroy(&w.BAL)
}

func (a *apply) wipeBAL(op wipeBAL, res *OpResult) error {
	w, err := a.anyBAL(op.bal)
	if err != nil {
		return err
	}
	if !w.Destroyed.KeyGone {
		return fmt.Errorf("%w: BAL %d has a key", ErrInvalid, op.bal)
	}
	if w.Destroyed.Wiped {
		return nil
	}
	room := wipePage
	for _, bucket := range wipedBuckets {
		keys := keysOf(a.buckets[bucket], op.bal, room)
		for _, k := range keys {
			if err := a.wipeKey(bucket, k, res); err != nil {
				return err
			}
		}
		if room -= len(keys); room == 0 {
			return nil
		}
	}
	w.Destroyed.Wiped = true
	return a.event(trace.Event{Kind: trace.BAL, Person: Destroyer, BAL: string(w.Address), Attrs: []trace.Attr{
		{Key: trace.KeyState, Value: w.State.String()}, {Key: trace.KeyAct, Value: "bal wiped"}}})
}

// wipeKey takes one record away. What is damaged in what it counts for keeps nothing.
func (a *apply) wipeKey(bucket int, k []byte, res *OpResult) error {
	if bucket != bktPrefix || !keyIs(k, 12) {
		return a.del(bucket, k)
	}
	id := idOfKey(k)
	res.wiped = append(res.wiped, id)
	err := a.dropPrefix(balOfKey(k), id)
	if errors.Is(err, ErrNoMessage) || errors.Is(err, ErrCorrupt) {
		return nil // the record of its body is damaged: Check says so
	}
	return err
}

// keysOf are the first keys that begin with the number of a BAL.
func keysOf(b *bolt.Bucket, bal BALID, limit int) (keys [][]byte) {
	prefix := keyBAL(bal)
	c := b.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(keys) < limit; k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}
