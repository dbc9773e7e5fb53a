package store

import (
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"
	"io"
)

// A recovery key opens every slot when the master key is lost. Its private half never lies on the machine of the store;
// the public half stands in the head of the file keys and wraps each new key: HPKE (RFC 9180), single shot, base mode.
const (
	recoveryPrivateWord = "mssd-recovery-private-1"
	recoveryPublicWord  = "mssd-recovery-public-1"
	recoveryInfo        = "mssd keys 2 recovery"
	recoveryLen         = 32 + keyLen + tagLen // encapsulated key, sealed key
)

func recoverySuite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.DHKEM(ecdh.X25519()), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// recoveryKey is the public half.
type recoveryKey struct {
	public [keyLen]byte
	name   keyName
	key    hpke.PublicKey
}

func newRecovery(public []byte) (*recoveryKey, error) {
	kem, _, _ := recoverySuite()
	key, err := kem.NewPublicKey(public)
	if err != nil {
		return nil, corrupt("recovery key")
	}
	r := &recoveryKey{key: key, public: [keyLen]byte(public)}
	r.name = (*secret)(&r.public).name("recovery key")
	return r, nil
}

// seal wraps a key: the encapsulated key, then the sealed one.
func (r *recoveryKey) seal(aad []byte, key *secret) ([]byte, error) {
	_, kdf, aead := recoverySuite()
	enc, s, err := hpke.NewSender(r.key, kdf, aead, []byte(recoveryInfo))
	if err != nil {
		return nil, fmt.Errorf("store: recovery key: %w", err)
	}
	sealed, err := s.Seal(aad, key[:])
	if err != nil {
		return nil, fmt.Errorf("store: recovery key: %w", err)
	}
	return append(enc, sealed...), nil
}

// recoveryPrivate is the private half.
type recoveryPrivate struct {
	key    hpke.PrivateKey
	public *recoveryKey
}

// Format prints the name only, whatever the verb.
func (r *recoveryPrivate) Format(f fmt.State, _ rune) {
	io.WriteString(f, "recovery key "+r.public.name.String())
}

func newRecoveryPrivate(key *secret) (*recoveryPrivate, error) {
	kem, _, _ := recoverySuite()
	priv, err := kem.NewPrivateKey(key[:])
	if err != nil {
		return nil, errors.New("no private recovery key")
	}
	pub, err := newRecovery(priv.PublicKey().Bytes())
	return &recoveryPrivate{priv, pub}, err
}

func (r *recoveryPrivate) open(aad, wrapped []byte) (key secret, err error) {
	_, kdf, aead := recoverySuite()
	if len(wrapped) != recoveryLen {
		return key, corrupt("recovery wrap of a slot")
	}
	rec, err := hpke.NewRecipient(wrapped[:32], r.key, kdf, aead, []byte(recoveryInfo))
	if err != nil {
		return key, corrupt("recovery wrap of a slot")
	}
	k, err := rec.Open(aad, wrapped[32:])
	if err != nil || len(k) != keyLen {
		return key, corrupt("recovery wrap of a slot")
	}
	return secret(k), nil
}
