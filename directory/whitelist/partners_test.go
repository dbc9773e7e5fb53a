package whitelist

import (
	"context"
	"crypto/x509"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mssd/tlsconf"
)

const (
	dnA = "CN=a.test,OU=300000000000001,O=A,ST=Paris (75),C=FR"
	dnB = "CN=b.test,OU=300000000000002,O=B,ST=Rhône (69),C=FR"
)

func listOf(t *testing.T, rows ...Binding) *List {
	t.Helper()
	s := newSpace(t)
	l, err := Load(s.list(t, rows, made()), s.options())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCompare(t *testing.T) {
	old := listOf(t, Binding{"same.test", dnA, ""}, Binding{"reprinted.test", dnA, ""}, Binding{"moved.test", dnA, ""}, Binding{"gone.test", dnA, ""})
	next := listOf(t, Binding{"same.test", dnA, ""}, Binding{"reprinted.test", `CN=A.test, OU=300000000000001, O="A", ST=Paris (75), C=FR`, ""},
		Binding{"moved.test", dnB, ""}, Binding{"new.test", dnB, ""})
	var got []string
	for _, c := range old.Compare(next) {
		got = append(got, c.Domain+" "+strings.Join(c.Before, "|")+" > "+strings.Join(c.After, "|"))
	}
	want := []string{"gone.test " + dnA + " > ", "moved.test " + dnA + " > " + dnB, "new.test  > " + dnB}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if c := old.Compare(old); len(c) != 0 {
		t.Errorf("a list differs from itself: %v", c)
	}
}

func TestFind(t *testing.T) {
	l := listOf(t, Binding{"pharmacie.test", dnA, ""}, Binding{"cabinet.test", dnB, ""})
	for q, want := range map[string]string{
		"PHARMA": "pharmacie.test", "rhône": "cabinet.test", "300000000000001": "pharmacie.test",
		`CN=B.test, OU=300000000000002, O="B", ST=Rhône (69), C=FR`: "cabinet.test", "absent": "",
	} {
		var names []string
		for _, e := range l.Find(q) {
			names = append(names, e.Domain)
		}
		if strings.Join(names, " ") != want {
			t.Errorf("%q finds %q, want %q", q, names, want)
		}
	}
}

// Who was let in is remembered over a restart, and a new list is tried on them before it refuses somebody.
func TestPartners(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	p := OpenPartners(dir, clock, nil)
	let := func(domain, name, serial string) {
		t.Helper()
		p.Seen(domain, tlsconf.Verdict{Reason: tlsconf.OK, DN: dn(t, name), Serial: serial, Leaf: &x509.Certificate{NotAfter: now.AddDate(1, 0, 0)}})
	}
	let("long-ago.test", dnA, "01")
	now = now.AddDate(0, 0, 40)
	let("Kept.test", dnA, "01")
	let("kept.test", dnA, "02") // renewed
	let("moved.test", dnA, "02")
	let("gone.test", dnB, "03")
	let("", dnB, "03")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Run(ctx) // saves at its end
	p = OpenPartners(dir, clock, nil)

	since := now.AddDate(0, 0, -30)
	if l := p.List(since); len(l) != 4 || l[2].Domain != "kept.test" || l[2].Serial != "02" {
		t.Errorf("remembered: %+v", l)
	}
	list := listOf(t, Binding{"kept.test", dnA, ""}, Binding{"moved.test", "CN=c.test,O=C,C=FR", ""})
	refused, seen := p.Preview(list, since)
	var got []string
	for _, r := range refused {
		got = append(got, r.Domain+"|"+strings.Join(r.DNs, " "))
	}
	if want := []string{"|", "gone.test|", "moved.test|CN=c.test,O=C,C=FR"}; seen != 4 || !slices.Equal(got, want) {
		t.Errorf("%d seen, refused %q, want %q", seen, got, want)
	}
}

// Mails are counted by day for 30 days, over restarts and whatever the clock does.
func TestMailsPerDay(t *testing.T) {
	dir := t.TempDir()
	begin := time.Date(2026, 11, 1, 23, 0, 0, 0, time.UTC)
	now := begin
	clock := func() time.Time { return now }
	p := OpenPartners(dir, clock, nil)
	v := tlsconf.Verdict{Reason: tlsconf.OK, DN: dn(t, dnA), Leaf: &x509.Certificate{NotAfter: now.AddDate(1, 0, 0)}}
	want := func(n float64) {
		t.Helper()
		l := p.List(time.Time{})
		if len(l) != 1 || math.Abs(l[0].PerDay(now)-n) > 1e-9 || len(l[0].Mails) > 30 {
			t.Errorf("%v mails a day, want %v: %+v", l[0].PerDay(now), n, l)
		}
	}
	send := func(n int) {
		for range n {
			p.Stored("kept.test", v)
		}
	}
	p.Seen("kept.test", v) // let in, and nothing sent
	want(0)
	send(10)
	want(10)
	now = now.Add(2 * time.Hour) // another day
	send(2)
	want(6)
	now = now.AddDate(0, 0, 8)
	send(3)
	want(1.5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Run(ctx)
	p = OpenPartners(dir, clock, nil)
	want(1.5)
	now = begin.AddDate(0, 0, 29)
	want(0.5) // 15 of 30 days
	now = now.AddDate(0, 0, 1)
	want(5. / 30) // the first day is over
	now = now.AddDate(0, 0, -1)
	send(15)
	want(1)
	now = now.AddDate(0, 0, 100)
	want(0)
	send(30)
	want(1)
	now = now.AddDate(0, 0, -50) // the clock was ahead
	want(0)
	send(30)
	want(1)
	if err := os.WriteFile(filepath.Join(dir, partnersFile), []byte(`[{"domain":"kept.test","dn":"`+dnA+`","first":"2026-11-01T00:00:00Z","day":99999999,"mails":[`+
		strings.Repeat("1,", 1000)+`1]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	p = OpenPartners(dir, clock, nil)
	want(0)
	send(30)
	want(1)
}

func TestPartnersAreBounded(t *testing.T) {
	now := time.Now()
	p := OpenPartners(t.TempDir(), func() time.Time { return now }, nil)
	v := tlsconf.Verdict{Reason: tlsconf.OK, DN: dn(t, dnA), Leaf: &x509.Certificate{}}
	for i := range maxPartners + 100 {
		now = now.Add(time.Second)
		p.Seen(strings.Repeat("x", i%250+1)+string(rune('a'+i/250%26))+string(rune('a'+i/6500))+".test", v)
	}
	if n := len(p.List(time.Time{})); n != maxPartners {
		t.Errorf("%d partners", n)
	}
	// A file that is damaged or absurd is begun anew.
	dir := t.TempDir()
	for _, b := range []string{"{", `[{"domain":"x","dn":"no name"}]`, "null"} {
		if err := os.WriteFile(filepath.Join(dir, partnersFile), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if n := len(OpenPartners(dir, nil, nil).List(time.Time{})); n != 0 {
			t.Errorf("%q: %d partners", b, n)
		}
	}
}

// What a kill left of a file that was being replaced goes at the next start; what is no such thing stays.
func TestLeftoversGo(t *testing.T) {
	b := newBench(t)
	b.put(3, 0)
	b.keeper()
	dir := b.cfg.StateDir
	put := func(names ...string) {
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(dir, n), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	lists := stateFolder + "/"
	put("partners.json.123", "partners.json.bak", "other.123", lists+recordFile+".7", lists+"list-0123456789abcdef.xml.99")
	OpenPartners(dir, b.now, nil)
	b.keeper()
	for name, want := range map[string]bool{"partners.json.123": false, "partners.json.bak": true, "other.123": true,
		lists + recordFile + ".7": false, lists + "list-0123456789abcdef.xml.99": false, lists + recordFile: true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}
