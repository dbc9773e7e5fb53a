package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"mssd/trace"
)

// The format on disk, version 1, is described in docs/format.md. Keys are fixed-width and big-endian, so that
// their order is the order of time or of UIDs. What identifies people is sealed around what these functions write
// (sealed_value.go).

// FormatVersion is the version of the format that this code reads and writes.
const FormatVersion = 1

// Buckets of index.db.
const (
	bktSys        = iota // the counters of the store, one record
	bktBAL               // BAL → BAL
	bktMember            // BAL, member id → member
	bktMailbox           // BAL, mailbox → mailbox
	bktSub               // BAL, pseudonym of the name → name
	bktRow               // BAL, mailbox, UID → row
	bktGone              // BAL, mailbox, MODSEQ → UIDs expunged
	bktPrefix            // BAL, message → rows that use it, content key and prefix
	bktBlob              // message → size, BALs that hold it
	bktDead              // time, message → a body without a BAL
	bktKeywords          // keyword set → keywords
	bktOnce              // time, key → message
	bktTrace             // number → event
	bktExpunged          // BAL, time, mailbox, UID → a row that was expunged
	bktBackup            // id → backup
	bktAnnotation        // BAL, mailbox, pseudonym of person and path → annotation
	numBuckets
)

var bucketNames = [numBuckets][]byte{
	[]byte("sys"), []byte("bal"), []byte("member"), []byte("mailbox"), []byte("sub"), []byte("row"), []byte("gone"),
	[]byte("prefix"), []byte("blob"), []byte("dead"), []byte("keywords"), []byte("once"), []byte("trace"),
	[]byte("expunged"),
	[]byte("backup"),
	[]byte("annotation"),
}

var sysKey = []byte("sys")

func be32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func be64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func keyBAL(id BALID) []byte { return be32(make([]byte, 0, 4), uint32(id)) }

func keyMember(id BALID, member string) []byte {
	return append(be32(make([]byte, 0, 4+len(member)), uint32(id)), member...)
}

// keySub hides the name under a key of the BAL.
func keySub(id BALID, names *secret, name string) []byte {
	return append(be32(make([]byte, 0, 20), uint32(id)), shortMAC(names, "subscription", name)...)
}

func keyBox(r Ref) []byte { return appendRef(make([]byte, 0, 8), r) }

func appendRef(b []byte, r Ref) []byte { return be32(be32(b, uint32(r.BAL)), uint32(r.Mailbox)) }

func keyRow(r Ref, uid UID) []byte { return be32(appendRef(make([]byte, 0, 12), r), uint32(uid)) }

func keyGone(r Ref, m ModSeq) []byte { return be64(appendRef(make([]byte, 0, 16), r), uint64(m)) }

func keyPrefix(b BALID, id MessageID) []byte {
	return be64(be32(make([]byte, 0, 12), uint32(b)), uint64(id))
}

func keyID(id MessageID) []byte { return be64(make([]byte, 0, 8), uint64(id)) }

func keyDead(at time.Time, id MessageID) []byte {
	return be64(be64(make([]byte, 0, 16), uint64(at.Unix())), uint64(id))
}

func keyOnce(at time.Time, key [32]byte) []byte {
	return append(be64(make([]byte, 0, 40), uint64(at.Unix())), key[:]...)
}

func keyKeywords(k KeywordSet) []byte { return be32(make([]byte, 0, 4), uint32(k)) }

func keySeq(seq uint64) []byte { return be64(make([]byte, 0, 8), seq) }

