package imapd

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestCapabilitiesAreDocumented: what is advertised stands in the table of docs/imap.md, and what stands there is
// advertised.
func TestCapabilitiesAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/imap.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(b), "## Where we differ")
	var documented []string
	for line := range strings.SplitSeq(table, "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 3 {
			for name := range strings.SplitSeq(cells[1], ",") {
				documented = append(documented, strings.TrimSpace(name))
			}
		}
	}
	w := newWorld(t, nil)
	advertised := slices.Concat(capsBase, capsClear, strings.Fields(w.login(ownerName, "").ok("CAPABILITY")[0])[2:])
	for i, name := range advertised {
		advertised[i], _, _ = strings.Cut(strings.Replace(name, "APPENDLIMIT=", "APPENDLIMIT ", 1), " ")
		if !slices.Contains(documented, advertised[i]) {
			t.Errorf("%s is advertised, docs/imap.md does not name it", advertised[i])
		}
	}
	for _, name := range documented {
		if name == "extension" || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "AUTH=") {
			continue
		}
		if !slices.Contains(advertised, name) {
			t.Errorf("docs/imap.md names %q, which is not advertised", name)
		}
	}
}
