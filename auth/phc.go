package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Params is the cost of a password hash (argon2id).
type Params struct {
	Time      uint32 // passes; 0: 3
	MemoryKiB uint32 // KiB; 0: 65,536
	Threads   uint8  // 0: 1
}

// Bounds of what a stored hash may ask of us.
const (
	maxTime      = 64
	minMemoryKiB = 8
	maxMemoryKiB = 1 << 20 // 1 GiB
	maxThreads   = 16
	maxPHC       = 512 // octets
	saltLen      = 16  // octets; RFC 9106, Section 3.1
	tagLen       = 32  // octets
	maxPassword  = 1024
)

// ErrHash says that a stored hash is not a usable argon2id string.
var ErrHash = errors.New("auth: bad password hash")

// DefaultParams is the second recommended option of RFC 9106, Section 4, with one lane.
func DefaultParams() Params { return Params{Time: 3, MemoryKiB: 64 << 10, Threads: 1} }

func (p Params) withDefaults() Params {
	d := DefaultParams()
	if p.Time == 0 {
		p.Time = d.Time
	}
	if p.MemoryKiB == 0 {
		p.MemoryKiB = d.MemoryKiB
	}
	if p.Threads == 0 {
		p.Threads = d.Threads
	}
	return p
}

func (p Params) check() error {
	if p.Time < 1 || p.Time > maxTime || p.Threads < 1 || p.Threads > maxThreads ||
		p.MemoryKiB < minMemoryKiB*uint32(p.Threads) || p.MemoryKiB > maxMemoryKiB {
		return fmt.Errorf("%w: cost out of bounds (time 1 to %d, memory %d per thread to %d KiB, threads 1 to %d)",
			ErrHash, maxTime, minMemoryKiB, maxMemoryKiB, maxThreads)
	}
	return nil
}

// HashPassword makes the PHC string that the store keeps. Zero costs take their defaults.
func HashPassword(p Params, password string) (string, error) {
	p = p.withDefaults()
	if err := p.check(); err != nil {
		return "", err
	}
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("auth: a password has 1 to %d octets", maxPassword)
	}
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails
	return format(hash{Params: p, salt: salt, tag: p.key(password, salt, tagLen)}), nil
}

func (p Params) key(password string, salt []byte, n uint32) []byte {
	return argon2.IDKey([]byte(password), salt, p.Time, p.MemoryKiB, p.Threads, n)
}

type hash struct {
	Params
	salt, tag []byte
}

var b64 = base64.RawStdEncoding.Strict()

func format(h hash) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.MemoryKiB, h.Time, h.Threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.tag))
}

// parsePHC reads a PHC string and checks that its cost is within bounds.
func parsePHC(s string) (hash, error) {
	var h hash
	f := strings.Split(s, "$")
	if len(s) > maxPHC || len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return h, fmt.Errorf("%w: not $argon2id$v=19$…", ErrHash)
	}
	costs := strings.Split(f[3], ",")
	if len(costs) != 3 {
		return h, fmt.Errorf("%w: costs are not m=,t=,p=", ErrHash)
	}
	var v [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(costs[i], name)
		n, err := strconv.ParseUint(digits, 10, []int{32, 32, 8}[i])
		if !ok || err != nil {
			return h, fmt.Errorf("%w: costs are not m=,t=,p=", ErrHash)
		}
		v[i] = n
	}
	h.Params = Params{MemoryKiB: uint32(v[0]), Time: uint32(v[1]), Threads: uint8(v[2])}
	if err := h.check(); err != nil {
		return h, err
	}
	var err1, err2 error
	h.salt, err1 = b64.DecodeString(f[4])
	h.tag, err2 = b64.DecodeString(f[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.tag) < 16 || len(h.tag) > 64 {
		return h, fmt.Errorf("%w: salt or tag", ErrHash)
	}
	return h, nil
}

func (h hash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.key(password, h.salt, uint32(len(h.tag))), h.tag) == 1
}

// passwordLetters leaves out what is mistaken for something else on paper: 0 O 1 l I.
const passwordLetters = "abcdefghijkmnpqrstuvwxyz23456789"

// GeneratePassword makes a password that can be read out and typed: five groups of five letters and digits, 125 bits.
func GeneratePassword() string {
	raw := make([]byte, 25)
	rand.Read(raw) // never fails
	out := make([]byte, 0, 29)
	for i, b := range raw {
		if i > 0 && i%5 == 0 {
			out = append(out, '-')
		}
		out = append(out, passwordLetters[b&31]) // 32 letters: no bias
	}
	return string(out)
}
