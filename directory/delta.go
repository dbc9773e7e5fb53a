package directory

import (
	"maps"
)

// change is what a feed says about one key: its rows, which take the place of all former ones. No rows: it is gone.
type change struct {
	key  string
	rows []*record
}

// delta is what was changed since the base was built. It is immutable: a batch of changes makes a new one, which copies
// the former; foldAt bounds that work.
type delta struct {
	keys   map[string][]deltaRow // a key without rows is gone
	byAddr map[string][]string   // lower-case address → keys
	added  int                   // rows in keys
	masked int                   // rows of the base whose key is in keys
	octets int
	kinds  map[string]int // what the types of the base gain or lose
}

// deltaRow is a row in two parts: as in the arena, and the rest.
type deltaRow struct {
	core, text []byte
}

const foldAt = 4096 // keys

func (d *delta) has(key []byte) bool {
	if len(key) == 0 {
		return false
	}
	_, ok := d.keys[string(key)]
	return ok
}

func (d *delta) each(addr []byte, fn func(row) bool) {
	for _, key := range d.byAddr[string(addr)] {
		for _, r := range d.keys[key] {
			if f := (row{r.core}).fields(); string(f[fieldAddress]) == string(addr) && !fn(row{r.core}) {
				return
			}
		}
	}
}

func (d *delta) all(fn func(addr []byte, key string, r row)) {
	for key, rows := range d.keys {
		for _, r := range rows {
			fn(row{r.core}.fields()[fieldAddress], key, row{r.core})
		}
	}
}

// with makes the image that follows from changes, later ones of a key over former ones. Nothing of img is changed.
func (img *image) with(cs []change) *image {
	next := *img
	next.saved = nil
	d := &delta{keys: map[string][]deltaRow{}, byAddr: map[string][]string{}, kinds: map[string]int{}}
	if old := img.delta; old != nil {
		*d = *old
		d.keys, d.byAddr, d.kinds = maps.Clone(old.keys), maps.Clone(old.byAddr), maps.Clone(old.kinds)
	}
	for _, c := range cs {
		d.forget(img.base, c.key)
		rows := make([]deltaRow, 0, len(c.rows))
		for _, f := range c.rows {
			r := deltaRow{core: appendCore(nil, []byte(c.key), f), text: appendText(nil, f)}
			rows = append(rows, r)
			d.octets += len(r.core) + len(r.text)
			d.kinds[string(f[fieldKind])]++
			d.added++
			d.point(string(row{r.core}.fields()[fieldAddress]), c.key)
		}
		d.keys[c.key] = rows
		d.octets += len(c.key) + 64
	}
	next.delta = d
	return &next
}

// point notes that an address has a row under a key. The slice of a former delta is not written to.
func (d *delta) point(addr, key string) {
	old := d.byAddr[addr]
	for _, k := range old {
		if k == key {
			return
		}
	}
	d.byAddr[addr] = append(old[:len(old):len(old)], key)
}

// forget takes the rows of a key out of the counts, and out of the delta.
func (d *delta) forget(t *base, key string) {
	old, again := d.keys[key]
	if !again {
		t.findKey(key, func(at int) {
			d.masked++
			d.kinds[string(row{t.arena[at:]}.fields()[fieldKind])]--
		})
		return
	}
	d.octets -= len(key) + 64
	for _, r := range old {
		f := row{r.core}.fields()
		d.octets -= len(r.core) + len(r.text)
		d.kinds[string(f[fieldKind])]--
		d.added--
		addr := string(f[fieldAddress])
		var rest []string
		for _, k := range d.byAddr[addr] {
			if k != key {
				rest = append(rest, k)
			}
		}
		if rest == nil {
			delete(d.byAddr, addr)
		} else {
			d.byAddr[addr] = rest
		}
	}
}
