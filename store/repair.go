package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// RepairOptions of Repair.
type RepairOptions struct {
	Dir       string
	MasterKey string // as in Options
	DryRun    bool   // only say what would be done
	// DropLost takes the rows away whose body is missing or damaged, but for BALs on hold and bodies that the disk does
	// not give now; else they stay and are told. The file of a damaged body lies in the folder lost then.
	DropLost bool
	// Bodies reads every body through, to its last frame: that alone finds octets that have changed within. Else header and
	// table are looked at.
	Bodies   bool
	Progress Progress
	Now      func() time.Time // nil: time.Now
}

// LostRow is a message whose body is missing or damaged.
type LostRow struct {
	BAL     Address
	Mailbox MailboxID
	UID     UID
	Message MessageID
	Reason  string
	Dropped bool // its row was taken away
}

// Mended is one kind of change.
type Mended struct {
	Count int
	First []string // at most 20
}

// Repaired is what Repair did, or would do.
type Repaired struct {
	Changes []*Mended // what was mended, by kind
	Count   int       // of what was mended
	Lost    []LostRow // at most 1000
	Rows    int       // messages whose body is missing or damaged
	Dropped int       // of these, those taken away
	Bodies  int       // damaged bodies that lie in the folder lost now, or would
	Aside   int       // records that could not be kept; they stand in Report
	Pages   int       // pages and records that could not be read
	Report  string    // file with all that was lost or set aside; "" where nothing was
	Kept    string    // name of the former index; "": nothing had to be changed, or a dry run

	Unavailable []Address // BALs whose key does not open: nothing of them was looked at
}

const (
	repairFile  = "repair.db"
	repairBatch = 20000   // records in one commit
	maxGap      = 1000000 // events that are filled in
)

