// Package store keeps the BALs of this operator: their mailboxes, messages, flags and UIDs, and the trace.
//
// delivery and imapd write a body into a Blob while it streams past, then Commit a Batch, a value of typed
// operations; Commit returns only when the batch would survive a power failure. One goroutine, the committer, takes
// whatever batches are queued, evaluates them one after the other, moves the bodies to their place, makes them
// durable with one sync, commits the index once, tells the watchers, and answers. Readers get rows, structure and
// bodies in short pieces; BALs, members and counts are answered from memory. Nobody else touches the files under
// the data directory.
//
// On disk (docs/format.md): index.db is the authority; meta.db is derived from the bodies and may be deleted; blobs/
// holds a file per message; spool/ holds what is on its way; keys holds the keys, wrapped by the master key. Bodies are
// sealed from their first octet on (seal.go), and so are the values that identify people (sealed_value.go).
//
// Invariants, checked by Check (the numbers are those of Problem.Invariant):
//  1. Every value in index.db can be decoded and every key has its length; the pages of the file are sound.
//  2. UIDs only grow: each is below UIDNEXT (RFC 9051, Section 2.3.1.1). UIDVALIDITY is never used twice.
//  3. MODSEQ of rows and tombstones is at most HIGHESTMODSEQ (RFC 7162, Section 3.1); a tombstone is above the
//     pruned ones, its UIDs are below UIDNEXT and have no row.
//  4. The counts of a mailbox are those of its rows.
//  5. The totals of a BAL are the sums of its mailboxes.
//  6. The prefix record of (BAL, message) exists exactly while rows or expunged records use it, and counts them.
//  7. The record of a body counts the BALs that have it; one without is in the list of the dead, no other is, but
//     bodies whose record is taken away and whose file goes.
//  8. The body of each record is a file of the right size under the key that its BALs hold, with a header that gives
//     its receivers this key; a row's size is that of prefix and body.
//  9. The keyword sets of rows exist and are part of those of their mailbox.
//  10. Names of a BAL's mailboxes are unique, INBOX is among them; mailboxes, members and subscriptions have a BAL.
//  11. A delivery that is not confirmed stands once in the list of these.
//  12. Events are numbered without gap, up to the last number given.
//  13. What is answered from memory is what stands in the index.
//  14. An expunged message has a BAL, no row, a name that opens, keyword sets that exist, and the size of prefix and body.
//  15. The slot of a BAL in the file of the keys opens, and names its address and kind; that of a destroyed one says so.
//  16. A destroyed BAL that was wiped has no record but its own.
//  17. An annotation has a BAL, and its mailbox exists; it opens, under the key of its person and path, and they are not too many.
//
// It does not parse messages (package message does), does not decide who may read (auth) or what a message becomes
// (delivery), and knows no protocol.
//
// Security: it talks to nobody. Callers may pass on names, keywords and octets from outside: names and keywords are
// checked and bounded here, bodies and prefixes are never interpreted. Files are readable by their owner only.
// Who takes the disk without the master key learns addresses of BALs, sizes, dates, flags and counts; who changes what
// is sealed, or puts it elsewhere, is found out (ErrCorrupt). Who holds the master key is trusted. A pseudonym is an
// HMAC under a key of this store; no patient address, subject or file name is ever written to a name, log or error.
//
// Standards: RFC 9051 (mailboxes, UIDs, flags), RFC 7162 (MODSEQ, VANISHED), RFC 6851 (MOVE), RFC 6154 (special use).
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"mssd/trace"
)

const (
	defaultFloor  = 64 << 20 // octets
	defaultRetain = 7 * 24 * time.Hour
	mmapSize      = 64 << 30 // of address space, not of memory
	smallMmap     = 1 << 30
	versionLine   = "mssd store 1\n"
)

// Options of Open. The zero value of each field is usable, but for Dir.
type Options struct {
	Dir            string
	MasterKey      string           // file of the key that opens all others; "": master.key in Dir. Create makes it where it is missing
	Create         bool             // make a store where the directory is empty or missing
	Log            *slog.Logger     // nil: none
	Now            func() time.Time // nil: time.Now
	SpaceFloor     int64            // octets that the fronts leave free; 0: 64 MiB, negative: none
	RetainExpunged time.Duration    // expunged mail can come back for so long; 0: 7 days, negative: not at all
	// Aging has the hourly sweep expunge and let go what its time is over. Without it, as for a tool that opens a store
	// and knows no settings, it only removes bodies that nobody has.
	Aging bool
	// Retention is after how many days in a mailbox a message is expunged, by special use (`\Trash`), for mailboxes
	// that say nothing themselves (SetRetention). 0 or none: never.
	Retention map[string]uint32
	// CommitWait is how long Commit waits for a slow disk before it says ErrSlow. It must be well under the 10 minutes
	// that a peer waits for the answer to its message (RFC 5321, Section 4.5.3.2.6). 0: one minute, negative: for ever.
	CommitWait time.Duration
	NoSync     bool // tests only: a power failure may take everything
	SyncEach   bool // sync each body and directory by itself, never the whole file system
	// Observe is told of each event after the commit that made it durable, in order, by the committer: it must not
	// block. nil: nobody is told.
	Observe func(trace.Event)
}

