package whitelist

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"mssd/tlsconf"
	"mssd/tlsconf/testpki"
)

// space is a trust space for tests: authority and signer of lists.
type space struct {
	pki    *testpki.PKI
	signer *testpki.Identity
}

// theSpace is made once: RSA keys are slow to make.
var theSpace = sync.OnceValues(func() (*space, error) {
	pki, err := testpki.New()
	if err != nil {
		return nil, err
	}
	signer, err := pki.Signer("alb.test", "alb@mssante.test")
	return &space{pki, signer}, err
})

func newSpace(t testing.TB) *space {
	t.Helper()
	s, err := theSpace()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *space) options() Options {
	return Options{
		Anchors:     tlsconf.NewAnchors(s.pki.Root.Cert, s.pki.Issuing.Cert),
		SignerNames: []string{"alb.old.test", "ALB@mssante.test"},
	}
}

var rows = []Binding{
	{"pharmacie.test", "CN=smtp.test,OU=300000000000001,O=OPERATEUR TEST,ST=Paris (75),C=FR", ""},
	{"a.pharmacie.test", `CN=smtp.test, OU=300000000000001, O="OPERATEUR  TEST", ST=Paris (75), C=FR`, "Été & <cie>"},
	{"pharmacie.test", "CN=second.test,OU=300000000000002,O=AUTRE,ST=Puy-de-Dôme (63),C=FR", ""},
	{"pharmacie.test", "CN=SMTP.test,OU=300000000000001,O=OPERATEUR TEST,ST=Paris (75),C=FR", "the same again"},
}

// made is recent, and within the signer's validity.
func made() time.Time { return time.Now().UTC().Add(-time.Minute).Truncate(time.Second) }

