package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
	"mssd/trace"
)

// blobs are the files of bodies below a directory, sorted.
func blobs(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	must(t, err)
	return files
}

// flip changes one octet of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 0x40
	must(t, os.WriteFile(path, b, 0o600))
}

// Whatever is changed in a directory of backups is found by verify; a restore refuses what it must not trust, and brings
// back all but the message whose body is damaged; a run with VerifyAll mends bodies.
func TestDamagedBackup(t *testing.T) {
	w := newWorld(t)
	ids := w.deliver(6)
	r := w.backup(backup.Options{})
	gen := filepath.Join(w.path("backup"), "generations", r.Generation)
	whole := t.TempDir()
	must(t, os.CopyFS(whole, os.DirFS(w.path("backup"))))
	cases := []struct {
		name    string
		damage  func()
		verify  string // what verify says, without a master key
		restore error  // nil: it goes on
		absent  int    // bodies that a restore does without
		mends   bool
	}{
		{"body changed", func() { flip(t, blobs(t, w.path("backup"))[2], 20) }, "does not hold", nil, 1, true},
		{"body cut", func() { must(t, os.Truncate(blobs(t, w.path("backup"))[2], 30)) }, "does not hold", nil, 1, true},
		{"body empty", func() { must(t, os.Truncate(blobs(t, w.path("backup"))[0], 0)) }, "does not hold", nil, 1, true},
		{"body gone", func() { must(t, os.Remove(blobs(t, w.path("backup"))[5])) }, "is missing", nil, 1, true},
		{"bodies swapped", func() {
			b := blobs(t, w.path("backup"))
			must(t, os.Rename(b[0], b[0]+"x"))
			must(t, os.Rename(b[1], b[0]))
			must(t, os.Rename(b[0]+"x", b[1]))
		}, "does not hold", nil, 2, true},
		{"index changed", func() { flip(t, filepath.Join(gen, "index.db"), 9000) }, "index.db", backup.ErrDamaged, 0, false},
		{"keys changed", func() { flip(t, filepath.Join(gen, "keys"), -1) }, "keys", backup.ErrDamaged, 0, false},
		{"keys of a later day beside an older index", func() {
			b, err := os.ReadFile(w.path("store/keys"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(gen, "keys"), b, 0o600))
		}, "keys", backup.ErrDamaged, 0, false},
		{"list cut", func() { must(t, os.Truncate(filepath.Join(gen, "bodies"), 48*3)) }, "bodies", backup.ErrDamaged, 0, false},
		{"manifest gone", func() { must(t, os.Remove(filepath.Join(gen, "manifest"))) }, "no manifest", backup.ErrDamaged, 0, false},
		{"manifest cut", func() { must(t, os.Truncate(filepath.Join(gen, "manifest"), 200)) }, "manifest", backup.ErrDamaged, 0, false},
		{"manifest of another version", func() {
			rewrite(t, filepath.Join(gen, "manifest"), "manifest 1", "manifest 2")
		}, "manifest 2", backup.ErrVersion, 0, false},
		{"manifest says fewer messages", func() {
			rewrite(t, filepath.Join(gen, "manifest"), "messages 6", "messages 5")
		}, "", backup.ErrForged, 0, false},
		{"store of another format", func() {
			must(t, os.WriteFile(filepath.Join(gen, "VERSION"), []byte("mssd store 9\n"), 0o600))
		}, "VERSION", backup.ErrDamaged, 0, false},
	}
	storetest.AddBAL(t, w.s, "plustard@test.mssante.fr", store.PER)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.damage()
			defer func() {
				must(t, os.RemoveAll(w.path("backup")))
				must(t, os.CopyFS(w.path("backup"), os.DirFS(whole)))
			}()
			v := w.verify("")
			if got := strings.Join(v.Faults, "\n"); (c.verify == "") != (got == "") || !strings.Contains(got, c.verify) {
				t.Errorf("verify says %q, want %q in it", got, c.verify)
			}
			if v := w.verify(w.key); len(v.Faults) == 0 {
				t.Error("verify with the master key finds nothing")
			}
			to := filepath.Join(t.TempDir(), "restored")
			r, err := w.restore(backup.RestoreOptions{To: to})
			if !errors.Is(err, c.restore) || (err == nil) != (c.restore == nil) {
				t.Fatalf("restore: %v, want %v", err, c.restore)
			}
			if err != nil {
				if _, err := os.Stat(to); err == nil {
					t.Error("a refused restore leaves its directory")
				}
				return
			}
			if r.Sound() || len(r.Absent) != c.absent || len(r.Problems) != 0 || r.Renewed.Once != c.absent {
				t.Errorf("restore: %+v, want %d bodies absent, each named once", r, c.absent)
			}
			s, err := store.Open(store.Options{Dir: to, MasterKey: w.key})
			must(t, err)
			got := contents(t, s)
			// The peer that saw no 250 sends a letter again: it is stored where its body is absent, and only there.
			for _, id := range ids {
				res := w.resend(t, s, w.want[id])
				if slices.Contains(r.Absent, id) == res.Duplicate {
					t.Errorf("message %s sent again: duplicate %v, absent %v", id, res.Duplicate, r.Absent)
				}
			}
			must(t, s.Close())
			for _, id := range r.Absent {
				if !strings.HasPrefix(got[id], "error") {
					t.Errorf("message %s is absent and yet there", id)
				}
				got[id] = w.want[id]
			}
			sameContents(t, got, w.want)
			report := w.backup(backup.Options{VerifyAll: true})
			if v := w.verify(w.key); c.mends && len(v.Faults) > 0 {
				t.Errorf("after a run with VerifyAll (%+v): %v", report, v.Faults)
			}
		})
	}
}

