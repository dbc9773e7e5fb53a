package tlsconf

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// fataler is what testing and rapid have in common.
type fataler interface {
	Helper()
	Fatal(...any)
}

// rawDN makes the DER of a subject from types and values in certificate order.
func rawDN(t fataler, attrs ...string) []byte {
	t.Helper()
	arcs := map[string]int{"CN": 3, "C": 6, "L": 7, "ST": 8, "O": 10, "OU": 11}
	var seq pkix.RDNSequence
	for i := 0; i < len(attrs); i += 2 {
		typ := asn1.ObjectIdentifier{2, 5, 4, arcs[attrs[i]]}
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: typ, Value: attrs[i+1]}})
	}
	der, err := asn1.Marshal(seq)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func mustRaw(t fataler, der []byte) DN {
	t.Helper()
	dn, err := DNFromRaw(der)
	if err != nil {
		t.Fatal(err)
	}
	return dn
}

func TestDNPrintings(t *testing.T) {
	cert := mustRaw(t, rawDN(t, "C", "FR", "ST", "Puy-de-Dôme (63)", "O", "CH  DE   TEST", "OU", "1630000479", "CN", "mss.ch.test"))
	quotes := mustRaw(t, rawDN(t, "C", "FR", "O", `CENTRE "FRANCK" X`, "CN", "a"))
	comma := mustRaw(t, rawDN(t, "C", "FR", "O", `SANTE+, SUD; "A"`, "CN", "a"))
	for _, tt := range []struct {
		name, in string
		want     DN
		equal    bool
	}{
		{"as listed", "CN=mss.ch.test,OU=1630000479,O=CH  DE   TEST,ST=Puy-de-Dôme (63),C=FR", cert, true},
		{"blank after comma", "CN=mss.ch.test, OU=1630000479, O=CH  DE   TEST, ST=Puy-de-Dôme (63), C=FR", cert, true},
		{"outer quotes", `CN=mss.ch.test,OU=1630000479,O="CH  DE   TEST",ST=Puy-de-Dôme (63),C=FR`, cert, true},
		{"spaces folded", "CN=mss.ch.test,OU=1630000479,O=CH DE TEST,ST=Puy-de-Dôme (63),C=FR", cert, true},
		{"case", "cn=MSS.ch.test,ou=1630000479,o=Ch De Test,st=PUY-DE-DÔME (63),c=fr", cert, true},
		{"escapes", `CN=mss.ch.test,OU=1630000479,O=CH \20DE TEST,ST=Puy-de-D\C3\B4me (63),C=FR`, cert, true},
		{"hex", `CN=#0C0B6D73732E63682E74657374,OU=1630000479,O=CH DE TEST,ST=Puy-de-Dôme (63),C=FR`, cert, true},
		{"oid", `2.5.4.3=mss.ch.test,OID.2.5.4.11=1630000479,O=CH DE TEST,S=Puy-de-Dôme (63),C=FR`, cert, true},
		{"L for ST", "CN=mss.ch.test,OU=1630000479,O=CH DE TEST,L=Puy-de-Dôme (63),C=FR", cert, false},
		{"certificate order", "C=FR,ST=Puy-de-Dôme (63),O=CH DE TEST,OU=1630000479,CN=mss.ch.test", cert, false},
		{"no OU", "CN=mss.ch.test,O=CH DE TEST,ST=Puy-de-Dôme (63),C=FR", cert, false},
		{"other accent", "CN=mss.ch.test,OU=1630000479,O=CH DE TEST,ST=Puy-de-Dome (63),C=FR", cert, false},
		{"multi-valued", "CN=mss.ch.test+OU=1630000479,O=CH DE TEST,ST=Puy-de-Dôme (63),C=FR", cert, false},
		{"inner quotes", `CN=a,O=CENTRE "FRANCK" X,C=FR`, quotes, true},
		{"inner quotes lost", `CN=a,O=CENTRE FRANCK X,C=FR`, quotes, false},
		{"commas without escapes", `CN=a,O=SANTE+, SUD; "A",C=FR`, comma, true},
		{"commas escaped", `CN=a,O=SANTE\+\, SUD\; \"A\",C=FR`, comma, true},
		{"commas quoted", `CN=a,O="SANTE+, SUD; \"A\"",C=FR`, comma, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseDN(tt.in)
			if err != nil {
				t.Fatalf("ParseDN(%q): %v", tt.in, err)
			}
			if got.Equal(tt.want) != tt.equal {
				t.Errorf("ParseDN(%q) = %q, equal to %q should be %v", tt.in, got.Key(), tt.want.Key(), tt.equal)
			}
		})
	}
	a, _ := ParseDN("CN=a+OU=b,C=FR")
	b, _ := ParseDN("OU=b+CN=A,C=FR")
	if !a.Equal(b) {
		t.Errorf("order within one element counts: %q, %q", a.Key(), b.Key())
	}
}

