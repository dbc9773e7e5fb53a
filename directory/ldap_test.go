package directory_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mssd/directory"
	"mssd/directory/slapdtest"
	"mssd/tlsconf/testpki"
)

func open(t *testing.T, cfg directory.Config) *directory.Directory {
	t.Helper()
	d, err := directory.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func refresh(t *testing.T, d *directory.Directory) {
	t.Helper()
	if err := d.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
}

const moulin = "pharmacie.du.moulin@test-officines.mssante.fr"

func TestLDAPEqualsExtraction(t *testing.T) {
	s := slapdtest.Start(t)
	file := filepath.Join(slapdtest.Samples(t), "Extraction_Correspondance_MSSante_202611220413.txt")
	attrs := directory.DefaultAttributes()
	attrs.Profession = "profession"
	ldap := open(t, directory.Config{LDAP: &directory.LDAPConfig{URL: s.URL, PageSize: 7, Attributes: attrs}})
	text := open(t, directory.Config{Extraction: &directory.ExtractionConfig{File: file, MaxFaults: -1}, CannotTellAfter: 1e6 * time.Hour})
	refresh(t, ldap)
	refresh(t, text)
	if l, x := ldap.Status().Feeds[0].Rows, text.Status().Feeds[0].Rows; l != 25 || x != 22 {
		t.Errorf("rows: %d by LDAP (want 25), %d by extraction (want 22)", l, x)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(raw)), "\n")[1:] {
		a := strings.Split(line, "|")[1]
		one, two := ldap.Lookup(a), text.Lookup(strings.ToUpper(a))
		if len(one) == 0 {
			t.Errorf("row %d is not there", i)
		}
		byStructure := func(rows []directory.Entry) map[string]directory.Entry {
			m := map[string]directory.Entry{}
			for _, e := range rows {
				m[e.StructureID] = e
			}
			return m
		}
		if d := cmp.Diff(byStructure(one), byStructure(two)); d != "" {
			t.Errorf("row %d differs (-LDAP +extraction):\n%s", i, d)
		}
	}
	if rows := ldap.Lookup("aurele.quintefeuille@test-medecins.mssante.fr"); len(rows) != 2 {
		t.Errorf("the address on two rows has %d", len(rows))
	}
	if rows := ldap.Lookup("lgo.reception@test-officines.mssante.fr"); len(rows) != 1 || rows[0].Kind != "APP" {
		t.Errorf("APP: %+v", rows)
	}
}

func TestLDAPChangesAndOutage(t *testing.T) {
	ctx := context.Background()
	s := slapdtest.Start(t)
	d := open(t, directory.Config{LDAP: &directory.LDAPConfig{URL: s.URL, ConnectTimeout: 2 * time.Second}, StateDir: t.TempDir()})
	refresh(t, d)
	decide := func(address, listing string) directory.Decision {
		return d.Decide(ctx, directory.Query{Address: address, Kind: "ORG", Listing: listing})
	}
	const fresh = "Nouvelle.Pharmacie@test-officines.mssante.fr"
	dec := decide(fresh, "published")
	if dec.Answer != directory.Unknown || dec.Action != directory.Refuse550 || !dec.Live {
		t.Fatalf("not there yet: %+v", dec)
	}
	if dec := decide(fresh, "unlisted"); dec.Action != directory.Accept || dec.Live {
		t.Errorf("an unlisted one is not asked for: %+v", dec)
	}
	s.AddBAL(fresh, "ORG", "990000999")
	refresh(t, d)
	if dec := decide(fresh, "published"); dec.Answer != directory.Known || dec.Live {
		t.Errorf("added: %+v", dec)
	}
	s.DeleteBAL(fresh)
	refresh(t, d)
	if dec := decide(fresh, "published"); dec.Answer != directory.Unknown {
		t.Errorf("deleted: %+v", dec)
	}
	// The image is behind the server: the live question saves the recipient.
	const late = "tard.venue@test-officines.mssante.fr"
	s.AddBAL(late, "ORG", "")
	if dec := decide(late, "published"); dec.Answer != directory.Known || !dec.Live || dec.Source != "ldap-live" {
		t.Errorf("live: %+v", dec)
	}
	// The server restarts: the kept connection is dead, the question is asked on a new one.
	s.Restart()
	if dec := decide("absente@test-officines.mssante.fr", "published"); dec.Answer != directory.Unknown || !dec.Live {
		t.Errorf("after a restart of the server: %+v", dec)
	}
	s.Kill()
	if dec := decide(moulin, "published"); dec.Answer != directory.Known || dec.Action != directory.Accept {
		t.Errorf("server killed, known: %+v", dec)
	}
	if dec := decide("inconnue@test-officines.mssante.fr", "published"); dec.Answer != directory.CannotTell || dec.Action != directory.AcceptNote {
		t.Errorf("server killed, unknown: %+v", dec)
	}
	if err := d.Refresh(ctx); !errors.Is(err, directory.ErrUnavailable) || !strings.Contains(err.Error(), s.URL) {
		t.Errorf("server killed, refresh: %v", err)
	}
	if st := d.Status(); !st.Usable || st.Feeds[0].LastError == "" || st.Feeds[0].Rows != 25 {
		t.Errorf("status: %+v", st)
	}
}

