package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// synthetic writes an extraction of n rows with addresses and domains as long as the real ones.
func synthetic(t testing.TB, n int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "synthetic.txt")
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := range n {
		fmt.Fprintf(&b, "PER|%s|8|%011d|8%011d|1|%09d||DR|NOM%d|PRENOM|C|Civil|10|Médecin|SM54|Médecine générale|O|CABINET DE VILLE||||12||RUE|DU PUITS||99101 VALCLAIR|99101|99|FRANCE\n",
			address(i), i, i, i%99999, i)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func address(i int) string { return fmt.Sprintf("prenom.nom%d@test-medecins%d.mssante.fr", i, i%5000) }

const published = 540_000 // rows of the real extraction, about

func BenchmarkLoad(b *testing.B) {
	file := synthetic(b, published)
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse)
	}
	before := heap()
	var d *Directory
	defer func() { b.ReportMetric((heap()-before)/1e6, "MB-heap"); runtime.KeepAlive(d) }()
	b.ResetTimer()
	for b.Loop() {
		d = open(b, Config{Extraction: &ExtractionConfig{File: file}, StateDir: b.TempDir()})
		if err := d.Refresh(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(d.Status().Feeds[0].Octets)/1e6, "MB-held")
	}
}

func BenchmarkLookup(b *testing.B) {
	d := open(b, Config{Extraction: &ExtractionConfig{File: synthetic(b, published)}})
	if err := d.Refresh(context.Background()); err != nil {
		b.Fatal(err)
	}
	img := d.feeds[0].image.Load()
	asked := make([]string, 1<<16)
	for i := range asked {
		asked[i] = address(i * 7919 % published)
	}
	for _, hit := range []bool{true, false} {
		b.Run(map[bool]string{true: "hit", false: "miss"}[hit], func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				a := asked[i&(len(asked)-1)]
				if !hit {
					a = a[1:]
				}
				if img.has(a) != hit {
					b.Fatal(a)
				}
				i++
			}
		})
	}
}

// BenchmarkOpen is what a start takes until the image is in force.
func BenchmarkOpen(b *testing.B) {
	cfg := Config{Extraction: &ExtractionConfig{File: synthetic(b, published)}, StateDir: b.TempDir()}
	if err := open(b, cfg).Refresh(context.Background()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !open(b, cfg).Status().Usable {
			b.Fatal("nothing was opened")
		}
	}
}

// BenchmarkDecide is the whole answer to a RCPT.
func BenchmarkDecide(b *testing.B) {
	d := open(b, Config{Extraction: &ExtractionConfig{File: synthetic(b, published)}})
	if err := d.Refresh(context.Background()); err != nil {
		b.Fatal(err)
	}
	asked := make([]string, 1<<16)
	for i := range asked {
		asked[i] = address(i * 7919 % published)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if dec := d.Decide(context.Background(), Query{Address: asked[i&(len(asked)-1)], Kind: "PER", Listing: "published"}); dec.Answer != Known {
			b.Fatal(dec)
		}
		i++
	}
}

// BenchmarkChange is what a live change costs in a full image.
func BenchmarkChange(b *testing.B) {
	now := time.Now()
	d, f := keyedFeed(b, b.TempDir(), &now)
	mustAdopt(b, d, f, whole(b, d, f, 0, published, "c", now))
	i := 0
	for b.Loop() {
		if err := d.change(f, []change{{key(i % published), []*record{rec(addr(i), "ORG", "1", "N")}}}, nil, now); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func TestImageIsCompact(t *testing.T) {
	const n = 20_000
	d := open(t, Config{Extraction: &ExtractionConfig{File: synthetic(t, n)}})
	if err := d.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	if got := d.Status().Feeds[0].Octets; got > 150_000_000/published*n {
		t.Errorf("%d rows take %d octets", n, got)
	}
	img := d.feeds[0].image.Load()
	for i := range n {
		if rows := img.appendEntries(nil, strings.ToUpper(address(i))); len(rows) != 1 || rows[0].PersonID != fmt.Sprintf("%011d", i) {
			t.Fatalf("row %d: %+v", i, rows)
		}
	}
	if n := testing.AllocsPerRun(100, func() { img.has("prenom.NOM7@test-medecins7.mssante.fr") }); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
	ctx := context.Background()
	for _, q := range []Query{
		{Address: "prenom.NOM7@test-medecins7.mssante.fr", Kind: "PER", Structure: "FINESS:000000007", Listing: "published"},
		{Address: "prenom.NOM7@test-medecins7.mssante.fr", Kind: "ORG", Listing: "published"},
		{Address: "nobody@test-medecins7.mssante.fr", Kind: "PER", Listing: "unlisted", Sender: Patient},
	} {
		if n := testing.AllocsPerRun(100, func() { d.Decide(ctx, q) }); n != 0 {
			t.Errorf("%+v: an answer allocates %v times", q, n)
		}
	}
}

func TestTooManyHolders(t *testing.T) {
	line := orgLine("a@x.test", "1") + "\n"
	if img, _, err := parseText(header+"\n"+strings.Repeat(line, maxHolders), 0); err != nil || img.rows() != maxHolders {
		t.Errorf("at the bound: %v", err)
	}
	if _, _, err := parseText(header+"\n"+strings.Repeat(line, maxHolders+1), 0); !errors.Is(err, ErrFormat) {
		t.Errorf("beyond the bound: %v", err)
	}
}
