package backup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mssd/store"
	"mssd/trace"
)

// Options of Run.
type Options struct {
	Fast      bool // do not open the new bodies with their keys
	VerifyAll bool // read the old bodies back too
	Progress  store.Progress
}

// Report is what a run did.
type Report struct {
	Generation string
	Moment     Moment
	Bodies     int64      // that the generation needs
	Octets     int64      // of their files
	New        int64      // copied by this run
	NewOctets  int64      //
	Repaired   int64      // old ones that were damaged here and were copied again
	Damaged    []trace.ID // that the store could not give, at most 1000
	DamagedAll int64      // how many
	Locked     int64      // copied, but no key at hand opened them
	SameDisk   bool       // the directory lies on the file system of the store
	Removed    int        // generations of broken-off runs
	Opens      []Opens    // which older generations still open mail of BALs that were destroyed
}

// Opens says that a generation holds the keys of BALs that were destroyed later.
type Opens struct {
	Generation string          `json:"generation"`
	BALs       []store.Address `json:"bals"`
}

const (
	chunkOctets = 64 << 20 // octets of bodies that are written before they are read back
	maxNamed    = 1000     // damaged bodies named in a report
	syncEachMax = 2        // so many files are synced one by one, more by syncing the file system
)

// versionText is the file VERSION of a generation.
const versionText = "mssd store 1\n"

// Run copies one moment of a store. An error says that there is no new generation; those before are as they were, and the
// bodies that were copied are used by the next run.
func Run(ctx context.Context, src Source, d *Dir, opt Options) (Report, error) {
	r := &run{Report: Report{Opens: []Opens{}}, src: src, d: d, opt: opt, ctx: ctx}
	err := r.run()
	if err != nil && r.part != "" {
		// Nothing of it is of use: it goes, and with it the copy of the keys.
		if d.shred(r.part) == nil {
			r.forget(context.WithoutCancel(ctx), r.id)
		}
	}
	return r.Report, r.explain(err)
}

type run struct {
	Report
	src  Source
	d    *Dir
	opt  Options
	ctx  context.Context
	s    Session
	id   trace.ID
	part string // directory of the generation

	list     *newFile
	out      *bufio.Writer
	old      *oldList // of the generation before; nil: none
	chunk    []item
	octets   int64               // of the chunk
	seen     int64               // bodies looked at
	total    int64               // bodies of the index
	spans    map[string]struct{} // directories below blobs/ that were synced
	incoming map[trace.ID]*newFile
}

// item is a body that the moment needs.
type item struct {
	Body
	need need
}

type need uint8

const (
	have  need = iota // here and known
	check             // here, but no list says what it must hold
	fetch
)

func (r *run) run() (err error) {
	if err := r.clean(); err != nil {
		return err
	}
	if r.s, err = r.src.Begin(r.ctx, r.d.Path, r.opt.Progress); err != nil {
		return err
	}
	defer r.s.Close()
	m := r.s.Moment()
	if r.id, err = trace.ParseID(m.ID); err != nil {
		return err
	}
	r.Report.Moment, r.Generation = m, m.name()
	all, err := r.d.Generations()
	if err != nil {
		return err
	}
	for _, g := range all {
		if g.Err == nil && g.Manifest.Store != m.Store {
			return fmt.Errorf("%w: generation %s is of the store %s, this one is %s; each store wants a folder of its own", ErrOther, g.Name, g.Manifest.Store, m.Store)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(r.d.Path, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: r.d.Path, Err: err}
	}
	r.SameDisk = uint64(st.Dev) == m.Device
	r.part = r.d.at(generationsDir, r.Generation+partial)
	if err := os.Mkdir(r.part, 0o700); err != nil {
		return err
	}
	version, err := r.head()
	if err != nil {
		return err
	}
	if !r.opt.Fast {
		r.tell("reading the index through", 0, 0)
		if err := store.SoundIndex(filepath.Join(r.part, "index.db")); err != nil {
			return fmt.Errorf("the index of the store is damaged, and so would be the backup: %w", err)
		}
	}
	if err := r.bodies(); err != nil {
		return err
	}
	list, err := r.closeList()
	if err != nil {
		return err
	}
	return r.finish(Contents{List: list, Version: version, Bodies: r.Bodies, Octets: r.Octets, Damaged: r.DamagedAll})
}

// clean removes what broken-off runs left.
func (r *run) clean() error {
	if err := r.d.folders(); err != nil {
		return err
	}
	dirs, ids, err := r.d.partials()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := r.d.shred(dir); err != nil {
			return err
		}
	}
	for _, id := range ids {
		r.Removed++
		r.forget(r.ctx, id)
	}
	names, err := os.ReadDir(r.d.at(incomingDir))
	for _, n := range names {
		err = errors.Join(err, os.Remove(r.d.at(incomingDir, n.Name())))
	}
	return err
}

