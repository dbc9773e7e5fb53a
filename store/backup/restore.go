package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mssd/store"
	"mssd/trace"
)

// RestoreOptions of Restore.
type RestoreOptions struct {
	Generation string // "": the newest
	To         string // an empty or missing directory
	MasterKey  string // file of the master key of that day
	Rehearse   bool   // open every body too, then remove all of it again
	LostFrom   string // directory of the store that was lost, damaged as it may be; "": none
	Progress   store.Progress
	Now        func() time.Time // nil: time.Now
}

// Restored is what Restore did.
type Restored struct {
	Generation string
	Manifest   *Manifest
	Age        time.Duration // of the generation
	Took       time.Duration
	Bodies     int64
	Octets     int64
	Absent     []trace.ID // bodies of the generation that are not there: damaged in the backup, or before; at most 1000
	AbsentAll  int64
	Renewed    store.Renewed
	Destroyed  []store.Address // BALs that were destroyed after this backup: here they are again
	Made       []store.Address // BALs that were made after this backup, as far as files of keys tell: they are not here
	Opened     bool            // every body was opened to its end
	Problems   []string        // what Check, and the opening of bodies, found beyond what is absent
	Lost       []Lost          // messages that came after the backup, at most 100,000
	LostWhole  bool            // the trace of the lost store could be read to its end
	LostErr    error           // it could not be read at all
}

// Sound reports whether all that the backup should hold is there again and whole.
func (r *Restored) Sound() bool { return r.AbsentAll == 0 && len(r.Problems) == 0 && r.LostErr == nil }

// Lost is a message that the trace of the lost store knows and the backup does not hold.
type Lost struct {
	ID     trace.ID
	Time   time.Time
	BAL    string
	How    trace.Kind // Committed: delivered; Appended: stored by a client
	Domain string     // of the sender; "" not known
}

const maxLost = 100_000

// Restore makes a store from a generation. An error says that there is no store at To that can be used; a report that is not Sound says
// which messages are missing in it.
func Restore(ctx context.Context, d *Dir, opt RestoreOptions) (_ Restored, err error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	w := &restore{ctx: ctx, d: d, opt: opt, began: opt.Now()}
	all, err := d.Generations()
	if err != nil {
		return w.Restored, err
	}
	g, err := w.choose(all)
	if err != nil {
		return w.Restored, err
	}
	w.Generation, w.Manifest, w.Age = g.Name, g.Manifest, w.began.Sub(g.Manifest.Time)
	if err := w.destroyed(&g, all); err != nil {
		return w.Restored, err
	}
	made, err := emptyDir(opt.To)
	if err != nil {
		return w.Restored, err
	}
	if err := w.room(); err != nil {
		if made {
			err = errors.Join(err, os.Remove(opt.To))
		}
		return w.Restored, err
	}
	sound := false
	defer func() {
		if opt.Rehearse || !sound {
			err = errors.Join(err, removeContents(opt.To, made))
		}
	}()
	if err := w.copy(&g); err != nil {
		return w.Restored, err
	}
	if err := w.open(); err != nil {
		return w.Restored, err
	}
	sound = true
	w.lost()
	w.Took = opt.Now().Sub(w.began)
	return w.Restored, nil
}

type restore struct {
	Restored
	ctx   context.Context
	d     *Dir
	opt   RestoreOptions
	began time.Time
}

func (w *restore) tell(stage string, done, total int64) {
	if w.opt.Progress != nil {
		w.opt.Progress(stage, done, total)
	}
}

// choose finds the generation and holds its files to the manifest, and that to its signature.
func (w *restore) choose(all []Generation) (g Generation, err error) {
	i := len(all) - 1
	if w.opt.Generation != "" {
		i = slices.IndexFunc(all, func(g Generation) bool { return g.Name == w.opt.Generation })
	}
	if i < 0 {
		return g, noGeneration(w.d, w.opt.Generation)
	}
	g = all[i]
	fail := func(err error) (Generation, error) {
		return g, fmt.Errorf("generation %s: %w; another one may be whole (mssd backup list --dir, --generation)", g.Name, err)
	}
	if g.Err != nil {
		return fail(g.Err)
	}
	w.tell("verifying the generation", 0, 0)
	for name, s := range g.Manifest.files() {
		if err := s.check(filepath.Join(g.dir, name)); err != nil {
			return fail(err)
		}
	}
	if err := g.signed(w.opt.MasterKey); errors.Is(err, store.ErrMasterKey) {
		return g, err
	} else if err != nil {
		return fail(err)
	}
	if b, err := readSmall(filepath.Join(g.dir, "VERSION"), 100); err != nil || string(b) != versionText {
		return fail(errors.Join(fmt.Errorf("%w: its store is of another format", ErrVersion), err))
	}
	return g, nil
}

