package directory

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"math/bits"
	"strings"
	"time"
)

// image is what one feed says, immutable once published: a base, what was changed since it was built, and where both
// come from. A change publishes a new image over the same base.
type image struct {
	*base
	delta *delta // nil: nothing was changed

	source     string
	generation uint64    // of the base
	generated  time.Time // when the feed's data was made, its reading began, or it was last in step
	changed    time.Time // when something in it last changed
	stamp      string    // of the file that it was made from; "" not a file
	cookie     []byte    // of RFC 4533; nil: none
	faults     int       // rows left out
	firstFault string
	doubt      error // why the feed itself would rather not see it in force
	reference  reference

	saved *draft // the file that is being written; nil: none
}

// reference is what a fall of the number of rows is measured against: their number at the beginning of a day.
type reference struct {
	Rows int       `json:"rows"`
	At   time.Time `json:"at"`
}

// base is the rows of a whole reading. Rows stand one after the other in one arena: the first fields of a record and its
// key, each as its length (uvarint) and its octets. slots is an open hash table over the lower-case addresses: the upper
// half of the hash, then the offset of a row plus one; 0 is an empty slot. Rows of one address lie in one probe sequence.
// The half hash spares the way to the arena for rows of other addresses: that way is what a look-up costs. byKey is the
// same over the keys; nil where there are none.
type base struct {
	arena []byte
	slots []uint64
	byKey []uint64
	seed  maphash.Seed
	n     int
	kinds map[string]int
	sum   [32]byte // of its file; zero: not kept
}

const (
	// Fields of a record. The first ones are held in memory, the others stand in the file only, for Find.
	fieldAddress = iota
	fieldKind
	fieldStructureType
	fieldStructureID
	fieldPersonType
	fieldPersonID
	fieldProfession
	fieldName
	fieldGivenName
	fieldStructureName
	fieldService
	fieldPostcode
	fieldTown
	fieldTradeName
	recordFields
)

const (
	entryFields = fieldProfession + 1
	arenaFields = entryFields + 1 // and the key

	maxField   = 512     // octets of one field
	maxKey     = 64      // octets of a key
	maxText    = 160     // octets of a field that is not held in memory; more are cut off
	maxHolders = 256     // rows of one address; the work for them grows with the square
	maxArena   = 1 << 30 // octets; offsets are 32 bits

	upperHalf = uint64(1<<32-1) << 32 // of a slot: hash
)

// record is a row as a feed has it, in the order of the constants above; the address as it came.
type record [recordFields][]byte

func (img *image) rows() int {
	if img.delta == nil {
		return img.n
	}
	return img.n + img.delta.added - img.delta.masked
}

func (img *image) octets() int {
	n := cap(img.arena) + 8*(cap(img.slots)+cap(img.byKey))
	if img.delta != nil {
		n += img.delta.octets
	}
	return n
}

// rowKinds counts the rows of each type.
func (img *image) rowKinds() map[string]int {
	if img.delta == nil {
		return img.kinds
	}
	kinds := maps.Clone(img.kinds)
	for k, n := range img.delta.kinds {
		if kinds[k] += n; kinds[k] == 0 {
			delete(kinds, k)
		}
	}
	return kinds
}

func (img *image) age(now time.Time) time.Duration { return max(now.Sub(img.generated), 0) }

// keyed reports whether the rows have keys, so that changes can be told by them.
func (img *image) keyed() bool { return img.byKey != nil }

// builder collects rows in the order in which they come.
type builder struct {
	arena []byte
	n     int
	keys  int
	kinds map[string]int
	draft *draft // nil: the rows are kept in memory only
}

// newBuilder makes one that keeps no file.
func newBuilder(rows int) *builder {
	return &builder{arena: make([]byte, 0, min(rows, 1<<20)*72), kinds: make(map[string]int)}
}

// add takes a row and its key, nil for none. The address is lower-cased here.
func (b *builder) add(key []byte, f *record) error {
	if len(b.arena) > maxArena-arenaFields*(maxField+2) {
		return fmt.Errorf("%w: rows of more than %d octets", ErrTooLarge, maxArena)
	}
	for _, v := range f[:entryFields] {
		if len(v) > maxField/2 {
			return fmt.Errorf("%w: a field of %d octets", ErrTooLarge, len(v))
		}
	}
	if len(key) > maxKey {
		return fmt.Errorf("%w: a key of %d octets", ErrTooLarge, len(key))
	}
	at := len(b.arena)
	b.arena = appendCore(b.arena, key, f)
	b.draft.row(b.arena[at:], f)
	b.count(string(f[fieldKind]), len(key) > 0)
	return nil
}

