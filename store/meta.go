package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	bolt "go.etcd.io/bbolt"

	"mssd/message"
	"mssd/trace"
)

const (
	metaVersion  = 1
	metaDelay    = 700 * time.Millisecond // what is derived waits this long for company
	maxPending   = 64 << 20               // octets waiting; more are left out and derived again when asked for
	pendingEntry = 128                    // octets of an entry beside its values
)

var (
	bktMeta    = []byte("meta")  // message → structure
	bktText    = []byte("text")  // message → words
	bktSieve   = []byte("sieve") // message → which words it cannot have
	bktMsgID   = []byte("msgid") // pseudonym of the Message-ID, message → 1
	bktMetaSys = []byte("sys")
)

// derived is what meta.db keeps of a message, encoded. meta nil: it is to be forgotten.
type derived struct {
	id    trace.ID
	bal   BALID // under whose key it is sealed in the file
	meta  []byte
	text  []byte
	sieve []byte
	msgID []byte // 16 octets; nil none
}

// len is what an entry takes while it waits, octets.
func (d *derived) len() int { return len(d.meta) + len(d.text) + len(d.sieve) + pendingEntry }

// of is what stands in a bucket.
func (d *derived) of(bucket []byte) []byte {
	switch {
	case bytes.Equal(bucket, bktMeta):
		return d.meta
	case bytes.Equal(bucket, bktText):
		return d.text
	}
	return d.sieve
}

// metaDB holds what can be derived from the bodies. It may be deleted and may lag.
type metaDB struct {
	s     *Store
	path  string
	db    *bolt.DB
	guard guard
	dec   *zstd.Decoder // of texts that were stored before S2

	mu      sync.Mutex
	pending map[trace.ID]derived
	octets  int                  // of pending
	writing map[trace.ID]derived // being written now
	poke    chan struct{}        // cap 1: something is pending
	quit    chan struct{}

	whole   atomic.Bool // nothing was missing, at start or when all was looked through
	leftOut atomic.Bool // something was not written since

	heads  derivedCache[message.Text] // without their bodies
	sieves derivedCache[message.Sieve]
	sort   derivedCache[message.SortKeys]
}

