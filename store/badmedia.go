package store

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
)

// badMedia names an answer of the disk that says: what was written here cannot be read.
func badMedia(err error) error {
	if BadMedia(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// BadMedia reports an answer of the disk that says: what was written here cannot be read. Any other error of reading
// (too many open files, a right that is missing) says nothing of what is there.
func BadMedia(err error) bool {
	for _, e := range []syscall.Errno{syscall.EIO, syscall.EUCLEAN, syscall.EBADMSG, syscall.ENODATA} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// unreadable reports that a body is not there, or not what was stored.
func unreadable(err error) bool { return errors.Is(err, ErrMissing) || errors.Is(err, ErrCorrupt) }

// unsoundBodies remembers bodies that were found damaged in mid-reading, when a front has announced octets already
// and can only cut the connection. The next opening reads such a body through first, so that this happens once.
type unsoundBodies struct {
	mu  sync.Mutex
	ids map[MessageID]struct{}
}

const maxUnsound = 10000

func (u *unsoundBodies) add(id MessageID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ids == nil {
		u.ids = map[MessageID]struct{}{}
	}
	if len(u.ids) < maxUnsound {
		u.ids[id] = struct{}{}
	}
}

func (u *unsoundBodies) has(id MessageID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.ids[id]
	return ok
}

func (u *unsoundBodies) drop(id MessageID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.ids, id)
}

// sound finds damage before a front announces octets, as far as this costs nothing: a body of one frame is opened at
// once, which any reading does, a longer one only where it was found damaged before. After an error the body is
// closed.
func (s *Store) sound(b *body, id MessageID) error {
	var err error
	switch {
	case len(b.ends) == 1:
		var first [1]byte
		_, err = b.ReadAt(first[:], 0)
	case s.unsound.has(id):
		if err = b.verify(); err == nil {
			s.unsound.drop(id) // somebody mended it
		}
	}
	if err != nil {
		b.Close()
		return fmt.Errorf("body %s: %w", id, err)
	}
	return nil
}

// verify opens every frame.
func (u *unsealer) verify() error {
	buf := plainBuffers.Get().(*[]byte)
	defer plainBuffers.Put(buf)
	for off := int64(0); off < u.size; off += frameLen {
		if _, err := u.ReadAt((*buf)[:min(frameLen, u.size-off)], off); err != nil {
			return err
		}
	}
	return nil
}