// The parts of keys that are read back.
func uidOfKey(k []byte) UID        { return UID(binary.BigEndian.Uint32(k[8:12])) }
func refOfKey(k []byte) Ref        { return Ref{balOfKey(k), MailboxID(binary.BigEndian.Uint32(k[4:8]))} }
func balOfKey(k []byte) BALID      { return BALID(binary.BigEndian.Uint32(k[:4])) }
func modSeqOfKey(k []byte) ModSeq  { return ModSeq(binary.BigEndian.Uint64(k[8:16])) }
func idOfKey(k []byte) MessageID   { return MessageID(binary.BigEndian.Uint64(k[len(k)-8:])) }
func timeOfKey(k []byte) time.Time { return time.Unix(int64(binary.BigEndian.Uint64(k[:8])), 0).UTC() }
func seqOfKey(k []byte) uint64     { return binary.BigEndian.Uint64(k[:8]) }
func setOfKey(k []byte) KeywordSet { return KeywordSet(binary.BigEndian.Uint32(k[:4])) }
func keyIs(k []byte, n int) bool   { return len(k) == n }
func corrupt(what string) error    { return fmt.Errorf("%w: %s", ErrCorrupt, what) }
func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, math.MinInt64)
	}
	return binary.AppendVarint(b, t.Unix())
}

// dec takes values off the front of b; after the first fault it is bad and yields zeros.
type dec struct {
	b   []byte
	bad bool
}

func (d *dec) u() uint64 {
	v, n := binary.Uvarint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) u32() uint32 {
	v := d.u()
	if v > math.MaxUint32 {
		d.bad = true
		return 0
	}
	return uint32(v)
}

func (d *dec) u8() uint8 {
	v := d.u()
	if v > math.MaxUint8 {
		d.bad = true
		return 0
	}
	return uint8(v)
}

func (d *dec) i() int64 {
	v, n := binary.Varint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) time() time.Time {
	v := d.i()
	if d.bad || v == math.MinInt64 {
		return time.Time{}
	}
	return time.Unix(v, 0).UTC()
}

func (d *dec) str(limit int) string {
	n := d.u()
	if d.bad || n > uint64(limit) || n > uint64(len(d.b)) {
		d.bad = true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// more reports whether anything is left: a record that was written before a field was added at its end lacks it, and
// the field is then zero.
func (d *dec) more() bool { return !d.bad && len(d.b) > 0 }

func (d *dec) done(what string) error {
	if d.bad || len(d.b) != 0 {
		return corrupt(what)
	}
	return nil
}

// sysRec holds the counters of the store.
type sysRec struct {
	Version      uint64
	LastBAL      BALID
	LastMailbox  MailboxID
	LastKeywords KeywordSet
	LastValidity UIDValidity
	LastSeq      uint64    // of the trace
	LastID       trace.ID  // the greatest id committed
	Commits      uint64    // how many there were
	SweepTime    time.Time // clock that the sweep believes; see clock.go
}

func encodeSys(r sysRec) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 48), r.Version)
	b = binary.AppendUvarint(b, uint64(r.LastBAL))
	b = binary.AppendUvarint(b, uint64(r.LastMailbox))
	b = binary.AppendUvarint(b, uint64(r.LastKeywords))
	b = binary.AppendUvarint(b, uint64(r.LastValidity))
	b = binary.AppendUvarint(b, r.LastSeq)
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(r.LastID)), r.Commits)
	return appendTime(b, r.SweepTime)
}

func decodeSys(v []byte) (sysRec, error) {
	d := dec{b: v}
	r := sysRec{Version: d.u()}
	if !d.bad && r.Version != FormatVersion {
		return r, fmt.Errorf("%w: index.db has version %d, this program reads %d", ErrVersion, r.Version, FormatVersion)
	}
	r.LastBAL, r.LastMailbox = BALID(d.u32()), MailboxID(d.u32())
	r.LastKeywords, r.LastValidity = KeywordSet(d.u32()), UIDValidity(d.u32())
	r.LastSeq, r.LastID, r.Commits = d.u(), trace.ID(d.u()), d.u()
	if d.more() {
		r.SweepTime = d.time()
	}
	return r, d.done("sys record")
}

