package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"

	"mssd/store"
)

// Mechanisms that prove a password without sending it (RFC 5802, RFC 7677).
const (
	ScramSHA256     = "SCRAM-SHA-256"
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS" // bound to the TLS connection (RFC 9266)
)

// scramIterations is the cost of PBKDF2 for new verifiers. RFC 7677, Section 4 asks for 4,096 at least and for more as machines
// grow. It is the client that pays it at each login: 65,536 is the most that Cyrus SASL takes, and with it the clients of mbsync
// and mutt; it takes them some 30 ms. Passwords made by mssd have 125 bits, which need no cost at all.
const (
	scramIterations    = 65_536
	maxScramIterations = 10_000_000
	scramWord          = "SCRAM-SHA-256"
)

// errPassword: a password that SCRAM cannot carry.
var errPassword = errors.New("auth: a password with characters that SCRAM does not allow")

// b64std is the base64 of SCRAM (RFC 5802, Section 7).
var b64std = base64.StdEncoding.Strict()

// scramVerifier is what proves that somebody knows a password.
type scramVerifier struct {
	iterations           int
	salt                 []byte
	storedKey, serverKey []byte
}

// HashSCRAM makes the verifier that the store keeps beside the hash of a password of a member of a BAL; "" for a password that
// SCRAM cannot carry.
//
// Its form is that of RFC 5803. All members of an address have one salt, which the store makes of the address: a client
// that asks with any name gets the salt of the address named, whether or not it, or the member, exists.
func HashSCRAM(st *store.Store, address store.Address, password string) (string, error) {
	prepared, err := saslPrep(password)
	if errors.Is(err, errPassword) {
		return "", nil
	}
	v, err := newVerifier(prepared, scramSalt(st, string(address)), scramIterations)
	if err != nil {
		return "", err
	}
	return v.String(), nil
}

func scramSalt(st *store.Store, address string) []byte {
	return []byte(st.Pseudonym("salt of logins", strings.ToLower(address)))
}

func newVerifier(password string, salt []byte, iterations int) (scramVerifier, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return scramVerifier{}, fmt.Errorf("auth: %w", err)
	}
	stored := sha256.Sum256(hmacOf(salted, "Client Key"))
	return scramVerifier{iterations, salt, stored[:], hmacOf(salted, "Server Key")}, nil
}

func hmacOf(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// String is the form of RFC 5803.
func (v scramVerifier) String() string {
	return fmt.Sprintf("%s$%d:%s$%s:%s", scramWord, v.iterations, b64std.EncodeToString(v.salt),
		b64std.EncodeToString(v.storedKey), b64std.EncodeToString(v.serverKey))
}

func parseVerifier(s string) (v scramVerifier, err error) {
	bad := fmt.Errorf("%w: not %s$iterations:salt$StoredKey:ServerKey", ErrHash, scramWord)
	f := strings.FieldsFunc(s, func(r rune) bool { return r == '$' || r == ':' })
	if len(f) != 5 || f[0] != scramWord {
		return v, bad
	}
	var errs [4]error
	v.iterations, errs[0] = strconv.Atoi(f[1])
	v.salt, errs[1] = b64std.DecodeString(f[2])
	v.storedKey, errs[2] = b64std.DecodeString(f[3])
	v.serverKey, errs[3] = b64std.DecodeString(f[4])
	if errors.Join(errs[:]...) != nil || v.iterations < 4096 || v.iterations > maxScramIterations || len(v.salt) == 0 ||
		len(v.storedKey) != sha256.Size || len(v.serverKey) != sha256.Size {
		return scramVerifier{}, bad
	}
	return v, nil
}

// proves says whether the proof of a client fits the messages of an exchange (RFC 5802, Section 3).
func (v scramVerifier) proves(messages string, proof []byte) bool {
	key := make([]byte, sha256.Size)
	subtle.XORBytes(key, hmacOf(v.storedKey, messages), proof)
	sum := sha256.Sum256(key)
	return subtle.ConstantTimeCompare(sum[:], v.storedKey) == 1
}

// saslPrep is the form in which both sides know a password: RFC 4013. Characters outside of ASCII are taken where today's
// Unicode and that of RFC 3454 agree what they are: letters, marks, numbers, punctuation, symbols.
func saslPrep(s string) (string, error) {
	s = norm.NFKC.String(strings.Map(func(r rune) rune {
		switch {
		case r == 0xad || r == 0x34f || r == 0x1806 || r >= 0x180b && r <= 0x180d || r == 0x200b || r == 0x200c || r == 0x200d ||
			r == 0x2060 || r >= 0xfe00 && r <= 0xfe0f || r == 0xfeff:
			return -1 // RFC 3454, Table B.1
		case unicode.Is(unicode.Zs, r):
			return ' ' // Table C.1.2
		}
		return r
	}, s))
	var right, left bool
	for _, r := range s {
		if r >= 0xfff9 && r <= unicode.ReplacementChar || r >= 0x2ff0 && r <= 0x2ffb || !unicode.IsGraphic(r) { // RFC 3454, Tables C.6 and C.7
			return "", errPassword
		}
		p, _ := bidi.LookupRune(r)
		right = right || p.Class() == bidi.R || p.Class() == bidi.AL
		left = left || p.Class() == bidi.L
	}
	if s == "" || right && (left || !startsAndEndsRight(s)) { // RFC 3454, Section 6
		return "", errPassword
	}
	return s, nil
}

func startsAndEndsRight(s string) bool {
	runes := []rune(s)
	for _, r := range []rune{runes[0], runes[len(runes)-1]} {
		if p, _ := bidi.LookupRune(r); p.Class() != bidi.R && p.Class() != bidi.AL {
			return false
		}
	}
	return true
}
