package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
)

func newMember() *cobra.Command {
	return group("member", "Who may open a BAL, and with which role", newMemberAdd(), newMemberList(), newMemberEnd(), newMemberImport(), newMemberExport())
}

// memberFlags describe a member on the command line. A password is never one of them: other users of the machine can
// read command lines.
type memberFlags struct {
	id, role, from, until  string
	none, stdin, passwords bool
}

func (m *memberFlags) passwordFlags(c *cobra.Command) {
	c.Flags().BoolVar(&m.stdin, "password-stdin", false, "take the password from the first line of standard input")
	c.Flags().BoolVar(&m.passwords, "no-password", false, "give no password: the member cannot log in with one")
}

func (m *memberFlags) request(in io.Reader, id string) (admin.NewMember, error) {
	req := admin.NewMember{ID: id, Role: m.role, NoPassword: m.passwords}
	var err error
	if req.From, err = when("--from", m.from); err != nil {
		return req, err
	}
	if req.Until, err = when("--until", m.until); err != nil {
		return req, err
	}
	if m.stdin && m.passwords {
		return req, usageError{errors.New("--password-stdin and --no-password exclude each other")}
	}
	if m.stdin {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return req, fmt.Errorf("standard input: %w", err)
		}
		if req.Password = strings.TrimRight(line, "\r\n"); req.Password == "" {
			return req, usageError{errors.New("standard input is empty; expected the password on its first line")}
		}
	}
	return req, nil
}

// when reads a day or a moment.
func when(flag, s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return &t, nil
		}
	}
	return nil, usageError{fmt.Errorf("%s %q; expected a day (2026-11-22) or a moment (2026-11-22T08:00:00Z)", flag, s)}
}

func newMemberAdd() *cobra.Command {
	var ask asking
	var m memberFlags
	c := &cobra.Command{
		Use:   "add ADDRESS MEMBER [--role writer]",
		Short: "Add a member (rpps:…, adeli:…, local:… or cert:…) to a BAL",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := m.request(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			made, err := ask.client().AddMember(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), made, func(w io.Writer) { printMade(w, made) })
		},
	}
	f := c.Flags()
	f.StringVar(&m.role, "role", "writer", "owner, writer or reader")
	f.StringVar(&m.from, "from", "", "first day or moment (default: now)")
	f.StringVar(&m.until, "until", "", "day or moment from which it is over (default: no end)")
	m.passwordFlags(c)
	return ask.flags(c)
}

func newMemberList() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "list ADDRESS",
		Short: "List the members of a BAL",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := ask.client().BAL(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), b.Members, func(w io.Writer) {
				row(w, "MEMBER", "ROLE", "STATE", "FROM", "UNTIL", "PASSWORD")
				for _, m := range b.Members {
					row(w, m.ID, m.Role, m.State, day(m.From), day(m.Until), password(m))
				}
			})
		},
	}
	return ask.flags(c)
}

// password says what a member's password opens: "yes, SCRAM too" by every mechanism.
func password(m admin.Member) string {
	if m.HasSCRAM {
		return "yes, SCRAM too"
	}
	return yesNo(m.HasPassword)
}

func newMemberEnd() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "end ADDRESS MEMBER",
		Short: "End a membership at once; its record stays",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			made, err := ask.client().EndMember(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), made, func(w io.Writer) {
				fmt.Fprintf(w, "%s may no longer open %s\n", args[1], made.BAL.Address)
			})
		},
	}
	return ask.flags(c)
}

func printMade(w io.Writer, made admin.Made) {
	if made.Member == "" {
		return
	}
	for _, m := range made.BAL.Members {
		if m.ID == made.Member {
			fmt.Fprintf(w, "member %s, %s\n", m.ID, m.Role)
		}
	}
	if made.User != "" {
		fmt.Fprintf(w, "user name: %s\n", made.User)
	}
	if made.Password != "" {
		fmt.Fprintf(w, "password:  %s\nThis password is shown only now. Hand it over by a safe way.\n", made.Password)
	}
}
