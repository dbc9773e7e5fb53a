package directory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// keyedFeed is a directory with one feed whose rows have keys, read from rows.
func keyedFeed(t testing.TB, dir string, now *time.Time) (*Directory, *feed) {
	t.Helper()
	d := open(t, Config{LDAP: &LDAPConfig{URL: "ldap://127.0.0.1:1"}, StateDir: dir, Now: func() time.Time { return *now }})
	return d, d.feeds[0]
}

func rec(address, kind, finess, name string) *record {
	return &record{[]byte(address), []byte(kind), []byte("FINESS"), []byte(finess), nil, nil, nil, []byte(name)}
}

func key(i int) string { return fmt.Sprintf("key-%012d", i) }

func addr(i int) string { return fmt.Sprintf("p%d@d%d.test", i, i%7) }

// whole gives a reading of n keyed rows, from the i-th on.
func whole(t testing.TB, d *Directory, f *feed, from, n int, cookie string, at time.Time) *image {
	t.Helper()
	b := d.newBuilder(f, n)
	for i := from; i < from+n; i++ {
		if err := b.add([]byte(key(i)), rec(addr(i), "ORG", fmt.Sprint(i), "NOM")); err != nil {
			t.Fatal(err)
		}
	}
	img, err := b.image()
	if err != nil {
		t.Fatal(err)
	}
	img.generated, img.cookie = at, []byte(cookie)
	return img
}

func mustAdopt(t testing.TB, d *Directory, f *feed, img *image) {
	t.Helper()
	if err := d.adopt(f, img); err != nil {
		t.Fatal(err)
	}
}

func knows(d *Directory, a string) bool { return len(d.Lookup(a)) > 0 }

// files lists what lies in a state directory.
func files(t testing.TB, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestChanges(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 100, "c0", now))
	two := []*record{rec("New@d1.test", "ORG", "1", "A"), rec("other@d1.test", "PER", "2", "B")}
	if err := d.change(f, []change{{key(3), nil}, {key(4), []*record{rec("moved@d4.test", "APP", "4", "C")}}, {key(1000), two}}, []byte("c1"), now); err != nil {
		t.Fatal(err)
	}
	look := func(d *Directory) {
		t.Helper()
		for a, want := range map[string]bool{addr(3): false, addr(4): false, "MOVED@d4.test": true, "new@d1.test": true, "other@d1.test": true, addr(5): true} {
			if knows(d, a) != want {
				t.Errorf("%s: known %v, want %v", a, !want, want)
			}
		}
		st := d.Status().Feeds[0]
		if st.Rows != 101 || st.RowsByKind["ORG"] != 99 || st.RowsByKind["APP"] != 1 || st.RowsByKind["PER"] != 1 || st.Changed.IsZero() {
			t.Errorf("status: %+v", st)
		}
		if got := string(d.feeds[0].image.Load().cookie); got != "c1" {
			t.Errorf("cookie %q", got)
		}
	}
	look(d)
	n := 0
	f.image.Load().eachKey(func(k []byte) {
		if n++; string(k) == key(3) {
			t.Error("a key that is gone is listed")
		}
	})
	if n != 101 {
		t.Errorf("%d keys", n)
	}
	d.Close()
	d, f = keyedFeed(t, dir, &now)
	look(d)
	// The changes of the changes: an added one goes, a moved one comes back, the deleted one too.
	if err := d.change(f, []change{{key(1000), nil}, {key(4), []*record{rec(addr(4), "ORG", "4", "C")}}, {key(3), []*record{rec(addr(3), "ORG", "3", "C")}}}, []byte("c2"), now); err != nil {
		t.Fatal(err)
	}
	if st := d.Status().Feeds[0]; st.Rows != 100 || len(st.RowsByKind) != 1 || knows(d, "new@d1.test") || knows(d, "moved@d4.test") || !knows(d, addr(3)) {
		t.Errorf("back again: %+v", st)
	}
	before := f.image.Load()
	folded, err := d.fold(f, before)
	if err != nil {
		t.Fatal(err)
	}
	d.install(f, folded)
	if folded.delta != nil || folded.rows() != 100 || string(folded.cookie) != "c2" || !folded.has(addr(3)) || folded.has("new@d1.test") {
		t.Errorf("folded: %d rows", folded.rows())
	}
	if got := files(t, dir); got != "ldap.image ldap.previous" {
		t.Errorf("after folding: %s", got)
	}
	d.Close()
	if _, f = keyedFeed(t, dir, &now); f.image.Load().rows() != 100 || string(f.image.Load().cookie) != "c2" {
		t.Error("folded, opened again")
	}
}

