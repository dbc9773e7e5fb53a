package store

import (
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// Backup is one that was begun: from then on a copy of the keys lies elsewhere, whether it was ended or not.
type Backup struct {
	ID         trace.ID
	Label      string    // where it lies, as the operator said it
	Began      time.Time // the moment that it holds
	Done       time.Time // read back and whole; zero: broken off, or still going on
	Forgotten  time.Time // destroyed, as the operator says; zero: it is there
	Commits    uint64    // of the index at its moment
	Events     uint64    // the last event that it holds
	HighestBAL BALID     // the last number given until then
}

// Holds reports whether the backup may have the key of a BAL. It goes by the numbers of commits: those of one store only
// grow, over a restore and a rebuild too (nextEpoch), while its clock may have been wrong at either moment.
func (b Backup) Holds(bal BAL) bool {
	d := bal.Destroyed
	switch {
	case !b.Forgotten.IsZero() || bal.ID > b.HighestBAL:
		return false
	case !d.KeyGone:
		return true
	case d.Commit != 0:
		return b.Commits < d.Commit
	}
	// A record of before that number was kept has clocks only. They decide where they lie further apart than a clock
	// may jump without anybody being told (clock.go); else the answer is the careful one.
	return b.Began.Before(d.At.Add(clockStep))
}

// epochStep is how many numbers of commits each second has: far more than any disk can do.
const epochStep = 1 << 20

// nextEpoch is the number of the first commit of an index that goes on from a former moment or is made anew: above those
// given, and above all that the store can have reached in the history that is lost, whose copies and backups are not to
// be mixed up with what comes now. It lies below 2^53, which every reader of JSON knows.
func nextEpoch(now time.Time, above ...uint64) uint64 {
	n := uint64(max(now.Unix(), 1)) * epochStep
	for _, a := range above {
		if a >= n {
			n = (a/epochStep + 1) * epochStep
		}
	}
	return n
}

// unknownBackups stands for backups that a store cannot know of: an index that was lost and made again, or put back from
// a backup, does not speak of those made since. Until the operator says that there is none left (ForgetBackup) nothing
// of before counts as shredded.
func unknownBackups(label string, began, now time.Time, highest BALID) Backup {
	return Backup{ID: trace.NewSource(0, func() time.Time { return now }).Next(), Label: label, Began: seconds(began), Done: seconds(now), HighestBAL: highest}
}

// forgottenFor is how long the record of a backup stays that is destroyed.
const forgottenFor = 400 * 24 * time.Hour

type (
	// PutBackup registers a backup, or says that it is done.
	PutBackup struct{ Backup Backup }
	// ForgetBackup says that a backup was destroyed: nothing can be opened with it any more (ErrNoBackup where none is
	// registered under this id).
	ForgetBackup struct{ ID trace.ID }
)

func (PutBackup) isOp()    {}
func (ForgetBackup) isOp() {}

func encodeBackup(b Backup) []byte {
	v := appendTime(appendTime(appendTime(make([]byte, 0, 64), b.Began), b.Done), b.Forgotten)
	for _, n := range [...]uint64{b.Commits, b.Events, uint64(b.HighestBAL)} {
		v = binary.AppendUvarint(v, n)
	}
	return appendString(v, b.Label)
}

func decodeBackup(k, v []byte) (Backup, error) {
	if !keyIs(k, 8) {
		return Backup{}, corrupt("key of a backup")
	}
	d := dec{b: v}
	b := Backup{ID: idOfKey(k), Began: d.time(), Done: d.time(), Forgotten: d.time()}
	b.Commits, b.Events, b.HighestBAL = d.u(), d.u(), BALID(d.u32())
	b.Label = d.str(maxLabel)
	return b, d.done("backup")
}

const maxLabel = 4096 // octets: a path

func (a *apply) putBackup(op PutBackup) error {
	b := op.Backup
	if b.ID == 0 || b.Began.IsZero() || b.Label == "" || len(b.Label) > maxLabel {
		return fmt.Errorf("%w: backup", ErrInvalid)
	}
	if err := a.dropForgotten(); err != nil {
		return err
	}
	b.Began = seconds(b.Began)
	return a.put(bktBackup, keyID(b.ID), encodeBackup(b))
}

func (a *apply) forgetBackup(op ForgetBackup) error {
	v := a.get(bktBackup, keyID(op.ID))
	if v == nil {
		return ErrNoBackup
	}
	b, err := decodeBackup(keyID(op.ID), v)
	if err != nil || !b.Forgotten.IsZero() {
		return err
	}
	b.Forgotten = seconds(a.now)
	return a.put(bktBackup, keyID(op.ID), encodeBackup(b))
}

// dropForgotten takes the records away of backups that are destroyed for long.
func (a *apply) dropForgotten() error {
	var old [][]byte
	err := a.buckets[bktBackup].ForEach(func(k, v []byte) error {
		b, err := decodeBackup(k, v)
		if err == nil && !b.Forgotten.IsZero() && a.now.Sub(b.Forgotten) > forgottenFor {
			old = append(old, keyID(b.ID))
		}
		return err
	})
	for _, k := range old {
		if err == nil {
			err = a.del(bktBackup, k)
		}
	}
	return err
}

// Backups are the backups of this store, oldest first, those that were broken off or destroyed among them.
func (s *Store) Backups() ([]Backup, error) {
	var all []Backup
	err := s.read(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketNames[bktBackup]).ForEach(func(k, v []byte) error {
			b, err := decodeBackup(k, v)
			all = append(all, b)
			return err
		})
	})
	return all, err
}

func (c *checker) backups() {
	c.each(bktBackup, func(k, v []byte) error {
		_, err := decodeBackup(k, v)
		return err
	})
}