// Repair mends the index of a store that nobody has open, as far as this needs no guess: it copies it record by record
// into a file beside, from every page that can be read, counts anew what can be counted, makes again what follows from
// the rest, and sets aside what cannot be understood. The new index takes the place of the old one at the end only,
// which is kept under another name: broken off, nothing has happened. Nothing of a BAL whose key does not open is
// changed. Where nothing has to be changed, nothing is.
func Repair(ctx context.Context, opt RepairOptions) (*Repaired, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	index := filepath.Join(opt.Dir, "index.db")
	pages := soundPagesAlone(index) // before the lock is ours: this takes it too
	if errors.Is(pages, ErrLocked) {
		return nil, pages
	}
	unlock, err := lockStore(opt.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r := &repair{ctx: ctx, opt: opt, path: filepath.Join(opt.Dir, repairFile), now: opt.Now().UTC().Truncate(time.Second), out: &Repaired{},
		bals: map[BALID]*mendedBAL{}, boxes: map[MailboxID]*mendedBox{}, words: map[KeywordSet][]string{}, sets: map[string]KeywordSet{},
		prefixes: map[balMessage]*mendedPrefix{}, blobs: map[MessageID]*mendedBlob{}, kinds: map[string]*Mended{}, lengths: map[balMessage]int64{}}
	if pages != nil {
		r.note("pages of index.db: %v", pages)
	}
	if r.src, err = openSalvage(index); err != nil {
		return nil, fmt.Errorf("%w; %s", err, "restore the store from a backup; without one, mssd fsck --rebuild makes INBOX again from the bodies alone")
	}
	defer r.src.close()
	if r.keys, r.slots, err = keysAlone(opt.Dir, opt.MasterKey); err != nil {
		return nil, err
	}
	if r.codec, err = newCodec(); err != nil {
		return nil, err
	}
	defer r.codec.close()
	return r.out, r.run()
}

// soundPagesAlone asks bbolt about the pages, the list of free ones included.
func soundPagesAlone(path string) error {
	if err := readable(path); err != nil {
		return err
	}
	db, err := openBolt(path, boltOptions{readOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) (first error) {
		for err := range tx.Check() {
			first = cmp.Or(first, err)
		}
		return first
	})
}

// repair is one Repair at work. One goroutine uses it.
type repair struct {
	ctx   context.Context
	opt   RepairOptions
	path  string
	now   time.Time
	src   *salvage
	keys  *keyring
	slots map[uint32]slot
	codec *codec
	out   *Repaired

	db    *bolt.DB
	tx    *bolt.Tx
	wrote int // records since the last commit

	sys      sysRec
	sysOK    bool
	bals     map[BALID]*mendedBAL
	boxes    map[MailboxID]*mendedBox
	words    map[KeywordSet][]string
	sets     map[string]KeywordSet // by encoded words
	prefixes map[balMessage]*mendedPrefix
	lengths  map[balMessage]int64 // of the prefixes of BALs that are left as they are
	blobs    map[MessageID]*mendedBlob
	kinds    map[string]*Mended // of changes, by what note was given
	lines    *reportFile        // nil until there is something to write down
	lost     []MessageID        // damaged bodies that no BAL has any more: they go into lost/
	rows     int64
}

type mendedBAL struct {
	BAL
	verbatim bool // its key does not open, or it was destroyed: left as it is
	sums     BAL  // octets and messages, counted
}

type mendedBox struct {
	boxRec
	was      boxRec // as it stood
	nameless bool   // the name could not be read
	counted  boxRec
	last     UID               // greatest of the rows
	words    map[string]string // of the rows, by lower case
	dropped  []Run
}

type mendedPrefix struct {
	length int64  // of the prefix
	was    uint32 // counted by the record
	refs   uint32 // rows and expunged ones
	rows   uint32
	made   []byte // sealed anew; nil: as it stands
	// dropped: a row went because the body is lost.
	dropped bool
	kept    bool // the disk does not give the body now: it stays as it is, without a row
}

type mendedBlob struct {
	rec    blobRec
	known  bool // it has a record
	bals   uint32
	key    secret
	hasKey bool
	looked bool
	whole  bool  // every frame was opened
	err    error // the file is missing or damaged
	kept   bool  // no BAL is known to have it, but its key may come back, or the disk give it: it keeps a record
}

func (r *repair) put(bucket string, k, v []byte) error {
	b := r.tx.Bucket([]byte(bucket))
	if b == nil {
		var err error
		if b, err = r.tx.CreateBucket([]byte(bucket)); err != nil {
			return err
		}
	}
	b.FillPercent = 0.9
	if err := b.Put(bytes.Clone(k), bytes.Clone(v)); err != nil {
		return err
	}
	if r.wrote++; r.wrote%repairBatch != 0 {
		return nil
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := r.tx.Commit(); err != nil {
		return err
	}
	var err error
	r.tx, err = r.db.Begin(true)
	return err
}

func (r *repair) putIn(bucket int, k, v []byte) error {
	return r.put(string(bucketNames[bucket]), k, v)
}

func (r *repair) each(bucket int, fn func(k, v []byte) error) error {
	return r.src.each(string(bucketNames[bucket]), fn)
}

func (r *repair) run() (err error) {
	for _, left := range []string{r.path, filepath.Join(r.opt.Dir, repairReportFile)} {
		if err := os.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store: %w", err)
		}
	}
	defer r.dropReport()
	// Without syncs: until it is whole and synced nobody looks at it.
	if r.db, err = openBolt(r.path, boltOptions{noSync: true}); err != nil {
		return err
	}
	defer func() {
		if r.tx != nil {
			_ = r.tx.Rollback()
		}
		if r.db != nil {
			err = errors.Join(err, r.db.Close())
			_ = os.Remove(r.path)
		}
	}()
	if err := r.db.Update(initIndex); err != nil {
		return err
	}
	if r.tx, err = r.db.Begin(true); err != nil {
		return err
	}
	for _, step := range []func() error{r.loadSys, r.loadBALs, r.loadBoxes, r.loadKeywords, r.loadPrefixes, r.loadBlobs,
		r.mendRows, r.mendExpunged, r.mendGone, r.rescue, r.mendMembers, r.mendSubs, r.mendAnnotations, r.writePrefixes, r.writeBlobs, r.writeBoxes, r.writeBALs,
		r.mendOnce, r.mendTrace, r.copyRest, r.writeSys} {
		if err := step(); err != nil {
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
	}
	for _, n := range r.src.lost {
		r.out.Pages += n
	}
	if r.out.Pages > 0 {
		r.note("%d pages or records of index.db cannot be read and are lost", r.out.Pages)
	}
	return r.end()
}

// end puts the new index into its place, when there is anything to change.
func (r *repair) end() error {
	err := r.tx.Commit()
	r.tx = nil
	if err = errors.Join(err, r.db.Sync(), r.db.Close()); err != nil {
		return err
	}
	r.db = nil
	if r.opt.DryRun || r.out.Count == 0 {
		return os.Remove(r.path)
	}
	if err := r.endReport(); err != nil {
		return err
	}
	if err := keepLost(r.opt.Dir, r.lost); err != nil {
		return err
	}
	r.out.Kept, err = swapIndex(r.opt.Dir, r.path, r.now)
	return err
}

func (r *repair) loadSys() error {
	err := r.each(bktSys, func(k, v []byte) error {
		if !bytes.Equal(k, sysKey) {
			return r.putIn(bktSys, k, v)
		}
		var err error
		if r.sys, err = decodeSys(v); errors.Is(err, ErrVersion) {
			return err
		}
		r.sysOK = err == nil
		return nil
	})
	if err != nil || r.sysOK {
		return err
	}
	second := uint64(r.now.Unix())
	r.sys = sysRec{Version: FormatVersion, Commits: nextEpoch(r.now), LastValidity: UIDValidity(second + validityLead)}
	r.note("the counters of the store are lost: made from what is there")
	spans, err := spansOf(r.opt.Dir)
	if err != nil || len(spans) == 0 {
		return err
	}
	ids, err := bodiesIn(r.opt.Dir, spans[len(spans)-1], 0)
	if len(ids) > 0 {
		r.sys.LastID = ids[len(ids)-1]
	}
	return err
}

// usable is a BAL that may be mended.
func (r *repair) usable(id BALID) *mendedBAL {
	if b := r.bals[id]; b != nil && !b.verbatim {
		return b
	}
	return nil
}

func (r *repair) verbatim(id BALID) bool { b := r.bals[id]; return b != nil && b.verbatim }

func (r *repair) loadBALs() error {
	slotOf := map[Address]BALID{} // only slots that open vouch for their address
	for n, s := range r.slots {
		if _, err := r.keys.bal(BALID(n)); err == nil && s.address != "" {
			slotOf[s.address] = max(slotOf[s.address], BALID(n))
		}
	}
	err := r.each(bktBAL, func(k, v []byte) error {
		b, err := decodeBAL(k, v)
		if err == nil && slotOf[b.Address] != 0 && slotOf[b.Address] != b.ID && r.keys.bals[b.ID] == nil {
			err = corrupt("a BAL under the number of another one")
		}
		if err != nil {
			r.setAside(bktBAL, k, v, err)
			return nil
		}
		_, kerr := r.keys.bal(b.ID)
		m := &mendedBAL{BAL: b, verbatim: kerr != nil || b.State == Destroyed}
		if s := r.slots[uint32(b.ID)]; !m.verbatim && (s.address != b.Address || s.kind != b.Kind) {
			r.note("BAL %d: it is %s %s, as its key says, not %s %s", b.ID, s.kind, s.address, b.Kind, b.Address)
			m.Address, m.Kind = s.address, s.kind
		}
		if kerr != nil && b.State != Destroyed {
			r.out.Unavailable = append(r.out.Unavailable, b.Address)
		}
		r.bals[b.ID] = m
		return nil
	})
	// BALs whose record is lost, but that have mailboxes or messages.
	for _, bucket := range []int{bktMailbox, bktRow, bktPrefix} {
		if err != nil {
			return err
		}
		err = r.each(bucket, func(k, _ []byte) error {
			if len(k) >= 8 && r.bals[balOfKey(k)] == nil {
				r.fromSlot(balOfKey(k))
			}
			return nil
		})
	}
	for id := range r.bals {
		r.sys.LastBAL = max(r.sys.LastBAL, id)
	}
	return err
}

// fromSlot makes the record of a BAL from its slot, which vouches for address and kind. What else it said is lost:
// it is suspended, so that the operator looks.
func (r *repair) fromSlot(id BALID) {
	s, ok := r.slots[uint32(id)]
	if _, err := r.keys.bal(id); !ok || err != nil {
		return
	}
	r.bals[id] = &mendedBAL{BAL: BAL{ID: id, Address: s.address, Kind: s.kind, State: Suspended, Listing: Published, Created: s.created}}
	r.note("BAL %s: its record was lost and is made again from its key; it is suspended, set state, listing, quota and hold as they should be", s.address)
}

func (r *repair) newValidity() UIDValidity {
	r.sys.LastValidity = max(r.sys.LastValidity, UIDValidity(r.now.Unix())) + 1
	return r.sys.LastValidity
}

func (r *repair) loadBoxes() error {
	names := map[BALID]map[string]bool{}
	validities := map[UIDValidity]bool{}
	err := r.each(bktMailbox, func(k, v []byte) error {
		rec, err := decodeBox(k, v)
		if keyIs(k, 8) && r.verbatim(balOfKey(k)) {
			r.sys.LastMailbox = max(r.sys.LastMailbox, refOfKey(k).Mailbox)
			validities[rec.UIDValidity] = true
			return r.putIn(bktMailbox, k, v)
		}
		if err == nil && r.bals[rec.BAL] == nil {
			err = errOrphan
		}
		if err != nil {
			r.setAside(bktMailbox, k, v, err)
			return nil
		}
		b := &mendedBox{boxRec: rec, was: rec}
		if err := r.keys.openBox(&b.boxRec); err != nil || checkName(b.Name) != nil {
			b.nameless = true
		} else if names[rec.BAL][b.Name] {
			b.nameless = true
		} else {
			b.was = b.boxRec
			if names[rec.BAL] == nil {
				names[rec.BAL] = map[string]bool{}
			}
			names[rec.BAL][b.Name] = true
		}
		r.boxes[rec.Mailbox] = b
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range sortedKeys(r.boxes) {
		b := r.boxes[id]
		r.sys.LastMailbox = max(r.sys.LastMailbox, id)
		if b.nameless {
			r.nameBox(b)
		}
		// LastValidity of a damaged store may be behind.
		if v := b.UIDValidity; v == 0 || validities[v] || r.sysOK && v > r.sys.LastValidity {
			b.UIDValidity = r.newValidity()
			r.note("mailbox %d: its UIDVALIDITY %d could not be right, it is %d now", id, v, b.UIDValidity)
		}
		validities[b.UIDValidity] = true
		r.sys.LastValidity = max(r.sys.LastValidity, b.UIDValidity)
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// nameBox names a mailbox whose name is lost. The one that was made first is INBOX: it is never deleted nor renamed.
func (r *repair) nameBox(b *mendedBox) {
	first, inbox, taken := true, false, map[string]bool{}
	for id, o := range r.boxes {
		if o.BAL != b.BAL || o == b {
			continue
		}
		first = first && b.Mailbox < id
		inbox = inbox || o.Name == "INBOX"
		taken[o.Name] = true
	}
	b.Name, b.SpecialUse = fmt.Sprintf("Recovered-%d", b.Mailbox), ""
	for n := 2; taken[b.Name]; n++ {
		b.Name = fmt.Sprintf("Recovered-%d-%d", b.Mailbox, n)
	}
	if first && !inbox {
		b.Name = "INBOX"
	}
	if err := r.keys.sealBox(&b.boxRec); err != nil {
		return
	}
	r.note("mailbox %d of %s: its name is lost, it is %s now", b.Mailbox, r.bals[b.BAL].Address, b.Name)
}

// boxOf is the mailbox of a row; one whose record is lost is made again.
func (r *repair) boxOf(ref Ref) *mendedBox {
	if b := r.boxes[ref.Mailbox]; b != nil {
		if b.BAL == ref.BAL {
			return b
		}
		return nil
	}
	if r.usable(ref.BAL) == nil || ref.Mailbox == 0 {
		return nil
	}
	b := &mendedBox{boxRec: boxRec{Ref: ref, UIDNext: 1, HighestModSeq: 1, RecentFrom: 1, UIDValidity: r.newValidity()}}
	r.boxes[ref.Mailbox] = b
	r.sys.LastMailbox = max(r.sys.LastMailbox, ref.Mailbox)
	r.nameBox(b)
	return b
}

func (r *repair) loadKeywords() error {
	return r.each(bktKeywords, func(k, v []byte) error {
		var words []string
		plain, err := openValue(nil, r.keys.values, string(bucketNames[bktKeywords]), k, v)
		if err == nil {
			words, err = decodeKeywords(plain)
		}
		if err != nil || !keyIs(k, 4) {
			r.setAside(bktKeywords, k, v, cmp.Or(err, corrupt("key of keywords")))
			return nil
		}
		set := setOfKey(k)
		r.words[set], r.sets[string(plain)] = words, set
		r.sys.LastKeywords = max(r.sys.LastKeywords, set)
		return r.putIn(bktKeywords, k, v)
	})
}

// intern is the number of a set of keywords, a new one where there is none.
func (r *repair) intern(words []string) (KeywordSet, error) {
	if len(words) == 0 {
		return 0, nil
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Compare(strings.ToLower(a), strings.ToLower(b)) })
	v := encodeKeywords(words)
	if set, ok := r.sets[string(v)]; ok {
		return set, nil
	}
	r.sys.LastKeywords++
	set := r.sys.LastKeywords
	r.words[set], r.sets[string(v)] = words, set
	k := keyKeywords(set)
	return set, r.putIn(bktKeywords, k, sealValue(nil, r.keys.values, string(bucketNames[bktKeywords]), k, v))
}
