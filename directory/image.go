package directory

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sort"
	"strings"
	"time"
)

// image is what one feed says, immutable once published. Rows stand one after the other in one arena: the fields of
// Entry, each as its length (uvarint) and its octets. slots is an open hash table over the lower-case addresses: the
// upper half of the hash, then the offset of a row plus one; 0 is an empty slot. Rows of one address lie in one probe
// sequence. The half hash spares the way to the arena for rows of other addresses: that way is what a look-up costs.
type image struct {
	source     string
	generation uint64
	generated  time.Time // when the feed's data was made or its reading began
	stamp      string    // of the file that it was made from; "" not a file
	faults     int       // rows left out
	firstFault string
	kinds      map[string]int

	arena []byte
	slots []uint64
	seed  maphash.Seed
	n     int
}

const (
	entryFields = 7
	maxField    = 512     // octets of one field
	maxHolders  = 256     // rows of one address; the work for them grows with the square
	maxArena    = 1 << 30 // octets; offsets are 32 bits

	upperHalf = uint64(1<<32-1) << 32 // of a slot: hash
)

func (img *image) rows() int   { return img.n }
func (img *image) octets() int { return cap(img.arena) + 8*cap(img.slots) }

func (img *image) age(now time.Time) time.Duration { return max(now.Sub(img.generated), 0) }

// builder collects rows in the order in which they come.
type builder struct {
	arena []byte
	n     int
	kinds map[string]int
}

func newBuilder(rows int) *builder {
	return &builder{arena: make([]byte, 0, min(rows, 1<<20)*72), kinds: make(map[string]int)}
}

