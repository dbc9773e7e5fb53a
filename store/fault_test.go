package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

var errInjected = errors.New("injected fault")

// faultFS fails the operation of a name once it is armed, after doing it or without.
type faultFS struct {
	store.FileSystem
	f *fault
}

type fault struct {
	op    string
	done  bool // do it, then fail
	armed bool
	fired bool
}

func (f *fault) run(op string, do func() error) error {
	if !f.armed || f.op != op {
		return do()
	}
	f.fired = true
	if f.done {
		return errors.Join(do(), errInjected)
	}
	return errInjected
}

func (x faultFS) Rename(a, b string) error {
	return x.f.run("rename", func() error { return x.FileSystem.Rename(a, b) })
}
func (x faultFS) Mkdir(p string) error {
	return x.f.run("mkdir", func() error { return x.FileSystem.Mkdir(p) })
}
func (x faultFS) SyncAll() error { return x.f.run("syncall", x.FileSystem.SyncAll) }
func (x faultFS) SyncDir(p string) error {
	return x.f.run("syncdir", func() error { return x.FileSystem.SyncDir(p) })
}
func (x faultFS) Create(p string) (file store.File, err error) {
	err = x.f.run("create", func() error { file, err = x.FileSystem.Create(p); return err })
	return faultFile{file, x.f}, err
}

type faultFile struct {
	store.File
	f *fault
}

func (x faultFile) Write(p []byte) (n int, err error) {
	err = x.f.run("write", func() error { n, err = x.File.Write(p); return err })
	return n, err
}
func (x faultFile) Sync() error { return x.f.run("sync", x.File.Sync) }

// tryDeliver is a delivery each step of which may fail.
func tryDeliver(s *store.Store, to store.Ref, body string) (store.MessageID, error) {
	b, err := s.NewBlob()
	if err != nil {
		return 0, err
	}
	defer b.Abort()
	if _, err := io.WriteString(b, body); err != nil {
		return 0, err
	}
	if err := b.Finish(nil, emptyText); err != nil {
		return 0, err
	}
	res, err := s.Commit(context.Background(), &store.Batch{Blob: b, Ops: []store.Op{store.AddMessage{Ref: to, Delivery: true}}})
	if err != nil {
		return 0, err
	}
	return res.ID, nil
}

func TestFaults(t *testing.T) {
	// Three ways to sync bodies: one by one in the session, one by one in the committer (few), all at once.
	for _, way := range []string{"each", "few", "all"} {
		for _, op := range []string{"create", "write", "sync", "mkdir", "rename", "syncdir", "syncall", "commit"} {
			for _, done := range []bool{false, true} {
				if (op == "syncall") != (way == "all") && (op == "syncall" || op == "sync") {
					continue // not a step of this way
				}
				t.Run(fmt.Sprintf("%s/%s/written=%v", op, way, done), func(t *testing.T) { testFault(t, way, fault{op: op, done: done}) })
			}
		}
	}
}

func testFault(t *testing.T, way string, f fault) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true, SyncEach: way == "each"}
	s, err := store.OpenWith(opt, func(fs store.FileSystem) store.FileSystem { return faultFS{fs, &f} })
	if err != nil {
		t.Fatal(err)
	}
	if way == "all" {
		s.SetSyncFew(0)
	}
	bal := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	in := box(t, s, bal.ID, "INBOX")
	s.SetCommit(func(tx *bolt.Tx) error { return f.run("commit", tx.Commit) })
	acked := map[store.MessageID]string{}
	if f.op != "mkdir" && (f.op != "syncdir" || way != "all") { // the first delivery makes the directory
		id, err := tryDeliver(s, in.Ref, "before")
		if err != nil {
			t.Fatal(err)
		}
		acked[id] = "before"
	}
	f.armed = true
	if _, err := tryDeliver(s, in.Ref, "during"); err == nil {
		t.Fatal("the delivery went through")
	}
	f.armed = false
	if !f.fired {
		t.Fatal("the fault was not reached")
	}
	id, err := tryDeliver(s, in.Ref, "after")
	unknown := f.op == "commit" || strings.HasPrefix(f.op, "sync") && (f.op != "sync" || way != "each")
	if unknown {
		if !errors.Is(err, store.ErrFailed) {
			t.Errorf("after a failed %s: %v, want ErrFailed", f.op, err)
		}
		select {
		case <-s.Failed():
		default:
			t.Error("Failed is not closed")
		}
	} else if err != nil {
		t.Errorf("after a failed %s: %v", f.op, err)
	} else {
		acked[id] = "after"
	}
	s.Close()

	s = storetest.Open(t, opt)
	counts := map[store.MessageID]int{}
	bodies := map[string]int{}
	for _, r := range rows(t, s, in.Ref) {
		counts[r.Message]++
		bodies[read(t, s, bal.ID, r.Message)]++
	}
	for id, body := range acked {
		if counts[id] != 1 || read(t, s, bal.ID, id) != body {
			t.Errorf("acknowledged message %q stands %d times", body, counts[id])
		}
	}
	if bodies["during"] > 0 && (f.op != "commit" || !f.done) {
		t.Error("a delivery that failed before the commit is there")
	}
	if n, _ := filepath.Glob(filepath.Join(opt.Dir, "spool", "*")); len(n) > 0 {
		t.Errorf("left in spool: %q", n)
	}
	if n, _ := filepath.Glob(filepath.Join(opt.Dir, "blobs", "*", "*")); len(n) != len(counts) {
		t.Errorf("%d bodies for %d messages", len(n), len(counts))
	}
}