func rewrite(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Contains(b, []byte(from)) {
		t.Fatalf("%s does not hold %q:\n%s", path, from, b)
	}
	must(t, os.WriteFile(path, bytes.Replace(b, []byte(from), []byte(to), 1), 0o600))
}

// resend delivers as a peer that saw no 250.
func (w *world) resend(t *testing.T, s *store.Store, raw string) *store.Result {
	t.Helper()
	b, err := s.BAL(w.bals[0].Address)
	must(t, err)
	inbox, err := s.Mailbox(b.ID, "INBOX")
	must(t, err)
	res, err := s.Commit(context.Background(), &store.Batch{Blob: storetest.NewBlob(t, s, raw), Once: &store.Once{Key: sha256.Sum256([]byte(raw))},
		Ops: []store.Op{store.AddMessage{Ref: inbox.Ref, Delivery: true}}})
	must(t, err)
	return res
}

// A store with another master key is refused by name, on verifying and on restoring.
func TestWrongMasterKey(t *testing.T) {
	w := newWorld(t)
	w.deliver(1)
	w.backup(backup.Options{})
	other := w.path("other.key")
	must(t, store.MakeMasterKey(other))
	name, err := store.CheckMasterKey(w.key)
	must(t, err)
	to := filepath.Join(t.TempDir(), "restored")
	if _, err := w.restore(backup.RestoreOptions{MasterKey: other, To: to}); !errors.Is(err, store.ErrMasterKey) || !strings.Contains(err.Error(), name) {
		t.Errorf("restore with another master key: %v, want one that names %s", err, name)
	}
	d, err := backup.Open(w.path("backup"), backup.Read)
	must(t, err)
	defer d.Close()
	if _, err := backup.Verify(context.Background(), d, "", other, nil); !errors.Is(err, store.ErrMasterKey) {
		t.Errorf("verify with another master key: %v", err)
	}
}