// Store is an open store. All its methods are safe for concurrent use.
type Store struct {
	opt        Options
	dir        string
	log        *slog.Logger
	now        func() time.Time
	fs         fileSystem
	root       *os.File
	index      *bolt.DB
	guard      guard // of index
	indexFile  os.FileInfo
	meta       *metaDB
	unsound    unsoundBodies
	slow       slowness
	writeFault atomic.Pointer[error]
	keys       *keyring
	codec      *codec
	ids        *trace.Source
	syncFew    int // up to so many bodies are synced one by one, more by syncing the file system

	mu  sync.RWMutex
	mem *memory

	pinning

	momentMu sync.Mutex
	moments  map[trace.ID]Backup // open ones: each has the keys in memory, and may have become a backup

	aside   chan func() // run by the committer between two groups
	queue   chan *request
	quit    chan struct{} // closed by Close
	stopped chan struct{} // closed by the committer
	closing sync.Once
	wipe    chan struct{} // cap 1: a BAL was destroyed, its records go
	bg      sync.WaitGroup
	cancel  context.CancelFunc // of the background work

	lazyMu    sync.Mutex
	lazy      lazy
	lazyTimer *time.Timer
	dropped   atomic.Uint64

	failOnce sync.Once
	failErr  error // set before failed is closed
	failed   chan struct{}

	// Owned by the committer.
	group       []*request
	once        *onceTable
	places      *places
	commitIndex atomic.Pointer[func(*bolt.Tx) error] // a seam for tests
	keywordRoom int                                  // octets of keyword sets

	batchLog *batchLog // the latest commits, for those who follow
	maxFree  int       // free pages in the list that each commit writes down

	sweeper
}

// Open opens the store in a directory. One process at a time can have it open (ErrLocked).
func Open(opt Options) (*Store, error) { return open(opt, nil) }

// open takes another file system for tests.
func open(opt Options, wrap func(fileSystem) fileSystem) (_ *Store, err error) {
	s := &Store{opt: opt, dir: opt.Dir, log: opt.Log, now: opt.Now, syncFew: 2, maxFree: maxFreeKept, batchLog: newBatchLog(), pinning: newPinning(), keywordRoom: 64 << 20,
		queue: make(chan *request, maxGroup), aside: make(chan func()), wipe: make(chan struct{}, 1), quit: make(chan struct{}), stopped: make(chan struct{}), failed: make(chan struct{})}
	commit := commitTx
	s.commitIndex.Store(&commit)
	s.slow.epoch = time.Now()
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	real := &osFiles{}
	s.fs = real
	if wrap != nil {
		s.fs = wrap(s.fs)
	}
	if err := s.layout(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.closeFiles()
		}
	}()
	if s.root, err = os.Open(s.dir); err != nil {
		return nil, err
	}
	real.root = s.root
	if err := s.openIndex(); err != nil {
		return nil, err
	}
	if s.codec, err = newCodec(); err != nil {
		return nil, err
	}
	if s.meta, err = openMeta(s); err != nil {
		return nil, err
	}
	s.places = newPlaces(s.fs, s.dir, !s.opt.NoSync)
	greatest, err := s.sweepFiles()
	if err != nil {
		return nil, err
	}
	if s.opt.Create { // last: a store half made is not taken for one
		if err := s.writeVersion(); err != nil {
			return nil, err
		}
	}
	s.ids = trace.NewSource(max(greatest, s.mem.sys.LastID), s.now)
	s.batchLog.last = s.mem.sys.Commits
	s.uptime = upSince(time.Now())
	s.lazyTimer = time.NewTimer(time.Hour)
	s.lazyTimer.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.run()
	s.bg.Go(s.meta.run)
	s.bg.Go(func() { s.meta.catchUp(ctx) })
	s.bg.Go(func() { s.sweepEvery(ctx) })
	s.bg.Go(func() { s.finishDestroying(ctx) })
	return s, nil
}

