package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
)

// What package store/backup needs of the files of a store that nobody has open: a copy in a backup, one that is being
// restored, one that is damaged.

// ManifestKey opens the keys of a store, or of a backup of it, and yields what its manifests are verified with: the
// HMAC-SHA256 of a text. ErrMasterKey: the master key is missing or another one.
func ManifestKey(keysFile, masterKey string) (func(text []byte) []byte, error) {
	f, err := osFiles{}.Open(keysFile)
	if err != nil {
		return nil, fmt.Errorf("store: keys: %w", err)
	}
	defer f.Close()
	k := newKeyring(keysFile)
	b, err := readKeys(f, keysFile)
	if err == nil {
		err = k.unlock(b, masterKey)
	}
	if err != nil {
		return nil, err
	}
	return func(text []byte) []byte { return manifestMAC(&k.manifests, text) }, nil
}

// ShredKeys overwrites a copy of the file keys and removes it. It need not be there. One that has a second name is left
// to that name: somebody keeps it on purpose (cp -l), and what he keeps must stay what it is.
func ShredKeys(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("store: keys: %w", err)
	case !st.Mode().IsRegular() || st.Sys().(*syscall.Stat_t).Nlink > 1:
		err = os.Remove(path)
	default:
		err = shredFile(&osFiles{}, path)
	}
	if err != nil {
		return fmt.Errorf("store: a copy of the keys was not overwritten: %w", err)
	}
	return nil
}

// SoundIndex reads every page of an index.db that nobody writes.
func SoundIndex(index string) error { return soundPages(index, 0) }

// OpensDestroyed names the BALs whose keys stand in an older file keys and were destroyed in a newer one.
func OpensDestroyed(older, newer []byte) ([]Address, error) {
	for _, b := range [][]byte{older, newer} {
		if len(b) < keysHead || string(b[:len(keysLine())]) != keysLine() {
			return nil, corrupt("not a file of keys")
		}
	}
	gone := map[uint32]bool{}
	eachSlot(newer, func(s *slot, err error) {
		if err == nil && s.state == slotGone {
			gone[s.number] = true
		}
	})
	var opens []Address
	eachSlot(older, func(s *slot, err error) {
		if err == nil && s.state == slotInUse && gone[s.number] {
			opens = append(opens, s.address)
		}
	})
	return opens, nil
}

// MadeSince names the BALs that a newer file keys has, destroyed ones too, and an older one has not.
func MadeSince(older, newer []byte) ([]Address, error) {
	for _, b := range [][]byte{older, newer} {
		if len(b) < keysHead || string(b[:len(keysLine())]) != keysLine() {
			return nil, corrupt("not a file of keys")
		}
	}
	had := map[Address]bool{}
	eachSlot(older, func(s *slot, err error) {
		if err == nil {
			had[s.address] = true
		}
	})
	var made []Address
	eachSlot(newer, func(s *slot, err error) {
		if err == nil && (s.state == slotInUse || s.state == slotGone) && s.number != 0 && !had[s.address] {
			had[s.address] = true
			made = append(made, s.address)
		}
	})
	return made, nil
}

// EachBody names the bodies of an index.db that nobody writes, those that a BAL has, in ascending order. size is that of
// the body, not of its file.
func EachBody(ctx context.Context, index string, fn func(id MessageID, size int64) error) error {
	return readAlone(index, func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNames[bktBlob])
		if b == nil {
			return fmt.Errorf("%w: %s has no bucket blob", ErrCorrupt, index)
		}
		return b.ForEach(func(k, v []byte) error {
			if !keyIs(k, 8) {
				return corrupt("key of a body")
			}
			r, err := decodeBlob(v)
			if err != nil || r.Refs == 0 {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			return fn(idOfKey(k), r.Size)
		})
	})
}

// readAlone reads an index.db; what is damaged in it becomes an error.
func readAlone(index string, fn func(*bolt.Tx) error) error {
	db, err := openBolt(index, boltOptions{readOnly: true})
	if err != nil {
		return err
	}
	g := guard{name: index}
	err = g.view(db, fn)
	if !g.stuck.Load() {
		err = errors.Join(err, db.Close())
	}
	return err
}

// guarded makes an error of the panic with which bbolt meets a damaged page.
func guarded(index string, fn func() error) error { return (&guard{name: index}).run(fn) }

// Restored says that a store was brought back from a backup. Whoever sends mail out must hold what it finds queued
// until the operator releases it: what was sent after the moment of the backup is not known here.
type Restored struct {
	At      time.Time // when
	Backup  trace.ID  // from which
	Moment  time.Time // of the backup
	Commits uint64    // of the index then
	Events  uint64    // the last one then
	Settled time.Time // when somebody said that no address was given after the backup but those that are here; zero: nobody yet
}

// restoredKey is the key of this record in bucket sys.
var restoredKey = []byte("restored")

func encodeRestored(r Restored) []byte {
	b := appendTime(appendTime(make([]byte, 0, 48), r.At), r.Moment)
	for _, n := range [...]uint64{uint64(r.Backup), r.Commits, r.Events} {
		b = binary.AppendUvarint(b, n)
	}
	if !r.Settled.IsZero() {
		b = appendTime(b, r.Settled)
	}
	return b
}

