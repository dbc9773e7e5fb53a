package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"mssd/trace"
)

// open opens the file beside; one that a power cut spoilt is begun anew.
func (r *rebuild) open() error {
	err := readablePages(r.path)
	if err == nil {
		r.db, err = openBolt(r.path, boltOptions{})
	}
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	if err := os.Remove(r.path); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	r.db, err = openBolt(r.path, boltOptions{})
	return err
}

// readablePages is nil for a file that is not there.
func readablePages(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return soundPages(path, 0)
}

// fromKey holds what the file was made from.
var fromKey = []byte("from")

// madeFrom tells the keys and the index, as they are now, from what they are after any use of the store. An index that was
// only read stays the same.
func (r *rebuild) madeFrom() ([]byte, error) {
	h := sha256.New()
	f, err := os.Open(filepath.Join(r.opt.Dir, "keys"))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("store: keys: %w", err)
	}
	var st unix.Stat_t
	switch err := unix.Stat(filepath.Join(r.opt.Dir, "index.db"), &st); {
	case err == nil:
		fmt.Fprintln(h, st.Ino, st.Size, st.Mtim.Nano())
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("store: index.db: %w", err)
	}
	return h.Sum(nil), nil
}

// resume finds what an interrupted run made, or begins; after is the last body that is dealt with. What was ended and
// not put in place, or made of a store that was used since, is of no use: mail may have come that it does not know.
func (r *rebuild) resume(slots []slot) (after MessageID, err error) {
	from, err := r.madeFrom()
	if err != nil {
		return 0, err
	}
	goesOn := false
	err = r.db.View(func(tx *bolt.Tx) (err error) {
		b := tx.Bucket(rebuildBucket)
		if b == nil || !bytes.Equal(b.Get(fromKey), from) || !keyIs(b.Get(rebuildBucket), 8) {
			return nil
		}
		after = idOfKey(b.Get(rebuildBucket))
		if goesOn, err = sameBodies(r.opt.Dir, tx, after); err != nil || !goesOn {
			return err
		}
		return r.loadBALs(tx)
	})
	if err != nil || goesOn {
		return after, err
	}
	if err := r.again(); err != nil {
		return 0, err
	}
	if err := takeBackLost(r.opt.Dir); err != nil { // keys that were brought back may open them now
		return 0, err
	}
	return 0, r.db.Update(func(tx *bolt.Tx) error { return r.begin(tx, slots, from) })
}

// again makes an empty file in the place of the one that is open.
func (r *rebuild) again() error {
	err := r.db.Close()
	r.db = nil
	if err == nil {
		err = os.Remove(r.path)
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	r.db, err = openBolt(r.path, boltOptions{})
	return err
}

// sameBodies reports whether the bodies up to one that lie in blobs/ are those that a file knows.
func sameBodies(dir string, tx *bolt.Tx, last MessageID) (bool, error) {
	spans, err := spansOf(dir)
	if err != nil {
		return false, err
	}
	b := tx.Bucket(bucketNames[bktBlob])
	there := 0
	for _, span := range spans {
		ids, err := bodiesIn(dir, span, 0)
		if err != nil {
			return false, err
		}
		for _, id := range ids {
			if id > last {
				break
			}
			if b.Get(keyID(id)) == nil {
				return false, nil
			}
			there++
		}
	}
	return there == b.Stats().KeyN, nil
}

func (r *rebuild) loadBALs(tx *bolt.Tx) error {
	var err error
	if r.sys, err = decodeSys(tx.Bucket(bucketNames[bktSys]).Get(sysKey)); err != nil {
		return err
	}
	m, err := loadMemory(tx, r.keys)
	if err != nil {
		return err
	}
	for id, b := range m.bals {
		if b.fault != nil {
			return b.fault
		}
		if b.State == Destroyed {
			continue
		}
		r.bals[id] = &rebuiltBAL{bal: b.BAL, inbox: m.boxes[b.names["INBOX"]].rec}
		r.out.Messages += int(b.Messages)
	}
	r.out.BALs = len(r.bals)
	r.out.Bodies = tx.Bucket(bucketNames[bktBlob]).Stats().KeyN
	return nil
}

// finish writes the event and takes the mark of unfinished work away. A BAL without any body is suspended: its creation
// may have been broken off after its slot was durable, and then nobody would ever read its mail; or it is one like any
// other, whose mail must not be refused for good.
func (r *rebuild) finish() error {
	return r.db.Update(func(tx *bolt.Tx) error {
		for _, id := range slices.Sorted(maps.Keys(r.bals)) {
			bal := r.bals[id].bal
			if bal.Messages > 0 {
				continue
			}
			bal.State = Suspended
			r.out.Empty = append(r.out.Empty, bal.Address)
			if err := tx.Bucket(bucketNames[bktBAL]).Put(keyBAL(id), encodeBAL(bal)); err != nil {
				return err
			}
		}
		r.sys.Commits++
		e := trace.Event{Time: r.now, Kind: trace.System, Attrs: []trace.Attr{{Key: trace.KeyAct, Value: "rebuilt"}, {Key: trace.KeyCount, Value: strconv.Itoa(r.out.Bodies)}}}
		err := putEvent(tx, &r.sys, e)
		return errors.Join(err, tx.Bucket(bucketNames[bktSys]).Put(sysKey, encodeSys(r.sys)), tx.DeleteBucket(rebuildBucket))
	})
}

// putEvent numbers an event and writes it into an index that nobody has open.
func putEvent(tx *bolt.Tx, sys *sysRec, e trace.Event) error {
	sys.LastSeq++
	e.Seq = sys.LastSeq
	v, err := encodeEvent(e)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketNames[bktTrace]).Put(binary.BigEndian.AppendUint64(nil, e.Seq), v)
}

// swapIndex puts a new, closed, synced index into the place of index.db, which is kept under another name, and removes
// meta.db, which is made again. Killed in between, index.db is the former one or the new one, whole.
func swapIndex(dir, made string, now time.Time) (kept string, err error) {
	index := filepath.Join(dir, "index.db")
	if _, err := os.Lstat(index); err == nil {
		kept = "index.db.damaged-" + now.Format("20060102T150405Z")
		for n := 2; ; n++ {
			if _, err := os.Lstat(filepath.Join(dir, kept)); errors.Is(err, fs.ErrNotExist) {
				break
			}
			kept = fmt.Sprintf("index.db.damaged-%s-%d", now.Format("20060102T150405Z"), n)
		}
		// A second name, not a move: at each moment one of the two is index.db.
		if err := os.Link(index, filepath.Join(dir, kept)); err != nil {
			return "", fmt.Errorf("store: keeping the former index: %w", err)
		}
		if err := (osFiles{}).SyncDir(dir); err != nil {
			return kept, err
		}
	}
	if err := os.Remove(filepath.Join(dir, "meta.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return kept, fmt.Errorf("store: %w", err)
	}
	if err := os.Rename(made, index); err != nil {
		return kept, fmt.Errorf("store: %w", err)
	}
	return kept, osFiles{}.SyncDir(dir)
}
