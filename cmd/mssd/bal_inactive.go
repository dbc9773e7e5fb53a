package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"mssd/delivery"
	"mssd/store"
)

func newBALInactive() *cobra.Command {
	var ask asking
	var days int
	var notify bool
	c := &cobra.Command{
		Use:   "inactive [--days 365] [--notify]",
		Short: "List the active BALs that nobody has logged in to for so many days",
		Long: "List the active BALs that nobody has logged in to, or read, for so many days, those that are silent the longest first. A BAL is\n" +
			"counted from the moment it was made or became active again; after mssd fsck --rebuild, from then on. With --notify each of them gets a\n" +
			"mail about it in its INBOX, once until it is used again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if notify {
				done, err := ask.client().NotifyInactive(cmd.Context(), days)
				if err != nil {
					return err
				}
				return ask.print(cmd.OutOrStdout(), done, func(w io.Writer) { printNotices(w, done) })
			}
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
	c.Flags().BoolVar(&notify, "notify", false, "tell those that were not told yet, by a mail into their INBOX")
	return ask.flags(c)
}

func printNotices(w io.Writer, done delivery.NoticesSent) {
	fmt.Fprintf(w, "%s, %s already\n", counted(done.Sent, "BAL was told", "BALs were told"), counted(done.Before, "other was told", "others were told"))
	if done.Failed > 0 {
		fmt.Fprintf(w, "%s and got nothing: mssd fsck says why\n", counted(done.Failed, "BAL is damaged", "BALs are damaged"))
	}
}

// inactiveDays is after how many days without use a BAL counts as inactive in the metric where no notices are sent.
const inactiveDays = 365

// inactiveBALs counts the BALs that nobody uses, as far as is known.
func inactiveBALs(st *store.Store, days int) float64 {
	n, now := 0, st.Now()
	for _, b := range st.BALs() {
		if b.Inactive(now, days) {
			n++
		}
	}
	return float64(n)
}

// noticeEvery is how often the daemon looks for BALs that are to be told.
const noticeEvery = time.Hour

// notifyInactive tells BALs that nobody uses of it, until ctx ends.
func (d *daemon) notifyInactive(ctx context.Context) {
	if d.cfg.BAL.InactivityNoticeDays == 0 {
		return
	}
	tick := time.NewTicker(noticeEvery)
	defer tick.Stop()
	for {
		done, err := d.admin.Notices.Send(ctx, d.cfg.BAL.InactivityNoticeDays, "system:inactive")
		switch {
		case err != nil && ctx.Err() == nil:
			d.log.Error("notices of inactivity: not all could be sent, the next round goes on in an hour", "err", err)
		case done.Sent > 0:
			d.log.Info("notices of inactivity sent", "bals", done.Sent)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
