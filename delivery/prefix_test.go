package delivery

import (
	"bufio"
	"net/netip"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mssd/message"
	"mssd/store"
	"mssd/tlsconf"
	"mssd/trace"
)

var testTime = time.Date(2026, 11, 22, 22, 42, 4, 0, time.UTC)

func testIncoming(t testing.TB) *Incoming {
	dn, err := tlsconf.ParseDN("CN=mail.patient.test,OU=300000000000001,O=PLATEFORME PATIENT,ST=Paris (75),C=FR")
	if err != nil {
		t.Fatal(err)
	}
	return &Incoming{
		Conn: 7, Remote: netip.MustParseAddr("192.0.2.7"), Helo: "mail.patient.test",
		Verdict: tlsconf.Verdict{Reason: tlsconf.OK, DN: dn}, ListVersion: "2025-02-28T10:00:00Z/ab12",
		TLSVersion: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", Protocol: "ESMTPS",
		ReversePath: "274000000000000@patient.mssante.test",
		Recipients:  []Recipient{{BAL: store.BAL{ID: 1, Address: "pharmacie@officine.test"}, Address: "Pharmacie@officine.test"}},
	}
}

func TestPrefix(t *testing.T) {
	d := New(Config{Hostname: "mx.operateur.test"})
	in := testIncoming(t)
	id, _ := trace.ParseID("01ABCDEFGHJKM")
	in.EnvID, in.Ret = "QQ314159", "HDRS"
	r := in.Recipients[0]
	r.ORCPT, r.Notify = "rfc822;pharmacie@officine.test", "SUCCESS,FAILURE"
	got := string(d.prefix(in, nil, r, true, id, testTime))
	want := strings.ReplaceAll(`Return-Path: <274000000000000@patient.mssante.test>
Authentication-Results: mx.operateur.test; x-tls-client-cert=pass
 policy.dn="`+in.Verdict.DN.String()+`"
 smtp.mailfrom=patient.mssante.test policy.whitelist="2025-02-28T10:00:00Z/ab12"
Received: from mail.patient.test ([192.0.2.7]) by mx.operateur.test (mssd) with
 ESMTPS tls TLS_AES_128_GCM_SHA256 (TLSv1.3) id 01ABCDEFGHJKM for
 <Pharmacie@officine.test>; Sun, 22 Nov 2026 22:42:04 +0000
Original-Recipient: rfc822;pharmacie@officine.test
Original-Envelope-Id: QQ314159
X-MSSD-Receipts: NOTIFY=SUCCESS,FAILURE RET=HDRS
`, "\n", "\r\n")
	unfold := func(s string) string { return strings.ReplaceAll(s, "\r\n ", " ") }
	if diff := cmp.Diff(unfold(want), unfold(got)); diff != "" {
		t.Errorf("prefix (-want +got):\n%s", diff)
	}
	for line := range strings.SplitSeq(got, "\r\n") {
		if len(line) > 78 {
			t.Errorf("line of %d characters: %s", len(line), line)
		}
	}
}

func TestPrefixNamesNobodyElse(t *testing.T) {
	d := New(Config{Hostname: "mx.operateur.test"})
	in := testIncoming(t)
	in.Recipients = append(in.Recipients, Recipient{BAL: store.BAL{ID: 2, Address: "medecin@cabinet.test"}, Address: "medecin@cabinet.test"})
	for i, r := range in.Recipients {
		got := strings.ToLower(string(d.prefix(in, nil, r, false, 1, testTime)))
		other := in.Recipients[1-i].Address
		if strings.Contains(got, string(other.Lower())) || strings.Contains(got, " for ") {
			t.Errorf("the prefix of %d names a recipient:\n%s", i, got)
		}
	}
}

