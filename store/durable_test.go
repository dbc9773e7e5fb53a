package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// recordingFS writes down what is done to names and what is synced, in order, relative to a directory.
type recordingFS struct {
	store.FileSystem
	r *record
}

type record struct {
	dir string
	mu  sync.Mutex
	did []string
}

func (r *record) note(op, path string) {
	rel, _ := filepath.Rel(r.dir, path)
	r.mu.Lock()
	r.did = append(r.did, op+" "+rel)
	r.mu.Unlock()
}

func (r *record) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.did
	r.did = nil
	return d
}

func (f recordingFS) Mkdir(p string) error   { f.r.note("mkdir", p); return f.FileSystem.Mkdir(p) }
func (f recordingFS) SyncDir(p string) error { f.r.note("sync", p); return f.FileSystem.SyncDir(p) }
func (f recordingFS) SyncAll() error         { f.r.note("sync", f.r.dir); return f.FileSystem.SyncAll() }

func openRecorded(t *testing.T, opt store.Options, r *record) *store.Store {
	t.Helper()
	s, err := store.OpenWith(opt, func(fs store.FileSystem) store.FileSystem { return recordingFS{fs, r} })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A store made in a directory that was missing survives only if the names above it are durable too.
func TestCreationSyncsParents(t *testing.T) {
	top := t.TempDir()
	r := &record{dir: top}
	s := openRecorded(t, store.Options{Dir: filepath.Join(top, "a", "b"), Create: true}, r)
	defer s.Close()
	did := r.take()
	for _, want := range []string{"sync .", "sync a"} {
		made := slices.Index(did, map[string]string{"sync .": "mkdir a", "sync a": "mkdir a/b"}[want])
		if made < 0 || !slices.Contains(did[made:], want) {
			t.Errorf("no %q after the directory was made: %q", want, did)
		}
	}
}

// A directory of bodies that a killed process made, but did not sync, is made durable by the next one.
func TestSpanDirectoryOfKilledProcess(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, SyncEach: true}
	r := &record{dir: opt.Dir}
	s := openRecorded(t, opt, r)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	for range 2 { // the second process finds the directory
		r.take()
		if _, err := tryDeliver(s, in.Ref, raw); err != nil {
			t.Fatal(err)
		}
		if did := r.take(); !slices.Contains(did, "sync blobs") {
			t.Errorf("blobs/ was not synced: %q", did)
		}
		s.Close()
		s = openRecorded(t, opt, r)
	}
	s.Close()
}

// TestCreationInterrupted takes away what the last steps of the creation made: the next one ends the work.
func TestCreationInterrupted(t *testing.T) {
	steps := []string{"VERSION", "meta.db", "keys", "index.db", "state", "trace", "spool", "blobs"} // the last first
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	s.Close()
	for i, name := range steps {
		if err := os.RemoveAll(filepath.Join(opt.Dir, name)); err != nil {
			t.Fatal(err)
		}
		for _, n := range steps[:i] {
			os.RemoveAll(filepath.Join(opt.Dir, n))
		}
		if _, err := store.Open(store.Options{Dir: opt.Dir}); !errors.Is(err, store.ErrNoStore) {
			t.Errorf("without %s: %v, want ErrNoStore", name, err)
		}
		s, err := store.Open(opt)
		if err != nil {
			t.Errorf("without %s: %v", name, err)
			continue
		}
		storetest.Check(t, s)
		s.Close()
	}
}

// A power cut in a creation can leave the name of an index and some of its pages: the next creation begins it anew. Where
// there are keys the index was whole, and is never thrown away.
func TestCreationTornIndex(t *testing.T) {
	for _, size := range []int64{0, 100, 4096, 7168, 16384} {
		opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
		if err := os.MkdirAll(filepath.Join(opt.Dir, "blobs"), 0o700); err != nil {
			t.Fatal(err)
		}
		index := filepath.Join(opt.Dir, "index.db")
		os.WriteFile(index, make([]byte, size), 0o600)
		storetest.Open(t, opt).Close()
		os.Remove(filepath.Join(opt.Dir, "VERSION"))
		os.WriteFile(index, make([]byte, max(size, 1)), 0o600)
		if s, err := store.Open(opt); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("an index of %d octets beside keys: %v, want ErrCorrupt", size, err)
			if err == nil {
				s.Close()
			}
		}
	}
}

