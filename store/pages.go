package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The list of free pages stands in index.db with each commit, so that a start reads it instead of looking at each
// page for what is not used: with 10 million messages on a cold disk that takes minutes. A very long list costs
// more with each commit than that is worth: then it is left out until Close.
const maxFreeKept = 1 << 15 // pages; 256 KiB in the file

// soundTime bounds how long a start looks at pages. A small index is read through; of a big one the rest is looked at
// when it is used, and by fsck.
const soundTime = 300 * time.Millisecond

// Parts of a bbolt file.
const (
	boltMagic    = 0xED0CDAED
	boltNoList   = ^uint64(0)
	boltMetaLen  = 64   // octets of a head, its sum last
	boltPageHead = 16   // octets before what a page holds
	boltFreelist = 0x10 // kind of a page
)

// boltHead is what the head of a database file says.
type boltHead struct {
	pageSize int64
	pages    uint64 // how many there are
	root     uint64 // page of the bucket of buckets
	freelist uint64 // page of the list of free pages, boltNoList where there is none
	tx       uint64
}

// readHead reads the two heads and yields the one that counts: the latest that is whole. ok is false where none is.
func readHead(f io.ReaderAt) (h boltHead, ok bool) {
	for _, at := range []int64{0, int64(os.Getpagesize())} {
		b := make([]byte, boltPageHead+boltMetaLen)
		if _, err := f.ReadAt(b, at); err != nil {
			continue
		}
		b = b[boltPageHead:]
		sum := fnv.New64a()
		sum.Write(b[:boltMetaLen-8])
		le := binary.LittleEndian
		if le.Uint32(b) != boltMagic || le.Uint64(b[boltMetaLen-8:]) != sum.Sum64() {
			continue
		}
		if tx := le.Uint64(b[48:]); !ok || tx > h.tx {
			h, ok = boltHead{pageSize: int64(le.Uint32(b[8:])), root: le.Uint64(b[16:]), freelist: le.Uint64(b[32:]), pages: le.Uint64(b[40:]), tx: tx}, true
		}
	}
	return h, ok
}

// soundIndex looks at an index before bbolt opens it: at its length, at the list of free pages, and at its pages, all
// of them where bbolt will read all. A damaged page becomes an error with the name of the file. A database whose byte
// order or heads are unknown here is left to bbolt.
func soundIndex(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	h, ok := readHead(f)
	if !ok || h.pageSize < boltPageHead {
		return soundPages(path, 0)
	}
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if int64(h.pages) > st.Size()/h.pageSize {
		return fmt.Errorf("%w: %s is cut short: %d pages of %d octets, the file has %d octets; %s", ErrCorrupt, path, h.pages, h.pageSize, st.Size(), waysOut)
	}
	if h.freelist == boltNoList {
		return soundPages(path, 0)
	}
	if err := soundFreelist(f, h); err != nil {
		return fmt.Errorf("%w: %s: %w; %s", ErrCorrupt, path, err, waysOut)
	}
	return soundPages(path, soundTime)
}

var errFreelist = errors.New("the list of free pages is damaged")

// soundFreelist checks the list of free pages: a wrong one would make bbolt write over pages in use.
func soundFreelist(f io.ReaderAt, h boltHead) error {
	if h.freelist >= h.pages {
		return errFreelist
	}
	at := int64(h.freelist) * h.pageSize
	var b [boltPageHead + 8]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint64(b[:]) != h.freelist || le.Uint16(b[8:]) != boltFreelist {
		return errFreelist
	}
	n, from := uint64(le.Uint16(b[10:])), int64(boltPageHead)
	if n == 0xffff { // too many for the head of the page
		n, from = le.Uint64(b[boltPageHead:]), boltPageHead+8
	}
	if n > h.pages || int64(n)*8+from > int64(le.Uint32(b[12:])+1)*h.pageSize {
		return errFreelist
	}
	ids := make([]byte, n*8)
	if _, err := f.ReadAt(ids, at+from); err != nil {
		return err
	}
	last := uint64(1) // pages 0 and 1 are the heads
	for ; len(ids) > 0; ids = ids[8:] {
		id := le.Uint64(ids)
		if id <= last || id >= h.pages {
			return errFreelist
		}
		last = id
	}
	return nil
}

// soundPages reads the pages of a database for some time; 0: all of them. Without a list of free pages bbolt looks at
// all pages in a goroutine of its own, where a damaged one would end the process.
func soundPages(path string, limit time.Duration) error {
	db, err := openBolt(path, boltOptions{readOnly: true})
	if err != nil {
		return err
	}
	g := guard{name: path}
	err = g.view(db, func(tx *bolt.Tx) error { return walk(tx, limit) })
	if !g.stuck.Load() {
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		return fmt.Errorf("%w; %s", err, waysOut)
	}
	return nil
}

// walk reads every page of a database that a transaction can reach, for some time; 0: without end.
func walk(tx *bolt.Tx, limit time.Duration) error {
	start, n := time.Now(), 0
	return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
		c := b.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if n++; limit > 0 && n%256 == 0 && time.Since(start) > limit {
				return nil
			}
		}
		return nil
	})
}

// keepFreeList decides whether the next commit writes the list of free pages down.
func (s *Store) keepFreeList() {
	st := s.index.Stats()
	s.index.NoFreelistSync = st.FreePageN+st.PendingPageN > s.maxFree
}

// endFreeList writes the list of free pages down, when the last commit did not.
func (s *Store) endFreeList() error {
	if !s.index.NoFreelistSync {
		return nil
	}
	s.index.NoFreelistSync = false
	return s.guard.run(func() error { return s.index.Update(func(*bolt.Tx) error { return nil }) })
}
