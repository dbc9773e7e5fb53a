package store

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The file keys: a head, then slots of fixed size that are overwritten in place, each with one key wrapped by the
// master key. Slot 0 is the key of the store, slot n that of BAL n. The master key stands elsewhere.
const (
	keysMagic   = "mssd keys "
	keysHead    = 256 // octets
	slotLen     = 256
	maxKeysFile = keysHead + slotLen<<24
	slotFree    = 0
	slotInUse   = 1
	storeSlot   = 0

	masterWord = "mssd-master-key-1" // before the hex digits in the file of the master key
)

// masterKey opens the slots.
type masterKey struct {
	key  secret
	name [8]byte // tells one master key from another, without a hint at the key
}

// Name is a mark by which people tell master keys apart.
func (m *masterKey) Name() string { return hex.EncodeToString(m.name[:]) }

// Format prints the name only, whatever the verb.
func (m *masterKey) Format(f fmt.State, _ rune) { io.WriteString(f, "master key "+m.Name()) }

func newMaster(key secret) *masterKey {
	m := &masterKey{key: key}
	n := key.derive("name of a master key")
	copy(m.name[:], n[:])
	return m
}

// readMaster reads the file of a master key: a word, a space, 64 hex digits, a line end.
func readMaster(path string) (*masterKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMasterKey, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMasterKey, err)
	}
	word, digits, _ := strings.Cut(strings.TrimRight(string(b), "\r\n"), " ")
	key, err := hex.DecodeString(digits)
	if word != masterWord || err != nil || len(key) != keyLen {
		return nil, fmt.Errorf("%w: %s holds none (it wants one line: %s and %d hex digits)", ErrMasterKey, path, masterWord, 2*keyLen)
	}
	return newMaster(secret(key)), nil
}

// MakeMasterKey writes a new master key to a file that does not exist, readable by its owner only. The file is there
// whole or not at all.
func MakeMasterKey(path string) error {
	key := newSecret()
	fail := func(err error) error { return fmt.Errorf("store: master key: %w", err) }
	if _, err := os.Lstat(path); err == nil {
		return fail(&fs.PathError{Op: "create", Path: path, Err: fs.ErrExist})
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fail(err)
	}
	_, err = fmt.Fprintf(f, "%s %x\n", masterWord, key[:])
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(tmp, path) // unlike a rename, never over another key
	}
	if err := errors.Join(err, os.Remove(tmp), osFiles{}.SyncDir(filepath.Dir(path))); err != nil {
		return fail(err)
	}
	return nil
}

// slot is one key at rest.
type slot struct {
	number  uint32
	created time.Time
	wrapped []byte // under the master key
}

// slotAAD binds a wrapped key to its slot.
func slotAAD(number uint32, created time.Time) []byte {
	return be64(be32([]byte{FormatVersion}, number), uint64(created.Unix()))
}

func encodeSlot(s *slot) []byte {
	b := make([]byte, 0, slotLen)
	b = append(b, slotInUse, 0, 0, 0)
	b = be64(be32(b, s.number), uint64(s.created.Unix()))
	b = append(b, s.wrapped...)
	return b[:slotLen]
}

// decodeSlot reads the slot at a place; ok false: it is free.
func decodeSlot(number uint32, b []byte) (s slot, ok bool, err error) {
	if len(b) != slotLen {
		return s, false, corrupt("slot of a key")
	}
	if b[0] == slotFree {
		return s, false, nil
	}
	s = slot{binary.BigEndian.Uint32(b[4:]), time.Unix(int64(binary.BigEndian.Uint64(b[8:])), 0).UTC(), b[16 : 16+wrapLen]}
	if b[0] != slotInUse || s.number != number {
		return s, false, corrupt("slot of a key")
	}
	return s, true, nil
}

// keyring holds the keys of an open store.
type keyring struct {
	f      *os.File
	master *masterKey
	wrap   cipher.AEAD // under the master key; random nonces

	pseudonym secret
	manifests secret      // of backups
	values    cipher.AEAD // of the store, for what belongs to no BAL

	mu    sync.RWMutex
	bals  map[BALID]*balKey
	bad   map[BALID]struct{} // whose slot cannot be opened
	dirty bool               // slots were written and not synced; the committer's
	wrote []uint32           // slots written since the last commit; the committer's
}

// balKey is the key of a BAL. What is made from it is made when it is asked for.
type balKey struct {
	key    secret
	values func() cipher.AEAD // random nonces; for values in the databases
	wrap   func() cipher.AEAD // random nonces; for content keys
	names  func() secret      // for the keys of subscriptions
}

// Format prints no octet of it, whatever the verb.
func (*balKey) Format(f fmt.State, _ rune) { io.WriteString(f, "key of a BAL") }

func newBALKey(key secret) *balKey {
	return &balKey{key: key,
		values: sync.OnceValue(func() cipher.AEAD { return key.randomGCM("values of a BAL") }),
		wrap:   sync.OnceValue(func() cipher.AEAD { return key.randomGCM("content keys of a BAL") }),
		names:  sync.OnceValue(func() secret { return key.derive("names of a BAL") })}
}

func keysLine() string { return fmt.Sprintf("%s%d\n", keysMagic, FormatVersion) }

