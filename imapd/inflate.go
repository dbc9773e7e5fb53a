package imapd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// errDeflate says that octets are no DEFLATE stream (RFC 1951).
var errDeflate = errors.New("imapd: corrupt DEFLATE stream")

const (
	inflateSource = 512      // octets of the read buffer below; TLS has one of its own
	windowSize    = 32 << 10 // octets: as far as DEFLATE refers back
	maxBits       = 15       // of a Huffman code
	fastBits      = 9        // codes up to this length are found at once
)

// inflater unpacks a DEFLATE stream as it comes (RFC 1951). It takes not a bit more of its source than it needs, and gives out
// every octet that is determined by what has come, so that a peer may flush in the shortest way (zlib's
// Z_PARTIAL_FLUSH, which RFC 4978, Section 4 allows and mutt uses): compress/flate of the standard library waits for a sync flush, that
// of klauspost/compress for ten bits behind a block. And it holds no more history than there is: a few hundred octets
// for a client that sends short commands.
type inflater struct {
	src   *bufio.Reader
	bits  uint64 // read and not used, the first one lowest
	n     uint   // how many
	win   []byte // the last octets given out: all of them, then a ring of windowSize
	at    int    // where the next one goes
	state inflateState
	final bool // this block is the last one
	left  int  // octets of a stored block, or of a copy, still to come
	dist  int  // of the copy
	codes *codes
	err   error
}

type inflateState uint8

const (
	inHead   inflateState = iota // a block begins
	inStored                     // within a stored block
	inCoded                      // within a Huffman block, between two symbols
	inCopy                       // within a copy
)

// codes are the two Huffman codes of a block.
type codes struct{ lit, dist huffman }

func newInflater(r io.Reader) *inflater {
	return &inflater{src: bufio.NewReaderSize(r, inflateSource)}
}

// Read waits for input only as long as it has nothing to give.
func (f *inflater) Read(p []byte) (n int, err error) {
	for n < len(p) && f.err == nil {
		got, more := f.step(p[n:], n == 0)
		if n += got; !more {
			break
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, f.err
	}
	return n, nil
}

// step does one thing: begins a block, gives a run of octets, takes a symbol. more is false when it would have to wait and
// may not.
func (f *inflater) step(p []byte, wait bool) (n int, more bool) {
	switch f.state {
	case inHead:
		return 0, f.head(wait)
	case inStored:
		return f.stored(p, wait)
	case inCopy:
		return f.copy(p), true
	}
	return f.symbol(p, wait)
}

// fill gets k bits, k up to 48; false when they are not there and it may not wait, or the source ends.
func (f *inflater) fill(k uint, wait bool) bool {
	for f.n < k {
		if !wait && f.src.Buffered() == 0 {
			return false
		}
		b, err := f.src.ReadByte()
		if err != nil {
			f.fail(err)
			return false
		}
		f.bits |= uint64(b) << f.n
		f.n += 8
	}
	return true
}

func (f *inflater) fail(err error) {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // a stream ends with its last block
	}
	f.err = err
}

// take uses k bits that are there.
func (f *inflater) take(k uint) uint {
	v := uint(f.bits & (1<<k - 1))
	f.bits >>= k
	f.n -= k
	return v
}

// head begins a block (RFC 1951, Section 3.2.3). What was unpacked before is given out first: the head may come slowly.
func (f *inflater) head(wait bool) bool {
	if f.final {
		f.err = io.EOF
		return false
	}
	if !f.fill(3, wait) {
		return false
	}
	kind := f.bits >> 1 & 3
	if kind != 1 && !wait {
		return false
	}
	f.final = f.take(1) == 1
	f.take(2)
	switch kind {
	case 0:
		return f.storedHead()
	case 1:
		f.codes, f.state = fixedCodes, inCoded
		return true
	case 2:
		return f.codesHead()
	}
	f.err = errDeflate
	return false
}

// RFC 1951, Section 3.2.4.
func (f *inflater) storedHead() bool {
	f.take(f.n & 7)
	if !f.fill(32, true) {
		return false
	}
	size, check := f.take(16), f.take(16)
	if size != check^0xffff {
		f.err = errDeflate
		return false
	}
	f.left, f.state = int(size), inStored
	return true
}

// stored gives octets of a stored block. The bits at hand are whole octets.
func (f *inflater) stored(p []byte, wait bool) (int, bool) {
	n := 0
	for ; n < len(p) && f.left > 0; n++ {
		if !f.fill(8, wait && n == 0) {
			return n, false
		}
		p[n] = byte(f.take(8))
		f.put(p[n])
		f.left--
	}
	if f.left == 0 {
		f.state = inHead
	}
	return n, true
}

