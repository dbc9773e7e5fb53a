package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
)

func newBALDeleted() *cobra.Command {
	var ask asking
	var subjects bool
	c := &cobra.Command{
		Use:   "deleted ADDRESS [--subjects]",
		Short: "List the expunged mail of a BAL that can come back",
		Long: "List the mail of a BAL that was expunged and can come back (mssd bal undelete), the oldest first. Mail is let go for good\n" +
			"store.keep_expunged after it was expunged. Subjects say who a patient is: they are printed only with --subjects, and\n" +
			"the trace says that they were asked for.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all := []admin.Deleted{}
			for after := ""; ; {
				page, err := ask.client().Deleted(cmd.Context(), args[0], after, subjects)
				if err != nil {
					return err
				}
				all = append(all, page.Messages...)
				if after = page.Next; after == "" {
					break
				}
			}
			return ask.print(cmd.OutOrStdout(), all, func(w io.Writer) { showDeleted(w, all, subjects) })
		},
	}
	c.Flags().BoolVar(&subjects, "subjects", false, "print subjects too; the trace says so")
	return ask.flags(c)
}

func showDeleted(w io.Writer, all []admin.Deleted, subjects bool) {
	if len(all) == 0 {
		row(w, "nothing was expunged that can come back")
		return
	}
	head := []any{"ID", "EXPUNGED", "MAILBOX", "DATE", "SIZE"}
	if subjects {
		head = append(head, "SUBJECT")
	}
	row(w, head...)
	for _, d := range all {
		cells := []any{d.ID, d.At.UTC().Format(time.RFC3339), dash(d.Mailbox), d.Date.UTC().Format(time.RFC3339), octets(d.Size)}
		if subjects {
			cells = append(cells, dash(d.Subject))
		}
		row(w, cells...)
	}
}

func newBALUndelete() *cobra.Command {
	var ask asking
	var req admin.Undelete
	var since string
	c := &cobra.Command{
		Use:   "undelete ADDRESS --id ID… | --since DATE | --all",
		Short: "Bring expunged mail of a BAL back",
		Long: "Bring expunged mail back: into the mailbox where it was, or the one that has its name now, else into Recovered, which is\n" +
			"made where it is missing. Flags but \\Deleted, keywords and dates stay, UIDs are new; sessions see it at once. The quota\n" +
			"may be overrun. When this breaks off, what is back is back; say it again for the rest.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Since, err = when("--since", since); err != nil {
				return err
			}
			n := 0
			for _, given := range []bool{len(req.IDs) > 0, req.Since != nil, req.All} {
				if given {
					n++
				}
			}
			if n != 1 {
				return usageError{errors.New("say what to bring back: --id (mssd bal deleted lists them), --since or --all, and only one of these")}
			}
			done, err := ask.client().Undelete(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			if err := ask.print(cmd.OutOrStdout(), done, func(w io.Writer) { showUndeleted(w, done) }); err != nil {
				return err
			}
			if done.Gone > 0 {
				return silentError{}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringSliceVar(&req.IDs, "id", nil, "a message, as mssd bal deleted names it; may be said again")
	f.StringVar(&since, "since", "", "all that was expunged since a day or moment")
	f.BoolVar(&req.All, "all", false, "all that can come back")
	f.StringVar(&req.Mailbox, "mailbox", "", "with --since and --all: only what was in that mailbox")
	f.StringVar(&req.To, "to", "", "the mailbox to bring it into (made where it is missing; default: where it was)")
	return ask.flags(c)
}

func showUndeleted(w io.Writer, done admin.Undeleted) {
	if done.Messages == 0 {
		row(w, "nothing came back")
	}
	for _, m := range done.Into {
		row(w, fmt.Sprintf("%s back in %s", counted(m.Messages, "message is", "messages are"), dash(m.Mailbox)))
	}
	if done.Gone > 0 {
		row(w, fmt.Sprintf("%s not there: brought back before, or let go", counted(done.Gone, "is", "are")))
	}
}

func newBALHold() *cobra.Command {
	var ask asking
	var reason string
	c := &cobra.Command{
		Use:   "hold ADDRESS --reason TEXT",
		Short: "Put a BAL under legal hold: nothing of it is lost until it is released",
		Long: "Put a BAL under legal hold. While it lasts, mail that its members expunge, or move into another BAL, can be brought back,\n" +
			"however long ago that was; no mail is expunged for its age; the BAL cannot be destroyed. Members notice nothing. The\n" +
			"reason stands in the trace for good and in clear: name an order or a file, never a patient.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := ask.client().Hold(cmd.Context(), args[0], reason)
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), b, func(w io.Writer) { fmt.Fprintf(w, "%s is under legal hold since %s\n", b.Address, day(b.HeldSince)) })
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why: the order or file, no patient")
	_ = c.MarkFlagRequired("reason")
	return ask.flags(c)
}

func newBALRelease() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "release ADDRESS",
		Short: "End the legal hold of a BAL",
		Long:  "End the legal hold of a BAL. What was expunged longer ago than store.keep_expunged is let go with the next sweep, within an hour.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := ask.client().Release(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), b, func(w io.Writer) { fmt.Fprintf(w, "%s is under no legal hold any more\n", b.Address) })
		},
	}
	return ask.flags(c)
}

