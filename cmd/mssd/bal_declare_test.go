package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mssd/admin"
)

func TestParseDeclared(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []admin.DeclareRow
		err  string
	}{
		"from a spreadsheet": {"\xef\xbb\xbfKind;BAL;owner;State\r\nORG; A@b.test ;rpps:99900000052;Active\r\n\r\nPER;c@b.test;;\r\n", []admin.DeclareRow{
			{Line: 2, BAL: "A@b.test", Kind: "ORG", State: "active", Owner: "rpps:99900000052"}, {Line: 4, BAL: "c@b.test", Kind: "PER"}}, ""},
		"all columns": {"bal,kind,listing,structure,state,owner\na@b.test,ORG,Unlisted,990000119,,\n",
			[]admin.DeclareRow{{Line: 2, BAL: "a@b.test", Kind: "ORG", Listing: "unlisted", Structure: "990000119"}}, ""},
		"nothing":         {"", nil, "expected a first line with the columns bal and kind"},
		"no kind":         {"bal,owner\n", nil, "has no column kind"},
		"unknown column":  {"bal,kind,password\n", nil, `column "password"`},
		"too many fields": {"bal,kind\na@b.test,ORG,x\n", nil, "line 2"},
		"long field":      {"bal,kind\n" + strings.Repeat("a", 301) + ",ORG\n", nil, "line 2: bal of 301 octets"},
	} {
		got, err := parseDeclared([]byte(c.in))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if d := cmp.Diff(c.want, got); c.err == "" && d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
}
