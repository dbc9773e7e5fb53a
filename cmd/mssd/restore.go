package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mssd/store"
	"mssd/store/backup"
	"mssd/trace"
)

func newRestore() *cobra.Command {
	var ask asking
	var file, from string
	var quiet bool
	var opt backup.RestoreOptions
	c := &cobra.Command{
		Use:   "restore --from DIR --to NEWDIR",
		Short: "Make a store from a backup, or rehearse it",
		Long: "Make a store from a generation in a folder of backups, in an empty or missing folder. Everything is compared with its\n" +
			"sums, the manifest with its signature. Every mailbox gets a new UIDVALIDITY, so that clients read it anew, and the store\n" +
			"carries a mark that it was restored. Then its invariants are tested. Where the lost store's index.db can still be read,\n" +
			"even in part, --lost-from lists the messages that came after the backup, so that their senders can be asked.\n" +
			"With --rehearse every body is opened too, and all of it is removed again. Exit status 1 when something is missing.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || opt.To == "" {
				return usageError{errors.New("--from names the folder of backups, --to the folder of the store to be made")}
			}
			if opt.LostFrom != "" { // else it would be noticed when all is restored
				if fi, err := os.Stat(opt.LostFrom); err != nil || !fi.IsDir() {
					return fmt.Errorf("--lost-from %s is not a folder that can be read; expected the folder of the lost store; nothing was restored", opt.LostFrom)
				}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if err := restoreKey(cmd, file, &opt); err != nil {
				return err
			}
			d, err := backup.Open(from, backup.Read)
			if err != nil {
				return err
			}
			defer d.Close()
			before, _ := os.Stat(opt.To)
			p := newProgress(cmd.ErrOrStderr(), quiet || ask.json, backupOctets...)
			opt.Progress = p.tell
			r, err := backup.Restore(ctx, d, opt)
			p.end()
			switch {
			case errors.Is(err, store.ErrMasterKey):
				return fmt.Errorf("%s: %w; --master-key names the file of the master key of that day", from, err)
			case err != nil:
				return err
			}
			if !opt.Rehearse {
				if err := giveTo(opt.To, before); err != nil {
					return err
				}
			}
			if err := ask.print(cmd.OutOrStdout(), restoreDocOf(&r), func(w io.Writer) { showRestored(w, &r, opt) }); err != nil {
				return err
			}
			if !r.Sound() {
				return silentError{}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&from, "from", "", "folder of backups")
	f.StringVar(&opt.To, "to", "", "folder of the store to be made: empty or missing")
	f.StringVar(&opt.Generation, "generation", "", "which one (default: the newest)")
	f.StringVar(&opt.MasterKey, "master-key", "", "file of the master key of that day (default: that of the configuration)")
	f.StringVar(&opt.LostFrom, "lost-from", "", "folder of the lost store, to list what came after the backup")
	f.BoolVar(&opt.Rehearse, "rehearse", false, "open every body, then remove all of it again")
	f.StringVar(&file, "config", defaultConfigFile, "configuration file, for the master key")
	f.BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	f.BoolVar(&ask.json, "json", false, "print JSON")
	return c
}

// restoreKey finds the master key where none is given.
func restoreKey(cmd *cobra.Command, file string, opt *backup.RestoreOptions) error {
	if opt.MasterKey != "" {
		return nil
	}
	cfg, err := loadConfig(file)
	if err != nil && (cmd.Flags().Changed("config") || !errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	if err == nil {
		opt.MasterKey = masterKeyFile(cfg)
	}
	if opt.MasterKey == "" {
		return usageError{errors.New("--master-key names the file of the master key of that day; backups do not hold it")}
	}
	return nil
}

// giveTo gives what root restored to the user who owns the folder.
func giveTo(dir string, before fs.FileInfo) error {
	if before == nil || os.Getuid() != 0 {
		return nil
	}
	st, ok := before.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, int(st.Uid), int(st.Gid))
	})
}

// restoreDoc is what a restore says in JSON.
type restoreDoc struct {
	Generation  string          `json:"generation"`
	Moment      time.Time       `json:"moment"`
	AgeSeconds  int64           `json:"age_seconds"`
	Seconds     float64         `json:"seconds"`
	BALs        int64           `json:"bals"`
	Messages    int64           `json:"messages"`
	Bodies      int64           `json:"bodies"`
	Octets      int64           `json:"octets"`
	Mailboxes   int             `json:"mailboxes"`
	Absent      []string        `json:"absent"`
	AbsentCount int64           `json:"absent_count"`
	Problems    []string        `json:"problems"`
	Opened      bool            `json:"opened"`
	Destroyed   []store.Address `json:"destroyed_since"`
	Made        []store.Address `json:"made_since"`
	Lost        []lostDoc       `json:"lost"`
	LostWhole   bool            `json:"lost_whole"`
	LostError   string          `json:"lost_error,omitempty"`
}

