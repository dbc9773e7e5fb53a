package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// RebuildOptions of Rebuild.
type RebuildOptions struct {
	Dir       string
	MasterKey string // as in Options
	Force     bool   // also where index.db can be read; it is set aside
	Progress  Progress
	Now       func() time.Time // nil: time.Now
}

// LostBody is a body that no row could be made for. Its file lies in the folder lost.
type LostBody struct {
	ID     MessageID
	Reason string
}

// ErrReadable: the index can be read, so a rebuild would throw away what only the index knows.
var ErrReadable = fmt.Errorf("%w: index.db can be read and holds more than the bodies do", ErrInvalid)

// Rebuilt is what Rebuild did.
type Rebuilt struct {
	BALs      int
	Destroyed int        // BALs whose key was destroyed: their mail is not looked for
	Unopened  []uint32   // slots that do not open with this master key
	Messages  int        // rows made, in INBOX
	Bodies    int        // that they show
	Lost      []LostBody // found by this run, at most 1000
	LostCount int        // files in the folder lost
	Kept      string     // name of the index that was there; "" none
	Empty     []Address  // BALs without a body, which are suspended: they may never have been made to the end
}

const (
	rebuildFile  = "rebuild.db"
	lostDir      = "lost"
	rebuildBatch = 2000 // bodies in one commit
)

var rebuildBucket = []byte("rebuild") // while it is there the work is not done

// Rebuild makes index.db anew from blobs/ and keys alone, for a store that nobody has open: the BALs of keys, without
// members, and in INBOX of each the messages that it received, all of them, unread, in the order of their coming. What
// index.db knew beyond that is gone: members and passwords, mailboxes, copies, flags, states, holds and quotas, the
// trace, and which mail was expunged or deleted. Bodies that no key opens are moved into lost/. The work is done in a
// file beside; broken off, it goes on where it was, or begins anew where the store was used since. index.db and meta.db are set aside at the end only.
func Rebuild(ctx context.Context, opt RebuildOptions) (*Rebuilt, error) {
	return rebuildBy(ctx, opt, rebuildBatch)
}

// rebuildBy deals with so many bodies in one commit.
func rebuildBy(ctx context.Context, opt RebuildOptions, batch int) (*Rebuilt, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if !opt.Force { // before the lock is ours: this takes it too
		switch err := readable(filepath.Join(opt.Dir, "index.db")); {
		case err == nil:
			return nil, ErrReadable
		case errors.Is(err, ErrLocked):
			return nil, err
		}
	}
	unlock, err := lockStore(opt.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	codec, err := newCodec()
	if err != nil {
		return nil, err
	}
	defer codec.close()
	r := &rebuild{opt: opt, path: filepath.Join(opt.Dir, rebuildFile), now: opt.Now().UTC(), out: &Rebuilt{}, codec: codec, batch: batch,
		bals: map[BALID]*rebuiltBAL{}}
	return r.out, r.run(ctx)
}

// readable reports whether an index can be opened and read to its end.
func readable(path string) error {
	if st, err := os.Stat(path); err != nil {
		return err
	} else if st.Size() == 0 {
		return corrupt("empty file")
	}
	db, err := openBolt(path, boltOptions{readOnly: true})
	if err != nil {
		return err
	}
	g := guard{name: path}
	err = g.view(db, func(tx *bolt.Tx) error {
		for _, n := range bucketNames[:bktExpunged] {
			if tx.Bucket(n) == nil {
				return corrupt("bucket " + string(n))
			}
		}
		if _, err := decodeSys(tx.Bucket(bucketNames[bktSys]).Get(sysKey)); err != nil {
			return err
		}
		return walk(tx, 0)
	})
	if !g.stuck.Load() {
		err = errors.Join(err, db.Close())
	}
	return err
}

// rebuild is one Rebuild at work. One goroutine uses it.
type rebuild struct {
	opt   RebuildOptions
	path  string
	now   time.Time
	keys  *keyring
	codec *codec
	db    *bolt.DB
	out   *Rebuilt
	batch int // bodies in one commit

	sys   sysRec
	bals  map[BALID]*rebuiltBAL
	total int64
	done  int64
}

// rebuiltBAL is a BAL with its INBOX.
type rebuiltBAL struct {
	bal     BAL
	inbox   boxRec
	touched bool // since the last commit
}

func (r *rebuild) run(ctx context.Context) (err error) {
	slots, err := r.readKeys()
	if err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	defer func() {
		if r.db != nil {
			err = errors.Join(err, r.db.Close())
		}
	}()
	after, err := r.resume(slots)
	if err != nil {
		return err
	}
	if err := r.bodies(ctx, after); err != nil {
		return err
	}
	if err := r.finish(); err != nil {
		return err
	}
	err = r.db.Close()
	r.db = nil
	if err != nil {
		return err
	}
	if r.out.Kept, err = swapIndex(r.opt.Dir, r.path, r.now); err != nil {
		return err
	}
	r.out.LostCount, err = countLost(r.opt.Dir)
	return err
}

// readKeys opens the keys and yields the slots that open, those of destroyed BALs among them.
func (r *rebuild) readKeys() ([]slot, error) {
	keys, all, err := keysAlone(r.opt.Dir, r.opt.MasterKey)
	if err != nil {
		return nil, err
	}
	r.keys = keys
	var slots []slot
	for n, s := range all {
		switch _, destroyed := keys.gone[BALID(n)]; {
		case n == storeSlot:
		case destroyed:
			r.out.Destroyed++
			slots = append(slots, s)
		case keys.bals[BALID(n)] == nil:
			r.out.Unopened = append(r.out.Unopened, n)
		default:
			slots = append(slots, s)
		}
	}
	slices.Sort(r.out.Unopened)
	slices.SortFunc(slots, func(a, b slot) int { return cmp.Compare(a.number, b.number) })
	return slots, nil
}

// keysAlone opens the keys of a store that nobody has open, for reading.
func keysAlone(dir, masterKey string) (*keyring, map[uint32]slot, error) {
	path := filepath.Join(dir, "keys")
	f, err := osFiles{}.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("store: keys: %w", err)
	}
	defer f.Close()
	b, err := readKeys(f, path)
	if err != nil {
		return nil, nil, err
	}
	k := newKeyring(path)
	if err := k.unlock(b, MasterKeyFile(dir, masterKey)); err != nil {
		return nil, nil, err
	}
	slots := map[uint32]slot{}
	eachSlot(b, func(s *slot, _ error) { slots[s.number] = *s })
	return k, slots, nil
}

