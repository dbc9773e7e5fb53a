package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
)

// nthFS counts what is asked of the disk and lets the nth of it fail, in one of the ways of stepModes.
type nthFS struct {
	store.FileSystem
	*nth
}

type nth struct {
	count atomic.Int64
	at    int64 // this one fails; 0: none
	mode  stepMode
	mu    sync.Mutex
	hit   string // what failed
	kinds map[string]int
}

func (x *nth) dead() bool { return x.mode == killBefore || x.mode == killAfter }

// ask does what is asked, or not. half, where it is not nil, does a part of it.
func (x *nth) ask(what string, do, half func() error) error {
	n := x.count.Add(1)
	x.mu.Lock()
	x.kinds[what]++
	if x.at != 0 && n == x.at {
		x.hit = what
	}
	x.mu.Unlock()
	switch {
	case x.at == 0 || n < x.at || n > x.at && !x.dead():
		return do()
	case n > x.at:
		return errInjected
	case x.mode == didWrite || x.mode == killAfter:
		return errors.Join(do(), errInjected)
	case x.mode == shortWrite && half != nil:
		return errors.Join(half(), syscall.ENOSPC, errInjected)
	}
	return errInjected
}

func (x nthFS) Create(p string) (f store.File, err error) {
	err = x.ask("create", func() error { f, err = x.FileSystem.Create(p); return err }, nil)
	return nthFile{f, x.nth}, err
}
func (x nthFS) OpenWrite(p string) (f store.File, err error) {
	err = x.ask("open", func() error { f, err = x.FileSystem.OpenWrite(p); return err }, nil)
	return nthFile{f, x.nth}, err
}
func (x nthFS) Rename(a, b string) error {
	return x.ask("rename", func() error { return x.FileSystem.Rename(a, b) }, nil)
}
func (x nthFS) Remove(p string) error {
	return x.ask("remove", func() error { return x.FileSystem.Remove(p) }, nil)
}
func (x nthFS) Mkdir(p string) error {
	return x.ask("mkdir", func() error { return x.FileSystem.Mkdir(p) }, nil)
}
func (x nthFS) SyncDir(p string) error {
	return x.ask("sync of a directory", func() error { return x.FileSystem.SyncDir(p) }, nil)
}
func (x nthFS) SyncAll() error { return x.ask("sync of all", x.FileSystem.SyncAll, nil) }

type nthFile struct {
	store.File
	*nth
}

func (x nthFile) Write(p []byte) (n int, err error) {
	err = x.ask("write", func() error { n, err = x.File.Write(p); return err }, func() error { n, err = x.File.Write(p[:len(p)/2]); return err })
	return n, err
}
func (x nthFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = x.ask("write in place", func() error { n, err = x.File.WriteAt(p, off); return err },
		func() error { n, err = x.File.WriteAt(p[:len(p)/2], off); return err })
	return n, err
}
func (x nthFile) Sync() error { return x.ask("sync", x.File.Sync, nil) }

// faultRun is a life of a store in which one thing fails.
type faultRun struct {
	opt store.Options
	x   *nth
	s   *store.Store
}

func (r *faultRun) open() (err error) {
	r.s, err = store.OpenWith(r.opt, func(fs store.FileSystem) store.FileSystem { return nthFS{fs, r.x} })
	if err == nil {
		r.s.SetCommit(func(tx *bolt.Tx) error { return r.x.ask("commit of the index", tx.Commit, nil) })
	}
	return err
}

func (r *faultRun) ref(a store.Address, name string) store.Ref {
	b, _ := r.s.BAL(a)
	m, _ := r.s.Mailbox(b.ID, name)
	return m.Ref
}

func (r *faultRun) do(ops ...store.Op) error {
	_, err := r.s.Commit(ctx, &store.Batch{Ops: ops})
	return err
}

func (r *faultRun) mail(n int, to ...store.Ref) error {
	_, _, err := sendMail(r.s, crashMail{Raw: crashRaw(n, 700), To: to}, true)
	return err
}