func decodeRestored(v []byte) (Restored, error) {
	d := dec{b: v}
	r := Restored{At: d.time(), Moment: d.time(), Backup: trace.ID(d.u()), Commits: d.u(), Events: d.u()}
	if d.more() {
		r.Settled = d.time()
	}
	return r, d.done("restored")
}

// Restored says from which backup the store was brought back last; ok false: from none.
func (s *Store) Restored() (r Restored, ok bool, err error) {
	err = s.view(func(get func(int, []byte) []byte) error {
		v := get(bktSys, restoredKey)
		if ok = v != nil; !ok {
			return nil
		}
		var err error
		r, err = decodeRestored(v)
		return err
	})
	return r, ok, err
}

// validityLead is by how much the UIDVALIDITYs of a restored store lie above both the clock and those of the backup: so
// many mailboxes may have been made since the backup.
const validityLead = 1 << 20

// Renewed is what FinishRestore did.
type Renewed struct {
	Mailboxes int // that got a new UIDVALIDITY
	Skipped   int // whose record is damaged
	Once      int // unconfirmed deliveries that were dropped because their body is not there: the peer may send them again
}

// FinishRestore makes a store of a directory into which index.db, keys and blobs/ were copied from a backup: a new
// UIDVALIDITY for every mailbox (RFC 9051, Section 2.3.1.1: UIDs given after the backup may be given again), the mark of
// the restore, an event, the backups that are known of. All that is one commit; VERSION is written last, so a directory
// where this was broken off holds no store.
func FinishRestore(dir string, r Restored, known []Backup) (n Renewed, err error) {
	for _, d := range layoutDirs {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return n, fmt.Errorf("store: %w", err)
		}
	}
	path := filepath.Join(dir, "index.db")
	if err := soundPages(path, 0); err != nil {
		return n, err
	}
	db, err := openBolt(path, boltOptions{})
	if err != nil {
		return n, err
	}
	err = guarded(path, func() error {
		if err := addBuckets(db); err != nil {
			return err
		}
		return db.Update(func(tx *bolt.Tx) error {
			for _, b := range bucketNames {
				if tx.Bucket(b) == nil {
					return fmt.Errorf("%w: %s has no bucket %s", ErrCorrupt, path, b)
				}
			}
			n, err = (&renewal{tx: tx, dir: dir, at: r.At.UTC()}).run(r, known)
			return err
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return n, err
	}
	if err := (osFiles{}).SyncDir(dir); err != nil {
		return n, err
	}
	return n, writeFile(&osFiles{}, filepath.Join(dir, "VERSION"), []byte(versionLine))
}

type renewal struct {
	tx  *bolt.Tx
	dir string
	at  time.Time
	sys sysRec
	n   Renewed
}

func (w *renewal) bucket(i int) *bolt.Bucket { return w.tx.Bucket(bucketNames[i]) }

func (w *renewal) run(r Restored, known []Backup) (Renewed, error) {
	sys, err := decodeSys(w.bucket(bktSys).Get(sysKey))
	if err != nil {
		return w.n, err
	}
	w.sys = sys
	steps := []func() error{w.mailboxes, w.onces, func() error { return w.event(r) }, func() error { return w.backups(r, known) }}
	for _, step := range steps {
		if err := step(); err != nil {
			return w.n, err
		}
	}
	above := []uint64{w.sys.Commits}
	for _, b := range known {
		above = append(above, b.Commits)
	}
	w.sys.Commits = nextEpoch(w.at, above...)
	if err := w.bucket(bktSys).Put(restoredKey, encodeRestored(r)); err != nil {
		return w.n, err
	}
	return w.n, w.bucket(bktSys).Put(sysKey, encodeSys(w.sys))
}

func (w *renewal) mailboxes() error {
	var boxes []boxRec
	b := w.bucket(bktMailbox)
	err := b.ForEach(func(k, v []byte) error {
		rec, err := decodeBox(k, v)
		if err != nil {
			w.n.Skipped++
			return nil
		}
		boxes = append(boxes, rec)
		return nil
	})
	if err != nil {
		return err
	}
	next := max(uint64(w.sys.LastValidity), uint64(max(w.at.Unix(), 1))) + validityLead
	if next+uint64(len(boxes)) > math.MaxUint32 {
		return fmt.Errorf("%w: no UIDVALIDITY is left", ErrLimit)
	}
	for i := range boxes {
		next++
		boxes[i].UIDValidity = UIDValidity(next)
		if err := b.Put(keyBox(boxes[i].Ref), encodeBox(&boxes[i])); err != nil {
			return err
		}
	}
	w.sys.LastValidity, w.n.Mailboxes = UIDValidity(next), len(boxes)
	return nil
}

// onces drops the unconfirmed deliveries whose body is not there: a repetition must be stored.
func (w *renewal) onces() error {
	var gone [][]byte
	b := w.bucket(bktOnce)
	err := b.ForEach(func(k, v []byte) error {
		if !keyIs(v, 8) {
			return corrupt("once")
		}
		_, err := os.Stat(filepath.Join(w.dir, BodyFile(idOfKey(v))))
		if errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, bytes.Clone(k))
			return nil
		}
		return err
	})
	for _, k := range gone {
		if err == nil {
			err = b.Delete(k)
		}
	}
	w.n.Once = len(gone)
	return err
}

