package message

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestFold(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Été", "ete"}, {"ÉTÉ", "ete"}, {"E\u0301te\u0301", "ete"},
		{"Cœur, Œdème", "coeur, oedeme"}, {"Straße STRASSE", "strasse strasse"},
		{"l’ordonnance", "l'ordonnance"}, {"a \t\r\n b", "a b"}, {"a\u00a0b", "a b"},
		{"ﬁn", "fin"}, {"ΣΊΣΥΦΟΣ ς", "σισυφοσ σ"}, {"a\x00b\x1b", "ab"}, {"r\xe9sum\xe9", "resume"},
		{"vingt‑deux – trois", "vingt-deux - trois"}, {"İı", "ii"}, {"", ""},
	} {
		if got := string(Fold(nil, []byte(c.in))); got != c.want {
			t.Errorf("Fold(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// The short table must say what the Unicode tables say.
func TestLatinTable(t *testing.T) {
	for r := rune(0xc0); r < 0x180; r++ {
		got := string(Fold(nil, []byte(string(r))))
		var want []rune
		for _, x := range norm.NFKD.String(string(r)) {
			if !unicode.Is(unicode.Mn, x) {
				want = append(want, unicode.ToLower(x))
			}
		}
		if _, ok := spelt(r); !ok && latin[r-0xc0] != '.' && got != string(want) {
			t.Errorf("%c: %q, want %q", r, got, string(want))
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add([]byte("Été œuvre"), 2)
	f.Add([]byte("a \u00a8 b\xe9"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		got := Fold(nil, b)
		if !utf8.Valid(got) {
			t.Fatalf("not UTF-8: %q", got)
		}
		if again := Fold(nil, got); !bytes.Equal(again, got) {
			t.Fatalf("folded %q, folded again %q", got, again)
		}
		if cut < 0 || cut > len(b) || len(b) == 0 || b[0] <= ' ' {
			return
		}
		sink := &bounded{limit: 1 << 20}
		w := &folded{to: sink}
		w.write(b[:cut])
		w.write(b[cut:])
		w.piece(nil, true)
		if want := bytes.TrimLeft(got, " "); !bytes.Equal(sink.buf, want) {
			t.Fatalf("in pieces %q, whole %q", sink.buf, want)
		}
	})
}

func TestParseAddress(t *testing.T) {
	good := []string{"a@b", "274010100000000@patient.mssante.test", `"a b"@x.test`, `"a\"b@c"@x.test`,
		"a.b+c@x-y.test", "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", strings.Repeat("l", 64) + "@x.test"}
	for _, s := range good {
		if a, err := ParseAddress(s); err != nil || string(a) != s {
			t.Errorf("%q: %v", s, err)
		}
	}
	bad := []string{"", "a", "@x", "a@", "a@b@c", "a..b@x", ".a@x", "a.@x", "a b@x", "é@x.test", "a@é.test", "a@-x",
		"a@x-", "a@x..y", "a@[1.2.3]", "a@[2001:db8::1]", "a@[IPv6:1.2.3.4]", `"a"b"@x`, `"a\"@x`, "a@x.test\r\n",
		"<a@x>", "a\x00@x", strings.Repeat("l", 65) + "@x.test", "a@" + strings.Repeat("x", 64) + ".test",
		"a@" + strings.Repeat("x.", 130) + "x"}
	for _, s := range bad {
		if _, err := ParseAddress(s); err == nil {
			t.Errorf("%q was accepted", s)
		} else if len(s) > 3 && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats the address: %v", err)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@b", `"a b"@x.test`, "a@[IPv6:::1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if len(s) > 254 || len(a.Local()) > 64 || strings.ContainsAny(s, "\r\n\x00") || a.Local()+"@"+a.Domain() == "@" {
			t.Fatalf("accepted %q", s)
		}
		if _, err := ParseAddress(string(a.Lower())); err != nil {
			t.Fatalf("in lower case refused: %q", s)
		}
	})
}

// Whoever logs one of these by mistake must not give a person away.
func TestLogsHidePersons(t *testing.T) {
	m, text := scan(t, corpus(t)["testdata/patient-pdf"])
	a, err := ParseAddress("274010100000000@patient.mssante.test")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []func(*bytes.Buffer) slog.Handler{
		func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(h(&b)).Info("x", "address", a, "meta", m, "text", text, "attachment", m.Attachments[0])
		fmt.Fprintf(&b, "%s %v %q %#v %+v", a, a, a, a, a)
		out := b.String()
		for _, secret := range []string{"274010100000000", "rdonnance", "Jeanne", "jeanne"} {
			if strings.Contains(out, secret) {
				t.Errorf("the log shows %q:\n%s", secret, out)
			}
		}
		if !strings.Contains(out, "…@patient.mssante.test") {
			t.Errorf("the log does not show the domain:\n%s", out)
		}
	}
}

func TestPartByNumber(t *testing.T) {
	c := corpus(t)
	for _, x := range []struct {
		file string
		path []int
		want string // type/subtype, "" when there is none
	}{
		{"plain", nil, "text/plain"}, {"plain", []int{1}, "text/plain"}, {"plain", []int{2}, ""},
		{"plain", []int{1, 1}, ""}, {"patient-pdf", []int{2}, "application/pdf"}, {"patient-pdf", []int{2, 1}, ""},
		{"patient-pdf", []int{0}, ""}, {"rfc2049-complex", []int{3, 2}, "image/jpeg"},
		{"rfc2049-complex", []int{5}, "message/rfc822"}, {"rfc2049-complex", []int{5, 1}, "text/plain"},
		{"nested-rfc822", []int{1, 2}, "text/html"}, {"nested-rfc822", []int{1, 3}, ""},
		{"root-rfc822", []int{1}, "message/rfc822"}, {"root-rfc822", []int{1, 1}, "text/plain"},
		{"root-rfc822", []int{1, 1, 1}, ""}, {"no-children", []int{1}, "text/plain"},
	} {
		m, _ := scan(t, c["testdata/"+x.file])
		p, ok := m.Part(x.path)
		if got := ""; ok {
			if got = p.Type + "/" + p.Subtype; got != x.want {
				t.Errorf("%s %v: %s, want %s", x.file, x.path, got, x.want)
			}
		} else if x.want != "" {
			t.Errorf("%s %v: none, want %s", x.file, x.path, x.want)
		}
	}
}

func TestSelectFields(t *testing.T) {
	h := "From: a\r\nTO: b\r\n c\r\njunk\r\nSubject : d\r\n\r\n"
	for _, c := range []struct {
		names []string
		not   bool
		want  string
	}{
		{[]string{"to"}, false, "TO: b\r\n c\r\n\r\n"},
		{[]string{"subject", "FROM"}, false, "From: a\r\nSubject : d\r\n\r\n"},
		{[]string{"to", "from"}, true, "junk\r\nSubject : d\r\n\r\n"},
		{[]string{"none"}, false, "\r\n"},
	} {
		if got := string(SelectFields([]byte(h), c.names, c.not)); got != c.want {
			t.Errorf("%v not=%t: %q, want %q", c.names, c.not, got, c.want)
		}
	}
}

// The answer to SEARCH must not depend on the bound of Text.
func TestSearchBeyondTheBound(t *testing.T) {
	body := strings.Repeat("Une ligne de texte ordinaire, répétée.\r\n", 5000) + "et la fin: Pénicilline\r\n"
	msg := []byte("From: a@x.test\r\nX-Long: " + strings.Repeat("mot ", 8000) + "dernier\r\nSubject: Été indien\r\n\r\n" + body)
	_, text := scan(t, msg)
	if !text.HeaderCut || !text.BodyCut {
		t.Fatalf("cut: header %t, body %t", text.HeaderCut, text.BodyCut)
	}
	for _, c := range []struct {
		needle string
		place  Place
		field  string
		want   bool
	}{
		{"PENICILLINE", PlaceText, "", true}, {"pénicilline", PlaceBody, "", true}, {"absent", PlaceText, "", false},
		{"ete INDIEN", PlaceBody, "", false}, {"ete INDIEN", PlaceText, "", true}, {"ete INDIEN", PlaceField, "Subject", true},
		{"dernier", PlaceField, "X-LONG", true}, {"dernier", PlaceField, "subject", false}, {"", PlaceField, "X-Long", true},
		{"", PlaceField, "X-None", false}, {"", PlaceText, "", true}, {"", PlaceBody, "", true},
	} {
		needle := Fold(nil, []byte(c.needle))
		got, err := SearchBlob(bytes.NewReader(msg), needle, c.place, c.field)
		if err != nil || got != c.want {
			t.Errorf("%+v: %t, %v", c, got, err)
		}
		found, sure := text.Contains(needle)
		switch c.place {
		case PlaceBody:
			found, sure = text.BodyContains(needle)
		case PlaceField:
			found, sure = text.Field(c.field, needle)
		}
		if sure && found != c.want {
			t.Errorf("%+v: Text is sure of %t", c, found)
		}
	}
}

// The published e-prescription sample of the agency, in a message as a platform would send it.
func TestPublishedPrescription(t *testing.T) {
	root := ".."
	files, _ := filepath.Glob(filepath.Join(root, "..", "shared", "samples", "eP-MED-DM_*.xml"))
	if len(files) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("../shared/samples/eP-MED-DM_*.xml is missing")
		}
		t.Skip("../shared/samples/eP-MED-DM_*.xml is not there")
	}
	cda, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	msg := mailWith(cda, "text/xml", "ordonnance.xml")
	m, text := scan(t, msg)
	if len(m.Attachments) != 1 || m.Attachments[0].Name != "ordonnance.xml" || m.Faults != 0 {
		t.Fatalf("attachments %v, faults %s", m.Attachments, m.Faults)
	}
	p, ok := m.Part(m.Attachments[0].Part)
	if !ok {
		t.Fatal("the part of the attachment is not there")
	}
	got := decodeBase64(string(msg[p.Offset:p.End()]))
	if !bytes.Equal(got, cda) {
		t.Errorf("%d octets at the offsets, want the %d of the file", len(got), len(cda))
	}
	if found, sure := text.BodyContains([]byte("ordonnance.xml")); !found || !sure {
		t.Error("its name cannot be searched")
	}
	checkScan(t, msg)
}

func mailWith(file []byte, contentType, name string) []byte {
	var b bytes.Buffer
	b.WriteString("From: Jeanne <274010100000000@patient.mssante.test>\r\nTo: p@parc.mssante.test\r\n" +
		"Subject: Ordonnance\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\n" +
		"--=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nBonjour\r\n--=_b\r\nContent-Type: " + contentType +
		"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=" + name + "\r\n\r\n")
	s := base64.StdEncoding.EncodeToString(file)
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	b.WriteString(s + "\r\n--=_b--\r\n")
	return b.Bytes()
}

// Hostile shapes must cost memory within a bound that does not grow with them.
func TestHostileCost(t *testing.T) {
	nested := strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 3072)
	multi := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String()
	}
	const mb = 1 << 20
	for _, c := range []struct {
		name  string
		msg   string
		total uint64 // octets allocated in all
		fault Fault
	}{
		{"nested messages", nested, 4 * mb, FaultDepth},
		{"nested multiparts", multi(5000), 4 * mb, FaultDepth},
		{"empty parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n\r\n", 100000), 12 * mb, FaultParts},
		{"long header", "X: " + strings.Repeat("a", 400<<10) + "\r\n\r\nx", 2 * mb, FaultHeaderLong},
		{"many fields", strings.Repeat("a:b\r\n", 80<<10) + "\r\nx", 24 * mb, FaultHeaderLong},
		{"one long line", "\r\n" + strings.Repeat("x", 10<<20), mb, 0},
		{"one long line among parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("-", 10<<20), mb, FaultUnclosed},
		{"addresses", "To: " + strings.Repeat("a,", 60<<10) + "\r\n\r\n", 32 * mb, FaultStructureLong},
		{"open comments", "To: " + strings.Repeat("(", 120<<10) + "\r\nContent-Type: text/plain" + strings.Repeat(";(", 1<<10) + "\r\n\r\n", 2 * mb, 0},
		{"open comments in a type", "Content-Type: text/plain" + strings.Repeat(";(", 60<<10) + "\r\n\r\n", 2 * mb, FaultParameter},
		{"parameters", "Content-Type: text/plain" + strings.Repeat(";a*0=b;c", 15<<10) + "\r\n\r\n", 4 * mb, FaultParameter},
		{"encoded words", "Subject: " + strings.Repeat("=?a?Q?", 20<<10) + "\r\n\r\n", 8 * mb, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, text, err := Scan(strings.NewReader(c.msg))
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > c.total {
				t.Errorf("%d octets allocated for %d, want at most %d", n, len(c.msg), c.total)
			}
			if m.Faults&c.fault != c.fault {
				t.Errorf("faults %q, want %q", m.Faults, c.fault)
			}
			checkCodec(t, m, text)
			checkPart(t, m.Root, 0, m.Size, []byte(c.msg))
		})
	}
}