// put notes an octet that is given out.
func (f *inflater) put(b byte) {
	if f.at == windowSize {
		f.at = 0
	}
	if f.at == len(f.win) {
		f.win = append(f.win, b) // the room grows with what was sent
	} else {
		f.win[f.at] = b
	}
	f.at++
}

func (f *inflater) copy(p []byte) int {
	n := min(f.left, len(p))
	for i := range n {
		from := f.at - f.dist
		if from < 0 {
			from += len(f.win)
		}
		p[i] = f.win[from]
		f.put(p[i])
	}
	if f.left -= n; f.left == 0 {
		f.state = inCoded
	}
	return n
}

// symbol takes a symbol with all its bits, or nothing of it.
func (f *inflater) symbol(p []byte, wait bool) (int, bool) {
	sym, used, ok := f.find(&f.codes.lit, 0, wait)
	switch {
	case !ok:
		return 0, false
	case sym < 256:
		f.take(used)
		p[0] = byte(sym)
		f.put(p[0])
		return 1, true
	case sym == 256:
		f.take(used)
		f.state = inHead
		return 0, true
	}
	return 0, f.reference(sym-257, used, wait)
}

// reference begins a copy from what was given out.
func (f *inflater) reference(sym int, used uint, wait bool) bool {
	if sym >= len(lengths) {
		f.err = errDeflate
		return false
	}
	l := lengths[sym]
	if !f.fill(used+l.extra, wait) {
		return false
	}
	length := l.base + int(f.bits>>used&(1<<l.extra-1))
	used += l.extra
	sym, used, ok := f.find(&f.codes.dist, used, wait)
	if !ok {
		return false
	}
	if sym >= len(distances) {
		f.err = errDeflate
		return false
	}
	d := distances[sym]
	if !f.fill(used+d.extra, wait) {
		return false
	}
	dist := d.base + int(f.bits>>used&(1<<d.extra-1))
	if dist > len(f.win) {
		f.err = errDeflate
		return false
	}
	f.take(used + d.extra)
	f.left, f.dist, f.state = length, dist, inCopy
	return true
}

// find finds the symbol that begins behind the first skip bits, and where it ends.
func (f *inflater) find(h *huffman, skip uint, wait bool) (sym int, end uint, ok bool) {
	for have := skip; ; {
		if f.n > have {
			have = f.n
			if sym, length := h.find(f.bits>>skip, min(have-skip, maxBits)); length > 0 {
				return sym, skip + length, true
			} else if length == 0 && have-skip >= maxBits {
				f.err = errDeflate
				return 0, 0, false
			}
		}
		if !f.fill(have+1, wait) {
			return 0, 0, false
		}
	}
}

// codesHead reads the codes of a block (RFC 1951, Section 3.2.7).
func (f *inflater) codesHead() bool {
	if !f.fill(14, true) {
		return false
	}
	nlit, ndist, nlen := int(f.take(5))+257, int(f.take(5))+1, int(f.take(4))+4
	if nlit > 286 || ndist > 30 {
		f.err = errDeflate
		return false
	}
	var sizes [286 + 30]uint8
	for i := range nlen {
		if !f.fill(3, true) {
			return false
		}
		sizes[lengthOrder[i]] = uint8(f.take(3))
	}
	if f.codes == nil || f.codes == fixedCodes {
		f.codes = new(codes)
	}
	if !f.codes.lit.set(sizes[:19]) || !f.codeSizes(sizes[:nlit+ndist]) {
		if f.err == nil {
			f.err = errDeflate
		}
		return false
	}
	if !f.codes.lit.set(sizes[:nlit]) || !f.codes.dist.set(sizes[nlit:nlit+ndist]) {
		f.err = errDeflate
		return false
	}
	f.state = inCoded
	return true
}

// codeSizes reads the lengths of the codes, in the code that lit holds meanwhile.
func (f *inflater) codeSizes(sizes []uint8) bool {
	for i := 0; i < len(sizes); {
		sym, used, ok := f.find(&f.codes.lit, 0, true)
		if !ok {
			return false
		}
		f.take(used)
		if sym < 16 {
			sizes[i] = uint8(sym)
			i++
			continue
		}
		r := repeats[sym-16]
		if !f.fill(r.extra, true) {
			return false
		}
		count, size := r.base+int(f.take(r.extra)), uint8(0)
		if sym == 16 {
			if i == 0 {
				return false
			}
			size = sizes[i-1]
		}
		if i+count > len(sizes) {
			return false
		}
		for range count {
			sizes[i] = size
			i++
		}
	}
	return true
}

