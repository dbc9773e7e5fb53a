package admin

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"mssd/store"
)

func TestDeclareBALs(t *testing.T) {
	h := open(t)
	rows := []DeclareRow{
		{Line: 2, BAL: "A@officines.example", Kind: "org", Structure: "990000119", Owner: "rpps:99900000052"},
		{Line: 3, BAL: "b@officines.example", Kind: "APP", State: "active"},
	}
	would, err := h.DeclareBALs(t.Context(), Declare{Rows: rows, DryRun: true})
	if err != nil || would.Added != 2 || len(would.Faults) > 0 {
		t.Fatalf("dry run: %+v, %v", would, err)
	}
	if list, err := h.BALs(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("a dry run made BALs: %+v, %v", list, err)
	}
	for _, want := range []string{"2 added, 0 there already", "0 added, 2 there already"} {
		if done, err := h.DeclareBALs(t.Context(), Declare{Rows: rows}); err != nil || done.String() != want {
			t.Errorf("%+v, %v, want %s", done, err, want)
		}
	}
	a, err := h.BAL(t.Context(), "a@officines.example")
	if err != nil || a.State != "declared" || a.Listing != "published" || a.Structure != "990000119" || len(a.Members) != 1 ||
		a.Members[0].ID != "rpps:99900000052" || a.Members[0].Role != "owner" || a.Members[0].HasPassword {
		t.Errorf("%+v, %v", a, err)
	}
	b, err := h.BAL(t.Context(), "b@officines.example")
	if err != nil || b.State != "active" || b.Kind != "APP" || b.Listing != "unlisted" || len(b.Members) != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	// What happened to it since is no matter of the file.
	if _, err := h.SetState(t.Context(), "a@officines.example", "suspended", ""); err != nil {
		t.Fatal(err)
	}
	if done, err := h.DeclareBALs(t.Context(), Declare{Rows: rows}); err != nil || done.Added != 0 || len(done.Faults) > 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if a, err := h.BAL(t.Context(), "a@officines.example"); err != nil || a.State != "suspended" {
		t.Errorf("a declaration changed the state: %+v, %v", a, err)
	}
}

// All faults are told at once, by line, and then nothing is done. The address of a destroyed BAL is one of them.
func TestDeclareFaults(t *testing.T) {
	h := open(t)
	h.addBAL(t, "there@officines.example")
	h.addBAL(t, "gone@officines.example")
	if _, err := h.SetState(t.Context(), "gone@officines.example", "closed", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Destroy(t.Context(), "gone@officines.example", false, ""); err != nil {
		t.Fatal(err)
	}
	faults := []struct {
		row  DeclareRow
		text string
	}{
		{DeclareRow{BAL: "x", Kind: "ORG"}, "is no address of a BAL"},
		{DeclareRow{BAL: "1@patient.mssante.fr", Kind: "ORG"}, "belongs to the patient platform"},
		{DeclareRow{BAL: "k@officines.example", Kind: "BOX"}, "is no kind of BAL"},
		{DeclareRow{BAL: "l@officines.example", Kind: "ORG", Listing: "red"}, "is no listing"},
		{DeclareRow{BAL: "s@officines.example", Kind: "ORG", State: "closed"}, "expected declared or active"},
		{DeclareRow{BAL: "o@officines.example", Kind: "ORG", Owner: "docteur"}, "is no member id"},
		{DeclareRow{BAL: "GOOD@officines.example", Kind: "ORG"}, "stands in line 1 already"},
		{DeclareRow{BAL: "gone@officines.example", Kind: "ORG"}, "never given again"},
		{DeclareRow{BAL: "there@officines.example", Kind: "PER"}, "which never changes"},
		{DeclareRow{BAL: "There@officines.example", Kind: "ORG", Structure: "1"}, "stands in line"},
	}
	rows := []DeclareRow{{Line: 1, BAL: "good@officines.example", Kind: "ORG"}}
	for i, f := range faults {
		f.row.Line = i + 2
		rows = append(rows, f.row)
	}
	done, err := h.DeclareBALs(t.Context(), Declare{Rows: rows})
	if err != nil || len(done.Faults) != len(faults) {
		t.Fatalf("%+v, %v, want %d faults", done, err, len(faults))
	}
	for i, f := range done.Faults {
		if f.Line != i+2 || !strings.Contains(f.Text, faults[i].text) {
			t.Errorf("%+v, want line %d, %q", f, i+2, faults[i].text)
		}
	}
	if _, err := h.BAL(t.Context(), "good@officines.example"); status(err) != http.StatusNotFound {
		t.Errorf("with faults a BAL was made: %v", err)
	}
	for _, row := range []DeclareRow{{Line: 1, BAL: "there@officines.example", Kind: "ORG", Structure: "1"},
		{Line: 1, BAL: "there@officines.example", Kind: "ORG", Listing: "unlisted"}} {
		if done, err := h.DeclareBALs(t.Context(), Declare{Rows: []DeclareRow{row}}); err != nil || len(done.Faults) != 1 {
			t.Errorf("%+v: %+v, %v", row, done, err)
		}
	}
	if _, err := h.DeclareBALs(t.Context(), Declare{Rows: slices.Repeat(rows, MaxDeclared)}); status(err) != http.StatusBadRequest {
		t.Errorf("too many rows: %v", err)
	}
	if b, err := h.store.BAL("there@officines.example"); err != nil || b.Listing != store.Published || b.Structure != "" {
		t.Errorf("a faulty row changed a BAL: %+v, %v", b, err)
	}
}

// The fullest request fits into what the daemon reads.
func TestFullDeclarationFits(t *testing.T) {
	h := open(t)
	long := strings.Repeat("x", 300)
	var rows []DeclareRow
	for i := range MaxDeclared {
		rows = append(rows, DeclareRow{Line: i, BAL: long, Kind: long, Listing: long, Structure: long, State: long, Owner: long})
	}
	if done, err := h.DeclareBALs(t.Context(), Declare{Rows: rows, DryRun: true}); err != nil || len(done.Faults) != MaxDeclared {
		t.Errorf("%d faults, %v", len(done.Faults), err)
	}
}