func newBALRetention() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "retention ADDRESS [MAILBOX DAYS|none|default]",
		Short: "Say after how many days in a mailbox mail is expunged, or show it",
		Long: "Say after how many days in a mailbox mail is expunged, whatever its flags are: a number, none, or default (what\n" +
			"[store.retention] says of its special use). The days count from when a message came into this mailbox. What is expunged\n" +
			"can come back for store.keep_expunged. Without MAILBOX the retention of each mailbox is shown.",
		Args: cobra.MatchAll(cobra.RangeArgs(1, 3), func(_ *cobra.Command, args []string) error {
			if len(args) == 2 {
				return errors.New("after the mailbox comes a number of days, none or default")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			var b admin.BAL
			var err error
			if len(args) == 1 {
				b, err = ask.client().BAL(cmd.Context(), args[0])
			} else {
				req := admin.SetRetention{Mailbox: args[1], None: args[2] == "none", Default: args[2] == "default"}
				if !req.None && !req.Default {
					if req.Days, err = strconv.Atoi(args[2]); err != nil || req.Days < 1 {
						return usageError{fmt.Errorf("retention %q; expected a number of days from 1 on, none or default", args[2])}
					}
				}
				b, err = ask.client().SetRetention(cmd.Context(), args[0], req)
			}
			if err = cmp.Or(err, unavailable(b)); err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), b.Mailboxes, func(w io.Writer) {
				row(w, "MAILBOX", "MESSAGES", "RETENTION")
				for _, m := range b.Mailboxes {
					row(w, m.Name, m.Messages, retention(m))
				}
			})
		},
	}
	return ask.flags(c)
}

// unavailable is the error for a BAL of which nothing can be told.
func unavailable(b admin.BAL) error {
	if b.Unavailable == "" {
		return nil
	}
	return fmt.Errorf("BAL %s is unavailable: %s; mssd fsck says more", b.Address, b.Unavailable)
}

// retention says after how long the mail of a mailbox is expunged.
func retention(m admin.Mailbox) string {
	s := "none"
	if m.RetentionDays > 0 {
		s = fmt.Sprintf("%d days", m.RetentionDays)
	}
	if m.RetentionDefault {
		s += " (default)"
	}
	return s
}

func newBALQuota() *cobra.Command {
	var ask asking
	var octetsLimit, messages int64
	c := &cobra.Command{
		Use:   "quota ADDRESS [--octets N] [--messages N]",
		Short: "Set the quota of a BAL, or show it and its use",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var req admin.SetQuota
			if cmd.Flags().Changed("octets") {
				req.Octets = &octetsLimit
			}
			if cmd.Flags().Changed("messages") {
				req.Messages = &messages
			}
			var b admin.BAL
			var err error
			if req == (admin.SetQuota{}) {
				b, err = ask.client().BAL(cmd.Context(), args[0])
			} else {
				b, err = ask.client().SetQuota(cmd.Context(), args[0], req)
			}
			if err = cmp.Or(err, unavailable(b)); err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), b, func(w io.Writer) {
				row(w, "holds", fmt.Sprintf("%s, %s", counted(b.Messages, "message", "messages"), octets(b.Octets)))
				row(w, "quota", quota(b))
			})
		},
	}
	c.Flags().Int64Var(&octetsLimit, "octets", 0, "most octets it may hold (0: no limit)")
	c.Flags().Int64Var(&messages, "messages", 0, "most messages it may hold (0: no limit)")
	return ask.flags(c)
}

func newSweep() *cobra.Command {
	var ask asking
	var trust bool
	c := &cobra.Command{
		Use:   "sweep [--trust-clock]",
		Short: "Do now what the daemon does every hour: expunge and let go what its time is over",
		Long: "Expunge what is in its mailbox for longer than its retention, let go what was expunged longer ago than store.keep_expunged,\n" +
			"and remove the bodies that nobody has any more. When the clock jumped by more than two days since the last sweep, or\n" +
			"the daemon stood still for so long, nothing goes for its age until the daemon has run for a day, or until this command\n" +
			"says that the clock is right.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := ask.client().Sweep(cmd.Context(), trust)
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), done, func(w io.Writer) {
				fmt.Fprintf(w, "%s expunged for their age, %d let go for good, %s removed\n", messages(done.Retired), done.Purged, counted(done.Bodies, "body", "bodies"))
				if done.Waits != "" {
					fmt.Fprintln(w, done.Waits)
				}
			})
		},
	}
	c.Flags().BoolVar(&trust, "trust-clock", false, "the clock is right, though it jumped")
	return ask.flags(c)
}
