package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// stepFS fails the step of a number, counted over all that changes something, and with a kill all after it too: that is
// what a kill leaves.
type stepFS struct {
	store.FileSystem
	*steps
}

// steps counts. Work in the background takes steps too.
type steps struct {
	mode stepMode
	mu   sync.Mutex
	left int    // steps until the fault; below 0 it is done
	last string // the step that failed
}

// arm lets the nth step from now on fail; 0: none.
func (x *steps) arm(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.left = n; n == 0 {
		x.left = 1 << 30
	}
}

// fault is the step that failed, "" none.
func (x *steps) fault() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.last
}

// take counts a step: now reports that it is to fail, dead that it comes after a kill.
func (x *steps) take(name string) (now, dead bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.left--
	if now = x.left == 0; now {
		x.last = name
	}
	return now, x.left < 0 && (x.mode == killBefore || x.mode == killAfter)
}

type stepMode string

const (
	notWritten stepMode = "error, not written"
	didWrite   stepMode = "error, written"
	shortWrite stepMode = "short write"
	killBefore stepMode = "killed before"
	killAfter  stepMode = "killed after"
)

var stepModes = []stepMode{notWritten, didWrite, shortWrite, killBefore, killAfter}

func (x *steps) step(name string, do func() error) error {
	now, dead := x.take(name)
	switch {
	case dead, now && x.mode != didWrite && x.mode != killAfter:
		return errInjected
	case now:
		return errors.Join(do(), errInjected)
	}
	return do()
}

// write is a step that may stop in the middle.
func (x *steps) write(name string, p []byte, do func(p []byte) (int, error)) (n int, err error) {
	now, dead := x.take(name)
	switch {
	case dead, now && (x.mode == notWritten || x.mode == killBefore):
		return 0, errInjected
	case now && x.mode == shortWrite:
		n, err = do(p[:len(p)/2])
		return n, errors.Join(fmt.Errorf("%w: %w", errInjected, syscall.ENOSPC), err)
	case now:
		n, err = do(p)
		return n, errors.Join(err, errInjected)
	}
	return do(p)
}

func (x stepFS) Rename(a, b string) error {
	return x.step("rename", func() error { return x.FileSystem.Rename(a, b) })
}
func (x stepFS) Remove(p string) error {
	if _, err := os.Lstat(p); err != nil {
		return x.FileSystem.Remove(p) // changes nothing
	}
	return x.step("remove", func() error { return x.FileSystem.Remove(p) })
}
func (x stepFS) Mkdir(p string) error {
	return x.step("mkdir", func() error { return x.FileSystem.Mkdir(p) })
}
func (x stepFS) SyncAll() error { return x.step("syncall", x.FileSystem.SyncAll) }
func (x stepFS) SyncDir(p string) error {
	return x.step("syncdir", func() error { return x.FileSystem.SyncDir(p) })
}
func (x stepFS) Create(p string) (f store.File, err error) {
	err = x.step("create", func() error { f, err = x.FileSystem.Create(p); return err })
	if err != nil && f != nil {
		f.Close()
	}
	return stepFile{f, x}, err
}
func (x stepFS) OpenWrite(p string) (store.File, error) {
	f, err := x.FileSystem.OpenWrite(p)
	return stepFile{f, x}, err
}

type stepFile struct {
	store.File
	fs stepFS
}

func (x stepFile) Write(p []byte) (int, error) { return x.fs.write("write", p, x.File.Write) }
func (x stepFile) WriteAt(p []byte, off int64) (int, error) {
	return x.fs.write("write in place", p, func(p []byte) (int, error) { return x.File.WriteAt(p, off) })
}
func (x stepFile) Sync() error { return x.fs.step("sync", x.File.Sync) }

// keysStore is a stopped store with two BALs, a message in one, a recovery key that is set and one that is not.
type keysStore struct {
	t                    *testing.T
	opt                  store.Options
	next, private, other string
	bal                  store.BALID
	id                   store.MessageID
}

