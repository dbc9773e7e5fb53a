package backup_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mssd/store"
	"mssd/store/backup"
	"mssd/store/storetest"
)

// testdata/v1 is a directory of backups with two generations, as the first program that wrote this format made it, and
// its master key. Every later program that reads version 1 verifies and restores it. With MSSD_MAKE_FIXTURE set the test
// makes it anew.
func TestFixture(t *testing.T) {
	const dir = "testdata/v1"
	if os.Getenv("MSSD_MAKE_FIXTURE") != "" {
		w := newWorld(t)
		w.deliver(1)
		w.backup(backup.Options{})
		w.deliver(2)
		w.backup(backup.Options{})
		must(t, os.RemoveAll(dir))
		must(t, os.CopyFS(dir, os.DirFS(w.path("backup"))))
		b, err := os.ReadFile(w.key)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "master.key"), b, 0o600))
	}
	copied := t.TempDir()
	must(t, os.CopyFS(copied, os.DirFS(dir)))
	d, err := backup.Open(copied, backup.Read)
	must(t, err)
	defer d.Close()
	key := filepath.Join(copied, "master.key")
	v, err := backup.Verify(context.Background(), d, "", key, nil)
	if err != nil || len(v.Faults) > 0 || v.Generations != 2 || v.Bodies != 3 || !v.Signed {
		t.Fatalf("verify: %+v %v", v, err)
	}
	gens, err := d.Generations()
	must(t, err)
	for i, g := range gens {
		to := filepath.Join(t.TempDir(), "restored")
		r, err := backup.Restore(context.Background(), d, backup.RestoreOptions{Generation: g.Name, To: to, MasterKey: key})
		if err != nil || !r.Sound() {
			t.Fatalf("restore of %s: %+v %v", g.Name, r, err)
		}
		got := contents(t, storetest.Open(t, store.Options{Dir: to, MasterKey: key}))
		if want := []int{1, 3}[i]; len(got) != want {
			t.Errorf("%s: %d messages, want %d", g.Name, len(got), want)
		}
		for n := range len(got) {
			found := false
			for _, text := range got {
				found = found || text == letter(n)
			}
			if !found {
				t.Errorf("%s: letter %d is not there", g.Name, n)
			}
		}
	}
}

// Manifests of other programs are refused by name, nonsense is refused, and whatever is read is bounded.
func FuzzManifest(f *testing.F) {
	files, err := filepath.Glob("testdata/v1/generations/*/manifest")
	if err != nil || len(files) == 0 {
		f.Fatalf("no fixture: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add([]byte(strings.Replace(string(b), "manifest 1", "manifest 2", 1)))
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := backup.ParseManifest(b)
		if err != nil {
			return
		}
		if again := backup.ManifestText(m); string(again) != string(b) {
			t.Errorf("read and written again:\n%s\nwas:\n%s", again, b)
		}
	})
}