// room looks, before anything is copied, whether it will fit.
func (w *restore) room() error {
	var st unix.Statfs_t
	if err := unix.Statfs(w.opt.To, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: w.opt.To, Err: err}
	}
	need, free := w.Manifest.Octets+w.Manifest.Index.Octets+w.Manifest.Keys.Octets, int64(st.Bavail)*st.Bsize
	if need > free {
		return fmt.Errorf("%s: %w: %d octets are needed, %d are free", w.opt.To, store.ErrNoSpace, need, free)
	}
	return nil
}

// emptyDir makes sure that a directory is there and empty; made says that it was not there.
func emptyDir(path string) (made bool, err error) {
	err = os.Mkdir(path, 0o700)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	names, err := os.ReadDir(path)
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if n.Name() != "lost+found" {
			return false, fmt.Errorf("%s is not empty (%s); a store is restored into an empty or missing folder only; what a restore left that was killed may be removed", path, n.Name())
		}
	}
	return false, nil
}

// removeContents empties a directory again, and removes it where it was made. VERSION goes first, durably: killed in
// between, what is left opens no more. Then the keys are overwritten.
func removeContents(path string, made bool) error {
	err := os.Remove(filepath.Join(path, "VERSION"))
	if err == nil {
		err = syncDir(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := store.ShredKeys(filepath.Join(path, "keys")); err != nil {
		return err
	}
	if made {
		return os.RemoveAll(path)
	}
	names, err := os.ReadDir(path)
	for _, n := range names {
		if n.Name() != "lost+found" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(path, n.Name())))
		}
	}
	return err
}

// copy brings the files over, verified on their way, and makes a store of them.
func (w *restore) copy(g *Generation) error {
	m := g.Manifest
	for name, s := range map[string]Sum{"keys": m.Keys, "index.db": m.Index} {
		w.tell("copying "+name, 0, 0)
		n, sum, _, err := w.copyFile(filepath.Join(g.dir, name), filepath.Join(w.opt.To, name))
		if err != nil {
			return err
		}
		if newSum(n, sum[:]) != s {
			return fmt.Errorf("%w: %s changed while it was read", ErrDamaged, name)
		}
	}
	if err := os.Mkdir(filepath.Join(w.opt.To, blobsDir), 0o700); err != nil {
		return err
	}
	if err := w.bodies(g); err != nil {
		return err
	}
	root, err := os.Open(w.opt.To)
	if err != nil {
		return err
	}
	w.tell("syncing", 0, 0)
	if err := errors.Join(unix.Syncfs(int(root.Fd())), root.Close()); err != nil {
		return fmt.Errorf("%s: syncfs: %w", w.opt.To, err)
	}
	known, err := w.d.known()
	if err != nil {
		return err
	}
	id, _ := trace.ParseID(m.ID) // was parsed
	w.Renewed, err = store.FinishRestore(w.opt.To, store.Restored{At: w.opt.Now(), Backup: id, Moment: m.Time, Commits: m.Commits, Events: m.Events}, known)
	return err
}

// known are the backups in the directory: the store may not know the newer ones.
func (d *Dir) known() ([]store.Backup, error) {
	all, err := d.Generations()
	var known []store.Backup
	for _, g := range all {
		if g.Err != nil {
			continue
		}
		m := g.Manifest
		id, _ := trace.ParseID(m.ID) // was parsed
		known = append(known, store.Backup{ID: id, Label: d.Path, Began: m.Time, Done: m.Time, Commits: m.Commits, Events: m.Events, HighestBAL: store.BALID(m.HighestBAL)})
	}
	return known, err
}

// copyFile yields what it read; spoilt says that an error is one of the backup: the file is missing there, or its disk does
// not give what was written.
func (w *restore) copyFile(from, to string) (n int64, sum [sha256.Size]byte, spoilt bool, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, sum, errors.Is(err, fs.ErrNotExist) || store.BadMedia(err), err
	}
	defer in.Close()
	out, err := create(to)
	if err != nil {
		return 0, sum, false, err
	}
	src := &noted{r: &ctxReader{w.ctx, in}}
	n, err = io.Copy(out, src)
	spoilt = store.BadMedia(src.err)
	if cerr := out.Close(); cerr != nil {
		err, spoilt = errors.Join(err, cerr), false
	}
	out.sum.Sum(sum[:0])
	return n, sum, spoilt, err
}

// noted keeps the error with which reading ended.
type noted struct {
	r   io.Reader
	err error
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil {
		n.err = err
	}
	return k, err
}