// A body that is damaged in the store is named, all others are copied; where an older backup has it, it stays there.
func TestDamagedStore(t *testing.T) {
	w := newWorld(t)
	old := w.deliver(3)
	w.backup(backup.Options{})
	ids := w.deliver(5)
	flip(t, filepath.Join(w.path("store"), store.BodyFile(old[1])), 30)
	flip(t, filepath.Join(w.path("store"), store.BodyFile(ids[1])), 30)
	must(t, os.Truncate(filepath.Join(w.path("store"), store.BodyFile(ids[2])), 40))
	must(t, os.Remove(filepath.Join(w.path("store"), store.BodyFile(ids[3]))))
	r := w.backup(backup.Options{})
	if !slices.Equal(r.Damaged, ids[1:4]) || r.DamagedAll != 3 || r.New != 2 || r.Bodies != 8 {
		t.Errorf("%+v, want %v damaged and 2 copied", r, ids[1:4])
	}
	v := w.verify(w.key)
	if len(v.Faults) > 0 || v.Damaged != 3 {
		t.Errorf("verify: %+v", v)
	}
	to := filepath.Join(t.TempDir(), "restored")
	res, err := w.restore(backup.RestoreOptions{To: to, Rehearse: true})
	must(t, err)
	if res.Sound() || !slices.Equal(res.Absent, ids[1:4]) || !res.Opened {
		t.Errorf("rehearsal: %+v", res)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("the rehearsal left its directory")
	}
	if res, err = w.restore(backup.RestoreOptions{To: to}); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Options{Dir: to, MasterKey: w.key})
	must(t, err)
	got := contents(t, s)
	must(t, s.Close())
	if got[old[1]] != w.want[old[1]] {
		t.Error("the body that an older backup has was not restored from it")
	}
	must(t, w.s.Close()) // its own check would complain of the damage
	// Once the bodies are back in the store, the next run has them.
	w2 := newWorld(t)
	ids = w2.deliver(2)
	path := filepath.Join(w2.path("store"), store.BodyFile(ids[0]))
	must(t, os.Rename(path, path+".away"))
	if r := w2.backup(backup.Options{}); r.DamagedAll != 1 {
		t.Errorf("%+v", r)
	}
	must(t, os.Rename(path+".away", path))
	if r := w2.backup(backup.Options{}); r.DamagedAll != 0 || r.New != 1 {
		t.Errorf("after the body came back: %+v", r)
	}
}

// TestBodyOutOfReach: a body that cannot be opened for a reason of the system says nothing of the body. The run fails, no
// generation and no registered key is left, and the next run has all; where an older generation has it, it is not asked for.
func TestBodyOutOfReach(t *testing.T) {
	w := newWorld(t)
	w.deliver(3)
	w.backup(backup.Options{})
	ids := w.deliver(3)
	path := filepath.Join(w.path("store"), store.BodyFile(ids[1]))
	must(t, os.Rename(path, path+".away"))
	must(t, os.Symlink(filepath.Base(path), path)) // ELOOP
	for _, fast := range []bool{false, true} {
		r, err := w.try(context.Background(), backup.Options{Fast: fast})
		if err == nil || errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), ids[1].String()) || r.DamagedAll > 0 {
			t.Errorf("fast %v: %+v, %v; want an error that names the body", fast, r, err)
		}
	}
	known, err := w.s.Backups()
	must(t, err)
	for _, b := range known[1:] {
		if b.Forgotten.IsZero() || !b.Done.IsZero() {
			t.Errorf("a failed run is registered as if there were something of it: %+v", b)
		}
	}
	if v := w.verify(w.key); v.Generations != 1 || len(v.Faults) > 0 {
		t.Errorf("verify: %+v", v)
	}
	must(t, os.Rename(path+".away", path))
	if r := w.backup(backup.Options{}); r.DamagedAll != 0 || r.Bodies != 6 {
		t.Errorf("afterwards: %+v", r)
	}
}

// breaking is a Source that breaks off after so many steps, as a daemon does that is killed.
type breaking struct {
	backup.Source
	left  *int
	clean bool // it can still be told of what is gone
}

var errBroken = errors.New("the daemon is gone")

func (b breaking) step() error {
	if *b.left--; *b.left < 0 {
		return errBroken
	}
	return nil
}

func (b breaking) Begin(ctx context.Context, label string, p store.Progress) (backup.Session, error) {
	if err := b.step(); err != nil {
		return nil, err
	}
	s, err := b.Source.Begin(ctx, label, p)
	return breakingSession{s, b}, err
}

func (b breaking) Forget(ctx context.Context, id trace.ID) error {
	if !b.clean && *b.left < 0 {
		return errBroken
	}
	return b.Source.Forget(ctx, id)
}

type breakingSession struct {
	backup.Session
	b breaking
}

func (s breakingSession) CopyIndex(ctx context.Context, w io.Writer) error {
	return errors.Join(s.b.step(), s.Session.CopyIndex(ctx, &breakingWriter{w, s.b}))
}

func (s breakingSession) CopyKeys(ctx context.Context, w io.Writer) error {
	return errors.Join(s.b.step(), s.Session.CopyKeys(ctx, w))
}

func (s breakingSession) Bodies(ctx context.Context, ask backup.Ask, fn func(backup.Body, io.Reader) error) error {
	return s.Session.Bodies(ctx, ask, func(b backup.Body, r io.Reader) error {
		if err := s.b.step(); err != nil {
			return err
		}
		return fn(b, r)
	})
}

