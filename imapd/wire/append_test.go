package wire

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestUTF7(t *testing.T) {
	for _, tc := range []struct{ utf7, name string }{
		{"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"}, // RFC 3501, Section 5.1.3
		{"a&-b", "a&b"}, {"Envoy&AOk-s", "Envoyés"}, {"&2D3eCQ-", "😉"}, {"", ""},
	} {
		if got, err := DecodeUTF7(tc.utf7); err != nil || got != tc.name {
			t.Errorf("decode %q: %q, %v", tc.utf7, got, err)
		}
		if got := EncodeUTF7(tc.name); got != tc.utf7 {
			t.Errorf("encode %q: %q, want %q", tc.name, got, tc.utf7)
		}
	}
	for _, s := range []string{"&", "a&b", "&AGE-", "&U,BTFw-&ZeVnLIqe-", "&AOk", "&AOl-", "&AOkA-", "&2D0-", "&3gk-", "&AAo-", "&AOk=-", "&U/BTFw-", "é", "a\tb", "&A-"} {
		if got, err := DecodeUTF7(s); err == nil {
			t.Errorf("%q taken as %q", s, got)
		}
	}
}

func TestUTF7RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.Rune().Filter(func(r rune) bool { return !isControl(r) && r != 0xfffd }), 0, 30, -1).Draw(t, "name")
		if got, err := DecodeUTF7(EncodeUTF7(name)); err != nil || got != name {
			t.Fatalf("%q: %q, %v", name, got, err)
		}
	})
}

func FuzzUTF7(f *testing.F) {
	f.Add("&U,BTFw-/x&-")
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := DecodeUTF7(s); err == nil && EncodeUTF7(name) != s {
			t.Fatalf("%q is a second form of %q", s, EncodeUTF7(name))
		}
		EncodeUTF7(s)
	})
}

func TestStringRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.ByteMin(1)).Draw(t, "s")
		for _, f := range []func([]byte, string) []byte{AppendString, AppendAString} {
			l := &lexer{b: f(nil, string(b)), lim: DefaultLimits()}
			if got, err := l.astring(); err != nil || got != string(b) || len(l.b) > 0 {
				t.Fatalf("%q: %q, %v, left %q", b, got, err, l.b)
			}
		}
	})
}

func TestSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		num := rapid.Uint32Range(0, 30)
		var s Set
		for range rapid.IntRange(1, 8).Draw(t, "n") {
			s.Ranges = append(s.Ranges, Range{num.Draw(t, "first"), num.Draw(t, "last")})
		}
		top := rapid.Uint32Range(1, 25).Draw(t, "max")
		want := map[uint32]bool{}
		for _, r := range s.Ranges {
			a, b := r.First, r.Last
			if a == 0 {
				a = top
			}
			if b == 0 {
				b = top
			}
			for n := min(a, b); n <= max(a, b); n++ {
				want[n] = true
			}
		}
		got := map[uint32]bool{}
		rs := s.Resolve(top)
		for i, r := range rs {
			if i > 0 && r.First <= rs[i-1].Last+1 {
				t.Fatalf("not merged: %v", rs)
			}
			for n := r.First; n <= r.Last; n++ {
				got[n] = true
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		back, err := ParseUIDSet(command("UID EXPUNGE", string(AppendSet(nil, rs))))
		if err != nil || !cmp.Equal(back.Ranges, rs) {
			t.Fatalf("%v came back as %v, %v", rs, back.Ranges, err)
		}
	})
	if got := (Set{Ranges: []Range{{1, 0}, {3, 4}}}).Resolve(0); !cmp.Equal(got, []Range{{3, 4}}) {
		t.Errorf("empty mailbox: %v", got)
	}
	if got := (Set{Ranges: []Range{{4294967290, 4294967295}, {0, 4294967295}}}).Resolve(7); !cmp.Equal(got, []Range{{7, 4294967295}}) {
		t.Errorf("at the end: %v", got)
	}
	if got := string(AppendSet(nil, []Range{{1, 2}, {3, 3}, {5, 4294967295}})); got != "1:3,5:4294967295" {
		t.Errorf("got %s", got)
	}
}

// slowMatch is the definition, for short strings.
func slowMatch(p, s string, delim byte) bool {
	if p == "" {
		return s == ""
	}
	switch p[0] {
	case '*', '%':
		for i := 0; ; i++ {
			if slowMatch(p[1:], s[i:], delim) {
				return true
			}
			if i == len(s) || p[0] == '%' && s[i] == delim {
				return false
			}
		}
	}
	return s != "" && s[0] == p[0] && slowMatch(p[1:], s[1:], delim)
}

