package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/trace"
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
// file beside; broken off, it goes on where it was. index.db and meta.db are set aside at the end only.
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
	after, finished, err := r.resume(slots)
	if err != nil {
		return err
	}
	if !finished {
		if err := r.bodies(ctx, after); err != nil {
			return err
		}
		if err := r.finish(); err != nil {
			return err
		}
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

// countLost is how many bodies lie in lost/, from earlier runs too.
func countLost(dir string) (n int, err error) {
	names, err := os.ReadDir(filepath.Join(dir, lostDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("store: %w", err)
	}
	for _, f := range names {
		if _, err := trace.ParseID(f.Name()); err == nil {
			n++
		}
	}
	return n, nil
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

// open opens the file beside; one that a power cut spoilt is begun anew.
func (r *rebuild) open() error {
	if err := readablePages(r.path); errors.Is(err, ErrCorrupt) {
		if err := os.Remove(r.path); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	var err error
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

// resume makes the BALs, or finds what an interrupted run made; after is the last body it dealt with.
func (r *rebuild) resume(slots []slot) (after MessageID, finished bool, err error) {
	err = r.db.Update(func(tx *bolt.Tx) error {
		if b := tx.Bucket(rebuildBucket); b != nil {
			v := b.Get(rebuildBucket)
			if !keyIs(v, 8) {
				return corrupt("rebuild.db: remove it and begin again")
			}
			after = idOfKey(v)
			return r.loadBALs(tx)
		}
		if b := tx.Bucket(bucketNames[bktSys]); b != nil {
			finished = true
			return nil
		}
		return r.begin(tx, slots)
	})
	if err == nil && !finished && after == 0 {
		err = takeBackLost(r.opt.Dir) // keys that were brought back may open them now
	}
	return after, finished, err
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

// begin writes the BALs. Of two slots with one address the later is its BAL. Numbers that were given out before and are
// not known any more (UIDVALIDITYs, events, commits) begin above any that a real store can have reached.
func (r *rebuild) begin(tx *bolt.Tx, slots []slot) error {
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
	return errors.Join(tx.Bucket(bucketNames[bktSys]).Put(sysKey, encodeSys(r.sys)), b.Put(rebuildBucket, keyID(0)),
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

// spansOf are the directories of bodies, oldest first.
func spansOf(dir string) ([]string, error) {
	names, err := os.ReadDir(filepath.Join(dir, "blobs"))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	type span struct {
		n    uint64
		name string
	}
	var spans []span
	for _, d := range names {
		if n, err := strconv.ParseUint(d.Name(), 16, 64); err == nil && d.IsDir() {
			spans = append(spans, span{n, d.Name()})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.n, b.n) })
	out := make([]string, len(spans))
	for i, s := range spans {
		out[i] = s.name
	}
	return out, nil
}

// bodiesIn are the bodies of one directory after an id, ascending.
func bodiesIn(dir, span string, after MessageID) ([]MessageID, error) {
	names, err := os.ReadDir(filepath.Join(dir, "blobs", span))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	var ids []MessageID
	for _, n := range names {
		if id, err := trace.ParseID(n.Name()); err == nil && id > after && spanOf(id) == span {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (r *rebuild) bodies(ctx context.Context, after MessageID) error {
	spans, err := spansOf(r.opt.Dir)
	if err != nil {
		return err
	}
	for _, span := range spans { // first only counted
		ids, err := bodiesIn(r.opt.Dir, span, 0)
		if err != nil {
			return err
		}
		r.total += int64(len(ids))
		i, _ := slices.BinarySearch(ids, after+1)
		r.done += int64(i)
	}
	for _, span := range spans {
		ids, err := bodiesIn(r.opt.Dir, span, after)
		if err != nil {
			return err
		}
		for page := range slices.Chunk(ids, r.batch) {
			if err := ctx.Err(); err != nil {
				return err
			}
			r.opt.Progress.tell("reading headers of bodies", r.done, r.total)
			if err := r.page(page); err != nil {
				return err
			}
			r.done += int64(len(page))
		}
	}
	r.opt.Progress.tell("reading headers of bodies", r.done, r.total)
	return nil
}

// found is what a body says of itself.
type found struct {
	size int64
	key  secret
	time time.Time
	to   []BALID // whose keys open it
	err  error
}

// page makes the rows of some bodies, in one commit.
func (r *rebuild) page(ids []MessageID) error {
	all := lookAll(r.opt.Dir, r.codec, r.keys, ids)
	for i := range all {
		// An address with two slots belongs to the later one.
		all[i].to = slices.DeleteFunc(all[i].to, func(id BALID) bool { return r.bals[id] == nil })
		if all[i].err == nil && len(all[i].to) == 0 {
			all[i].err = errors.New("none of its BALs is known")
		}
	}
	// Before the commit: what is noted as done and still lay there would be taken for an orphan.
	if err := r.setAsideLost(ids, all); err != nil {
		return err
	}
	return r.db.Update(func(tx *bolt.Tx) error {
		for _, n := range []int{bktBlob, bktRow, bktPrefix} {
			tx.Bucket(bucketNames[n]).FillPercent = 0.9
		}
		for i, id := range ids {
			if err := r.add(tx, id, &all[i]); err != nil {
				return err
			}
		}
		for _, w := range r.bals {
			if !w.touched {
				continue
			}
			w.touched = false
			err := errors.Join(tx.Bucket(bucketNames[bktBAL]).Put(keyBAL(w.bal.ID), encodeBAL(w.bal)),
				tx.Bucket(bucketNames[bktMailbox]).Put(keyBox(w.inbox.Ref), encodeBox(&w.inbox)))
			if err != nil {
				return err
			}
		}
		r.sys.LastID = max(r.sys.LastID, ids[len(ids)-1])
		return errors.Join(tx.Bucket(bucketNames[bktSys]).Put(sysKey, encodeSys(r.sys)), tx.Bucket(rebuildBucket).Put(rebuildBucket, keyID(ids[len(ids)-1])))
	})
}

// add makes the rows of one body.
func (r *rebuild) add(tx *bolt.Tx, id MessageID, f *found) error {
	if f.err != nil {
		return nil
	}
	for _, bal := range f.to {
		w := r.bals[bal]
		p, err := r.keys.sealPrefix(bal, id, &f.key, nil)
		if err != nil {
			return err
		}
		b := &w.inbox
		b.HighestModSeq++
		row := Row{UID: b.UIDNext, ModSeq: b.HighestModSeq, Message: id, Date: f.time, SaveDate: f.time, Size: f.size}
		b.UIDNext++
		b.tally(&row, 1)
		w.bal.Messages++
		w.bal.Octets += row.Size
		w.touched = true
		r.out.Messages++
		err = errors.Join(tx.Bucket(bucketNames[bktRow]).Put(keyRow(b.Ref, row.UID), encodeRow(&row)),
			tx.Bucket(bucketNames[bktPrefix]).Put(keyPrefix(bal, id), encodePrefix(p)))
		if err != nil {
			return err
		}
	}
	r.out.Bodies++
	return tx.Bucket(bucketNames[bktBlob]).Put(keyID(id), encodeBlob(blobRec{Size: f.size, Refs: uint32(len(f.to))}))
}

// lookAll looks at bodies on all processors.
func lookAll(dir string, c *codec, keys *keyring, ids []MessageID) []found {
	all := make([]found, len(ids))
	workers := min(2*runtime.GOMAXPROCS(0), len(ids))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(ids); i += workers {
				all[i] = lookAt(filepath.Join(dir, BodyFile(ids[i])), c, keys, ids[i])
			}
		})
	}
	wg.Wait()
	return all
}

// errLockedBody: a body that looks sound, of a BAL whose key was not destroyed but does not open now. It may come back.
var errLockedBody = errors.New("no key opens its header now")

// lookAt opens table and header of a body with the keys of those that received it.
func lookAt(path string, c *codec, keys *keyring, id MessageID) (out found) {
	f, err := osFiles{}.Open(path)
	if err != nil {
		return found{err: err}
	}
	defer f.Close()
	end, err := readEnd(f)
	if err != nil {
		return found{err: err}
	}
	h, err := end.header(uint64(id))
	if err != nil {
		end.release()
		return found{err: err}
	}
	out.time = h.time
	for i := range h.to {
		k, err := keys.bal(h.to[i].bal)
		if err != nil {
			continue
		}
		if key, err := h.to[i].unwrap(h.id, k.wrap()); err == nil && h.verify(&key) == nil {
			out.key, out.to = key, append(out.to, h.to[i].bal)
		}
	}
	if len(out.to) == 0 {
		end.release()
		for i := range h.to {
			if _, gone := keys.gone[h.to[i].bal]; !gone {
				return found{err: errLockedBody}
			}
		}
		return found{err: errors.New("no key opens its header")}
	}
	u, err := newUnsealer(c, uint64(id), &out.key, end, -1)
	if err != nil {
		return found{err: err}
	}
	out.size = u.size
	u.release()
	return out
}

// setAsideLost moves bodies without a row into lost/, durably.
func (r *rebuild) setAsideLost(ids []MessageID, all []found) error {
	dirs := map[string]bool{}
	for i, id := range ids {
		if all[i].err == nil {
			continue
		}
		if len(r.out.Lost) < maxProblems {
			r.out.Lost = append(r.out.Lost, LostBody{id, all[i].err.Error()})
		}
		from, to := filepath.Join(r.opt.Dir, BodyFile(id)), filepath.Join(r.opt.Dir, lostDir, id.String())
		if err := os.Mkdir(filepath.Dir(to), 0o700); err == nil {
			dirs[r.opt.Dir] = true
		} else if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("store: %w", err)
		}
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store: %w", err)
		}
		dirs[filepath.Dir(from)], dirs[filepath.Dir(to)] = true, true
	}
	for dir := range dirs {
		if err := (osFiles{}).SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// takeBackLost puts what an earlier run set aside back among the bodies.
func takeBackLost(dir string) error {
	names, err := os.ReadDir(filepath.Join(dir, lostDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, n := range names {
		id, err := trace.ParseID(n.Name())
		if err != nil {
			continue
		}
		to := filepath.Join(dir, BodyFile(id))
		if err := os.Mkdir(filepath.Dir(to), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("store: %w", err)
		}
		if err := os.Rename(filepath.Join(dir, lostDir, n.Name()), to); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// finish writes the event and takes the mark of unfinished work away.
func (r *rebuild) finish() error {
	return r.db.Update(func(tx *bolt.Tx) error {
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