func (s breakingSession) Manifest(ctx context.Context, c backup.Contents) ([]byte, error) {
	if err := s.b.step(); err != nil {
		return nil, err
	}
	return s.Session.Manifest(ctx, c)
}

func (s breakingSession) Done(ctx context.Context) error {
	if err := s.b.step(); err != nil {
		return err
	}
	return s.Session.Done(ctx)
}

type breakingWriter struct {
	w io.Writer
	b breaking
}

func (w *breakingWriter) Write(p []byte) (int, error) {
	if err := w.b.step(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// A run that breaks off at any step harms no generation before it, and the next run goes on from there.
func TestBrokenOff(t *testing.T) {
	w := newWorld(t)
	w.deliver(3)
	first := w.backup(backup.Options{})
	before := w.verify(w.key)
	ended := false
	for steps := 0; !ended; steps++ {
		if steps%10 == 0 {
			w.deliver(1)
		}
		left := steps
		d, err := backup.Open(w.path("backup"), backup.Write)
		must(t, err)
		_, err = backup.Run(context.Background(), breaking{backup.Local{Store: w.s}, &left, steps%2 == 0}, d, backup.Options{})
		must(t, d.Close())
		if ended = err == nil; !ended && !errors.Is(err, errBroken) {
			t.Fatalf("after %d steps: %v", steps, err)
		}
		if v := w.verify(w.key); len(v.Faults) > 0 || v.Generations < before.Generations {
			t.Fatalf("after %d steps: %+v", steps, v)
		}
		if steps > 200 {
			t.Fatal("it never ends")
		}
		known, err := w.s.Backups()
		must(t, err)
		for _, b := range known {
			// Keys may lie there only while it is registered.
			if b.Forgotten.IsZero() {
				continue
			}
			if left, _ := filepath.Glob(filepath.Join(w.path("backup"), "generations", "*"+b.ID.String()+"*", "keys")); len(left) > 0 {
				t.Fatalf("after %d steps: %s is called destroyed and is there", steps, b.ID)
			}
		}
	}
	r := w.backup(backup.Options{})
	if r.New != 0 {
		t.Errorf("%d bodies were copied again", r.New)
	}
	names, err := os.ReadDir(w.path("backup/generations"))
	must(t, err)
	for _, n := range names {
		if strings.Contains(n.Name(), "partial") {
			t.Errorf("%s is left", n.Name())
		}
	}
	res, err := w.restore(backup.RestoreOptions{Generation: first.Generation})
	if err != nil || !res.Sound() {
		t.Errorf("the first generation: %+v %v", res, err)
	}
	to := filepath.Join(t.TempDir(), "restored")
	res, err = w.restore(backup.RestoreOptions{To: to})
	if err != nil || !res.Sound() {
		t.Errorf("the last generation: %+v %v", res, err)
	}
	sameContents(t, contents(t, storetest.Open(t, store.Options{Dir: to, MasterKey: w.key})), w.want)
}

// A restore goes into an empty directory only.
func TestRestoreIntoUse(t *testing.T) {
	w := newWorld(t)
	w.deliver(1)
	w.backup(backup.Options{})
	to := t.TempDir()
	must(t, os.WriteFile(filepath.Join(to, "precious"), []byte("x"), 0o600))
	for _, rehearse := range []bool{false, true} {
		if _, err := w.restore(backup.RestoreOptions{To: to, Rehearse: rehearse}); err == nil || !strings.Contains(err.Error(), "precious") {
			t.Errorf("into a directory in use: %v", err)
		}
		if _, err := os.Stat(filepath.Join(to, "precious")); err != nil {
			t.Fatal(err)
		}
	}
	must(t, os.Remove(filepath.Join(to, "precious")))
	if r, err := w.restore(backup.RestoreOptions{To: to, Rehearse: true}); err != nil || !r.Sound() || !r.Opened {
		t.Errorf("rehearsal in an empty directory: %+v %v", r, err)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
		t.Errorf("the rehearsal left %v %v", left, err)
	}
}

// The trace of a lost store is read as far as its index can be.
func TestLostFromDamagedStore(t *testing.T) {
	w := newWorld(t)
	w.deliver(2)
	w.backup(backup.Options{})
	lost := w.deliver(600)
	must(t, w.s.Close())
	index := w.path("store/index.db")
	b, err := os.ReadFile(index)
	must(t, err)
	// A page in the midst of the trace: its head says nonsense.
	at := bytes.Index(b, traceKey(t, w, 900))
	if at < 0 {
		t.Fatal("the trace was not found in the index")
	}
	page := at / os.Getpagesize() * os.Getpagesize()
	for i := range 16 {
		b[page+i] = 0xff
	}
	must(t, os.WriteFile(index, b, 0o600))
	r, err := w.restore(backup.RestoreOptions{LostFrom: w.path("store")})
	must(t, err)
	if r.LostErr != nil || r.LostWhole || len(r.Lost) < 300 || len(r.Lost) >= len(lost) {
		t.Errorf("%d of %d lost messages named, whole %v, %v", len(r.Lost), len(lost), r.LostWhole, r.LostErr)
	}
	if first, last := r.Lost[0].ID, r.Lost[len(r.Lost)-1].ID; first != lost[0] || last != lost[len(lost)-1] {
		t.Errorf("from %s to %s, want from %s to %s", first, last, lost[0], lost[len(lost)-1])
	}
	must(t, os.WriteFile(index, []byte("nonsense"), 0o600))
	r, err = w.restore(backup.RestoreOptions{LostFrom: w.path("store")})
	if err != nil || r.LostErr == nil || r.Sound() {
		t.Errorf("an index that cannot be read: %+v %v", r.LostErr, err)
	}
}

// traceKey is the stored form of the number of an event.
func traceKey(_ *testing.T, _ *world, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, seq)
}

// spoilt is a Source whose index has a page of nonsense, and says that this is how it stands in the store.
type spoilt struct{ backup.Local }

func (s spoilt) Begin(ctx context.Context, label string, p store.Progress) (backup.Session, error) {
	in, err := s.Local.Begin(ctx, label, p)
	if err != nil {
		return nil, err
	}
	var index bytes.Buffer
	if err := in.CopyIndex(ctx, &index); err != nil {
		return nil, err
	}
	b := index.Bytes()
	for i := 2 * os.Getpagesize(); i < len(b); i++ {
		b[i] = 0xff
	}
	return spoiltSession{in, b}, nil
}

type spoiltSession struct {
	backup.Session
	index []byte
}

func (s spoiltSession) Moment() backup.Moment {
	m := s.Session.Moment()
	m.Index.SHA256 = fmt.Sprintf("%x", sha256.Sum256(s.index))
	return m
}

func (s spoiltSession) CopyIndex(_ context.Context, w io.Writer) error {
	_, err := w.Write(s.index)
	return err
}

// A store whose index is damaged gets no new generation, and the operator is told: the backup finds it first.
func TestDamagedIndexOfStore(t *testing.T) {
	w := newWorld(t)
	w.deliver(2)
	w.backup(backup.Options{})
	d, err := backup.Open(w.path("backup"), backup.Write)
	must(t, err)
	_, err = backup.Run(context.Background(), spoilt{backup.Local{Store: w.s}}, d, backup.Options{})
	must(t, d.Close())
	if err == nil || !strings.Contains(err.Error(), "index of the store is damaged") {
		t.Errorf("a run over a damaged index: %v", err)
	}
	if v := w.verify(w.key); len(v.Faults) > 0 || v.Generations != 1 {
		t.Errorf("%+v", v)
	}
}

// Two stores never share a folder: their bodies may have the same ids.
func TestAnotherStore(t *testing.T) {
	one, two := newWorld(t), newWorld(t)
	one.deliver(1)
	two.deliver(1)
	one.backup(backup.Options{})
	d, err := backup.Open(one.path("backup"), backup.Write)
	must(t, err)
	_, err = backup.Run(context.Background(), backup.Local{Store: two.s}, d, backup.Options{})
	must(t, d.Close())
	if !errors.Is(err, backup.ErrOther) {
		t.Errorf("a backup of another store: %v, want ErrOther", err)
	}
	if v := one.verify(one.key); len(v.Faults) > 0 || v.Generations != 1 || v.Bodies != 1 {
		t.Errorf("%+v", v)
	}
	// A restored store is the same one.
	to := filepath.Join(t.TempDir(), "restored")
	_, err = one.restore(backup.RestoreOptions{To: to})
	must(t, err)
	if d, err = backup.Open(one.path("backup"), backup.Write); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err = backup.Run(context.Background(), backup.Local{Store: storetest.Open(t, store.Options{Dir: to, MasterKey: one.key})}, d, backup.Options{}); err != nil {
		t.Errorf("a backup of the restored store: %v", err)
	}
}
