package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
)

const (
	maxMemberFile = 64 << 20 // octets
	maxMemberRows = 500_000
	maxRowFaults  = 20 // printed
)

// memberColumns are those of a file of members, in the order of an export.
var memberColumns = []string{"bal", "member", "role", "from", "until", "state"}

func newMemberExport() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "export [ADDRESS]",
		Short: "Print the members of a BAL, or of all, as CSV",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := ask.client().Members(cmd.Context(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), rows, func(w io.Writer) {
				out := csv.NewWriter(w)
				_ = out.Write(memberColumns) // a fault is kept and told by Flush, whose writer tells it too
				for _, r := range rows {
					_ = out.Write([]string{r.BAL, r.Member, r.Role, instant(r.From), instant(r.Until), r.State})
				}
				out.Flush()
			})
		},
	}
	return ask.flags(c)
}

// instant is a time as an import reads it, "" for none.
func instant(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func newMemberImport() *cobra.Command {
	var ask asking
	var dry bool
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Make memberships what a CSV file says",
		Long: "Make memberships what a CSV file says (- is standard input). Its first line names the columns: bal, member, role, and where wanted\n" +
			"from, until and state; they are separated by commas or semicolons. A member who is not there is added, without a password; role and\n" +
			"dates of one who is there become those of the row; state \"ended\" ends a membership. Nobody else is touched. With a fault\n" +
			"in any row nothing is done.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := readMemberFile(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			send := ask.client().ImportMembers
			return doTable(cmd, &ask, dry, func(dry bool) (admin.MemberImported, error) {
				return sendTable(cmd.Context(), "the members", rows, admin.MaxMemberRows, dry, send)
			})
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "say what would be done")
	return ask.flags(c)
}

// printDone says what a table brought about, or the faults for which it did nothing.
func printDone(w io.Writer, faults []admin.MemberFault, done fmt.Stringer, dry bool) {
	for _, f := range faults[:min(len(faults), maxRowFaults)] {
		fmt.Fprintf(w, "line %d: %s\n", f.Line, f.Text)
	}
	switch n := len(faults); {
	case n > 0:
		fmt.Fprintf(w, "%s; nothing was done\n", counted(n, "row is faulty", "rows are faulty"))
	case dry:
		fmt.Fprintf(w, "would be: %s\n", done)
	default:
		fmt.Fprintf(w, "%s\n", done)
	}
}

func readMemberFile(name string, stdin io.Reader) ([]admin.MemberRow, error) {
	return readTableFile(name, stdin, parseMembers)
}

// readTableFile reads a CSV file, - is standard input.
func readTableFile[T any](name string, stdin io.Reader, parse func([]byte) ([]T, error)) ([]T, error) {
	in, label := stdin, "standard input"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, label = f, name
	}
	b, err := io.ReadAll(io.LimitReader(in, maxMemberFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, err)
	}
	if len(b) > maxMemberFile {
		return nil, fmt.Errorf("%s: more than %d octets", label, maxMemberFile)
	}
	rows, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, err)
	}
	return rows, nil
}

// parseMembers reads a file of members.
func parseMembers(b []byte) ([]admin.MemberRow, error) {
	var rows []admin.MemberRow
	seen := map[string]int{}
	err := parseTable(b, memberColumns, 3, func(line int, field func(string) string) error {
		row, err := memberRow(line, field)
		if err != nil {
			return err
		}
		key := strings.ToLower(row.BAL + "\x00" + row.Member)
		if before, twice := seen[key]; twice {
			return fmt.Errorf("%s at %s stands in line %d already", row.Member, row.BAL, before)
		}
		seen[key] = line
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// parseTable reads CSV whose first line names columns, the first needed of which must be there, in any order. Spreadsheets put
// a mark before it and semicolons into it.
func parseTable(b []byte, columns []string, needed int, row func(line int, field func(string) string) error) error {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	first, _, _ := bufio.ScanLines(b, true)
	r := csv.NewReader(bytes.NewReader(b))
	if line := b[:max(first, 0)]; bytes.Contains(line, []byte(";")) && !bytes.Contains(line, []byte(",")) {
		r.Comma = ';'
	}
	r.FieldsPerRecord = -1 // counted below
	want := strings.Join(columns[:needed-1], ", ") + " and " + columns[needed-1]
	head, err := r.Read()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("is empty; expected a first line with the columns %s", want)
	}
	if err != nil {
		return err
	}
	at := map[string]int{}
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := at[name]; twice || !slices.Contains(columns, name) {
			return fmt.Errorf("column %q; expected each of %s once at the most", name, strings.Join(columns, ", "))
		}
		at[name] = i
	}
	for _, name := range columns[:needed] {
		if _, ok := at[name]; !ok {
			return fmt.Errorf("has no column %s; expected a first line with the columns %s", name, want)
		}
	}
	for n := 0; ; n++ {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n == maxMemberRows {
			return fmt.Errorf("more than %d rows", maxMemberRows)
		}
		line, _ := r.FieldPos(0)
		if len(fields) != len(head) {
			return fmt.Errorf("line %d has %s; expected %d as in the first line (a text with the separator in it stands in double quotes)",
				line, counted(len(fields), "field", "fields"), len(head))
		}
		if err := row(line, func(name string) string {
			if i, ok := at[name]; ok {
				return strings.TrimSpace(fields[i])
			}
			return ""
		}); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func memberRow(line int, field func(string) string) (admin.MemberRow, error) {
	row := admin.MemberRow{Line: line, BAL: field("bal"), Member: field("member"), Role: field("role"), State: field("state")}
	var err error
	if row.From, err = when("from", field("from")); err != nil {
		return row, err
	}
	if row.Until, err = when("until", field("until")); err != nil {
		return row, err
	}
	if !slices.Contains([]string{"", "active", "ended", "not yet", "over"}, row.State) {
		return row, fmt.Errorf("state %q; expected active, ended or nothing", row.State)
	}
	return row, nil
}
