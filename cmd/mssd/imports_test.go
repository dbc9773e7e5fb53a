package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport says which rooms each room may import: the table of docs/architecture.md, "The house".
// It is a statement of policy; a change here is a change of the design.
var mayImport = map[string][]string{
	"message":             {},
	"trace":               {},
	"tlsconf/fetch":       {},
	"tlsconf":             {"tlsconf/fetch"},
	"tlsconf/guard":       {},
	"tlsconf/testpki":     {"tlsconf"},
	"directory/whitelist": {"tlsconf", "tlsconf/fetch"},
	"directory":           {"tlsconf", "tlsconf/fetch", "directory/whitelist"},
	"store":               {"message", "trace"},
	"store/backup":        {"store", "trace"},
	"auth":                {"store", "directory", "tlsconf", "tlsconf/fetch"},
	"delivery":            {"message", "store", "directory", "trace", "tlsconf"},
	"smtpd":               {"auth", "delivery", "store", "directory", "directory/whitelist", "tlsconf", "tlsconf/guard", "trace", "message"},
	"imapd/wire":          {},
	"mailfile":            {"imapd/wire"},
	"imapd":               {"imapd/wire", "auth", "delivery", "store", "directory", "tlsconf", "tlsconf/guard", "trace", "message"},
	"admin":               {"auth", "delivery", "store", "store/backup", "directory", "directory/whitelist", "tlsconf", "trace", "message"},
}

// testOnly are rooms that only tests, and cmd where it says so, may import.
var testOnly = map[string][]string{
	"tlsconf/testpki":     {"cmd/"},
	"store/storetest":     {},
	"store/crashtest":     {},
	"directory/slapdtest": {},
	"auth/psctest":        {},
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "mssd/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room := strings.TrimPrefix(p.ImportPath, "mssd/")
		seen++
		for _, imp := range p.Imports {
			dep, ours := strings.CutPrefix(imp, "mssd/")
			if !ours {
				continue
			}
			if users, helper := testOnly[dep]; helper {
				if _, both := testOnly[room]; !both && !slices.ContainsFunc(users, func(u string) bool { return strings.HasPrefix(room, u) }) {
					t.Errorf("%s imports %s, which is for tests", room, dep)
				}
				continue
			}
			if strings.HasPrefix(room, "cmd/") {
				continue // cmd wires everything
			}
			if _, helper := testOnly[room]; helper {
				continue
			}
			allowed, known := mayImport[room]
			if !known {
				t.Errorf("room %s is not in the table of docs/architecture.md: a new room needs a noun of the trade and a line there and here", room)
				break
			}
			if !slices.Contains(allowed, dep) {
				t.Errorf("%s imports %s: not in the table of docs/architecture.md", room, dep)
			}
		}
	}
	if seen < len(mayImport) {
		t.Errorf("go list shows %d packages, the table holds %d rooms", seen, len(mayImport))
	}
}
