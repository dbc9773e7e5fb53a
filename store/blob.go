package store

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"sync"

	"mssd/message"
	"mssd/trace"
)

// spanBits says how many low bits of an id share a directory: 2^42 of them are about 70 minutes.
const spanBits = 42

func (s *Store) blobDirPath(id MessageID) string {
	return filepath.Join(s.dir, "blobs", strconv.FormatUint(uint64(id)>>spanBits, 16))
}

func (s *Store) blobPath(id MessageID) string { return filepath.Join(s.blobDirPath(id), id.String()) }

// blobDir makes the directory of a body where it is missing. Only the committer calls it.
func (s *Store) blobDir(id MessageID) (string, error) {
	dir := s.blobDirPath(id)
	if dir == s.lastDir {
		return dir, nil
	}
	switch err := s.fs.Mkdir(dir); {
	case errors.Is(err, fs.ErrExist):
	case err != nil:
		return "", err
	}
	// Also where it exists: a process that was killed may have made it and not have come to this.
	if !s.opt.NoSync {
		if err := s.fs.SyncDir(filepath.Dir(dir)); err != nil {
			return "", fatal(err)
		}
	}
	s.lastDir = dir
	return dir, nil
}

// Blob is a body on its way into the store: a spool file. One goroutine writes it.
type Blob struct {
	s        *Store
	id       trace.ID
	path     string // in spool/
	f        file   // open until the commit is done: the committer may have to sync it
	w        *bufio.Writer
	size     int64
	derived  derived
	finished bool

	mu   sync.Mutex
	gone bool // in its place, or removed
}

var spoolBuffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 32<<10) }}

// NewBlob begins a body. End it with Finish and Commit, or with Abort.
func (s *Store) NewBlob() (*Blob, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if s.Closed() {
		return nil, ErrClosed
	}
	id := s.NewID()
	path := filepath.Join(s.dir, "spool", id.String())
	f, err := s.fs.Create(path)
	if err != nil {
		return nil, noSpace(fmt.Errorf("store: spool: %w", err))
	}
	w := spoolBuffers.Get().(*bufio.Writer)
	w.Reset(f)
	return &Blob{s: s, id: id, path: path, f: f, w: w}, nil
}

// ID names the body, its message and the transaction.
func (b *Blob) ID() trace.ID { return b.id }

// Size is the number of octets written.
func (b *Blob) Size() int64 { return b.size }

func (b *Blob) Write(p []byte) (int, error) {
	if b.w == nil {
		return 0, fmt.Errorf("%w: body is finished", ErrInvalid)
	}
	n, err := b.w.Write(p)
	b.size += int64(n)
	return n, noSpace(err)
}

// Finish closes the body. meta and text are what the scanner found; meta nil: the store scans by itself later.
func (b *Blob) Finish(meta *message.Meta, text message.Text) error {
	if b.w == nil {
		return fmt.Errorf("%w: body is finished", ErrInvalid)
	}
	err := b.w.Flush()
	if err == nil && b.s.opt.SyncEach && !b.s.opt.NoSync {
		err = b.f.Sync() // here, where others do the same at the same time
	}
	b.release()
	if err != nil {
		return noSpace(fmt.Errorf("store: spool: %w", err))
	}
	if meta != nil {
		if b.derived, err = b.s.meta.encode(b.id, meta, text); err != nil {
			return err
		}
	}
	b.finished = true
	return nil
}

func (b *Blob) release() {
	b.w.Reset(nil)
	spoolBuffers.Put(b.w)
	b.w = nil
}

// Abort takes the body back. After a successful Commit it does nothing.
func (b *Blob) Abort() {
	if b.w != nil {
		b.release()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return
	}
	b.gone = true
	b.f.Close() // of a file that goes
	if err := b.s.fs.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.s.log.Warn("spool file stays until the next start", "err", err)
	}
}

// stored is told by the committer that the body is in its place.
func (b *Blob) stored() {
	b.mu.Lock()
	if !b.gone {
		b.gone = true
		b.f.Close() // it was synced: nothing can come of it any more
	}
	b.mu.Unlock()
	if b.derived.meta != nil {
		b.s.meta.add(b.derived)
	}
}

// Content is a message as a BAL shows it: the prefix, then the body.
type Content struct {
	prefix []byte
	f      file
	size   int64 // of the body
}

// OpenMessage opens a message of a BAL. ErrNoMessage: this BAL has none of that id; ErrMissing, ErrCorrupt: the
// body is not there, or has another size.
func (s *Store) OpenMessage(bal BALID, id MessageID) (*Content, error) {
	var p prefixRec
	var rec blobRec
	err := s.view(func(get func(bucket int, k []byte) []byte) error {
		v, w := get(bktPrefix, keyPrefix(bal, id)), get(bktBlob, keyID(id))
		if v == nil || w == nil {
			return ErrNoMessage
		}
		var err error
		if p, err = decodePrefix(v); err != nil {
			return err
		}
		p.Prefix = append([]byte(nil), p.Prefix...)
		rec, err = decodeBlob(w)
		return err
	})
	if err != nil {
		return nil, err
	}
	f, err := s.openBlob(id, rec.Size)
	if err != nil {
		return nil, err
	}
	return &Content{p.Prefix, f, rec.Size}, nil
}

// openBlob is the one place where bodies are opened; all reading of them is by offset.
func (s *Store) openBlob(id MessageID, size int64) (file, error) {
	f, err := s.fs.Open(s.blobPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrMissing, id)
	} else if err != nil {
		return nil, fmt.Errorf("store: body %s: %w", id, err)
	}
	n, err := f.Size()
	if err == nil && n != size {
		err = fmt.Errorf("%w: body %s has %d octets, not %d", ErrCorrupt, id, n, size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Prefix is what stands before the body in this BAL; never change it.
func (c *Content) Prefix() []byte { return c.prefix }

// Size is the number of octets of prefix and body.
func (c *Content) Size() int64 { return int64(len(c.prefix)) + c.size }

// BlobSize is the number of octets of the body.
func (c *Content) BlobSize() int64 { return c.size }

// ReadAt reads prefix and body as one (io.ReaderAt).
func (c *Content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: negative offset", ErrInvalid)
	}
	n := 0
	if off < int64(len(c.prefix)) {
		n = copy(p, c.prefix[off:])
		if n == len(p) {
			return n, nil
		}
	}
	m, err := c.f.ReadAt(p[n:], off+int64(n)-int64(len(c.prefix)))
	return n + m, err
}

// Close lets the body go.
func (c *Content) Close() error { return c.f.Close() }
