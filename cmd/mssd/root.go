package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mssd/admin"
)

// Exit statuses; see the package comment.
const (
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 78
)

const (
	defaultConfigFile = "/etc/mssd/mssd.toml"
	defaultSocket     = "/run/mssd/admin.sock"
)

// usageError is a wrong use of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// silentError ends with status 1 where everything has been said already.
type silentError struct{}

func (silentError) Error() string { return "failed" }

func exitStatus(err error) int {
	var use usageError
	var cfg *configError
	switch {
	case errors.As(err, &cfg):
		return exitConfig
	case errors.As(err, &use):
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "mssd",
		Short:         "A mail operator of the French health trust space (opérateur MSSanté)",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (%s --help shows what there is)", err, cmd.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(), newCheck(), newDemo(), newSelftest(), newTrace(), newBAL(), newMember(), newWhitelist(), newDirectory(),
		newHealth(), newCerts(), newSRV(), newFsck(), newSweep(), newBackup(), newRestore(), newKeys(), newVersion(), newBenchTarget())
	usageOfArgs(root)
	return root
}

// usageOfArgs makes wrong arguments, and flags that are missing, a usageError for a command and those below it.
func usageOfArgs(c *cobra.Command) {
	check := c.Args
	if check == nil && c.HasSubCommands() {
		check = noCommand
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		err := flagsMissing(cmd)
		if check != nil && err == nil {
			err = check(cmd, args)
		}
		var usage usageError
		if err == nil || errors.As(err, &usage) {
			return err
		}
		if strings.HasPrefix(err.Error(), "unknown command") { // cobra.NoArgs
			err = fmt.Errorf("%q is one argument too many", args[0])
		}
		return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
	}
	for _, sub := range c.Commands() {
		usageOfArgs(sub)
	}
}

// flagsMissing says which flags were to be given, and what for.
func flagsMissing(c *cobra.Command) error {
	var missing []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if need := f.Annotations[cobra.BashCompOneRequiredFlag]; len(need) > 0 && need[0] == "true" && !f.Changed {
			missing = append(missing, fmt.Sprintf("--%s is missing (%s)", f.Name, f.Usage))
		}
	})
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, ", "))
}

// noCommand is what a group of commands says of a word that is none of them.
func noCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	c.SuggestionsMinimumDistance = 2 // letters that may differ
	if like := c.SuggestionsFor(args[0]); len(like) > 0 {
		hint = fmt.Sprintf("; did you mean %q?", c.CommandPath()+" "+like[0])
	}
	return usageError{fmt.Errorf("%q is no command of %s%s (%s --help lists them)", args[0], c.CommandPath(), hint, c.CommandPath())}
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(subs...)
	return c
}

// asking is what commands have in common that ask a running daemon.
type asking struct {
	socket string
	json   bool
}

func (a *asking) flags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.socket, "socket", defaultSocket, "unix socket of the daemon")
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}

func (a *asking) client() *admin.Client { return &admin.Client{Socket: a.socket} }

// print writes doc as JSON, or lets table write it for people.
func (a *asking) print(w io.Writer, doc any, table func(io.Writer)) error {
	if a.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(doc)
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	table(tw)
	return tw.Flush()
}

// row writes one line of a table.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = fmt.Sprint(c)
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(texts, "\t"), "\t"))
}

// dash stands for an empty cell.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// octets prints a size for people.
func octets(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, exp := float64(n)/unit, 0
	for v >= unit && exp < 4 {
		v /= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[exp])
}
