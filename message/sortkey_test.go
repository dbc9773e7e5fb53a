package message

import (
	"strings"
	"testing"
)

// TestBaseSubject: RFC 5256, Section 2.1.
func TestBaseSubject(t *testing.T) {
	for _, c := range []struct {
		in, base string
		reply    bool
	}{
		{"", "", false},
		{"bonjour", "bonjour", false},
		{"  bon \t jour  ", "bon jour", false},
		{"Re: bonjour", "bonjour", true},
		{"RE:bonjour", "bonjour", true},
		{"Re : bonjour", "bonjour", true},
		{"re[2]: bonjour", "bonjour", true},
		{"Fwd: bonjour", "bonjour", true},
		{"FW: bonjour", "bonjour", true},
		{"Fw: Re: fwd: bonjour (fwd) (FWD) ", "bonjour", true},
		{"[liste] bonjour", "bonjour", false},
		{"[liste] Re: [liste] bonjour", "bonjour", true},
		{"Re: [a] [b] fwd [c]: bonjour", "bonjour", true},
		{"[liste]", "[liste]", false},
		{"Re: [liste]", "[liste]", true},
		{"[a][b]", "[b]", false},
		{"[fwd: bonjour]", "bonjour", true},
		{"Re: [Fwd: Re: bonjour (fwd)]", "bonjour", true},
		{"[fwd:]", "", true},
		{"réponse: bonjour", "réponse: bonjour", false},
		{"Re", "Re", false},
		{"[[x] bonjour", "[[x] bonjour", false},
		{"(fwd)", "", true},
		{"re: re: re:", "", true},
	} {
		if base, reply := BaseSubject(c.in); base != c.base || reply != c.reply {
			t.Errorf("%q: %q %v, want %q %v", c.in, base, reply, c.base, c.reply)
		}
	}
}

// TestSortFields reads the fields back out of the ENVELOPE that the scanner wrote.
func TestSortFields(t *testing.T) {
	raw := "From: =?utf-8?Q?H=C3=A9l=C3=A8ne?= <helene@exemple.test>, b@exemple.test\r\n" +
		"Sender: c@exemple.test\r\nTo: \"Dr \\\"X\\\" (Y)\" <x.y@exemple.test>\r\nCc: groupe:;\r\n" +
		"Subject: =?iso-8859-1?Q?No=EBl?= \xc3\xa9t\xc3\xa9 \"a\\b\"\r\nIn-Reply-To: <0@x>\r\nMessage-ID: <1@x>\r\n\r\nx\r\n"
	m, _, err := Scan(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	got := m.sortFields()
	want := sortFields{Subject: "Noël été \"a\\b\"", From: correspondent{"Hélène", "helene", "exemple.test"},
		To: correspondent{`Dr "X" (Y)`, "x.y", "exemple.test"}, Cc: correspondent{"", "groupe", ""}, ReplyTo: "<0@x>", MessageID: "<1@x>"}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if d := got.From.Display(); d != "Hélène" {
		t.Errorf("display %q", d)
	}
	if d := (correspondent{Mailbox: "a", Host: "b"}).Display(); d != "a@b" {
		t.Errorf("display %q", d)
	}
	if none := (&Meta{}).sortFields(); none != (sortFields{}) {
		t.Errorf("of nothing: %+v", none)
	}
}

// FuzzSortFields: whatever a message holds, its fields are read without a panic and mean the same twice.
func FuzzSortFields(f *testing.F) {
	f.Add("Subject: Re: [x] y\r\nFrom: a <b@c>\r\n\r\n", `("d" {2}`+"\r\nab ((NIL NIL \"a\" \"b\")) NIL)")
	f.Fuzz(func(t *testing.T, raw, envelope string) {
		m, _, err := Scan(strings.NewReader(raw))
		if err != nil {
			return
		}
		fields := m.sortFields()
		base, _ := BaseSubject(fields.Subject)
		if again, _ := BaseSubject(base); again != base {
			t.Errorf("%q: %q, then %q", fields.Subject, base, again)
		}
		(&Meta{Envelope: []byte(envelope)}).SortKeys()
		k := m.SortKeys()
		for _, text := range []string{k.Subject, k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo} {
			if len(text) > maxSortText {
				t.Errorf("%d octets are compared: %q", len(text), text)
			}
		}
	})
}

// TestSortKeys: texts are decoded, folded and bounded; a date is a moment, whatever its zone.
func TestSortKeys(t *testing.T) {
	raw := "Date: Mon, 23 Nov 2026 01:00:00 +0200\r\nFrom: =?utf-8?Q?H=C3=A9l=C3=A8ne?= <Helene@exemple.test>\r\nTo: <x.y@exemple.test>, z@exemple.test\r\n" +
		"Cc: =?utf-8?Q?" + strings.Repeat("=C3=89t=C3=A9_", 60) + "?= <cc@exemple.test>\r\n" +
		"Subject: Re: [labo] Fwd: =?iso-8859-1?Q?No=EBl?= " + strings.Repeat("\xc3\xa9", 300) + "\r\nIn-Reply-To: Votre mail <0@x> <1@x>\r\nMessage-ID: <2@x>\r\n\r\nx\r\n"
	m, _, err := Scan(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	got := m.SortKeys()
	want := SortKeys{Sent: 1795388400, Dated: true, Reply: true, Subject: "noel " + strings.Repeat("e", maxSortText-5), From: "helene", To: "x.y", Cc: "cc",
		DisplayFrom: "helene", DisplayTo: "x.y@exemple.test", ID: NewRefID("2@x"), InReplyTo: NewRefID("0@x")}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if none := (&Meta{}).SortKeys(); none != (SortKeys{}) {
		t.Errorf("of nothing: %+v", none)
	}
}