var layoutDirs = []string{"blobs", "spool", "trace", "state"}

// layout checks that the directory holds a store of our version, or may become one.
func (s *Store) layout() error {
	v, err := os.ReadFile(filepath.Join(s.dir, "VERSION"))
	switch {
	case err == nil && string(v) == versionLine:
		s.opt.Create = false
		if err := keysRefused(filepath.Join(s.dir, "keys")); err != nil {
			return err // before anything is written
		}
	case err == nil && string(v) == "mssd store 0\n":
		return fmt.Errorf("%w: %s holds a store of version 0, which keeps mail in clear and is never converted: move the folder away and begin a new store", ErrVersion, s.dir)
	case err == nil:
		return fmt.Errorf("%w: %s says %q, this program reads version %d", ErrVersion, filepath.Join(s.dir, "VERSION"), clip(v), FormatVersion)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store: %w", err)
	case !s.opt.Create:
		return fmt.Errorf("%w: %s", ErrNoStore, s.dir)
	}
	if !s.opt.Create {
		return nil
	}
	if err := makeDirs(s.fs, s.dir); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, n := range names {
		if !ours[n.Name()] {
			return fmt.Errorf("%w: %s is not empty (%s)", ErrNoStore, s.dir, n.Name())
		}
	}
	for _, d := range layoutDirs {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// ours are the names that an interrupted creation leaves.
var ours = map[string]bool{"blobs": true, "spool": true, "trace": true, "state": true, "keys": true, "keys.new": true, "master.key": true, "master.key.new": true,
	"index.db": true, "meta.db": true, "VERSION.new": true, "lost+found": true}

func clip(b []byte) string { return strings.TrimSpace(string(b[:min(len(b), 40)])) }

func (s *Store) writeVersion() error {
	return writeFile(s.fs, filepath.Join(s.dir, "VERSION"), []byte(versionLine))
}

func (s *Store) openIndex() error {
	path := filepath.Join(s.dir, "index.db")
	if !s.opt.Create {
		if st, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: %w; %s", ErrCorrupt, err, waysOut)
		} else if st.Size() == 0 {
			return fmt.Errorf("%w: %s is empty; %s", ErrCorrupt, path, waysOut)
		}
	}
	var err error
	s.guard.name, s.guard.lost = path, s.lostIndex
	if !s.opt.Create {
		if err := soundIndex(path); err != nil {
			return err
		}
	}
	how := boltOptions{mmap: mmapSize, noSync: s.opt.NoSync, statistics: true}
	if s.opt.Create && s.neverInUse() {
		// A power cut in a creation may leave the name and not, or not all of, what the file held.
		if err := soundIndex(path); errors.Is(err, ErrCorrupt) {
			if err := s.fs.Remove(path); err != nil {
				return fmt.Errorf("store: %w", err)
			}
		}
	}
	if s.index, err = openBolt(path, how); err != nil {
		return err
	}
	if s.indexFile, err = os.Stat(path); err != nil {
		return err
	}
	if s.opt.Create {
		err = s.index.Update(initIndex)
	} else {
		err = addBuckets(s.index)
	}
	if err != nil {
		return err
	}
	return s.read(s.load)
}

// load reads what is answered from memory.
func (s *Store) load(tx *bolt.Tx) error {
	for _, n := range bucketNames {
		if tx.Bucket(n) == nil {
			return fmt.Errorf("%w: %s has no bucket %s", ErrCorrupt, filepath.Join(s.dir, "index.db"), n)
		}
	}
	// A store that holds something never gets new keys.
	sys, err := decodeSys(tx.Bucket(bucketNames[bktSys]).Get(sysKey))
	if err != nil {
		return err
	}
	if s.keys, err = openKeys(s.fs, filepath.Join(s.dir, "keys"), MasterKeyFile(s.dir, s.opt.MasterKey), s.opt.Create && sys.Commits == 0); err != nil {
		return err
	}
	if s.mem, err = loadMemory(tx, s.keys); err != nil {
		return err
	}
	s.logDamage()
	s.once, err = loadOnce(tx)
	return err
}

// addBuckets makes the buckets that an index of an earlier day lacks. One without the first ones is damaged.
func addBuckets(db *bolt.DB) error {
	later := bucketNames[bktExpunged:]
	missing := false
	err := db.View(func(tx *bolt.Tx) error {
		missing = slices.ContainsFunc(later, func(n []byte) bool { return tx.Bucket(n) == nil })
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error {
		for _, n := range later {
			if _, err := tx.CreateBucketIfNotExists(n); err != nil {
				return err
			}
		}
		return nil
	})
}

// neverInUse reports whether a creation broke off before there were keys: they are made, durably, behind the index. An
// index that can be read and holds a commit is never such a one: its keys were lost.
func (s *Store) neverInUse() bool {
	_, err := os.Lstat(filepath.Join(s.dir, "keys"))
	bodies, err2 := os.ReadDir(filepath.Join(s.dir, "blobs"))
	if !errors.Is(err, fs.ErrNotExist) || err2 != nil || len(bodies) > 0 {
		return false
	}
	used := false
	_ = readAlone(filepath.Join(s.dir, "index.db"), func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketNames[bktSys])
		if b == nil {
			return nil
		}
		sys, err := decodeSys(b.Get(sysKey))
		used = err == nil && sys.Commits > 0
		return nil
	})
	return !used
}