// group delivers five at a time, in one commit and with one sync.
func (r *faultRun) group(to store.Ref) error {
	var wg sync.WaitGroup
	errs := make([]error, 6)
	r.s.SetSyncFew(0)
	for i := range errs {
		wg.Go(func() { errs[i] = r.mail(50+i, to) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// faultSteps is the life. Each step is done whole or not at all, and can be done again when it was not.
var faultSteps = []struct {
	name string
	do   func(r *faultRun) error
}{
	{"first BAL", func(r *faultRun) error { return r.do(newBAL("a@bal.example")) }},
	{"second BAL", func(r *faultRun) error { return r.do(newBAL("b@bal.example")) }},
	{"deliver", func(r *faultRun) error { return r.mail(1, r.ref("a@bal.example", "INBOX")) }},
	{"deliver to two", func(r *faultRun) error {
		return r.mail(2, r.ref("a@bal.example", "INBOX"), r.ref("b@bal.example", "INBOX"))
	}},
	{"deliver several", func(r *faultRun) error {
		_, err := sendSeveral(r.s, severalMails(70, 3, r.ref("a@bal.example", "Sent")))
		return err
	}},
	{"flags", func(r *faultRun) error {
		return r.do(store.StoreFlags{Ref: r.ref("a@bal.example", "INBOX"), Runs: one(1), Mode: store.Add, Flags: store.Deleted, Keywords: []string{"vu"}})
	}},
	{"copy", func(r *faultRun) error {
		return r.do(store.Copy{From: r.ref("a@bal.example", "INBOX"), Runs: one(1), To: r.ref("b@bal.example", "Archive")})
	}},
	{"expunge", func(r *faultRun) error {
		return r.do(store.Expunge{Ref: r.ref("a@bal.example", "INBOX"), Runs: one(1)})
	}},
	{"move", func(r *faultRun) error {
		return r.do(store.Move{From: r.ref("a@bal.example", "INBOX"), Runs: one(2), To: r.ref("a@bal.example", "Sent")})
	}},
	{"sweep", func(r *faultRun) error { _, err := r.s.Sweep(ctx, true); return err }},
	{"mailboxes", func(r *faultRun) error {
		return r.do(store.CreateMailbox{BAL: r.ref("a@bal.example", "INBOX").BAL, Name: "Labo/2026"}, store.RenameMailbox{Ref: r.ref("b@bal.example", "Archive"), To: "Vieux"})
	}},
	{"close, open", func(r *faultRun) error {
		if !r.s.Closed() {
			if err := r.s.Close(); err != nil {
				return err
			}
		}
		return r.open()
	}},
	{"deliver after a start", func(r *faultRun) error { return r.mail(3, r.ref("b@bal.example", "INBOX")) }},
	{"close BAL", func(r *faultRun) error { return r.do(store.SetBALState{Address: "a@bal.example", State: store.Closed}) }},
	{"destroy BAL", func(r *faultRun) error {
		_, err := r.s.DestroyBAL(ctx, "a@bal.example")
		if errors.Is(err, store.ErrDestroyed) {
			err = nil
		}
		return errors.Join(err, r.s.FinishDestroying(ctx))
	}},
	{"group", func(r *faultRun) error { return r.group(r.ref("b@bal.example", "INBOX")) }},
}

func newBAL(a store.Address) store.Op {
	return store.PutBAL{Create: true, BAL: store.BAL{Address: a, Kind: store.ORG, State: store.Active, Listing: store.Published}}
}

var (
	wordOfID = regexp.MustCompile(`\b[0-9A-Z]{13}\b`)
	dates    = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]* \+0000 UTC`)
	numbers  = regexp.MustCompile(`(?m)(UID|ModSeq|UIDValidity|UIDNext|HighestModSeq|BAL|Mailbox):\d+|^(bal|subscribed|annotations|destroyed) \d+|row {\d+ \d+}|At:\S+`)
)

// nameOnly leaves the word before a number.
func nameOnly(s string) string { return s[:strings.IndexAny(s, ": ")] + " n" }

// shape is what clients see of a store but ids, dates and numbers, which differ from run to run.
func (r *faultRun) shape(t *testing.T) string {
	t.Helper()
	d, err := dumpStore(r.s)
	if err != nil {
		t.Fatal(err)
	}
	d = numbers.ReplaceAllStringFunc(dates.ReplaceAllString(wordOfID.ReplaceAllString(d, "id"), "date"), nameOnly)
	var lines []string
	for l := range strings.Lines(d) {
		if !strings.HasPrefix(l, "vanished") {
			lines = append(lines, l)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func newFaultRun(t *testing.T, at int64, mode stepMode) *faultRun {
	r := &faultRun{opt: store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, RetainExpunged: -1},
		x: &nth{mode: mode, kinds: map[string]int{}}}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	r.x.count.Store(0)
	r.x.at = at
	return r
}

// TestFaultsEverywhere lets each thing that a store asks of the disk in its life fail once, in each way. What was refused
// is done again, as a peer does it; a store that failed is opened again. What was acknowledged stays, what was refused is
// done whole or not at all, and in the end all is there once.
func TestFaultsEverywhere(t *testing.T) {
	ref := newFaultRun(t, 0, "")
	shapes := []string{ref.shape(t)}
	for _, st := range faultSteps {
		if err := st.do(ref); err != nil {
			t.Fatalf("%s: %v", st.name, err)
		}
		shapes = append(shapes, ref.shape(t))
	}
	if err := ref.s.Close(); err != nil {
		t.Fatal(err)
	}
	total := ref.x.count.Load()
	stride, tried := int64(1), map[string]map[stepMode]int{}
	if !crashLong {
		stride = 3
	}
	if raceDetector {
		stride = 11
	}
	for i, mode := range stepModes {
		for at := 1 + int64(i)%stride; at <= total; at += stride {
			r := newFaultRun(t, at, mode)
			r.live(t, shapes, fmt.Sprintf("%s at %d", mode, at))
			if tried[r.x.hit] == nil {
				tried[r.x.hit] = map[stepMode]int{}
			}
			tried[r.x.hit][mode]++
			if t.Failed() {
				t.Fatalf("%s of a %s, the %dth thing asked of the disk", mode, r.x.hit, at)
			}
		}
	}
	for kind := range ref.x.kinds {
		if crashLong && tried[kind] == nil {
			t.Errorf("no %s failed", kind)
		}
	}
	t.Logf("faults, each followed by the rest of the life of the store, nothing lost:\n%s", faultTable(tried))
}

func faultTable(tried map[string]map[stepMode]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what failed |")
	for _, m := range stepModes {
		fmt.Fprintf(&b, " %s |", m)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(stepModes)) + "\n")
	var kinds []string
	for k := range tried {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		name := k
		if k == "" {
			name = "(nothing: the end came before)"
		}
		fmt.Fprintf(&b, "| %s |", name)
		for _, m := range stepModes {
			fmt.Fprintf(&b, " %d |", tried[k][m])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// live goes through the life and holds each step against the one without faults.
func (r *faultRun) live(t *testing.T, shapes []string, what string) {
	for i, st := range faultSteps {
		before, after := shapes[i], shapes[i+1]
		for try := 0; ; try++ {
			err := st.do(r)
			if err == nil {
				break
			}
			if try == 5 {
				t.Fatalf("%s: %s: %v, again and again", what, st.name, err)
			}
			if r.s == nil || r.s.Closed() || r.s.Err() != nil || r.x.hit != "" && r.x.dead() {
				r.again(t, what)
			}
			if got := r.shape(t); st.name != "group" && got != before && got != after {
				t.Fatalf("%s: %s failed (%v) and left\n%swant\n%sor\n%s", what, st.name, err, got, before, after)
			} else if got == after && !strings.HasPrefix(st.name, "deliver") {
				break // it is done already; a delivery is sent again all the same
			}
		}
		if got := r.shape(t); got != after {
			t.Fatalf("%s: after %s\n%swant\n%s", what, st.name, got, after)
		}
	}
	if err := r.s.Close(); err != nil && !errors.Is(err, errInjected) {
		t.Errorf("%s: close: %v", what, err)
	}
	s := storetest.Open(t, store.Options{Dir: r.opt.Dir})
	last := &faultRun{s: s}
	if got := last.shape(t); got != shapes[len(shapes)-1] {
		t.Errorf("%s: in the end\n%swant\n%s", what, got, shapes[len(shapes)-1])
	}
	storetest.Check(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// again is the next start of a process that ended; the disk is well again.
func (r *faultRun) again(t *testing.T, what string) {
	t.Helper()
	if r.s != nil && !r.s.Closed() {
		_ = r.s.Close()
	}
	r.x.at = 0
	if err := r.open(); err != nil {
		t.Fatalf("%s: does not open again: %v", what, err)
	}
}
