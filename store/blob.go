package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mssd/message"
	"mssd/trace"
)

// Blob is a body on its way into the store: a spool file that holds sealed frames only. One goroutine writes it.
type Blob struct {
	s        *Store
	id       trace.ID
	path     string // in spool/
	f        file   // open until the commit is done: the committer may have to sync it; nil once closed before (SealFor)
	key      secret // of this file alone
	sealer   *sealer
	began    time.Time
	size     int64
	derived  derived
	finished bool
	to       []BALID // who got the key; nil: the file is not complete
	err      error   // of a failed write: the file is of no use

	held atomic.Bool // nobody waits for its batch any more: it is the committer's
	mu   sync.Mutex
	gone bool // in its place, or removed
}

const spoolChunk = 32 << 10 // octets that wait for being written

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
	err = noWrite(err)
	s.noteWrite(err)
	if err != nil {
		return nil, fmt.Errorf("store: spool: %w", err)
	}
	key := newSecret()
	return &Blob{s: s, id: id, path: path, f: f, key: key, began: s.now(), sealer: newSealer(s.codec, uint64(id), key)}, nil
}

// ID names the body, its message and the transaction.
func (b *Blob) ID() trace.ID { return b.id }

// Size is the number of octets written.
func (b *Blob) Size() int64 { return b.size }

func (b *Blob) Write(p []byte) (n int, err error) {
	if b.sealer == nil || b.finished {
		return 0, fmt.Errorf("%w: body is finished", ErrInvalid)
	}
	for n < len(p) && b.err == nil {
		n += b.sealer.fill(p[n:])
		b.flush(spoolChunk)
	}
	b.size += int64(n)
	return n, b.err
}

// flush writes what is sealed, once there are so many octets of it.
func (b *Blob) flush(atLeast int) {
	out := b.sealer.out
	if b.err != nil || len(*out) < atLeast {
		return
	}
	if _, err := b.f.Write(*out); err != nil {
		b.err = noWrite(fmt.Errorf("store: spool: %w", err))
	}
	*out = (*out)[:0]
}

// Finish ends the body. meta and text are what the scanner found; meta nil: the store scans by itself later.
func (b *Blob) Finish(meta *message.Meta, text message.Text) (err error) {
	if b.sealer == nil || b.finished {
		return fmt.Errorf("%w: body is finished", ErrInvalid)
	}
	if b.err != nil {
		return b.err
	}
	b.sealer.finish()
	if meta != nil {
		if b.derived, err = b.s.meta.encode(b.id, meta, text); err != nil {
			return err
		}
	}
	b.finished = true
	return nil
}

// address completes the file: the BALs that the batch delivers to get the content key. Commit calls it, so that
// writers do it side by side.
func (b *Blob) address(batch *Batch) error {
	if !b.finished || b.err != nil {
		return b.err // the committer refuses what is not finished
	}
	var to []BALID
	for _, op := range batch.Ops {
		if add, ok := op.(AddMessage); ok && batch.body(add) == b && !slices.Contains(to, add.Ref.BAL) {
			to = append(to, add.Ref.BAL)
		}
	}
	return b.seal(to)
}

// SealFor completes a finished body for one BAL before its batch is committed, and closes its file: of a batch of many
// bodies those that wait for the last one then take neither buffers nor descriptors.
func (b *Blob) SealFor(bal BALID) error {
	if !b.finished || b.err != nil {
		return cmp.Or(b.err, fmt.Errorf("%w: body is not finished", ErrInvalid))
	}
	if err := b.seal([]BALID{bal}); err != nil || b.f == nil || b.to == nil {
		return err
	}
	err := b.f.Close()
	b.f = nil
	if err != nil {
		b.err = noWrite(fmt.Errorf("store: spool: %w", err))
	}
	return b.err
}

// seal completes the file for those of BALs that exist: others are the committer's to refuse.
func (b *Blob) seal(bals []BALID) error {
	var to []BALID
	var receivers []receiver
	for _, bal := range bals {
		if k, err := b.s.keys.bal(bal); err == nil {
			to = append(to, bal)
			receivers = append(receivers, receiver{bal, k.wrap()})
		}
	}
	switch {
	case b.to != nil && slices.Equal(b.to, to), len(to) == 0:
		return nil
	case b.to != nil:
		return fmt.Errorf("%w: the body was for others", ErrInvalid)
	}
	if b.sealer == nil {
		return fmt.Errorf("%w: the body was taken back", ErrInvalid)
	}
	b.sealer.address(b.began, receivers)
	b.flush(0)
	b.release()
	if b.err == nil && b.s.opt.SyncEach && !b.s.opt.NoSync {
		// Here, where others do the same at the same time.
		if err := b.f.Sync(); err != nil {
			b.err = noWrite(fmt.Errorf("store: spool: %w", err))
		}
	}
	b.to, b.derived.bal = to, to[0]
	return b.err
}

func (b *Blob) release() {
	if b.sealer != nil {
		b.sealer.release()
		b.sealer = nil
	}
}

// Abort takes the body back. After a successful Commit it does nothing, nor after one that nobody waited for.
func (b *Blob) Abort() {
	if b.held.Load() {
		return
	}
	b.release()
	b.drop()
}

