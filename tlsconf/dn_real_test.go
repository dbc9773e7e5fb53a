package tlsconf

import (
	"encoding/xml"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// listedNames are the distinct DNCertificatOperateur texts of the real list.
func listedNames(t *testing.T) []string {
	t.Helper()
	var texts []string
	for dec := xml.NewDecoder(strings.NewReader(string(unxz(t, shared(t, "samples/listeblanchemssante-2025-02-28.xml.xz"))))); ; {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := tok.(xml.StartElement); ok && s.Name.Local == "DNCertificatOperateur" {
			var text string
			if err := dec.DecodeElement(&text, &s); err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

var startOfAttribute = regexp.MustCompile(`(?:^|, *)(CN|OU|O|ST|L|C)=`)

// certificateOf takes a listed name apart without ParseDN and gives the attributes of its certificate, in its order.
func certificateOf(t *testing.T, text string) (attrs []string) {
	t.Helper()
	at := startOfAttribute.FindAllStringSubmatchIndex(text, -1)
	for i := len(at) - 1; i >= 0; i-- {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		v := strings.TrimSpace(text[at[i][1]:end])
		if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' && strings.Count(v, `"`) == 2 {
			v = v[1 : len(v)-1]
		}
		attrs = append(attrs, text[at[i][2]:at[i][3]], v)
	}
	if len(attrs) != 10 {
		t.Fatalf("%q has %d attributes, want 5", text, len(attrs)/2)
	}
	return attrs
}

// Each name of the real list equals the subject of its certificate, in each way to print it; with one letter changed,
// one attribute less, one twice or one of another type it does not, nor does it equal any other name of the list.
func TestDNRealListEqualsCertificates(t *testing.T) {
	texts := listedNames(t)
	if len(texts) != 391 {
		t.Fatalf("%d names, want 391", len(texts))
	}
	for _, text := range texts {
		attrs := certificateOf(t, text)
		listed, err := ParseDN(text)
		if err != nil {
			t.Fatal(err)
		}
		cert := mustRaw(t, rawDN(t, attrs...))
		for _, p := range []string{text, cert.String(), strings.ToUpper(text), strings.ToLower(text), strings.ReplaceAll(text, ",", ", "), strings.ReplaceAll(text, " ", "  ")} {
			if dn, err := ParseDN(p); err != nil || !dn.Equal(cert) {
				t.Errorf("%q is not the subject %q: %v", p, cert, err)
			}
		}
		for i := 0; i < len(attrs); i += 2 {
			for what, other := range map[string][]string{
				"a letter more":        slices.Concat(attrs[:i+1], []string{attrs[i+1] + "x"}, attrs[i+2:]),
				"the last letter":      slices.Concat(attrs[:i+1], []string{attrs[i+1][:len(attrs[i+1])-1] + "#"}, attrs[i+2:]),
				"without":              slices.Concat(attrs[:i], attrs[i+2:]),
				"twice":                slices.Concat(attrs[:i+2], attrs[i:]),
				"as a title":           slices.Concat(attrs[:i], []string{"X"}, attrs[i+1:]),
				"before the others":    slices.Concat(attrs[i:i+2], attrs[:i], attrs[i+2:]),
				"with a blank between": slices.Concat(attrs[:i+1], []string{attrs[i+1][:1] + " " + attrs[i+1][1:]}, attrs[i+2:]),
			} {
				if what == "before the others" && i == 0 || what == "with a blank between" && (attrs[i+1][0] >= 0x80 || len(attrs[i+1]) > 1 && attrs[i+1][1] == ' ') {
					continue
				}
				if mustRaw(t, rawDN(t, other...)).Equal(listed) {
					t.Errorf("%q passes for %q (%s %s)", other, text, attrs[i], what)
				}
			}
		}
	}
}
