package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// KeyList is what can be said of the keys of a store without showing one.
type KeyList struct {
	Wanted   string // name of the master key that the store wants
	Given    string // name of the one in the file; "" where it cannot be read, Err says why
	Err      error
	Recovery string // name of the recovery key; "" none is set
	HeadErr  error  // the head of the file is altered: the recovery key in it counts for nothing
	Slots    []KeySlot
}

// KeySlot is one key. Number 0 is that of the store, others are those of BALs. What it says is certain when Err is nil.
type KeySlot struct {
	Number    uint32
	Address   Address
	Kind      Kind
	Created   time.Time
	Destroyed time.Time // zero: it is not
	Recovery  bool      // the recovery key opens it too, if it is the one of the head
	Err       error     // the master key given does not open it
}

func listed(s *slot, err error) KeySlot {
	return KeySlot{s.number, s.address, s.kind, s.created, s.destroyed, s.recovery != nil, err}
}

// MasterKeyFile is where the master key of a store is looked for.
func MasterKeyFile(dir, masterKey string) string {
	return cmp.Or(masterKey, filepath.Join(dir, "master.key"))
}

// Keys lists the keys of a store, which may be in use.
func Keys(dir, masterKey string) (KeyList, error) {
	path := filepath.Join(dir, "keys")
	f, err := osFiles{}.Open(path)
	if err != nil {
		return KeyList{}, fmt.Errorf("store: keys: %w", err)
	}
	defer f.Close()
	b, err := readKeys(f, path)
	if err != nil {
		return KeyList{}, err
	}
	head, err := decodeHead(b)
	list := KeyList{Wanted: head.master.String(), HeadErr: err}
	if head.recovery != nil {
		list.Recovery = head.recovery.name.String()
	}
	m, err := readMaster(MasterKeyFile(dir, masterKey))
	if list.Err = err; err == nil {
		list.Given = m.name.String()
	}
	known := err == nil && m.name == head.master
	if known && list.HeadErr == nil {
		list.HeadErr = verifyHead(m, b)
	}
	eachSlot(b, func(s *slot, err error) {
		if err == nil && known {
			_, err = s.open(m.key.randomGCM("slots"))
		} else if err == nil {
			err = ErrMasterKey
		}
		list.Slots = append(list.Slots, listed(s, err))
	})
	return list, nil
}

// CheckMasterKey reads the file of a master key; name is by what people tell one from another.
func CheckMasterKey(path string) (name string, err error) {
	m, err := readMaster(path)
	if err != nil {
		return "", err
	}
	return m.name.String(), nil
}

// SameDisk reports whether a file lies on the file system of a directory.
func SameDisk(dir, file string) (bool, error) {
	var d, f unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &d), unix.Stat(file, &f)); err != nil {
		return false, err
	}
	return d.Dev == f.Dev, nil
}

// Rekey wraps each key of a store that nobody has open under another master key; no body is touched, and what the
// recovery key opens stays so. When it returns an error the old master key is still the right one, unless the error says
// otherwise.
func Rekey(dir, oldMaster, newMaster string) error {
	return rekey(&osFiles{}, dir, oldMaster, newMaster)
}

func rekey(fsys fileSystem, dir, oldMaster, newMaster string) error {
	to, err := readMaster(newMaster)
	if err != nil {
		return err
	}
	wrap := to.key.randomGCM("slots")
	return editKeys(fsys, dir, func(b []byte) error {
		return openedKeys(b, MasterKeyFile(dir, oldMaster), func(head keysHeader, from *masterKey) error {
			if err := verifyHead(from, b); err != nil {
				return err
			}
			copy(b, encodeHead(to, head.recovery))
			return eachKey(b, from, func(s *slot, key *secret) error {
				s.wrapped = wrap.Seal(nil, nil, key[:], s.aad())
				return nil
			})
		})
	})
}

// SetRecovery wraps each key of a store that nobody has open under a public recovery key too, instead of the one that
// was set before; BALs made later get it as well. It writes the head anew and so mends it.
func SetRecovery(dir, master, publicFile string) error {
	return setRecovery(&osFiles{}, dir, master, publicFile)
}

// UnsetRecovery takes the recovery key away: then only the master key opens the keys.
func UnsetRecovery(dir, master string) error { return setRecovery(&osFiles{}, dir, master, "") }

func setRecovery(fsys fileSystem, dir, master, publicFile string) error {
	var recovery *recoveryKey
	if publicFile != "" {
		public, err := readKeyFile(publicFile, recoveryPublicWord)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRecoveryKey, err)
		}
		if recovery, err = newRecovery(public[:]); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrRecoveryKey, publicFile, err)
		}
	}
	return editKeys(fsys, dir, func(b []byte) error {
		return openedKeys(b, MasterKeyFile(dir, master), func(_ keysHeader, m *masterKey) error {
			copy(b, encodeHead(m, recovery))
			return eachKey(b, m, func(s *slot, key *secret) (err error) {
				s.recovery = nil
				if recovery != nil && s.state == slotInUse {
					s.recovery, err = recovery.seal(s.aad(), key)
				}
				return err
			})
		})
	})
}

// openedKeys calls fn with the head and the master key that the file wants.
func openedKeys(b []byte, masterPath string, fn func(head keysHeader, m *masterKey) error) error {
	m, err := readMaster(masterPath)
	if err != nil {
		return err
	}
	head, _ := decodeHead(b) // what is wrong with it verifyHead says too
	if head.master != m.name {
		return fmt.Errorf("%w: %s holds %s, this store wants %s", ErrMasterKey, masterPath, m.name, head.master)
	}
	return fn(head, m)
}

