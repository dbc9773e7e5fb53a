package smtpd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTranscripts(t *testing.T) {
	files, _ := filepath.Glob("../testdata/smtp/*.txt")
	if len(files) < 10 {
		t.Fatalf("%d transcripts", len(files))
	}
	w := newWorld(t, nil)
	transcripts(t, w, files)
}

func TestSubmissionTranscripts(t *testing.T) {
	files, _ := filepath.Glob("../testdata/submission/*.txt")
	if len(files) < 9 {
		t.Fatalf("%d transcripts", len(files))
	}
	transcripts(t, newMembers(t, nil).world, files)
}

func transcripts(t *testing.T, w *world, files []string) {
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { transcript(t, w, f) })
	}
}

// transcript runs one file; see testdata/smtp/README. When a line differs the dialogue is printed.
func transcript(t *testing.T, w *world, file string) {
	text := must(os.ReadFile(file))(t)
	p := w.as(t).dial()
	var dialog strings.Builder
	for n, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		dialog.WriteString(line + "\n")
		kind, rest, _ := strings.Cut(line, " ")
		switch {
		case kind == "C:":
			p.send(rest + "\r\n")
		case kind == "S:":
			got, err := p.br.ReadString('\n')
			pattern := "^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(rest)) + "\r\n$"
			if !regexp.MustCompile(pattern).MatchString(got) {
				t.Fatalf("line %d: got %q (%v), want %q\n%s", n+1, got, err, rest, &dialog)
			}
		case kind == "TLS":
			p.upgrade(w.as(t), rest)
		case kind == "END":
			p.gone()
		case !strings.HasPrefix(line, "#"):
			t.Fatalf("line %d: %q is no line of a transcript", n+1, line)
		}
	}
}