func encodeBAL(r BAL) []byte {
	b := appendString(make([]byte, 0, 96), string(r.Address))
	b = append(b, byte(r.Kind), byte(r.State), byte(r.Listing))
	b = appendString(b, r.Structure)
	b = appendTime(b, r.Created)
	for _, n := range [...]int64{r.QuotaOctets, r.QuotaMessages, r.Octets, r.Messages} {
		b = binary.AppendVarint(b, n)
	}
	b = appendTime(b, r.HeldSince)
	if d := r.Destroyed; !d.At.IsZero() || r.Use != (Use{}) || r.Told != (Told{}) {
		b = append(appendTime(b, d.At), boolByte(d.KeyGone)|boolByte(d.Wiped)<<1)
		b = binary.AppendUvarint(b, d.Commit)
	}
	if u := r.Use; u != (Use{}) || r.Told != (Told{}) {
		b = appendTime(appendTime(appendTime(b, u.Since), u.Last), u.Noticed)
	}
	if t := r.Told; t != (Told{}) {
		b = appendTime(appendString(b, t.Entry), t.At)
	}
	return b
}

func decodeBAL(k, v []byte) (BAL, error) {
	if !keyIs(k, 4) {
		return BAL{}, corrupt("key of a BAL")
	}
	d := dec{b: v}
	r := BAL{ID: balOfKey(k), Address: Address(d.str(maxText))}
	r.Kind, r.State, r.Listing = Kind(d.u8()), State(d.u8()), Listing(d.u8())
	r.Structure, r.Created = d.str(maxText), d.time()
	r.QuotaOctets, r.QuotaMessages, r.Octets, r.Messages = d.i(), d.i(), d.i(), d.i()
	if d.more() {
		r.HeldSince = d.time()
	}
	if d.more() {
		at, how := d.time(), d.u8()
		r.Destroyed = Destruction{At: at, KeyGone: how&1 != 0, Wiped: how&2 != 0}
	}
	if d.more() {
		r.Destroyed.Commit = d.u()
	}
	if r.Destroyed.At.IsZero() {
		r.Destroyed = Destruction{} // only what comes behind it is there
	}
	if d.more() {
		r.Use = Use{Since: d.time(), Last: d.time(), Noticed: d.time()}
	}
	if d.more() {
		r.Told = Told{Entry: d.str(maxTold), At: d.time()}
	}
	if (r.State == Destroyed) == r.Destroyed.At.IsZero() {
		d.bad = true
	}
	return r, d.done("BAL")
}

