package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// salvage reads a bbolt file page by page, without mapping it: a page that cannot be read, or that is none, loses what
// stands below it and nothing else. It never panics, whatever the file holds.
type salvage struct {
	f       *os.File
	head    boltHead
	size    int64
	buckets map[string][]byte // name → its value: root page, sequence, or the page itself
	lost    map[string]int    // bucket → pages or records that could not be read; "": of the bucket of buckets
	budget  uint64            // pages still to be visited in one walk: no file leads round in circles
}

const (
	boltBranch   = 0x01
	boltLeaf     = 0x02
	boltElem     = 16 // octets of an element in a page
	boltBucket   = 16 // octets before the page of an inline bucket
	boltIsBucket = 0x01
	maxDepth     = 64
	maxSalvage   = 1 << 30 // octets of one page with its overflow
)

// openSalvage finds the head of the file and its buckets.
func openSalvage(path string) (*salvage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &salvage{f: f, buckets: map[string][]byte{}, lost: map[string]int{}}
	if err := s.open(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	return s, nil
}

func (s *salvage) open() error {
	st, err := s.f.Stat()
	if err != nil {
		return err
	}
	s.size = st.Size()
	h, ok := readHead(s.f)
	if !ok || h.pageSize < 512 || h.pageSize > 1<<20 {
		return errors.New("neither of its heads is whole")
	}
	s.head = h
	s.walk("", h.root, func(k, v []byte, flags uint32) {
		if flags&boltIsBucket == 0 || len(v) < boltBucket {
			s.lost[""]++
			return
		}
		s.buckets[string(k)] = bytes.Clone(v)
	})
	if len(s.buckets) == 0 {
		return errors.New("the list of its buckets cannot be read")
	}
	return nil
}

func (s *salvage) close() error { return s.f.Close() }

// each calls fn for the records of a bucket that can be read, in order. k and v hold for the call only.
func (s *salvage) each(bucket string, fn func(k, v []byte) error) error {
	value, ok := s.buckets[bucket]
	if !ok {
		return nil
	}
	s.lost[bucket] = 0 // counted anew by each pass
	var failed error
	take := func(k, v []byte, flags uint32) {
		switch {
		case failed != nil:
		case flags&boltIsBucket != 0:
			s.lost[bucket]++
		default:
			failed = fn(k, v)
		}
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		s.walk(bucket, root, take)
	} else {
		s.leaf(bucket, value[boltBucket:], take)
	}
	return failed
}

func (s *salvage) walk(bucket string, root uint64, fn func(k, v []byte, flags uint32)) {
	s.budget = s.head.pages
	s.visit(bucket, root, 0, fn)
}

func (s *salvage) visit(bucket string, id uint64, depth int, fn func(k, v []byte, flags uint32)) {
	p, err := s.page(id)
	if err != nil || depth > maxDepth || s.budget == 0 {
		s.lost[bucket]++
		return
	}
	s.budget--
	switch kind, count := pageKind(p); {
	case kind == boltLeaf:
		s.leaf(bucket, p, fn)
	case kind == boltBranch && boltPageHead+count*boltElem <= len(p):
		for i := range count {
			s.visit(bucket, binary.LittleEndian.Uint64(p[boltPageHead+i*boltElem+8:]), depth+1, fn)
		}
	default:
		s.lost[bucket]++
	}
}

func pageKind(p []byte) (kind uint16, count int) {
	return binary.LittleEndian.Uint16(p[8:]), int(binary.LittleEndian.Uint16(p[10:]))
}

// page reads a page with its overflow.
func (s *salvage) page(id uint64) ([]byte, error) {
	if id < 2 || id >= s.head.pages {
		return nil, corrupt("number of a page")
	}
	at := int64(id) * s.head.pageSize
	head := make([]byte, boltPageHead)
	if err := readFull(s.f, head, at); err != nil {
		return nil, err
	}
	n := (int64(binary.LittleEndian.Uint32(head[12:])) + 1) * s.head.pageSize
	if binary.LittleEndian.Uint64(head) != id || n > maxSalvage || at+n > s.size {
		return nil, corrupt("page")
	}
	p := make([]byte, n)
	return p, readFull(s.f, p, at)
}

// leaf shows the records of a leaf; one that points outside of its page is lost.
func (s *salvage) leaf(bucket string, p []byte, fn func(k, v []byte, flags uint32)) {
	if len(p) < boltPageHead {
		s.lost[bucket]++
		return
	}
	kind, count := pageKind(p)
	if kind != boltLeaf || boltPageHead+count*boltElem > len(p) {
		s.lost[bucket]++
		return
	}
	le := binary.LittleEndian
	for i := range count {
		e := boltPageHead + i*boltElem
		from := uint64(e) + uint64(le.Uint32(p[e+4:]))
		k, v := uint64(le.Uint32(p[e+8:])), uint64(le.Uint32(p[e+12:]))
		if k == 0 || from+k+v > uint64(len(p)) {
			s.lost[bucket]++
			continue
		}
		fn(p[from:from+k:from+k], p[from+k:from+k+v:from+k+v], le.Uint32(p[e:]))
	}
}

// lostPages is how much could not be read of some buckets.
func (s *salvage) lostPages(buckets ...int) (n int) {
	for _, b := range buckets {
		n += s.lost[string(bucketNames[b])]
		if _, ok := s.buckets[string(bucketNames[b])]; !ok && b < bktExpunged {
			n++
		}
	}
	return n
}
