package tlsconf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ReplaceFile writes a file whole or not at all, also in a power failure.
func ReplaceFile(name string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// CleanUp removes what a ReplaceFile left that was cut short by a kill. The last element of the path is a pattern
// (filepath.Match) of the names that are replaced; nobody may be replacing them meanwhile. A folder that is not there
// holds nothing.
func CleanUp(files string) error {
	dir, pattern := filepath.Split(files)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		i := strings.LastIndexByte(e.Name(), '.')
		if i < 0 || e.Name()[i+1:] == "" || strings.Trim(e.Name()[i+1:], "0123456789") != "" {
			continue
		}
		if ok, _ := filepath.Match(pattern, e.Name()[:i]); ok {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
