package main

import (
	"strings"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/store"
)

// balFilter says which BALs are wanted; "" wants all.
type balFilter struct{ state, kind, listing, domain, structure string }

func (f *balFilter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.state, "state", "", "declared, active, suspended, closed or destroyed")
	c.Flags().StringVar(&f.kind, "kind", "", "PER, ORG, APP or CAB")
	c.Flags().StringVar(&f.listing, "listing", "", "published or unlisted")
	c.Flags().StringVar(&f.domain, "domain", "", "domain of the address")
	c.Flags().StringVar(&f.structure, "structure", "", "identifier of the structure")
}

// check refuses words that no BAL ever matches.
func (f *balFilter) check() error {
	if f.state != "" {
		if _, err := store.ParseState(f.state); err != nil {
			return usageError{err}
		}
	}
	if f.kind != "" {
		if _, err := store.ParseKind(f.kind); err != nil {
			return usageError{err}
		}
	}
	if f.listing != "" {
		if _, err := store.ParseListing(f.listing); err != nil {
			return usageError{err}
		}
	}
	return nil
}

func (f *balFilter) takes(b admin.BAL) bool {
	_, domain, _ := strings.Cut(b.Address, "@")
	return like(f.state, b.State) && like(f.kind, b.Kind) && like(f.listing, b.Listing) && like(f.domain, domain) && like(f.structure, b.Structure)
}

func like(want, is string) bool { return want == "" || strings.EqualFold(want, is) }
