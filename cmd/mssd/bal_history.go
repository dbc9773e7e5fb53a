package main

import (
	"cmp"
	"io"
	"time"

	"github.com/spf13/cobra"

	"mssd/trace"
)

func newBALHistory() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "history ADDRESS",
		Short: "Show what was done to a BAL and its members: when, by whom, why",
		Long: "Show what was done to a BAL and its members: when, what, the state it had from then on, by whom and why. It is read from the\n" +
			"trace, also for a BAL that was destroyed.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			events, err := ask.client().History(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), events, func(w io.Writer) {
				row(w, "TIME", "ACT", "STATE", "BY", "MEMBER", "REASON")
				for _, e := range events {
					row(w, e.Time.UTC().Format(time.RFC3339), cmp.Or(e.Attrs[trace.KeyAct], e.Kind), dash(e.Attrs[trace.KeyState]), dash(e.Person),
						dash(e.Attrs[trace.KeyMember]), dash(cmp.Or(e.Attrs[trace.KeyReason], e.Attrs[trace.KeyNote])))
				}
			})
		},
	}
	return ask.flags(c)
}
