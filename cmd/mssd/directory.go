package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/directory"
)

func newDirectory() *cobra.Command {
	return group("directory", "The mirror of the Annuaire Santé", newDirectoryStatus(), newDirectoryFind(), newDirectoryAudit(), newDirectoryAccept(), newDirectoryPublish())
}

func newDirectoryStatus() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "status",
		Short: "Show each feed: how old, how many rows, what went wrong",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := ask.client().DirectoryStatus(cmd.Context())
			if err != nil {
				return err
			}
			var st admin.DirectoryStatus
			if err := json.Unmarshal(raw, &st); err != nil {
				return fmt.Errorf("the daemon's answer: %w", err)
			}
			return ask.print(cmd.OutOrStdout(), raw, func(w io.Writer) { showDirectory(w, st.Status, st.Publication) })
		},
	}
	return ask.flags(c)
}

func newDirectoryAccept() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "accept FEED",
		Short: "Put a reading of a feed in force although a gate refused it",
		Long: "Put the refused reading of a feed (ldap, extraction) in force: exactly the one that mssd directory status reports, kept\n" +
			"beside the image since then. Read there first what it lost and where: a directory that is half empty answers \"unknown\".",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := ask.client().AcceptDirectory(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), f, func(w io.Writer) { showFeed(w, f) })
		},
	}
	return ask.flags(c)
}

func showDirectory(w io.Writer, st directory.Status, p admin.Pending) {
	row(w, "usable", yesNo(st.Usable))
	row(w, "generation", st.Generation)
	row(w, "to publish", fmt.Sprintf("%s, %s (mssd directory publish)", counted(p.Additions, "addition", "additions"), counted(p.Removals, "removal", "removals")))
	for _, f := range st.Feeds {
		fmt.Fprintln(w)
		showFeed(w, f)
	}
	if l := st.Live; l != nil {
		fmt.Fprintf(w, "\nlive questions\t%d asked, %d failed, %d for the trace dropped%s\n", l.Asked, l.Failed, l.Dropped, map[bool]string{true: ", held back for the moment"}[l.Refrains])
	}
	if len(st.Feeds) == 0 {
		fmt.Fprintln(w, "\nno feed is configured: every answer is \"cannot tell\"")
	}
}

// byKind is "ORG 5, PER 1".
func byKind(rows map[string]int) string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		out = append(out, fmt.Sprintf("%s %d", kind, rows[kind]))
	}
	return strings.Join(out, ", ")
}

func showFeed(w io.Writer, f directory.FeedStatus) {
	row(w, "feed", f.Name)
	if f.HasImage {
		row(w, "  rows", fmt.Sprintf("%d (%s), %d left out as faulty", f.Rows, byKind(f.RowsByKind), f.Faults))
		row(w, "  generation", f.Generation)
		row(w, "  age", seconds(f.AgeSeconds)+tooOld(f))
		row(w, "  last change", moment(f.Changed))
	} else {
		row(w, "  rows", "nothing read yet: it answers \"cannot tell\"")
	}
	row(w, "  last reading", moment(f.LastGood))
	row(w, "  last try", moment(f.LastTry))
	if f.Following {
		row(w, "  following", "the server tells each change as it is made")
	} else {
		row(w, "  next try", moment(f.NextTry))
	}
	if f.FirstFault != "" {
		row(w, "  first fault", f.FirstFault)
	}
	if f.LastError != "" {
		row(w, "  last error", f.LastError)
	}
	if f.NotSaved != "" {
		row(w, "  NOT SAVED", f.NotSaved+": a restart would not find this image")
	}
	if r := f.Refused; r != nil {
		row(w, "  REFUSED", fmt.Sprintf("on %s, %d rows of %s: %s", moment(r.At), r.Rows, moment(r.Generated), r.Why))
		if r.NotKept != "" {
			row(w, "", "it could not be kept and cannot be accepted: "+r.NotKept)
		} else {
			row(w, "", "mssd directory accept "+f.Name+" puts it in force all the same")
		}
	}
}

func seconds(n int64) string { return (time.Duration(n) * time.Second).String() }

func tooOld(f directory.FeedStatus) string {
	if f.TooOld {
		return ", too old to say anything"
	}
	return ""
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
