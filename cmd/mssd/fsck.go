package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/store"
)

func newFsck() *cobra.Command {
	var ask asking
	var file, dir, key string
	var bodies bool
	var mend mending
	c := &cobra.Command{
		Use:   "fsck [--config FILE | --dir DIR]",
		Short: "Check every invariant of the store",
		Long: "Check every invariant of the store and print what is wrong. A running daemon is asked to look while it serves; where none\n" +
			"answers, the store is opened and looked at here. Exit status 1 when something is wrong. Of bodies the header and the table\n" +
			"of frames are looked at; --bodies reads them through, which takes as long as reading the whole disk.\n\n" +
			"With --repair, for a stopped store, a new index is made from what can be read of the old one, which is kept: counted\n" +
			"anew, with what is missing made again where that needs no guess. --dry-run says what it would do, --drop-lost\n" +
			"takes away messages whose body is lost; with --bodies also those whose body is damaged within.\n\n" +
			"With --rebuild, for a stopped store whose index.db is lost, a new one is made from the bodies and the keys alone: INBOX\n" +
			"of each BAL again. A backup is better.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socketGiven := cmd.Flags().Changed("socket")
			if dir == "" && !(socketGiven && !cmd.Flags().Changed("config")) {
				cfg, err := loadConfig(file)
				if err != nil {
					return err
				}
				dir, key = cfg.DataDir, cmp.Or(key, cfg.Store.MasterKey)
				if !socketGiven {
					ask.socket = cfg.Admin.Socket
				}
			}
			if done, err := mend.run(cmd, &ask, dir, key, bodies); done {
				return err
			}
			p := newProgress(cmd.ErrOrStderr(), mend.quiet || ask.json)
			doc, how, err := fsck(cmd.Context(), ask.client(), dir, key, bodies, p.tell)
			p.end()
			if err != nil {
				return err
			}
			if err := ask.print(cmd.OutOrStdout(), doc, func(w io.Writer) { showCheck(w, doc, how) }); err != nil {
				return err
			}
			if len(doc.Problems) > 0 {
				return silentError{}
			}
			return nil
		},
	}
	mend.flags(c)
	c.Flags().BoolVar(&bodies, "bodies", false, "read every body through, to its last octet")
	c.MarkFlagsMutuallyExclusive("bodies", "rebuild")
	c.Flags().StringVar(&file, "config", defaultConfigFile, "configuration file, for the folder and the socket")
	c.Flags().StringVar(&dir, "dir", "", "folder of a stopped store")
	c.Flags().StringVar(&key, "master-key", "", "file of its master key (default: that of the configuration, else master.key in the folder)")
	return ask.flags(c)
}

func showCheck(w io.Writer, doc admin.Check, how string) {
	fmt.Fprintln(w, how)
	for _, p := range doc.Problems {
		fmt.Fprintln(w, "  "+p)
	}
	if doc.Lost > 0 {
		fmt.Fprintf(w, "%s in the folder lost, set aside by --repair or --rebuild; they are yours to keep or remove\n", counted(doc.Lost, "body lies", "bodies lie"))
	}
	if n := len(doc.Problems); n == 0 {
		fmt.Fprintln(w, "no problem found")
	} else {
		fmt.Fprintf(w, "%s found\n", counted(n, "problem", "problems"))
	}
}

// fsck asks the daemon where one answers, else looks itself; how says which.
func fsck(ctx context.Context, c *admin.Client, dir, key string, bodies bool, p store.Progress) (doc admin.Check, how string, err error) {
	doc, err = c.Fsck(ctx, bodies)
	if err == nil {
		return doc, "checked by the running daemon on " + c.Socket, nil
	}
	if !errors.Is(err, admin.ErrNoDaemon) || dir == "" {
		return doc, "", err
	}
	st, err := store.Open(store.Options{Dir: dir, MasterKey: key, Log: slog.New(slog.DiscardHandler)})
	if errors.Is(err, store.ErrLocked) {
		return doc, "", fmt.Errorf("%s: a process has this store open but does not answer on %s; give its socket with --socket", dir, c.Socket)
	}
	if err != nil {
		return doc, "", openError(dir, err)
	}
	doc, err = admin.CheckStore(ctx, st, bodies, p)
	if cerr := st.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return doc, "", fmt.Errorf("%s: %w", dir, err)
	}
	return doc, "checked here: no daemon answers on " + c.Socket + ", the store " + dir + " was opened alone", nil
}
