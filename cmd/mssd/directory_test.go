package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/directory"
	"mssd/directory/slapdtest"
)

// An operator asks why a pharmacy is not found, and takes a reading that lost too much.
func TestDirectoryByHand(t *testing.T) {
	sample, err := os.ReadFile(filepath.Join(slapdtest.Samples(t), "Extraction_Correspondance_MSSante_202611220413.txt"))
	must(t, err)
	file := filepath.Join(t.TempDir(), "x.txt")
	must(t, os.WriteFile(file, sample, 0o600))
	page := freeAddr(t)
	h := newHouse(t, fmt.Sprintf("[directory.extraction]\nfile = %q\nevery = \"1s\"\n[metrics]\nlisten = %q\n", file, page))
	h.start("--create")
	for _, args := range [][]string{
		{"bal", "add", "pharmacie.du.moulin@test-officines.mssante.fr", "--kind", "ORG", "--structure", "990000119"},
		{"bal", "add", "pharmacie.des.tilleuls@test-officines.mssante.fr", "--kind", "ORG", "--structure", "990000999"},
		{"bal", "add", "oubliee@test-officines.mssante.fr", "--kind", "ORG"},
	} {
		if out, err := h.run(args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	expect := func(fails bool, args []string, want ...string) string {
		t.Helper()
		out, err := h.run(args...)
		if (err != nil) != fails {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%v: want %q in\n%s", args, w, out)
			}
		}
		return out
	}
	waitUntil(t, "the extraction to be read", func() bool {
		out, err := h.run("directory", "status")
		return err == nil && strings.Contains(out, "22 (ORG ")
	})
	expect(false, []string{"directory", "find", "moulin", "--town", "valclair", "--kind", "ORG"}, "pharmacie.du.moulin@test-officines.mssante.fr", "FINESS:990000119")
	expect(false, []string{"directory", "find", "--person", "99900000037"}, "NOÉMIE TRÈFLEBLANC", "médecin")
	expect(true, []string{"directory", "find", "nobody"}, "nothing in the directory fits")
	expect(true, []string{"directory", "find"}, "nothing to look for")
	out := expect(true, []string{"directory", "audit"}, "3 BALs compared, 1 agree", "MISSING", "oubliee@test-officines.mssante.fr", "OTHER STRUCTURE",
		"here ORG 990000999", "directory ORG FINESS:990000127 (extraction)", "NOT HELD", "pharmacie.bel.air@")
	if strings.Contains(out, "du.moulin") {
		t.Errorf("what agrees is told as a finding:\n%s", out)
	}
	expect(false, []string{"bal", "listing", "oubliee@test-officines.mssante.fr", "unlisted"}, "is unlisted")
	out = expect(true, []string{"directory", "audit"}, "nobody finds them", "published ORG BAL only")
	if strings.Contains(out, "MISSING") {
		t.Errorf("an unlisted BAL is told as missing:\n%s", out)
	}
	var a directory.Audit
	must(t, json.Unmarshal([]byte(expect(true, []string{"directory", "audit", "--json"})), &a))
	if a.BALs != 3 || a.Problems < 2 || len(a.Findings) != a.Problems+1 {
		t.Errorf("as JSON: %+v", a)
	}

	if m := metricsPage(t, page); !strings.Contains(m, `mssd_directory_rows{feed="extraction",kind="ORG"} 12`) || !strings.Contains(m, `mssd_directory_refused{feed="extraction"} 0`) {
		t.Errorf("metrics:\n%s", m)
	}
	// The file shrinks to half: refused, told, and taken by hand.
	lines := strings.SplitAfter(string(sample), "\n")
	must(t, os.WriteFile(file+".new", []byte(strings.Join(lines[:12], "")), 0o600))
	must(t, os.Rename(file+".new", file))
	waitUntil(t, "the refusal", func() bool {
		out, err := h.run("directory", "status")
		return err == nil && strings.Contains(out, "mssd directory accept extraction")
	})
	if out, err := h.run("health"); err == nil || !strings.Contains(out, "lost too many addresses") || !strings.Contains(out, "mssd directory accept extraction") {
		t.Errorf("health: %v\n%s", err, out)
	}
	if m := metricsPage(t, page); !strings.Contains(m, `mssd_directory_refused{feed="extraction"} 1`) || !strings.Contains(m, `mssd_directory_failing{feed="extraction"} 1`) {
		t.Errorf("metrics of a refusal:\n%s", m)
	}
	expect(false, []string{"directory", "find", "urgences"}, "urgences@test-ch-valclair.mssante.fr")
	expect(true, []string{"directory", "accept", "ldap"}, "no feed of this name")
	expect(false, []string{"directory", "accept", "extraction"}, "11 (ORG 6, PER 5)")
	expect(true, []string{"directory", "find", "urgences"})
	expect(true, []string{"directory", "accept", "extraction"}, "no refused reading")
	must(t, h.stop())
	// The next start has it without reading anything.
	must(t, os.Remove(file))
	h.start()
	expect(false, []string{"directory", "status"}, "11 (ORG 6, PER 5)")
}

// waitUntil looks again and again until something is so.
func waitUntil(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

// metricsPage reads the lines of the metrics page that tell of the directory.
func metricsPage(t *testing.T, addr string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "mssd_directory") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
