package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/store"
)

func newBAL() *cobra.Command {
	return group("bal", "Mailboxes of the trust space (BALs) that this operator holds", newBALAdd(), newBALDeclare(), newBALList(), newBALShow(), newBALHistory(), newBALInactive(), newBALSettled(), newBALExport(), newBALImport(),
		newBALDeleted(), newBALUndelete(), newBALHold(), newBALRelease(), newBALRetention(), newBALQuota(), newBALListing(),
		newBALSuspend(), newBALResume(), newBALClose(), newBALDestroy())
}

func newBALAdd() *cobra.Command {
	var ask asking
	var req admin.NewBAL
	var m memberFlags
	c := &cobra.Command{
		Use:   "add ADDRESS --kind ORG [--structure FINESS]",
		Short: "Create a BAL, and its first member unless --no-member",
		Long: "Create a BAL. Its first member gets a password of the daemon's making, which is printed once and kept nowhere in clear;\n" +
			"with --password-stdin the password is the first line of standard input.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Address = args[0]
			if !m.none {
				nm, err := m.request(cmd.InOrStdin(), m.id)
				if err != nil {
					return err
				}
				req.Member = &nm
			}
			made, err := ask.client().AddBAL(cmd.Context(), req)
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), made, func(w io.Writer) {
				fmt.Fprintf(w, "%s %s created, %s, %s\n", made.BAL.Kind, made.BAL.Address, made.BAL.State, made.BAL.Listing)
				printMade(w, made)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&req.Kind, "kind", "", "PER, ORG, APP or CAB (never changes)")
	f.StringVar(&req.Listing, "listing", "", "published or unlisted (default published; unlisted for APP)")
	f.StringVar(&req.State, "state", "", "declared or active (default active)")
	f.StringVar(&req.Structure, "structure", "", "identifier of the structure (FINESS, SIRET)")
	f.Int64Var(&req.QuotaOctets, "quota-octets", 0, "most octets it may hold (0: no limit)")
	f.Int64Var(&req.QuotaMessages, "quota-messages", 0, "most messages it may hold (0: no limit)")
	f.StringVar(&m.id, "member", "local:owner", "id of the first member: rpps:…, adeli:… or local:…")
	f.BoolVar(&req.AfterRestore, "after-restore", false, vouchedHelp)
	f.BoolVar(&m.none, "no-member", false, "create no member")
	m.passwordFlags(c)
	_ = c.MarkFlagRequired("kind")
	return ask.flags(c)
}

func newBALList() *cobra.Command {
	var ask asking
	var want balFilter
	c := &cobra.Command{
		Use:   "list [--state active] [--kind ORG] [--domain DOMAIN]",
		Short: "List every BAL, or those of a state, kind, listing, domain or structure",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := want.check(); err != nil {
				return err
			}
			list, err := ask.client().BALs(cmd.Context())
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(b admin.BAL) bool { return !want.takes(b) })
			return ask.print(cmd.OutOrStdout(), list, func(w io.Writer) {
				row(w, "ADDRESS", "KIND", "STATE", "LISTING", "STRUCTURE", "MESSAGES", "SIZE")
				for _, b := range list {
					if b.Unavailable != "" {
						b.State = "unavailable"
					}
					if b.HeldSince != nil {
						b.State += ", held"
					}
					row(w, b.Address, b.Kind, b.State, b.Listing, dash(b.Structure), b.Messages, octets(b.Octets))
				}
			})
		},
	}
	want.flags(c)
	return ask.flags(c)
}

func newBALShow() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "show ADDRESS",
		Short: "Show one BAL, its members and mailboxes",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := ask.client().BAL(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), b, func(w io.Writer) { showBAL(w, b) })
		},
	}
	return ask.flags(c)
}

func showBAL(w io.Writer, b admin.BAL) {
	row(w, "address", b.Address)
	if b.Unavailable != "" {
		row(w, "unavailable", b.Unavailable)
		row(w, "", "Nothing of it is served or written. mssd fsck says more; bring the file keys or the store back from a backup.")
		return
	}
	row(w, "kind", b.Kind)
	row(w, "state", b.State)
	if d := b.Destroyed; d != nil {
		row(w, "destroyed", d.At.UTC().Format(time.RFC3339)+", "+progressOf(d))
	}
	row(w, "listing", b.Listing)
	row(w, "structure", dash(b.Structure))
	row(w, "created", b.Created.UTC().Format(time.RFC3339))
	row(w, "holds", fmt.Sprintf("%s, %s", messages(b.Messages), octets(b.Octets)))
	row(w, "quota", quota(b))
	if b.Deleted != nil && b.Deleted.Messages > 0 {
		row(w, "can come back", fmt.Sprintf("%s, %s (mssd bal deleted)", counted(b.Deleted.Messages, "expunged message", "expunged messages"), octets(b.Deleted.Octets)))
	}
	if b.HeldSince != nil {
		row(w, "legal hold", "since "+day(b.HeldSince))
	}
	if b.State == store.Active.String() {
		row(w, "last login", day(b.LastLogin))
	}
	row(w, "history", "mssd bal history "+b.Address)
	fmt.Fprintln(w, "\nMEMBER\tROLE\tSTATE\tFROM\tUNTIL\tPASSWORD")
	for _, m := range b.Members {
		row(w, m.ID, m.Role, m.State, day(m.From), day(m.Until), password(m))
	}
	fmt.Fprintln(w, "\nMAILBOX\tMESSAGES\tUNSEEN\tSIZE\tRETENTION")
	for _, m := range b.Mailboxes {
		row(w, m.Name, m.Messages, m.Unseen, octets(m.Octets), retention(m))
	}
}

func quota(b admin.BAL) string {
	if b.QuotaOctets == 0 && b.QuotaMessages == 0 {
		return "none"
	}
	s := "no limit of size"
	if b.QuotaOctets > 0 {
		s = octets(b.QuotaOctets)
	}
	if b.QuotaMessages > 0 {
		s += ", " + messages(b.QuotaMessages)
	}
	return s
}

func day(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
