package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func newBALInactive() *cobra.Command {
	var ask asking
	var days int
	c := &cobra.Command{
		Use:   "inactive [--days 365]",
		Short: "List the active BALs that nobody has logged in to for so many days",
		Long: "List the active BALs that nobody has logged in to, or read, for so many days, those that are silent the longest first. A BAL is\n" +
			"counted from the moment it was made or became active again; after mssd fsck --rebuild, from then on.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := ask.client().Inactive(cmd.Context(), days)
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), got, func(w io.Writer) {
				if len(got.BALs) > 0 {
					row(w, "ADDRESS", "KIND", "LISTING", "LAST LOGIN", "SILENT SINCE", "NOTICED", "MESSAGES")
				}
				for _, b := range got.BALs {
					row(w, b.Address, b.Kind, b.Listing, day(b.LastLogin), b.Since.UTC().Format(time.RFC3339), day(b.Noticed), b.Messages)
				}
				if len(got.BALs) == 0 {
					fmt.Fprintf(w, "no active BAL is known to be without a login for %s\n", counted(got.Days, "day", "days"))
				}
				if got.Unknown > 0 {
					fmt.Fprintf(w, "%s without a login, counted only since then: %s at the latest\n", counted(got.Unknown, "older BAL is", "older BALs are"), got.KnownSince.UTC().Format(time.RFC3339))
				}
			})
		},
	}
	c.Flags().IntVar(&days, "days", 365, "how many days without a login")
	return ask.flags(c)
}
