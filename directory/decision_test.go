package directory

import (
	"testing"
)

func TestDefaultPolicy(t *testing.T) {
	var p Policy
	for _, c := range []struct {
		from    Class
		listing string
		answer  Answer
		want    Action
	}{
		{Operator, "published", Known, Accept}, {Operator, "published", KnownOther, AcceptAlert},
		{Operator, "published", Unknown, Refuse550}, {Operator, "published", CannotTell, AcceptNote},
		{Operator, "unlisted", Known, Accept}, {Operator, "unlisted", KnownOther, AcceptNote},
		{Operator, "unlisted", Unknown, Accept}, {Operator, "unlisted", CannotTell, Accept}, {Operator, "", Unknown, Refuse550},
		{Patient, "published", Unknown, Refuse550}, {Patient, "published", CannotTell, AcceptNote}, {Patient, "unlisted", Unknown, Accept},
		{Member, "published", Unknown, AcceptAlert}, {Member, "published", Known, Accept},
	} {
		if got := p.Action(c.from, c.listing, c.answer); got != c.want {
			t.Errorf("%v/%s/%v: got %v, want %v", c.from, c.listing, c.answer, got, c.want)
		}
	}
}

func TestPolicyCells(t *testing.T) {
	p := Policy{Rows: Rows{Unlisted: Row{Unknown: Defer451}, Published: Row{Unknown: Defer450}},
		Patient: Rows{Unlisted: Row{Unknown: Refuse550}}}
	for _, c := range []struct {
		name    string
		from    Class
		listing string
		answer  Answer
		want    Action
	}{
		{"set for everybody", Operator, "unlisted", Unknown, Defer451},
		{"its neighbour", Operator, "unlisted", KnownOther, AcceptNote},
		{"the class comes first", Patient, "unlisted", Unknown, Refuse550},
		{"what is set for everybody comes before the default of a class", Member, "published", Unknown, Defer450},
	} {
		if got := p.Action(c.from, c.listing, c.answer); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
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