func TestMatchList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringOfN(rapid.SampledFrom([]rune("ab/*%")), 0, 8, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab/")), 0, 10, -1).Draw(t, "name")
		if got, want := MatchList(p, s, '/'), slowMatch(p, s, '/'); got != want {
			t.Fatalf("%q on %q: %v", p, s, got)
		}
	})
	for _, tc := range []struct {
		p, s string
		want bool
	}{
		{"inbox", "INBOX", true}, {"inb%", "INBOX", true}, {"inbox/a", "INBOX/a", true}, {"INBOX/A", "INBOX/a", false},
		{"inboxes", "INBOXES", false}, {"%", "a/b", false}, {"%/%", "a/b", true}, {"*", "", true}, {"Env*é", "Envoyé", true},
	} {
		if got := MatchList(tc.p, tc.s, '/'); got != tc.want {
			t.Errorf("%q on %q: %v", tc.p, tc.s, got)
		}
	}
	if !MatchList("%", "a/b", 0) {
		t.Error("flat names")
	}
}

func BenchmarkMatchListHostile(b *testing.B) {
	p, s := strings.Repeat("*a", 500)+"b", strings.Repeat("a", 1024)
	for b.Loop() {
		MatchList(p, s, '/')
	}
}

func TestAppend(t *testing.T) {
	utf8Name := AppendMailbox(nil, "é & \"x", true)
	for _, tc := range []struct{ got, want string }{
		{string(utf8Name), `"é & \"x"`},
		{string(AppendMailbox(nil, "Envoyés & a", false)), `"Envoy&AOk-s &- a"`},
		{string(AppendAString(nil, "nil")), `"nil"`},
		{string(AppendAString(nil, "")), `""`},
		{string(AppendString(nil, "a\r\nb\x00")), "{5}\r\na\r\nb?"},
		{string(AppendString(nil, "é")), "{2}\r\né"},
		{string(AppendNString(nil, "x", false)), "NIL"},
		{string(AppendFlags(nil, Seen|Draft|Recent, []string{"$Junk", "a b"})), `(\Seen \Draft \Recent $Junk)`},
		{string(AppendFlags(nil, 0, nil)), "()"},
		{string(AppendInternalDate(nil, time.Date(1996, 7, 7, 2, 44, 25, 0, time.FixedZone("", -7*3600)))), `" 7-Jul-1996 02:44:25 -0700"`},
		{string(AppendInternalDate(nil, time.Date(20000, 7, 7, 2, 44, 25, 0, time.UTC))), `"31-Dec-9999 23:59:59 +0000"`},
		{string(AppendList(nil, ListData{Command: "LIST", Attributes: []string{`\HasNoChildren`, `\Sent`}, Delim: '/', Name: "Sent"}, false)),
			"* LIST (\\HasNoChildren \\Sent) \"/\" Sent\r\n"},
		{string(AppendList(nil, ListData{Command: "LIST", Name: "", ChildInfo: []string{"SUBSCRIBED", "SPECIAL-USE"}}, false)),
			"* LIST () NIL \"\" (\"CHILDINFO\" (\"SUBSCRIBED\" \"SPECIAL-USE\"))\r\n"},
		{string(AppendStatus(nil, "INBOX", false, []StatusValue{{Item: StatusMessages, Value: 231}, {Item: StatusUIDNext, Value: 44292}})),
			"* STATUS INBOX (MESSAGES 231 UIDNEXT 44292)\r\n"},
		{string(AppendESearch(nil, ESearch{Tag: "A282", UID: true, Return: ReturnMin | ReturnCount | ReturnAll, Min: 2, Count: 3, All: []Range{{2, 2}, {10, 11}}})),
			"* ESEARCH (TAG \"A282\") UID MIN 2 ALL 2,10:11 COUNT 3\r\n"},
		{string(AppendESearch(nil, ESearch{Tag: "a", Return: ReturnMin | ReturnAll})), "* ESEARCH (TAG \"a\")\r\n"},
		{string(AppendSearch(nil, []Range{{2, 3}, {4294967295, 4294967295}})), " 2 3 4294967295"},
		{string(AppendFetchHead(nil, 12)), "* 12 FETCH ("},
		{string(AppendCapability(nil, []string{"IMAP4rev1", "IDLE"})), "CAPABILITY IMAP4rev1 IDLE"},
		{string(AppendCopyUID(nil, 38505, []Range{{304, 304}, {319, 320}}, []Range{{3956, 3958}})), "[COPYUID 38505 304,319:320 3956:3958]"},
		{string(AppendAppendUID(nil, 38505, Range{3955, 3955})), "[APPENDUID 38505 3955]"},
		{string(AppendAppendUID(nil, 38505, Range{3955, 3957})), "[APPENDUID 38505 3955:3957]"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

func TestDateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "zone"))
		want := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "t"), 0).In(zone)
		s := string(AppendInternalDate(nil, want))
		if got, ok := parseDateTime(s[1 : len(s)-1]); !ok || !got.Equal(want) {
			t.Fatalf("%s: %v", s, got)
		}
	})
}
