package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSRVRecords(t *testing.T) {
	c := defaultConfig()
	c.Hostname, c.IMAP.Listen = "IMAP.exemple.test", []string{"192.0.2.1:imap2", ":1143"}
	c.IMAP.App = &AppConfig{Hostname: "app.exemple.test"}
	got, err := c.srvRecords()
	want := []srvRecord{{"imap", 10, 100, 143, "imap.exemple.test"}, {"imap", 20, 100, 143, "app.exemple.test"}}
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

// The four records of a domain.
func TestSRVRecordsOfSubmission(t *testing.T) {
	c := defaultConfig()
	c.Hostname, c.IMAP.Listen, c.IMAP.App = "mss.exemple.test", []string{":143"}, &AppConfig{Hostname: "app.exemple.test"}
	c.Submission = &SubmissionConfig{Listen: []string{":587"}, ListenTLS: []string{":465"}, App: &SubmissionAppConfig{Hostname: "App.smtp.exemple.test."}}
	got, err := c.srvRecords()
	want := []srvRecord{{"imap", 10, 100, 143, "mss.exemple.test"}, {"imap", 20, 100, 143, "app.exemple.test"},
		{"submission", 10, 100, 587, "mss.exemple.test"}, {"submission", 20, 100, 587, "app.smtp.exemple.test"}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if l := got[3].line("officine.test"); l != "_submission._tcp.officine.test. SRV 20 100 587 app.smtp.exemple.test." {
		t.Error(l)
	}
	asked := map[string]bool{}
	faults := checkSRV(t.Context(), func(_ context.Context, service, _, _ string) (string, []*net.SRV, error) {
		if asked[service] = true; service == "submission" {
			return "", []*net.SRV{{Priority: 10, Port: 465, Target: "mss.exemple.test."}, {Priority: 20, Port: 587, Target: "app.smtp.exemple.test."}}, nil
		}
		return "", nil, errors.New("timeout")
	}, srvDomain{"officine.test", got, nil})
	if d := cmp.Diff([]string{"the DNS does not answer: timeout", "missing: _submission._tcp.officine.test. SRV 10 100 587 mss.exemple.test.",
		"not ours: _submission._tcp.officine.test. SRV 10 0 465 mss.exemple.test."}, faults); d != "" || len(asked) != 2 {
		t.Errorf("asked %v\n%s", asked, d)
	}
	c.Submission.App.ListenTLS = []string{":4650"}
	if _, err := c.srvRecords(); err == nil || !strings.HasPrefix(err.Error(), "submission.app.listen holds no address") {
		t.Errorf("a record for applications that cannot begin in clear: %v", err)
	}
	c.Submission.Listen = nil
	if _, err := c.srvRecords(); err == nil || !strings.HasPrefix(err.Error(), "submission.listen holds no address") {
		t.Errorf("a record for a front that clients cannot begin with in clear: %v", err)
	}
}

func TestCheckSRV(t *testing.T) {
	d := srvDomain{Domain: "officine.test", Records: []srvRecord{{"imap", 10, 100, 143, "imap.exemple.test"}, {"imap", 20, 100, 143, "app.exemple.test"}}}
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
		"no answer":         {nil, errors.New("timeout"), []string{"the DNS does not answer: timeout"}},
		"no answer in time": {nil, &net.DNSError{Err: "i/o timeout", Name: "x.test", IsTimeout: true}, []string{"the DNS does not answer: lookup x.test: i/o timeout"}},
		"right, and an error": {[]*net.SRV{apps, persons}, &net.DNSError{Err: "records of no use"},
			[]string{"the DNS answers about _imap._tcp.officine.test. what cannot be used: records of no use"}},
		"one, and an error": {[]*net.SRV{persons}, &net.DNSError{Err: "records of no use"},
			[]string{"the DNS answers about _imap._tcp.officine.test. what cannot be used: records of no use",
				"missing: _imap._tcp.officine.test. SRV 20 100 143 app.exemple.test."}},
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

// TestCheckSRVByDNS: what the resolver of Go makes of answers on the wire.
func TestCheckSRVByDNS(t *testing.T) {
	d := srvDomain{Domain: "officine.test", Records: []srvRecord{{"imap", 10, 100, 143, "imap.exemple.test"}}}
	right := net.SRV{Priority: 10, Weight: 100, Port: 143, Target: "imap.exemple.test."}
	for name, c := range map[string]struct {
		answers []net.SRV
		code    byte // RCODE (RFC 1035, Section 4.1.1)
		want    []string
	}{
		"right":          {[]net.SRV{right}, 0, nil},
		"none":           {nil, 0, []string{"missing: _imap._tcp.officine.test. SRV 10 100 143 imap.exemple.test."}},
		"no such name":   {nil, 3, []string{"missing: _imap._tcp.officine.test. SRV 10 100 143 imap.exemple.test."}},
		"not a name":     {[]net.SRV{{Priority: 10, Weight: 100, Port: 143, Target: "imap exemple.test."}}, 0, []string{unusable}},
		"and not a name": {[]net.SRV{right, {Priority: 10, Weight: 100, Port: 143, Target: "imap exemple.test."}}, 0, []string{unusable}},
		"not offered": {[]net.SRV{{Target: "."}}, 0, []string{"missing: _imap._tcp.officine.test. SRV 10 100 143 imap.exemple.test.",
			"not ours: _imap._tcp.officine.test. SRV 0 0 0 ."}},
	} {
		t.Run(name, func(t *testing.T) {
			r := dnsServer(t, c.code, c.answers)
			if diff := cmp.Diff(c.want, checkSRV(t.Context(), r.LookupSRV, d)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		faults := checkSRV(t.Context(), dnsServer(t, 2, nil).LookupSRV, d)
		if len(faults) != 1 || !strings.HasPrefix(faults[0], "the DNS does not answer: ") {
			t.Errorf("%q", faults)
		}
	})
}

const unusable = "the DNS answers about _imap._tcp.officine.test. what cannot be used: DNS response contained records which contain invalid names"

// dnsServer is a resolver that asks a server of the test, which answers every question with the same records.
func dnsServer(t *testing.T, code byte, answers []net.SRV) *net.Resolver {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		pc.Close()
		<-done
	})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if a := dnsAnswer(b[:n], code, answers); a != nil {
				_, _ = pc.WriteTo(a, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// dnsAnswer is the answer to a message with one question (RFC 1035, Section 4; RFC 2782).
func dnsAnswer(q []byte, code byte, answers []net.SRV) []byte {
	end := bytes.IndexByte(q[min(12, len(q)):], 0) + 12 + 5 // name, type, class
	if end > len(q) {
		return nil
	}
	m := append([]byte{q[0], q[1], 0x81, 0x80 | code, 0, 1, 0, byte(len(answers)), 0, 0, 0, 0}, q[12:end]...)
	for _, s := range answers {
		target := []byte{}
		for label := range strings.SplitSeq(strings.TrimSuffix(s.Target, "."), ".") {
			if label != "" {
				target = append(append(target, byte(len(label))), label...)
			}
		}
		target = append(target, 0)
		m = append(m, 0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60) // the name asked for, SRV, IN, 60 s
		m = binary.BigEndian.AppendUint16(m, uint16(6+len(target)))
		for _, v := range []uint16{s.Priority, s.Weight, s.Port} {
			m = binary.BigEndian.AppendUint16(m, v)
		}
		m = append(m, target...)
	}
	return m
}

func TestSRVDomains(t *testing.T) {
	got, err := domainArgs([]string{"Officine.TEST.", "a-b.sante.exemple.test"})
	if err != nil || !slices.Equal(got, []string{"officine.test", "a-b.sante.exemple.test"}) {
		t.Errorf("%q, %v", got, err)
	}
	for arg, want := range map[string]string{
		"pharmacie@officine.test": `"pharmacie@officine.test" is the address of a BAL; expected a domain: officine.test`,
		"a@b":                     `"a@b" is no domain; expected a full domain name (letters, digits, hyphens, dots)`,
		"officine":                `"officine" is no domain; expected a full domain name (letters, digits, hyphens, dots)`,
		"":                        `"" is no domain; expected a full domain name (letters, digits, hyphens, dots)`,
		"officine..test":          `"officine..test" is no domain; expected a full domain name (letters, digits, hyphens, dots)`,
		"officine .test":          `"officine .test" is no domain; expected a full domain name (letters, digits, hyphens, dots)`,
		"*.test":                  `"*.test" is no domain; expected a full domain name (letters, digits, hyphens, dots)`,
	} {
		var usage usageError
		if got, err := domainArgs([]string{"officine.test", arg}); err == nil || err.Error() != want || !errors.As(err, &usage) || got != nil {
			t.Errorf("%q: %v, %v", arg, got, err)
		}
	}
}