// bodies copies the bodies. One that is not what was written is left out: its message says so when it is read.
func (w *restore) bodies(g *Generation) error {
	f, err := os.Open(filepath.Join(g.dir, listFile))
	if err != nil {
		return err
	}
	defer f.Close()
	l := newListReader(f)
	var octets int64
	span := ""
	for {
		b, err := l.next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if dir := filepath.Dir(store.BodyFile(b.ID)); dir != span {
			span = dir
			if err := os.Mkdir(filepath.Join(w.opt.To, dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		if err := w.body(b); err != nil {
			return err
		}
		if octets += b.Octets; w.Bodies%100 == 0 {
			w.tell("copying bodies", octets, g.Manifest.Octets)
		}
	}
}

func (w *restore) body(b Body) error {
	to := filepath.Join(w.opt.To, store.BodyFile(b.ID))
	if b.Status.There() {
		n, sum, spoilt, err := w.copyFile(w.d.at(store.BodyFile(b.ID)), to)
		switch {
		case err == nil && n == b.Octets && sum == b.Sum:
			w.Bodies++
			w.Octets += n
			return nil
		case err != nil && !spoilt:
			return err // of the target, or of the system: it says nothing of the body
		}
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	w.AbsentAll++
	if len(w.Absent) < maxNamed {
		w.Absent = append(w.Absent, b.ID)
	}
	return nil
}

// open opens the store that was made and tests its invariants.
func (w *restore) open() (err error) {
	s, err := store.Open(store.Options{Dir: w.opt.To, MasterKey: w.opt.MasterKey})
	if err != nil {
		return fmt.Errorf("what was restored to %s does not open: %w", w.opt.To, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	w.tell("check", 0, 0)
	problems, err := s.Check(w.ctx)
	if err != nil {
		return err
	}
	if w.opt.Rehearse {
		more, err := s.VerifyBodies(w.ctx, w.opt.Progress)
		if err != nil {
			return err
		}
		w.Opened = true
		for _, p := range more {
			if !slices.Contains(problems, p) {
				problems = append(problems, p)
			}
		}
	}
	for _, p := range problems {
		if !w.namesAbsent(p.Text) {
			w.Problems = append(w.Problems, p.String())
		}
	}
	return nil
}

// namesAbsent reports whether a problem is that of a body which is told to be absent already.
func (w *restore) namesAbsent(text string) bool {
	if !strings.Contains(text, store.ErrMissing.Error()) {
		return false
	}
	return w.AbsentAll > int64(len(w.Absent)) || slices.ContainsFunc(w.Absent, func(id trace.ID) bool { return strings.Contains(text, id.String()) })
}

// lost reads from the trace of the lost store which messages came after the moment of the backup.
func (w *restore) lost() {
	if w.opt.LostFrom == "" {
		return
	}
	w.tell("reading the trace of the lost store", 0, 0)
	domains := map[trace.ID]string{}
	w.LostWhole, w.LostErr = store.EventsSince(w.opt.LostFrom, w.Manifest.Events, func(e trace.Event) {
		switch e.Kind {
		case trace.Judged, trace.Submitted:
			domains[e.ID] = e.Attr(trace.KeyDomain)
		case trace.Committed, trace.Appended:
			if len(w.Lost) < maxLost {
				w.Lost = append(w.Lost, Lost{ID: e.ID, Time: e.Time, BAL: e.BAL, How: e.Kind, Domain: domains[e.ID]})
			}
			return
		}
		if len(domains) > maxLost {
			clear(domains)
		}
	})
}

// destroyed finds the BALs whose keys stand in this generation and were destroyed later, as newer generations and the lost
// store tell.
func (w *restore) destroyed(g *Generation, all []Generation) error {
	own, err := readSmall(filepath.Join(g.dir, "keys"), g.Manifest.Keys.Octets)
	if err != nil {
		return err
	}
	var later []string
	for _, n := range all {
		if n.Err == nil && n.Name > g.Name {
			later = append(later, filepath.Join(n.dir, "keys"))
		}
	}
	if w.opt.LostFrom != "" {
		later = append(later, filepath.Join(w.opt.LostFrom, "keys"))
	}
	for _, path := range later {
		b, err := readSmall(path, maxKeys)
		if err != nil {
			continue // what is damaged says nothing
		}
		if bals, err := store.OpensDestroyed(own, b); err == nil {
			w.Destroyed = append(w.Destroyed, bals...)
		}
		if bals, err := store.MadeSince(own, b); err == nil {
			w.Made = append(w.Made, bals...)
		}
	}
	slices.Sort(w.Destroyed)
	w.Destroyed = slices.Compact(w.Destroyed)
	slices.Sort(w.Made)
	w.Made = slices.Compact(w.Made)
	return nil
}

// maxKeys bounds a file of keys, octets: two million BALs.
const maxKeys = 1 << 30