// openKeys opens the file of the keys, or makes it where it is missing and create is set.
func openKeys(path, masterPath string, create bool) (_ *keyring, err error) {
	if create {
		if err := makeKeys(path, masterPath); err != nil {
			return nil, err
		}
	}
	k := &keyring{bals: map[BALID]*balKey{}, bad: map[BALID]struct{}{}}
	if k.f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("store: keys: %w", err)
	}
	defer func() {
		if err != nil {
			k.f.Close()
		}
	}()
	b, err := readKeys(k.f, path)
	if err != nil {
		return nil, err
	}
	if k.master, err = readMaster(masterPath); err != nil {
		return nil, err
	}
	if want := b[16:24]; !bytes.Equal(want, k.master.name[:]) {
		return nil, fmt.Errorf("%w: %s holds %s, this store wants %x", ErrMasterKey, masterPath, k.master.Name(), want)
	}
	k.wrap = k.master.key.randomGCM("slots")
	return k, k.load(b, path)
}

// makeKeys makes a master key where none is, and the file of the keys with slot 0.
func makeKeys(path, masterPath string) error {
	if _, err := os.Stat(path); err == nil {
		return nil // an interrupted creation
	}
	if _, err := os.Stat(masterPath); errors.Is(err, fs.ErrNotExist) {
		if err := MakeMasterKey(masterPath); err != nil {
			return err
		}
	}
	m, err := readMaster(masterPath)
	if err != nil {
		return err
	}
	b := append([]byte(keysLine()), make([]byte, keysHead)...)[:keysHead]
	copy(b[16:], m.name[:])
	s := slot{number: storeSlot, created: time.Now()}
	s.seal(m.key.randomGCM("slots"), newSecret())
	return writeFile(path, append(b, encodeSlot(&s)...))
}

func (s *slot) seal(wrap cipher.AEAD, key secret) {
	s.wrapped = wrap.Seal(nil, nil, key[:], slotAAD(s.number, s.created))
}

func (s *slot) open(wrap cipher.AEAD) (key secret, err error) {
	k, err := wrap.Open(nil, nil, s.wrapped, slotAAD(s.number, s.created))
	if err != nil || len(k) != keyLen {
		return key, corrupt("slot of a key")
	}
	return secret(k), nil
}

// readKeys reads the whole file and looks at its head.
func readKeys(f io.Reader, path string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, maxKeysFile))
	if err != nil {
		return nil, fmt.Errorf("store: keys: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if bytes.HasPrefix(line, []byte(keysMagic)) && string(line)+"\n" != keysLine() {
		return nil, fmt.Errorf("%w: %s says %q, this program reads version %d", ErrVersion, path, clip(line), FormatVersion)
	}
	if string(line)+"\n" != keysLine() || len(b) < keysHead+slotLen {
		return nil, fmt.Errorf("%w: %s is not a file of keys", ErrCorrupt, path)
	}
	return b, nil
}

// eachSlot calls fn for the slots in use.
func eachSlot(b []byte, fn func(s *slot, err error)) {
	b = b[keysHead:]
	for n := 0; (n+1)*slotLen <= len(b); n++ {
		s, ok, err := decodeSlot(uint32(n), b[n*slotLen:(n+1)*slotLen])
		if ok || err != nil {
			s.number = uint32(n)
			fn(&s, err)
		}
	}
}

func (k *keyring) load(b []byte, path string) error {
	found := false
	eachSlot(b, func(s *slot, err error) {
		var key secret
		if err == nil {
			key, err = s.open(k.wrap)
		}
		switch {
		case s.number == storeSlot:
			if found = err == nil; found {
				k.pseudonym = key.derive("pseudonyms")
				k.manifests = key.derive(manifestPurpose)
				k.values = key.randomGCM("values of the store")
			}
		case err != nil:
			k.bad[BALID(s.number)] = struct{}{}
		default:
			k.bals[BALID(s.number)] = newBALKey(key)
		}
	})
	if !found {
		return fmt.Errorf("%w: %s: the key of the store", ErrCorrupt, path)
	}
	return nil
}

func (k *keyring) close() error { return k.f.Close() }

// bal is the key of a BAL.
func (k *keyring) bal(id BALID) (*balKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if b := k.bals[id]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%w: no key for BAL %d", ErrCorrupt, id)
}

// newBAL makes the key of a new BAL and writes its slot; sync makes it durable. A slot that a batch left behind
// which was undone is written anew. Only the committer calls it.
func (k *keyring) newBAL(id BALID, now time.Time) error {
	key := newSecret()
	s := slot{number: uint32(id), created: now}
	s.seal(k.wrap, key)
	if _, err := k.f.WriteAt(encodeSlot(&s), keysHead+int64(id)*slotLen); err != nil {
		return noSpace(fmt.Errorf("store: keys: %w", err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bals[id], k.dirty = newBALKey(key), true
	k.wrote = append(k.wrote, uint32(id))
	delete(k.bad, id)
	return nil
}

// sync makes new slots durable, before the index speaks of their BALs.
func (k *keyring) sync() error {
	if !k.dirty {
		return nil
	}
	k.dirty = false
	return k.f.Sync()
}

// rewrap changes the octets of a file of keys to another master key.
func rewrap(b []byte, from cipher.AEAD, to *masterKey) error {
	wrap := to.key.randomGCM("slots")
	var failed error
	eachSlot(b, func(s *slot, err error) {
		var key secret
		if err == nil {
			key, err = s.open(from)
		}
		if err != nil {
			failed = cmp.Or(failed, fmt.Errorf("slot %d: %w", s.number, err))
			return
		}
		s.seal(wrap, key)
		copy(b[keysHead+int(s.number)*slotLen:], encodeSlot(s))
	})
	copy(b[16:24], to.name[:])
	return failed
}
