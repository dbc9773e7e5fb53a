package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileSystem is what the store asks of the system for what must be durable; tests put faults into it.
type fileSystem interface {
	Create(path string) (file, error) // must not exist
	Open(path string) (file, error)
	OpenWrite(path string) (file, error) // must exist; to overwrite in place, with WriteAt
	Rename(from, to string) error
	Remove(path string) error
	Mkdir(path string) error
	SyncDir(path string) error
	// SyncAll makes everything written to the file system of the store durable.
	SyncAll() error
}

type file interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
	Size() (int64, error)
}

// osFiles is the real one. root stays open for SyncAll: the kernel reports a failed write-back to each
// descriptor that was open when it happened (syncfs(2), Linux 5.8 and later).
type osFiles struct{ root *os.File } // root is set before the first SyncAll

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (osFiles) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) Open(path string) (file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) OpenWrite(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename spares the look at the target that os.Rename takes: the name of a body is never in use.
func (osFiles) Rename(from, to string) error {
	if err := syscall.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func (osFiles) Remove(path string) error { return os.Remove(path) }
func (osFiles) Mkdir(path string) error  { return os.Mkdir(path, 0o700) }

func (osFiles) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (o *osFiles) SyncAll() error {
	if err := unix.Syncfs(int(o.root.Fd())); err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	return nil
}

// makeDirs makes a directory and what is missing above it, durably.
func makeDirs(fsys fileSystem, dir string) error {
	above := filepath.Dir(dir)
	err := fsys.Mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := makeDirs(fsys, above); err != nil {
			return err
		}
		err = fsys.Mkdir(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fsys.SyncDir(above)
}

// freeSpace is what an ordinary user may still write to the file system of dir, in octets.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("store: free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// noSpace names a full disk.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// writeFile writes a small file durably: beside it, synced, renamed, directory synced. After an error the file is the
// former one, unless it is errUnsure: then a power failure may bring the former one back.
func writeFile(fsys fileSystem, path string, data []byte) error {
	tmp := path + newSuffix
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return noSpace(err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = fsys.Rename(tmp, path)
	}
	if err != nil {
		_ = fsys.Remove(tmp) // it is removed at the next start or attempt
		return noSpace(err)
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", errUnsure, err)
	}
	return nil
}

// newSuffix ends the name of a file that is to take the place of another one.
const newSuffix = ".new"

var errUnsure = errors.New("the new file is in place, but may be lost in a power failure")
