package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"

	"mssd/directory"
)

// Each *.bad.toml has the mistake it is named after; beside it, in *.bad.want, stands the message.
func TestBadConfigurations(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.bad.toml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".bad.toml"), func(t *testing.T) {
			wantFile := strings.TrimSuffix(f, ".toml") + ".want"
			_, err := loadConfig(f)
			var faults *configError
			if !errors.As(err, &faults) {
				t.Fatalf("accepted, or another error: %v", err)
			}
			got := faults.Error() + "\n"
			if os.Getenv("UPDATE_SCRIPTS") != "" {
				if err := os.WriteFile(wantFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if exitStatus(faults) != exitConfig {
				t.Errorf("exit status %d, want %d", exitStatus(faults), exitConfig)
			}
		})
	}
}

func TestGoodConfiguration(t *testing.T) {
	c, err := loadConfig("testdata/config/good.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "data"); c.DataDir != want {
		t.Errorf("data_dir %q, want %q: names are relative to the file's folder", c.DataDir, want)
	}
	if c.WhiteList.DeferAfter != Duration(7*24*time.Hour) || c.SMTP.MaxRecipients != 100 {
		t.Errorf("defaults are not in force: %+v", c)
	}
}

// The example in deploy says, commented out, what the defaults are: it must not lie.
func TestExampleShowsTheDefaults(t *testing.T) {
	b, err := os.ReadFile("../../deploy/mssd.toml")
	if err != nil {
		t.Fatal(err)
	}
	want, err := loadConfig("../../deploy/mssd.toml")
	if err != nil {
		t.Fatal(err)
	}
	// Examples of what has no default.
	none := []string{"certificates = [", "cipher_suites", "mechanisms = [\"XOAUTH2\"", "ocsp", "crl_urls", "url = \"https", "proxy_from", "[[smtp.partners]]", "addresses = [", "dn = \"CN=", "max_connections = 500", "postmaster", "crls", "bind_dn", "password_file", "mssd/ldap.pem", "inactivity_notice_file", "mssd/submission.pem", "service/submission.key", "service/ldap.key", "listen = \"127.0.0.1:9180\"", "filter",
		"192.0.2.2", "psc.example.fr", "mssd/psc.pem", "service/psc.key", "psc-ca.pem", "authorized_parties", "audiences"}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if bare := strings.TrimPrefix(line, "# "); bare != line && (strings.HasPrefix(bare, "[") || strings.Contains(bare, " = ")) &&
			!containsAny(bare, none) && !strings.Contains(line, "`") {
			line = bare
		}
		lines = append(lines, line)
	}
	got, faults := parseConfig([]byte(strings.Join(lines, "")))
	if len(faults) > 0 {
		t.Fatalf("the example with its comments opened: %v", faults)
	}
	got.resolve("../../deploy")
	if faults := got.check(nil); len(faults) > 0 {
		t.Fatalf("the example with its comments opened: %v", faults)
	}
	if got.Directory.Extraction == nil || got.Directory.Extraction.Every != defaultExtractionEvery {
		t.Errorf("directory.extraction: %+v", got.Directory.Extraction)
	}
	got.Directory.Extraction = nil
	wantApp := &AppConfig{Mechanisms: []string{"EXTERNAL", "PLAIN", "LOGIN"}, Kinds: []string{"APP"}}
	got.IMAP.App.Mechanisms, got.IMAP.App.Kinds = nil, nil
	got.IMAP.App.check(&checker{})
	if d := cmp.Diff(wantApp, got.IMAP.App, cmpopts.IgnoreFields(AppConfig{}, "Hostname", "Cert", "Key")); d != "" {
		t.Errorf("imap.app: -example +default\n%s", d)
	}
	wantSending := &SubmissionAppConfig{Hostname: "app.smtp.exemple.fr", Mechanisms: wantApp.Mechanisms}
	got.Submission.App.Mechanisms = nil
	got.Submission.App.check(&checker{}, got.IMAP.App)
	if d := cmp.Diff(wantSending, got.Submission.App, cmpopts.IgnoreFields(SubmissionAppConfig{}, "Cert", "Key")); d != "" {
		t.Errorf("submission.app: -example +default\n%s", d)
	}
	got.IMAP.App, got.Submission.App = nil, nil
	wantPSC := &PSCConfig{Introspection: "required", ClockSkew: defaultClockSkew, CacheFor: defaultTokenCache, MaxSession: defaultMaxSession, BoundCertificates: "ignore"}
	if d := cmp.Diff(wantPSC, got.Login.PSC, cmpopts.IgnoreFields(PSCConfig{}, "Issuer", "DiscoveryURL", "ClientID", "ClientSecretFile")); d != "" {
		t.Errorf("login.psc: -default +example\n%s", d)
	}
	got.Login.PSC = nil
	wantPolicy := PolicyConfig{PatientFirst: "note", PatientDomains: []string{"patient.mssante.fr"},
		Published: PolicyRow{"accept", "alert", "refuse", "note"}, Unlisted: PolicyRow{"accept", "note", "accept", "accept"},
		Member: ClassPolicy{Published: PolicyRow{Unknown: "alert"}}}
	if d := cmp.Diff(wantPolicy, got.Directory.Policy); d != "" {
		t.Errorf("policy: -default +example\n%s", d)
	}
	got.Directory.Policy = want.Directory.Policy
	a := directory.DefaultAttributes()
	if d := cmp.Diff(LDAPAttributes{a.Mail, a.Kind, a.StructureType, a.StructureID, a.PersonType, a.PersonID,
		a.Profession, a.Name, a.GivenName, a.StructureName, a.Service, a.Postcode, a.Town}, got.Directory.LDAP.Attributes); d != "" {
		t.Errorf("attributes: -default +example\n%s", d)
	}
	got.Directory.LDAP.Attributes = LDAPAttributes{}
	got.file = want.file
	if d := cmp.Diff(want, got, cmp.AllowUnexported(Config{}), cmpopts.IgnoreFields(Config{}, "at"), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("-in force +shown as default\n%s", d)
	}
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// What is written is what is read: the demo and the bench write their configuration with the same library.
func TestConfigurationRoundTrip(t *testing.T) {
	want, err := loadConfig("testdata/config/good.toml")
	if err != nil {
		t.Fatal(err)
	}
	b, err := toml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, faults := parseConfig(b)
	if len(faults) > 0 {
		t.Fatalf("%v\n%s", faults, b)
	}
	got.file = want.file
	if d := cmp.Diff(want, got, cmp.AllowUnexported(Config{}), cmpopts.IgnoreFields(Config{}, "at"), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("-written +read\n%s", d)
	}
}

func FuzzParseConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/config/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(files, "../../deploy/mssd.toml") {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, faults := parseConfig(b)
		for _, f := range append(faults, c.check(faults)...) {
			if f.String() == "" {
				t.Error("a fault that says nothing")
			}
		}
	})
}
