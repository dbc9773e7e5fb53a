package directory

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewChange(t *testing.T) {
	for _, c := range []struct{ person, structure, want string }{
		{"", "", "|||"},
		{"", "990000119", "||1|990000119"},
		{"", "FINESS:990000119", "||1|990000119"},
		{"", "finess: 990000119", "||1|990000119"},
		{"", "12345678901234", "||3|12345678901234"},
		{"", "SIRET:12345678901234", "||3|12345678901234"},
		{"", "SIREN:123456789", "||2|123456789"},
		{"", "INTERNE:7", "|||INTERNE:7"},
		{"", "FINESS:99|AJOUT", "||1|99 AJOUT"},
		{"rpps:99900000052", "", "8|99900000052||"},
		{"adeli:99a123456", "990000119", "0|99A123456|1|990000119"},
		{"local:anne", "", "|||"},
		{"cert:CN=x.example", "", "|||"},
	} {
		got := NewChange("ORG", "a@b.test", c.person, c.structure)
		if got.Entry() != c.want || got.Kind != "ORG" || got.Address != "a@b.test" || got.Remove {
			t.Errorf("%q, %q: %+v, want %s", c.person, c.structure, got, c.want)
		}
		if again := NewChange("ORG", "a@b.test", "rpps:1", "1").WithEntry(got.Entry()); again != got {
			t.Errorf("with entry %q: %+v, want %+v", got.Entry(), again, got)
		}
	}
}

// What is written is read back, and is an extraction to who reads those.
func TestManualExport(t *testing.T) {
	at := time.Date(2026, 11, 23, 14, 5, 0, 0, time.UTC)
	gone := NewChange("ORG", "old@b.test", "", "990000119")
	gone.Remove = true
	list := []Change{NewChange("PER", "anne@b.test", "rpps:99900000052", ""), gone, NewChange("ORG", "new@b.test", "", "990000127")}
	var file bytes.Buffer
	var to Publisher = NewManualExport(&file, at)
	for _, c := range list {
		if err := to.Publish(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Done(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(file.String(), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "Type de BAL|Adresse BAL|Type Identifiant PP|") || !strings.HasSuffix(lines[0], "|Pays structure BAL|Opération|Date export") ||
		!strings.HasPrefix(lines[1], "PER|anne@b.test|8|99900000052|899900000052|||") || !strings.HasSuffix(lines[1], "|ajout|2026-11-23T14:05:00Z") ||
		!strings.HasPrefix(lines[2], "ORG|old@b.test||||1|990000119|") || !strings.HasSuffix(lines[2], "|suppression|2026-11-23T14:05:00Z") {
		t.Errorf("the file:\n%s", file.String())
	}
	for _, text := range []string{file.String(), "\ufeff" + strings.ReplaceAll(file.String(), "\n", "\r\n")} {
		var got []Change
		if err := ReadExport(strings.NewReader(text), func(line int, when time.Time, c Change) error {
			if !when.Equal(at) || line != len(got)+2 {
				t.Errorf("line %d of %v", line, when)
			}
			got = append(got, c)
			return nil
		}); err != nil || !slices.Equal(got, list) {
			t.Errorf("read %+v, %v", got, err)
		}
	}
	img, p, err := parseText(file.String(), 0)
	if err != nil || p.faults != 0 || img.rows() != 3 {
		t.Errorf("as an extraction: %v, %v", p, err)
	}
	good := strings.SplitAfter(file.String(), "\n")
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", "is empty"},
		"another file":  {"bal,kind\na@b.test,ORG\n", "line 1: these are not the columns"},
		"cut":           {good[0] + good[1][:len(good[1])/2], "line 2: "},
		"no act":        {good[0] + strings.Replace(good[1], "|ajout|", "|peut-être|", 1), `line 2: column "Opération": "peut-être"; expected ajout or suppression`},
		"no moment":     {good[0] + strings.Replace(good[1], "|2026-", "|2026+", 1), `line 2: column "Date export"`},
		"a long line":   {good[0] + strings.Repeat("x", maxLine+1), "after line 1: "},
		"one too many":  {good[0] + strings.TrimSuffix(good[1], "\n") + "|x\n", "line 2: 34 columns; expected 33"},
		"another order": {strings.Replace(good[0], "Type de BAL|Adresse BAL", "Adresse BAL|Type de BAL", 1), "line 1: "},
	} {
		err := ReadExport(strings.NewReader(c.text), func(int, time.Time, Change) error { return nil })
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
