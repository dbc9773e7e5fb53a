package crashtest

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
)

const (
	pageSize   = 4096 // octets of a page of a content
	sectorSize = 512  // octets that a disk writes whole or not at all
)

// page is never changed once it is part of a content.
type page struct {
	data [pageSize]byte
	once sync.Once
	sum  [32]byte
}

func (p *page) hash() [32]byte {
	p.once.Do(func() { p.sum = sha256.Sum256(p.data[:]) })
	return p.sum
}

// content is what a file holds; pages that are missing are zeros. Never changed: write and truncate yield another one.
type content struct {
	pages map[int64]*page
	size  int64
}

// builder changes a copy of a content.
type builder struct {
	c     content
	fresh map[int64]bool // pages that are ours to change
}

func (c content) edit() *builder {
	return &builder{content{maps.Clone(c.pages), c.size}, map[int64]bool{}}
}

func (b *builder) page(n int64) *page {
	if b.fresh[n] {
		return b.c.pages[n]
	}
	p := &page{}
	if old := b.c.pages[n]; old != nil {
		p.data = old.data
	}
	if b.c.pages == nil {
		b.c.pages = map[int64]*page{}
	}
	b.c.pages[n], b.fresh[n] = p, true
	return p
}

func (b *builder) write(off int64, data []byte) {
	b.c.size = max(b.c.size, off+int64(len(data)))
	for len(data) > 0 {
		n := copy(b.page(off / pageSize).data[off%pageSize:], data)
		off, data = off+int64(n), data[n:]
	}
}

func (b *builder) truncate(size int64) {
	if size < b.c.size {
		for n := range b.c.pages {
			if n*pageSize >= size {
				delete(b.c.pages, n)
			}
		}
		if size%pageSize != 0 && b.c.pages[size/pageSize] != nil {
			clear(b.page(size / pageSize).data[size%pageSize:])
		}
	}
	b.c.size = size
}

func (c content) hash() (sum [32]byte) {
	h := sha256.New()
	var n [8]byte
	for _, i := range slices.Sorted(maps.Keys(c.pages)) {
		binary.BigEndian.PutUint64(n[:], uint64(i))
		h.Write(n[:])
		s := c.pages[i].hash()
		h.Write(s[:])
	}
	binary.BigEndian.PutUint64(n[:], uint64(c.size))
	h.Write(n[:])
	return [32]byte(h.Sum(nil))
}

func (c content) read(off, n int64) []byte {
	n = max(0, min(n, c.size-off))
	out := make([]byte, n)
	for at := int64(0); at < n; {
		i, from := (off+at)/pageSize, (off+at)%pageSize
		step := min(n-at, pageSize-from)
		if p := c.pages[i]; p != nil {
			copy(out[at:at+step], p.data[from:])
		}
		at += step
	}
	return out
}

// node is a file or a directory. What was synced stands in base or names, what was done since in pend.
type node struct {
	dir   bool
	base  content
	names map[string]*node
	pend  []*op

	cur   content // with all of pend: what a running program sees
	shown map[string]*node
}

// op is a change that is not durable yet.
type op struct {
	seq  int
	done bool // the call has ended: a sync that begins now covers it

	// Of a file: data written, or the size set.
	data     []byte
	off      int64
	truncate bool
	sectors  map[int64]bool // of a write that was torn: those that came to the disk; nil all

	// Of a directory: the name gets this node, or nil and goes.
	name  string
	child *node
	whole *op // the other half of a rename
}

func newDir() *node {
	return &node{dir: true, names: map[string]*node{}, shown: map[string]*node{}}
}

func (o *op) onFile(b *builder) {
	switch {
	case o.truncate:
		b.truncate(o.off)
	case o.sectors == nil:
		b.write(o.off, o.data)
	default:
		for at, end := o.off, o.off+int64(len(o.data)); at < end; {
			next := min((at/sectorSize+1)*sectorSize, end)
			if o.sectors[at/sectorSize] {
				b.write(at, o.data[at-o.off:next-o.off])
			}
			at = next
		}
	}
}

func (o *op) onDir(names map[string]*node) {
	if o.child == nil {
		delete(names, o.name)
	} else {
		names[o.name] = o.child
	}
}

func (n *node) add(o *op) {
	n.pend = append(n.pend, o)
	if n.dir {
		o.onDir(n.shown)
		return
	}
	b := n.cur.edit()
	o.onFile(b)
	n.cur = b.c
}

// settle makes those of pend durable that are in the set.
func (n *node) settle(ops map[*op]bool) {
	b := n.base.edit()
	left := n.pend[:0:0]
	for _, o := range n.pend {
		switch {
		case !ops[o]:
			left = append(left, o)
		case n.dir:
			o.onDir(n.names)
		default:
			o.onFile(b)
		}
	}
	n.base, n.pend = b.c, left
}