func TestDNRefused(t *testing.T) {
	for _, in := range []string{
		"", " ", "CN", "CN=", "=a", "CN=a,", "CN=a,,C=FR,", "XX=a", "CN=a,OU=,C=FR", `CN=a\`, `CN=a\zz`, "CN=#zz", "CN=#0C05AB",
		"CN=\xff", `CN=\ff`, "CN=" + strings.Repeat("a", maxDNText), strings.Repeat("CN=a,", 100) + "C=FR", "1.02=a", "CN=a+",
	} {
		if dn, err := ParseDN(in); err == nil {
			t.Errorf("ParseDN(%.40q) = %q, expected an error", in, dn)
		}
	}
	for _, raw := range [][]byte{nil, {0x30}, {0x30, 2, 5, 0}, append(rawDN(t, "C", "FR"), 0)} {
		if dn, err := DNFromRaw(raw); err == nil && !dn.IsZero() {
			t.Errorf("DNFromRaw(%x) = %q, expected an error", raw, dn)
		}
	}
}

// attrValue draws values such as the list has: letters with and without accents, punctuation, runs of blanks inside.
func attrValue(t *rapid.T) string {
	s := rapid.StringMatching(`[A-Za-z0-9éôÈç][A-Za-z0-9 éôÈç.'()/&"-]{0,20}[A-Za-z0-9éôÈç)]`).Draw(t, "value")
	return s
}

// printDN prints attributes in list order in one of the ways met.
func printDN(t *rapid.T, attrs []string) string {
	var parts []string
	for i := len(attrs) - 2; i >= 0; i -= 2 {
		v := attrs[i+1]
		switch rapid.IntRange(0, 4).Draw(t, "style") {
		case 0:
			if !strings.Contains(v, `"`) {
				v = `"` + v + `"`
			}
		case 1:
			v = escapeValue(v)
		case 2:
			v = strings.Join(strings.Fields(v), " ")
		case 3:
			v = strings.ToUpper(v)
		}
		parts = append(parts, attrs[i]+"="+v)
	}
	return strings.Join(parts, rapid.SampledFrom([]string{",", ", ", ",  "}).Draw(t, "separator"))
}

// Any printing of a name that the list uses equals its certificate's subject; another value or type does not.
func TestDNPrintingProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := rapid.SampledFrom([][]string{{"C", "ST", "O", "OU", "CN"}, {"C", "L", "O", "OU", "CN"}, {"C", "O", "CN"}}).Draw(t, "types")
		var attrs []string
		for _, typ := range types {
			attrs = append(attrs, typ, attrValue(t))
		}
		cert := mustRaw(t, rawDN(t, attrs...))
		text := printDN(t, attrs)
		got, err := ParseDN(text)
		if err != nil {
			t.Fatalf("ParseDN(%q): %v", text, err)
		}
		if !got.Equal(cert) {
			t.Fatalf("ParseDN(%q) = %q, certificate has %q", text, got.Key(), cert.Key())
		}
		if again, err := ParseDN(got.String()); err != nil || !again.Equal(got) {
			t.Fatalf("String() = %q does not come back: %v", got.String(), err)
		}
		other := slices.Clone(attrs)
		i := 2 * rapid.IntRange(0, len(types)-1).Draw(t, "which")
		if rapid.Bool().Draw(t, "value or type") {
			other[i+1] = attrValue(t)
		} else {
			other[i] = map[string]string{"C": "ST", "ST": "L", "L": "ST", "O": "OU", "OU": "O", "CN": "OU"}[other[i]]
		}
		same := other[i] == attrs[i] && foldValue(other[i+1]) == foldValue(attrs[i+1])
		if mustRaw(t, rawDN(t, other...)).Equal(got) != same {
			t.Fatalf("%q and %q: equal should be %v", attrs, other, same)
		}
	})
}