func (w *renewal) event(r Restored) error {
	w.sys.LastSeq++
	v, err := encodeEvent(trace.Event{Seq: w.sys.LastSeq, Time: w.at, Kind: trace.System, Attrs: []trace.Attr{
		{Key: trace.KeyAct, Value: "restored"}, {Key: trace.KeyPrevious, Value: r.Backup.String()},
		{Key: trace.KeyAge, Value: w.at.Sub(r.Moment).Round(time.Second).String()}}})
	if err != nil {
		return err
	}
	return w.bucket(bktTrace).Put(keySeq(w.sys.LastSeq), v)
}

// backups registers those that are known, and that there may be others.
func (w *renewal) backups(r Restored, known []Backup) error {
	for _, b := range known {
		if w.bucket(bktBackup).Get(keyID(b.ID)) != nil {
			b2, err := decodeBackup(keyID(b.ID), w.bucket(bktBackup).Get(keyID(b.ID)))
			if err != nil || !b2.Done.IsZero() {
				continue
			}
		}
		if err := w.bucket(bktBackup).Put(keyID(b.ID), encodeBackup(b)); err != nil {
			return err
		}
	}
	unknown := unknownBackups("any backup in another folder made since the moment that was restored: it is not known here", r.Moment, w.at, w.sys.LastBAL)
	unknown.Commits = r.Commits
	return w.bucket(bktBackup).Put(keyID(unknown.ID), encodeBackup(unknown))
}

// EventsSince reads the events after a number from the index of a store, as far as it can be read: the store may be
// damaged. whole false: some could not. ErrLocked: somebody has it open.
func EventsSince(dir string, after uint64, fn func(trace.Event)) (whole bool, err error) {
	path := filepath.Join(dir, "index.db")
	db, err := openBolt(path, boltOptions{readOnly: true})
	if err != nil {
		return false, err
	}
	var tx *bolt.Tx
	g := guard{name: path}
	if err := g.run(func() (err error) { tx, err = g.begin(db); return err }); err != nil {
		return false, err // the database may hang: it is left open
	}
	defer db.Close()
	defer tx.Rollback()
	// Forwards to the first damaged page, then backwards from the end to the last one.
	seen := after
	whole = true
	take := func(k, v []byte) {
		if e, err := decodeEvent(v); err == nil && keyIs(k, 8) {
			fn(e)
		} else {
			whole = false
		}
	}
	forwards := guarded(path, func() error {
		b := tx.Bucket(bucketNames[bktTrace])
		if b == nil {
			return corrupt("no bucket trace")
		}
		c := b.Cursor()
		for k, v := c.Seek(keySeq(after + 1)); k != nil; k, v = c.Next() {
			take(k, v)
			seen = seqOfKey(k)
		}
		return nil
	})
	if forwards == nil {
		return whole, nil
	}
	var back []trace.Event
	inner := fn
	fn = func(e trace.Event) { back = append(back, e) }
	backwards := guarded(path, func() error {
		c := tx.Bucket(bucketNames[bktTrace]).Cursor()
		for k, v := c.Last(); k != nil && seqOfKey(k) > seen; k, v = c.Prev() {
			take(k, v)
		}
		return nil
	})
	for i := len(back) - 1; i >= 0; i-- {
		inner(back[i])
	}
	if backwards != nil && seen == after && len(back) == 0 {
		return false, forwards
	}
	return false, nil
}

// VerifyBodies opens every body to its last frame and yields those that cannot be; at most 1000.
func (s *Store) VerifyBodies(ctx context.Context, p Progress) ([]Problem, error) {
	if err := s.pin(ctx); err != nil {
		return nil, err
	}
	defer s.unpin()
	var ids []MessageID
	err := s.read(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketNames[bktBlob]).ForEach(func(k, v []byte) error {
			if r, err := decodeBlob(v); err == nil && keyIs(k, 8) && r.Refs > 0 {
				ids = append(ids, idOfKey(k))
			}
			return ctx.Err()
		})
	})
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return problems, err
		}
		if i%100 == 0 {
			p.tell("opening every body", int64(i), int64(len(ids)))
		}
		if err := s.verifyBody(id); err != nil && !errors.Is(err, ErrNoMessage) && len(problems) < maxProblems {
			problems = append(problems, Problem{8, err.Error()})
		}
	}
	p.tell("opening every body", int64(len(ids)), int64(len(ids)))
	return problems, nil
}

func (s *Store) verifyBody(id MessageID) error {
	f, end, err := s.openEnd(id)
	if err != nil {
		return err
	}
	defer f.Close()
	end.release()
	return s.openWhole(id, f)
}