func newKeysStore(t *testing.T) *keysStore {
	dir := t.TempDir()
	k := keysStoreIn(t, dir)
	k.opt.Create = true
	s := storetest.Open(t, k.opt)
	k.bal = storetest.AddBAL(t, s, "a@bal.example", store.ORG).ID
	storetest.AddBAL(t, s, "b@bal.example", store.PER)
	k.id, _ = storetest.Deliver(t, s, k.bal, raw)
	storetest.Check(t, s)
	s.Close()
	k.opt.Create = false
	k.must(store.MakeMasterKey(k.next))
	_, err := store.MakeRecoveryKey(k.private, filepath.Join(dir, "recovery.public"))
	k.must(err)
	_, err = store.MakeRecoveryKey(filepath.Join(dir, "other.private"), k.other)
	k.must(err)
	k.must(store.SetRecovery(k.opt.Dir, k.opt.MasterKey, filepath.Join(dir, "recovery.public")))
	return k
}

func keysStoreIn(t *testing.T, dir string) *keysStore {
	return &keysStore{t: t, opt: store.Options{Dir: filepath.Join(dir, "s"), MasterKey: filepath.Join(dir, "master.key"), NoSync: true},
		next: filepath.Join(dir, "next.key"), private: filepath.Join(dir, "recovery.private"), other: filepath.Join(dir, "other.public")}
}

// copy is the same store once more.
func (k *keysStore) copy(t *testing.T) *keysStore {
	dir := t.TempDir()
	copyTree(t, filepath.Dir(k.next), dir)
	c := keysStoreIn(t, dir)
	c.bal, c.id = k.bal, k.id
	return c
}

func (k *keysStore) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// state says which master key opens every slot, and which recovery key is set.
func (k *keysStore) state() string {
	k.t.Helper()
	var out []string
	for _, m := range []string{k.opt.MasterKey, k.next} {
		list, err := store.Keys(k.opt.Dir, m)
		k.must(err)
		whole := list.HeadErr == nil && list.Err == nil && list.Given == list.Wanted && len(list.Slots) == 3
		for i, addr := range []store.Address{"", "a@bal.example", "b@bal.example"} {
			s := list.Slots[i]
			whole = whole && s.Err == nil && s.Address == addr && s.Recovery == (list.Recovery != "")
		}
		if whole {
			out = append(out, filepath.Base(m)+" "+list.Recovery)
		}
	}
	return strings.Join(out, ", ")
}

// reads opens the store and looks at the mail in it.
func (k *keysStore) reads(master string) {
	k.t.Helper()
	opt := k.opt
	opt.MasterKey = master
	s := storetest.Open(k.t, opt)
	if got := read(k.t, s, k.bal, k.id); !strings.HasSuffix(got, raw) {
		k.t.Errorf("the mail reads %q", got)
	}
	storetest.Check(k.t, s)
	k.must(s.Close())
	if _, err := os.Stat(filepath.Join(k.opt.Dir, "keys.new")); err == nil {
		k.t.Error("keys.new stays")
	}
}

// TestKeyFaults lets each step of each change of the file of keys fail in each way: afterwards all slots are as before,
// or all as after, and an error that does not speak of this says that they are as before.
func TestKeyFaults(t *testing.T) {
	ops := map[string]func(k *keysStore, fs store.FileSystem) error{
		"rotate": func(k *keysStore, fs store.FileSystem) error {
			return store.RekeyWith(fs, k.opt.Dir, k.opt.MasterKey, k.next)
		},
		"recovery": func(k *keysStore, fs store.FileSystem) error {
			return store.SetRecoveryWith(fs, k.opt.Dir, k.opt.MasterKey, k.other)
		},
		"no recovery": func(k *keysStore, fs store.FileSystem) error {
			return store.SetRecoveryWith(fs, k.opt.Dir, k.opt.MasterKey, "")
		},
		"recover": func(k *keysStore, fs store.FileSystem) error {
			n, lost, err := store.RecoverWith(fs, k.opt.Dir, k.private, k.next)
			if err == nil && (n != 3 || len(lost) > 0) {
				k.t.Errorf("recovered %d, lost %v", n, lost)
			}
			return err
		},
	}
	base := newKeysStore(t)
	for name, op := range ops {
		k := base.copy(t)
		before := k.state()
		k.must(op(k, store.OSFiles()))
		after := k.state()
		if before == after || after == "" || strings.Contains(after, ",") {
			t.Fatalf("%s: %q, then %q", name, before, after)
		}
		k.reads(filepath.Join(filepath.Dir(k.opt.MasterKey), strings.Fields(after)[0]))
		reached := map[string]bool{}
		modes := stepModes
		if name != "rotate" { // they all go the same way
			modes = []stepMode{notWritten, killBefore}
		}
		for _, mode := range modes {
			for n, last := 1, "x"; last != ""; n++ {
				t.Run(fmt.Sprintf("%s/%s/%d", name, mode, n), func(t *testing.T) {
					k := base.copy(t)
					x := stepFS{store.OSFiles(), &steps{mode: mode, left: n}}
					err := op(k, x)
					if last = x.fault(); last == "" {
						k.must(err)
						return
					}
					reached[last] = true
					t.Logf("%s: %v", last, err)
					if err == nil {
						t.Errorf("%s failed without an error", last)
					}
					got := k.state()
					told := strings.Contains(err.Error(), "in force") || strings.Contains(err.Error(), "in place")
					if got != before && (got != after || !told && mode != killAfter && mode != didWrite) {
						t.Errorf("before %q, now %q, after %q; %v", before, got, after, err)
					}
					k.t = t
					k.reads(filepath.Join(filepath.Dir(k.opt.MasterKey), strings.Fields(got)[0]))
				})
			}
		}
		for _, s := range []string{"create", "write", "sync", "rename", "syncdir", "write in place"} {
			if !reached[s] {
				t.Errorf("%s: no fault at %s", name, s)
			}
		}
	}
}

