package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/trace"
)

func newTrace() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "trace ID | MESSAGE-ID",
		Short: "Print what happened to a message, from the TLS session to its reading",
		Long: "Print the life of a message. ID is what stood in the 250 answer (13 characters); anything else is taken for the\n" +
			"Message-ID of its header, with or without angle brackets. Looking stands in the trace too.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var doc admin.Trace
			var err error
			if _, bad := trace.ParseID(args[0]); bad == nil {
				doc, err = ask.client().TraceByID(cmd.Context(), args[0])
			} else {
				doc, err = ask.client().TraceByMessageID(cmd.Context(), args[0])
			}
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), doc, func(w io.Writer) {
				for i, m := range doc.Messages {
					if i > 0 {
						fmt.Fprintln(w)
					}
					for _, e := range m.Events {
						fmt.Fprintln(w, e.Line)
					}
				}
			})
		},
	}
	return ask.flags(c)
}
