package mailfile

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// all reads a source to its end: what each message holds by its mailbox and file, or its error.
func all(t testing.TB, s Source) map[string]string {
	t.Helper()
	got := map[string]string{}
	must(t, s.Each(func(m Message, open func() (io.ReadCloser, error)) error {
		r, err := open()
		if err == nil {
			defer r.Close()
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				got[m.Mailbox+" "+m.File] = string(b)
			}
		}
		if err != nil {
			got[m.Mailbox+" "+m.File] = "error"
		}
		return nil
	}))
	return got
}

// tree makes files of a map of paths.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func TestForeignFolders(t *testing.T) {
	dir := tree(t, map[string]string{
		"cur/1700000002.M1P1.host:2,S": "second", "new/1700000001.M1P1.host": "first", "tmp/x": "never delivered",
		"cur/.hidden": "x", "dovecot.index.log": "x", "dovecot-uidlist": "3 V1 N1\n",
		".Envoy&AOk-s.2025/cur/1.a:2,": "sent", ".Envoy&AOk-s.2025/maildirfolder": "",
		"mbsync/Under/cur/1.b,U=1:2,RT": "verbatim",
		"plain/a.eml":                   "eml", "plain/deep/B.EML": "eml too", "plain/photo.jpg": "no mail",
	})
	s, err := Open(dir)
	must(t, err)
	defer s.Close()
	want := map[string]string{"INBOX cur/1700000002.M1P1.host:2,S": "second", "INBOX new/1700000001.M1P1.host": "first",
		"Envoyés/2025 .Envoy&AOk-s.2025/cur/1.a:2,": "sent", "mbsync/Under mbsync/Under/cur/1.b,U=1:2,RT": "verbatim",
		"plain plain/a.eml": "eml", "plain/deep plain/deep/B.EML": "eml too"}
	if got := all(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if s.Total() != 6 {
		t.Errorf("%d messages counted", s.Total())
	}
}

// Links, pipes and devices are left alone: neither followed nor opened.
func TestFolderWithTraps(t *testing.T) {
	dir := tree(t, map[string]string{"cur/1.good:2,": "good", "new/keep": "new"})
	secret := filepath.Join(t.TempDir(), "secret.eml")
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	must(t, os.Symlink(secret, filepath.Join(dir, "cur", "2.link:2,")))
	must(t, os.Symlink(secret, filepath.Join(dir, "link.eml")))
	must(t, os.Symlink(filepath.Dir(secret), filepath.Join(dir, "folder")))
	must(t, os.Symlink("/", filepath.Join(dir, ".Root")))
	must(t, unix.Mkfifo(filepath.Join(dir, "cur", "3.pipe:2,"), 0o600))
	must(t, os.Symlink(secret, filepath.Join(dir, "dovecot-keywords")))
	s, err := Open(dir)
	must(t, err)
	defer s.Close()
	got := all(t, s)
	if len(got) != 2 || got["INBOX cur/1.good:2,"] != "good" || s.Left() < 4 {
		t.Errorf("got %v, %d left alone", got, s.Left())
	}
}

func TestNotMail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	must(t, os.WriteFile(file, []byte("no ZIP"), 0o600))
	for _, name := range []string{t.TempDir(), file, filepath.Join(t.TempDir(), "missing"), "/dev/null"} {
		if s, err := Open(name); err == nil {
			t.Errorf("%s: %s", name, s.What())
		}
	}
}