func TestManyChangesAreFolded(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	const n = 12_000
	mustAdopt(t, d, f, whole(t, d, f, 0, n, "c0", now))
	for i := 0; i < 10_000; i += 500 {
		var cs []change
		for j := i; j < i+500; j++ {
			cs = append(cs, change{key(j), []*record{rec(fmt.Sprintf("q%d@d.test", j), "PER", fmt.Sprint(j), "NOM")}})
		}
		if err := d.change(f, cs, fmt.Appendf(nil, "c%d", i), now); err != nil {
			t.Fatal(err)
		}
	}
	check := func(d *Directory) {
		t.Helper()
		img := d.feeds[0].image.Load()
		if img.rows() != n || img.rowKinds()["PER"] != 10_000 || string(img.cookie) != "c9500" {
			t.Errorf("%d rows, %v, cookie %s", img.rows(), img.rowKinds(), img.cookie)
		}
		for i := range n {
			if img.has(addr(i)) != (i >= 10_000) || img.has(fmt.Sprintf("q%d@d.test", i)) != (i < 10_000) {
				t.Fatalf("row %d", i)
			}
		}
	}
	check(d)
	if f.image.Load().generation == 1 {
		t.Error("never folded")
	}
	d.Close()
	d, _ = keyedFeed(t, dir, &now)
	check(d)
}

// TestChangesCut cuts the file of changes anywhere, and damages it anywhere: what is read is what some prefix says.
func TestChangesCut(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 50, "c0", now))
	ends := []int64{int64(changesHeader)}
	for i := range 3 {
		if err := d.change(f, []change{{key(100 + i), []*record{rec(addr(100+i), "ORG", "1", "N")}}}, fmt.Appendf(nil, "c%d", i+1), now); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, f.journal.size)
	}
	d.Close()
	path := changesPath(dir, "ldap")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, _, err := loadImage(imagePath(dir, "ldap"))
	if err != nil {
		t.Fatal(err)
	}
	look := func(name string, data []byte, whole int) {
		t.Helper()
		next, size, err := replay(bytes.NewReader(data), img)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := fmt.Sprintf("c%d", max(whole, 0))
		if string(next.cookie) != want || next.rows() != 50+max(whole, 0) || whole >= 0 && size != ends[whole] || whole < 0 && size != 0 {
			t.Fatalf("%s: cookie %s, %d rows, %d octets; want %s", name, next.cookie, next.rows(), size, want)
		}
	}
	for cut := range good {
		n := -1
		for i, e := range ends {
			if int64(cut) >= e {
				n = i
			}
		}
		look(fmt.Sprintf("cut at %d", cut), good[:cut], n)
		bad := bytes.Clone(good)
		bad[cut] ^= 0x40
		if n == 3 {
			n = 2
		}
		look(fmt.Sprintf("octet %d changed", cut), bad, n)
	}
	// After a cut the next change stands right behind what was whole.
	if err := os.WriteFile(path, good[:ends[1]+5], 0o600); err != nil {
		t.Fatal(err)
	}
	d, f = keyedFeed(t, dir, &now)
	if err := d.change(f, []change{{key(200), []*record{rec(addr(200), "ORG", "1", "N")}}}, []byte("c9"), now); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d, f = keyedFeed(t, dir, &now)
	if got := string(f.image.Load().cookie); got != "c9" || !knows(d, addr(100)) || knows(d, addr(101)) || !knows(d, addr(200)) {
		t.Errorf("after a cut and a change: cookie %s", got)
	}
}

