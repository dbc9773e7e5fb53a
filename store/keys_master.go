package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// masterWord stands before the hex digits in the file of a master key.
const masterWord = "mssd-master-key-1"

// masterKey opens the slots.
type masterKey struct {
	key  secret
	name keyName
}

// keyName tells one key from another of its sort, without a hint at the key.
type keyName [8]byte

func (n keyName) String() string { return hex.EncodeToString(n[:]) }

func (s *secret) name(sort string) (n keyName) {
	d := s.derive("name of a " + sort)
	copy(n[:], d[:])
	return n
}

// Format prints the name only, whatever the verb.
func (m *masterKey) Format(f fmt.State, _ rune) { io.WriteString(f, "master key "+m.name.String()) }

func newMaster(key secret) *masterKey { return &masterKey{key, key.name("master key")} }

// readMaster reads the file of a master key: a word, a space, 64 hex digits, a line end.
func readMaster(path string) (*masterKey, error) {
	key, err := readKeyFile(path, masterWord)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMasterKey, err)
	}
	return newMaster(key), nil
}

// MakeMasterKey writes a new master key to a file that does not exist, readable by its owner only. The file is there
// whole or not at all.
func MakeMasterKey(path string) error {
	key := newSecret()
	if err := writeKeyFile(&osFiles{}, path, masterWord, &key); err != nil {
		return fmt.Errorf("store: master key: %w", err)
	}
	return nil
}

// readKeyFile reads a file with one key: a word that names its sort and version, a space, 64 hex digits, a line end.
// No error shows what is in it.
func readKeyFile(path, word string) (key secret, err error) {
	f, err := os.Open(path)
	if err != nil {
		return key, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return key, err
	}
	got, digits, _ := strings.Cut(strings.TrimRight(string(b), "\r\n"), " ")
	k, err := hex.DecodeString(digits)
	if got != word || err != nil || len(k) != keyLen {
		return key, fmt.Errorf("%s holds none (it wants one line: %s and %d hex digits)", path, word, 2*keyLen)
	}
	return secret(k), nil
}

// writeKeyFile writes such a file, whole or not at all, and never over another one.
func writeKeyFile(fsys fileSystem, path, word string, key *secret) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	tmp := path + newSuffix
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %x\n", word, key[:])
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(tmp, path) // unlike a rename, never over another key
	}
	return errors.Join(err, os.Remove(tmp), fsys.SyncDir(filepath.Dir(path)))
}
