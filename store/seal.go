package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A body on disk, written front to back (docs/format.md):
//
//	frames    each 64 KiB of the body, the last one less: zstd or raw, sealed with AES-256-GCM
//	table     the last frame: size of the body, lengths of the frames; sealed like these
//	header    id, time, the content key wrapped for each BAL that received it, HMAC-SHA256 of all that
//	foot      lengths of header and table, number of frames, magic, version
//
// The header stands behind the frames because the receivers are known only when all octets have streamed by.
const (
	frameLen  = 64 << 10 // octets of a body in one frame
	keyLen    = 32       // of all keys
	tagLen    = 16       // of AES-GCM
	nonceLen  = 12
	footLen   = 16
	wrapLen   = nonceLen + keyLen + tagLen
	entryLen  = 4 + wrapLen           // a receiver in the header
	headLen   = 1 + 8 + 8 + 4         // the header before its receivers
	macLen    = sha256.Size           //
	maxSealed = 1 + frameLen + tagLen // octets of a sealed frame
	maxHeader = 1 << 24
	maxTable  = 1 << 24
	footMagic = "msb"
)

// How the plain text of a frame begins.
const (
	frameRaw  = 0
	frameZstd = 1
)

// secret is a key. It never shows itself in a log or an error.
type secret [keyLen]byte

// Format prints no octet of it, whatever the verb.
func (secret) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

func newSecret() (s secret) {
	rand.Read(s[:]) // never fails
	return s
}

// derive is the subkey for a purpose: HKDF-SHA256 (RFC 5869) without salt.
func (s *secret) derive(purpose string) (sub secret) {
	k, err := hkdf.Key(sha256.New, s[:], nil, "mssd 1 "+purpose, keyLen)
	if err != nil {
		panic(err) // only for lengths beyond those of the hash
	}
	copy(sub[:], k)
	return sub
}

// gcm is AES-256-GCM under the subkey for a purpose; the caller brings nonces.
func (s *secret) gcm(purpose string) cipher.AEAD {
	sub := s.derive(purpose)
	block, err := aes.NewCipher(sub[:])
	if err != nil {
		panic(err) // only for other lengths of key
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return g
}

// randomGCM is like gcm, with random nonces that stand before what was sealed.
func (s *secret) randomGCM(purpose string) cipher.AEAD {
	sub := s.derive(purpose)
	block, err := aes.NewCipher(sub[:])
	if err != nil {
		panic(err)
	}
	g, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return g
}

// codec packs frames. It is safe for concurrent use.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(frameLen),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(frameLen),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	return &codec{enc, dec}, err
}

func (c *codec) close() { c.dec.Close() }

// plainBuffers hold a frame before it is sealed or after it was opened, sealedBuffers a sealed one.
var (
	plainBuffers  = sync.Pool{New: func() any { b := make([]byte, 0, frameLen); return &b }}
	sealedBuffers = sync.Pool{New: func() any { b := make([]byte, 0, frameLen+1024); return &b }}
)

// sealer turns octets into sealed frames. One goroutine uses it.
type sealer struct {
	c     *codec
	id    uint64
	key   secret
	aead  cipher.AEAD
	plain *[]byte  // the frame that is being filled
	out   *[]byte  // sealed octets that nobody took yet
	sizes []uint32 // of the sealed frames
	size  int64    // octets of the body
	table int      // octets of the sealed table
}

// newSealer begins a body under a content key of its own: nonces are numbers, so a key must never be used for
// another one.
func newSealer(c *codec, id uint64, key secret) *sealer {
	s := &sealer{c: c, id: id, key: key, aead: key.gcm("body frames"), plain: plainBuffers.Get().(*[]byte), out: sealedBuffers.Get().(*[]byte)}
	*s.plain, *s.out = (*s.plain)[:0], (*s.out)[:0]
	return s
}

// fill takes octets until a frame is full; n is how many.
func (s *sealer) fill(p []byte) (n int) {
	n = min(len(p), frameLen-len(*s.plain))
	*s.plain = append(*s.plain, p[:n]...)
	s.size += int64(n)
	if len(*s.plain) == frameLen {
		s.frame()
	}
	return n
}

// frame seals what was filled in.
func (s *sealer) frame() {
	out := *s.out
	at := len(out)
	out = s.c.enc.EncodeAll(*s.plain, append(out, frameZstd))
	if len(out)-at-1 >= len(*s.plain) {
		out = append(append(out[:at], frameRaw), *s.plain...)
	}
	*s.out = s.seal(out, at, false)
	s.sizes = append(s.sizes, uint32(len(*s.out)-at))
	*s.plain = (*s.plain)[:0]
}

// seal seals the octets from at on in place, as the next frame.
func (s *sealer) seal(b []byte, at int, last bool) []byte {
	nonce, aad := frameNonce(uint64(len(s.sizes)), last), frameAAD(s.id, uint64(len(s.sizes)))
	b = slices.Grow(b, tagLen)
	return s.aead.Seal(b[:at], nonce[:], b[at:], aad[:])
}