// eachKey opens each slot, lets fn change it and writes it back into b. A slot that does not open is an error.
func eachKey(b []byte, m *masterKey, fn func(s *slot, key *secret) error) error {
	wrap := m.key.randomGCM("slots")
	var failed error
	eachSlot(b, func(s *slot, err error) {
		var key secret
		if err == nil {
			key, err = s.open(wrap)
		}
		if err == nil {
			err = fn(s, &key)
		}
		if err != nil {
			failed = cmp.Or(failed, fmt.Errorf("slot %d: %w", s.number, err))
			return
		}
		copy(b[slotPlace(s.number):], encodeSlot(s))
	})
	return failed
}

// MakeRecoveryKey writes the two halves of a new recovery key to files that do not exist, readable by their owner only.
// name is by what people tell one from another.
func MakeRecoveryKey(privateFile, publicFile string) (name string, err error) {
	key := newSecret()
	r, err := newRecoveryPrivate(&key)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(publicFile); err == nil {
		return "", fmt.Errorf("store: recovery key: %w", &fs.PathError{Op: "create", Path: publicFile, Err: fs.ErrExist})
	}
	err = writeKeyFile(&osFiles{}, privateFile, recoveryPrivateWord, &key)
	if err == nil {
		err = writeKeyFile(&osFiles{}, publicFile, recoveryPublicWord, (*secret)(&r.public.public))
	}
	if err != nil {
		return "", fmt.Errorf("store: recovery key: %w", err)
	}
	return r.public.name.String(), nil
}

// Recover opens the keys of a store that nobody has open with its private recovery key, the master key being lost, and
// wraps them under another master key. Slots that it cannot open stay as they are; lost names them.
func Recover(dir, privateFile, newMaster string) (opened int, lost []KeySlot, err error) {
	return recoverKeys(&osFiles{}, dir, privateFile, newMaster)
}

func recoverKeys(fsys fileSystem, dir, privateFile, newMaster string) (opened int, lost []KeySlot, err error) {
	key, err := readKeyFile(privateFile, recoveryPrivateWord)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrRecoveryKey, err)
	}
	private, err := newRecoveryPrivate(&key)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %s: %w", ErrRecoveryKey, privateFile, err)
	}
	to, err := readMaster(newMaster)
	if err != nil {
		return 0, nil, err
	}
	err = editKeys(fsys, dir, func(b []byte) error {
		// Without the master key nobody can tell whether the head is what it was: what the slots say is what counts.
		head, _ := decodeHead(b)
		copy(b, encodeHead(to, private.public))
		var found bool
		opened, lost, found = recoverSlots(b, private, to)
		switch {
		case found:
			return nil
		case head.recovery == nil:
			return fmt.Errorf("%w: none is set for this store", ErrRecoveryKey)
		case head.recovery.name != private.public.name:
			return fmt.Errorf("%w: %s holds %s, this store wants %s", ErrRecoveryKey, privateFile, private.public.name, head.recovery.name)
		}
		return fmt.Errorf("%w: the key of the store", ErrCorrupt)
	})
	return opened, lost, err
}

// recoverSlots wraps what the recovery key opens; found reports that the key of the store is among it.
func recoverSlots(b []byte, private *recoveryPrivate, to *masterKey) (opened int, lost []KeySlot, found bool) {
	wrap := to.key.randomGCM("slots")
	eachSlot(b, func(s *slot, err error) {
		var key secret // a destroyed slot has zeros
		if err == nil && s.state == slotInUse {
			key, err = private.open(s.aad(), s.recovery)
		}
		if err != nil {
			lost = append(lost, listed(s, err))
			return
		}
		s.wrapped = wrap.Seal(nil, nil, key[:], s.aad())
		copy(b[slotPlace(s.number):], encodeSlot(s))
		found = found || s.number == storeSlot && s.state == slotInUse
		if s.state == slotInUse {
			opened++
		}
	})
	return opened, lost, found
}

// editKeys lets change alter the octets of the file of the keys of a store that nobody has open, and puts them in the
// place of the former ones: after a fault or a kill either all slots are as before or all are as after.
func editKeys(fsys fileSystem, dir string, change func(b []byte) error) (err error) {
	unlock, err := lockStore(dir)
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(dir, "keys")
	fail := func(err error) error { return fmt.Errorf("store: keys: %w", err) }
	if err := shredFile(fsys, path+newSuffix); err != nil {
		return fail(err)
	}
	old, err := fsys.OpenWrite(path)
	if err != nil {
		return fail(err)
	}
	defer old.Close()
	b, err := readKeys(old, path)
	if err != nil {
		return err
	}
	if err := change(b); err != nil {
		return err
	}
	if err := writeFile(fsys, path, b); err != nil {
		return fail(err)
	}
	// The former file has no name any more: overwrite what it held.
	if err := overwrite(old); err != nil {
		return fmt.Errorf("store: the new keys are in force, the former slots were not overwritten: %w", err)
	}
	return nil
}

// lockStore takes the lock that a process holds which has the store open, without opening the index, which may be
// damaged: bbolt locks the file with flock(2).
func lockStore(dir string) (unlock func(), err error) {
	if _, err := os.Stat(filepath.Join(dir, "VERSION")); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoStore, dir)
	}
	path := filepath.Join(dir, "index.db")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // nobody can have it open
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	}
	return func() { f.Close() }, nil
}
