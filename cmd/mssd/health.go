package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
)

func newHealth() *cobra.Command {
	var ask asking
	var wait time.Duration
	c := &cobra.Command{
		Use:   "health",
		Short: "Say whether the daemon is well, and if not why",
		Long:  "Say how the daemon does: \"ok\" (exit status 0) or \"degraded\" with each reason (exit status 1).",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := waitHealth(cmd.Context(), ask.client(), wait)
			if err != nil {
				return err
			}
			if err := ask.print(cmd.OutOrStdout(), h, func(w io.Writer) { showHealth(w, h) }); err != nil {
				return err
			}
			if h.Status != "ok" {
				return silentError{}
			}
			return nil
		},
	}
	c.Flags().DurationVar(&wait, "wait", 0, "wait so long until it is well, for a daemon that is starting")
	return ask.flags(c)
}

// waitHealth asks until the daemon is well or the time is over; it returns the last answer.
func waitHealth(ctx context.Context, c *admin.Client, wait time.Duration) (admin.Health, error) {
	end := time.Now().Add(wait)
	for {
		h, err := c.Health(ctx)
		if err == nil && h.Status == "ok" || err != nil && !errors.Is(err, admin.ErrNoDaemon) || time.Now().After(end) {
			return h, err
		}
		select {
		case <-ctx.Done():
			return h, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func showHealth(w io.Writer, h admin.Health) {
	row(w, "status", h.Status)
	for _, r := range h.Reasons {
		row(w, "because", r)
	}
	for _, r := range h.Warnings {
		row(w, "warning", r)
	}
	row(w, "version", h.Version)
	row(w, "process", fmt.Sprintf("%d, since %s", h.PID, h.Since.Format(time.RFC3339)))
	for _, name := range slices.Sorted(maps.Keys(h.Fronts)) {
		row(w, name, h.Fronts[name])
	}
	if l := h.List; l != nil {
		row(w, "white list", fmt.Sprintf("%s, %d domains, proven current %s ago", l.Version, l.Domains, time.Duration(l.AgeSeconds)*time.Second))
	} else {
		row(w, "white list", "none")
	}
	row(w, "BALs", h.BALs)
	row(w, "free space", octets(h.FreeOctets))
}
