package crashtest

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hexed writes the strings of a line as strace -xx does.
func hexed(format string, args ...any) string {
	parts := strings.Split(fmt.Sprintf(format, args...), `"`)
	for i := 1; i < len(parts); i += 2 {
		h := hex.EncodeToString([]byte(parts[i]))
		var b strings.Builder
		for j := 0; j < len(h); j += 2 {
			b.WriteString(`\x` + h[j:j+2])
		}
		parts[i] = b.String()
	}
	return strings.Join(parts, `"`)
}

func parse(t *testing.T, lines ...string) []*Call {
	t.Helper()
	lines = slices.Clone(lines)
	for i, l := range lines {
		if !strings.HasPrefix(l, "8 ") {
			l = "7 " + l
		}
		lines[i] = hexed("%s", l)
	}
	calls, err := Parse(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

func TestParse(t *testing.T) {
	calls := parse(t,
		`openat(AT_FDCWD, "/r/a, b", O_RDWR|O_CREAT, 0600) = 3`,
		`fsync(3 <unfinished ...>`,
		`8 writev(4, [{iov_base="ab", iov_len=2}, {iov_base="c", iov_len=1}], 2) = 3`,
		`<... fsync resumed>)              = 0`,
		`write(3, "x", 1) = -1 ENOSPC (No space left on device)`,
		`--- SIGURG {si_signo=SIGURG} ---`,
		`write(3, "y", 1 <unfinished ...>`,
		`+++ killed by SIGKILL +++`)
	var got []string
	for _, c := range calls {
		got = append(got, fmt.Sprintf("%s %d-%d %v %d %q", c.Name, c.Start, min(c.End, 99), c.OK, c.Ret, c.text(1)))
	}
	want := []string{`openat 0-0 true 3 "/r/a, b"`, `fsync 1-3 true 0 ""`, `writev 2-2 true 3 "abc"`, `write 4-4 false -1 "x"`, `write 6-99 false 0 "y"`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, bad := range []string{"no number", `7 fsync(3`, `7 <... fsync resumed>) = 0`} {
		if _, err := Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := octets(`"\x61"...`); err == nil {
		t.Error("a string that was cut short was taken")
	}
}

// after replays lines and says what is on the disk in a class, by name.
func after(t *testing.T, choose choice, lines ...string) string {
	t.Helper()
	d := NewDisk("/r")
	if err := d.Replay(parse(t, lines...), nil, nil); err != nil {
		t.Fatal(err)
	}
	s := d.build("", choose)
	var out []string
	for _, n := range s.dirs {
		out = append(out, n+"/")
	}
	for _, n := range s.Files() {
		out = append(out, fmt.Sprintf("%s=%q", n, s.files[n].read(0, 1<<20)))
	}
	return strings.Join(out, " ")
}

// TestDurable says which call makes what durable.
func TestDurable(t *testing.T) {
	file := []string{`openat(AT_FDCWD, "/r/f", O_RDWR|O_CREAT, 0600) = 3`, `write(3, "old", 3) = 3`}
	root := []string{`openat(AT_FDCWD, "/r", O_RDONLY) = 4`, `fsync(4) = 0`}
	for _, c := range []struct {
		name         string
		lines        []string
		synced, kept string
	}{
		{"nothing synced", file, ``, `f="old"`},
		{"file synced, not its name", append(file[:2:2], `fsync(3) = 0`), ``, `f="old"`},
		{"name synced, not the file", append(file[:2:2], root...), `f=""`, `f="old"`},
		{"both", append(append(file[:2:2], `fdatasync(3) = 0`), root...), `f="old"`, `f="old"`},
		{"sync that failed", append(append(file[:2:2], `fdatasync(3) = -1 EIO (Input/output error)`), root...), `f=""`, `f="old"`},
		{"syncfs", append(file[:2:2], `openat(AT_FDCWD, "/r", O_RDONLY) = 4`, `syncfs(4) = 0`), `f="old"`, `f="old"`},
		{"syncfs of another file system", append(file[:2:2], `openat(AT_FDCWD, "/tmp", O_RDONLY) = 4`, `syncfs(4) = 0`), ``, `f="old"`},
		{"written during the sync", append(append(root[:2:2], file...), `fsync(4) = 0`, `fsync(3 <unfinished ...>`, `8 pwrite64(3, "N", 1, 0) = 1`, `<... fsync resumed>) = 0`), `f="old"`, `f="Nld"`},
		{"sync not ended", append(append(root[:2:2], file...), `fsync(4) = 0`, `fsync(3 <unfinished ...>`), `f=""`, `f="old"`},
		{"renamed", append(append(file[:2:2], `fsync(3) = 0`), append(root, `rename("/r/f", "/r/g") = 0`)...), `f="old"`, `g="old"`},
		{"renamed into another directory, that one synced", append(append(file[:2:2], `fsync(3) = 0`, `mkdirat(AT_FDCWD, "/r/d", 0700) = 0`), append(root,
			`renameat(AT_FDCWD, "/r/f", AT_FDCWD, "/r/d/f") = 0`, `openat(AT_FDCWD, "/r/d", O_RDONLY) = 5`, `fsync(5) = 0`)...), `d/ d/f="old" f="old"`, `d/ d/f="old"`},
		{"removed", append(append(file[:2:2], `fsync(3) = 0`), append(root, `unlinkat(AT_FDCWD, "/r/f", 0) = 0`)...), `f="old"`, ``},
		{"cut", append(append(file[:2:2], `fsync(3) = 0`), append(root, `ftruncate(3, 1) = 0`)...), `f="old"`, `f="o"`},
		{"grown, then synced", append(append(file[:2:2], `ftruncate(3, 4) = 0`, `fdatasync(3) = 0`), root...), `f="old\x00"`, `f="old\x00"`},
		{"appended", append(append(file[:2:2], `close(3) = 0`, `openat(AT_FDCWD, "/r/f", O_WRONLY|O_APPEND) = 3`, `write(3, "er", 2) = 2`, `fsync(3) = 0`), root...), `f="older"`, `f="older"`},
		{"short write", append(append(file[:2:2], `write(3, "er", 2) = 1`, `fsync(3) = 0`), root...), `f="olde"`, `f="olde"`},
		{"linked", append(append(file[:2:2], `fsync(3) = 0`, `linkat(AT_FDCWD, "/r/f", AT_FDCWD, "/r/g", 0) = 0`), root...), `f="old" g="old"`, `f="old" g="old"`},
		{"number used again", append(append(file[:2:2], `close(3) = 0`, `openat(AT_FDCWD, "/tmp/x", O_RDWR) = 3`, `write(3, "no", 2) = 2`, `fsync(3) = 0`), root...), `f=""`, `f="old"`},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if got := after(t, dropAll, c.lines...); got != c.synced {
				t.Errorf("durable: %s, want %s", got, c.synced)
			}
			if got := after(t, keepAll, c.lines...); got != c.kept {
				t.Errorf("seen: %s, want %s", got, c.kept)
			}
		})
	}
}

// What the model cannot follow it refuses.
func TestUnknownCalls(t *testing.T) {
	open := `openat(AT_FDCWD, "/r/f", O_RDWR|O_CREAT, 0600) = 3`
	for _, line := range []string{`symlinkat("/x", AT_FDCWD, "/r/y") = 0`, `sendfile(3, 4, NULL, 5) = 5`, `io_uring_setup(8, 0) = 5`,
		`rename("/r/f", "/tmp/f") = 0`, `rename("/r/none", "/r/f") = 0`, `fallocate(3, FALLOC_FL_PUNCH_HOLE, 0, 1) = 0`, `truncate("/r/none", 0) = 0`} {
		if err := NewDisk("/r").Replay(parse(t, open, line), nil, nil); err == nil {
			t.Errorf("%s was taken", line)
		}
	}
}

// TestStates counts what two writes that were not synced can leave, and looks at a torn one.
func TestStates(t *testing.T) {
	d := NewDisk("/r")
	big := strings.Repeat("x", 3*sectorSize)
	if err := d.Replay(parse(t, `openat(AT_FDCWD, "/r/f", O_RDWR|O_CREAT, 0600) = 3`, `openat(AT_FDCWD, "/r", O_RDONLY) = 4`, `fsync(4) = 0`,
		`pwrite64(3, "`+strings.Repeat("y", 3*sectorSize)+`", 1536, 0) = 1536`, `pwrite64(3, "`+big+`", 1536, 0) = 1536`), nil, nil); err != nil {
		t.Fatal(err)
	}
	seen := map[Class]map[string]bool{}
	d.States(rand.New(rand.NewPCG(1, 1)), 200, func(s State) {
		if seen[s.Class] == nil {
			seen[s.Class] = map[string]bool{}
		}
		f := s.files["f"]
		var b strings.Builder
		for at := int64(0); at < f.size; at += sectorSize {
			b.WriteByte(f.read(at, 1)[0])
		}
		seen[s.Class][b.String()] = true
	})
	for class, want := range map[Class]string{Synced: " ", Kept: "xxx", Single: "xxx yyy", Random: " xxx yyy", Empty: " \x00\x00\x00",
		Torn: "xyy yxy yyx xxy xyx yxx yyy xxx x xx \x00x \x00xx \x00\x00x x\x00x"} {
		for _, w := range strings.Split(want, " ") {
			if class != Empty && w == "" && class != Synced && class != Random {
				continue
			}
			if !seen[class][w] {
				t.Errorf("%s: no %q in %v", class, w, seen[class])
			}
		}
	}
}

// TestWriteAndSame writes a state to a real directory and compares it with the model; then it changes it.
func TestWriteAndSame(t *testing.T) {
	dir := t.TempDir()
	d := NewDisk("/r")
	if err := d.Replay(parse(t, `mkdirat(AT_FDCWD, "/r/d", 0700) = 0`, `openat(AT_FDCWD, "/r/d/f", O_RDWR|O_CREAT, 0600) = 3`,
		`pwrite64(3, "abc", 3, 9000) = 3`, `ftruncate(3, 100000) = 0`), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.build(Kept, keepAll).Write(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.Same(dir); err != nil {
		t.Error(err)
	}
	loaded := NewDisk("/other")
	if err := loaded.Load(dir); err != nil {
		t.Fatal(err)
	}
	if loaded.build(Synced, dropAll).Hash() != d.build(Kept, keepAll).Hash() {
		t.Error("what was loaded is another disk")
	}
	f := filepath.Join(dir, "d", "f")
	for name, spoil := range map[string]func() error{
		"longer":    func() error { return os.Truncate(f, 100001) },
		"changed":   func() error { return os.WriteFile(f, make([]byte, 100000), 0o600) },
		"gone":      func() error { return os.Remove(f) },
		"one more":  func() error { return os.WriteFile(filepath.Join(dir, "g"), nil, 0o600) },
		"dirs gone": func() error { return os.RemoveAll(filepath.Join(dir, "d")) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if d.Same(dir) == nil {
			t.Errorf("%s: not noticed", name)
		}
		os.RemoveAll(filepath.Join(dir, "d"))
		os.Remove(filepath.Join(dir, "g"))
		if err := d.build(Kept, keepAll).Write(dir); err != nil {
			t.Fatal(err)
		}
	}
}
