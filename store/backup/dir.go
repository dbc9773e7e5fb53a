package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mssd/trace"
)

func be64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }
func u64(b []byte) uint64            { return binary.BigEndian.Uint64(b) }

const (
	formatFile     = "BACKUP"
	formatLine     = "mssd backup 1"
	manifestFile   = "manifest"
	listFile       = "bodies"
	generationsDir = "generations"
	incomingDir    = "incoming"
	blobsDir       = "blobs"
	partial        = ".partial"
)

// Dir is a directory of backups that this process has locked.
type Dir struct {
	Path string
	lock *os.File
	root *os.File // for syncing the file system
}

// Use is what a directory of backups is opened for.
type Use int

// To look at names and manifests; to read the bodies too, which nobody may remove meanwhile; to write; to write, and to
// make an empty or missing directory into one of backups.
const (
	Look Use = iota
	Read
	Write
	Create
)

// Open opens a directory of backups. One that is written has no other user (ErrBusy). Unless it is to be created, a disk
// that is not mounted is found out (ErrNotBackup).
func Open(path string, use Use) (_ *Dir, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	d := &Dir{Path: path}
	if use == Create {
		if err := d.make(); err != nil {
			return nil, err
		}
	}
	d.lock, err = os.Open(d.at(formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w (no file %s); is its disk mounted? A first backup into an empty folder wants --create", path, ErrNotBackup, formatFile)
	} else if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	b, err := io.ReadAll(io.LimitReader(d.lock, 4096))
	if err != nil {
		return nil, err
	}
	if line, _, _ := strings.Cut(string(b), "\n"); line != formatLine {
		if strings.HasPrefix(line, "mssd backup ") {
			return nil, fmt.Errorf("%s: %w: it says %q, this program reads %q", path, ErrVersion, line, formatLine)
		}
		return nil, fmt.Errorf("%s: %w: %s says something else", path, ErrNotBackup, formatFile)
	}
	if err := d.take(use); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%s: %w", path, ErrBusy)
	} else if err != nil {
		return nil, fmt.Errorf("%s: lock: %w", path, err)
	}
	d.root, err = os.Open(path)
	return d, err
}

func (d *Dir) take(use Use) error {
	how := unix.LOCK_EX
	switch use {
	case Look:
		return nil
	case Read:
		how = unix.LOCK_SH
	}
	return unix.Flock(int(d.lock.Fd()), how|unix.LOCK_NB)
}

// make makes a directory of backups where there is none; the file with the format is written last.
func (d *Dir) make() error {
	if _, err := os.Stat(d.at(formatFile)); err == nil {
		return nil
	}
	if err := os.Mkdir(d.Path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	names, err := os.ReadDir(d.Path)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !slices.Contains([]string{generationsDir, incomingDir, blobsDir, formatFile + ".new", "lost+found"}, n.Name()) {
			return fmt.Errorf("%s: is not empty (%s) and %w; expected an empty folder", d.Path, n.Name(), ErrNotBackup)
		}
	}
	if err := d.folders(); err != nil {
		return err
	}
	if err := writeFile(d.at(formatFile), []byte(formatLine+"\n")); err != nil {
		return err
	}
	return syncDir(filepath.Dir(d.Path))
}

// folders makes what is missing below.
func (d *Dir) folders() error {
	for _, n := range []string{generationsDir, incomingDir, blobsDir} {
		if err := os.Mkdir(d.at(n), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Close lets the directory go.
func (d *Dir) Close() error {
	if d.root != nil {
		d.root.Close() // read only
	}
	return d.lock.Close()
}

func (d *Dir) at(name ...string) string { return filepath.Join(append([]string{d.Path}, name...)...) }

// Generation is one moment in a directory of backups.
type Generation struct {
	Name     string
	Manifest *Manifest // nil where Err is set
	Err      error     // its manifest cannot be read
	dir      string
}

// Generations are those in the directory, oldest first, damaged ones among them.
func (d *Dir) Generations() ([]Generation, error) {
	names, err := os.ReadDir(d.at(generationsDir))
	if err != nil {
		return nil, err
	}
	var all []Generation
	for _, n := range names {
		if strings.HasSuffix(n.Name(), partial) || !n.IsDir() {
			continue
		}
		g := Generation{Name: n.Name(), dir: d.at(generationsDir, n.Name())}
		g.Manifest, g.Err = readManifest(g.dir)
		if g.Err == nil && g.Manifest.Name() != g.Name {
			g.Manifest, g.Err = nil, fmt.Errorf("%w: the manifest is that of %s", ErrDamaged, g.Manifest.Name())
		}
		all = append(all, g)
	}
	return all, nil
}

func readManifest(dir string) (*Manifest, error) {
	b, err := readSmall(filepath.Join(dir, manifestFile), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no manifest", ErrDamaged)
	} else if err != nil {
		return nil, err
	}
	return parseManifest(b)
}

// partials are what broken-off runs left, with the ids of their backups.
func (d *Dir) partials() (dirs []string, ids []trace.ID, err error) {
	names, err := os.ReadDir(d.at(generationsDir))
	for _, n := range names {
		base, ok := strings.CutSuffix(n.Name(), partial)
		if !ok {
			continue
		}
		_, text, _ := strings.Cut(base, "-")
		id, _ := trace.ParseID(text)
		dirs, ids = append(dirs, d.at(generationsDir, n.Name())), append(ids, id)
	}
	return dirs, ids, err
}

// readSmall reads a file of at most limit octets.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: %s is too long", ErrDamaged, path)
	}
	return b, err
}

// sumFile reads a file and says what it holds.
func sumFile(path string) (octets int64, s [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, s, err
	}
	defer f.Close()
	h := sha256.New()
	octets, err = io.Copy(h, f)
	h.Sum(s[:0])
	return octets, s, err
}

// check compares a file with a sum.
func (s Sum) check(path string) error {
	n, got, err := sumFile(path)
	if err != nil {
		return err
	}
	if n != s.Octets || hex.EncodeToString(got[:]) != s.SHA256 {
		return fmt.Errorf("%w: %s does not hold what was written", ErrDamaged, path)
	}
	return nil
}

// fromDisk makes the next reading of a file come from the disk, where the file system knows how. It must be synced.
func fromDisk(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// newFile is a file that is being written, with the sum of what was.
type newFile struct {
	f      *os.File // not embedded: its other ways to write would pass the sum by
	sum    hash.Hash
	octets int64
}

func create(path string) (*newFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &newFile{f: f, sum: sha256.New()}, nil
}

func (f *newFile) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	f.sum.Write(p[:n])
	f.octets += int64(n)
	return n, err
}

func (f *newFile) Sync() error  { return f.f.Sync() }
func (f *newFile) Close() error { return f.f.Close() }

func (f *newFile) sumUp() Sum { return newSum(f.octets, f.sum.Sum(nil)) }

// settle syncs the file, reads it back and closes it.
func (f *newFile) settle() error {
	if err := f.Sync(); err != nil {
		return err
	}
	return f.readBack()
}

// readBack reads a file that was synced from the disk, compares and closes it.
func (f *newFile) readBack() error {
	fromDisk(f.f)
	if err := f.Close(); err != nil {
		return err
	}
	return f.sumUp().check(f.f.Name())
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeFile writes a small file durably: beside it, synced, renamed, directory synced.
func writeFile(path string, b []byte) error {
	f, err := create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