func (s *space) list(t testing.TB, rows []Binding, at time.Time) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Make(&b, rows, s.signer.Cert, s.signer.Key, at); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dn(t testing.TB, text string) tlsconf.DN {
	t.Helper()
	d, err := tlsconf.ParseDN(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMakeAndLoad(t *testing.T) {
	s := newSpace(t)
	at := made()
	l, err := Load(s.list(t, rows, at), s.options())
	if err != nil {
		t.Fatal(err)
	}
	if l.Rows() != 4 || l.Domains() != 2 || l.DNs() != 4 || !l.Generated().Equal(at) || !l.Signer().Equal(s.signer.Cert) || !l.ChainChecked() {
		t.Errorf("rows %d, domains %d, DNs %d, generated %v, signer %v", l.Rows(), l.Domains(), l.DNs(), l.Generated(), l.Signer().Subject)
	}
	first, second := dn(t, rows[0].DN), dn(t, rows[2].DN)
	for _, tt := range []struct {
		domain string
		dn     tlsconf.DN
		want   bool
	}{
		{"pharmacie.test", first, true}, {"PHARMACIE.test", first, true}, {"pharmacie.test", second, true},
		{"a.pharmacie.test", first, true}, {"a.pharmacie.test", second, false}, {"b.pharmacie.test", first, false},
		{"test", first, false}, {"", first, false}, {"pharmacie.test", tlsconf.DN{}, false},
		{"pharmacie.test", dn(t, "CN=smtp.test,OU=300000000000001,O=OPERATEUR TEST,L=Paris (75),C=FR"), false},
	} {
		if got := l.Bound(tt.domain, tt.dn); got != tt.want {
			t.Errorf("Bound(%q, %q) = %v, want %v", tt.domain, tt.dn, got, tt.want)
		}
	}
	if !l.KnowsDN(second) || l.KnowsDN(dn(t, "CN=x")) || l.KnowsDN(tlsconf.DN{}) {
		t.Error("KnowsDN is wrong")
	}
	if !l.Listed("pharmacie.test") || l.Listed("other.test") {
		t.Error("Listed is wrong")
	}
}

// One octet changed anywhere is refused: every octet of a small list, three changes each.
func TestEveryOctetCounts(t *testing.T) {
	s := newSpace(t)
	good := s.list(t, rows[:2], made())
	opt := s.options()
	if _, err := Load(good, opt); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, c := range []byte{good[i] ^ 1, good[i] ^ 0x20, other(good[i])} {
			bad := bytes.Clone(good)
			bad[i] = c
			if _, err := Load(bad, opt); err == nil {
				t.Errorf("octet %d of %d changed from %q to %q: accepted\n%s", i, len(good), good[i], c, around(good, i))
			}
		}
	}
}

// other gives a change that XML may take for nothing: one white space for another.
func other(c byte) byte {
	switch c {
	case '\n':
		return '\r'
	case ' ':
		return '\t'
	case '"':
		return '\''
	}
	return '\n'
}

func around(b []byte, i int) string { return string(b[max(0, i-30):min(len(b), i+30)]) }

func TestRefusedForms(t *testing.T) {
	s := newSpace(t)
	good := string(s.list(t, rows, made()))
	sig := good[strings.Index(good, "<Signature"):strings.Index(good, "</ListeBlancheMSSante>")]
	body := strings.TrimPrefix(strings.Replace(good, sig, "", 1), declarations[0])
	replace := func(old, repl string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the list", old)
		}
		return strings.Replace(good, old, repl, 1)
	}
	for name, doc := range map[string]string{
		"empty":               "",
		"no signature":        declarations[0] + body,
		"cut off":             good[:len(good)-1],
		"two roots":           good + body,
		"second signature":    replace("</ListeBlancheMSSante>", sig+"</ListeBlancheMSSante>"),
		"signature first":     strings.Replace(replace(sig, ""), "\n    <DateDeGeneration>", sig+"\n    <DateDeGeneration>", 1),
		"signature deeper":    strings.Replace(replace(sig, ""), "    </ListeDomaines>", sig+"    </ListeDomaines>", 1),
		"wrapped":             declarations[0] + "<Wrap>" + strings.TrimPrefix(good, declarations[0]) + "</Wrap>",
		"other root inside":   replace("<DateDeGeneration>", body+"<DateDeGeneration>"),
		"rows after":          replace(sig, sig+"<Domaine></Domaine>"),
		"reference not empty": replace(`URI=""`, `URI="#x"`),
		"no reference URI":    replace(` URI=""`, ``),
		"extra transform":     replace("</Transforms>", `<Transform Algorithm="`+algC14N+`"/></Transforms>`),
		"xpath transform":     replace(algEnveloped, "http://www.w3.org/TR/1999/REC-xpath-19991116"),
		"one transform less":  replace(`<Transform Algorithm="`+algC14N+`"/>`, ""),
		"inclusive c14n":      replace(`<CanonicalizationMethod Algorithm="`+algC14N, `<CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315`),
		"rsa-sha1":            replace(algRSASHA256, "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
		"hmac":                replace(algRSASHA256, "http://www.w3.org/2000/09/xmldsig#hmac-sha1"),
		"sha1 digest":         replace(algSHA256, "http://www.w3.org/2000/09/xmldsig#sha1"),
		"second reference":    replace("</Reference>", `</Reference><Reference URI=""></Reference>`),
		"object":              replace("</Signature>", "<Object></Object></Signature>"),
		"id attribute":        replace("<DateDeGeneration>", `<DateDeGeneration Id="x">`),
		"signature with id":   replace(`<Signature xmlns`, `<Signature Id="x" xmlns`),
		"prefix":              replace("<DateDeGeneration>", "<x:DateDeGeneration>"),
		"namespace again":     replace("<ListeDomaines>", `<ListeDomaines xmlns="`+listNS+`">`),
		"single quotes":       replace(`xmlns="`+listNS+`"`, `xmlns='`+listNS+`'`),
		"comment":             replace("<Nom>", "<!-- --><Nom>"),
		"comment in text":     replace("pharmacie.test</Nom>", "pharmacie<!-- -->.test</Nom>"),
		"cdata":               replace("<Nom>", "<![CDATA[]]><Nom>"),
		"instruction":         replace("<Nom>", "<?x y?><Nom>"),
		"document type":       replace("<ListeBlancheMSSante", `<!DOCTYPE x [<!ENTITY a "b">]><ListeBlancheMSSante`),
		"entity":              replace("pharmacie.test", "pharmacie&a;.test"),
		"character reference": replace("pharmacie.test", "pharmacie&#46;test"),
		"raw CR":              replace("&#13;\n", "\r\n"),
		"blank in base64":     replace("<SignatureValue>", "<SignatureValue> "),
		"blank in KeyInfo":    replace("<KeyInfo>", "<KeyInfo>\n"),
		"byte order mark":     "\xef\xbb\xbf" + good,
		"latin-1":             replace("UTF-8", "ISO-8859-1"),
		"UTF-16":              "\xff\xfe<\x00",
		"text after":          good + "x",
		"not UTF-8":           replace("pharmacie.test", "pharmacie\xff.test"),
		"deep":                declarations[0] + `<ListeBlancheMSSante xmlns="` + listNS + `">` + strings.Repeat("<a>", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			if l, err := Load([]byte(doc), s.options()); err == nil {
				t.Errorf("accepted, with %d rows", l.Rows())
			}
		})
	}
	if _, err := Load(make([]byte, MaxSize+1), s.options()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

// resign signs a body of the caller's with the space's signer, so that only what is said in it is wrong.
func (s *space) resign(t testing.TB, body string) []byte {
	t.Helper()
	digest := sha256.Sum256(canonicalBody(body))
	info := signedInfoXML(digest)
	hash := sha256.Sum256([]byte(expandEmpty(strings.Replace(info, "<SignedInfo>", `<SignedInfo xmlns="`+dsigNS+`">`, 1))))
	value, err := rsa.SignPKCS1v15(nil, s.signer.Key.(*rsa.PrivateKey), 5, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return []byte(declarations[0] + body + `<Signature xmlns="` + dsigNS + `">` + info + "<SignatureValue>" + base64Lines(value) +
		"</SignatureValue><KeyInfo><X509Data><X509Certificate>" + base64Lines(s.signer.Cert.Raw) +
		"</X509Certificate></X509Data></KeyInfo></Signature></ListeBlancheMSSante>")
}

// Signed well, but not a list: the error says where and what was expected.
func TestSignedButWrong(t *testing.T) {
	s := newSpace(t)
	good, err := makeBody(rows, made())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, repl, want string }{
		{"no date", "<DateMAJ>", "<Autre>", "line 10"},
		{"order of fields", "<Nom>", "<Description>", "row 1: line 5: expected <Nom>"},
		{"bad generation date", "DateDeGeneration>2", "DateDeGeneration>x2", "DateDeGeneration as"},
		{"bad DateMAJ", "<DateMAJ>2", "<DateMAJ>x2", "row 1: line 10: expected DateMAJ as"},
		{"field inside a field", "<Nom>", "<Nom><b></b>", "text only in Nom"},
		{"text between", "<Domaine>", "x<Domaine>", "an element, not text"},
		{"unknown element", "    </ListeDomaines>", "<Autre></Autre></ListeDomaines>", "expected <Domaine>"},
		{"element after the rows", "</ListeDomaines>", "</ListeDomaines><Autre></Autre>", "after ListeDomaines"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := strings.Replace(good, tt.old, tt.repl, 1)
			body = strings.Replace(body, strings.Replace(tt.old, "<", "</", 1), strings.Replace(tt.repl, "<", "</", 1), btoi(strings.HasPrefix(tt.repl, "<Autre>") || tt.repl == "<Description>"))
			_, err := Load(s.resign(t, body), s.options())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	// A row that cannot be read binds nothing and makes its domain doubtful; the others stand.
	body := strings.Replace(good, ">CN=second", ">XX=second", 1)
	body = strings.Replace(body, "<Nom>a.pharm", "<Nom>é.pharm", 1)
	l, err := Load(s.resign(t, body), s.options())
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Faults()) != 2 || !l.Doubtful("pharmacie.test") || !l.Bound("pharmacie.test", dn(t, rows[0].DN)) || l.Listed("a.pharmacie.test") {
		t.Errorf("faults %v, doubtful %v", l.Faults(), l.Doubtful("pharmacie.test"))
	}
	// A date ahead of our clock would shut out every later list.
	future, _ := makeBody(rows, time.Now().Add(72*time.Hour))
	if _, err := Load(s.resign(t, future), s.options()); err == nil {
		t.Error("list of the day after tomorrow: accepted")
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestSigner(t *testing.T) {
	s := newSpace(t)
	issue := func(r testpki.Request) *testpki.Identity {
		r.Key = testpki.RSA2048
		id, err := s.pki.Issuing.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	named := testpki.Subject{C: "FR", CN: "alb.old.test"}
	year := 365 * 24 * time.Hour
	past := time.Now().Add(-2 * year)
	expired := issue(testpki.Request{Subject: named, NotBefore: past.Add(-year), NotAfter: past.Add(year)})
	foreign, err := testpki.SelfSigned(testpki.Request{Subject: named, Key: testpki.RSA2048})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		id    *testpki.Identity
		at    time.Time
		alter func(*Options)
		want  error // nil: accepted
	}{
		{"by mail address", s.signer, made(), nil, nil},
		{"by common name, expired since", expired, past, nil, nil},
		{"expired then", expired, made(), nil, ErrSigner},
		{"before its time", expired, past.Add(-2 * year), nil, ErrSigner},
		{"foreign", foreign, made(), nil, ErrSigner},
		{"other name", issue(testpki.Request{Subject: testpki.Subject{CN: "x.test"}}), made(), nil, ErrSigner},
		{"wrong key usage", issue(testpki.Request{Subject: named, KeyUsage: x509.KeyUsageKeyEncipherment}), made(), nil, ErrSigner},
		{"no names configured", s.signer, made(), func(o *Options) { o.SignerNames = nil }, ErrSigner},
		{"empty name configured", issue(testpki.Request{Subject: testpki.Subject{C: "FR"}}), made(), func(o *Options) { o.SignerNames = []string{""} }, ErrSigner},
		{"no anchors", s.signer, made(), func(o *Options) { o.Anchors = nil }, ErrNoAnchors},
		{"no chain wanted", foreign, made(), func(o *Options) { *o = Options{NoChain: true} }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Make(&b, rows, tt.id.Cert, tt.id.Key, tt.at); err != nil {
				t.Fatal(err)
			}
			opt := s.options()
			if tt.alter != nil {
				tt.alter(&opt)
			}
			if _, err := Load(b.Bytes(), opt); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestSignerRevokedNow(t *testing.T) {
	s := newSpace(t)
	dir := t.TempDir()
	doc := s.list(t, rows, made())
	for _, revoked := range []bool{false, true} {
		var serials []*big.Int
		if revoked {
			serials = append(serials, s.signer.Cert.SerialNumber)
		}
		crl, err := s.pki.Issuing.CRL(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), serials...)
		if err != nil {
			t.Fatal(err)
		}
		anchors, list := filepath.Join(dir, "anchors.pem"), filepath.Join(dir, "list.crl")
		if err := errors.Join(s.pki.WriteAnchors(anchors), os.WriteFile(list, crl, 0o600)); err != nil {
			t.Fatal(err)
		}
		opt := s.options()
		if opt.Judge, err = tlsconf.NewJudge(tlsconf.JudgeConfig{AnchorFiles: []string{anchors}, CRLFiles: []string{list}}); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(doc, opt); errors.Is(err, ErrSigner) != revoked {
			t.Errorf("revoked %v: %v", revoked, err)
		}
	}
}

func TestMakeRefuses(t *testing.T) {
	s := newSpace(t)
	ec, err := s.pki.Server("x.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"EC key":      func() error { return Make(&bytes.Buffer{}, rows, ec.Cert, ec.Key, made()) },
		"other's key": func() error { return Make(&bytes.Buffer{}, rows, ec.Cert, s.signer.Key, made()) },
		"bad domain": func() error {
			return Make(&bytes.Buffer{}, []Binding{{"A b", "CN=x", ""}}, s.signer.Cert, s.signer.Key, made())
		},
		"bad DN": func() error {
			return Make(&bytes.Buffer{}, []Binding{{"a.test", "x", ""}}, s.signer.Cert, s.signer.Key, made())
		},
		"control character": func() error {
			return Make(&bytes.Buffer{}, []Binding{{"a.test", "CN=x", "\x01"}}, s.signer.Cert, s.signer.Key, made())
		},
	} {
		if do() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// An independent verifier agrees with ours, on good lists and on altered ones.
func TestAgainstGoXMLDSig(t *testing.T) {
	s := newSpace(t)
	good := s.list(t, rows, made())
	theirs := func(doc []byte) error {
		d := etree.NewDocument()
		if err := d.ReadFromBytes(doc); err != nil {
			return err
		}
		store := &dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{s.signer.Cert}}
		_, err := dsig.NewDefaultValidationContext(store).Validate(d.Root())
		return err
	}
	if err := theirs(good); err != nil {
		t.Fatalf("goxmldsig refuses our list: %v", err)
	}
	for _, at := range []string{"pharmacie.test</Nom>", "CN=second", "Paris", "<DigestValue>", "<SignatureValue>"} {
		bad := bytes.Clone(good)
		i := bytes.Index(bad, []byte(at))
		if strings.HasPrefix(at, "<") {
			i += len(at)
		}
		if bad[i]++; bad[i] > 'Z' && bad[i] < 'a' {
			bad[i] = 'a'
		}
		if theirs(bad) == nil {
			t.Errorf("goxmldsig accepts a change at %q", at)
		}
		if _, err := Load(bad, s.options()); err == nil {
			t.Errorf("we accept a change at %q", at)
		}
	}
}

// realList gives the real signed list, which stands outside the repository.
func realList(t testing.TB) []byte {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, "..", "shared", "samples", "listeblanchemssante-2025-02-28.xml.xz")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing, and this is continuous integration", path)
		}
		t.Skipf("%s is not there", path)
	}
	out, err := exec.Command("xz", "-dc", path).Output()
	if err != nil {
		t.Fatalf("xz -dc (package xz-utils): %v", err)
	}
	return out
}

func TestRealList(t *testing.T) {
	doc := realList(t)
	l, err := Load(doc, Options{NoChain: true})
	if err != nil {
		t.Fatal(err)
	}
	if l.Rows() != 6494 || l.Domains() != 4944 || l.DNs() != 391 || len(l.Faults()) != 0 || l.ChainChecked() {
		t.Errorf("rows %d, domains %d, DNs %d, faults %v", l.Rows(), l.Domains(), l.DNs(), l.Faults())
	}
	if got := l.Generated().Format(time.RFC3339); got != "2025-02-28T15:42:07Z" {
		t.Errorf("generated %s", got)
	}
	if cn := l.Signer().Subject.CommonName; cn != "alb.mssante.fr" {
		t.Errorf("signer %s", cn)
	}
	cnam := dn(t, "CN=smtps1.ens.atos-infogerance.fr,OU=318003502400041,O=CNAM,ST=Paris (75),C=FR")
	if !l.Bound("patient.mssante.fr", cnam) || l.Bound("medecin.mssante.fr", cnam) {
		t.Error("the patient platform is not bound as it should be")
	}
	// Without its authority's certificate the chain cannot be checked: it is refused unless that is waived.
	s := newSpace(t)
	if _, err := Load(doc, Options{Anchors: s.options().Anchors, SignerNames: []string{"alb.mssante.fr"}}); !errors.Is(err, ErrSigner) {
		t.Errorf("under foreign anchors: %v", err)
	}
}

// One octet changed in the real list is refused. The signer's certificate is covered by its authority's signature only,
// which is not at hand here: within it a change must at least not pass for the same signer (TestEveryOctetCounts has
// the chain).
func TestRealListChanged(t *testing.T) {
	doc := realList(t)
	from := bytes.Index(doc, []byte("<Signature "))
	cert := bytes.Index(doc, []byte("<X509Certificate>"))
	signer := mustLoad(t, doc).Signer()
	// A load costs 45 ms, ten times that with the race detector, so places are drawn: in the rows, at the edges, in the
	// part that is signed by form only, and in the certificate.
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	places := []int{0, 30, 37, 38, from - 1, from, cert - 1, cert, len(doc) - 1}
	for range 10 {
		places = append(places, rng.IntN(from), from+rng.IntN(cert-from), cert+rng.IntN(len(doc)-cert))
	}
	for _, i := range places {
		bad := bytes.Clone(doc)
		if bad[i] ^= 1; i%2 == 0 {
			bad[i] = other(doc[i])
		}
		l, err := Load(bad, Options{NoChain: true})
		if err == nil && (i < cert || l.Signer().Equal(signer)) {
			t.Fatalf("octet %d changed from %q to %q: accepted\n%s", i, doc[i], bad[i], around(doc, i))
		}
	}
}

func mustLoad(t testing.TB, doc []byte) *List {
	t.Helper()
	l, err := Load(doc, Options{NoChain: true})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func BenchmarkLoadRealList(b *testing.B) {
	doc := realList(b)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		mustLoad(b, doc)
	}
}

func BenchmarkBound(b *testing.B) {
	l := mustLoad(b, realList(b))
	d := dn(b, "CN=smtps2.ens.atos-infogerance.fr,OU=318003502400041,O=CNAM,ST=Paris (75),C=FR")
	b.ReportAllocs()
	for b.Loop() {
		if !l.Bound("patient.mssante.fr", d) {
			b.Fatal("not bound")
		}
	}
}

func TestBoundDoesNotAllocate(t *testing.T) {
	s := newSpace(t)
	l, err := Load(s.list(t, rows, made()), s.options())
	if err != nil {
		t.Fatal(err)
	}
	d := dn(t, rows[2].DN)
	if n := testing.AllocsPerRun(100, func() { l.Bound("pharmacie.test", d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzLoad(f *testing.F) {
	s := newSpace(f)
	f.Add(s.list(f, rows, made()))
	f.Add([]byte(declarations[0] + `<ListeBlancheMSSante xmlns="` + listNS + `"><DateDeGeneration>`))
	f.Add([]byte(fmt.Sprintf(`<a b="c">%s<x/></a>`, "&amp;&#13;")))
	opt := s.options()
	f.Fuzz(func(t *testing.T, doc []byte) {
		// A list with the chain checked can only be one of ours.
		if l, err := Load(doc, opt); err == nil && !l.Signer().Equal(s.signer.Cert) {
			t.Fatalf("accepted from %s", l.Signer().Subject)
		}
	})
}

// FuzzSigned signs whatever body comes, so that the reader of rows is reached.
func FuzzSigned(f *testing.F) {
	s := newSpace(f)
	body, err := makeBody(rows, made())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	opt := s.options()
	f.Fuzz(func(t *testing.T, body string) {
		l, err := Load(s.resign(t, body), opt)
		if err == nil && (l.Generated().IsZero() || l.Domains() > l.Rows()) {
			t.Fatalf("accepted with %d rows, made on %v", l.Rows(), l.Generated())
		}
	})
}
