package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"mssd/store"
	"mssd/store/backup"
)

// held keeps a file open that is to be removed.
func held(t *testing.T, path string) (zeros func() bool) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return func() bool {
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
		must(t, err)
		return len(b) > 0 && !slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
	}
}

// TestKeysAreOverwritten: a copy of the keys that goes is overwritten before it is removed: that of a generation which is
// pruned, of a run that breaks off or is killed, of a rehearsal, of a restore that fails.
func TestKeysAreOverwritten(t *testing.T) {
	w := newWorld(t)
	w.deliver(3)
	first := w.backup(backup.Options{})
	gen := func(name string) string { return filepath.Join(w.path("backup"), "generations", name) }
	var looks []func() bool
	var what []string
	look := func(name, path string) {
		looks, what = append(looks, held(t, path)), append(what, name)
	}

	// A run that breaks off, and one that is killed: the next one removes what it left.
	_, err := w.try(context.Background(), backup.Options{Progress: func(stage string, _, _ int64) {
		if stage == "bodies" {
			parts, _ := filepath.Glob(gen("*.partial/keys"))
			look("broken off", parts[0])
			must(t, os.WriteFile(filepath.Join(filepath.Dir(parts[0]), "manifest"), nil, 0o600))
			must(t, os.Mkdir(filepath.Join(filepath.Dir(parts[0]), "manifest.new"), 0o700))
		}
	}})
	if err == nil {
		t.Fatal("the run was to fail")
	}
	must(t, os.CopyFS(gen("20261123T000000Z-06AKNCDKY0000.partial"), os.DirFS(gen(first.Generation))))
	look("killed", gen("20261123T000000Z-06AKNCDKY0000.partial/keys"))
	second := w.backup(backup.Options{})
	if second.Removed != 1 {
		t.Errorf("%+v, want one removed", second)
	}

	look("pruned", gen(first.Generation)+"/keys")
	d, err := backup.Open(w.path("backup"), backup.Write)
	must(t, err)
	_, err = backup.Prune(context.Background(), d, 1, nil)
	must(t, errors.Join(err, d.Close()))

	to := filepath.Join(t.TempDir(), "rehearsed")
	_, err = w.restore(backup.RestoreOptions{To: to, Rehearse: true, Progress: func(stage string, _, _ int64) {
		if stage == "check" {
			look("rehearsed", filepath.Join(to, "keys"))
		}
	}})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	d, err = backup.Open(w.path("backup"), backup.Read)
	must(t, err)
	defer d.Close()
	_, err = backup.Restore(ctx, d, backup.RestoreOptions{To: to, MasterKey: w.key, Progress: func(stage string, _, _ int64) {
		if stage == "syncing" {
			look("not restored", filepath.Join(to, "keys"))
			must(t, os.WriteFile(filepath.Join(to, "spool"), nil, 0o600)) // in the way of a folder
			cancel()
		}
	}})
	if err == nil {
		t.Error("the restore was to fail")
	}
	for i, zeros := range looks {
		if !zeros() {
			t.Errorf("%s: the keys are still on the disk", what[i])
		}
	}
	if len(looks) != 5 {
		t.Errorf("%v", what)
	}
}

// TestLinkedKeysStay: who keeps a generation under a second name (cp -l) keeps what it was.
func TestLinkedKeysStay(t *testing.T) {
	w := newWorld(t)
	w.deliver(2)
	first := w.backup(backup.Options{})
	w.backup(backup.Options{})
	keys := filepath.Join(w.path("backup"), "generations", first.Generation, "keys")
	want, err := os.ReadFile(keys)
	must(t, err)
	kept := filepath.Join(t.TempDir(), "keys")
	must(t, os.Link(keys, kept))
	d, err := backup.Open(w.path("backup"), backup.Write)
	must(t, err)
	_, err = backup.Prune(context.Background(), d, 1, nil)
	must(t, errors.Join(err, d.Close()))
	if got, err := os.ReadFile(kept); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the second name was overwritten too (%v)", err)
	}
}

// TestRestoreFails: what fails in the target, or for a reason that is not the body's, ends the restore, and nothing is left
// that opens as a store; only a body that is not in the backup is absent.
func TestRestoreFails(t *testing.T) {
	w := newWorld(t)
	ids := w.deliver(4)
	w.backup(backup.Options{})
	body := func(i int) string { return filepath.Join(w.path("backup"), store.BodyFile(ids[i])) }
	must(t, os.Remove(body(0)))
	to := filepath.Join(t.TempDir(), "restored")
	for _, c := range []struct {
		name  string
		stage string // what is done then
		do    func(cancel func())
		undo  func()
	}{
		{"a body that cannot be written", "copying bodies", func(func()) { // a folder of its name is in the way
			must(t, os.Mkdir(filepath.Join(to, store.BodyFile(ids[1])), 0o700))
		}, func() {}},
		{"a body of the backup out of reach", "copying bodies", func(func()) {
			must(t, os.Rename(body(2), body(2)+".away"))
			must(t, os.Symlink(filepath.Base(body(2)), body(2)))
		}, func() { must(t, os.Rename(body(2)+".away", body(2))) }},
		{"interrupted while it is checked", "check", func(cancel func()) { cancel() }, func() {}},
		{"interrupted while bodies are copied", "copying bodies", func(cancel func()) { cancel() }, func() {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			d, err := backup.Open(w.path("backup"), backup.Read)
			must(t, err)
			defer d.Close()
			done := false
			r, err := backup.Restore(ctx, d, backup.RestoreOptions{To: to, MasterKey: w.key, Progress: func(stage string, _, _ int64) {
				if stage == c.stage && !done {
					done = true
					c.do(cancel)
				}
			}})
			c.undo()
			if err == nil || !done {
				t.Errorf("%+v, want an error", r)
			}
			if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is left: %v", err)
				os.RemoveAll(to)
			}
		})
	}
	r, err := w.restore(backup.RestoreOptions{To: to})
	if err != nil || !slices.Equal(r.Absent, ids[:1]) {
		t.Errorf("afterwards: %+v %v, want one body absent", r, err)
	}
}
