package store

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// The file keys: a head, then slots of fixed size that are overwritten in place. Slot 0 is the key of the store, slot n
// that of BAL n, wrapped by the master key and, where one is set, by the recovery key. A slot names the address and the
// kind of its BAL, so that a store can be made again from its bodies and this file alone. Head and slots have 512
// octets: none straddles a sector of a disk.
const (
	keysVersion = 2
	keysMagic   = "mssd keys "
	keysHead    = 512 // octets
	slotLen     = 512
	maxSlots    = 1 << 24 // so many numbers of BALs there are
	maxKeysFile = keysHead + maxSlots*slotLen
	maxAddress  = 254 // octets (RFC 5321, Section 4.5.3.1.3)

	// Places in the head.
	headMaster   = 16
	headRecovery = 32 // public key, 32 octets; zeros: none is set
	headName     = 64 // name of the recovery key
	headMAC      = keysHead - sha256.Size

	// Places in a slot.
	slotWrap      = 16
	slotRecovery  = slotWrap + wrapLen
	slotAddress   = slotRecovery + recoveryLen
	slotDestroyed = slotLen - 8 // when
)

// What a slot is.
const (
	slotFree = iota
	slotInUse
	slotGone // destroyed: its BAL stays, its key does not

	storeSlot = 0
)

// slot is one key at rest.
type slot struct {
	number    uint32
	state     byte
	kind      Kind    // 0 for the store
	address   Address // "" for the store
	created   time.Time
	destroyed time.Time // slotGone only
	wrapped   []byte    // under the master key; slotGone: zeros, which vouch for the rest of the slot
	recovery  []byte    // under the recovery key; nil: not
}

// aad binds a wrapped key to its slot.
func (s *slot) aad() []byte {
	b := append(make([]byte, 0, 32+len(s.address)), keysVersion, s.state)
	b = be64(be32(b, s.number), uint64(s.created.Unix()))
	b = append(b, byte(s.kind), byte(len(s.address)))
	b = append(b, s.address...)
	if s.state == slotGone {
		b = be64(b, uint64(s.destroyed.Unix()))
	}
	return b
}

func encodeSlot(s *slot) []byte {
	b := make([]byte, slotLen)
	b[0], b[1], b[2], b[3] = s.state, byte(s.kind), byte(len(s.address)), boolByte(s.recovery != nil)
	binary.BigEndian.PutUint32(b[4:], s.number)
	binary.BigEndian.PutUint64(b[8:], uint64(s.created.Unix()))
	copy(b[slotWrap:], s.wrapped)
	copy(b[slotRecovery:], s.recovery)
	copy(b[slotAddress:], s.address)
	if s.state == slotGone {
		binary.BigEndian.PutUint64(b[slotDestroyed:], uint64(s.destroyed.Unix()))
	}
	return b
}

// decodeSlot reads the slot at a place, without a key: only when it opens is it certain. The state of a free one is
// slotFree.
func decodeSlot(number uint32, b []byte) (slot, error) {
	s := slot{number: number}
	if len(b) != slotLen {
		return s, corrupt("slot of a key")
	}
	s.state = b[0]
	if s.state == slotFree {
		return s, nil
	}
	n := int(b[2])
	if s.state > slotGone || binary.BigEndian.Uint32(b[4:]) != number || n > maxAddress || b[3] > 1 || (n == 0) != (number == storeSlot) {
		return s, corrupt("slot of a key")
	}
	s.kind, s.created = Kind(b[1]), unixTime(b[8:])
	s.address = Address(b[slotAddress : slotAddress+n])
	s.wrapped = b[slotWrap : slotWrap+wrapLen : slotWrap+wrapLen]
	if b[3] == 1 {
		s.recovery = b[slotRecovery : slotRecovery+recoveryLen : slotRecovery+recoveryLen]
	}
	if s.state == slotGone {
		s.destroyed = unixTime(b[slotDestroyed:])
	}
	return s, nil
}

// seal wraps a key under the master key and, where there is one, the recovery key.
func (s *slot) seal(master cipher.AEAD, recovery *recoveryKey, key *secret) (err error) {
	s.wrapped = master.Seal(nil, nil, key[:], s.aad())
	s.recovery = nil
	if recovery != nil {
		s.recovery, err = recovery.seal(s.aad(), key)
	}
	return err
}

