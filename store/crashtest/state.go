package crashtest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Class says how a State came about.
type Class string

// What a disk may hold at the moment of a crash.
const (
	Synced Class = "synced" // what was synced, nothing else
	Kept   Class = "kept"   // everything: the process was killed, the system lives
	Single Class = "single" // one change that was not synced is there alone, or one alone is missing
	Random Class = "random" // each change that was not synced is there or not
	Torn   Class = "torn"   // some sectors of the last write
	Empty  Class = "empty"  // all names, but of data not synced only the length, or not even that
)

// Classes in the order of tables.
var Classes = []Class{Synced, Kept, Single, Random, Torn, Empty}

// State is what a disk may hold after a crash. It does not change any more.
type State struct {
	Class Class
	dirs  []string
	files map[string]content
}

// choice says what becomes of a change that is not durable: nil nothing, itself, or another one.
type choice func(n *node, o *op) *op

func keepAll(_ *node, o *op) *op { return o }
func dropAll(*node, *op) *op     { return nil }

// build makes the state of a choice.
func (d *Disk) build(class Class, choose choice) State {
	s := State{Class: class, files: map[string]content{}}
	var walk func(n *node, at string)
	walk = func(n *node, at string) {
		if !n.dir {
			s.files[at] = n.chosen(choose)
			return
		}
		if at != "" {
			s.dirs = append(s.dirs, at)
		}
		names := maps.Clone(n.names)
		for _, o := range n.pend {
			if o := choose(n, o); o != nil {
				o.onDir(names)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			walk(names[name], filepath.Join(at, name))
		}
	}
	walk(d.top, "")
	return s
}

func (n *node) chosen(choose choice) content {
	var b *builder
	all := true
	for _, o := range n.pend {
		c := choose(n, o)
		all = all && c == o
		if c == nil {
			continue
		}
		if b == nil {
			b = n.base.edit()
		}
		c.onFile(b)
	}
	switch {
	case all:
		return n.cur // the same pages, hashed already
	case b == nil:
		return n.base
	}
	return b.c
}

// States yields what the disk may hold if the power goes now: the fixed classes, and n of the random ones.
func (d *Disk) States(rng *rand.Rand, n int, yield func(State)) {
	yield(d.build(Synced, dropAll))
	yield(d.build(Kept, keepAll))
	var pend []*op // in the order of the calls
	d.each(func(n *node) { pend = append(pend, n.pend...) })
	if len(pend) == 0 {
		return
	}
	slices.SortFunc(pend, func(a, b *op) int { return a.seq - b.seq })
	for _, one := range pend[max(0, len(pend)-4):] {
		yield(d.build(Single, func(_ *node, o *op) *op { return when(o == one || o.whole == one, o) }))
		yield(d.build(Single, func(_ *node, o *op) *op { return when(o != one, o) }))
	}
	yield(d.build(Empty, func(n *node, o *op) *op { return when(n.dir, o) }))
	yield(d.build(Empty, func(n *node, o *op) *op {
		if n.dir || o.truncate {
			return o
		}
		return &op{truncate: true, off: max(n.base.size, o.off+int64(len(o.data)))}
	}))
	for i := range n {
		share := [...]float64{0.5, 0.85, 0.15}[i%3]
		lot := map[*op]bool{}
		for _, o := range pend {
			lot[o] = rng.Float64() < share
			if o.whole != nil && i%2 == 0 { // a file system that moves a name in one step
				if v, known := lot[o.whole]; known {
					lot[o] = v
				}
			}
		}
		yield(d.build(Random, func(_ *node, o *op) *op { return when(lot[o], o) }))
	}
	d.torn(pend, rng, n, yield)
}

func when(keep bool, o *op) *op {
	if keep {
		return o
	}
	return nil
}

// torn keeps some sectors of the last write.
func (d *Disk) torn(pend []*op, rng *rand.Rand, n int, yield func(State)) {
	last := pend[len(pend)-1]
	first, end := last.off/sectorSize, (last.off+int64(len(last.data))-1)/sectorSize
	if len(last.data) == 0 || first == end {
		return
	}
	for i := range n {
		part := map[int64]bool{}
		cut := first + 1 + rng.Int64N(end-first)
		for s := first; s <= end; s++ {
			part[s] = i%2 == 0 && s < cut || i%2 == 1 && rng.IntN(2) == 0
		}
		others := i%4 < 2
		yield(d.build(Torn, func(_ *node, o *op) *op {
			if o == last {
				return &op{off: o.off, data: o.data, sectors: part}
			}
			return when(others, o)
		}))
	}
}

// Hash is the same for equal states.
func (s State) Hash() [32]byte {
	h := sha256.New()
	for _, d := range s.dirs {
		fmt.Fprintf(h, "d%s\x00", d)
	}
	for _, f := range slices.Sorted(maps.Keys(s.files)) {
		sum := s.files[f].hash()
		fmt.Fprintf(h, "f%s\x00%x", f, sum)
	}
	return [32]byte(h.Sum(nil))
}

// Files are the names of the files, for messages.
func (s State) Files() []string { return slices.Sorted(maps.Keys(s.files)) }

// Write makes the state below an existing directory, which takes the place of the root.
func (s State) Write(dir string) error {
	for _, d := range s.dirs {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	for name, c := range s.files {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		for i, p := range c.pages {
			if p.data != [pageSize]byte{} {
				_, err2 := f.WriteAt(p.data[:min(pageSize, c.size-i*pageSize)], i*pageSize)
				err = errors.Join(err, err2)
			}
		}
		if err := errors.Join(err, f.Truncate(c.size), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Same compares what a program sees on the disk with the real directory: nil when the model followed every call.
func (d *Disk) Same(dir string) error {
	s := d.build(Kept, keepAll)
	want := map[string]bool{}
	for _, n := range s.dirs {
		want[n] = true
	}
	for n := range s.files {
		want[n] = true
	}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if !want[rel] {
			return fmt.Errorf("%s is on the disk and not in the model", rel)
		}
		delete(want, rel)
		if e.IsDir() {
			return nil
		}
		return s.files[rel].same(p)
	})
	for n := range want {
		err = errors.Join(err, fmt.Errorf("%s is in the model and not on the disk", n))
	}
	return err
}

func (c content) same(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if int64(len(b)) != c.size {
		return fmt.Errorf("%s has %d octets, in the model %d", filepath.Base(path), len(b), c.size)
	}
	for at := int64(0); at < c.size; at += pageSize {
		if string(b[at:min(at+pageSize, c.size)]) != string(c.read(at, pageSize)) {
			return fmt.Errorf("%s differs from the model in page %d", filepath.Base(path), at/pageSize)
		}
	}
	return nil
}

// Load takes over what stands in a real directory, as durable, in place of an empty one.
func (d *Disk) Load(dir string) error {
	return filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		above, name, _, err := d.find(rel)
		if err != nil {
			return err
		}
		n := newDir()
		if !e.IsDir() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			c := content{}.edit()
			c.truncate(int64(len(b)))
			for at := 0; at < len(b); at += pageSize {
				if part := b[at:min(at+pageSize, len(b))]; len(bytes.Trim(part, "\x00")) > 0 {
					c.write(int64(at), part)
				}
			}
			n = &node{base: c.c, cur: c.c}
		}
		above.names[name], above.shown[name] = n, n
		return nil
	})
}