// New keys for a store that holds something would part it from its own pseudonyms.
func TestKeysAreNotMadeAnew(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	s.Close()
	os.Remove(filepath.Join(opt.Dir, "VERSION"))
	os.Remove(filepath.Join(opt.Dir, "keys"))
	if s, err := store.Open(opt); err == nil {
		s.Close()
		t.Error("a store with data got new keys")
	}
}

// TestClosed asks a closed store: everything says so.
func TestClosed(t *testing.T) {
	s := storetest.New(t)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	id, _ := storetest.Deliver(t, s, b.ID, raw)
	in := box(t, s, b.ID, "INBOX")
	bl := storetest.NewBlob(t, s, raw)
	s.Close()
	_, commit := s.Commit(ctx, &store.Batch{Blob: bl, Ops: []store.Op{store.AddMessage{Ref: in.Ref}}})
	_, open := s.OpenMessage(b.ID, id)
	_, snap := s.Snapshot(in.Ref, false)
	_, meta := s.Meta(ctx, id)
	_, text := s.Text(ctx, id)
	_, tr := s.Trace(ctx, id)
	_, blob := s.NewBlob()
	rows := s.Rows(ctx, in.Ref, one(1), func(store.Row) bool { return true })
	for what, err := range map[string]error{"Commit": commit, "OpenMessage": open, "Snapshot": snap, "Meta": meta, "Text": text, "Trace": tr, "Rows": rows, "NewBlob": blob} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
	bl.Abort()
	if n, _ := filepath.Glob(filepath.Join(s.Dir(), "*", "*")); len(n) > 1 { // the directory of the span
		t.Errorf("left behind: %q", n)
	}
}

// TestCloseWhileCommitting closes a store that is at work: each commit is done or refused, and Check is content.
func TestCloseWhileCommitting(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[store.MessageID]bool{}
	started := make(chan struct{}, 1000)
	for range 20 {
		wg.Go(func() {
			for {
				id, err := tryDeliver(s, in.Ref, raw)
				if err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("delivery: %v", err)
					}
					return
				}
				mu.Lock()
				acked[id] = true
				mu.Unlock()
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 40 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	s = storetest.Open(t, opt)
	for _, r := range rows(t, s, in.Ref) {
		delete(acked, r.Message)
	}
	if len(acked) > 0 {
		t.Errorf("%d acknowledged messages are lost", len(acked))
	}
}

// TestDamagedMeta spoils the pages of meta.db in every way but its first two: structure and words still come, and
// the next start has a sound file.
func TestDamagedMeta(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(b []byte)
	}{
		{"ones", func(b []byte) {
			for i := 8192; i < len(b); i++ {
				b[i] = 0xff
			}
		}},
		{"zeros", func(b []byte) { clear(b[8192:]) }},
		{"one page", func(b []byte) {
			for i := 4 * 4096; i < len(b); i += 4096 {
				b[i+8] = 0x55
			}
		}},
		{"all", func(b []byte) { clear(b) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
			s := storetest.Open(t, opt)
			b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
			id, _ := storetest.Deliver(t, s, b.ID, raw)
			s.Close()
			path := filepath.Join(opt.Dir, "meta.db")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(data)
			os.WriteFile(path, data, 0o600)
			for range 2 {
				s = storetest.Open(t, opt)
				m, err := s.Meta(ctx, id)
				if err != nil || m.MessageID != "<m1@labo.example>" && m.MessageID != "m1@labo.example" {
					t.Errorf("structure: %+v, %v", m, err)
				}
				txt, err := s.Text(ctx, id)
				if found, _ := txt.Contains([]byte("bonjour")); !found || err != nil {
					t.Errorf("text: %v", err)
				}
				s.Close()
			}
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			db.View(func(tx *bolt.Tx) error {
				for err := range tx.Check() {
					t.Errorf("meta.db after the second start: %v", err)
				}
				if tx.Bucket([]byte("meta")).Stats().KeyN != 1 {
					t.Error("meta.db does not have the message again")
				}
				return nil
			})
		})
	}
}

// TestDamagedIndex spoils index.db: the start is refused with the name of the file, the process lives.
func TestDamagedIndex(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	storetest.Deliver(t, s, storetest.AddBAL(t, s, "a@bal.example", store.ORG).ID, raw)
	s.Close()
	path := filepath.Join(opt.Dir, "index.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"ones": func(b []byte) []byte {
			for i := 8192; i < len(b); i++ {
				b[i] = 0xff
			}
			return b
		},
		"zeros": func(b []byte) []byte { clear(b[8192:]); return b },
		"kinds of pages": func(b []byte) []byte {
			for i := 2 * 4096; i < len(b); i += 4096 {
				b[i+8] = 0x55
			}
			return b
		},
		// Pages 0 and 1 are bbolt's own; the root of so small an index is one of the next.
		"cut short": func(b []byte) []byte { return b[:2*4096] },
		"empty":     func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			os.WriteFile(path, spoil(slices.Clone(good)), 0o600)
			s, err := store.Open(store.Options{Dir: opt.Dir})
			if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "index.db") {
				t.Errorf("%v, want ErrCorrupt and the name", err)
			}
			if err == nil {
				s.Close()
			}
		})
	}
	os.WriteFile(path, good, 0o600)
	storetest.Open(t, opt)
}

