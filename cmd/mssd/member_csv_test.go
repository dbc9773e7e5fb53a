package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mssd/admin"
)

func TestParseMembers(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	one := []admin.MemberRow{{Line: 2, BAL: "a@b.test", Member: "rpps:99900000052", Role: "owner"}}
	for name, c := range map[string]struct {
		in   string
		want []admin.MemberRow
		err  string
	}{
		"commas":             {"bal,member,role\na@b.test,rpps:99900000052,owner\n", one, ""},
		"mark, CRLF, blanks": {"\xef\xbb\xbfbal; Member ;ROLE\r\na@b.test; rpps:99900000052;owner\r\n", one, ""},
		"other order": {"until,role,member,bal,from\n,owner,rpps:99900000052,a@b.test,2026-01-01T00:00:00Z\n",
			[]admin.MemberRow{{Line: 2, BAL: "a@b.test", Member: "rpps:99900000052", Role: "owner", From: &from}}, ""},
		"quoted certificate": {"bal,member,role\na@b.test,\"cert:CN=x,OU=3\",writer\n",
			[]admin.MemberRow{{Line: 2, BAL: "a@b.test", Member: "cert:CN=x,OU=3", Role: "writer"}}, ""},
		"head only":      {"bal,member,role\n", nil, ""},
		"nothing":        {"", nil, "is empty"},
		"unknown column": {"bal,member,role,password\n", nil, `column "password"`},
		"column twice":   {"bal,member,role,bal\n", nil, `column "bal"`},
		"short row":      {"bal,member,role\na@b.test,x\n", nil, "line 2 has 2 fields; expected 3 as in the first line"},
		"long row":       {"bal;member;role\na@b.test;x;owner;\n", nil, "line 2 has 4 fields; expected 3"},
		"one field":      {"bal,member,role\na@b.test\n", nil, "line 2 has 1 field; expected 3"},
		"bad date":       {"bal,member,role,from\na@b.test,x,owner,demain\n", nil, `line 2: from "demain"`},
		"bad state":      {"bal,member,role,state\na@b.test,x,owner,gone\n", nil, `line 2: state "gone"`},
		"twice":          {"bal,member,role\nA@b.test,x,owner\na@b.test,X,reader\n", nil, "line 3: X at a@b.test stands in line 2"},
	} {
		got, err := parseMembers([]byte(c.in))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		if d := cmp.Diff(c.want, got); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
	}
}

func FuzzParseMembers(f *testing.F) {
	f.Add([]byte("bal,member,role\na@b.test,rpps:99900000052,owner\n"))
	f.Add([]byte("\xef\xbb\xbfbal;member;role;from;until;state\n\"a\nb\";c;d;2026-01-01;;ended"))
	f.Fuzz(func(t *testing.T, in []byte) {
		rows, err := parseMembers(in)
		if err == nil && len(rows) > len(in) {
			t.Fatal("more rows than octets")
		}
	})
}