func FuzzParseMeta(f *testing.F) {
	for _, b := range corpus(f) {
		m, text := scan(f, b)
		mb, _ := m.AppendBinary(nil)
		tb, _ := text.AppendBinary(nil)
		f.Add(mb)
		f.Add(tb)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseMeta(b); err == nil {
			again, err := m.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseMeta(again); err != nil {
				t.Fatalf("written again it cannot be read: %v", err)
			}
			for _, a := range m.Attachments {
				m.Part(a.Part)
			}
		}
		ParseText(b)
	})
}

func benchmarkScan(b *testing.B, msg []byte) {
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		s := NewScanner()
		for p := msg; len(p) > 0; {
			n := min(len(p), 32<<10)
			s.Write(p[:n])
			p = p[n:]
		}
		s.Finish()
	}
}

func BenchmarkScan5KB(b *testing.B) {
	benchmarkScan(b, []byte("From: Jeanne <a@patient.mssante.test>\r\nTo: p@parc.mssante.test\r\nSubject: Ordonnance\r\n"+
		"Date: Sun, 22 Nov 2026 10:15:30 +0100\r\nMessage-ID: <1@x.test>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"+
		strings.Repeat("Une ligne de texte ordinaire, avec des accents répétés.\r\n", 84)))
}

func BenchmarkScan200KB(b *testing.B) {
	file := make([]byte, 200<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range file {
		file[i] = byte(r.Uint32())
	}
	benchmarkScan(b, mailWith(file, "application/pdf", "o.pdf"))
}