// What a peer controls must neither end a line nor make the prefix too long.
func TestPrefixResistsInjection(t *testing.T) {
	d := New(Config{Hostname: "mx.operateur.test"})
	evil := "x\r\nBcc: evil@test\r\n\r\n\x00\"\\;(é" + strings.Repeat("A", 9000)
	dn, err := tlsconf.ParseDN(`CN="a\"b\\c` + strings.Repeat("é ", 600) + `",C=FR`)
	if err != nil {
		t.Logf("no such DN: %v", err)
	}
	in := testIncoming(t)
	in.Verdict.DN = dn
	in.Helo, in.EnvID, in.Ret, in.ListVersion, in.Cipher, in.TLSVersion = evil, evil, evil, evil, "TLS_X", "v\r\ny"
	in.ReversePath = message.Address(strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 94) + "test")
	r := in.Recipients[0]
	r.ORCPT, r.Notify = "rfc822;"+evil, evil
	in.HeaderFrom = HeaderFrom{Result: evil[:9], Domain: evil}
	long := strings.Repeat("b.", 124) + "test"
	signed := []Signature{{"pass", long}, {"fail", long}, {"temperror", long}}
	got := d.prefix(in, signed, r, true, 1, testTime)
	if len(got) > MaxPrefix {
		t.Errorf("prefix of %d octets", len(got))
	}
	for i, c := range got {
		if c >= 0x7f || c < ' ' && c != '\r' && c != '\n' {
			t.Fatalf("octet %q at %d", c, i)
		}
	}
	h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(string(got) + "\r\n"))).ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	if h.Get("Bcc") != "" {
		t.Error("a field was injected")
	}
	for name := range h {
		switch name {
		case "Return-Path", "Authentication-Results", "Received", "Original-Recipient", "Original-Envelope-Id", "X-Mssd-Receipts":
		default:
			t.Errorf("unexpected field %q", name)
		}
	}
}

func TestFromDomain(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tc := range []struct {
		helo   string
		remote netip.Addr
		want   string
	}{
		{"mail.example.test", v4, "mail.example.test ([192.0.2.1])"},
		{"localhost", v6, "localhost ([IPv6:2001:db8::1])"},
		{"[192.0.2.9]", v4, "[192.0.2.9] ([192.0.2.1])"},
		{"[IPv6:2001:db8::9]", v4, "[IPv6:2001:db8::9] ([192.0.2.1])"},
		{"[nonsense]", v4, "[192.0.2.1] (invalid-name)"},
		{"a(b)", v4, "[192.0.2.1] (invalid-name)"},
		{"a..b", v4, "[192.0.2.1] (invalid-name)"},
		{"", v4, "[192.0.2.1] (invalid-name)"},
		{"x", netip.Addr{}, "x ([0.0.0.0])"},
	} {
		if got := strings.Join(fromDomain(tc.helo, tc.remote), " "); got != tc.want {
			t.Errorf("fromDomain(%q, %v) = %q, want %q", tc.helo, tc.remote, got, tc.want)
		}
	}
}

func TestOnceKey(t *testing.T) {
	base := testIncoming(t)
	a, b := Recipient{BAL: store.BAL{ID: 1, Address: "a@x.test"}}, Recipient{BAL: store.BAL{ID: 2, Address: "b@x.test"}}
	key := onceKey(base, []Recipient{a, b}, [32]byte{1})
	if onceKey(base, []Recipient{b, a}, [32]byte{1}) != key {
		t.Error("the order of recipients changes the key")
	}
	other := *base
	other.ReversePath = "someone@patient.mssante.test"
	stranger := *base
	stranger.Verdict.DN = tlsconf.DN{}
	for name, k := range map[string][32]byte{
		"recipients": onceKey(base, []Recipient{a}, [32]byte{1}),
		"blob":       onceKey(base, []Recipient{a, b}, [32]byte{2}),
		"sender":     onceKey(&other, []Recipient{a, b}, [32]byte{1}),
		"operator":   onceKey(&stranger, []Recipient{a, b}, [32]byte{1}),
	} {
		if k == key {
			t.Errorf("another %s has the same key", name)
		}
	}
}

// Only a BAL of ours stands in the trace by its address: whoever else writes may be a patient.
func TestSenderName(t *testing.T) {
	_, st, rcpts, _ := open(t, 1)
	ours := string(rcpts[0].BAL.Address)
	for a, want := range map[string]string{"": "<>", ours: ours, strings.ToUpper(ours): ours} {
		if got := SenderName(st, message.Address(a)); got != want {
			t.Errorf("SenderName(%q) = %q, want %q", a, got, want)
		}
	}
	for _, a := range []string{"274000000000000@patient.mssante.fr", "274000000000000@medecin.mssante.fr", "dr.x@autre.test"} {
		local, _, _ := strings.Cut(a, "@")
		if got := SenderName(st, message.Address(a)); got == "" || strings.Contains(got, local) {
			t.Errorf("SenderName(%q) = %q, want a pseudonym", a, got)
		}
	}
}
