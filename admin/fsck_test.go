package admin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mssd/store"
	"mssd/store/storetest"
)

// One octet changed within a body: only --bodies reads that far, and names the message.
func TestFsckBodies(t *testing.T) {
	h := open(t)
	h.addBAL(t, there)
	b, err := h.store.BAL(there)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := storetest.Deliver(t, h.store, b.ID, letter(1)+strings.Repeat("Bonjour\r\n", 500))
	storetest.Deliver(t, h.store, b.ID, letter(2))
	path := filepath.Join(filepath.Dir(h.Socket), "data", store.BodyFile(id))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(path, whole, 0o600)
	spoiled := append([]byte(nil), whole...)
	spoiled[20] ^= 1
	if err := os.WriteFile(path, spoiled, 0o600); err != nil {
		t.Fatal(err)
	}
	if doc, err := h.Fsck(t.Context(), true); err != nil || len(doc.Problems) != 1 || !strings.Contains(doc.Problems[0], id.String()) {
		t.Errorf("an altered body: %+v, %v", doc, err)
	}
	if err := os.Truncate(path, int64(len(whole)-1)); err != nil {
		t.Fatal(err)
	}
	for _, bodies := range []bool{false, true} {
		if doc, err := h.Fsck(t.Context(), bodies); err != nil || len(doc.Problems) != 1 || !strings.Contains(doc.Problems[0], id.String()) {
			t.Errorf("a body that was cut is told once, bodies %v: %+v, %v", bodies, doc, err)
		}
	}
}
