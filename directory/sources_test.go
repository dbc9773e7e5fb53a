package directory

import (
	"archive/zip"
	"bytes"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// web serves one document over TLS and counts the questions.
type web struct {
	*httptest.Server

	mu          sync.Mutex
	name, etag  string
	body        []byte
	noHead, cut bool
	status      int
	heads, gets int
}

func newWeb(t *testing.T) *web {
	t.Helper()
	w := &web{}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	return w
}

func (w *web) serve(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case r.Method == http.MethodHead && w.noHead:
		out.WriteHeader(http.StatusMethodNotAllowed)
		return
	case r.Method == http.MethodHead:
		w.heads++
	default:
		w.gets++
	}
	if w.name != "" {
		out.Header().Set("Content-Disposition", "attachment; filename="+w.name)
	}
	if w.etag != "" {
		out.Header().Set("ETag", w.etag)
		if r.Header.Get("If-None-Match") == w.etag {
			w.gets--
			out.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if w.status != 0 {
		out.WriteHeader(w.status)
		return
	}
	if w.cut {
		out.Header().Set("Content-Length", "1000000")
	}
	_, _ = out.Write(w.body)
}

func (w *web) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// asked gives the numbers of questions since the last call.
func (w *web) asked() (heads, gets int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	heads, gets = w.heads, w.gets
	w.heads, w.gets = 0, 0
	return heads, gets
}

// anchor is the authority of the server, as a file.
func (w *web) anchor(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "anchor.pem")
	raw := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw})
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func text(addresses ...string) []byte {
	lines := []string{header}
	for _, a := range addresses {
		lines = append(lines, orgLine(a, "990000119"))
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

func zipped(t *testing.T, name string, text []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	out, err := z.Create(name)
	if err == nil {
		_, err = out.Write(text)
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestExtractionByHTTPS(t *testing.T) {
	w := newWeb(t)
	state := t.TempDir()
	cfg := Config{Extraction: &ExtractionConfig{URLs: []string{w.URL + "/extraction"}, AnchorFiles: []string{w.anchor(t)}}, StateDir: state,
		Now: func() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }}
	d := open(t, cfg)
	check := func(what string, wantHeads, wantGets int, known string) {
		t.Helper()
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if heads, gets := w.asked(); heads != wantHeads || gets != wantGets {
			t.Errorf("%s: asked %d times and fetched %d times, want %d and %d", what, heads, gets, wantHeads, wantGets)
		}
		if len(d.Lookup(known)) != 1 {
			t.Errorf("%s: %s is not known", what, known)
		}
		for _, e := range dirNames(t, state) {
			if strings.Contains(e, ".new") {
				t.Errorf("%s: %s is left over", what, e)
			}
		}
	}
	const first = "Extraction_Correspondance_MSSante_202611220413"
	w.set(func() { w.name, w.body = first+".zip", zipped(t, first+".txt", text("a@x.test")) })
	check("first", 1, 1, "a@x.test")
	if got := d.Status().Feeds[0].Generated; !got.Equal(time.Date(2026, 11, 22, 3, 13, 0, 0, time.UTC)) {
		t.Errorf("generated at %v", got)
	}
	check("same name", 1, 0, "a@x.test")
	_ = d.Close()
	d = open(t, cfg)
	check("same name, after a restart", 1, 0, "a@x.test")
	w.set(func() {
		w.name, w.body = "Extraction_Correspondance_MSSante_202611230413.txt", text("a@x.test", "b@x.test")
	})
	check("plain text of another day", 1, 1, "b@x.test")
	if got := d.Status().Feeds[0].Generated; !got.Equal(time.Date(2026, 11, 23, 3, 13, 0, 0, time.UTC)) {
		t.Errorf("the time in the name of a plain text: %v", got)
	}
	// A mirror whose name tells no date and that does not know HEAD: its tag tells.
	w.set(func() { w.name, w.noHead, w.etag, w.body = "", true, `"un"`, text("a@x.test", "b@x.test", "c@x.test") })
	check("by GET", 0, 1, "c@x.test")
	check("by GET, the same", 0, 0, "c@x.test")
	w.set(func() { w.etag, w.body = `"deux"`, text("a@x.test", "b@x.test", "c@x.test", "d@x.test") })
	check("by GET, changed", 0, 1, "d@x.test")
}

func dirNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestExtractionWebFaults(t *testing.T) {
	w := newWeb(t)
	state := t.TempDir()
	cfg := Config{Extraction: &ExtractionConfig{URLs: []string{w.URL}, AnchorFiles: []string{w.anchor(t)}}, StateDir: state}
	d := open(t, cfg)
	w.set(func() { w.etag, w.body = `"1"`, text("a@x.test", "b@x.test", "c@x.test") })
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		want       error
		change     func()
	}{
		{"not there", "404", ErrUnavailable, func() { w.status = http.StatusNotFound }},
		{"cut short", "EOF", ErrUnavailable, func() { w.cut = true }},
		{"a page that says it is closed", "f", ErrFormat, func() { w.body = []byte("<html>fermé</html>") }},
		{"cut archive", "ZIP", ErrFormat, func() { w.body = zipped(t, "x.txt", text("a@x.test"))[:60] }},
		{"empty", "no row", ErrEmpty, func() { w.body = text() }},
		{"half of it", "1 of 3", ErrLoss, func() { w.body = text("a@x.test", "b@x.test") }},
	} {
		w.set(func() {
			w.status, w.cut, w.etag, w.body = 0, false, `"`+c.name+`"`, text("a@x.test", "b@x.test", "c@x.test")
			c.change()
		})
		err := d.Refresh(t.Context())
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %v with %q", c.name, err, c.want, c.text)
		}
		if len(d.Lookup("c@x.test")) != 1 {
			t.Errorf("%s: the old image is gone", c.name)
		}
	}
	// The refused one is not fetched again while the operator has not spoken.
	w.asked()
	if err := d.Refresh(t.Context()); !errors.Is(err, errStillRefused) {
		t.Errorf("refused before: %v", err)
	}
	if heads, gets := w.asked(); heads != 1 || gets != 0 {
		t.Errorf("refused before: asked %d times, fetched %d times", heads, gets)
	}
	for _, n := range dirNames(t, state) {
		if strings.Contains(n, ".new") {
			t.Errorf("%s is left over", n)
		}
	}
	// Without its authority the server is not believed.
	cfg.Extraction.AnchorFiles, cfg.StateDir = nil, ""
	if err := open(t, cfg).Refresh(t.Context()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without its authority: %v", err)
	}
	if _, err := Open(Config{Extraction: &ExtractionConfig{URLs: []string{"http://x.test/"}}}); !errors.Is(err, ErrConfig) {
		t.Errorf("in clear: %v", err)
	}
}

// TestExtractionRanks: what stands lower on the list is asked when what stands above does not answer, and taken when newer.
func TestExtractionRanks(t *testing.T) {
	first, second := newWeb(t), newWeb(t)
	file := filepath.Join(t.TempDir(), "x.txt")
	d := open(t, Config{Extraction: &ExtractionConfig{URLs: []string{first.URL, second.URL}, AnchorFiles: []string{first.anchor(t)}, File: file},
		Now: func() time.Time { return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) }})
	name := func(day string) string { return "Extraction_Correspondance_MSSante_202611" + day + "0413.txt" }
	put := func(w *web, day string, addresses ...string) {
		w.set(func() { w.status, w.name, w.body = 0, name(day), text(addresses...) })
	}
	put(first, "22", "a@x.test")
	put(second, "22", "a@x.test")
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, gets := second.asked(); gets != 0 {
		t.Error("the second was fetched although the first answered")
	}
	first.set(func() { first.status = http.StatusServiceUnavailable })
	if err := d.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "503") || !errors.Is(err, ErrOlder) || !strings.Contains(err.Error(), file) {
		t.Errorf("the first is away, the others have nothing newer: %v", err)
	}
	put(second, "23", "a@x.test", "b@x.test")
	if err := d.Refresh(t.Context()); err != nil || len(d.Lookup("b@x.test")) != 1 {
		t.Errorf("the second is newer: %v", err)
	}
	second.set(func() { second.status = http.StatusServiceUnavailable })
	if err := os.WriteFile(file, text("a@x.test", "b@x.test", "c@x.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Time{}, time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if err := d.Refresh(t.Context()); err != nil || len(d.Lookup("c@x.test")) != 1 {
		t.Errorf("only the file is left: %v", err)
	}
	put(first, "25", "a@x.test", "b@x.test", "c@x.test", "d@x.test")
	if err := d.Refresh(t.Context()); err != nil || len(d.Lookup("d@x.test")) != 1 {
		t.Errorf("the first is back: %v", err)
	}
}
