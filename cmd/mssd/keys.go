package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

func nonEmpty(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

func newKeys() *cobra.Command {
	c := group("keys", "Make, list and change the keys of the store",
		newKeysList(), newKeysMake(), newKeysRotate(), newKeysRecoveryMake(), newKeysRecoverySet(), newKeysRecoveryUnset(), newKeysRecover())
	c.Long = "Mail is sealed under a key of its BAL; these keys lie in the store, wrapped by the master key, which should lie\n" +
		"elsewhere. Without the master key the mail cannot be read by anybody."
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
	var st stoppedStore
	c := &cobra.Command{
		Use:   "list [--config FILE | --dir DIR]",
		Short: "List the keys of the store, without showing one",
		Long: "List the keys of the store, without showing one: which master key it wants, which one it is given, whether a recovery key\n" +
			"is set, and each slot. The daemon may run. Exit status 1 when the master key is missing or another one, or a slot does\n" +
			"not open.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := st.find(); err != nil {
				return err
			}
			list, err := store.Keys(st.dir, st.key)
			if err != nil {
				return err
			}
			var ok bool
			err = (&asking{}).print(cmd.OutOrStdout(), nil, func(w io.Writer) { ok = showKeys(w, list, store.MasterKeyFile(st.dir, st.key)) })
			if err == nil && !ok {
				err = silentError{}
			}
			return err
		},
	}
	return st.flags(c)
}

// showKeys reports whether all keys can be opened.
func showKeys(w io.Writer, list store.KeyList, file string) bool {
	row(w, "master key wanted", list.Wanted)
	ok := list.Err == nil && list.Given == list.Wanted && list.HeadErr == nil
	if list.Err != nil {
		row(w, "master key given", list.Err)
	} else {
		row(w, "master key given", fmt.Sprintf("%s, in %s", list.Given, file))
	}
	switch {
	case list.HeadErr != nil:
		row(w, "recovery key", list.HeadErr)
	case list.Recovery == "":
		row(w, "recovery key", "none. "+noRecovery)
	default:
		row(w, "recovery key", list.Recovery)
	}
	fmt.Fprintln(w, "\nKEY\tADDRESS\tKIND\tMADE\tSTATE")
	for _, s := range list.Slots {
		name, kind := fmt.Sprintf("BAL %d", s.Number), s.Kind.String()
		if s.Number == 0 {
			name, kind = "store", "-"
		}
		state := "opened by the master key"
		switch {
		case s.Err != nil:
			state, ok = "cannot be opened", false
		case !s.Destroyed.IsZero():
			state = "destroyed " + s.Destroyed.Format(time.RFC3339)
		case s.Recovery && list.HeadErr == nil:
			state += " and the recovery key"
		}
		row(w, name, dash(string(s.Address)), kind, s.Created.Format(time.RFC3339), state)
	}
	return ok
}

func newKeysRotate() *cobra.Command {
	var st stoppedStore
	var to string
	c := &cobra.Command{
		Use:   "rotate --to FILE [--config FILE | --dir DIR]",
		Short: "Wrap the keys of a stopped store under another master key",
		Long: "Wrap the keys of a stopped store under another master key, made by mssd keys make. No mail is rewritten. Afterwards\n" +
			"store.master_key must name the new file. Backups made before still want the old one.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{fmt.Errorf("--to names the file of the new master key")}
			}
			if err := st.find(); err != nil {
				return err
			}
			var err error
			if to, err = filepath.Abs(to); err != nil {
				return err
			}
			if _, err := os.Stat(to); errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is not there; mssd keys make %s makes a new master key", to, to)
			}
			if err := store.Rekey(st.dir, st.key, to); err != nil {
				return keysError(err)
			}
			st.note(cmd, "keys rotate")
			fmt.Fprintf(cmd.OutOrStdout(), "the store now wants the master key in %s: name it in store.master_key before the next start\n", to)
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "file of the new master key")
	return st.flags(c)
}