// TestKilledBetweenSteps has the state directory as a kill leaves it after each step of putting a new image in place.
func TestKilledBetweenSteps(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 50, "old", now))
	if err := d.change(f, []change{{key(100), []*record{rec(addr(100), "ORG", "1", "N")}}}, []byte("old+1"), now); err != nil {
		t.Fatal(err)
	}
	d.Close()
	read := func(path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	oldImage, oldChanges := read(imagePath(dir, "ldap")), read(changesPath(dir, "ldap"))
	d, f = keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 60, "new", now))
	d.Close()
	newImage := read(imagePath(dir, "ldap"))
	for _, c := range []struct {
		name   string
		files  map[string][]byte
		cookie string
		left   string
	}{
		{"half written", map[string][]byte{"ldap.image": oldImage, "ldap.changes": oldChanges, "ldap.new1": newImage[:len(newImage)/2]}, "old+1", "ldap.changes ldap.image"},
		{"written", map[string][]byte{"ldap.image": oldImage, "ldap.changes": oldChanges, "ldap.new1": newImage}, "old+1", "ldap.changes ldap.image"},
		{"the former one moved", map[string][]byte{"ldap.previous": oldImage, "ldap.changes": oldChanges, "ldap.new1": newImage}, "old+1", "ldap.changes ldap.previous"},
		{"renamed", map[string][]byte{"ldap.previous": oldImage, "ldap.changes": oldChanges, "ldap.image": newImage}, "new", "ldap.changes ldap.image ldap.previous"},
		{"a power cut that lost the first rename only", map[string][]byte{"ldap.changes": oldChanges, "ldap.image": newImage}, "new", "ldap.changes ldap.image"},
		{"a power cut that left room for a change, and not the change", map[string][]byte{"ldap.image": oldImage, "ldap.changes": append(bytes.Clone(oldChanges), make([]byte, 4096)...)}, "old+1", "ldap.changes ldap.image"},
		{"changes removed", map[string][]byte{"ldap.previous": oldImage, "ldap.image": newImage}, "new", "ldap.image ldap.previous"},
	} {
		dir := t.TempDir()
		for name, b := range c.files {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d, f := keyedFeed(t, dir, &now)
		img := f.image.Load()
		if img == nil || string(img.cookie) != c.cookie {
			t.Errorf("%s: %+v", c.name, d.Status().Feeds[0])
			continue
		}
		if st := d.Status().Feeds[0]; st.LastError != "" {
			t.Errorf("%s: told as a fault: %s", c.name, st.LastError)
		}
		if got := files(t, dir); got != c.left {
			t.Errorf("%s: %q is left, want %q", c.name, got, c.left)
		}
		// Life goes on: the next reading takes its place, and is found again.
		mustAdopt(t, d, f, whole(t, d, f, 0, 70, "next", now))
		d.Close()
		if _, f = keyedFeed(t, dir, &now); string(f.image.Load().cookie) != "next" {
			t.Errorf("%s: the next reading is not found again", c.name)
		}
	}
}