// forget tells the store that a backup is gone. Where that fails the record stays, which is on the safe side: the
// operator can say it too.
func (r *run) forget(ctx context.Context, id trace.ID) {
	if id != 0 {
		_ = r.src.Forget(ctx, id)
	}
}

// head writes keys, index and VERSION, and reads them back.
func (r *run) head() (version Sum, err error) {
	m := r.Report.Moment
	r.tell("copy of the keys", 0, 0)
	if err := r.file("keys", m.Keys, r.s.CopyKeys); err != nil {
		return version, err
	}
	done := int64(0)
	err = r.file("index.db", m.Index, func(ctx context.Context, w io.Writer) error {
		return r.s.CopyIndex(ctx, writerFunc(func(p []byte) (int, error) {
			n, err := w.Write(p)
			done += int64(n)
			r.tell("index to the backup", done, m.Index.Octets)
			return n, err
		}))
	})
	if err != nil {
		return version, err
	}
	f, err := create(filepath.Join(r.part, "VERSION"))
	if err != nil {
		return version, err
	}
	defer f.Close()
	if _, err := io.WriteString(f, versionText); err != nil {
		return version, err
	}
	return f.sumUp(), f.settle()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// file writes a file of the generation and holds it to what the store said of it.
func (r *run) file(name string, want Sum, copy func(context.Context, io.Writer) error) error {
	f, err := create(filepath.Join(r.part, name))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copy(r.ctx, f); err != nil {
		return err
	}
	if got := f.sumUp(); got != want {
		return fmt.Errorf("%s came over as %d octets %s, the store sent %d octets %s", name, got.Octets, got.SHA256, want.Octets, want.SHA256)
	}
	return f.settle()
}

// bodies goes through the bodies that the index names, in chunks.
func (r *run) bodies() (err error) {
	if r.list, err = create(filepath.Join(r.part, listFile)); err != nil {
		return err
	}
	r.out, r.spans = bufio.NewWriterSize(r.list, 1<<20), map[string]struct{}{}
	if r.old, err = r.d.newestList(); err != nil {
		return err
	}
	defer r.old.close()
	index := filepath.Join(r.part, "index.db")
	if err := store.EachBody(r.ctx, index, func(store.MessageID, int64) error { r.total++; return nil }); err != nil {
		return err
	}
	err = store.EachBody(r.ctx, index, func(id store.MessageID, size int64) error {
		it, err := r.look(id)
		if err != nil {
			return err
		}
		r.chunk = append(r.chunk, it)
		if it.need == fetch {
			r.octets += size
		}
		if len(r.chunk) < MaxAsk && r.octets < chunkOctets {
			return nil
		}
		return r.flush()
	})
	if err != nil {
		return err
	}
	return r.flush()
}

// look says what is to be done for a body.
func (r *run) look(id trace.ID) (item, error) {
	it := item{Body{ID: id}, fetch}
	known, err := r.old.find(id)
	if err != nil {
		return it, err
	}
	st, err := os.Stat(r.d.at(store.BodyFile(id)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return it, nil
	case err != nil:
		return it, err
	case known == nil:
		it.need = check
	case st.Size() == known.Octets:
		it.Body, it.need = *known, have
	}
	if it.need != have || !r.opt.VerifyAll {
		return it, nil
	}
	if same(r.d.at(store.BodyFile(id)), known) != nil {
		it.Body, it.need = Body{ID: id}, fetch
		r.Repaired++
	}
	return it, nil
}

// same reads a file back from the disk.
func same(path string, b *Body) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	fromDisk(f)
	f.Close()
	n, sum, err := sumFile(path)
	if err == nil && (n != b.Octets || sum != b.Sum) {
		err = ErrDamaged
	}
	return err
}

// flush gets the chunk here and writes it into the list.
func (r *run) flush() error {
	if err := r.verifyOld(); err != nil {
		return err
	}
	if err := r.fetch(); err != nil {
		return err
	}
	for i := range r.chunk {
		b := &r.chunk[i].Body
		r.Bodies++
		switch {
		case b.Status.There():
			r.Octets += b.Octets
		default:
			r.DamagedAll++
			if len(r.Damaged) < maxNamed {
				r.Damaged = append(r.Damaged, b.ID)
			}
		}
		if err := (listWriter{r.out}).add(*b); err != nil {
			return err
		}
	}
	r.seen += int64(len(r.chunk))
	r.tell("bodies", r.seen, r.total)
	r.chunk, r.octets = r.chunk[:0], 0
	return nil
}

// ask asks for the bodies of the chunk that have a need.
func (r *run) ask(n need, sumsOnly bool, fn func(*item, Body, io.Reader) error) error {
	ask := Ask{SumsOnly: sumsOnly, Fast: r.opt.Fast}
	var items []*item
	for i := range r.chunk {
		if it := &r.chunk[i]; it.need == n {
			ask.IDs, items = append(ask.IDs, it.ID), append(items, it)
		}
	}
	if len(items) == 0 {
		return nil
	}
	at := 0
	err := r.s.Bodies(r.ctx, ask, func(b Body, content io.Reader) error {
		if at == len(items) || items[at].ID != b.ID {
			return fmt.Errorf("the store sent body %s, which was not asked for", b.ID)
		}
		at++
		return fn(items[at-1], b, content)
	})
	if err == nil && at < len(items) {
		err = fmt.Errorf("the store sent %d bodies of %d", at, len(items))
	}
	return err
}

// verifyOld compares what a broken-off run copied with what the store holds.
func (r *run) verifyOld() error {
	return r.ask(check, true, func(it *item, b Body, _ io.Reader) error {
		it.need = fetch
		if b.Status.There() && same(r.d.at(store.BodyFile(b.ID)), &b) == nil {
			it.Body, it.need = b, have
		}
		return nil
	})
}

// fetch copies what is missing: all of it is synced and read back before it gets its name.
func (r *run) fetch() error {
	r.incoming = map[trace.ID]*newFile{}
	defer func() {
		for _, f := range r.incoming {
			f.Close()
		}
	}()
	err := r.ask(fetch, false, func(it *item, b Body, content io.Reader) error {
		it.Body = b
		if !b.Status.There() {
			return nil
		}
		if b.Status == Locked {
			r.Locked++
		}
		return r.receive(b, content)
	})
	if err != nil {
		return err
	}
	settle := (*newFile).settle
	if len(r.incoming) > syncEachMax {
		settle = (*newFile).readBack
		if err := unix.Syncfs(int(r.d.root.Fd())); err != nil {
			return fmt.Errorf("%s: syncfs: %w", r.d.Path, err)
		}
	}
	touched := map[string]struct{}{}
	for id, f := range r.incoming {
		delete(r.incoming, id)
		if err := settle(f); err != nil {
			return err
		}
		dir, err := r.place(id, f)
		if err != nil {
			return err
		}
		touched[dir] = struct{}{}
	}
	for dir := range touched {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// receive writes a body to where it waits.
func (r *run) receive(b Body, content io.Reader) error {
	f, err := create(r.d.at(incomingDir, b.ID.String()))
	if err != nil {
		return err
	}
	r.incoming[b.ID] = f
	n, err := io.Copy(f, content)
	if err != nil {
		return err
	}
	if f.sumUp() != newSum(b.Octets, b.Sum[:]) {
		return fmt.Errorf("body %s came over as %d octets, and not as the %d that the store sent", b.ID, n, b.Octets)
	}
	r.New++
	r.NewOctets += n
	return nil
}

// place gives a body its name.
func (r *run) place(id trace.ID, f *newFile) (dir string, err error) {
	path := r.d.at(store.BodyFile(id))
	dir = filepath.Dir(path)
	if _, ok := r.spans[dir]; !ok {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
		if err := syncDir(r.d.at(blobsDir)); err != nil {
			return dir, err
		}
		r.spans[dir] = struct{}{}
	}
	return dir, os.Rename(f.f.Name(), path)
}

func (r *run) closeList() (Sum, error) {
	if err := r.out.Flush(); err != nil {
		return Sum{}, err
	}
	return r.list.sumUp(), r.list.settle()
}

// finish writes the manifest, gives the generation its name and tells the store.
func (r *run) finish(c Contents) error {
	text, err := r.s.Manifest(r.ctx, c)
	if err != nil {
		return err
	}
	if m, err := parseManifest(text); err != nil || !bytes.Equal(m.signed, (&Manifest{Moment: r.Report.Moment, Contents: c}).text()) {
		return errors.Join(errors.New("the store signed something else"), err)
	}
	if err := writeFile(filepath.Join(r.part, manifestFile), text); err != nil {
		return err
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if err := os.Rename(r.part, r.d.at(generationsDir, r.Generation)); err != nil {
		return err
	}
	r.part = ""
	if err := syncDir(r.d.at(generationsDir)); err != nil {
		return err
	}
	if err := r.s.Done(r.ctx); err != nil {
		return fmt.Errorf("generation %s is whole, but the store could not be told: %w", r.Generation, err)
	}
	return r.destroyed()
}

// destroyed names the generations that hold the key of a BAL which the store has destroyed since.
func (r *run) destroyed() error {
	all, err := r.d.Generations()
	if err != nil {
		return err
	}
	newer, err := readSmall(r.d.at(generationsDir, r.Generation, "keys"), r.Report.Moment.Keys.Octets)
	if err != nil {
		return err
	}
	for _, g := range all {
		if g.Err != nil || g.Name == r.Generation {
			continue
		}
		older, err := readSmall(filepath.Join(g.dir, "keys"), g.Manifest.Keys.Octets)
		if err != nil {
			continue // Verify says so
		}
		if bals, err := store.OpensDestroyed(older, newer); err == nil && len(bals) > 0 {
			r.Opens = append(r.Opens, Opens{g.Name, bals})
		}
	}
	return nil
}

func (r *run) tell(stage string, done, total int64) {
	if r.opt.Progress != nil {
		r.opt.Progress(stage, done, total)
	}
}

// explain says what a fault means for the backups.
func (r *run) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%s is full: %w; no generation was added, the former ones are whole. Make room (mssd backup prune) and run it again: what was copied stays", r.d.Path, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s cannot be written: %w; mount it for writing. The former generations are as they were", r.d.Path, err)
	}
	return fmt.Errorf("backup to %s: %w", r.d.Path, err)
}

// oldList is the list of the generation before, read beside the index.
type oldList struct {
	f    *os.File
	r    *listReader
	cur  Body
	done bool
}

// newestList opens the list of the newest generation whose list is what its manifest says. nil: there is none.
func (d *Dir) newestList() (*oldList, error) {
	all, err := d.Generations()
	if err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		g := &all[i]
		if g.Err != nil || g.Manifest.List.check(filepath.Join(g.dir, listFile)) != nil {
			continue
		}
		f, err := os.Open(filepath.Join(g.dir, listFile))
		if err != nil {
			continue
		}
		return &oldList{f: f, r: newListReader(f)}, nil
	}
	return nil, nil
}

func (l *oldList) close() {
	if l != nil {
		l.f.Close()
	}
}

// find yields what the list says of a body, nil: nothing, or that the store could not give it. Ids are asked for in
// ascending order.
func (l *oldList) find(id trace.ID) (*Body, error) {
	if l == nil {
		return nil, nil
	}
	for !l.done && l.cur.ID < id {
		b, err := l.r.next()
		switch {
		case errors.Is(err, io.EOF):
			l.done = true
		case err != nil:
			return nil, err
		default:
			l.cur = b
		}
	}
	if l.cur.ID != id || !l.cur.Status.There() {
		return nil, nil
	}
	b := l.cur
	return &b, nil
}