func openMeta(s *Store) (*metaDB, error) {
	m := &metaDB{s: s, pending: map[trace.ID]derived{}, poke: make(chan struct{}, 1), quit: make(chan struct{})}
	m.heads.room, m.heads.size = headRoom, func(t message.Text) int { return len(t.Header) + textEntry }
	m.sieves.room, m.sieves.size = sieveRoom, func(v message.Sieve) int { return len(v) + sieveEntry }
	m.sort.room, m.sort.size = sortRoom, func(k message.SortKeys) int { return k.Len() + sortEntry }
	var err error
	if m.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(4), zstd.WithDecoderMaxMemory(1<<20)); err != nil {
		return nil, err
	}
	m.path = filepath.Join(s.dir, "meta.db")
	if err = m.open(); errors.Is(err, ErrCorrupt) {
		s.log.Warn("meta.db is damaged: made again from the bodies", "err", err)
		if err := os.Remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		err = m.open()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (m *metaDB) open() (err error) {
	m.guard = guard{name: m.path, lost: m.lost}
	if m.db, err = openBolt(m.path, boltOptions{mmap: mmapSize, noSync: m.s.opt.NoSync}); err != nil {
		return err
	}
	if err := m.update(initMeta); err != nil {
		if !m.guard.bad.Load() {
			m.db.Close()
		}
		return fmt.Errorf("store: meta.db: %w", err)
	}
	return nil
}

// view and update are those of bbolt, but damage yields ErrCorrupt: meta.db is then given up. The next start makes it
// again, until then everything is derived from the bodies.
func (m *metaDB) view(fn func(*bolt.Tx) error) error { return m.guard.view(m.db, fn) }
func (m *metaDB) update(fn func(*bolt.Tx) error) error {
	return m.guard.run(func() error { return m.db.Update(fn) })
}

func (m *metaDB) lost(err error) {
	m.s.log.Warn("meta.db is damaged: made again at the next start, slower until then", "err", err)
	_ = os.Remove(m.path)
}

// initMeta makes the buckets; those of another version are dropped.
func initMeta(tx *bolt.Tx) error {
	want := []byte{metaVersion}
	buckets := [...][]byte{bktMetaSys, bktMeta, bktText, bktSieve, bktMsgID}
	if b := tx.Bucket(bktMetaSys); b == nil || !bytes.Equal(b.Get([]byte("version")), want) {
		for _, n := range buckets {
			if tx.Bucket(n) != nil {
				if err := tx.DeleteBucket(n); err != nil {
					return err
				}
			}
		}
	}
	for _, n := range buckets {
		if _, err := tx.CreateBucketIfNotExists(n); err != nil {
			return err
		}
	}
	return tx.Bucket(bktMetaSys).Put([]byte("version"), want)
}

func (m *metaDB) encode(id trace.ID, meta *message.Meta, text message.Text) (derived, error) {
	d := derived{id: id}
	var err error
	if d.meta, err = meta.AppendBinary(nil); err != nil {
		return d, fmt.Errorf("store: %w", err)
	}
	raw, err := text.AppendBinary(nil)
	if err != nil {
		return d, fmt.Errorf("store: %w", err)
	}
	d.text, d.sieve = packText(raw), packSieve(message.NewSieve(text))
	d.msgID = m.hash(meta.MessageID)
	return d, nil
}

// hash is the pseudonym of a Message-ID, nil for the empty one.
func (m *metaDB) hash(messageID string) []byte {
	messageID = strings.Trim(strings.TrimSpace(messageID), "<>")
	if messageID == "" {
		return nil
	}
	return m.s.keys.mac("message-id", messageID)
}

// add hands an entry over to be written soon. Where too many wait it is left out.
func (m *metaDB) add(d derived) {
	m.mu.Lock()
	if m.octets < maxPending || d.meta == nil {
		m.pending[d.id] = d
		m.octets += d.len()
	} else {
		m.leftOut.Store(true)
	}
	m.mu.Unlock()
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

func (m *metaDB) forget(id trace.ID) { m.add(derived{id: id}) }

// forgetBAL drops what waits to be sealed for a BAL. Messages that others have too are derived again for them.
func (m *metaDB) forgetBAL(bal BALID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, d := range m.pending {
		if d.meta != nil && d.bal == bal {
			m.octets -= d.len()
			delete(m.pending, id)
			m.leftOut.Store(true)
		}
	}
}

func (m *metaDB) stop() { close(m.quit) }

// run is the committer of meta.db.
func (m *metaDB) run() {
	defer m.dec.Close()
	for {
		select {
		case <-m.poke:
		case <-m.quit:
			m.write()
			m.markWhole()
			return
		}
		t := time.NewTimer(metaDelay)
		select {
		case <-t.C:
		case <-m.quit:
			t.Stop()
		}
		m.write()
	}
}

func (m *metaDB) write() {
	m.mu.Lock()
	m.writing, m.pending, m.octets = m.pending, map[trace.ID]derived{}, 0
	m.mu.Unlock()
	if len(m.writing) > 0 {
		if err := m.update(m.put); err != nil {
			// It is all derived: the next start, or the next question, makes it again.
			m.leftOut.Store(true)
			m.s.log.Warn("meta.db not written", "err", err)
		}
	}
	m.mu.Lock()
	m.writing = nil
	m.mu.Unlock()
}

func (m *metaDB) put(tx *bolt.Tx) error {
	meta, text, sieve, msgID := tx.Bucket(bktMeta), tx.Bucket(bktText), tx.Bucket(bktSieve), tx.Bucket(bktMsgID)
	meta.FillPercent, text.FillPercent, sieve.FillPercent = 0.9, 0.9, 0.9
	ids := make([]trace.ID, 0, len(m.writing))
	for id := range m.writing {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		d, k := m.writing[id], keyID(id)
		if d.meta == nil {
			if err := errors.Join(meta.Delete(k), text.Delete(k), sieve.Delete(k)); err != nil {
				return err
			}
			continue
		}
		key, err := m.s.keys.bal(d.bal)
		if err != nil {
			continue // its BAL is gone: derived again for another one when it is asked for
		}
		err = errors.Join(meta.Put(k, sealDerived(key, "meta", &d, d.meta)), text.Put(k, sealDerived(key, "text", &d, d.text)),
			sieve.Put(k, sealDerived(key, "sieve", &d, d.sieve)))
		if d.msgID != nil {
			err = errors.Join(err, msgID.Put(append(slices.Clone(d.msgID), k...), []byte{1}))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// waiting is an entry that is not written yet.
func (m *metaDB) waiting(id trace.ID) (derived, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.pending[id]
	if !ok {
		d, ok = m.writing[id]
	}
	return d, ok && d.meta != nil
}

// get is what is kept of a message, ok false where nothing is.
func (m *metaDB) get(id trace.ID, bucket []byte) (v []byte, ok bool, err error) {
	if d, ok := m.waiting(id); ok {
		return d.of(bucket), true, nil
	}
	err = m.view(func(tx *bolt.Tx) error {
		v = bytes.Clone(tx.Bucket(bucket).Get(keyID(id)))
		return nil
	})
	if err == nil && v != nil {
		v, err = m.s.keys.openDerived(id, string(bucket), v, false)
	}
	if errors.Is(err, ErrCorrupt) {
		return nil, false, nil // as if it were not there
	}
	return v, v != nil, err
}

// derive reads the body again.
func (m *metaDB) derive(ctx context.Context, id trace.ID) (*message.Meta, message.Text, error) {
	var rec blobRec
	err := m.s.view(func(get func(int, []byte) []byte) error {
		v := get(bktBlob, keyID(id))
		if v == nil {
			return ErrNoMessage
		}
		var err error
		rec, err = decodeBlob(v)
		return err
	})
	if err != nil {
		return nil, message.Text{}, err
	}
	key, bal, err := m.s.keyOfBody(id)
	if err != nil {
		return nil, message.Text{}, err
	}
	f, err := m.s.openBlob(id, rec.Size, &key)
	if err != nil {
		return nil, message.Text{}, err
	}
	defer f.Close()
	meta, text, err := message.Scan(ctxReader{ctx, io.NewSectionReader(f, 0, rec.Size)})
	if err != nil {
		return nil, text, fmt.Errorf("store: scan of %s: %w", id, err)
	}
	d, err := m.encode(id, meta, text)
	if err != nil {
		return nil, text, err
	}
	d.bal = bal
	m.add(d)
	return meta, text, nil
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// catchUp derives, at start, what a crash or an older program left out.
func (m *metaDB) catchUp(ctx context.Context) {
	if m.wasWhole() {
		m.whole.Store(true)
		return
	}
	var from []byte
	failed := false
	for ctx.Err() == nil {
		ids, next, err := m.missing(from)
		if err != nil {
			m.s.log.Warn("meta.db not complete", "err", err)
			return
		}
		for _, id := range ids {
			m.waitForRoom(ctx)
			if err := m.complement(ctx, id); err != nil && ctx.Err() == nil && !errors.Is(err, ErrNoMessage) {
				failed = true
				m.s.log.Warn("structure of a message not derived", "err", err)
			}
		}
		if from = next; from == nil {
			m.whole.Store(!failed && ctx.Err() == nil)
			return
		}
	}
}

// waitForRoom waits until so much of what is pending is written that nothing is left out.
func (m *metaDB) waitForRoom(ctx context.Context) {
	for {
		m.mu.Lock()
		full := m.octets > maxPending/2
		m.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-time.After(metaDelay / 4):
		case <-m.quit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// missing looks at a page of bodies for those of which meta.db has nothing of this version.
func (m *metaDB) missing(from []byte) (ids []trace.ID, next []byte, err error) {
	var page []trace.ID
	err = m.s.read(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketNames[bktBlob]).Cursor()
		k, _ := c.Seek(append([]byte{}, from...))
		for ; k != nil && len(page) < 1000; k, _ = c.Next() {
			if keyIs(k, 8) {
				page = append(page, idOfKey(k))
			}
		}
		next = bytes.Clone(k)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	err = m.view(func(tx *bolt.Tx) error {
		b, t, sieves := tx.Bucket(bktMeta), tx.Bucket(bktText), tx.Bucket(bktSieve)
		for _, id := range page {
			v := b.Get(keyID(id))
			if _, ok := m.waiting(id); !ok && (v == nil || t.Get(keyID(id)) == nil || sieves.Get(keyID(id)) == nil || v[0] != message.MetaVersion) {
				ids = append(ids, id)
			}
		}
		return nil
	})
	return ids, next, err
}

// Meta is the structure of a message, derived again from its body where it is missing or old.
func (s *Store) Meta(ctx context.Context, id MessageID) (*message.Meta, error) {
	v, ok, err := s.meta.get(id, bktMeta)
	if err != nil {
		return nil, err
	}
	if ok {
		if m, err := message.ParseMeta(v); err == nil && m.Version == message.MetaVersion {
			return m, nil
		}
	}
	m, _, err := s.meta.derive(ctx, id)
	return m, err
}

func (m *metaDB) byMessageID(messageID string) ([]trace.ID, error) {
	h := m.hash(messageID)
	if h == nil {
		return nil, nil
	}
	var ids []trace.ID
	m.mu.Lock()
	for _, group := range []map[trace.ID]derived{m.pending, m.writing} {
		for id, d := range group {
			if bytes.Equal(d.msgID, h) {
				ids = append(ids, id)
			}
		}
	}
	m.mu.Unlock()
	err := m.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bktMsgID).Cursor()
		for k, _ := c.Seek(h); bytes.HasPrefix(k, h) && keyIs(k, len(h)+8) && len(ids) < 1000; k, _ = c.Next() {
			ids = append(ids, idOfKey(k))
		}
		return nil
	})
	slices.Sort(ids)
	return slices.Compact(ids), err
}
