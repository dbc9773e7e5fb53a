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

func TestFindInDirectory(t *testing.T) {
	d, _ := mirror(t, "a@x.test|ORG|1|990000119||||||PHARMACIE DU MOULIN|99101|VALCLAIR", "b@x.test|PER|||8|99900000052|DUPONT|Éva|21|||")
	h := open(t, func(s *Server) { s.Directory = d })
	found, err := h.FindInDirectory(t.Context(), directory.Search{Name: "dupont eva", Person: "99900000052", Profession: "pharmacien", Kind: "PER", Domain: "x.test", Limit: 5})
	if err != nil || len(found.Entries) != 1 || found.Entries[0].Address != "b@x.test" {
		t.Errorf("%+v, %v", found, err)
	}
	found, err = h.FindInDirectory(t.Context(), directory.Search{Town: "valclair", Structure: "990000119"})
	if err != nil || len(found.Entries) != 1 || found.Entries[0].StructureName != "PHARMACIE DU MOULIN" {
		t.Errorf("%+v, %v", found, err)
	}
	var p *Problem
	for _, s := range []directory.Search{{}, {Name: "x", Limit: -1}} {
		if _, err := h.FindInDirectory(t.Context(), s); !errors.As(err, &p) || p.Status != http.StatusBadRequest {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestAuditDirectory(t *testing.T) {
	d, _ := mirror(t, "a@x.test|ORG|1|990000119||||||||", "c@x.test|PER||||||||||")
	h := open(t, func(s *Server) { s.Directory = d })
	for _, b := range []NewBAL{{Address: "A@x.test", Kind: "ORG", Structure: "990000119"}, {Address: "b@x.test", Kind: "ORG"}} {
		if _, err := h.AddBAL(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	a, err := h.AuditDirectory(t.Context())
	if err != nil || a.BALs < 2 || a.Agree != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	what := map[string]string{}
	for _, f := range a.Findings {
		what[f.Address] = f.What
	}
	if what["b@x.test"] != directory.AuditMissing || what["c@x.test"] != directory.AuditNotHeld || what["a@x.test"] != "" {
		t.Errorf("findings: %v", what)
	}
}

func TestSetListing(t *testing.T) {
	h := open(t)
	made, err := h.AddBAL(t.Context(), NewBAL{Address: "l@x.test", Kind: "ORG", QuotaMessages: 7})
	if err != nil || made.BAL.Listing != "published" {
		t.Fatalf("%+v, %v", made, err)
	}
	for _, l := range []string{"unlisted", "published"} {
		if b, err := h.SetListing(t.Context(), "L@x.test", l); err != nil || b.Listing != l || b.QuotaMessages != 7 {
			t.Errorf("%s: %+v, %v", l, b, err)
		}
	}
	var p *Problem
	if _, err := h.SetListing(t.Context(), "l@x.test", "red"); !errors.As(err, &p) || p.Status != http.StatusBadRequest {
		t.Errorf("no such listing: %v", err)
	}
	if _, err := h.SetListing(t.Context(), "nobody@x.test", "published"); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("no such BAL: %v", err)
	}
}