func encodeMember(m Member) []byte {
	b := append(make([]byte, 0, 160), byte(m.Role), boolByte(m.Ended))
	b = appendTime(appendTime(b, m.From), m.Until)
	return appendString(appendString(b, m.PasswordHash), m.SCRAM)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func decodeMember(k, v []byte) (BALID, Member, error) {
	if len(k) < 5 {
		return 0, Member{}, corrupt("key of a member")
	}
	d := dec{b: v}
	m := Member{ID: string(k[4:]), Role: Role(d.u8()), Ended: d.u8() == 1}
	m.From, m.Until = d.time(), d.time()
	m.PasswordHash = d.str(maxHash)
	if d.more() {
		m.SCRAM = d.str(maxHash)
	}
	return balOfKey(k), m, d.done("member")
}

// boxRec is what stands on disk of a mailbox.
type boxRec struct {
	Ref
	Name          string
	SpecialUse    string
	sealed        string // Name and SpecialUse as they stand on disk
	UIDValidity   UIDValidity
	UIDNext       UID
	HighestModSeq ModSeq
	Pruned        ModSeq // tombstones up to this one are gone
	Tombs         uint32 // tombstone entries kept
	Messages      uint32
	Unseen        uint32
	Deleted       uint32
	Octets        int64
	RecentFrom    UID        // messages from here on were announced to no session
	Keywords      KeywordSet // each keyword ever used in it
	RetentionDays uint32     // a message older than this in the mailbox is expunged; 0 none
}

func encodeBox(r *boxRec) []byte {
	b := appendString(make([]byte, 0, 160), r.sealed)
	for _, n := range [...]uint64{uint64(r.UIDValidity), uint64(r.UIDNext), uint64(r.HighestModSeq), uint64(r.Pruned),
		uint64(r.Tombs), uint64(r.Messages), uint64(r.Unseen), uint64(r.Deleted), uint64(r.Octets),
		uint64(r.RecentFrom), uint64(r.Keywords), uint64(r.RetentionDays)} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// decodeBox leaves the names sealed: keyring.openBox opens them.
func decodeBox(k, v []byte) (boxRec, error) {
	if !keyIs(k, 8) {
		return boxRec{}, corrupt("key of a mailbox")
	}
	d := dec{b: v}
	r := boxRec{Ref: refOfKey(k), sealed: d.str(MaxName + maxText + 100)}
	r.UIDValidity, r.UIDNext = UIDValidity(d.u32()), UID(d.u32())
	r.HighestModSeq, r.Pruned, r.Tombs = ModSeq(d.u()), ModSeq(d.u()), d.u32()
	r.Messages, r.Unseen, r.Deleted, r.Octets = d.u32(), d.u32(), d.u32(), int64(d.u())
	r.RecentFrom, r.Keywords = UID(d.u32()), KeywordSet(d.u32())
	if d.more() {
		r.RetentionDays = d.u32()
	}
	return r, d.done("mailbox")
}

// sealBox seals the names of a mailbox, when it is created or renamed.
func (k *keyring) sealBox(r *boxRec) error {
	v, err := k.seal(r.BAL, bktMailbox, keyBox(r.Ref), appendString(appendString(nil, r.Name), r.SpecialUse))
	r.sealed = string(v)
	return err
}

func (k *keyring) openBox(r *boxRec) error {
	v, err := k.open(r.BAL, bktMailbox, keyBox(r.Ref), []byte(r.sealed))
	if err != nil {
		return err
	}
	d := dec{b: v}
	r.Name, r.SpecialUse = d.str(MaxName), d.str(maxText)
	return d.done("name of a mailbox")
}

func (r *boxRec) mailbox() Mailbox {
	return Mailbox{Ref: r.Ref, Name: r.Name, SpecialUse: r.SpecialUse, UIDValidity: r.UIDValidity, UIDNext: r.UIDNext,
		HighestModSeq: r.HighestModSeq, Messages: r.Messages, Unseen: r.Unseen, Deleted: r.Deleted, Octets: r.Octets,
		RetentionDays: r.RetentionDays, Created: true}
}

// rowLen is the length of a row: message, MODSEQ, flags, keyword set, date, size, save date. A row of rowLenOld octets
// has no save date of its own: its date stands for it.
const (
	rowLenOld = 8 + 8 + 2 + 4 + 8 + 8
	rowLen    = rowLenOld + 8
)

// rowIs reports whether k and v have the lengths of a row.
func rowIs(k, v []byte) bool { return keyIs(k, 12) && (len(v) == rowLen || len(v) == rowLenOld) }

func encodeRow(r *Row) []byte {
	b := be64(be64(make([]byte, 0, rowLen), uint64(r.Message)), uint64(r.ModSeq))
	b = binary.BigEndian.AppendUint16(b, uint16(r.Flags))
	b = be32(b, uint32(r.Keywords))
	return be64(be64(be64(b, uint64(r.Date.Unix())), uint64(r.Size)), uint64(r.SaveDate.Unix()))
}

func decodeRow(k, v []byte) (Row, error) {
	if !rowIs(k, v) {
		return Row{}, corrupt("row")
	}
	r := Row{UID: uidOfKey(k), Message: MessageID(binary.BigEndian.Uint64(v)), ModSeq: rowModSeq(v),
		Flags: rowFlags(v), Keywords: KeywordSet(binary.BigEndian.Uint32(v[18:])),
		Date: unixTime(v[22:]), Size: int64(binary.BigEndian.Uint64(v[30:]))}
	r.SaveDate = r.Date
	if len(v) == rowLen {
		r.SaveDate = unixTime(v[rowLenOld:])
	}
	return r, nil
}

func unixTime(v []byte) time.Time { return time.Unix(int64(binary.BigEndian.Uint64(v)), 0).UTC() }

// rowModSeq and rowFlags look at one field of a row whose length was checked.
func rowModSeq(v []byte) ModSeq { return ModSeq(binary.BigEndian.Uint64(v[8:])) }
func rowFlags(v []byte) Flag    { return Flag(binary.BigEndian.Uint16(v[16:])) }

func encodeRuns(runs []Run) []byte {
	b := make([]byte, 0, 8*len(runs))
	for _, r := range runs {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(r.First)), uint64(r.Count))
	}
	return b
}

