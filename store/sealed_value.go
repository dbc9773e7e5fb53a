package store

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Values in the databases that identify people are sealed with AES-256-GCM under a key of their BAL, or of the store
// for what belongs to no BAL: a random nonce, then what was sealed. Bucket and key of the record go in as additional
// data, so that a value is refused anywhere else.

// sealedMore is what sealing adds to a value, octets.
const sealedMore = nonceLen + tagLen

func valueAAD(bucket string, key []byte) []byte {
	b := append(make([]byte, 0, 2+len(bucket)+len(key)), FormatVersion, byte(len(bucket)))
	return append(append(b, bucket...), key...)
}

// sealValue appends a sealed value to dst.
func sealValue(dst []byte, with cipher.AEAD, bucket string, key, v []byte) []byte {
	return with.Seal(dst, nil, v, valueAAD(bucket, key))
}

// openValue appends what was sealed to dst, which may be v[:0].
func openValue(dst []byte, with cipher.AEAD, bucket string, key, v []byte) ([]byte, error) {
	if len(v) < sealedMore {
		return nil, corrupt("sealed value of " + bucket)
	}
	plain, err := with.Open(dst, nil, v, valueAAD(bucket, key))
	if err != nil {
		return nil, corrupt("sealed value of " + bucket)
	}
	return plain, nil
}

// seal seals a value of a BAL in the index.
func (k *keyring) seal(bal BALID, bucket int, key, v []byte) ([]byte, error) {
	b, err := k.bal(bal)
	if err != nil {
		return nil, err
	}
	return sealValue(nil, b.values(), string(bucketNames[bucket]), key, v), nil
}

// open opens a value of a BAL in the index.
func (k *keyring) open(bal BALID, bucket int, key, v []byte) ([]byte, error) {
	b, err := k.bal(bal)
	if err != nil {
		return nil, err
	}
	return openValue(nil, b.values(), string(bucketNames[bucket]), key, v)
}

// Pseudonym is a name for value that only this store can make: HMAC-SHA256 under a key of the store, 32 hex
// digits. The same value has another pseudonym for another purpose.
func (s *Store) Pseudonym(purpose, value string) string {
	return hex.EncodeToString(s.keys.mac(purpose, value))
}

// mac is the pseudonym before hex: 16 octets.
func (k *keyring) mac(purpose, value string) []byte { return shortMAC(&k.pseudonym, purpose, value) }

func shortMAC(key *secret, purpose, value string) []byte {
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte(purpose))
	m.Write([]byte{0})
	m.Write([]byte(value))
	return m.Sum(nil)[:16]
}

// What meta.db holds of a message is sealed under the key of one of the BALs that have it; when this key is gone
// the others derive it again. Before it stand, in clear and bound to it: version of the scanner (1 octet), BAL (4).
const derivedHead = 5

func derivedKey(head []byte, id MessageID) []byte {
	return be64(append(make([]byte, 0, derivedHead+8), head[:derivedHead]...), uint64(id))
}

func sealDerived(k *balKey, bucket string, d *derived, v []byte) []byte {
	b := be32(append(make([]byte, 0, derivedHead+sealedMore+len(v)), d.meta[0]), uint32(d.bal))
	return sealValue(b, k.values(), bucket, derivedKey(b, d.id), v)
}

// openDerived opens v, in its own place if the caller gives it away.
func (k *keyring) openDerived(id MessageID, bucket string, v []byte, inPlace bool) ([]byte, error) {
	if len(v) < derivedHead {
		return nil, corrupt("sealed value of " + bucket)
	}
	b, err := k.bal(BALID(binary.BigEndian.Uint32(v[1:])))
	if err != nil {
		return nil, err
	}
	var dst []byte
	if inPlace {
		dst = v[derivedHead:derivedHead]
	}
	return openValue(dst, b.values(), bucket, derivedKey(v, id), v[derivedHead:])
}
