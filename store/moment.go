package store

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"mssd/trace"
)

// Moment is one moment of a store that goes on being used, for a backup: a copy of the index, the keys of the same
// moment, and every body that the index names, none of which is removed before Close.
//
// The copy of the index is made on the disk of the store, as a file without a name that is gone after a kill. It is
// taken within one read transaction: deliveries go on, only the pages that they free meanwhile cannot be used again, so
// that index.db grows by what is written during the copy. The reader of it may then be as slow as it likes.
type Moment struct {
	ID         trace.ID  // of the backup
	Store      string    // a name that tells this store from others, also after a restore
	Time       time.Time // its moment
	Commits    uint64    // of the index
	Events     uint64    // the last one
	LastID     trace.ID  // the greatest id committed
	HighestBAL BALID     // the last number given
	BALs       int
	Mailboxes  int
	Messages   int64
	Keys       []byte // the file keys
	MasterKey  string // name of the master key that wraps them
	IndexSize  int64
	IndexSum   [sha256.Size]byte
	Device     uint64 // of the file system of the store

	s     *Store
	index file
	close sync.Once
}

// ErrNoKey: no key that is at hand opens the body.
var ErrNoKey = errors.New("store: no key at hand opens this body")

const copyStep = 8 << 20 // octets of a copy that wait for a sync: who syncs the whole file system waits for these too

// Moment takes a moment of the store. Everything that was recorded before is part of it.
func (s *Store) Moment(ctx context.Context, p Progress) (_ *Moment, err error) {
	if err := s.flush(ctx); err != nil {
		return nil, err
	}
	if err := s.pin(ctx); err != nil {
		return nil, err
	}
	n := &Moment{s: s, ID: s.NewID()}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	if n.Device, err = device(s.dir); err != nil {
		return nil, err
	}
	var tx *bolt.Tx
	var inner error
	err = s.betweenCommits(ctx, func() {
		inner = s.guard.run(func() (err error) { tx, err = n.take(); return err })
	})
	if err := errors.Join(err, inner); err != nil {
		return nil, err
	}
	return n, s.guard.run(func() error {
		defer s.guard.end(tx)
		return n.copyIndex(ctx, tx, p)
	})
}

// take notes what stands together. The committer runs it, so nothing changes meanwhile.
func (n *Moment) take() (tx *bolt.Tx, err error) {
	s := n.s
	if n.Keys, err = readKeys(s.keys.f, s.keys.path); err != nil {
		return nil, err
	}
	m := s.mem // the committer may read it
	n.Time, n.Commits, n.Events, n.LastID, n.HighestBAL = s.now().UTC(), m.sys.Commits, m.sys.LastSeq, m.sys.LastID, m.sys.LastBAL
	n.BALs, n.Mailboxes, n.MasterKey = len(m.bals), len(m.boxes), s.keys.master.name.String()
	name := s.keys.manifests.derive("name of a store")
	n.Store = hex.EncodeToString(name[:8])
	for _, b := range m.bals {
		n.Messages += b.Messages
	}
	s.momentMu.Lock()
	if s.moments == nil {
		s.moments = map[trace.ID]Backup{}
	}
	s.moments[n.ID] = Backup{ID: n.ID, Label: "a backup that is being made", Began: seconds(n.Time), Commits: n.Commits, Events: n.Events, HighestBAL: n.HighestBAL}
	s.momentMu.Unlock()
	return s.guard.begin(s.index)
}

func (n *Moment) copyIndex(ctx context.Context, tx *bolt.Tx, p Progress) error {
	free, err := n.s.FreeSpace()
	if err != nil {
		return err
	}
	if need := tx.Size() + n.s.SpaceFloor(); free < need {
		return fmt.Errorf("%w: a backup needs room for a copy of the index beside it: %d octets are free, %d are needed", ErrNoSpace, free, need)
	}
	path := filepath.Join(n.s.dir, "spool", "index of backup "+n.ID.String())
	if n.index, err = n.s.fs.Create(path); err != nil {
		return noSpace(fmt.Errorf("store: copy of the index: %w", err))
	}
	if err := n.s.fs.Remove(path); err != nil {
		return err
	}
	w := &pacedWriter{ctx: ctx, f: n.index, sum: sha256.New(), p: p, total: tx.Size(), noSync: n.s.opt.NoSync}
	if n.IndexSize, err = tx.WriteTo(w); err != nil {
		return noSpace(fmt.Errorf("store: copy of the index: %w", err))
	}
	w.sum.Sum(n.IndexSum[:0])
	return nil
}

// pacedWriter syncs as it goes, so that never much waits to be written: a delivery may have to wait for it.
type pacedWriter struct {
	ctx         context.Context
	f           file
	sum         hash.Hash
	p           Progress
	done, total int64
	waiting     int64
	noSync      bool
}

func (w *pacedWriter) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.f.Write(b)
	w.sum.Write(b[:n])
	w.done, w.waiting = w.done+int64(n), w.waiting+int64(n)
	if w.waiting >= copyStep && err == nil {
		w.waiting = 0
		w.p.tell("copy of the index", w.done, w.total)
		if !w.noSync {
			err = w.f.Sync()
		}
	}
	return n, err
}