// TestMain runs the children of TestKill and TestPowerCut in processes of their own.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == crashWord {
		crashChild(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	}
	if len(os.Args) == 5 && os.Args[1] == compareWord {
		compareChild(os.Args[2], os.Args[3], os.Args[4])
	}
	if dir := os.Getenv("MSSD_KEYS_KILL_CHILD"); dir != "" {
		keysKillChild(dir)
	}
	if dir := os.Getenv("MSSD_STORE_KILL_CHILD"); dir != "" {
		killChild(dir)
	}
	if dir := os.Getenv("MSSD_STORE_LOSS_CHILD"); dir != "" {
		lossChild(dir)
	}
	if dir := os.Getenv("MSSD_STORE_REPAIR_CHILD"); dir != "" {
		repairChild(dir)
	}
	if dir := os.Getenv("MSSD_STORE_SCALE_CHILD"); dir != "" {
		scaleChild(dir)
	}
	os.Exit(m.Run())
}

func killChild(dir string) {
	s, in := childStore(store.Options{Dir: dir})
	lines := make(chan string)
	for range 8 {
		go func() {
			for {
				b, err := s.NewBlob()
				childFail(err)
				_, err = io.WriteString(b, killBody(b.ID()))
				childFail(err)
				childFail(b.Finish(nil, emptyText))
				_, err = s.Commit(ctx, &store.Batch{Blob: b, Ops: []store.Op{store.AddMessage{Ref: in}}})
				childFail(err)
				lines <- b.ID().String()
			}
		}()
	}
	for l := range lines {
		fmt.Println(l)
	}
}

// TestKill kills a process that delivers, again and again: what it acknowledged is there once, with the right octets.
func TestKill(t *testing.T) {
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("MSSD_CRASH_ROUNDS")); err == nil {
		rounds = n
	}
	dir := filepath.Join(t.TempDir(), "s")
	acked := map[string]bool{}
	for round := range rounds {
		runKilled(t, "MSSD_STORE_KILL_CHILD="+dir, func(_ string, id trace.ID) { acked[id.String()] = true },
			func(lines int) bool { return lines > 40+round*37%200 })
		s, err := store.Open(store.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		storetest.Check(t, s)
		bal, err := s.BAL("a@bal.example")
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]int{}
		for _, r := range rows(t, s, box(t, s, bal.ID, "INBOX").Ref) {
			there[r.Message.String()]++
			if read(t, s, bal.ID, r.Message) != killBody(r.Message) {
				t.Errorf("message %s has other octets", r.Message)
			}
		}
		for id := range acked {
			if there[id] != 1 {
				t.Errorf("round %d: acknowledged message %s is there %d times", round, id, there[id])
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d messages acknowledged in %d rounds", len(acked), rounds)
}

// failCommit lets some commits pass, then fails each, written or not.
func failCommit(s *store.Store, pass int, written bool) {
	s.SetCommit(func(tx *bolt.Tx) error {
		if pass--; pass >= 0 {
			return tx.Commit()
		}
		if written {
			return errors.Join(tx.Commit(), errInjected)
		}
		return errInjected
	})
}
