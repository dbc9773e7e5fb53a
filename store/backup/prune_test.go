package backup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
)

// What a killed run leaves (no chance to clean) is used or removed by the next one.
func TestLeavings(t *testing.T) {
	w := newWorld(t)
	w.deliver(4)
	r := w.backup(backup.Options{})
	dir := w.path("backup")
	// As after a kill: the generation has no name yet, one body was cut in its place by hand, one waits.
	part := filepath.Join(dir, "generations", r.Generation)
	must(t, os.Rename(part, part+".partial"))
	must(t, os.WriteFile(filepath.Join(dir, "incoming", "06AKNCDKY0000"), []byte("half"), 0o600))
	flip(t, blobs(t, dir)[1], 20)
	must(t, os.Truncate(blobs(t, dir)[2], 3))
	again := w.backup(backup.Options{})
	if again.Removed != 1 || again.New != 2 || again.Bodies != 4 {
		t.Errorf("%+v, want one generation removed and 2 bodies copied again", again)
	}
	if v := w.verify(w.key); len(v.Faults) > 0 || v.Generations != 1 || v.Bodies != 4 {
		t.Errorf("verify: %+v", v)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "incoming")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	known, err := w.s.Backups()
	if err != nil || len(known) != 2 || known[0].Forgotten.IsZero() || !known[1].Forgotten.IsZero() {
		t.Errorf("registered: %+v %v", known, err)
	}
}

// Old generations go with the bodies that only they need, and nothing else does.
func TestPrune(t *testing.T) {
	w := newWorld(t)
	ids := w.deliver(4)
	w.backup(backup.Options{})
	inbox, err := w.s.Mailbox(w.bals[0].ID, "INBOX")
	must(t, err)
	all := []store.Run{{First: 1, Count: 100}}
	_, err = w.s.Commit(context.Background(), &store.Batch{Ops: []store.Op{
		store.StoreFlags{Ref: inbox.Ref, Runs: all, Mode: store.Add, Flags: store.Deleted}, store.Expunge{Ref: inbox.Ref, Runs: all}}})
	must(t, err)
	delete(w.want, ids[0])
	delete(w.want, ids[2])
	w.deliver(1)
	w.backup(backup.Options{})
	w.deliver(1)
	w.backup(backup.Options{})
	d, err := backup.Open(w.path("backup"), backup.Write)
	must(t, err)
	defer d.Close()
	if _, err := backup.Prune(context.Background(), d, 0, nil); err == nil {
		t.Error("pruned to nothing")
	}
	if p, err := backup.Prune(context.Background(), d, 5, nil); err != nil || len(p.Generations) != 0 || p.Bodies != 0 || p.Kept != 3 {
		t.Errorf("nothing to prune: %+v %v", p, err)
	}
	p, err := backup.Prune(context.Background(), d, 2, nil)
	if err != nil || len(p.Generations) != 1 || len(p.IDs) != 1 || p.Kept != 2 {
		t.Errorf("%+v %v", p, err)
	}
	p, err = backup.Prune(context.Background(), d, 1, nil)
	if err != nil || len(p.Generations) != 1 || p.Kept != 1 {
		t.Errorf("%+v %v", p, err)
	}
	must(t, d.Close())
	if v := w.verify(w.key); len(v.Faults) > 0 || v.Generations != 1 || int(v.Bodies) != len(blobs(t, w.path("backup"))) {
		t.Errorf("verify after prune: %+v, %d files", v, len(blobs(t, w.path("backup"))))
	}
	to := filepath.Join(t.TempDir(), "restored")
	if r, err := w.restore(backup.RestoreOptions{To: to}); err != nil || !r.Sound() {
		t.Fatalf("%+v %v", r, err)
	}
	sameContents(t, contents(t, storetest.Open(t, store.Options{Dir: to, MasterKey: w.key, RetainExpunged: -1})), w.want)
	// One generation that cannot be read: nothing is removed.
	w.deliver(1)
	r := w.backup(backup.Options{})
	must(t, os.Truncate(filepath.Join(w.path("backup"), "generations", r.Generation, "bodies"), 48))
	n := len(blobs(t, w.path("backup")))
	if d, err = backup.Open(w.path("backup"), backup.Write); err != nil {
		t.Fatal(err)
	}
	if p, err := backup.Prune(context.Background(), d, 1, nil); err == nil || len(p.Generations)+int(p.Bodies) != 0 || len(blobs(t, w.path("backup"))) != n {
		t.Errorf("pruned although a generation cannot be read: %+v %v", p, err)
	}
}

// A directory that is none of ours is refused, and one that somebody writes to.
func TestOpenDirectory(t *testing.T) {
	root := t.TempDir()
	for name, make := range map[string]func(dir string){
		"missing":   func(string) {},
		"unmounted": func(dir string) { must(t, os.Mkdir(dir, 0o700)) },
	} {
		dir := filepath.Join(root, name)
		make(dir)
		if _, err := backup.Open(dir, backup.Write); !errors.Is(err, backup.ErrNotBackup) || !strings.Contains(err.Error(), "--create") {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := filepath.Join(root, "full")
	must(t, os.Mkdir(full, 0o700))
	must(t, os.WriteFile(filepath.Join(full, "photo.jpg"), nil, 0o600))
	if _, err := backup.Open(full, backup.Create); !errors.Is(err, backup.ErrNotBackup) || !strings.Contains(err.Error(), "photo.jpg") {
		t.Errorf("a folder with other things: %v", err)
	}
	dir := filepath.Join(root, "good")
	d, err := backup.Open(dir, backup.Create)
	must(t, err)
	for _, use := range []backup.Use{backup.Write, backup.Read, backup.Create} {
		if _, err := backup.Open(dir, use); !errors.Is(err, backup.ErrBusy) {
			t.Errorf("use %d beside a writer: %v, want ErrBusy", use, err)
		}
	}
	look, err := backup.Open(dir, backup.Look)
	must(t, err)
	if g, err := look.Generations(); err != nil || len(g) != 0 {
		t.Errorf("%v %v", g, err)
	}
	if _, err := backup.Restore(context.Background(), look, backup.RestoreOptions{To: filepath.Join(root, "to")}); err == nil || !strings.Contains(err.Error(), "no generation") {
		t.Errorf("restore of nothing: %v", err)
	}
	must(t, look.Close())
	must(t, d.Close())
	must(t, os.WriteFile(filepath.Join(dir, "BACKUP"), []byte("mssd backup 7\n"), 0o600))
	if _, err := backup.Open(dir, backup.Write); !errors.Is(err, backup.ErrVersion) || !strings.Contains(err.Error(), "mssd backup 7") {
		t.Errorf("another version: %v", err)
	}
}