// Index reads the copy of the index.
func (n *Moment) Index() io.ReaderAt { return n.index }

// openMoments are those of which nothing may be registered yet. Ask before Backups: a moment is registered, if it
// becomes a backup, before it is closed.
func (s *Store) openMoments() []Backup {
	s.momentMu.Lock()
	defer s.momentMu.Unlock()
	return slices.Collect(maps.Values(s.moments))
}

// Manifest signs what a backup says of itself, with a key of the store.
func (n *Moment) Manifest(text []byte) []byte { return manifestMAC(&n.s.keys.manifests, text) }

// manifestPurpose is what the key of manifests is derived for.
const manifestPurpose = "manifests of backups"

func manifestMAC(key *secret, text []byte) []byte {
	m := hmac.New(sha256.New, key[:])
	m.Write(text)
	return m.Sum(nil)
}

// Close lets the moment go.
func (n *Moment) Close() error {
	var err error
	n.close.Do(func() {
		n.s.momentMu.Lock()
		delete(n.s.moments, n.ID)
		n.s.momentMu.Unlock()
		n.s.unpin()
		if n.index != nil {
			err = n.index.Close()
		}
	})
	return err
}

// SealedBody is the file of a body, as it lies on the disk.
type SealedBody struct {
	io.ReaderAt
	Octets int64
	Sum    [sha256.Size]byte
	close  func() error
}

// Close lets the file go.
func (b *SealedBody) Close() error { return b.close() }

// bodyInMemory is the size up to which a body is read once, so that what is opened and what is copied are the same octets.
const bodyInMemory = 32 << 20

// Body reads the file of a body. With open it is opened with its key to the last frame; where no key is at hand the error
// is ErrNoKey and the body is yielded all the same. ErrMissing, ErrCorrupt: the disk does not hold what was stored; any
// other error says nothing of the body.
// buf, which may be nil, is used for small ones and must not be used again before Close.
func (n *Moment) Body(id MessageID, open bool, buf *bytes.Buffer) (*SealedBody, error) {
	f, end, err := n.s.openEnd(id)
	if err != nil {
		return nil, err
	}
	size := end.size
	end.release()
	b := &SealedBody{ReaderAt: f, Octets: size, close: f.Close}
	if size <= bodyInMemory {
		if buf == nil {
			buf = &bytes.Buffer{}
		}
		buf.Reset()
		_, err := io.Copy(buf, io.NewSectionReader(f, 0, size))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("store: body %s: %w", id, badMedia(err))
		}
		b.ReaderAt, b.close = bytes.NewReader(buf.Bytes()), func() error { return nil }
	}
	h := sha256.New()
	k, err := io.Copy(h, io.NewSectionReader(b, 0, size))
	if err == nil && k != size {
		err = corrupt("body is cut off")
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("body %s: %w", id, badMedia(err))
	}
	h.Sum(b.Sum[:0])
	if !open {
		return b, nil
	}
	switch err := n.s.openWhole(id, sealedSource{b}); {
	case errors.Is(err, ErrNoKey):
		return b, err
	case err != nil:
		b.Close()
		return nil, err
	}
	return b, nil
}

type sealedSource struct{ *SealedBody }

func (s sealedSource) Size() (int64, error) { return s.Octets, nil }

// openWhole opens each frame of a body.
func (s *Store) openWhole(id MessageID, src source) error {
	var rec blobRec
	err := s.view(func(get func(int, []byte) []byte) error {
		v := get(bktBlob, keyID(id))
		if v == nil {
			return ErrNoMessage
		}
		var err error
		rec, err = decodeBlob(v)
		return err
	})
	if err != nil {
		return err
	}
	var noKey error
	key, err := s.contentKey(id)
	switch {
	case err != nil && !errors.Is(err, ErrCorrupt):
		return err
	case err != nil:
		noKey = fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	end, err := readEnd(src)
	if err != nil {
		return fmt.Errorf("body %s: %w", id, err)
	}
	if noKey != nil {
		_, err := end.header(uint64(id))
		end.release()
		if err != nil { // no key opens what is damaged
			return fmt.Errorf("body %s: %w", id, err)
		}
		return noKey
	}
	u, err := newUnsealer(s.codec, uint64(id), &key, end, rec.Size)
	if err != nil {
		return fmt.Errorf("body %s: %w", id, err)
	}
	defer u.release()
	buf := plainBuffers.Get().(*[]byte)
	defer plainBuffers.Put(buf)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(u, 0, u.size), (*buf)[:frameLen]); err != nil {
		return fmt.Errorf("body %s: %w", id, err)
	}
	return nil
}

// betweenCommits lets the committer run f between two groups: nothing is written meanwhile.
func (s *Store) betweenCommits(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case s.aside <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-s.stopped:
		return ErrClosed
	case <-s.failed:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func device(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("store: %s: %w", path, err)
	}
	return uint64(st.Dev), nil
}

// Now is the time, as the store takes it.
func (s *Store) Now() time.Time { return s.now().UTC() }
