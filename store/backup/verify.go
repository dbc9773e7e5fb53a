package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mssd/store"
	"mssd/trace"
)

// Verified is what Verify found.
type Verified struct {
	Generations int      `json:"generations"`
	Bodies      int64    `json:"bodies"`  // read, each once
	Octets      int64    `json:"octets"`  //
	Damaged     int64    `json:"damaged"` // that the store could not give when the backup was made
	Faults      []string `json:"faults"`  // what is wrong, at most 1000
	Signed      bool     `json:"signed"`  // the manifests were verified with the master key
}

func (v *Verified) fault(format string, args ...any) {
	if len(v.Faults) < maxNamed {
		v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
	}
}

// Verify reads everything that the generations name, or one of them where name is not "", and compares it with their
// sums. With a master key, the signatures of the manifests are verified too.
func Verify(ctx context.Context, d *Dir, name, masterKey string, p store.Progress) (Verified, error) {
	v := Verified{Faults: []string{}}
	all, err := d.Generations()
	if err != nil {
		return v, err
	}
	var gens []Generation
	for _, g := range all {
		if name != "" && g.Name != name {
			continue
		}
		v.Generations++
		if err := v.generation(&g, masterKey); err != nil {
			return v, err
		}
		if g.Err == nil {
			gens = append(gens, g)
		}
	}
	if v.Generations == 0 {
		return v, noGeneration(d, name)
	}
	v.Signed = masterKey != ""
	u, err := openUnion(gens)
	if err != nil {
		return v, err
	}
	defer u.close()
	for {
		b, err := u.next()
		if errors.Is(err, io.EOF) {
			return v, nil
		} else if err != nil {
			return v, err
		}
		if err := ctx.Err(); err != nil {
			return v, err
		}
		v.body(d, b)
		if p != nil && v.Bodies%100 == 0 {
			p("reading bodies", v.Octets, u.octets)
		}
	}
}

func noGeneration(d *Dir, name string) error {
	if name != "" {
		return fmt.Errorf("%s: no generation %s; mssd backup list --dir shows those there are", d.Path, name)
	}
	return fmt.Errorf("%s: no generation yet", d.Path)
}

// generation looks at the files of a generation. One whose list cannot be used gets Err.
func (v *Verified) generation(g *Generation, masterKey string) error {
	if g.Err != nil {
		v.fault("generation %s: %v", g.Name, g.Err)
		return nil
	}
	for name, s := range g.Manifest.files() {
		if err := s.check(filepath.Join(g.dir, name)); err != nil {
			v.fault("generation %s: %v", g.Name, err)
			if name == listFile {
				g.Err = err
			}
		}
	}
	v.Damaged += g.Manifest.Damaged
	if masterKey == "" {
		return nil
	}
	if err := g.signed(masterKey); errors.Is(err, store.ErrMasterKey) {
		return err
	} else if err != nil {
		v.fault("generation %s: %v", g.Name, err)
	}
	return nil
}

// files are what the manifest has sums of.
func (m *Manifest) files() map[string]Sum {
	return map[string]Sum{"VERSION": m.Version, "keys": m.Keys, "index.db": m.Index, listFile: m.List}
}

// signed verifies the signature of the manifest with the keys of the generation and the master key of its day.
func (g *Generation) signed(masterKey string) error {
	mac, err := store.ManifestKey(filepath.Join(g.dir, "keys"), masterKey)
	if err != nil {
		return err
	}
	return g.Manifest.verify(mac)
}

func (v *Verified) body(d *Dir, b Body) {
	v.Bodies++
	v.Octets += b.Octets
	switch err := same(d.at(store.BodyFile(b.ID)), &b); {
	case errors.Is(err, fs.ErrNotExist):
		v.fault("body %s is missing", b.ID)
	case errors.Is(err, ErrDamaged):
		v.fault("body %s does not hold what was written", b.ID)
	case err != nil:
		v.fault("body %s: %v", b.ID, err)
	}
}

// union goes through the lists of several generations at once: each body once, ascending. Those that no store could give
// are left out.
type union struct {
	files  []*os.File
	lists  []*listReader
	heads  []Body // ID 0: at its end
	octets int64  // of the largest generation: the least there is
}

func openUnion(gens []Generation) (_ *union, err error) {
	u := &union{}
	defer func() {
		if err != nil {
			u.close()
		}
	}()
	for i := range gens {
		f, err := os.Open(filepath.Join(gens[i].dir, listFile))
		if err != nil {
			return nil, err
		}
		u.files, u.lists, u.heads = append(u.files, f), append(u.lists, newListReader(f)), append(u.heads, Body{})
		u.octets = max(u.octets, gens[i].Manifest.Octets)
		if err := u.advance(i); err != nil {
			return nil, err
		}
	}
	return u, nil
}

func (u *union) close() {
	for _, f := range u.files {
		f.Close()
	}
}

// advance takes the next body of a list that is there.
func (u *union) advance(i int) error {
	for {
		b, err := u.lists[i].next()
		if errors.Is(err, io.EOF) {
			u.heads[i] = Body{}
			return nil
		} else if err != nil {
			return err
		}
		if b.Status.There() {
			u.heads[i] = b
			return nil
		}
	}
}

// next yields io.EOF at the end. Lists that do not agree on a body are ErrDamaged: a body never changes.
func (u *union) next() (Body, error) {
	var first trace.ID
	var b Body
	for _, h := range u.heads {
		if h.ID != 0 && (first == 0 || h.ID < first) {
			first, b = h.ID, h
		}
	}
	if first == 0 {
		return b, io.EOF
	}
	for i, h := range u.heads {
		if h.ID != first {
			continue
		}
		if h.Octets != b.Octets || h.Sum != b.Sum { // whether a key opened it is of the day, not of the body
			return b, fmt.Errorf("%w: generations do not agree on body %s", ErrDamaged, first)
		}
		if err := u.advance(i); err != nil {
			return b, err
		}
	}
	return b, nil
}