func TestLDAPFrozen(t *testing.T) {
	ctx := context.Background()
	s := slapdtest.Start(t)
	d := open(t, directory.Config{LDAP: &directory.LDAPConfig{URL: s.URL, ProgressTimeout: 200 * time.Millisecond}})
	refresh(t, d)
	q := directory.Query{Address: "inconnue@test-officines.mssante.fr", Kind: "ORG"}
	if dec := d.Decide(ctx, q); dec.Answer != directory.Unknown {
		t.Fatalf("before: %+v", dec)
	}
	s.Freeze()
	for i := range 8 {
		q.Address = fmt.Sprintf("inconnue%d@test-officines.mssante.fr", i)
		start := time.Now()
		if dec := d.Decide(ctx, q); dec.Answer != directory.CannotTell || dec.Action != directory.AcceptNote || !dec.Live {
			t.Errorf("frozen: %+v", dec)
		}
		// 300 ms is the promise; the rest is room for a busy machine.
		if took := time.Since(start); took > time.Second {
			t.Errorf("question %d took %v", i, took)
		}
	}
	if st := d.Status().Live; !st.Refrains || st.Asked > 7 {
		t.Errorf("the circuit breaker is not open: %+v", st)
	}
	if err := d.Refresh(ctx); !errors.Is(err, directory.ErrUnavailable) || !strings.Contains(err.Error(), "no progress") {
		t.Errorf("frozen, refresh: %v", err)
	}
	if dec := d.Decide(ctx, directory.Query{Address: moulin, Kind: "ORG"}); dec.Answer != directory.Known {
		t.Errorf("the old image is gone: %+v", dec)
	}
	s.Thaw()
	refresh(t, d)
}

