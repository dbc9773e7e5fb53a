package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// spanBits says how many low bits of an id share a directory: 2^42 of them are about 70 minutes.
const spanBits = 42

// markName begins the names of marks in state/.
const markName = "bodies-"

func spanOf(id MessageID) string { return strconv.FormatUint(uint64(id)>>spanBits, 16) }

// BodyFile is where the file of a body stands, under the directory of its store.
func BodyFile(id MessageID) string { return filepath.Join("blobs", spanOf(id), id.String()) }

func (s *Store) blobPath(id MessageID) string { return filepath.Join(s.dir, BodyFile(id)) }

// places are the directories of the bodies, one for a span of ids. Before the first body goes into one, a mark in
// state/ names it, durably: only marked ones can hold bodies without a record after a kill, so that the next start
// need not look through all. One goroutine uses them.
type places struct {
	fs     fileSystem
	store  string // directory of the store
	synced bool
	last   string // span of the latest body
	doubt  bool   // a body may be in its place though its batch was refused: the marks stay for the next start
	marked map[string]bool
}

func newPlaces(fs fileSystem, store string, synced bool) *places {
	return &places{fs: fs, store: store, synced: synced, marked: map[string]bool{}}
}

// dir makes the directory of a body where it is missing.
func (p *places) dir(id MessageID) (string, error) {
	span := spanOf(id)
	dir := filepath.Join(p.store, "blobs", span)
	if span == p.last {
		return dir, nil
	}
	if err := p.mark(span); err != nil {
		return "", err
	}
	if err := p.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	// Also where it exists: a process that was killed may have made it and not have come to this.
	if p.synced {
		if err := p.fs.SyncDir(filepath.Dir(dir)); err != nil {
			return "", fatal(err)
		}
	}
	p.last = span
	return dir, nil
}

func (p *places) mark(span string) error {
	if p.marked[span] {
		return nil
	}
	state := filepath.Join(p.store, "state")
	f, err := p.fs.Create(filepath.Join(state, markName+span))
	switch {
	case errors.Is(err, fs.ErrExist):
	case err != nil:
		return err
	default:
		if p.synced {
			err = fatal(f.Sync())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if p.synced {
		if err := p.fs.SyncDir(state); err != nil {
			return fatal(err)
		}
	}
	p.marked[span] = true
	return nil
}

// tidy removes directories that are empty and will hardly be used again; a full one refuses.
func (p *places) tidy(spans map[string]struct{}) {
	for span := range spans {
		if span != p.last {
			_ = p.fs.Remove(filepath.Join(p.store, "blobs", span))
		}
	}
}

// left are the spans that have a mark from before.
func (p *places) left() (spans []string, err error) {
	names, err := os.ReadDir(filepath.Join(p.store, "state"))
	for _, n := range names {
		if span, ok := strings.CutPrefix(n.Name(), markName); ok {
			spans = append(spans, span)
		}
	}
	return spans, err
}

// unmark removes all marks: each body in its place has a record.
func (p *places) unmark() error {
	if p.doubt {
		return nil
	}
	spans, err := p.left()
	for _, span := range spans {
		err = errors.Join(err, p.fs.Remove(filepath.Join(p.store, "state", markName+span)))
	}
	return err
}
