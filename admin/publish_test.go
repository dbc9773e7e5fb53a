package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mssd/directory"
	"mssd/store"
)

// export is what is to be told, as rows to acknowledge: all pages.
func (h *house) export(t *testing.T) (rows []Ack) {
	t.Helper()
	for after := ""; ; {
		page, err := h.Changes(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Changes {
			rows = append(rows, Ack{Line: len(rows) + 2, Export: page.At, Change: c})
		}
		if after = page.Next; after == "" {
			return rows
		}
	}
}

func (h *house) ack(t *testing.T, rows []Ack) (all Acked) {
	t.Helper()
	for part := range slices.Chunk(rows, MaxAcks) {
		done, err := h.AckChanges(t.Context(), part)
		if err != nil {
			t.Fatal(err)
		}
		all.Add(done)
	}
	return all
}

// texts is an export for people.
func texts(rows []Ack) string {
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprintf("%s %s %s", map[bool]string{false: "+", true: "-"}[r.Change.Remove], r.Change.Address, r.Change.Entry()))
	}
	return strings.Join(out, "\n")
}

// An export says what changed since the last one that was acknowledged; what was acknowledged stands in no other, whatever else is
// given again.
func TestPublication(t *testing.T) {
	var now atomic.Int64 // seconds
	now.Store(time.Now().Unix())
	h := open(t, func(s *Server) { s.Now = func() time.Time { return time.Unix(now.Load(), 0) } })
	add := func(b NewBAL) {
		t.Helper()
		if _, err := h.AddBAL(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(op store.Op) {
		t.Helper()
		if _, err := h.store.Commit(context.Background(), &store.Batch{Ops: []store.Op{op}}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want ...string) []Ack {
		t.Helper()
		now.Add(60)
		rows := h.export(t)
		if got := texts(rows); got != strings.Join(want, "\n") {
			t.Errorf("to be told:\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
		pending := PendingOf(h.store)
		if removals := strings.Count("\n"+texts(rows), "\n-"); pending.Removals != removals || pending.Additions != len(rows)-removals {
			t.Errorf("pending %+v", pending)
		}
		return rows
	}
	acked := func(rows []Ack, want Acked) {
		t.Helper()
		if got := h.ack(t, rows); got.String() != want.String() || len(got.Faults) > 0 {
			t.Errorf("acknowledged %+v, want %+v", got, want)
		}
	}
	expect()
	add(NewBAL{Address: "pharmacie@b.example", Kind: "ORG", Structure: "990000119"})
	add(NewBAL{Address: "anne@b.example", Kind: "PER", Member: &NewMember{ID: "rpps:99900000052", NoPassword: true}})
	add(NewBAL{Address: "robot@b.example", Kind: "APP"})
	add(NewBAL{Address: "later@b.example", Kind: "ORG", State: "declared"})
	first := expect("+ anne@b.example 8|99900000052||", "+ pharmacie@b.example ||1|990000119")

	// It changes after the export and before the acknowledgement: what was exported is known to be there, the rest follows.
	commit(store.PutBAL{BAL: store.BAL{Address: "pharmacie@b.example", Structure: "990000127"}})
	acked(first, Acked{Noted: 2})
	second := expect("- pharmacie@b.example ||1|990000119", "+ pharmacie@b.example ||1|990000127")
	acked(second, Acked{Noted: 2})
	expect()
	acked(second, Acked{Before: 2})
	acked(first, Acked{Before: 1, Stale: 1})
	expect()

	// Suspended it stays, closed or unlisted it goes; a row that was not taken comes again.
	for _, state := range []string{"suspended", "active", "closed"} {
		if _, err := h.SetState(t.Context(), "pharmacie@b.example", state, ""); err != nil {
			t.Fatal(err)
		}
		if state != "closed" {
			expect()
		}
	}
	if _, err := h.SetListing(t.Context(), "anne@b.example", "unlisted"); err != nil {
		t.Fatal(err)
	}
	third := expect("- anne@b.example 8|99900000052||", "- pharmacie@b.example ||1|990000127")
	acked(third[:1], Acked{Noted: 1})
	if _, err := h.store.DestroyBAL(t.Context(), "pharmacie@b.example"); err != nil {
		t.Fatal(err)
	}
	fourth := expect("- pharmacie@b.example ||1|990000127")
	acked(fourth, Acked{Noted: 1})
	expect()

	// Listed again, an acknowledgement of old hides nothing.
	if _, err := h.SetListing(t.Context(), "anne@b.example", "published"); err != nil {
		t.Fatal(err)
	}
	acked(first[:1], Acked{Stale: 1})
	expect("+ anne@b.example 8|99900000052||")
}

// Of rows with a fault nothing is noted.
func TestPublicationFaults(t *testing.T) {
	h := open(t)
	h.addBAL(t, "a@b.example")
	h.addBAL(t, "c@b.example")
	good := h.export(t)
	for name, c := range map[string]struct {
		row  Ack
		want string
	}{
		"no BAL":       {Ack{Line: 7, Export: good[0].Export, Change: directory.Change{Kind: "ORG", Address: "x@b.example"}}, `there is no BAL "x@b.example"`},
		"another kind": {Ack{Line: 7, Export: good[0].Export, Change: directory.Change{Kind: "PER", Address: "c@b.example"}}, "is of kind ORG"},
		"no moment":    {Ack{Line: 7, Change: good[1].Change}, "of no moment"},
		"tomorrow":     {Ack{Line: 7, Export: time.Now().Add(time.Hour), Change: good[1].Change}, "of no moment"},
	} {
		got, err := h.AckChanges(t.Context(), []Ack{good[0], c.row})
		if err != nil || len(got.Faults) != 1 || got.Faults[0].Line != 7 || !strings.Contains(got.Faults[0].Text, c.want) || got.Noted != 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := h.AckChanges(t.Context(), make([]Ack, MaxAcks+1)); status(err) != http.StatusBadRequest {
		t.Errorf("too many rows: %v", err)
	}
	if left := h.export(t); len(left) != 2 {
		t.Errorf("left to be told: %v", left)
	}
}

// More BALs than one answer holds: each once, over the pages.
func TestPublicationPages(t *testing.T) {
	h := open(t)
	const n = maxChanges + 20
	var rows []DeclareRow
	for i := range n {
		rows = append(rows, DeclareRow{BAL: fmt.Sprintf("bal%04d@b.example", i), Kind: "ORG", State: "active"})
	}
	for part := range slices.Chunk(rows, MaxDeclared) {
		if done, err := h.DeclareBALs(t.Context(), Declare{Rows: part}); err != nil || len(done.Faults) > 0 {
			t.Fatal(done, err)
		}
	}
	all := h.export(t)
	for i, r := range all {
		if want := fmt.Sprintf("bal%04d@b.example", i); r.Change.Address != want {
			t.Fatalf("row %d is %s", i, r.Change.Address)
		}
	}
	if got := h.ack(t, all); got.Noted != n {
		t.Errorf("%+v", got)
	}
	if left := h.export(t); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
}
