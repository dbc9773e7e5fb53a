package whitelist

import (
	"os"
	"path/filepath"
	"testing"
)

// A file with an entry that is nothing must not keep the daemon from starting.
func TestPartnersNullEntry(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, partnersFile), []byte(`[null, {"domain":"a.test","dn":"`+dnA+`"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := OpenPartners(dir, nil, nil); len(p.seen) != 1 {
		t.Errorf("%d partners, expected 1", len(p.seen))
	}
}
