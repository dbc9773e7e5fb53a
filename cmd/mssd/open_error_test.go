package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"mssd/store"
)

func TestOpenError(t *testing.T) {
	const dir = "/var/lib/mssd/data"
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"read-only": {fmt.Errorf("store: %w", &fs.PathError{Op: "open", Path: dir + "/index.db", Err: syscall.EROFS}), "the disk of the store is read-only"},
		"rights":    {fmt.Errorf("store: %w", &fs.PathError{Op: "open", Path: dir + "/index.db", Err: syscall.EACCES}), "permission denied"},
		"damaged":   {fmt.Errorf("%w: %s/index.db: no page", store.ErrCorrupt, dir), "no page"},
		"no name":   {errors.New("too many open files"), "too many open files"},
	} {
		got := openError(dir, c.err)
		if !errors.Is(got, c.err) && name != "read-only" || strings.Count(got.Error(), dir) != 1 || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%s: %v; want the folder once and %q", name, got, c.want)
		}
	}
}