func initIndex(tx *bolt.Tx) error {
	for _, n := range bucketNames {
		if _, err := tx.CreateBucketIfNotExists(n); err != nil {
			return err
		}
	}
	sys := tx.Bucket(bucketNames[bktSys])
	if sys.Get(sysKey) != nil {
		return nil
	}
	return sys.Put(sysKey, encodeSys(sysRec{Version: FormatVersion}))
}

type boltOptions struct {
	mmap     int  // octets of address space
	noSync   bool // tests only
	readOnly bool

	statistics bool // count free pages
}

// openBolt opens a database file. A damaged one can panic inside bbolt: that becomes an error with its name.
func openBolt(path string, o boltOptions) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%w: %s cannot be opened (%v)", ErrCorrupt, path, r)
		}
	}()
	opt := bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType, InitialMmapSize: o.mmap, NoStatistics: !o.statistics, NoSync: o.noSync, ReadOnly: o.readOnly}
	db, err = bolt.Open(path, 0o600, &opt)
	if err != nil && !errors.Is(err, berrors.ErrTimeout) && o.mmap > smallMmap {
		opt.InitialMmapSize = smallMmap // little address space (ulimit -v)
		if db2, err2 := bolt.Open(path, 0o600, &opt); err2 == nil {
			return db2, nil
		}
	}
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	if st, err2 := os.Stat(path); err2 == nil && st.Size() < 2*int64(os.Getpagesize()) {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err) // shorter than its two heads
	}
	if named := (*fs.PathError)(nil); errors.As(err, &named) && named.Path == path {
		return nil, fmt.Errorf("store: %w", err)
	}
	return nil, fmt.Errorf("store: open %s: %w", path, err)
}

// read runs fn in a read transaction of the index.
func (s *Store) read(fn func(*bolt.Tx) error) error {
	err := s.guard.view(s.index, fn)
	if err != nil && s.guard.bad.Load() && s.Err() != nil {
		return s.Err()
	}
	return err
}

// view runs fn in a short read transaction.
func (s *Store) view(fn func(get func(bucket int, k []byte) []byte) error) error {
	return s.read(func(tx *bolt.Tx) error {
		return fn(func(bucket int, k []byte) []byte { return tx.Bucket(bucketNames[bucket]).Get(k) })
	})
}

// Close commits what is queued and closes the files. Readers must be done before.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.quit)
		s.awaitWork(func() { <-s.stopped })
		s.cancel()
		s.meta.stop()
		s.awaitWork(s.bg.Wait)
		if s.Err() == nil {
			err = errors.Join(s.places.unmark(), s.endFreeList())
		}
		err = errors.Join(err, s.closeFiles())
	})
	return err
}

func (s *Store) closeFiles() error {
	var errs []error
	if s.index != nil && !s.guard.stuck.Load() {
		errs = append(errs, s.index.Close())
	}
	if s.meta != nil && !s.meta.guard.bad.Load() {
		errs = append(errs, s.meta.db.Close())
	}
	if s.keys != nil {
		errs = append(errs, s.keys.close())
	}
	if s.root != nil {
		errs = append(errs, s.root.Close())
	}
	return errors.Join(errs...)
}

// NewID gives an id greater than all that were committed.
func (s *Store) NewID() trace.ID { return s.ids.Next() }

// FreeSpace is what may still be written to the disk, in octets.
func (s *Store) FreeSpace() (int64, error) { return freeSpace(s.dir) }

// SpaceFloor is the free space, in octets, under which the fronts take no mail.
func (s *Store) SpaceFloor() int64 {
	switch {
	case s.opt.SpaceFloor < 0:
		return 0
	case s.opt.SpaceFloor == 0:
		return defaultFloor
	}
	return s.opt.SpaceFloor
}

// Closed reports whether Close was called.
func (s *Store) Closed() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}
