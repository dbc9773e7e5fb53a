package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/tlsconf/testpki"
)

// mssd check says that a certificate is not for the name that clients know the front by, and that it ends soon.
func TestCheckWarnsOfCertificates(t *testing.T) {
	dir := t.TempDir()
	pki, err := testpki.New()
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name, host string, end time.Time) (cert, key string) {
		id, err := pki.Issuing.Issue(testpki.Request{Subject: testpki.Subject{CN: host}, DNSNames: []string{host}, NotAfter: end})
		cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
		if err == nil {
			err = id.WriteFiles(cert, key)
		}
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	late := time.Now().AddDate(1, 0, 0)
	c := defaultConfig()
	c.Hostname = "mss.test.example"
	c.SMTP.Cert, c.SMTP.Key = issue("smtp", "mss.test.example", late)
	c.IMAP.Cert, c.IMAP.Key = issue("imap", "imap.test.example", late)
	c.IMAP.App = &AppConfig{Hostname: "app.test.example"}
	c.IMAP.App.Cert, c.IMAP.App.Key = issue("app", "app.test.example", time.Now().AddDate(0, 0, 3))
	c.Submission = &SubmissionConfig{Cert: filepath.Join(dir, "absent.pem"), Key: filepath.Join(dir, "absent.key")}
	got := strings.Join(certWarnings(c), "\n")
	want := "front imap: the certificate is for imap.test.example; expected mss.test.example (hostname)"
	if !strings.HasPrefix(got, want) || !strings.Contains(got, "app.pem: certificate expires in 2 days") || strings.Count(got, "\n") != 1 {
		t.Errorf("got\n%s\nwant %q, and that the certificate of applications ends", got, want)
	}
}
