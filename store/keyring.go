package store

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// keyring holds the keys of an open store.
type keyring struct {
	f        file
	path     string
	master   *masterKey
	wrap     cipher.AEAD  // under the master key; random nonces
	recovery *recoveryKey // new slots are wrapped under it too; nil: none
	headErr  error        // the head is altered: no new BAL, whose key might go to a stranger
	last     BALID        // the last slot that was not free at opening: numbers up to it are never given again

	pseudonym secret
	manifests secret      // of backups
	values    cipher.AEAD // of the store, for what belongs to no BAL

	mu    sync.RWMutex
	bals  map[BALID]*balKey
	bad   map[BALID]struct{}  // whose slot cannot be opened
	gone  map[BALID]time.Time // whose slot was destroyed, and when
	named map[BALID]BAL       // address, kind and time of those whose slot opened, for a BAL whose record is lost
	dirty bool                // slots were written and not synced; the committer's
	wrote []uint32            // slots written since the last commit; the committer's
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

// openKeys opens the file of the keys, or makes it where it is missing and create is set.
func openKeys(fsys fileSystem, path, masterPath string, create bool) (_ *keyring, err error) {
	if err := shredFile(fsys, path+newSuffix); err != nil {
		return nil, fmt.Errorf("store: keys: %w", err)
	}
	if create {
		if err := makeKeys(fsys, path, masterPath); err != nil {
			return nil, err
		}
	}
	k := newKeyring(path)
	if k.f, err = fsys.OpenWrite(path); err != nil {
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
	return k, k.unlock(b, masterPath)
}

func newKeyring(path string) *keyring {
	return &keyring{path: path, bals: map[BALID]*balKey{}, bad: map[BALID]struct{}{}, gone: map[BALID]time.Time{}, named: map[BALID]BAL{}}
}

// unlock opens the slots of a file of keys with the master key in a file.
func (k *keyring) unlock(b []byte, masterPath string) (err error) {
	if k.master, err = readMaster(masterPath); err != nil {
		return err
	}
	head, err := decodeHead(b)
	if head.master != k.master.name {
		return fmt.Errorf("%w: %s holds %s, this store wants %s", ErrMasterKey, masterPath, k.master.name, head.master)
	}
	if k.headErr = errors.Join(err, verifyHead(k.master, b)); k.headErr == nil {
		k.recovery = head.recovery
	}
	k.wrap = k.master.key.randomGCM("slots")
	return k.load(b)
}

// makeKeys makes a master key where none is, and the file of the keys with slot 0.
func makeKeys(fsys fileSystem, path, masterPath string) error {
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
	s := slot{number: storeSlot, state: slotInUse, created: time.Now()}
	key := newSecret()
	if err := s.seal(m.key.randomGCM("slots"), nil, &key); err != nil {
		return err
	}
	return writeFile(fsys, path, append(encodeHead(m, nil), encodeSlot(&s)...))
}

func (k *keyring) load(b []byte) error {
	found := false
	eachSlot(b, func(s *slot, err error) {
		id := BALID(s.number)
		k.last = id
		var key secret
		if err == nil {
			key, err = s.open(k.wrap)
		}
		switch {
		case s.number == storeSlot:
			if found = err == nil && s.state == slotInUse; found {
				k.pseudonym = key.derive("pseudonyms")
				k.manifests = key.derive(manifestPurpose)
				k.values = key.randomGCM("values of the store")
			}
		case err != nil:
			k.bad[id] = struct{}{}
		case s.state == slotGone:
			k.gone[id] = s.destroyed
		default:
			k.bals[id] = newBALKey(key)
			k.named[id] = BAL{ID: id, Address: s.address, Kind: s.kind, Created: s.created}
		}
	})
	if !found {
		return fmt.Errorf("%w: %s: the key of the store", ErrCorrupt, k.path)
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

// next is the number for a new BAL: above the last one of the index, and above every slot that was in use when the
// store was opened, for the index may be an older one than the keys.
func (k *keyring) next(last BALID) (BALID, error) {
	n := max(last, k.last) + 1
	if n >= maxSlots {
		return 0, fmt.Errorf("%w: numbers of BALs", ErrLimit)
	}
	return n, nil
}

// newBAL makes the key of a new BAL and writes its slot; sync makes it durable. A slot that a batch left behind
// which was undone is written anew. Only the committer calls it. After an error nothing counts that was written: no
// BAL has this slot.
func (k *keyring) newBAL(b *BAL) error {
	if k.headErr != nil {
		return k.headErr
	}
	key := newSecret()
	s := slot{number: uint32(b.ID), state: slotInUse, kind: b.Kind, address: b.Address, created: b.Created}
	if err := s.seal(k.wrap, k.recovery, &key); err != nil {
		return err
	}
	if _, err := k.f.WriteAt(encodeSlot(&s), slotPlace(s.number)); err != nil {
		return noSpace(fmt.Errorf("store: keys: %w", err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bals[b.ID], k.dirty = newBALKey(key), true
	k.wrote = append(k.wrote, s.number)
	delete(k.bad, b.ID)
	return nil
}

// destroy overwrites the slot of a BAL in place; sync makes it durable. Only the committer calls it. After an error
// nobody knows what stands there: it is to be done again.
func (k *keyring) destroy(b *BAL) error {
	s := slot{number: uint32(b.ID), state: slotGone, kind: b.Kind, address: b.Address, created: b.Created, destroyed: b.Destroyed.At}
	if err := s.seal(k.wrap, nil, &secret{}); err != nil {
		return err
	}
	if _, err := k.f.WriteAt(encodeSlot(&s), slotPlace(s.number)); err != nil {
		return noSpace(fmt.Errorf("store: keys: %w", err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.bals, b.ID)
	delete(k.bad, b.ID)
	k.gone[b.ID], k.dirty = b.Destroyed.At, true
	k.wrote = append(k.wrote, s.number)
	return nil
}

// why says why a BAL has no key.
func (k *keyring) why(id BALID) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if at, ok := k.gone[id]; ok {
		return fmt.Errorf("its key was destroyed on %s, but the index does not know of it: it is an older one", at.Format(time.RFC3339))
	}
	return errors.New("its key in the file keys is missing or cannot be opened with this master key")
}

// sync makes new slots durable, before the index speaks of their BALs.
func (k *keyring) sync() error {
	if !k.dirty {
		return nil
	}
	k.dirty = false
	return k.f.Sync()
}

// shredFile overwrites a file that may hold wrapped keys, and removes it. It need not be there.
func shredFile(fsys fileSystem, path string) error {
	f, err := fsys.OpenWrite(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(overwrite(f), f.Close()); err != nil {
		return err
	}
	return fsys.Remove(path)
}

// overwrite puts zeros over all of a file, durably.
func overwrite(f file) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	zeros := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err != nil {
			return err
		}
	}
	return f.Sync()
}
