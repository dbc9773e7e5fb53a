package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/store"
	"mssd/trace"
)

// noRecovery is said where no recovery key is set.
const noRecovery = "If the master key is lost all mail is lost: mssd keys recovery-make, recovery-set"

// stoppedStore are the flags of a command that looks at the files of a store by itself.
type stoppedStore struct {
	file, dir, key string
}

func (s *stoppedStore) flags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&s.key, "master-key", "", "file of its master key (default: that of the configuration, else master.key in the folder)")
	return s.folderFlags(c)
}

func (s *stoppedStore) folderFlags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&s.file, "config", defaultConfigFile, "configuration file")
	c.Flags().StringVar(&s.dir, "dir", "", "folder of the store, where there is no configuration")
	return c
}

// find fills in what the configuration says.
func (s *stoppedStore) find() error {
	if s.dir != "" {
		return nil
	}
	cfg, err := loadConfig(s.file)
	if err != nil {
		return err
	}
	s.dir, s.key = cfg.DataDir, cmp.Or(s.key, cfg.Store.MasterKey)
	return nil
}

// keysError says what to do about a store that is in use.
func keysError(err error) error {
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%w; stop the daemon first", err)
	}
	return err
}

// note writes what was done to the keys into the trace. An index that cannot be opened keeps no key from being changed:
// then it is for people to note.
func (s *stoppedStore) note(cmd *cobra.Command, act string, attrs ...trace.Attr) {
	err := store.Note(s.dir, trace.Event{Kind: trace.Admin, Person: admin.Person(uint32(os.Getuid())),
		Attrs: append([]trace.Attr{{Key: trace.KeyAct, Value: act}}, attrs...)})
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "the keys are changed, but the trace could not be told (%s): %v. Note it elsewhere.\n", act, err)
	}
}

func newKeysRecoveryMake() *cobra.Command {
	return &cobra.Command{
		Use:   "recovery-make PRIVATE_FILE PUBLIC_FILE",
		Short: "Write the two halves of a new recovery key",
		Long: "Write the two halves of a new recovery key to files that are not there. Do this on another machine: the private half never\n" +
			"goes to the server, only the public one does (mssd keys recovery-set).",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := store.MakeRecoveryKey(args[0], args[1])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "recovery key %s. Keep %s away from the server, in two places; bring %s to it: mssd keys recovery-set %s\n",
				name, args[0], args[1], filepath.Base(args[1]))
			return nil
		},
	}
}

func newKeysRecoverySet() *cobra.Command {
	var st stoppedStore
	c := &cobra.Command{
		Use:   "recovery-set [--config FILE | --dir DIR] PUBLIC_FILE",
		Short: "Wrap the keys of a stopped store under a recovery key too",
		Long: "Wrap the keys of a stopped store under a public recovery key too, instead of the one that was set before. The keys of BALs\n" +
			"made later get it as well. No mail is rewritten.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := st.find(); err != nil {
				return err
			}
			if err := store.SetRecovery(st.dir, st.key, args[0]); err != nil {
				return keysError(err)
			}
			st.note(cmd, "keys recovery-set")
			list, err := store.Keys(st.dir, st.key)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "recovery key %s opens %d keys of the store\n", list.Recovery, wrapped(list))
			}
			return err
		},
	}
	return st.flags(c)
}

func wrapped(list store.KeyList) (n int) {
	for _, s := range list.Slots {
		if s.Recovery && s.Err == nil {
			n++
		}
	}
	return n
}

func newKeysRecoveryUnset() *cobra.Command {
	var st stoppedStore
	c := &cobra.Command{
		Use:   "recovery-unset [--config FILE | --dir DIR]",
		Short: "Take the recovery key away from a stopped store",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := st.find(); err != nil {
				return err
			}
			if err := store.UnsetRecovery(st.dir, st.key); err != nil {
				return keysError(err)
			}
			st.note(cmd, "keys recovery-unset")
			fmt.Fprintln(cmd.OutOrStdout(), "no recovery key is set any more; backups made before can still be opened with it")
			return nil
		},
	}
	return st.flags(c)
}

func newKeysRecover() *cobra.Command {
	var st stoppedStore
	var private, to string
	c := &cobra.Command{
		Use:   "recover --recovery-key PRIVATE_FILE --new-master-key FILE [--config FILE | --dir DIR]",
		Short: "Open a stopped store whose master key is lost",
		Long: "Open the keys of a stopped store, or of a copy of it, whose master key is lost, with its private recovery key, and wrap them\n" +
			"under a new master key; its file is made where it is not there. No mail is rewritten. Afterwards store.master_key must\n" +
			"name the new file. Exit status 1 when the key of a BAL could not be opened; all others are saved then.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if private == "" || to == "" {
				return usageError{errors.New("--recovery-key names the file of the private recovery key, --new-master-key that of the master key to come")}
			}
			if err := st.find(); err != nil {
				return err
			}
			if _, err := os.Stat(to); errors.Is(err, fs.ErrNotExist) {
				if err := store.MakeMasterKey(to); err != nil {
					return err
				}
			}
			opened, lost, err := store.Recover(st.dir, private, to)
			if err != nil {
				return keysError(err)
			}
			st.note(cmd, "keys recover", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(opened)})
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%d keys opened; the store now wants the master key in %s: name it in store.master_key before the next start\n", opened, to)
			for _, s := range lost {
				fmt.Fprintf(out, "BAL %d %s: its key could not be opened\n", s.Number, s.Address)
			}
			if len(lost) > 0 {
				return silentError{}
			}
			return nil
		},
	}
	c.Flags().StringVar(&private, "recovery-key", "", "file of the private recovery key")
	c.Flags().StringVar(&to, "new-master-key", "", "file of the new master key")
	return st.folderFlags(c)
}
