package store

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// The file keys: a line that names it, then slots of 32 octets. Slot 0 is the key of pseudonyms.
const (
	keysMagic = "mssd keys 0\n"
	keyLen    = 32
)

type keys struct{ pseudonym [keyLen]byte }

// loadKeys reads the keys, or makes them where the file is missing and create is set.
func loadKeys(path string, create bool) (*keys, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		b = make([]byte, len(keysMagic)+keyLen)
		copy(b, keysMagic)
		if _, err := rand.Read(b[len(keysMagic):]); err != nil {
			return nil, err
		}
		err = writeFile(path, b)
	}
	if err != nil {
		return nil, fmt.Errorf("store: keys: %w", err)
	}
	if len(b) != len(keysMagic)+keyLen || string(b[:len(keysMagic)]) != keysMagic {
		return nil, fmt.Errorf("%w: %s is not a file of keys", ErrCorrupt, path)
	}
	k := new(keys)
	copy(k.pseudonym[:], b[len(keysMagic):])
	return k, nil
}

// Pseudonym is a name for value that only this store can make: HMAC-SHA256 under a key of the store, 32 hex
// digits. The same value has another pseudonym for another purpose.
func (s *Store) Pseudonym(purpose, value string) string {
	return hex.EncodeToString(s.keys.mac(purpose, value))
}

// mac is the pseudonym before hex: 16 octets.
func (k *keys) mac(purpose, value string) []byte {
	m := hmac.New(sha256.New, k.pseudonym[:])
	m.Write([]byte(purpose))
	m.Write([]byte{0})
	m.Write([]byte(value))
	return m.Sum(nil)[:16]
}
