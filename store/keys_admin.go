package store

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// KeyList is what can be said of the keys of a store without showing one.
type KeyList struct {
	Wanted string // name of the master key that the store wants
	Given  string // name of the one in the file; "" where it cannot be read, Err says why
	Err    error
	Slots  []KeySlot
}

// KeySlot is one key. Number 0 is that of the store, others are those of BALs.
type KeySlot struct {
	Number  uint32
	Created time.Time
	Err     error // the master key given does not open it
}

// MasterKeyFile is where the master key of a store is looked for.
func MasterKeyFile(dir, masterKey string) string {
	return cmp.Or(masterKey, filepath.Join(dir, "master.key"))
}

// Keys lists the keys of a store, which may be in use.
func Keys(dir, masterKey string) (KeyList, error) {
	path := filepath.Join(dir, "keys")
	f, err := os.Open(path)
	if err != nil {
		return KeyList{}, fmt.Errorf("store: keys: %w", err)
	}
	defer f.Close()
	b, err := readKeys(f, path)
	if err != nil {
		return KeyList{}, err
	}
	list := KeyList{Wanted: fmt.Sprintf("%x", b[16:24])}
	m, err := readMaster(MasterKeyFile(dir, masterKey))
	if list.Err = err; err == nil {
		list.Given = m.Name()
	}
	eachSlot(b, func(s *slot, err error) {
		if err == nil && list.Err == nil {
			_, err = s.open(m.key.randomGCM("slots"))
		}
		list.Slots = append(list.Slots, KeySlot{s.number, s.created, err})
	})
	return list, nil
}

// CheckMasterKey reads the file of a master key; name is by what people tell one from another.
func CheckMasterKey(path string) (name string, err error) {
	m, err := readMaster(path)
	if err != nil {
		return "", err
	}
	return m.Name(), nil
}

// SameDisk reports whether a file lies on the file system of a directory.
func SameDisk(dir, file string) (bool, error) {
	var d, f unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &d), unix.Stat(file, &f)); err != nil {
		return false, err
	}
	return d.Dev == f.Dev, nil
}

// Rekey wraps each key of a store that nobody has open under another master key; no body is touched. When it
// returns an error the old master key is still the right one, unless the error says otherwise.
func Rekey(dir, oldMaster, newMaster string) error {
	if _, err := os.Stat(filepath.Join(dir, "VERSION")); err != nil {
		return fmt.Errorf("%w: %s", ErrNoStore, dir)
	}
	lock, err := openBolt(filepath.Join(dir, "index.db"), boltOptions{}) // holds the lock of the store
	if err != nil {
		return err
	}
	defer lock.Close()
	path := filepath.Join(dir, "keys")
	k, err := openKeys(path, MasterKeyFile(dir, oldMaster), false)
	if err != nil {
		return err
	}
	defer k.close()
	to, err := readMaster(newMaster)
	if err != nil {
		return err
	}
	if _, err := k.f.Seek(0, 0); err != nil {
		return err
	}
	b, err := readKeys(k.f, path)
	if err != nil {
		return err
	}
	if err := rewrap(b, k.wrap, to); err != nil {
		return err
	}
	if err := writeFile(path, b); err != nil {
		return fmt.Errorf("store: keys: %w", err)
	}
	// The former file has no name any more: overwrite what it held.
	if _, err := k.f.WriteAt(make([]byte, len(b)), 0); err != nil {
		return fmt.Errorf("store: the new master key is in force, the former slots were not overwritten: %w", err)
	}
	if err := k.f.Sync(); err != nil {
		return fmt.Errorf("store: the new master key is in force, the former slots were not overwritten: %w", err)
	}
	return nil
}