func TestLDAPFaults(t *testing.T) {
	ctx := context.Background()
	s := slapdtest.StartWith(t, []slapdtest.Option{slapdtest.Database("access to * by users read by anonymous auth")})
	secret := filepath.Join(t.TempDir(), "secret")
	password := func(p string) {
		if err := os.WriteFile(secret, []byte(p+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	password(slapdtest.Password)
	state := t.TempDir()
	good := directory.LDAPConfig{URL: s.URL, BindDN: slapdtest.Admin, PasswordFile: secret}
	d := open(t, directory.Config{LDAP: &good, StateDir: state})
	refresh(t, d)
	pki := filepath.Join(t.TempDir(), "anchors.pem")
	p, err := testpki.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WriteAnchors(pki); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want, secret string
		change             func(*directory.LDAPConfig)
	}{
		{"wrong password", "Invalid Credentials", "wrong", func(*directory.LDAPConfig) {}},
		{"empty password", "password file", "", func(*directory.LDAPConfig) {}},
		{"wrong base", "dc=nowhere", slapdtest.Password, func(l *directory.LDAPConfig) { l.BaseDN = "dc=nowhere" }},
		{"no StartTLS there", "StartTLS", slapdtest.Password, func(l *directory.LDAPConfig) { l.StartTLS, l.AnchorFiles = true, []string{pki} }},
		{"missing authorities", "nothere.pem", slapdtest.Password, func(l *directory.LDAPConfig) { l.StartTLS, l.AnchorFiles = true, []string{"nothere.pem"} }},
		{"attribute misnamed", "no type of BAL", slapdtest.Password, func(l *directory.LDAPConfig) { l.Attributes.Kind = "employeeType" }},
		{"nothing matches", "holds no row", slapdtest.Password, func(l *directory.LDAPConfig) { l.Filter = "(mail=nobody)" }},
	} {
		l := good
		c.change(&l)
		password(c.secret)
		d := open(t, directory.Config{LDAP: &l, StateDir: state})
		err := d.Refresh(ctx)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		} else if c.secret == slapdtest.Password && strings.Contains(err.Error(), c.secret) {
			t.Errorf("%s: the error holds the password", c.name)
		}
		if len(d.Lookup(moulin)) != 1 {
			t.Errorf("%s: the old image is gone", c.name)
		}
	}
}

func TestLDAPSizeLimit(t *testing.T) {
	s := slapdtest.StartWith(t, []slapdtest.Option{slapdtest.Database("limits users size.soft=5 size.hard=5 size.prtotal=5"),
		func(conf string) string {
			return strings.Replace(conf, "limits * size=unlimited", "limits * size=5", 1)
		}})
	d := open(t, directory.Config{LDAP: &directory.LDAPConfig{URL: s.URL}})
	if err := d.Refresh(context.Background()); !errors.Is(err, directory.ErrPartial) {
		t.Errorf("a cut answer: got %v", err)
	}
	if d.Status().Usable {
		t.Error("a cut answer became the image")
	}
}

func TestLDAPOverTLS(t *testing.T) {
	p, err := testpki.New()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	server, err := p.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := p.Operator(testpki.Subject{CN: "mirror.operateur.test", OU: "318310021300028", O: "OPERATEUR TEST"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{p.WriteAnchors(path("ca.pem")), server.WriteFiles(path("s.pem"), path("s.key")),
		client.WriteFiles(path("c.pem"), path("c.key"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := slapdtest.StartWith(t, []slapdtest.Option{slapdtest.Global(fmt.Sprintf(
		"TLSCACertificateFile %s\nTLSCertificateFile %s\nTLSCertificateKeyFile %s\nTLSVerifyClient try", path("ca.pem"), path("s.pem"), path("s.key"))),
		slapdtest.Database("access to * by dn.regex=\"mirror\" read by * none")})
	l := directory.LDAPConfig{URL: s.URL, StartTLS: true, AnchorFiles: []string{path("ca.pem")}}
	if err := open(t, directory.Config{LDAP: &l}).Refresh(context.Background()); err == nil {
		t.Error("the server shows nothing to anonymous, yet it was read")
	}
	l.CertFile, l.KeyFile, l.External = path("c.pem"), path("c.key"), true
	d := open(t, directory.Config{LDAP: &l})
	refresh(t, d)
	if len(d.Lookup(moulin)) != 1 {
		t.Error("nothing read with the client certificate")
	}
	other, err := testpki.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.WriteAnchors(path("other.pem")); err != nil {
		t.Fatal(err)
	}
	l.AnchorFiles = []string{path("other.pem")}
	if err := open(t, directory.Config{LDAP: &l}).Refresh(context.Background()); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("a server of another authority: %v", err)
	}
}

func TestRunReadsAgain(t *testing.T) {
	s := slapdtest.Start(t)
	d := open(t, directory.Config{LDAP: &directory.LDAPConfig{URL: s.URL, Every: 20 * time.Millisecond}, RetryAfter: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	wait := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, d.Status())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	wait("first reading", func() bool { return d.Status().Usable })
	s.Kill()
	wait("failure", func() bool { return d.Status().Feeds[0].LastError != "" })
	s.Restart()
	wait("recovery", func() bool { return d.Status().Feeds[0].LastError == "" })
	cancel()
	<-done
}

func TestTwoFeeds(t *testing.T) {
	s := slapdtest.Start(t)
	const only = "seulement.fichier@test-officines.mssante.fr"
	raw, err := os.ReadFile(filepath.Join(slapdtest.Samples(t), "Extraction_Correspondance_MSSante_202611220413.txt"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.txt")
	if err := os.WriteFile(file, append(raw, "ORG|"+only+"||||1|1"+strings.Repeat("|", 24)+"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, directory.Config{LDAP: &directory.LDAPConfig{URL: s.URL}, Extraction: &directory.ExtractionConfig{File: file}})
	refresh(t, d)
	answer := func(a string) directory.Decision {
		return d.Decide(context.Background(), directory.Query{Address: a, Kind: "ORG"})
	}
	if dec := answer(only); dec.Answer != directory.Known || dec.Source != "extraction" {
		t.Errorf("only in the file: %+v", dec)
	}
	s.DeleteBAL(moulin)
	refresh(t, d)
	if dec := answer(moulin); dec.Answer != directory.Known || dec.Source != "extraction" {
		t.Errorf("lost by one feed: %+v", dec)
	}
	var kept []string
	for line := range strings.Lines(string(raw)) {
		if !strings.Contains(line, moulin) {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(file, []byte(strings.Join(kept, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	refresh(t, d)
	if dec := answer(moulin); dec.Answer != directory.Unknown || !dec.Live {
		t.Errorf("lost by both: %+v", dec)
	}
}

func TestConfigFaults(t *testing.T) {
	for _, l := range []directory.LDAPConfig{{}, {URL: "http://x"}, {URL: "ldaps://x"}, {URL: "ldap://x", External: true},
		{URL: "ldap://x", BindDN: "cn=a"}, {URL: "ldaps://x", StartTLS: true, AnchorFiles: []string{"a"}}, {URL: "ldap://x", CertFile: "a"}} {
		if _, err := directory.Open(directory.Config{LDAP: &l}); !errors.Is(err, directory.ErrConfig) {
			t.Errorf("%+v: got %v", l, err)
		}
	}
}

// TestSilentServer has a server that takes connections and never answers.
func TestSilentServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, directory.Config{LDAP: &directory.LDAPConfig{URL: "ldap://" + ln.Addr().String(), BindDN: "cn=a", PasswordFile: secret,
		ConnectTimeout: 100 * time.Millisecond}})
	if err := d.Refresh(context.Background()); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
