package directory

import (
	"testing"
)

func TestDefaultPolicy(t *testing.T) {
	for _, c := range []struct {
		listing string
		answer  Answer
		want    Action
	}{
		{"published", Known, Accept}, {"published", KnownOther, AcceptAlert}, {"published", Unknown, Refuse550},
		{"published", CannotTell, AcceptNote}, {"unlisted", Known, Accept}, {"unlisted", KnownOther, AcceptNote},
		{"unlisted", Unknown, Accept}, {"unlisted", CannotTell, Accept}, {"", Unknown, Refuse550},
	} {
		if got := (Policy{}).Action(c.listing, c.answer); got != c.want {
			t.Errorf("%s/%v: got %v, want %v", c.listing, c.answer, got, c.want)
		}
	}
	p := Policy{Unlisted: Row{Unknown: Defer451}}
	if got := p.Action("unlisted", Unknown); got != Defer451 {
		t.Errorf("a cell that is set: got %v", got)
	}
	if got := p.Action("unlisted", KnownOther); got != AcceptNote {
		t.Errorf("its neighbour: got %v", got)
	}
}

func TestParseAction(t *testing.T) {
	for _, a := range []Action{Accept, AcceptNote, AcceptAlert, Refuse550, Defer450, Defer451} {
		if got, err := ParseAction(a.String()); got != a || err != nil {
			t.Errorf("ParseAction(%q) = %v, %v", a, got, err)
		}
	}
	if a, err := ParseAction(""); a != 0 || err != nil {
		t.Errorf(`ParseAction("") = %v, %v`, a, err)
	}
	if _, err := ParseAction("maybe"); err == nil {
		t.Error("maybe is taken for an action")
	}
}

func TestCompare(t *testing.T) {
	rows := []Entry{{Kind: "PER", StructureType: "FINESS", StructureID: "990000309"},
		{Kind: "PER", StructureType: "FINESS", StructureID: "990000317"}, {Kind: "ORG"}}
	for _, c := range []struct {
		name, kind, structure string
		rows                  []Entry
		want                  Answer
	}{
		{"type and structure", "PER", "990000309", rows, Known},
		{"structure of the second row", "per", "990000317", rows, Known},
		{"named kind of structure", "PER", "finess:990000317", rows, Known},
		{"other kind of structure", "PER", "SIRET:990000317", rows, KnownOther},
		{"other structure", "PER", "990000001", rows, KnownOther},
		{"other type", "APP", "", rows, KnownOther},
		{"row without structure contradicts none", "ORG", "990000001", rows, Known},
		{"we have no structure", "PER", "", rows, Known},
	} {
		if got, note := compare(Query{Kind: c.kind, Structure: c.structure}, c.rows); got != c.want || (got == Known) != (note == "") {
			t.Errorf("%s: got %v (%q), want %v", c.name, got, note, c.want)
		}
	}
}
