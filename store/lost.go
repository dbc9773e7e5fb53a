package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The folder lost/ holds bodies that have no row and may still be wanted: those that no key opens, and damaged ones
// whose messages were dropped. The store never removes anything from it; Rebuild looks there again.

// Lost counts the bodies in the folder lost.
func (s *Store) Lost() (int, error) { return countLost(s.dir) }

// makeLost makes the folder, durably.
func makeLost(dir string) error {
	switch err := os.Mkdir(filepath.Join(dir, lostDir), 0o700); {
	case err == nil, errors.Is(err, fs.ErrExist): // a run that was killed may not have come to the sync
		return osFiles{}.SyncDir(dir)
	default:
		return fmt.Errorf("store: %w", err)
	}
}

// keepLost gives bodies a second name in lost/, durably, so that a sweep may take the first one. Those that are not
// there are passed over.
func keepLost(dir string, ids []MessageID) error {
	if len(ids) == 0 {
		return nil
	}
	if err := makeLost(dir); err != nil {
		return err
	}
	for _, id := range ids {
		err := os.Link(filepath.Join(dir, BodyFile(id)), filepath.Join(dir, lostDir, id.String()))
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store: keeping a damaged body: %w", err)
		}
	}
	return osFiles{}.SyncDir(filepath.Join(dir, lostDir))
}