// finish seals the rest and the table.
func (s *sealer) finish() {
	if len(*s.plain) > 0 {
		s.frame()
	}
	at := len(*s.out)
	t := binary.AppendUvarint(*s.out, uint64(s.size))
	for _, n := range s.sizes {
		t = binary.AppendUvarint(t, uint64(n))
	}
	*s.out = s.seal(t, at, true)
	s.table = len(*s.out) - at
	plainBuffers.Put(s.plain)
	s.plain = nil
}

// receiver is a BAL that gets the content key.
type receiver struct {
	bal  BALID
	wrap cipher.AEAD // randomGCM
}

// address appends header and foot: after it the body is complete.
func (s *sealer) address(at time.Time, to []receiver) {
	out := *s.out
	from := len(out)
	out = append(out, FormatVersion)
	out = be64(be64(out, s.id), uint64(at.Unix()))
	out = be32(out, uint32(len(to)))
	for _, r := range to {
		out = be32(out, uint32(r.bal))
		aad := wrapAAD(s.id, r.bal)
		out = r.wrap.Seal(out, nil, s.key[:], aad[:])
	}
	out = append(out, headerMAC(&s.key, out[from:])...)
	out = be32(be32(be32(out, uint32(len(out)-from)), uint32(s.table)), uint32(len(s.sizes)))
	*s.out = append(append(out, footMagic...), FormatVersion)
}

// release gives the buffers back; nothing may be asked afterwards.
func (s *sealer) release() {
	if s.plain != nil {
		plainBuffers.Put(s.plain)
	}
	if s.out != nil && cap(*s.out) <= 4*frameLen {
		sealedBuffers.Put(s.out)
	}
	s.plain, s.out, s.aead, s.key = nil, nil, nil, secret{}
}

// frameNonce is the number of a frame with a bit for the last one.
func frameNonce(n uint64, last bool) (nonce [nonceLen]byte) {
	if last {
		nonce[0] = 1
	}
	binary.BigEndian.PutUint64(nonce[4:], n)
	return nonce
}

func frameAAD(id, n uint64) (aad [17]byte) {
	aad[0] = FormatVersion
	binary.BigEndian.PutUint64(aad[1:], id)
	binary.BigEndian.PutUint64(aad[9:], n)
	return aad
}

// wrapAAD binds a wrapped content key to its body and its BAL.
func wrapAAD(id uint64, bal BALID) (aad [13]byte) {
	aad[0] = FormatVersion
	binary.BigEndian.PutUint64(aad[1:], id)
	binary.BigEndian.PutUint32(aad[9:], uint32(bal))
	return aad
}

func headerMAC(key *secret, b []byte) []byte {
	sub := key.derive("body header")
	m := hmac.New(sha256.New, sub[:])
	m.Write(b)
	return m.Sum(nil)
}

// foot is the end of a sealed body. Nothing authenticates it, and nothing has to: with other numbers in it neither
// table nor header open.
type foot struct {
	header, table int64 // octets
	frames        int64
}

func parseFoot(b []byte) (foot, error) {
	if len(b) != footLen || string(b[12:15]) != footMagic {
		return foot{}, corrupt("end of a body")
	}
	if b[15] != FormatVersion {
		return foot{}, fmt.Errorf("%w: a body has version %d, this program reads %d", ErrVersion, b[15], FormatVersion)
	}
	f := foot{int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:])), int64(binary.BigEndian.Uint32(b[8:]))}
	if f.header < headLen+macLen || f.header > maxHeader || (f.header-headLen-macLen)%entryLen != 0 || f.table < 1+tagLen || f.table > maxTable {
		return foot{}, corrupt("end of a body")
	}
	return f, nil
}

// bodyHeader says who received a body, and when.
type bodyHeader struct {
	id   uint64
	time time.Time
	to   []wrapped
	raw  []byte // the whole header
}

// wrapped is a content key under the key of a BAL.
type wrapped struct {
	bal BALID
	key []byte
}

func parseHeader(b []byte) (h bodyHeader, err error) {
	if len(b) < headLen+macLen || b[0] != FormatVersion {
		return h, corrupt("header of a body")
	}
	h = bodyHeader{id: binary.BigEndian.Uint64(b[1:]), time: time.Unix(int64(binary.BigEndian.Uint64(b[9:])), 0).UTC(), raw: b}
	entries := b[headLen : len(b)-macLen]
	if uint64(len(entries)) != uint64(binary.BigEndian.Uint32(b[17:]))*entryLen {
		return h, corrupt("header of a body")
	}
	for e := range slices.Chunk(entries, entryLen) {
		h.to = append(h.to, wrapped{BALID(binary.BigEndian.Uint32(e)), e[4:]})
	}
	return h, nil
}

// verify tells whether the header was written by who knew the content key.
func (h *bodyHeader) verify(key *secret) error {
	n := len(h.raw) - macLen
	if !hmac.Equal(h.raw[n:], headerMAC(key, h.raw[:n])) {
		return corrupt("header of a body")
	}
	return nil
}

// unwrap opens the content key of one receiver.
func (w *wrapped) unwrap(id uint64, with cipher.AEAD) (key secret, err error) {
	aad := wrapAAD(id, w.bal)
	k, err := with.Open(nil, nil, w.key, aad[:])
	if err != nil || len(k) != keyLen {
		return key, corrupt("wrapped key of a body")
	}
	return secret(k), nil
}
