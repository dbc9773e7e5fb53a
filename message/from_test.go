package message

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What people read as the sender must not escape the judgement by being written in another way.
func TestFromDomains(t *testing.T) {
	var many strings.Builder
	for i := range 40 {
		fmt.Fprintf(&many, "a@d%d.test, ", i)
	}
	for _, tc := range []struct {
		header string
		want   []string
	}{
		{"From: Officine <pharmacie@Officine.TEST>\r\n", []string{"officine.test"}},
		{"from : a@b.test\r\n", []string{"b.test"}},
		{"From: a@b.test, \"c@d.test\" <e@f.test>\r\n", []string{"b.test", "f.test"}},
		{"From: a@b.test\r\nFrom: x@evil.test\r\n", []string{"b.test", "evil.test"}},
		{"From: groupe: a@b.test, c@d.test;\r\n", []string{"b.test", "d.test"}},
		{"From: =?utf-8?q?a=40b.test?= <e@f.test>\r\n", []string{"f.test"}},
		{"From: a@b.test,\r\n c@d.test\r\n", []string{"b.test", "d.test"}},
		{"From: nobody\r\n", []string{""}},
		{"From:\r\n", nil},
		{"Subject: a@b.test\r\n", nil},
		{"From: " + many.String() + "\r\n", append(func() (l []string) {
			for i := range maxFrom {
				l = append(l, fmt.Sprintf("d%d.test", i))
			}
			return
		}(), "")},
	} {
		s := NewScanner()
		fmt.Fprintf(s, "%sTo: x@y.test\r\n\r\nFrom: z@body.test\r\n", tc.header)
		s.Finish()
		if got := s.FromDomains(); !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.header, got, tc.want)
		}
	}
}

// Where answers go: to Reply-To, else to From.
func TestReplyToDomains(t *testing.T) {
	for header, want := range map[string][]string{
		"From: a@b.test\r\n": {"b.test"},
		"From: a@b.test\r\nReply-To: c@D.test, g: e@f.test;\r\nreply-to: h@i.test\r\n": {"d.test", "f.test", "i.test"},
		"From: a@b.test\r\nReply-To: somebody\r\n":                                     {""},
		"From: a@b.test\r\nReply-To:\r\n":                                              {"b.test"},
		"":                                                                             nil,
	} {
		s := NewScanner()
		fmt.Fprintf(s, "%sTo: x@y.test\r\n\r\nReply-To: z@body.test\r\n", header)
		s.Finish()
		if got := s.ReplyToDomains(); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

func TestReply(t *testing.T) {
	for _, tc := range []struct {
		header string
		want   bool
	}{
		{"In-Reply-To: <a@b.test>\r\n", true},
		{"in-reply-to: text\r\n <a@b.test>\r\n", true},
		{"References: <x@y.test> <a@b.test>\r\n", true},
		{"In-Reply-To:\r\n", false},
		{"In-Reply-To: your mail of Monday\r\n", false},
		{"References: <>\r\n", false},
		{"References: <@>\r\n", false},
		{"Subject: Re: <a@b.test>\r\n", false},
		{"X-In-Reply-To: <a@b.test>\r\n", false},
		{"", false},
	} {
		s := NewScanner()
		fmt.Fprintf(s, "%sTo: x@y.test\r\n\r\nIn-Reply-To: <z@body.test>\r\n", tc.header)
		s.Finish()
		if got := s.Reply(); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.header, got, tc.want)
		}
	}
}