// huffman is a canonical code (RFC 1951, Section 3.2.2).
type huffman struct {
	counts [maxBits + 1]uint16   // codes of each length
	syms   [288]uint16           // symbols in the order of their codes
	fast   [1 << fastBits]uint16 // by the next bits: symbol<<4 | length; 0: a longer code, or none
}

// set makes the code of the lengths of its symbols. False: they are those of none. One code alone may have one bit.
func (h *huffman) set(sizes []uint8) bool {
	h.counts, h.fast = [maxBits + 1]uint16{}, [1 << fastBits]uint16{}
	for _, s := range sizes {
		h.counts[s]++
	}
	h.counts[0] = 0
	var next, code [maxBits + 2]uint16 // place among the symbols, and code, of the first of each length
	left, total := 1, uint16(0)
	for l := 1; l <= maxBits; l++ {
		left = left<<1 - int(h.counts[l])
		if left < 0 {
			return false
		}
		next[l+1] = next[l] + h.counts[l]
		code[l+1] = (code[l] + h.counts[l]) << 1
		total += h.counts[l]
	}
	if left > 0 && total > 0 && !(total == 1 && h.counts[1] == 1) {
		return false
	}
	for sym, s := range sizes {
		if s == 0 {
			continue
		}
		h.syms[next[s]] = uint16(sym)
		next[s]++
		if s <= fastBits {
			for i := int(reversed(code[s], s)); i < len(h.fast); i += 1 << s {
				h.fast[i] = uint16(sym)<<4 | uint16(s)
			}
		}
		code[s]++
	}
	return true
}

// reversed is the code as it stands in the stream, its first bit lowest.
func reversed(code uint16, size uint8) (r uint16) {
	for range size {
		r = r<<1 | code&1
		code >>= 1
	}
	return r
}

// find finds the symbol that the first of n bits are the code of, and its length; 0: more bits are needed, or there is none.
func (h *huffman) find(bits uint64, n uint) (sym int, length uint) {
	if e := h.fast[bits&(1<<fastBits-1)]; e != 0 {
		if l := uint(e & 15); l <= n {
			return int(e >> 4), l
		}
		return 0, 0
	}
	code, first, index := 0, 0, 0
	for l := uint(1); l <= n; l++ {
		code |= int(bits >> (l - 1) & 1)
		count := int(h.counts[l])
		if code-first < count {
			return int(h.syms[index+code-first]), l
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0
}

// extended is a value with further bits.
type extended struct {
	base  int
	extra uint
}

// RFC 1951, Sections 3.2.5 and 3.2.7.
var (
	lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	repeats     = [3]extended{{3, 2}, {3, 3}, {11, 7}}
	lengths     = [29]extended{{3, 0}, {4, 0}, {5, 0}, {6, 0}, {7, 0}, {8, 0}, {9, 0}, {10, 0}, {11, 1}, {13, 1}, {15, 1}, {17, 1}, {19, 2}, {23, 2},
		{27, 2}, {31, 2}, {35, 3}, {43, 3}, {51, 3}, {59, 3}, {67, 4}, {83, 4}, {99, 4}, {115, 4}, {131, 5}, {163, 5}, {195, 5}, {227, 5}, {258, 0}}
	distances = [30]extended{{1, 0}, {2, 0}, {3, 0}, {4, 0}, {5, 1}, {7, 1}, {9, 2}, {13, 2}, {17, 3}, {25, 3}, {33, 4}, {49, 4}, {65, 5}, {97, 5},
		{129, 6}, {193, 6}, {257, 7}, {385, 7}, {513, 8}, {769, 8}, {1025, 9}, {1537, 9}, {2049, 10}, {3073, 10}, {4097, 11}, {6145, 11},
		{8193, 12}, {12289, 12}, {16385, 13}, {24577, 13}}
)

// fixedCodes are those of RFC 1951, Section 3.2.6.
var fixedCodes = func() *codes {
	var lit [288]uint8
	for i := range lit {
		switch {
		case i < 144, i >= 280:
			lit[i] = 8
		case i < 256:
			lit[i] = 9
		default:
			lit[i] = 7
		}
	}
	c := new(codes)
	var dist [32]uint8
	for i := range dist {
		dist[i] = 5
	}
	c.lit.set(lit[:])
	c.dist.set(dist[:])
	return c
}()

// lastBlock is text, of less than 64 KiB, as the last block of a DEFLATE stream, not compressed (RFC 1951, Section 3.2.4).
func lastBlock(text string) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{1}, uint16(len(text)))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(text)))
	return append(b, text...)
}
