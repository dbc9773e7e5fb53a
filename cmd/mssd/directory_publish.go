package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/directory"
)

func newDirectoryPublish() *cobra.Command {
	var ask asking
	var ack string
	c := &cobra.Command{
		Use:   "publish [--ack FILE]",
		Short: "Print what the Annuaire Santé is to be told of our BALs",
		Long: "Print what the Annuaire Santé is to be told of our BALs: entries to add and to take away since the last export that was\n" +
			"acknowledged, in the columns of the public extraction and two more. With --ack the directory has taken what FILE says (- is standard\n" +
			"input), a file that this command printed; take out of it the lines that were not taken, they stand in the next export. The same file\n" +
			"may be given again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("ack") {
				return ackExport(cmd, &ask, ack)
			}
			return publish(cmd.Context(), ask.client(), cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&ack, "ack", "", "note that the directory has taken what this file says")
	c.Flags().StringVar(&ask.socket, "socket", defaultSocket, "unix socket of the daemon")
	return c
}

// publish writes an export, a page of changes at a time.
func publish(ctx context.Context, from *admin.Client, out io.Writer) error {
	var to directory.Publisher
	for after := ""; ; {
		page, err := from.Changes(ctx, after)
		if err != nil {
			return err
		}
		if to == nil {
			to = directory.NewManualExport(out, page.At)
		}
		for _, c := range page.Changes {
			if err := to.Publish(ctx, c); err != nil {
				return err
			}
		}
		if after = page.Next; after == "" {
			return to.Done()
		}
	}
}

// ackExport notes what a file says, some rows at a time. Broken off, the same file does the rest.
func ackExport(cmd *cobra.Command, ask *asking, name string) error {
	in, label := cmd.InOrStdin(), "standard input"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in, label = f, name
	}
	var all admin.Acked
	var rows []admin.Ack
	send := func() error {
		if len(rows) == 0 {
			return nil
		}
		done, err := ask.client().AckChanges(cmd.Context(), rows)
		if err != nil {
			return err
		}
		rows = rows[:0]
		all.Add(done)
		if f := all.Faults; len(f) > 0 {
			return fmt.Errorf("line %d: %s; until there: %s; mend the file and give it again", f[0].Line, f[0].Text, all)
		}
		return nil
	}
	err := directory.ReadExport(in, func(line int, at time.Time, c directory.Change) error {
		rows = append(rows, admin.Ack{Line: line, Export: at, Change: c})
		if len(rows) < admin.MaxAcks {
			return nil
		}
		return send()
	})
	if err == nil {
		err = send()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", label, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s\n", all)
	return nil
}