// add takes the fields in the order of Entry; the address is lower-cased here.
func (b *builder) add(f *[entryFields][]byte) error {
	if len(b.arena) > maxArena-entryFields*(maxField+2) {
		return fmt.Errorf("%w: rows of more than %d octets", ErrTooLarge, maxArena)
	}
	for _, v := range f {
		if len(v) > maxField/2 {
			return fmt.Errorf("%w: a field of %d octets", ErrTooLarge, len(v))
		}
	}
	var low [maxField]byte
	for i, v := range f {
		if i == 0 {
			v = appendLower(low[:0], v)
		}
		b.arena = binary.AppendUvarint(b.arena, uint64(len(v)))
		b.arena = append(b.arena, v...)
	}
	b.kinds[string(f[1])]++
	b.n++
	return nil
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

// image makes the hash table. The builder is not used any more.
func (b *builder) image() (*image, error) {
	img := &image{arena: b.arena, n: b.n, kinds: b.kinds, seed: maphash.MakeSeed()}
	if cap(b.arena) > len(b.arena)+len(b.arena)/8 {
		img.arena = append(make([]byte, 0, len(b.arena)), b.arena...)
	}
	return img, img.index()
}

// index fills slots from the arena; it is also the check of a loaded arena.
func (img *image) index() error {
	img.slots = make([]uint64, 1<<bits.Len(uint(img.n+img.n/2+1)))
	mask := uint64(len(img.slots) - 1)
	n := 0
	for at := 0; at < len(img.arena); n++ {
		addr, next, ok := img.skip(at)
		if !ok || n >= img.n {
			return fmt.Errorf("%w: rows are not as their header says", ErrImage)
		}
		h := maphash.Bytes(img.seed, addr)
		i, same := h&mask, 0
		for ; img.slots[i] != 0; i = (i + 1) & mask {
			if (img.slots[i]^h)&upperHalf == 0 {
				same++
			}
		}
		if same >= maxHolders {
			return fmt.Errorf("%w: more than %d rows of one address", ErrFormat, maxHolders)
		}
		img.slots[i] = h&upperHalf | uint64(at+1)
		at = next
	}
	if n != img.n {
		return fmt.Errorf("%w: %d rows instead of %d", ErrImage, n, img.n)
	}
	return nil
}

// skip gives the address of the row at an offset and the offset of the next one.
func (img *image) skip(at int) (addr []byte, next int, ok bool) {
	for i := range entryFields {
		l, n := binary.Uvarint(img.arena[at:])
		if n <= 0 || l > maxField || at+n+int(l) > len(img.arena) {
			return nil, 0, false
		}
		at += n
		if i == 0 {
			addr = img.arena[at : at+int(l)]
		}
		at += int(l)
	}
	return addr, at, true
}

// find calls fn with the offset of each row of a lower-case address, until fn says false.
func (img *image) find(addr []byte, fn func(at int) bool) {
	mask := uint64(len(img.slots) - 1)
	h := maphash.Bytes(img.seed, addr)
	for i := h & mask; img.slots[i] != 0; i = (i + 1) & mask {
		if (img.slots[i]^h)&upperHalf != 0 {
			continue
		}
		at := int(uint32(img.slots[i])) - 1
		l, n := binary.Uvarint(img.arena[at:])
		if string(img.arena[at+n:at+n+int(l)]) == string(addr) && !fn(at) {
			return
		}
	}
}

// has reports whether an address stands in the image, without allocating.
func (img *image) has(address string) bool {
	var low [maxField]byte
	if len(address) > maxField/2 {
		return false
	}
	found := false
	img.find(appendLower(low[:0], address), func(int) bool { found = true; return false })
	return found
}

func (img *image) appendEntries(rows []Entry, address string) []Entry {
	var low [maxField]byte
	if len(address) > maxField/2 {
		return rows
	}
	img.find(appendLower(low[:0], address), func(at int) bool {
		rows = append(rows, img.entry(at))
		return true
	})
	return rows
}

func (img *image) entry(at int) Entry {
	var f [entryFields]string
	for i := range f {
		l, n := binary.Uvarint(img.arena[at:])
		at += n
		f[i] = string(img.arena[at : at+int(l)])
		at += int(l)
	}
	return Entry{Address: f[0], Kind: f[1], StructureType: f[2], StructureID: f[3], PersonType: f[4], PersonID: f[5], Profession: f[6]}
}

// addresses calls fn with each distinct address.
func (img *image) addresses(fn func(addr []byte)) {
	for at := 0; at < len(img.arena); {
		addr, next, _ := img.skip(at)
		first := true
		img.find(addr, func(row int) bool {
			first = row >= at
			return first
		})
		if first {
			fn(addr)
		}
		at = next
	}
}

// LossError says what a refused feed has lost.
type LossError struct {
	Held, Lost int      // addresses
	Max        float64  // share allowed
	Domains    []string // that lost most, at most five, as "domain (lost of held)"
}

func (e *LossError) Error() string {
	return fmt.Sprintf("%v: %d of %d (%.1f %%, allowed %.1f %%); most at %s", ErrLoss, e.Lost, e.Held,
		100*float64(e.Lost)/float64(e.Held), 100*e.Max, strings.Join(e.Domains, ", "))
}

func (e *LossError) Unwrap() error { return ErrLoss }

// checkLoss refuses an image that lost more than a share of the addresses held.
func checkLoss(held, img *image, most float64) error {
	if most >= 1 {
		return nil
	}
	all, lost := 0, 0
	type tally struct{ held, lost int }
	domains := make(map[string]*tally)
	held.addresses(func(addr []byte) {
		all++
		gone := true
		img.find(addr, func(int) bool { gone = false; return false })
		domain := addr[strings.LastIndexByte(string(addr), '@')+1:]
		t := domains[string(domain)]
		if t == nil {
			t = &tally{}
			domains[string(domain)] = t
		}
		t.held++
		if gone {
			lost++
			t.lost++
		}
	})
	if lost == 0 || float64(lost) <= most*float64(all) {
		return nil
	}
	names := make([]string, 0, len(domains))
	for name := range domains {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := domains[names[i]], domains[names[j]]
		return a.lost > b.lost || a.lost == b.lost && names[i] < names[j]
	})
	e := &LossError{Held: all, Lost: lost, Max: most}
	for _, name := range names[:min(len(names), 5)] {
		if t := domains[name]; t.lost > 0 {
			e.Domains = append(e.Domains, fmt.Sprintf("%s (%d of %d)", name, t.lost, t.held))
		}
	}
	return e
}