// zipOf makes a ZIP of names and texts, in this order.
func zipOf(t testing.TB, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		f, err := w.CreateHeader(&zip.FileHeader{Name: entries[i], Method: zip.Deflate, Modified: time.Unix(1e9, 0)})
		must(t, err)
		_, err = io.WriteString(f, entries[i+1])
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func openBytes(t testing.TB, b []byte) (Source, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.zip")
	must(t, os.WriteFile(name, b, 0o600))
	return Open(name)
}

func TestForeignZip(t *testing.T) {
	s, err := openBytes(t, zipOf(t, "top.eml", "a", "../../etc/x.eml", "b", "/abs/y.eml", "c", `win\dows\z.eml`, "d", "Été/1.EML", "e",
		"Été/", "", "photo.jpg", "no", strings.Repeat("x/", 300)+"1.eml", "deep", "bad\xff\x01/1.eml", "f"))
	must(t, err)
	defer s.Close()
	got := all(t, s)
	if len(got) != 7 || s.Left() != 1 {
		t.Errorf("%d messages, %d left alone: %v", len(got), s.Left(), got)
	}
	for _, m := range s.Mailboxes() {
		if !utf8.ValidString(m.Name) || len(m.Name) > maxName || strings.Count(m.Name, "/") >= maxDepth || strings.Contains(m.Name, "..") || m.Name == "" {
			t.Errorf("mailbox %q", m.Name)
		}
	}
}

// An entry that lies on its size or its octets is an error of this one message.
func TestZipThatLies(t *testing.T) {
	b := zipOf(t, "a.eml", strings.Repeat("a", 1000), "b.eml", "good")
	i := bytes.LastIndex(b, []byte("a.eml")) - 46 // its entry in the list
	b[i+24]++                                     // told to hold 1001 octets
	s, err := openBytes(t, b)
	must(t, err)
	defer s.Close()
	if got := all(t, s); got["INBOX a.eml"] != "error" || got["INBOX b.eml"] != "good" {
		t.Errorf("got %v", got)
	}
}

// Entries that share their octets unpack to any size: such a ZIP is refused before anything is unpacked.
func TestZipWithEntriesOverEachOther(t *testing.T) {
	one := zipOf(t, "a.eml", strings.Repeat("abcdefgh", 20000))
	list := bytes.LastIndex(one, []byte("PK\x01\x02"))
	end := bytes.LastIndex(one, []byte("PK\x05\x06"))
	entry := one[list:end]
	b := bytes.Clone(one[:list])
	const n = 40
	for range n {
		b = append(b, entry...)
	}
	tail := bytes.Clone(one[end:])
	tail[8], tail[10] = n, n
	size := uint32(n * len(entry))
	for i := range 4 {
		tail[12+i] = byte(size >> (8 * i))
	}
	if _, err := openBytes(t, append(b, tail...)); !errors.Is(err, ErrSource) {
		t.Errorf("got %v", err)
	}
}

func TestManifestThatLies(t *testing.T) {
	const head = `{"export":{"mssd_mail":1,"address":"a@example.test"}}` + "\n"
	for name, text := range map[string]string{
		"not ours": "hello\n", "other version": `{"export":{"mssd_mail":9}}` + "\n", "empty": "", "long line": head + strings.Repeat("x", maxLine+1),
	} {
		if _, err := openBytes(t, zipOf(t, "INBOX/1.eml", "a", manifestName, text)); !errors.Is(err, ErrSource) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := openBytes(t, zipOf(t, "INBOX/1.eml", "a", manifestName, head+
		`{"mailbox":{"folder":"INBOX","name":"..//a\u0000b/"}}`+"\n"+
		`{"message":{"path":"../../etc/passwd","flags":["\\Seen"]}}`+"\n"+
		`{"message":{"path":"INBOX/1.eml","mailbox":"elsewhere","keywords":["a b","ok","OK","\u0000"],"size":99999}}`+"\n"))
	must(t, err)
	defer s.Close()
	must(t, s.Each(func(m Message, _ func() (io.ReadCloser, error)) error {
		if m.Mailbox != "../a_b" || fmt.Sprint(m.Keywords) != "[ok]" {
			t.Errorf("%+v", m)
		}
		return nil
	}))
}

// A manifest in another order than the mail is kept in memory only so far as there is room, and each line gives its room back.
func TestManifestOutOfOrder(t *testing.T) {
	const head = `{"export":{"mssd_mail":1}}` + "\n"
	line := func(path string) string {
		return `{"message":{"path":"` + path + `","keywords":[` + strings.Repeat(`"a","a",`, 1000) + `"b"],"flags":[` + strings.Repeat(`"x",`, 1000) + `"\\SEEN"]}}` + "\n"
	}
	size := int64(len(line("1")) - 1)
	read := func(room int64, lines ...string) *manifest {
		m, err := readManifest(io.NopCloser(strings.NewReader(head + strings.Join(lines, ""))))
		must(t, err)
		m.room = room
		return m
	}
	m := read(2*size, line("1"), line("2"), line("3"), line("4"))
	for _, path := range []string{"3", "1", "2", "4"} {
		l, err := m.message(path)
		if err != nil || l == nil || fmt.Sprint(l.Keywords, l.Flags) != `[a b] [\Seen]` {
			t.Errorf("%s: %+v, %v", path, l, err)
		}
	}
	if m.room != 2*size {
		t.Errorf("%d octets of room are left, want %d", m.room, 2*size)
	}
	if _, err := read(2*size, line("1"), line("2"), line("3"), line("4")).message("4"); !errors.Is(err, ErrSource) {
		t.Errorf("three lines in the room of two: %v", err)
	}
}

func TestVerified(t *testing.T) {
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"
	for text, want := range map[string]error{"hello": nil, "hellO": ErrChanged, "hell": ErrChanged, "": ErrChanged} {
		for _, s := range []string{sum, strings.ToUpper(sum)} {
			if got, err := io.ReadAll(Verified(strings.NewReader(text), s)); !errors.Is(err, want) || string(got) != text {
				t.Errorf("%q: %q, %v", text, got, err)
			}
		}
		if _, err := io.ReadAll(Verified(strings.NewReader(text), "")); err != nil {
			t.Errorf("%q without a sum: %v", text, err)
		}
	}
}

func TestCRLF(t *testing.T) {
	for in, want := range map[string]string{"": "", "\n": "\r\n", "\r\n": "\r\n", "a\nb\r\nc\r\r\n\n": "a\r\nb\r\nc\r\r\n\r\n", "\r": "\r"} {
		for size := 1; size < 4; size++ { // however it is cut
			c := &CRLF{R: &slow{in, size}}
			got, err := io.ReadAll(c)
			if err != nil || string(got) != want || c.Mended != (in != want) {
				t.Errorf("%q in pieces of %d: %q %v, mended %v", in, size, got, err, c.Mended)
			}
		}
	}
}

type slow struct {
	s    string
	size int
}

func (s *slow) Read(p []byte) (int, error) {
	if s.s == "" {
		return 0, io.EOF
	}
	n := copy(p, s.s[:min(s.size, len(s.s))])
	s.s = s.s[n:]
	return n, nil
}

func TestFolderNames(t *testing.T) {
	var f folders
	seen := map[string]bool{}
	for _, name := range []string{"INBOX", "A.B", "A_B", "A/B", "Été", strings.Repeat("é", 400), strings.Repeat("é", 400) + "x", ".", "..", "a/../b"} {
		dir := f.add(name, maildirFolder)
		if seen[dir] || len(dir) > 255 || strings.Contains(dir, "/") || name != "INBOX" && !strings.HasPrefix(dir, ".") || dir == "." || dir == ".." {
			t.Errorf("%q lies in %q", name, dir)
		}
		seen[dir] = true
	}
	z := folders{fold: true}
	seen = map[string]bool{}
	for _, name := range []string{"INBOX", "inbox2", "INBOX2", "..", "../..", "CON", "con.txt", "a:b", "a|b", "x\u202eeml.exe", "1.eml", "manifest.jsonl", "end. ", ".hidden", "Été"} {
		dir := z.add(name, zipFolder)
		if low := strings.ToLower(dir); seen[low] || strings.Contains(dir, "..") || strings.ContainsAny(dir, `:|\*?<>"`) || strings.HasPrefix(dir, "/") ||
			strings.HasSuffix(low, ".eml") || low == "con" || low == manifestName || strings.HasSuffix(dir, " ") {
			t.Errorf("%q lies in %q", name, dir)
		} else {
			seen[low] = true
		}
	}
}

func FuzzZip(f *testing.F) {
	f.Add(zipOf(f, "INBOX/1.eml", "a", manifestName, `{"export":{"mssd_mail":1}}`+"\n"+`{"mailbox":{"folder":"INBOX","name":"INBOX"}}`+"\n"+`{"message":{"path":"INBOX/1.eml"}}`+"\n"))
	f.Add(zipOf(f, "../a.eml", "a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readZip(inMemory{bytes.NewReader(b)})
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, m := range s.Mailboxes() {
			names[m.Name] = true
			if m.Name == "" || len(m.Name) > maxName || !utf8.ValidString(m.Name) {
				t.Fatalf("mailbox %q", m.Name)
			}
		}
		err = s.Each(func(m Message, open func() (io.ReadCloser, error)) error {
			if !names[m.Mailbox] {
				t.Fatalf("mailbox %q was not named", m.Mailbox)
			}
			if r, err := open(); err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
				r.Close()
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrSource) {
			t.Fatal(err)
		}
	})
}

type inMemory struct{ *bytes.Reader }

func (m inMemory) Stat() (os.FileInfo, error) { return size(m.Size()), nil }

type size int64

func (s size) Name() string     { return "" }
func (s size) Size() int64      { return int64(s) }
func (size) Mode() os.FileMode  { return 0 }
func (size) ModTime() time.Time { return time.Time{} }
func (size) IsDir() bool        { return false }
func (size) Sys() any           { return nil }

func FuzzManifest(f *testing.F) {
	f.Add(`{"export":{"mssd_mail":1}}`+"\n"+`{"mailbox":{"folder":"a","name":"A"}}`+"\n"+`{"message":{"path":"x","flags":["\\Seen"],"keywords":["k"]}}`+"\n", "x")
	f.Fuzz(func(t *testing.T, text, path string) {
		m, err := readManifest(io.NopCloser(strings.NewReader(text)))
		if err != nil {
			return
		}
		for range 3 {
			if l, err := m.message(path); err == nil && l != nil {
				var msg Message
				l.told(&msg)
			}
		}
	})
}

func FuzzMaildirNames(f *testing.F) {
	f.Add(".Envoy&AOk-s.2025", "1.a:2,FSab", "0 a\n1 b\n")
	f.Fuzz(func(t *testing.T, dir, info, letters string) {
		name := maildirName(dir)
		if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.Count(name, "/") >= maxDepth || strings.Contains(name, "//") {
			t.Fatalf("%q", name)
		}
		for _, make := range []func(string, string) string{maildirFolder, zipFolder} {
			if out := make(name, ""); strings.ContainsAny(out, "\x00\n") || strings.HasPrefix(out, "/") {
				t.Fatalf("%q lies in %q", name, out)
			}
		}
		var m Message
		m.told(info, parseLetters([]byte(letters)))
		subscribedNames(letters)
		number(info)
	})
}
