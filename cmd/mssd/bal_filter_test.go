package main

import (
	"testing"

	"mssd/admin"
)

func TestBALFilter(t *testing.T) {
	b := admin.BAL{Address: "pharmacie@officines.example", Kind: "ORG", State: "closed", Listing: "published", Structure: "990000119"}
	for _, c := range []struct {
		f    balFilter
		want bool
	}{
		{balFilter{}, true},
		{balFilter{state: "Closed", kind: "org", listing: "published", domain: "Officines.example", structure: "990000119"}, true},
		{balFilter{state: "active"}, false},
		{balFilter{kind: "PER"}, false},
		{balFilter{listing: "unlisted"}, false},
		{balFilter{domain: "example"}, false},
		{balFilter{state: "closed", structure: "990000127"}, false},
	} {
		if err := c.f.check(); err != nil || c.f.takes(b) != c.want {
			t.Errorf("%+v: %t, want %t (%v)", c.f, c.f.takes(b), c.want, err)
		}
	}
	for _, f := range []balFilter{{state: "open"}, {kind: "BOX"}, {listing: "red"}} {
		if f.check() == nil {
			t.Errorf("%+v is taken", f)
		}
	}
}