// open yields the key of a slot in use; that of a destroyed one is zeros.
func (s *slot) open(master cipher.AEAD) (key secret, err error) {
	k, err := master.Open(nil, nil, s.wrapped, s.aad())
	if err != nil || len(k) != keyLen {
		return key, corrupt("slot of a key")
	}
	return secret(k), nil
}

// keysHeader is what stands before the slots.
type keysHeader struct {
	master   keyName
	recovery *recoveryKey // the public one that new slots are wrapped under too; nil: none
}

func encodeHead(m *masterKey, recovery *recoveryKey) []byte {
	b := make([]byte, keysHead)
	copy(b, keysLine())
	copy(b[headMaster:], m.name[:])
	if recovery != nil {
		copy(b[headRecovery:], recovery.public[:])
		copy(b[headName:], recovery.name[:])
	}
	copy(b[headMAC:], headSum(m, b))
	return b
}

// headSum tells whether the head was written by who knew the master key: otherwise who can write to the disk could
// put a recovery key of his own there and read all new BALs.
func headSum(m *masterKey, head []byte) []byte {
	sub := m.key.derive("head of keys")
	h := hmac.New(sha256.New, sub[:])
	h.Write(head[:headMAC])
	return h.Sum(nil)
}

// decodeHead reads the head; only verifyHead makes it certain.
func decodeHead(b []byte) (h keysHeader, err error) {
	copy(h.master[:], b[headMaster:])
	if pub := b[headRecovery:headName]; !bytes.Equal(pub, make([]byte, len(pub))) {
		h.recovery, err = newRecovery(pub)
	}
	return h, err
}

func verifyHead(m *masterKey, b []byte) error {
	if !hmac.Equal(headSum(m, b), b[headMAC:keysHead]) {
		return corrupt("head of the file of keys: mssd keys recovery-set or recovery-unset writes it anew")
	}
	return nil
}

func keysLine() string { return fmt.Sprintf("%s%d\n", keysMagic, keysVersion) }

// readKeys reads the whole file and looks at its first line.
func readKeys(f source, path string) ([]byte, error) {
	size, err := f.Size()
	if err == nil && size > maxKeysFile {
		err = fmt.Errorf("%w: %s has %d octets", ErrCorrupt, path, size)
	}
	if err != nil {
		return nil, fmt.Errorf("store: keys: %w", err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, fmt.Errorf("store: keys: %w", err)
	}
	if err := checkKeysLine(b, path); err != nil {
		return nil, err
	}
	if len(b) < keysHead+slotLen {
		return nil, fmt.Errorf("%w: %s is not a file of keys", ErrCorrupt, path)
	}
	return b, nil
}

// checkKeysLine looks at the first line of the file.
func checkKeysLine(b []byte, path string) error {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	switch {
	case string(line)+"\n" == keysLine():
		return nil
	case string(line) == keysMagic+"1":
		return fmt.Errorf("%w: %s says %q, of the first days, and is never converted: move the folder away and begin a new store", ErrVersion, path, line)
	case bytes.HasPrefix(line, []byte(keysMagic)):
		return fmt.Errorf("%w: %s says %q, this program reads version %d", ErrVersion, path, clip(line), keysVersion)
	}
	return fmt.Errorf("%w: %s is not a file of keys", ErrCorrupt, path)
}

// keysRefused says whether a file of keys has another version; what else is wrong with it opening it will tell.
func keysRefused(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, len(keysLine())+32)
	n, _ := io.ReadFull(f, b)
	if err := checkKeysLine(b[:n], path); errors.Is(err, ErrVersion) {
		return err
	}
	return nil
}

// eachSlot calls fn for the slots that are not free. With an error only the number of s is certain.
func eachSlot(b []byte, fn func(s *slot, err error)) {
	b = b[keysHead:]
	for n := 0; n*slotLen < len(b); n++ {
		s, err := decodeSlot(uint32(n), b[n*slotLen:min((n+1)*slotLen, len(b))])
		if s.state != slotFree || err != nil {
			fn(&s, err)
		}
	}
}

func slotPlace(number uint32) int64 { return keysHead + int64(number)*slotLen }