// drop removes the body unless it is in its place.
func (b *Blob) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return
	}
	b.gone = true
	b.close() // of a file that goes
	if err := b.s.fs.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.s.log.Warn("spool file stays until the next start", "err", err)
	}
}

func (b *Blob) close() {
	if b.f != nil {
		_ = b.f.Close()
	}
}

// stored is told by the committer that the body is in its place.
func (b *Blob) stored() {
	b.mu.Lock()
	if !b.gone {
		b.gone = true
		b.close() // it was synced: nothing can come of it any more
	}
	b.mu.Unlock()
	if b.derived.meta != nil {
		b.s.meta.add(b.derived)
	}
}

// Content is a message as a BAL shows it: the prefix, then the body.
type Content struct {
	prefix []byte
	b      *body
	s      *Store
	id     MessageID
}

// OpenMessage opens a message of a BAL. ErrNoMessage: this BAL has none of that id; ErrMissing, ErrCorrupt: the
// body is not there, or is not what was stored; reading may find that too.
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
		p.Sealed = bytes.Clone(p.Sealed)
		rec, err = decodeBlob(w)
		return err
	})
	if err != nil {
		return nil, err
	}
	key, prefix, err := s.keys.openPrefix(bal, id, p)
	if err != nil {
		return nil, err
	}
	b, err := s.openBlob(id, rec.Size, &key)
	if err == nil {
		err = s.sound(b, id)
	}
	if err != nil {
		return nil, err
	}
	return &Content{prefix, b, s, id}, nil
}

// body is an open, sealed body.
type body struct {
	*unsealer
	f file
}

// Close lets it go. Nobody may be reading.
func (b *body) Close() error {
	b.release()
	return b.f.Close()
}

// openBlob is the one place where bodies are opened; all reading of them is by offset.
func (s *Store) openBlob(id MessageID, size int64, key *secret) (*body, error) {
	f, end, err := s.openEnd(id)
	if err != nil {
		return nil, err
	}
	u, err := newUnsealer(s.codec, uint64(id), key, end, size)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("body %s: %w", id, err)
	}
	return &body{u, f}, nil
}

// openEnd opens the file of a body and reads its end.
func (s *Store) openEnd(id MessageID) (file, sealedEnd, error) {
	f, err := s.fs.Open(s.blobPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, sealedEnd{}, fmt.Errorf("%w: %s", ErrMissing, id)
	} else if err != nil {
		return nil, sealedEnd{}, fmt.Errorf("store: body %s: %w", id, badMedia(err))
	}
	end, err := readEnd(f)
	if err != nil {
		f.Close()
		return nil, end, fmt.Errorf("body %s: %w", id, err)
	}
	return f, end, nil
}

// contentKey is the key of a stored body, from its header or from any BAL that has it.
func (s *Store) contentKey(id MessageID) (secret, error) {
	key, _, err := s.keyOfBody(id)
	return key, err
}

// keyOfBody is contentKey with the BAL whose key opened it.
func (s *Store) keyOfBody(id MessageID) (secret, BALID, error) {
	key, bal, err := s.keyOfHeader(id)
	if err == nil || errors.Is(err, ErrMissing) {
		return key, bal, err
	}
	// The header is damaged, or those who received the body are gone and others have copies.
	s.mu.RLock()
	bals := slices.Collect(maps.Keys(s.mem.bals))
	s.mu.RUnlock()
	for _, bal := range bals {
		var p prefixRec
		_ = s.view(func(get func(bucket int, k []byte) []byte) error {
			p, _ = decodePrefix(get(bktPrefix, keyPrefix(bal, id)))
			p.Sealed = bytes.Clone(p.Sealed)
			return nil
		})
		if key, _, err := s.keys.openPrefix(bal, id, p); err == nil {
			return key, bal, nil
		}
	}
	return key, 0, err
}

func (s *Store) keyOfHeader(id MessageID) (key secret, bal BALID, err error) {
	f, end, err := s.openEnd(id)
	if err != nil {
		return key, 0, err
	}
	defer f.Close()
	defer end.release()
	h, err := end.header(uint64(id))
	if err != nil {
		return key, 0, err
	}
	for _, w := range h.to {
		k, err := s.keys.bal(w.bal)
		if err != nil {
			continue
		}
		if key, err := w.unwrap(h.id, k.wrap()); err == nil && h.verify(&key) == nil {
			return key, w.bal, nil
		}
	}
	return key, 0, fmt.Errorf("body %s: %w", id, corrupt("no key opens its header"))
}

// Prefix is what stands before the body in this BAL; never change it.
func (c *Content) Prefix() []byte { return c.prefix }

// Size is the number of octets of prefix and body.
func (c *Content) Size() int64 { return int64(len(c.prefix)) + c.b.size }

// BlobSize is the number of octets of the body.
func (c *Content) BlobSize() int64 { return c.b.size }

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
	m, err := c.b.ReadAt(p[n:], off+int64(n)-int64(len(c.prefix)))
	if unreadable(err) {
		c.s.unsound.add(c.id)
	}
	return n + m, err
}

// Close lets the body go.
func (c *Content) Close() error { return c.b.Close() }