// TestLastUIDs fills the numbers of a mailbox to the end.
func TestLastUIDs(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	storetest.Deliver(t, s, b.ID, raw)
	s.SetNextUID(in.Ref, 1<<32-3)
	s.Close()
	s = storetest.Open(t, opt)
	w := s.Watch(in.Ref)
	defer w.Close()
	since := box(t, s, b.ID, "INBOX").HighestModSeq
	for _, want := range []store.UID{1<<32 - 3, 1<<32 - 2} {
		if _, uid := storetest.Deliver(t, s, b.ID, raw); uid != want {
			t.Errorf("UID %d, want %d", uid, want)
		}
	}
	if _, err := tryDeliver(s, in.Ref, raw); !errors.Is(err, store.ErrLimit) {
		t.Errorf("one more: %v, want ErrLimit", err)
	}
	all := []store.Run{{First: 1, Count: 1<<32 - 1}}
	snap, err := s.Snapshot(in.Ref, false)
	want := []store.Run{{First: 1, Count: 1}, {First: 1<<32 - 3, Count: 2}}
	if err != nil || !slices.Equal(snap.Runs, want) || snap.FirstUnseen != 1 {
		t.Errorf("%+v %v", snap, err)
	}
	if ch, err := s.Changes(in.Ref, since); err != nil || len(ch.Rows) != 2 {
		t.Errorf("%+v %v", ch, err)
	}
	res := do(t, s, store.StoreFlags{Ref: in.Ref, Runs: all, Mode: store.Add, Flags: store.Deleted | store.Seen}, store.Expunge{Ref: in.Ref, Runs: all})
	if !slices.Equal(res.Ops[1].UIDs, want) {
		t.Errorf("expunged %v", res.Ops[1].UIDs)
	}
	if ch, err := s.Changes(in.Ref, since); err != nil || !slices.Equal(ch.Vanished, want) || len(ch.Rows) != 0 {
		t.Errorf("%+v %v", ch, err)
	}
}

// TestKeywordSetsAreBounded makes new sets of keywords without end, as a client can: the store says stop, and mail
// is still delivered.
func TestKeywordSetsAreBounded(t *testing.T) {
	s := storetest.Open(t, store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true})
	s.SetKeywordRoom(20 << 10)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, b.ID, "INBOX")
	storetest.Deliver(t, s, b.ID, raw)
	var err error
	for i := 0; i < 2000 && err == nil; i++ {
		var words []string
		for bit := range 11 {
			if i>>bit&1 == 1 {
				words = append(words, fmt.Sprintf("%s%d", strings.Repeat("k", 20), bit))
			}
		}
		_, err = s.Commit(ctx, &store.Batch{Ops: []store.Op{store.StoreFlags{Ref: in.Ref, Runs: one(1), Mode: store.Replace, Keywords: words}}})
	}
	if !errors.Is(err, store.ErrLimit) {
		t.Fatalf("%v, want ErrLimit", err)
	}
	bl := storetest.NewBlob(t, s, raw)
	if _, err := s.Commit(ctx, &store.Batch{Blob: bl, Ops: []store.Op{store.AddMessage{Ref: in.Ref, Keywords: []string{"another"}, Delivery: true}}}); err != nil {
		t.Errorf("delivery with a new keyword: %v", err)
	}
}
