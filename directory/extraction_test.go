package directory

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const header = "Type de BAL|Adresse BAL|Type Identifiant PP|Identifiant PP|Identification nationale PP|Type identifiant structure|Identification Structure|Service de rattachement|Civilité d'exercice|Nom d'exercice|Prénom d'exercice|Catégorie profession|Libellé de catégorie profession|Code Profession|Libellé Profession|Code savoir-faire|Libellé savoir-faire|Dématérialisation|Raison Sociale structure BAL|Enseigne commerciale structure BAL|L2COMPLEMENTLOCALISATION structure BAL|L3COMPLEMENTDISTRIBUTION structure BAL|L4NUMEROVOIE structure BAL|L4COMPLEMENTNUMEROVOIE structure BAL|NL4TYPEVOIE structure BAL|L4LIBELLEVOIE structure BAL|L5LIEUDITMENTION structure BAL|L6LIGNEACHEMINEMENT structure BAL|Code postal structure BAL|Département structure BAL|Pays structure BAL"

// orgLine is a row of the published form.
func orgLine(address, structure string) string {
	return "ORG|" + address + "||||1|" + structure + strings.Repeat("|", 24)
}

func parseText(text string, maxFaults int) (*image, *parser, error) {
	p := &parser{file: "f.txt", maxFaults: maxFaults, maxRows: 1000, b: newBuilder(1)}
	if err := p.parse(context.Background(), strings.NewReader(text)); err != nil {
		return nil, p, err
	}
	img, err := p.b.image()
	if err == nil {
		err = p.doubt()
	}
	return img, p, err
}

func TestExtractionForms(t *testing.T) {
	want := Entry{Address: "pharmacie@officine.test", Kind: "ORG", StructureType: "FINESS", StructureID: "990000119"}
	line := orgLine("Pharmacie@officine.test", "990000119")
	short := strings.TrimSuffix(line, "|")
	for name, text := range map[string]string{
		"plain":                  header + "\n" + line + "\n",
		"no last line end":       header + "\n" + line,
		"BOM and CRLF":           "\ufeff" + header + "\r\n" + line + "\r\n\r\n",
		"trailing column gone":   header + "\n" + short + "\n",
		"one column more, empty": header + "\n" + line + "|\n",
		"quoted":                 header + "\n" + strings.ReplaceAll(line, "ORG", `"ORG"`) + "\n",
		"Latin-1":                strings.ReplaceAll(header, "é", "\xe9") + "\n" + strings.ReplaceAll(line, "||||1|", "||||1|") + "\n",
		"without the header":     line + "\n",
		"names cut":              strings.ReplaceAll(header, " structure BAL", "") + "\n" + line + "\n",
		"other order, fewer":     "Adresse BAL|Identification Structure|Type de BAL|Type identifiant structure\nPHARMACIE@officine.test|990000119|org|1\n",
		"unknown names":          strings.Repeat("colonne|", 30) + "colonne\n" + line + "\n",
	} {
		img, p, err := parseText(text, 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		rows := img.appendEntries(nil, "PHARMACIE@OFFICINE.TEST")
		if len(rows) != 1 || rows[0] != want || p.faults != 0 {
			t.Errorf("%s: got %+v, %d faults", name, rows, p.faults)
		}
	}
}

func TestExtractionFaults(t *testing.T) {
	good := orgLine("a@b.test", "1")
	for _, c := range []struct {
		name, text, want string
	}{
		{"too few columns", header + "\n" + good + "\nORG|secret@b.test|x\n", `f.txt:3: 3 columns, expected 31`},
		{"too many columns", header + "\n" + good + "|x\n", `f.txt:2: 32 columns, expected 31`},
		{"no address", header + "\n" + orgLine("secret", "1") + "\n", `f.txt:2: column "Adresse BAL": not an address`},
		{"space in the address", header + "\n" + orgLine("secret @b.test", "1") + "\n", `column "Adresse BAL"`},
		{"no type", header + "\n" + strings.TrimPrefix(good, "ORG") + "\n", `f.txt:2: column "Type de BAL"`},
		{"not an extraction", "<html>\nsecret\n", `f.txt:1: neither a header`},
		{"header without the type", "Adresse BAL|Identification Structure\na@b.test|1\n", `f.txt:1: column "Type de BAL": not in the header`},
		{"field too long", header + "\n" + orgLine("a@b.test", strings.Repeat("9", 300)) + "\n", `f.txt:2: column "Identification Structure": more than`},
		{"endless line", header + "\n" + strings.Repeat("x", 1<<20), `f.txt:2: line of more than 65536 octets`},
	} {
		_, _, err := parseText(c.text, 0)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error quotes the file: %v", c.name, err)
		}
	}
	img, p, err := parseText(header+"\n"+good+"\nORG|x\n"+orgLine("c@b.test", "2")+"\n", 1)
	if err != nil || img.rows() != 2 || p.faults != 1 {
		t.Errorf("one fault allowed: %v, %+v", err, p)
	}
}