// begin writes the BALs. Of two slots with one address the later is its BAL. Numbers that were given out before and are
// not known any more (UIDVALIDITYs, events, commits) begin above any that a real store can have reached.
func (r *rebuild) begin(tx *bolt.Tx, slots []slot, from []byte) error {
	if err := initIndex(tx); err != nil {
		return err
	}
	b, err := tx.CreateBucket(rebuildBucket)
	if err != nil {
		return err
	}
	second := uint64(max(r.now.Unix(), 1))
	r.sys = sysRec{Version: FormatVersion, LastBAL: r.keys.last, LastSeq: second, Commits: nextEpoch(r.now),
		LastValidity: UIDValidity(second + validityLead)}
	last := map[Address]uint32{}
	for _, s := range slots {
		last[s.address] = s.number
	}
	for _, s := range slots {
		if last[s.address] != s.number {
			continue
		}
		put := r.makeBAL
		if s.state == slotGone {
			put = r.keepDestroyed
		}
		if err := put(tx, s); err != nil {
			return err
		}
	}
	r.out.BALs = len(r.bals)
	began := r.now
	for _, s := range slots {
		if s.created.Before(began) {
			began = s.created
		}
	}
	unknown := unknownBackups("any backup made before the index was rebuilt: it is not known any more", began, r.now, r.keys.last)
	return errors.Join(tx.Bucket(bucketNames[bktSys]).Put(sysKey, encodeSys(r.sys)), b.Put(rebuildBucket, keyID(0)), b.Put(fromKey, from),
		tx.Bucket(bucketNames[bktBackup]).Put(keyID(unknown.ID), encodeBackup(unknown)))
}

// keepDestroyed writes the record that keeps the address of a destroyed BAL from being given again.
func (r *rebuild) keepDestroyed(tx *bolt.Tx, s slot) error {
	bal := BAL{ID: BALID(s.number), Address: s.address, Kind: s.kind, State: Destroyed, Listing: Published, Created: s.created,
		Destroyed: Destruction{At: s.destroyed, KeyGone: true, Wiped: true, Commit: r.sys.Commits}}
	return tx.Bucket(bucketNames[bktBAL]).Put(keyBAL(bal.ID), encodeBAL(bal))
}

func (r *rebuild) makeBAL(tx *bolt.Tx, s slot) error {
	bal := BAL{ID: BALID(s.number), Address: s.address, Kind: s.kind, State: Active, Listing: Published, Created: s.created}
	if bal.Kind == APP {
		bal.Listing = Unlisted // as those that are added
	}
	w := &rebuiltBAL{bal: bal}
	for _, d := range defaultMailboxes {
		rec, err := newBox(tx, r.keys, &r.sys, bal.ID, d.name, d.use)
		if err != nil {
			return err
		}
		if d.name == "INBOX" {
			w.inbox = rec
		}
		if err := putSub(tx, r.keys, bal.ID, d.name); err != nil {
			return err
		}
	}
	r.bals[bal.ID] = w
	return tx.Bucket(bucketNames[bktBAL]).Put(keyBAL(bal.ID), encodeBAL(bal))
}

// newBox writes a new, empty mailbox into an index that nobody has open.
func newBox(tx *bolt.Tx, keys *keyring, sys *sysRec, bal BALID, name, use string) (boxRec, error) {
	sys.LastMailbox++
	sys.LastValidity++
	rec := boxRec{Ref: Ref{bal, sys.LastMailbox}, Name: name, SpecialUse: use, UIDValidity: sys.LastValidity, UIDNext: 1, HighestModSeq: 1, RecentFrom: 1}
	if err := keys.sealBox(&rec); err != nil {
		return rec, err
	}
	return rec, tx.Bucket(bucketNames[bktMailbox]).Put(keyBox(rec.Ref), encodeBox(&rec))
}

func putSub(tx *bolt.Tx, keys *keyring, bal BALID, name string) error {
	key, err := keys.bal(bal)
	if err != nil {
		return err
	}
	names := key.names()
	k := keySub(bal, &names, name)
	v, err := keys.seal(bal, bktSub, k, []byte(name))
	if err != nil {
		return err
	}
	return tx.Bucket(bucketNames[bktSub]).Put(k, v)
}