func TestDamagedImage(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 20, "first", now))
	mustAdopt(t, d, f, whole(t, d, f, 0, 21, "second", now))
	d.Close()
	path := imagePath(dir, "ldap")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, _, err := readImage(bytes.NewReader(bad), int64(len(bad))); !errors.Is(err, ErrImage) {
			t.Fatalf("octet %d changed: %v", i, err)
		}
		if _, _, err := readImage(bytes.NewReader(good[:i]), int64(i)); !errors.Is(err, ErrImage) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if err := os.WriteFile(path, good[:len(good)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	d, f = keyedFeed(t, dir, &now)
	if st := d.Status(); !st.Usable || st.Feeds[0].Rows != 20 || !strings.Contains(st.Feeds[0].LastError, "ldap.image") ||
		!strings.Contains(st.Feeds[0].LastError, "the previous image") {
		t.Errorf("the previous image is not in force, or it is not said: %+v", st)
	}
	// The damaged one must not take the place of the previous one.
	mustAdopt(t, d, f, whole(t, d, f, 0, 22, "third", now))
	d.Close()
	if prev, _, err := loadImage(previousPath(dir, "ldap")); err != nil || prev.rows() != 20 {
		t.Errorf("previous: %v", err)
	}
	for _, p := range []string{path, previousPath(dir, "ldap")} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, _ = keyedFeed(t, dir, &now)
	if st := d.Status(); st.Usable || !strings.Contains(st.Feeds[0].LastError, "nothing is in force") {
		t.Errorf("both damaged: %+v", st)
	}
}

func TestRefusedAndAccepted(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for _, kept := range []bool{true, false} {
		dir := ""
		if kept {
			dir = t.TempDir()
		}
		d, f := keyedFeed(t, dir, &now)
		if _, err := d.Accept("ldap"); !errors.Is(err, ErrNothingRefused) {
			t.Errorf("nothing to accept: %v", err)
		}
		if _, err := d.Accept("nonesuch"); !errors.Is(err, ErrNoFeed) {
			t.Errorf("no such feed: %v", err)
		}
		mustAdopt(t, d, f, whole(t, d, f, 0, 100, "c0", now))
		if err := d.adopt(f, whole(t, d, f, 20, 80, "c1", now)); !errors.Is(err, ErrLoss) || !strings.Contains(err.Error(), "20 of 100") || !strings.Contains(err.Error(), "d1.test (3 of 15)") {
			t.Fatalf("got %v", err)
		}
		if st := d.Status().Feeds[0]; st.Refused == nil || !strings.Contains(st.Refused.Why, "20 of 100") || st.Refused.Rows != 80 || st.Rows != 100 {
			t.Fatalf("status: %+v", st)
		}
		if kept { // across a restart
			d.Close()
			d, f = keyedFeed(t, dir, &now)
			if st := d.Status().Feeds[0]; st.Refused == nil || st.Refused.Rows != 80 || st.Rows != 100 {
				t.Fatalf("status after a restart: %+v", st)
			}
		}
		st, err := d.Accept("ldap")
		if err != nil || st.Rows != 80 || st.Refused != nil || string(f.image.Load().cookie) != "c1" || knows(d, addr(1)) || !knows(d, addr(20)) {
			t.Fatalf("accepted: %v, %+v", err, st)
		}
		if _, err := d.Accept("ldap"); !errors.Is(err, ErrNothingRefused) {
			t.Errorf("accepted twice: %v", err)
		}
		if kept {
			d.Close()
			d, f = keyedFeed(t, dir, &now)
			if got := files(t, dir); got != "ldap.image ldap.previous" || f.image.Load().rows() != 80 {
				t.Errorf("after a restart: %s, %d rows", got, f.image.Load().rows())
			}
		}
		// What was accepted is the measure of the next fall, also for single changes.
		if err := d.change(f, []change{{key(20), nil}}, []byte("c2"), now); err != nil {
			t.Errorf("a small change after: %v", err)
		}
	}
}

// TestSlowLoss loses rows by single changes and small readings.
func TestSlowLoss(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	d, f := keyedFeed(t, t.TempDir(), &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 1000, "c0", now))
	var err error
	i := 0
	for ; i < 200 && err == nil; i++ {
		now = now.Add(time.Minute)
		err = d.change(f, []change{{key(i), nil}}, fmt.Appendf(nil, "c%d", i), now)
	}
	var loss *LossError
	if !errors.As(err, &loss) || i != 101 || !loss.Rows || loss.Held != 1000 {
		t.Fatalf("after %d: %v", i, err)
	}
	if img := f.image.Load(); img.rows() != 900 || string(img.cookie) != "c99" {
		t.Errorf("%d rows, cookie %s", img.rows(), img.cookie)
	}
	if st := d.Status().Feeds[0]; st.Refused == nil || st.Refused.Rows != 899 {
		t.Errorf("status: %+v", st.Refused)
	}
	if _, err := d.Accept("ldap"); err != nil {
		t.Fatal(err)
	}
	if img := f.image.Load(); img.rows() != 899 || string(img.cookie) != "c100" || img.has(addr(100)) {
		t.Errorf("accepted: %d rows, cookie %s", img.rows(), img.cookie)
	}
	// The same share over days is normal life.
	for ; i < 300; i++ {
		now = now.Add(time.Hour)
		if err := d.change(f, []change{{key(i), nil}}, nil, now); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
	}
	// Each reading loses 9 %, each an hour after the other.
	d, f = keyedFeed(t, t.TempDir(), &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 1000, "", now))
	now = now.Add(time.Hour)
	mustAdopt(t, d, f, whole(t, d, f, 90, 910, "", now))
	now = now.Add(time.Hour)
	if err := d.adopt(f, whole(t, d, f, 170, 830, "", now)); !errors.As(err, &loss) || !loss.Rows {
		t.Errorf("two readings: %v", err)
	}
}