func decodeRuns(v []byte) ([]Run, error) {
	var runs []Run
	d := dec{b: v}
	for len(d.b) > 0 && !d.bad {
		r := Run{UID(d.u32()), d.u32()}
		if r.First == 0 || r.Count == 0 || uint64(r.First)+uint64(r.Count)-1 > math.MaxUint32 {
			d.bad = true
		}
		runs = append(runs, r)
	}
	return runs, d.done("UIDs of a tombstone")
}

// prefixRec is what a BAL holds of a message: the number of rows there that use it, and, sealed, the content key of
// the body and the prefix.
type prefixRec struct {
	Refs   uint32
	Sealed []byte
}

func encodePrefix(r prefixRec) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 5+len(r.Sealed)), uint64(r.Refs))
	return append(b, r.Sealed...)
}

// decodePrefix yields a record that lies in v.
func decodePrefix(v []byte) (prefixRec, error) {
	d := dec{b: v}
	r := prefixRec{Refs: d.u32()}
	if d.bad || len(d.b) < sealedMore+keyLen || len(d.b) > sealedMore+keyLen+MaxPrefix {
		return r, corrupt("prefix")
	}
	r.Sealed = d.b
	return r, nil
}

// sealPrefix makes the record of the first row of a BAL that uses a message.
func (k *keyring) sealPrefix(bal BALID, id MessageID, key *secret, prefix []byte) (prefixRec, error) {
	v, err := k.seal(bal, bktPrefix, keyPrefix(bal, id), append(key[:len(key):len(key)], prefix...))
	return prefixRec{1, v}, err
}

func (k *keyring) openPrefix(bal BALID, id MessageID, r prefixRec) (key secret, prefix []byte, err error) {
	v, err := k.open(bal, bktPrefix, keyPrefix(bal, id), r.Sealed)
	if err != nil {
		return key, nil, err
	}
	return secret(v[:keyLen]), v[keyLen:], nil
}

// blobRec is what the index knows of a body.
type blobRec struct {
	Size int64
	Refs uint32    // BALs that hold it
	Dead time.Time // when Refs became 0
}

func encodeBlob(r blobRec) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 24), uint64(r.Size))
	return appendTime(binary.AppendUvarint(b, uint64(r.Refs)), r.Dead)
}

func decodeBlob(v []byte) (blobRec, error) {
	d := dec{b: v}
	r := blobRec{Size: int64(d.u()), Refs: d.u32(), Dead: d.time()}
	if r.Size < 0 {
		d.bad = true
	}
	return r, d.done("blob record")
}

func encodeKeywords(words []string) []byte {
	var b []byte
	for _, w := range words {
		b = appendString(b, w)
	}
	return b
}

func decodeKeywords(v []byte) ([]string, error) {
	var words []string
	d := dec{b: v}
	for len(d.b) > 0 && !d.bad {
		words = append(words, d.str(maxKeyword))
	}
	return words, d.done("keywords")
}

func encodeEvent(e trace.Event) ([]byte, error) { return e.AppendBinary(nil) }

func decodeEvent(v []byte) (trace.Event, error) {
	e, err := trace.ParseEvent(v)
	if err != nil {
		return e, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return e, nil
}