func TestDNStringTypes(t *testing.T) {
	want, _ := ParseDN("CN=Hé")
	for name, value := range map[string][]byte{
		"UTF8String":      {12, 3, 'H', 0xc3, 0xa9},
		"T61String":       {20, 2, 'H', 0xe9},
		"BMPString":       {30, 4, 0, 'H', 0, 0xe9},
		"UniversalString": {28, 8, 0, 0, 0, 'H', 0, 0, 0, 0xe9},
	} {
		av := slices.Concat([]byte{6, 3, 0x55, 4, 3}, value)
		der := append([]byte{0x30, byte(len(av))}, av...)
		der = append([]byte{0x31, byte(len(der))}, der...)
		der = append([]byte{0x30, byte(len(der))}, der...)
		got, err := DNFromRaw(der)
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: %q, %v; want %q", name, got.Key(), err, want.Key())
		}
	}
}

// shared finds a file of the trust space's samples, outside the repository. It skips where they are not there, but not
// in continuous integration.
func shared(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir = filepath.Dir(dir); dir == "/" {
			t.Fatal("no go.mod above the test")
		}
	}
	path := filepath.Join(dir, "..", "shared", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing, and this is continuous integration", path)
		}
		t.Skipf("%s is not there", path)
	}
	return path
}

func unxz(t testing.TB, path string) []byte {
	t.Helper()
	out, err := exec.Command("xz", "-dc", path).Output()
	if err != nil {
		t.Fatalf("xz -dc (package xz-utils): %v", err)
	}
	return out
}

// Every DN of the real list parses, and the pairs known to be the same name compare so.
func TestDNRealList(t *testing.T) {
	doc := unxz(t, shared(t, "samples/listeblanchemssante-2025-02-28.xml.xz"))
	texts := make(map[string]bool)
	for dec := xml.NewDecoder(strings.NewReader(string(doc))); ; {
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
			texts[text] = true
		}
	}
	keys := make(map[string]bool)
	for text := range texts {
		dn, err := ParseDN(text)
		if err != nil {
			t.Errorf("ParseDN(%q): %v", text, err)
		}
		if n := strings.Count(dn.Key(), "\x01"); n != 5 {
			t.Errorf("ParseDN(%q) has %d attributes, want 5: %q", text, n, dn.Key())
		}
		keys[dn.Key()] = true
	}
	// 391 texts; eight of them are second printings: seven with quotes, one of which has a variant of its own.
	if len(texts) != 391 || len(keys) != 383 {
		t.Errorf("%d texts and %d names, want 391 and 383", len(texts), len(keys))
	}
}

func FuzzParseDN(f *testing.F) {
	for _, s := range []string{
		"CN=a,OU=b,O=c,ST=d (1),C=FR", `CN=a, O="B  C", C=FR`, `O=X "Y" Z`, `CN=\C3\A9+OU=#0C0161;C=FR`, "OID.1.2.3=#0401", `CN="a\"b"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		dn, err := ParseDN(s)
		if err != nil {
			return
		}
		again, err := ParseDN(dn.String())
		if err != nil && len(dn.String()) <= maxDNText {
			t.Fatalf("ParseDN(%q).String() = %q does not parse: %v", s, dn.String(), err)
		}
		if err == nil && !again.Equal(dn) {
			t.Fatalf("ParseDN(%q) has key %q, its String %q has %q", s, dn.Key(), dn.String(), again.Key())
		}
	})
}

func FuzzDNFromRaw(f *testing.F) {
	f.Add(rawDN(f, "C", "FR", "CN", "a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if dn, err := DNFromRaw(raw); err == nil && dn.IsZero() != (dn.String() == "") {
			t.Fatalf("key %q and text %q", dn.Key(), dn.String())
		}
	})
}
