package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mssd/store"
)

func masterKeyFile(c *Config) string { return store.MasterKeyFile(c.DataDir, c.Store.MasterKey) }

// keyWarning is a sentence when the disk that holds the mail also holds the key to it, or when others can read the key,
// else "".
func keyWarning(c *Config) string {
	file := masterKeyFile(c)
	if st, err := os.Stat(file); err == nil && st.Mode().Perm()&0o007 != 0 {
		return fmt.Sprintf("the master key %s is open to every user of this machine (mode %v; expected 0600 or 0400)", file, st.Mode().Perm())
	}
	if same, err := store.SameDisk(c.DataDir, file); err != nil || !same {
		return ""
	}
	return fmt.Sprintf("the master key %s lies on the file system of the data: whoever takes this disk can read the mail (store.master_key)", file)
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func newKeys() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Make, list and change the keys of the store",
		Long: "Mail is sealed under a key of its BAL; these keys lie in the store, wrapped by the master key, which should lie\n" +
			"elsewhere. Without the master key the mail cannot be read by anybody.",
	}
	c.AddCommand(newKeysList(), newKeysMake(), newKeysRotate())
	return c
}

func newKeysMake() *cobra.Command {
	return &cobra.Command{
		Use:   "make FILE",
		Short: "Write a new master key to a file that is not there",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := store.MakeMasterKey(args[0]); err != nil {
				return err
			}
			name, err := store.CheckMasterKey(args[0])
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: master key %s. Keep a copy elsewhere: without it the mail can never be read.\n", args[0], name)
			}
			return err
		},
	}
}

func newKeysList() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "list [--config FILE]",
		Short: "List the keys of the store, without showing one",
		Long: "List the keys of the store, without showing one: which master key it wants, which one the configuration gives, and each\n" +
			"slot. The daemon may run. Exit status 1 when the master key is missing or another one, or does not open a slot.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			list, err := store.Keys(cfg.DataDir, cfg.Store.MasterKey)
			if err != nil {
				return err
			}
			var ok bool
			err = (&asking{}).print(cmd.OutOrStdout(), nil, func(w io.Writer) { ok = showKeys(w, list, masterKeyFile(cfg)) })
			if err == nil && !ok {
				err = silentError{}
			}
			return err
		},
	}
	c.Flags().StringVar(&file, "config", defaultConfigFile, "configuration file")
	return c
}

// showKeys reports whether all keys can be opened.
func showKeys(w io.Writer, list store.KeyList, file string) bool {
	row(w, "master key wanted", list.Wanted)
	ok := list.Err == nil && list.Given == list.Wanted
	if list.Err != nil {
		row(w, "master key given", list.Err)
	} else {
		row(w, "master key given", fmt.Sprintf("%s, in %s", list.Given, file))
	}
	for _, s := range list.Slots {
		name := fmt.Sprintf("BAL %d", s.Number)
		if s.Number == 0 {
			name = "store"
		}
		state := "made " + s.Created.Format(time.RFC3339)
		if s.Err != nil {
			state, ok = "cannot be opened", false
		}
		row(w, name, state)
	}
	return ok
}

func newKeysRotate() *cobra.Command {
	var file, to string
	c := &cobra.Command{
		Use:   "rotate --to FILE [--config FILE]",
		Short: "Wrap the keys of a stopped store under another master key",
		Long: "Wrap the keys of a stopped store under another master key, made by mssd keys make. No mail is rewritten. Afterwards\n" +
			"store.master_key must name the new file. Backups made before still want the old one.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{fmt.Errorf("--to names the file of the new master key")}
			}
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if to, err = filepath.Abs(to); err != nil {
				return err
			}
			if err := store.Rekey(cfg.DataDir, cfg.Store.MasterKey, to); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the store now wants the master key in %s: name it in store.master_key before the next start\n", to)
			return nil
		},
	}
	c.Flags().StringVar(&file, "config", defaultConfigFile, "configuration file")
	c.Flags().StringVar(&to, "to", "", "file of the new master key")
	return c
}
