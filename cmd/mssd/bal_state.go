package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/store"
)

func newBALSuspend() *cobra.Command {
	return newBALState("suspend", store.Suspended, "Close a BAL for a time",
		"Close a BAL for a time: its sessions end, nobody can log in, and peers are told to come back (450 4.2.1).")
}

func newBALResume() *cobra.Command {
	return newBALState("resume", store.Active, "Open a BAL that is declared, suspended or closed",
		"Open a BAL that is declared, suspended or closed: it takes mail and its members can log in again.")
}

func newBALClose() *cobra.Command {
	return newBALState("close", store.Closed, "Close a BAL",
		"Close a BAL: its sessions end, nobody can log in, and peers are refused (550 5.2.1). What it holds stays; mssd bal resume\n"+
			"opens it again, mssd bal destroy ends it for good.")
}

func newBALState(name string, st store.State, short, long string) *cobra.Command {
	var ask asking
	var reason string
	c := &cobra.Command{
		Use:   name + " ADDRESS [--reason TEXT]",
		Short: short,
		Long:  long,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := ask.client().SetState(cmd.Context(), args[0], st.String(), reason)
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), b, func(w io.Writer) { fmt.Fprintf(w, "%s is %s\n", b.Address, b.State) })
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, one line that names no patient (kept in the trace, shown by mssd bal history)")
	return ask.flags(c)
}

func newBALListing() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "listing ADDRESS published|unlisted",
		Short: "Say whether a BAL is meant to stand in the directory",
		Long: "Say whether a BAL is meant to stand in the Annuaire Santé: what RCPT answers when it is not there, and what mssd directory\n" +
			"audit calls a fault, follow from it. Nothing is published by this command.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := ask.client().SetListing(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), b, func(w io.Writer) { fmt.Fprintf(w, "%s is %s\n", b.Address, b.Listing) })
		},
	}
	return ask.flags(c)
}

func newBALDestroy() *cobra.Command {
	var ask asking
	var yes, dry bool
	var reason string
	c := &cobra.Command{
		Use:   "destroy ADDRESS [--dry-run | --yes]",
		Short: "Destroy a closed BAL: overwrite its key, remove what it holds",
		Long: "Destroy a closed BAL. Its key is overwritten where it lies, so that nothing of it can be opened any more, then what it holds\n" +
			"is removed. Nothing brings it back, and its address is never given again. A legal hold forbids it. The answer says\n" +
			"shredded only when no backup that the store knows of has the key either.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			plan, err := ask.client().Destroy(cmd.Context(), args[0], true, "")
			if err != nil {
				return err
			}
			if dry {
				return ask.print(out, plan, func(w io.Writer) { showPlan(w, plan) })
			}
			if plan.Refused != nil {
				return plan.Refused
			}
			if !yes {
				showPlan(out, plan)
				if err := confirm(cmd.InOrStdin(), out, plan.Address); err != nil {
					return err
				}
			}
			done, err := ask.client().Destroy(cmd.Context(), args[0], false, reason)
			if err != nil {
				return err
			}
			return ask.print(out, done, func(w io.Writer) { showDestroyed(w, done) })
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would go")
	c.Flags().StringVar(&reason, "reason", "", "why, one line that names no patient (kept in the trace, shown by mssd bal history)")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.MarkFlagsMutuallyExclusive("dry-run", "yes")
	return ask.flags(c)
}

// confirm wants the address typed once more.
func confirm(in io.Reader, out io.Writer, address string) error {
	fmt.Fprintf(out, "Nothing brings it back. Type its address to destroy it: ")
	line, err := bufio.NewReader(io.LimitReader(in, 1<<10)).ReadString('\n')
	if got := strings.TrimSpace(line); !strings.EqualFold(got, address) {
		if got == "" && err != nil {
			return fmt.Errorf("%s is not destroyed: nothing was typed; --yes destroys it without asking", address)
		}
		return fmt.Errorf("%s is not destroyed: this is not its address", address)
	}
	return nil
}

func whatItHolds(d admin.Doomed) string {
	return fmt.Sprintf("%s (%s), %d expunged that could come back, %s, %s", messages(d.Messages), octets(d.Octets), d.Expunged,
		counted(d.Mailboxes, "mailbox", "mailboxes"), counted(d.Members, "member", "members"))
}

func showPlan(w io.Writer, d admin.Doomed) {
	if d.Destroyed != nil {
		fmt.Fprintf(w, "%s was destroyed on %s, %s\n", d.Address, d.Destroyed.At.UTC().Format(time.RFC3339), progressOf(d.Destroyed))
		showShredded(w, d)
		return
	}
	fmt.Fprintf(w, "%s is %s and holds %s\n", d.Address, d.State, whatItHolds(d))
	if d.Refused != nil {
		fmt.Fprintf(w, "it cannot be destroyed now: %v\n", d.Refused)
	}
	showOpeners(w, d, "it could still be opened by")
}

func showDestroyed(w io.Writer, d admin.Doomed) {
	fmt.Fprintf(w, "%s is destroyed since %s: its key is overwritten; what it held goes now: %s\n", d.Address, d.Destroyed.At.UTC().Format(time.RFC3339), whatItHolds(d))
	showShredded(w, d)
}

func showShredded(w io.Writer, d admin.Doomed) {
	if d.Shredded {
		fmt.Fprintln(w, "shredded: nothing that this store knows of opens it any more")
		return
	}
	showOpeners(w, d, "destroyed here, not shredded; still openable by")
}

func showOpeners(w io.Writer, d admin.Doomed, what string) {
	for _, b := range d.Backups {
		fmt.Fprintf(w, "%s: backup %s of %s in %s (destroy it, then mssd backup forget %s)\n", what, b.ID, b.Began.UTC().Format(time.RFC3339), b.Label, b.ID)
	}
}

// progressOf says how far a destruction has come.
func progressOf(d *admin.Destruction) string {
	switch {
	case d.Wiped:
		return "its key is overwritten, nothing is left of it here"
	case d.KeyGone:
		return "its key is overwritten, what it held is going"
	}
	return "its key is about to be overwritten"
}
