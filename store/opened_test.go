package store_test

import (
	"path/filepath"
	"strings"
	"testing"

	"mssd/store"
)

// TestOpenNamesOnce: what the system says of a file that cannot be opened is told with its name, once.
func TestOpenNamesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "index.db")
	if err := store.OpenBolt(path); err == nil || strings.Count(err.Error(), path) != 1 {
		t.Errorf("%v; want the name once", err)
	}
}
