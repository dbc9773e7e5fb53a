package main

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSRVRecords(t *testing.T) {
	c := defaultConfig()
	c.Hostname, c.IMAP.Listen = "IMAP.exemple.test", []string{"192.0.2.1:imap2", ":1143"}
	c.IMAP.App = &AppConfig{Hostname: "app.exemple.test"}
	got, err := c.srvRecords()
	want := []srvRecord{{10, 100, 143, "imap.exemple.test"}, {20, 100, 143, "app.exemple.test"}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if l := got[1].line("officine.test"); l != "_imap._tcp.officine.test. SRV 20 100 143 app.exemple.test." {
		t.Error(l)
	}
	c.IMAP.App.Listen = []string{"192.0.2.2:1430"}
	if got, err := c.srvRecords(); err != nil || len(got) != 2 || got[1].Port != 1430 || got[0].Port != 143 {
		t.Errorf("front of applications with an address of its own: %v, %v", got, err)
	}
	c.IMAP.App.Listen, c.IMAP.App.ListenTLS = nil, []string{"192.0.2.2:993"}
	if _, err := c.srvRecords(); err == nil {
		t.Error("a record for applications that cannot begin in clear")
	}
	c.IMAP.Listen = nil
	if _, err := c.srvRecords(); err == nil {
		t.Error("records of a front that is not there")
	}
}

func TestCheckSRV(t *testing.T) {
	d := srvDomain{Domain: "officine.test", Records: []srvRecord{{10, 100, 143, "imap.exemple.test"}, {20, 100, 143, "app.exemple.test"}}}
	persons, apps := &net.SRV{Priority: 10, Weight: 5, Port: 143, Target: "IMAP.exemple.test."}, &net.SRV{Priority: 20, Weight: 100, Port: 143, Target: "app.exemple.test."}
	for name, c := range map[string]struct {
		found []*net.SRV
		err   error
		want  []string
	}{
		"right":         {[]*net.SRV{apps, persons}, nil, nil},
		"one is absent": {[]*net.SRV{persons}, nil, []string{"missing: _imap._tcp.officine.test. SRV 20 100 143 app.exemple.test."}},
		"none": {nil, &net.DNSError{IsNotFound: true}, []string{"missing: _imap._tcp.officine.test. SRV 10 100 143 imap.exemple.test.",
			"missing: _imap._tcp.officine.test. SRV 20 100 143 app.exemple.test."}},
		"an old one too": {[]*net.SRV{persons, apps, {Priority: 10, Weight: 1, Port: 993, Target: "old.exemple.test."}}, nil,
			[]string{"not ours: _imap._tcp.officine.test. SRV 10 1 993 old.exemple.test."}},
		"wrong priority": {[]*net.SRV{persons, {Priority: 10, Weight: 100, Port: 143, Target: "app.exemple.test."}}, nil,
			[]string{"missing: _imap._tcp.officine.test. SRV 20 100 143 app.exemple.test.", "not ours: _imap._tcp.officine.test. SRV 10 100 143 app.exemple.test."}},
		"no answer": {nil, errors.New("timeout"), []string{"the DNS does not answer: timeout"}},
	} {
		got := checkSRV(t.Context(), func(_ context.Context, service, proto, domain string) (string, []*net.SRV, error) {
			if service != "imap" || proto != "tcp" || domain != "officine.test" {
				t.Errorf("asked for %s %s %s", service, proto, domain)
			}
			return "", c.found, c.err
		}, d)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s\n%s", name, diff)
		}
	}
}
