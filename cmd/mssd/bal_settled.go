package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"mssd/store"
)

// vouchedHelp explains --after-restore.
const vouchedHelp = "in a store that was restored: nobody else had the address after the backup"

func newBALSettled() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "settled",
		Short: "Say, after a restore, that all addresses given since the backup are here",
		Long: "Say, after a restore, that every address that was given after the backup is here again (mssd bal add --after-restore), or that there\n" +
			"were none. Until then a restored store gives an address only where --after-restore vouches for it: it does not know who had it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			got, err := ask.client().AddressesSettled(cmd.Context())
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), got, func(w io.Writer) {
				fmt.Fprintf(w, "addresses are given again as before the restore (backup of %s)\n", got.Backup.UTC().Format(time.RFC3339))
			})
		},
	}
	return ask.flags(c)
}

// settleWarning says that a restored store gives no addresses yet; nil: it does.
func settleWarning(st *store.Store) string {
	r, ok, err := st.Restored()
	if err != nil || !ok || !r.Settling() {
		return ""
	}
	return fmt.Sprintf("restored from the backup of %s: addresses given after it are not known here; bring them back (mssd bal add --after-restore), then say mssd bal settled",
		r.Moment.UTC().Format(time.RFC3339))
}
