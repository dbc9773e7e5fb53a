package directory

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"mssd/directory/slapdtest"
)

// bigServer holds 100,000 BALs beside the samples.
func bigServer(b *testing.B) *slapdtest.Server {
	ldif := make([]string, 100_000)
	for i := range ldif {
		ldif[i] = slapdtest.LDIF(fmt.Sprintf("bal%d@test-officines.mssante.fr", i), "ORG", "990000119")
	}
	return slapdtest.StartWith(b, []slapdtest.Option{slapdtest.Database("dbnosync")}, ldif...)
}

// BenchmarkLDAPLoad compares a whole content by synchronisation and by pages with ldapsearch, which only prints it.
func BenchmarkLDAPLoad(b *testing.B) {
	s := bigServer(b)
	a := DefaultAttributes()
	search := func(control string) {
		args := append([]string{"-x", "-LLL", "-H", s.URL, "-b", s.Base, "-E", control, "(mail=*)"}, a.names()...)
		out, err := exec.Command("ldapsearch", args...).Output()
		if n := bytes.Count(out, []byte("\nmail: ")); err != nil || n < 100_000 {
			b.Fatalf("%d entries, %v", n, err)
		}
	}
	b.Run("ldapsearch", func(b *testing.B) {
		for b.Loop() {
			search("pr=1000/noprompt")
		}
	})
	b.Run("ldapsearch-sync", func(b *testing.B) {
		for b.Loop() {
			search("!sync=ro")
		}
	})
	for _, noSync := range []bool{false, true} {
		b.Run(map[bool]string{false: "sync", true: "pages"}[noSync], func(b *testing.B) {
			for b.Loop() {
				d := open(b, Config{LDAP: &LDAPConfig{URL: s.URL, NoSync: noSync}, StateDir: b.TempDir()})
				if err := d.Refresh(context.Background()); err != nil {
					b.Fatal(err)
				}
				_ = d.Close()
			}
		})
	}
}

// BenchmarkLiveChange is the time from the answer to a change until RCPT sees it.
func BenchmarkLiveChange(b *testing.B) {
	s := slapdtest.StartWith(b, []slapdtest.Option{slapdtest.Database("dbnosync")})
	d := open(b, Config{LDAP: &LDAPConfig{URL: s.URL}, StateDir: b.TempDir(), MaxLoss: 1})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for !d.feeds[0].following.Load() {
		time.Sleep(time.Millisecond)
	}
	c, err := ldap.DialURL(s.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(slapdtest.Admin, slapdtest.Password); err != nil {
		b.Fatal(err)
	}
	var worst, sum time.Duration
	n := 0
	for b.Loop() {
		mail := fmt.Sprintf("bal%d@test-officines.mssante.fr", n)
		add := ldap.NewAddRequest(slapdtest.DN(mail), nil)
		add.Attribute("objectClass", []string{"balMSSante"})
		add.Attribute("mail", []string{mail})
		add.Attribute("TypeBAL", []string{"ORG"})
		if err := c.Add(add); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		for img := d.feeds[0].image.Load(); !img.has(mail); img = d.feeds[0].image.Load() {
			time.Sleep(20 * time.Microsecond)
		}
		took := time.Since(start)
		worst, sum, n = max(worst, took), sum+took, n+1
	}
	b.ReportMetric(float64(worst.Microseconds())/1000, "ms-worst")
	b.ReportMetric(float64((sum/time.Duration(n)).Microseconds())/1000, "ms-mean")
}
