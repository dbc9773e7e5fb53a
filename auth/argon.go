package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Params is the cost of argon2id (RFC 9106, Section 3.1).
type Params struct {
	Time      uint32 // passes
	MemoryKiB uint32 // KiB
	Threads   uint8
}

// DefaultParams is what OWASP names for argon2id where memory is shared by many logins: 19 MiB, 2 passes.
var DefaultParams = Params{Time: 2, MemoryKiB: 19 << 10, Threads: 1}

const (
	saltLen = 16 // octets (RFC 9106, Section 3.1 advises 16)
	hashLen = 32 // octets
)

// Bounds of the parameters in a stored hash: past them it is taken for damaged rather than computed.
const (
	maxTime   = 100
	maxMemory = 4 << 20 // KiB
)

var errPHC = errors.New("not an argon2id hash in PHC form ($argon2id$v=19$m=…,t=…,p=…$salt$hash)")

// HashPassword returns the PHC string of a new hash of a password with a salt of its own.
func HashPassword(p Params, password string) (string, error) {
	if p == (Params{}) {
		p = DefaultParams
	}
	if err := p.check(); err != nil {
		return "", err
	}
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("a password has 1 to %d octets", maxPassword)
	}
	salt := randomBytes(saltLen)
	return encodePHC(p, salt, argon2.IDKey([]byte(password), salt, p.Time, p.MemoryKiB, p.Threads, hashLen)), nil
}

func (p Params) check() error {
	if p.Time < 1 || p.Time > maxTime || p.Threads < 1 || p.MemoryKiB < 8*uint32(p.Threads) || p.MemoryKiB > maxMemory {
		return fmt.Errorf("argon2id parameters t=%d m=%d p=%d out of bounds", p.Time, p.MemoryKiB, p.Threads)
	}
	return nil
}

func encodePHC(p Params, salt, sum []byte) string {
	e := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.MemoryKiB, p.Time, p.Threads, e(salt), e(sum))
}

func parsePHC(s string) (p Params, salt, sum []byte, err error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, errPHC
	}
	if _, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &p.MemoryKiB, &p.Time, &p.Threads); err != nil {
		return p, nil, nil, errPHC
	}
	if err := p.check(); err != nil {
		return p, nil, nil, err
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(f[4])
	sum, err2 := base64.RawStdEncoding.DecodeString(f[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64 {
		return p, nil, nil, errPHC
	}
	return p, salt, sum, nil
}

// verifyPHC compares in time that depends on the parameters only.
func verifyPHC(hash, password string) (bool, error) {
	p, salt, sum, err := parsePHC(hash)
	if err != nil {
		return false, err
	}
	got := argon2.IDKey([]byte(password), salt, p.Time, p.MemoryKiB, p.Threads, uint32(len(sum)))
	return subtle.ConstantTimeCompare(got, sum) == 1, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

// GeneratePassword makes a password of 24 letters and digits in groups of four, 120 bits, without letters that are
// easily taken for others.
func GeneratePassword() string {
	const letters = "abcdefghijkmnpqrstuvwxyz23456789" // 32
	var b strings.Builder
	for i, r := range randomBytes(24) {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(letters[int(r)%len(letters)])
	}
	return b.String()
}