// TestNewBALFaults lets each step of the creation of a BAL fail: it is there and works, or it is not there and can be
// made; the BAL before it goes on.
func TestNewBALFaults(t *testing.T) {
	for _, mode := range stepModes {
		for n, last := 1, "x"; last != ""; n++ {
			t.Run(fmt.Sprintf("%s/%d", mode, n), func(t *testing.T) {
				x := stepFS{steps: &steps{mode: mode}}
				x.arm(0)
				opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
				s, err := store.OpenWith(opt, func(fs store.FileSystem) store.FileSystem { x.FileSystem = fs; return x })
				if err != nil {
					t.Fatal(err)
				}
				first := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
				storetest.Deliver(t, s, first.ID, raw)
				x.arm(n)
				create := store.PutBAL{Create: true, BAL: store.BAL{Address: "b@bal.example", Kind: store.PER, State: store.Active, Listing: store.Published}}
				_, err = s.Commit(ctx, &store.Batch{Ops: []store.Op{create}})
				last = x.fault()
				if last == "" && err != nil || last != "" && err == nil {
					t.Errorf("fault at %q: %v", last, err)
				}
				if last == "write in place" && errors.Is(err, store.ErrFailed) {
					t.Errorf("a slot that could not be written stops the store: %v", err)
				}
				if last == "sync" && !errors.Is(err, store.ErrFailed) {
					t.Errorf("after a failed sync: %v", err)
				}
				if last == "write in place" && mode != killBefore && mode != killAfter {
					x.arm(0)
					storetest.Deliver(t, s, storetest.AddBAL(t, s, "b@bal.example", store.PER).ID, raw)
					storetest.Check(t, s)
				}
				s.Close()
				s = storetest.Open(t, opt)
				if len(s.Unavailable()) > 0 {
					t.Errorf("unavailable: %v", s.Unavailable())
				}
				b, err := s.BAL("b@bal.example")
				if errors.Is(err, store.ErrNoBAL) && last != "" {
					b = storetest.AddBAL(t, s, "b@bal.example", store.PER)
				} else if err != nil {
					t.Fatal(err)
				}
				storetest.Deliver(t, s, b.ID, raw)
				storetest.Deliver(t, s, first.ID, raw)
			})
		}
	}
}

// TestOlderIndex puts an index back that is older than the keys: a new BAL gets neither the number nor the slot of one
// that the index does not know.
func TestOlderIndex(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	s.Close()
	index, keys := filepath.Join(opt.Dir, "index.db"), filepath.Join(opt.Dir, "keys")
	older, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, opt)
	storetest.AddBAL(t, s, "b@bal.example", store.ORG)
	c := storetest.AddBAL(t, s, "c@bal.example", store.ORG)
	s.Close()
	before, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(index, older, 0o600); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, opt)
	d := storetest.AddBAL(t, s, "d@bal.example", store.ORG)
	e := storetest.AddBAL(t, s, "e@bal.example", store.ORG)
	if d.ID != c.ID+1 || e.ID != d.ID+1 {
		t.Errorf("numbers %d and %d after %d", d.ID, e.ID, c.ID)
	}
	after, err := os.ReadFile(keys)
	if err != nil || !strings.HasPrefix(string(after), string(before)) {
		t.Errorf("a slot in use was overwritten: %v", err)
	}
}
