package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mssd/directory/slapdtest"
)

// sample is a directory that holds the sample extraction.
func sample(t testing.TB, stateDir string) *Directory {
	t.Helper()
	file := filepath.Join(slapdtest.Samples(t), "Extraction_Correspondance_MSSante_202611220413.txt")
	d := open(t, Config{Extraction: &ExtractionConfig{File: file, MaxFaults: -1}, StateDir: stateDir,
		Now: func() time.Time { return time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC) }})
	if err := d.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	return d
}

func addresses(f Found) string {
	var out []string
	for _, e := range f.Entries {
		local, _, _ := strings.Cut(e.Address, "@")
		out = append(out, local)
	}
	return strings.Join(out, " ")
}

func TestFind(t *testing.T) {
	d := sample(t, t.TempDir())
	for _, c := range []struct {
		search Search
		want   string
	}{
		{Search{Name: "moulin"}, "pharmacie.du.moulin sidonie.belombre"},
		{Search{Name: "Pharm. MOUL"}, "pharmacie.du.moulin sidonie.belombre"},
		{Search{Name: "moulin", Kind: "org"}, "pharmacie.du.moulin"},
		{Search{Name: "trefleblanc noemie"}, "noemie.trefleblanc"},
		{Search{Name: "TRÈFLEBLANC"}, "noemie.trefleblanc"},
		{Search{Name: "refleblanc"}, ""},
		{Search{Name: "laborbe"}, "resultats"},
		{Search{Name: "cardiologie", Town: "valclair"}, "b.fontsauvage secretariat.cardiologie"},
		{Search{Name: "pharmacie", Town: "roncey"}, "pharmacie.centrale.roncey pharmacie.de.l.orbe"},
		{Search{Town: "etangville"}, "cabinet.fictif pharmacie.du.marche"},
		{Search{Town: "994"}, "cabinet.fictif pharmacie.du.marche"},
		{Search{Structure: "990000119"}, "pharmacie.du.moulin sidonie.belombre"},
		{Search{Structure: "FINESS:990000119", Kind: "PER"}, "sidonie.belombre"},
		{Search{Structure: "SIRET:990000119"}, ""},
		{Search{Structure: "99000011"}, ""},
		{Search{Person: "99900000045"}, "aurele.quintefeuille aurele.quintefeuille"},
		{Search{Profession: "21"}, "sidonie.belombre"},
		{Search{Profession: "Pharmacien"}, "sidonie.belombre"},
		{Search{Profession: "medecin", Town: "valclair"}, "b.fontsauvage"},
		{Search{Domain: "TEST-officines-sud.mssante.fr"}, "pharmacie.du.marche"},
	} {
		found, err := d.Find(t.Context(), c.search)
		if got := addresses(found); err != nil || got != c.want || found.More {
			t.Errorf("%+v: got %q, %v; want %q", c.search, got, err, c.want)
		}
	}
	found, err := d.Find(t.Context(), Search{Name: "pharmacie", Limit: 3})
	if err != nil || len(found.Entries) != 3 || !found.More {
		t.Errorf("limited: %d, more %v, %v", len(found.Entries), found.More, err)
	}
	found, err = d.Find(t.Context(), Search{Person: "99900000052"})
	want := FoundEntry{Address: "sidonie.belombre@test-officines.mssante.fr", Kind: "PER", Name: "BELOMBRE", GivenName: "SIDONIE",
		StructureName: "SELARL PHARMACIE DU MOULIN", Postcode: "99101", Town: "99101 VALCLAIR", StructureType: "FINESS", StructureID: "990000119",
		PersonID: "99900000052", Profession: "21", ProfessionIs: "pharmacien", Feeds: []string{"extraction"}}
	if err != nil || len(found.Entries) != 1 || fmt.Sprint(found.Entries[0]) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", found.Entries, want)
	}
	for _, s := range []Search{{}, {Kind: "ORG"}, {Name: "  -- "}, {Profession: "astronaute"}, {Name: "a", Limit: 1001}, {Name: strings.Repeat("x", 300)}} {
		if _, err := d.Find(t.Context(), s); !errors.Is(err, ErrSearch) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d.finding <- struct{}{}
	if _, err := d.Find(ended, Search{Name: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("behind another search: %v", err)
	}
}

// TestFindChanged searches an image with changes, before and after they are folded, and after a restart.
func TestFindChanged(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	d, f := keyedFeed(t, dir, &now)
	mustAdopt(t, d, f, whole(t, d, f, 0, 30, "c", now))
	if err := d.change(f, []change{{key(1), nil}, {key(2), []*record{rec(addr(2), "ORG", "2", "Lüneville")}}, {key(90), []*record{rec("n@d.test", "PER", "90", "NOM\x1b[2J\xff")}}}, nil, now); err != nil {
		t.Fatal(err)
	}
	look := func(name string) {
		t.Helper()
		found, err := d.Find(t.Context(), Search{Name: "nom"})
		if err != nil || len(found.Entries) != 29 {
			t.Errorf("%s: %d entries, %v", name, len(found.Entries), err)
		}
		for _, e := range found.Entries {
			if e.Address == addr(1) || e.Address == addr(2) {
				t.Errorf("%s: %s is there", name, e.Address)
			}
			if e.Address == "n@d.test" && e.Name != "NOM [2J?" {
				t.Errorf("%s: %q", name, e.Name)
			}
		}
		if found, err := d.Find(t.Context(), Search{Name: "luneville"}); err != nil || addresses(found) != "p2" {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
	look("changed")
	d.Close()
	d, f = keyedFeed(t, dir, &now)
	look("opened again")
	folded, err := d.fold(f, f.image.Load())
	if err != nil {
		t.Fatal(err)
	}
	d.install(f, folded)
	look("folded")
	// The file is gone: RCPT does not notice, a search finds by numbers.
	for _, p := range []string{imagePath(dir, "ldap"), previousPath(dir, "ldap")} {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := d.Find(t.Context(), Search{Structure: "5"}); err != nil || addresses(found) != "p5" {
		t.Errorf("without the file: %+v, %v", found, err)
	}
	if err := d.change(f, []change{{key(3), nil}}, nil, now); err != nil || !knows(d, addr(5)) || knows(d, addr(3)) {
		t.Errorf("a change without the file: %v", err)
	}
}

func TestFindTwoFeeds(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.txt")
	writeExtraction(t, file, orgLine("a@x.test", "1"), orgLine("b@x.test", "1"))
	d := open(t, Config{LDAP: &LDAPConfig{URL: "ldap://127.0.0.1:1"}, Extraction: &ExtractionConfig{File: file}, StateDir: filepath.Join(dir, "s")})
	if err := d.refresh(context.Background(), d.feeds[1]); err != nil {
		t.Fatal(err)
	}
	b := d.newBuilder(d.feeds[0], 1)
	if err := b.add([]byte("k"), rec("A@x.test", "ORG", "1", "NOM")); err != nil {
		t.Fatal(err)
	}
	img, err := b.image()
	if err != nil {
		t.Fatal(err)
	}
	img.generated = time.Now()
	mustAdopt(t, d, d.feeds[0], img)
	found, err := d.Find(t.Context(), Search{Structure: "1"})
	if err != nil || addresses(found) != "a b" || !slices.Equal(found.Entries[0].Feeds, []string{"ldap", "extraction"}) {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestAudit(t *testing.T) {
	d := sample(t, "")
	own := func(address, kind, structure, listing string, open bool) Own {
		return Own{Address: address + "@test-officines.mssante.fr", Kind: kind, Structure: structure, Listing: listing, Open: open}
	}
	a := d.Audit([]Own{
		own("pharmacie.du.moulin", "ORG", "990000119", "published", true),
		own("Pharmacie.Des.Tilleuls", "ORG", "FINESS:990000999", "published", true),
		own("pharmacie.bel.air", "PER", "", "published", true),
		own("pharmacie.centrale.roncey", "ORG", "", "unlisted", true),
		own("sidonie.belombre", "PER", "", "published", false),
		own("absente", "ORG", "", "published", true),
		own("fermee", "ORG", "", "published", false),
		own("rouge", "ORG", "", "unlisted", true),
		own("appli", "APP", "", "unlisted", true),
		own("cabinet", "CAB", "", "published", true),
	})
	var got []string
	for _, f := range a.Findings {
		local, _, _ := strings.Cut(f.Address, "@")
		got = append(got, f.What+": "+local+" "+strings.Join(f.Directory, ", "))
	}
	want := []string{"missing: absente ", "other type: pharmacie.bel.air ORG FINESS:990000150", "other structure: Pharmacie.Des.Tilleuls ORG FINESS:990000127",
		"published: pharmacie.centrale.roncey ORG FINESS:990000135", "not open: sidonie.belombre PER FINESS:990000119",
		"not held: pharmacie.de.l.orbe ORG SIRET:99900001400145", "unlisted: appli ", "unlisted: rouge ", "cannot tell: cabinet "}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if a.BALs != 8 || a.Agree != 1 || a.Problems != 6 || a.Cut {
		t.Errorf("%d BALs, %d agree, %d problems", a.BALs, a.Agree, a.Problems)
	}
	for _, f := range a.Findings {
		if f.Address == "cabinet@test-officines.mssante.fr" && f.Note != "no feed carries this type of BAL" || strings.HasPrefix(f.Address, "rouge") && f.Note == "" {
			t.Errorf("note of %+v", f)
		}
	}
	if a := open(t, Config{}).Audit([]Own{own("x", "ORG", "", "published", true)}); len(a.Findings) != 1 || a.Findings[0].What != AuditNotKnown || a.Problems != 0 {
		t.Errorf("without a feed: %+v", a)
	}
}

func FuzzFind(f *testing.F) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	d, feed := keyedFeed(f, f.TempDir(), &now)
	mustAdopt(f, d, feed, whole(f, d, feed, 0, 3, "c", now))
	f.Add("Été à l'Œuvre", []byte("l'ŒUVRE d'été"))
	f.Fuzz(func(t *testing.T, asked string, text []byte) {
		if _, err := d.Find(context.Background(), Search{Name: asked}); err != nil && !errors.Is(err, ErrSearch) {
			t.Fatal(err)
		}
		folded := appendFolded(nil, text)
		if again := appendFolded(nil, folded[1:]); !bytes.Equal(again, folded) {
			t.Fatalf("%q folds to %q, that to %q", text, folded, again)
		}
	})
}

// BenchmarkFind is the slowest search: all rows, all names.
func BenchmarkFind(b *testing.B) {
	d := open(b, Config{Extraction: &ExtractionConfig{File: synthetic(b, published)}, StateDir: b.TempDir()})
	if err := d.Refresh(context.Background()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if found, err := d.Find(context.Background(), Search{Name: "nobody", Town: "valclair"}); err != nil || len(found.Entries) != 0 {
			b.Fatal(err)
		}
	}
}
