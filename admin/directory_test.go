package admin

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mssd/directory"
)

// mirror is a directory that reads an extraction with these rows.
func mirror(t *testing.T, lines ...string) (*directory.Directory, func(lines ...string)) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "x.txt")
	write := func(lines ...string) {
		t.Helper()
		text := "Adresse BAL|Type de BAL|Type identifiant structure|Identification Structure|Type Identifiant PP|Identifiant PP|Nom d'exercice|Prénom d'exercice|" +
			"Code Profession|Raison Sociale structure BAL|Code postal structure BAL|L6LIGNEACHEMINEMENT structure BAL\n" + strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(lines...)
	d, err := directory.Open(directory.Config{Extraction: &directory.ExtractionConfig{File: file}, StateDir: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d, write
}

// An operator takes a reading that lost too much; what he did stands in the trace.
func TestAcceptDirectory(t *testing.T) {
	d, write := mirror(t, "a@x.test|ORG|1|1||||||||", "b@x.test|ORG|1|1||||||||")
	h := open(t, func(s *Server) { s.Directory = d })
	var p *Problem
	if _, err := h.AcceptDirectory(t.Context(), "ldap"); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("no such feed: %v", err)
	}
	if _, err := h.AcceptDirectory(t.Context(), "extraction"); !errors.As(err, &p) || p.Status != http.StatusConflict {
		t.Errorf("nothing refused: %v", err)
	}
	write("a@x.test|ORG|1|1||||||||")
	if err := d.Refresh(t.Context()); !errors.Is(err, directory.ErrLoss) {
		t.Fatal(err)
	}
	st, err := h.AcceptDirectory(t.Context(), "extraction")
	if err != nil || st.Rows != 1 || st.Refused != nil || len(d.Lookup("b@x.test")) != 0 {
		t.Errorf("accepted: %+v, %v", st, err)
	}
}
