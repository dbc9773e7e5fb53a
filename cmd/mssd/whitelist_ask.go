package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/directory/whitelist"
)

func newWhitelistStatus() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the list in force: version, age, what went wrong",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := ask.client().WhiteList(cmd.Context())
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), doc, func(w io.Writer) { showWhiteList(w, doc) })
		},
	}
	return ask.flags(c)
}

func showWhiteList(w io.Writer, doc admin.WhiteList) {
	row(w, "version", dash(doc.Version))
	row(w, "generated", moment(doc.Generated))
	row(w, "rows", doc.Rows)
	row(w, "domains", doc.Domains)
	row(w, "DNs", doc.DNs)
	row(w, "proven current", fmt.Sprintf("%v ago", time.Duration(doc.Age)*time.Second))
	row(w, "partners seen in 30 days", doc.Partners)
	if doc.Usable != "" {
		row(w, "NOT USABLE", doc.Usable)
	} else if doc.LastError != "" {
		row(w, "last error", doc.LastError)
	}
	if doc.Outlook != "" {
		row(w, "but", doc.Outlook)
	}
}

func newWhitelistFind() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "find TEXT",
		Short: "Look up domains and DNs in the list in force",
		Long:  "Print the domains of the list in force that have TEXT in their name or in a DN they are bound to, and these DNs.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := ask.client().FindInList(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := ask.print(cmd.OutOrStdout(), found, func(w io.Writer) {
				for _, e := range found {
					for _, dn := range e.DNs {
						fmt.Fprintf(w, "%s\t%s\n", e.Domain, dn)
					}
				}
			}); err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("the list in force has nothing with %q", args[0])
			}
			return nil
		},
	}
	return ask.flags(c)
}

func newWhitelistAccept() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "accept FILE",
		Short: "Put a list in force although it is older or much shorter than the one held",
		Long: "Put a list in force although it is older than the one held or lacks more of its domains than whitelist.max_loss_percent\n" +
			"allows. Its signature is checked all the same. The source that is configured is asked as before: a newer list that stands there\n" +
			"replaces this one at the next look, and what is printed says so. See first what it changes: mssd whitelist diff, mssd whitelist preview.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readLimited(args[0], whitelist.MaxSize)
			if err != nil {
				return err
			}
			doc, err := ask.client().AcceptList(cmd.Context(), b)
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), doc, func(w io.Writer) { showWhiteList(w, doc) })
		},
	}
	return ask.flags(c)
}

func newWhitelistPreview() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "preview FILE",
		Short: "Say which partners seen in the last 30 days a list would refuse",
		Long: "Say which of the operators that were let in during the last 30 days would be refused if this list were in force.\n" +
			"Nothing is changed; the signer is not judged. Exit status 1 when there is one.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readLimited(args[0], whitelist.MaxSize)
			if err != nil {
				return err
			}
			doc, err := ask.client().PreviewList(cmd.Context(), b)
			if err != nil {
				return err
			}
			if err := ask.print(cmd.OutOrStdout(), doc, func(w io.Writer) { showPreview(w, doc) }); err != nil {
				return err
			}
			if len(doc.Refused) > 0 {
				return silentError{}
			}
			return nil
		},
	}
	return ask.flags(c)
}

func showPreview(w io.Writer, doc admin.Preview) {
	fmt.Fprintf(w, "list %s: of %d partners seen in the last 30 days %d would be refused\n", doc.Version, doc.Seen, len(doc.Refused))
	for _, r := range doc.Refused {
		why := "the list does not have this domain"
		switch {
		case r.Domain == "":
			why = "the list does not know this DN"
		case r.Listed:
			why = "the list binds it to " + strings.Join(r.DNs, " and ")
		}
		fmt.Fprintf(w, "\n%s\n  seen as  %s, last on %s, %s\n  but      %s\n", orNull(r.Domain), r.DN, r.Last.Format(time.DateOnly), perDay(r.PerDay(time.Now())), why)
	}
}

func orNull(domain string) string {
	if domain == "" {
		return "(mail without a sender)"
	}
	return domain
}

func newWhitelistDiff() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say in words what one list changes against another",
		Long: "Say which domains a list adds, takes away or binds to other DNs, against another list. Two ways to print one DN are no\n" +
			"change. Digest and signature of both are verified, their signers are not judged.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var lists [2]*whitelist.List
			for i, name := range args {
				b, err := readLimited(name, whitelist.MaxSize)
				if err != nil {
					return err
				}
				if lists[i], err = whitelist.Load(b, whitelist.Options{NoChain: true}); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			showDiff(cmd.OutOrStdout(), lists[0], lists[1])
			return nil
		},
	}
	return c
}

func showDiff(w io.Writer, old, next *whitelist.List) {
	var added, gone, moved int
	changes := old.Compare(next)
	for _, c := range changes {
		switch {
		case len(c.Before) == 0:
			added++
			fmt.Fprintf(w, "+ %s is new: %s\n", c.Domain, strings.Join(c.After, "; "))
		case len(c.After) == 0:
			gone++
			fmt.Fprintf(w, "- %s is gone: was %s\n", c.Domain, strings.Join(c.Before, "; "))
		default:
			moved++
			fmt.Fprintf(w, "~ %s is bound to others:\n    was %s\n    is  %s\n", c.Domain, strings.Join(c.Before, "; "), strings.Join(c.After, "; "))
		}
	}
	fmt.Fprintf(w, "%d domains are new, %d are gone, %d are bound to others; %d before, %d after\n", added, gone, moved, old.Domains(), next.Domains())
	if next.Generated().Before(old.Generated()) {
		fmt.Fprintf(w, "the second list is older (%s) than the first (%s)\n", moment(next.Generated()), moment(old.Generated()))
	}
	if n := len(next.Faults()); n > 0 {
		fmt.Fprintf(w, "%d rows of the second list cannot be read, the first: %v\n", n, next.Faults()[0])
	}
}
