package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mssd/admin"
)

// declareColumns are those of a file of BALs.
var declareColumns = []string{"bal", "kind", "listing", "structure", "state", "owner"}

// maxDeclareField is the most octets of a field: the rows of one request fit into what the daemon reads.
const maxDeclareField = 300

func newBALDeclare() *cobra.Command {
	var ask asking
	var dry, vouched bool
	c := &cobra.Command{
		Use:   "declare FILE",
		Short: "Create the BALs that a CSV file names",
		Long: "Create the BALs that a CSV file names (- is standard input). Its first line names the columns: bal, kind, and where wanted listing,\n" +
			"structure, state and owner; they are separated by commas or semicolons. The state is declared unless the row says active; the owner, a\n" +
			"member id, gets no password. A BAL that is there as its row says is left as it is, so a file may be given again; with a fault in any\n" +
			"row nothing is done. (mssd bal import brings mail.)",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := readTableFile(args[0], cmd.InOrStdin(), parseDeclared)
			if err != nil {
				return err
			}
			return doTable(cmd, &ask, dry, func(dry bool) (admin.Declared, error) { return declareBALs(cmd, &ask, rows, dry, vouched) })
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "say what would be done")
	c.Flags().BoolVar(&vouched, "after-restore", false, vouchedHelp)
	return ask.flags(c)
}

// declareBALs sends the rows in parts, and finds addresses that stand in two of them.
func declareBALs(cmd *cobra.Command, ask *asking, rows []admin.DeclareRow, dry, vouched bool) (all admin.Declared, err error) {
	seen := map[string]int{}
	all, err = sendTable(cmd.Context(), "the BALs", rows, admin.MaxDeclared, dry, func(ctx context.Context, part []admin.DeclareRow, dry bool) (admin.Declared, error) {
		return ask.client().DeclareBALs(ctx, admin.Declare{DryRun: dry, AfterRestore: vouched, Rows: part})
	})
	if err != nil {
		return all, err
	}
	for i, row := range rows { // what stands in two parts the daemon cannot see
		key := strings.ToLower(row.BAL)
		if before, twice := seen[key]; !twice {
			seen[key] = i
		} else if before/admin.MaxDeclared != i/admin.MaxDeclared {
			all.Faults = append(all.Faults, admin.MemberFault{Line: row.Line, Text: fmt.Sprintf("%s stands in line %d already", key, rows[before].Line)})
		}
	}
	slices.SortStableFunc(all.Faults, func(a, b admin.MemberFault) int { return a.Line - b.Line })
	return all, nil
}

// parseDeclared reads a file of BALs.
func parseDeclared(b []byte) (rows []admin.DeclareRow, err error) {
	err = parseTable(b, declareColumns, 2, func(line int, field func(string) string) error {
		for _, name := range declareColumns {
			if n := len(field(name)); n > maxDeclareField {
				return fmt.Errorf("%s of %d octets; expected %d at most", name, n, maxDeclareField)
			}
		}
		rows = append(rows, admin.DeclareRow{Line: line, BAL: field("bal"), Kind: field("kind"), Listing: strings.ToLower(field("listing")),
			Structure: field("structure"), State: strings.ToLower(field("state")), Owner: field("owner")})
		return nil
	})
	return rows, err
}