type lostDoc struct {
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	BAL    string    `json:"bal,omitempty"`
	How    string    `json:"how"`
	Domain string    `json:"domain,omitempty"`
}

func restoreDocOf(r *backup.Restored) restoreDoc {
	m := r.Manifest
	d := restoreDoc{r.Generation, m.Time, int64(r.Age.Seconds()), r.Took.Seconds(), m.BALs, m.Messages, r.Bodies, r.Octets, r.Renewed.Mailboxes,
		names(r.Absent), r.AbsentAll, r.Problems, r.Opened, r.Destroyed, r.Made, []lostDoc{}, r.LostWhole, ""}
	if r.LostErr != nil {
		d.LostError = r.LostErr.Error()
	}
	for _, l := range r.Lost {
		d.Lost = append(d.Lost, lostDoc{l.ID.String(), l.Time, l.BAL, l.How.String(), l.Domain})
	}
	return d
}

func showRestored(w io.Writer, r *backup.Restored, opt backup.RestoreOptions) {
	row(w, "generation", r.Generation)
	row(w, "its moment", fmt.Sprintf("%s, %s ago", r.Manifest.Time.Format(time.RFC3339), r.Age.Round(time.Second)))
	row(w, "mail", fmt.Sprintf("%d BALs, %d mailboxes, %d messages", r.Manifest.BALs, r.Renewed.Mailboxes, r.Manifest.Messages))
	row(w, "bodies", fmt.Sprintf("%d (%s)", r.Bodies, octets(r.Octets)))
	for _, id := range r.Absent {
		row(w, "absent", "the body of message "+id.String())
	}
	if n := r.AbsentAll - int64(len(r.Absent)); n > 0 {
		row(w, "absent", fmt.Sprintf("and %d more", n))
	}
	if n := r.Renewed.Once; n > 0 {
		row(w, "may come again", fmt.Sprintf("%d unconfirmed deliveries whose body is absent: a repetition is stored", n))
	}
	if n := r.Renewed.Skipped; n > 0 {
		row(w, "damaged", fmt.Sprintf("%d mailboxes: they kept their UIDVALIDITY", n))
	}
	for _, p := range r.Problems {
		row(w, "problem", p)
	}
	for _, a := range r.Destroyed {
		row(w, "destroyed since", fmt.Sprintf("%s: its mail is here again; close and destroy it again (mssd bal destroy)", a))
	}
	for _, a := range r.Made {
		row(w, "made since", fmt.Sprintf("%s: it is not here; bring it back (mssd bal add --after-restore)", a))
	}
	showLost(w, r, opt)
	row(w, "took", r.Took.Round(time.Millisecond))
	switch {
	case opt.Rehearse && r.Sound():
		row(w, "rehearsed", "every body was opened; "+opt.To+" was emptied again")
	case opt.Rehearse:
		row(w, "rehearsed", "not all is well, see above; "+opt.To+" was emptied again")
	default:
		row(w, "restored", opt.To+" is a store: name it in data_dir, and "+opt.MasterKey+" in store.master_key")
		row(w, "addresses", "those given after the backup are not known to it, so it gives none: see docs/operations.md, mssd bal settled")
	}
}

func showLost(w io.Writer, r *backup.Restored, opt backup.RestoreOptions) {
	switch {
	case opt.LostFrom == "":
		row(w, "lost since", "not known: --lost-from names the folder of the lost store")
		return
	case r.LostErr != nil:
		row(w, "lost since", "not known: "+r.LostErr.Error())
		return
	}
	how := ""
	if !r.LostWhole {
		how = ", and perhaps more: its trace is damaged"
	}
	row(w, "lost since", fmt.Sprintf("%d messages that %s knows%s", len(r.Lost), opt.LostFrom, how))
	for _, l := range r.Lost {
		by := "delivered from " + cmp.Or(l.Domain, "an unknown domain")
		if l.How == trace.Appended {
			by = "stored by a client"
		}
		row(w, "  "+l.ID.String(), l.Time.Format(time.RFC3339), dash(l.BAL), by)
	}
}
