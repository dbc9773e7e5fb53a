package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// openError says of a store that cannot be opened where and why, each place once.
func openError(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: the disk of the store is read-only; the kernel's log (dmesg) may say why. Make it writable, or copy the folder to a good disk: %w", dir, withoutName(err))
	case strings.Contains(err.Error(), dir):
		return fmt.Errorf("cannot open the store: %w", err)
	}
	return fmt.Errorf("%s: cannot open the store: %w", dir, err)
}

// withoutName is what the system said, without the name of the file.
func withoutName(err error) error {
	if named := (*fs.PathError)(nil); errors.As(err, &named) {
		return named.Err
	}
	return err
}