func (b *builder) count(kind string, keyed bool) {
	b.kinds[kind]++
	b.n++
	if keyed {
		b.keys++
	}
}

// appendCore writes the part of a row that is held in memory.
func appendCore(dst, key []byte, f *record) []byte {
	var low [maxField]byte
	for i, v := range f[:entryFields] {
		if i == fieldAddress {
			v = appendLower(low[:0], v)
		}
		dst = appendField(dst, v)
	}
	return appendField(dst, key)
}

func appendField(dst, v []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
}

// appendText writes the rest of a row.
func appendText(dst []byte, f *record) []byte {
	for _, v := range f[entryFields:] {
		if len(v) > maxText {
			v = v[:maxText] // in the middle of a letter perhaps: Find mends it
		}
		dst = appendField(dst, v)
	}
	return dst
}

// appendLower folds case: ASCII octet by octet, anything else as text.
func appendLower[T string | []byte](dst []byte, s T) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x80 {
			return append(dst[:len(dst)-i], strings.ToLower(string(s))...)
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// image makes the hash tables. The builder is not used any more.
func (b *builder) image() (*image, error) {
	img := &image{base: &base{arena: b.arena, n: b.n, kinds: b.kinds, seed: maphash.MakeSeed()}, saved: b.draft}
	if cap(b.arena) > len(b.arena)+len(b.arena)/8 {
		img.arena = append(make([]byte, 0, len(b.arena)), b.arena...)
	}
	if err := img.index(b.keys > 0); err != nil {
		b.abandon()
		return nil, err
	}
	return img, nil
}

// abandon drops what was built; it may be called again, and after image.
func (b *builder) abandon() { b.draft.drop() }

// index fills the tables from the arena; it is also the check of a loaded arena.
func (t *base) index(keys bool) error {
	t.slots = make([]uint64, 1<<bits.Len(uint(t.n+t.n/2+1)))
	if keys {
		t.byKey = make([]uint64, len(t.slots))
	}
	n := 0
	for at := 0; at < len(t.arena); n++ {
		addr, key, next, ok := t.skip(at)
		if !ok || n >= t.n {
			return fmt.Errorf("%w: rows are not as their header says", ErrImage)
		}
		if t.put(t.slots, addr, at) >= maxHolders {
			return fmt.Errorf("%w: more than %d rows of one address", ErrFormat, maxHolders)
		}
		if keys && len(key) > 0 && t.put(t.byKey, key, at) >= maxHolders {
			return fmt.Errorf("%w: more than %d rows of one key", ErrFormat, maxHolders)
		}
		at = next
	}
	if n != t.n {
		return fmt.Errorf("%w: %d rows instead of %d", ErrImage, n, t.n)
	}
	return nil
}

// put enters an offset into a table and gives the number of those that were under the same half hash.
func (t *base) put(slots []uint64, name []byte, at int) (same int) {
	mask := uint64(len(slots) - 1)
	h := maphash.Bytes(t.seed, name)
	i := h & mask
	for ; slots[i] != 0; i = (i + 1) & mask {
		if (slots[i]^h)&upperHalf == 0 {
			same++
		}
	}
	slots[i] = h&upperHalf | uint64(at+1)
	return same
}

// skip gives address and key of the row at an offset, and the offset of the next one.
func (t *base) skip(at int) (addr, key []byte, next int, ok bool) {
	for i := range arenaFields {
		l, n := binary.Uvarint(t.arena[at:])
		if n <= 0 || l > maxField || at+n+int(l) > len(t.arena) {
			return nil, nil, 0, false
		}
		at += n
		switch i {
		case fieldAddress:
			addr = t.arena[at : at+int(l)]
		case entryFields:
			key = t.arena[at : at+int(l)]
		}
		at += int(l)
	}
	return addr, key, at, true
}

// find calls fn with the offset of each row of the base under a lower-case address, until fn says false.
func (t *base) find(addr []byte, fn func(at int) bool) {
	mask := uint64(len(t.slots) - 1)
	h := maphash.Bytes(t.seed, addr)
	for i := h & mask; t.slots[i] != 0; i = (i + 1) & mask {
		if (t.slots[i]^h)&upperHalf != 0 {
			continue
		}
		at := int(uint32(t.slots[i])) - 1
		l, n := binary.Uvarint(t.arena[at:])
		if string(t.arena[at+n:at+n+int(l)]) == string(addr) && !fn(at) {
			return
		}
	}
}

// findKey calls fn with the offset of each row of the base under a key.
func (t *base) findKey(key string, fn func(at int)) {
	if t.byKey == nil {
		return
	}
	mask := uint64(len(t.byKey) - 1)
	h := maphash.String(t.seed, key)
	for i := h & mask; t.byKey[i] != 0; i = (i + 1) & mask {
		if (t.byKey[i]^h)&upperHalf != 0 {
			continue
		}
		at := int(uint32(t.byKey[i])) - 1
		if _, k, _, _ := t.skip(at); string(k) == key {
			fn(at)
		}
	}
}

// row is one row that a look-up found; it points into the image.
type row struct{ octets []byte }

// fields gives the fields that are held in memory, without a copy.
func (r row) fields() (f [entryFields][]byte) {
	at := 0
	for i := range f {
		l, n := binary.Uvarint(r.octets[at:])
		at += n
		f[i] = r.octets[at : at+int(l)]
		at += int(l)
	}
	return f
}

// key gives the key of a row, empty for none.
func (r row) key() []byte {
	at := 0
	for range entryFields {
		l, n := binary.Uvarint(r.octets[at:])
		at += n + int(l)
	}
	l, n := binary.Uvarint(r.octets[at:])
	return r.octets[at+n : at+n+int(l)]
}

func (r row) entry() Entry {
	f := r.fields()
	return Entry{Address: string(f[0]), Kind: string(f[1]), StructureType: string(f[2]), StructureID: string(f[3]),
		PersonType: string(f[4]), PersonID: string(f[5]), Profession: string(f[6])}
}

// each calls fn with each row of a lower-case address, until fn says false. It does not allocate.
func (img *image) each(addr []byte, fn func(row) bool) {
	more := true
	img.find(addr, func(at int) bool {
		if img.delta != nil {
			if _, key, _, _ := img.skip(at); img.delta.has(key) {
				return true // there is a newer word on it
			}
		}
		more = fn(row{img.arena[at:]})
		return more
	})
	if more && img.delta != nil {
		img.delta.each(addr, fn)
	}
}

// has reports whether an address stands in the image, without allocating.
func (img *image) has(address string) bool {
	var low [maxField]byte
	if len(address) > maxField/2 {
		return false
	}
	found := false
	img.each(appendLower(low[:0], address), func(row) bool { found = true; return false })
	return found
}

func (img *image) appendEntries(rows []Entry, address string) []Entry {
	var low [maxField]byte
	if len(address) > maxField/2 {
		return rows
	}
	img.each(appendLower(low[:0], address), func(r row) bool {
		rows = append(rows, r.entry())
		return true
	})
	return rows
}

// all calls fn with each row of the base that no change has replaced, then with each changed one.
func (img *image) all(fn func(addr []byte, key string, r row)) {
	for at := 0; at < len(img.arena); {
		addr, key, next, _ := img.skip(at)
		if img.delta == nil || !img.delta.has(key) {
			fn(addr, string(key), row{img.arena[at:next]})
		}
		at = next
	}
	if img.delta != nil {
		img.delta.all(fn)
	}
}

// addresses calls fn with each distinct address.
func (img *image) addresses(fn func(addr []byte)) {
	img.all(func(addr []byte, _ string, r row) {
		first := true
		img.each(addr, func(other row) bool {
			first = &other.octets[0] == &r.octets[0]
			return false
		})
		if first {
			fn(addr)
		}
	})
}

// eachKey calls fn with each key once for each of its rows.
func (img *image) eachKey(fn func(key []byte)) {
	img.all(func(_ []byte, key string, _ row) {
		if key != "" {
			fn([]byte(key))
		}
	})
}