// writeExtraction writes rows as a file whose name tells the time at.
func writeExtraction(t *testing.T, file string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(header+"\n"+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestExtractionFeed(t *testing.T) {
	ctx := context.Background()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	file := filepath.Join(dir, "x.txt")
	cfg := Config{Extraction: &ExtractionConfig{File: file, MaxFaults: -1}, StateDir: filepath.Join(dir, "state"), MaxLoss: 0.4,
		Now: func() time.Time { return now }}
	d := open(t, cfg)
	q := Query{Address: "B@x.test", Kind: "ORG", Listing: "published"}
	if dec := d.Decide(ctx, q); dec.Answer != CannotTell || dec.Action != AcceptNote || dec.Note != "no image" {
		t.Fatalf("without an image: %+v", dec)
	}
	if err := d.Refresh(ctx); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("no file: %v", err)
	}
	set := func(at time.Time, lines ...string) {
		writeExtraction(t, file, lines...)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := orgLine("a@x.test", "1"), orgLine("b@x.test", "2"), orgLine("c@x.test", "3")
	set(now, a, b, c)
	if err := d.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if dec := d.Decide(ctx, q); dec.Answer != Known || dec.Action != Accept || dec.Source != "extraction" || dec.Generation != 1 {
		t.Fatalf("known: %+v", dec)
	}
	refused := func(name string, want error, text string) {
		t.Helper()
		err := d.Refresh(ctx)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %v with %q", name, err, want, text)
		}
		if dec := d.Decide(ctx, q); dec.Answer != Known || dec.Generation != 1 {
			t.Errorf("%s: the old image is gone: %+v", name, dec)
		}
		if st := d.Status().Feeds[0]; !strings.Contains(st.LastError, text) || st.Rows != 3 {
			t.Errorf("%s: status %+v", name, st)
		}
	}
	set(now.Add(time.Second), a)
	refused("too much lost", ErrLoss, "2 of 3")
	set(now.Add(2*time.Second), a, "ORG|broken", c)
	refused("faulty", ErrFormat, file+":3:")
	set(now.Add(3 * time.Second))
	refused("empty", ErrEmpty, "no row")
	set(now.Add(-time.Hour), a, b, c)
	refused("older", ErrOlder, "older")
	set(now.Add(4*time.Second), a, c)
	if err := d.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if dec := d.Decide(ctx, q); dec.Answer != Unknown || dec.Action != Refuse550 || dec.Live {
		t.Fatalf("gone: %+v", dec)
	}
	for _, k := range []string{"APP", "CAB"} {
		if dec := d.Decide(ctx, Query{Address: "z@x.test", Kind: k}); dec.Answer != CannotTell {
			t.Errorf("the extraction carries no %s: %+v", k, dec)
		}
	}
	// A restart has the image without reading the file; time passes.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	d = open(t, cfg)
	if dec := d.Decide(ctx, q); dec.Answer != Unknown || dec.Generation < 2 {
		t.Errorf("after a restart: %+v", dec)
	}
	now = now.Add(49 * time.Hour)
	if dec := d.Decide(ctx, q); dec.Answer != CannotTell || dec.Action != AcceptNote {
		t.Errorf("49 h old: %+v", dec)
	}
	if dec := d.Decide(ctx, Query{Address: "a@x.test", Kind: "ORG"}); dec.Answer != Known {
		t.Errorf("49 h old, known: %+v", dec)
	}
	now = now.Add(14 * 24 * time.Hour)
	if dec := d.Decide(ctx, Query{Address: "a@x.test", Kind: "ORG"}); dec.Answer != CannotTell || dec.Note != "the image is too old" {
		t.Errorf("16 days old: %+v", dec)
	}
}

func open(t testing.TB, cfg Config) *Directory {
	t.Helper()
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestExtractionZIP(t *testing.T) {
	dir := t.TempDir()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	w, err := z.Create("Extraction_Correspondance_MSSante_202611220413.txt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(header + "\n" + orgLine("a@x.test", "1") + "\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "x.zip")
	read := func(data []byte) (*Directory, error) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		d := open(t, Config{Extraction: &ExtractionConfig{File: file}})
		return d, d.Refresh(context.Background())
	}
	d, err := read(buf.Bytes())
	if err != nil || len(d.Lookup("A@x.test")) != 1 {
		t.Fatalf("got %v, %v", d.Lookup("A@x.test"), err)
	}
	if got := d.Status().Feeds[0].Generated; !got.Equal(time.Date(2026, 11, 22, 3, 13, 0, 0, time.UTC)) {
		t.Errorf("the time of the name is that of Paris: got %v", got)
	}
	if _, err := read(buf.Bytes()[:buf.Len()-30]); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), file) {
		t.Errorf("cut archive: %v", err)
	}
	damaged := bytes.Clone(buf.Bytes())
	damaged[buf.Len()/2-60] ^= 0xff
	if _, err := read(damaged); err == nil {
		t.Error("a damaged archive is read")
	}
}

func FuzzExtraction(f *testing.F) {
	f.Add([]byte(header + "\n" + orgLine("a@b.test", "1") + "\n"))
	f.Add([]byte("Adresse BAL|Type de BAL\nA@b.test|PER\n\xe9@b.test|ORG|\n"))
	f.Add([]byte(orgLine("A@É.test", "1")))
	f.Fuzz(func(t *testing.T, text []byte) {
		img, p, err := parseText(string(text), 3)
		if err != nil {
			return
		}
		if img.rows() > bytes.Count(text, []byte("\n"))+1 || p.faults > 3 {
			t.Fatalf("%d rows, %d faults", img.rows(), p.faults)
		}
		img.addresses(func(addr []byte) {
			if !img.has(string(addr)) {
				t.Fatalf("row %q is not found", addr)
			}
		})
	})
}