func TestGates(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	d, f := keyedFeed(t, t.TempDir(), &now)
	if err := d.adopt(f, whole(t, d, f, 0, 10, "", now.Add(48*time.Hour))); !errors.Is(err, ErrDate) {
		t.Errorf("from the future: %v", err)
	}
	mustAdopt(t, d, f, whole(t, d, f, 0, 10, "c", now))
	if err := d.adopt(f, whole(t, d, f, 0, 10, "", now.Add(-time.Hour))); !errors.Is(err, ErrOlder) {
		t.Errorf("older: %v", err)
	}
	doubtful := whole(t, d, f, 0, 10, "", now)
	doubtful.doubt = fmt.Errorf("%w: 30 faulty lines", ErrFormat)
	if err := d.adopt(f, doubtful); !errors.Is(err, ErrFormat) {
		t.Errorf("doubtful: %v", err)
	}
	if err := d.adopt(f, whole(t, d, f, 0, 0, "", now)); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty: %v", err)
	}
	if string(f.image.Load().cookie) != "c" {
		t.Error("something was put in force")
	}
	// The next good reading makes the refused one a thing of the past.
	mustAdopt(t, d, f, whole(t, d, f, 0, 11, "", now))
	if _, err := d.Accept("ldap"); !errors.Is(err, ErrNothingRefused) || d.Status().Feeds[0].Refused != nil {
		t.Errorf("after a good reading: %v", err)
	}
	if got := files(t, d.cfg.StateDir); got != "ldap.image ldap.previous" {
		t.Errorf("left: %s", got)
	}
}

// TestStateDirGone has a disk that takes nothing: the image is in force all the same.
func TestStateDirGone(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 10, "c0", now))
	if err := d.change(f, []change{{key(3), nil}}, []byte("c1"), now); err != nil {
		t.Fatal(err)
	}
	if knows(d, addr(3)) || !knows(d, addr(4)) {
		t.Error("the image is not in force")
	}
	if st := d.Status().Feeds[0]; st.NotSaved == "" {
		t.Errorf("it is not said that nothing was saved: %+v", st)
	}
}

// TestAcceptRefusedFile is an extraction that is refused: it is not parsed again and again, and what is accepted is it.
func TestAcceptRefusedFile(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	file := filepath.Join(dir, "x.txt")
	d := open(t, Config{Extraction: &ExtractionConfig{File: file}, StateDir: filepath.Join(dir, "state")})
	writeExtraction(t, file, orgLine("a@x.test", "1"), orgLine("b@x.test", "1"))
	if err := d.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	writeExtraction(t, file, orgLine("a@x.test", "1"))
	if err := d.Refresh(ctx); !errors.Is(err, ErrLoss) {
		t.Fatal(err)
	}
	if err := d.Refresh(ctx); !errors.Is(err, errStillRefused) || !strings.Contains(err.Error(), "1 of 2") {
		t.Errorf("again: %v", err)
	}
	if _, err := d.Accept("extraction"); err != nil || knows(d, "b@x.test") {
		t.Fatal(err)
	}
	if err := d.Refresh(ctx); err != nil || d.Status().Feeds[0].LastError != "" {
		t.Errorf("after it was accepted: %v", err)
	}
}

func FuzzImage(f *testing.F) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	d, feed := keyedFeed(f, f.TempDir(), &now)
	mustAdopt(f, d, feed, whole(f, d, feed, 0, 3, "c", now))
	good, err := os.ReadFile(imagePath(d.cfg.StateDir, "ldap"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, true)
	f.Add(good, false)
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if mend && len(data) > 32 { // so that what stands behind the checksum is reached
			data = bytes.Clone(data)
			sum := sha256.Sum256(data[:len(data)-32])
			copy(data[len(data)-32:], sum[:])
		}
		img, _, err := readImage(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		n := 0
		img.all(func(a []byte, _ string, r row) {
			n++
			if !img.has(string(a)) && len(a) <= maxField/2 && string(appendLower(nil, a)) == string(a) {
				t.Fatal("a row is not found by its address")
			}
			_ = r.entry()
		})
		if n != img.rows() {
			t.Fatalf("%d rows of %d", n, img.rows())
		}
	})
}

func FuzzChanges(f *testing.F) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	f.Add(appendRecord(nil, now, []byte("c"), []change{{key(1), []*record{rec("a@b.test", "ORG", "1", "N")}}, {key(2), nil}})[recordHeader:])
	f.Fuzz(func(t *testing.T, body []byte) {
		at, cookie, cs, err := parseRecord(body)
		if err != nil {
			return
		}
		if again := appendRecord(nil, at, cookie, cs)[recordHeader:]; len(again) > len(body) {
			t.Fatalf("%d octets became %d", len(body), len(again))
		}
		img := (&image{base: &base{slots: make([]uint64, 1)}}).with(cs)
		n := 0
		img.all(func([]byte, string, row) { n++ })
		if n != img.rows() {
			t.Fatalf("%d rows of %d", n, img.rows())
		}
	})
}
