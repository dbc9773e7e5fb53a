package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mssd/admin"
	"mssd/store"
	"mssd/store/backup"
	"mssd/trace"
)

// The stages of long work on backups that count octets.
var backupOctets = []string{"copy of the index", "index to the backup", "reading bodies", "copying bodies"}

// backupTarget is how a command about backups finds its store: a daemon, or a stopped store.
type backupTarget struct {
	asking
	file, dir, key string
	quiet          bool
}

func (b *backupTarget) flags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&b.file, "config", defaultConfigFile, "configuration file, for the socket and the folder of the store")
	c.Flags().StringVar(&b.dir, "dir", "", "folder of a stopped store")
	c.Flags().StringVar(&b.key, "master-key", "", "file of its master key (default: that of the configuration, else master.key in the folder)")
	c.Flags().BoolVarP(&b.quiet, "quiet", "q", false, "print no progress")
	return b.asking.flags(c)
}

func (b *backupTarget) progress(c *cobra.Command) *progress {
	return newProgress(c.ErrOrStderr(), b.quiet || b.json, backupOctets...)
}

// source is the daemon where one answers, else the store, opened alone. done ends the use of it.
func (b *backupTarget) source(c *cobra.Command) (src backup.Source, done func() error, err error) {
	none := func() error { return nil }
	if b.dir == "" {
		if c.Flags().Changed("socket") && !c.Flags().Changed("config") {
			return b.client(), none, nil
		}
		cfg, err := loadConfig(b.file)
		if err != nil {
			return nil, none, err
		}
		if !c.Flags().Changed("socket") {
			b.socket = cfg.Admin.Socket
		}
		if _, err := b.client().Backups(c.Context()); !errors.Is(err, admin.ErrNoDaemon) {
			return b.client(), none, err
		}
		b.dir, b.key = cfg.DataDir, cmp.Or(b.key, cfg.Store.MasterKey)
	}
	st, err := store.Open(store.Options{Dir: b.dir, MasterKey: b.key})
	switch {
	case errors.Is(err, store.ErrLocked):
		return nil, none, fmt.Errorf("%s: a process has this store open; without --dir its daemon is asked over the socket", b.dir)
	case err != nil:
		return nil, none, fmt.Errorf("%s: %w", b.dir, err)
	}
	return backup.Local{Store: st}, st.Close, nil
}

func newBackup() *cobra.Command {
	var to backupTarget
	var create bool
	var opt backup.Options
	c := &cobra.Command{
		Use:   "backup DIR",
		Short: "Copy the store to another disk while it serves",
		Long: "Copy one moment of the store into a folder on another disk, as a new generation: index, keys, and those bodies that the\n" +
			"folder does not hold yet. All that is new is synced, read back from the disk and compared; the daemon opens each new\n" +
			"body with its key. The master key is not copied: keep it elsewhere. Deliveries go on. What a run that was broken off\n" +
			"copied is used by the next one. Exit status 1 when a body could not be copied, which is named, or no generation was made.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			use := backup.Write
			if create {
				use = backup.Create
			}
			d, err := backup.Open(args[0], use)
			if err != nil {
				return err
			}
			defer d.Close()
			src, done, err := to.source(cmd)
			if err != nil {
				return err
			}
			p := to.progress(cmd)
			opt.Progress = p.tell
			began := time.Now()
			r, err := backup.Run(ctx, src, d, opt)
			err = errors.Join(err, done())
			p.end()
			if err != nil {
				return err
			}
			return showBackup(&to.asking, cmd, d, r, time.Since(began))
		},
	}
	c.Flags().BoolVar(&create, "create", false, "make an empty or missing folder into one of backups")
	c.Flags().BoolVar(&opt.Fast, "fast", false, "do not open the new bodies with their keys")
	c.Flags().BoolVar(&opt.VerifyAll, "verify-all", false, "read the old bodies back too, and copy damaged ones again")
	to.flags(c)
	c.AddCommand(newBackupList(), newBackupVerify(), newBackupPrune(), newBackupForget())
	return c
}

// backupDoc is what a backup says in JSON.
type backupDoc struct {
	Generation string         `json:"generation"`
	ID         string         `json:"id"`
	Moment     string         `json:"moment"`
	Messages   int64          `json:"messages"`
	Bodies     int64          `json:"bodies"`
	Octets     int64          `json:"octets"`
	New        int64          `json:"new"`
	NewOctets  int64          `json:"new_octets"`
	Repaired   int64          `json:"repaired"`
	Damaged    []string       `json:"damaged"`
	DamagedAll int64          `json:"damaged_count"`
	Unopened   int64          `json:"unopened"`
	SameDisk   bool           `json:"same_disk"`
	Opens      []backup.Opens `json:"opens_destroyed"`
	Seconds    float64        `json:"seconds"`
}

func names(ids []trace.ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

func showBackup(ask *asking, cmd *cobra.Command, d *backup.Dir, r backup.Report, took time.Duration) error {
	doc := backupDoc{r.Generation, r.Moment.ID, r.Moment.Time.Format(time.RFC3339), r.Moment.Messages, r.Bodies, r.Octets, r.New, r.NewOctets,
		r.Repaired, names(r.Damaged), r.DamagedAll, r.Locked, r.SameDisk, r.Opens, took.Seconds()}
	if r.SameDisk {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s lies on the file system of the store: this is no backup, one disk takes both\n", d.Path)
	}
	err := ask.print(cmd.OutOrStdout(), doc, func(w io.Writer) {
		row(w, "generation", doc.Generation)
		row(w, "moment", fmt.Sprintf("%s, commit %d", doc.Moment, r.Moment.Commits))
		row(w, "mail", fmt.Sprintf("%d BALs, %d messages", r.Moment.BALs, doc.Messages))
		row(w, "bodies", fmt.Sprintf("%d (%s), new: %d (%s)", doc.Bodies, octets(doc.Octets), doc.New, octets(doc.NewOctets)))
		if r.Repaired > 0 {
			row(w, "repaired", fmt.Sprintf("%d bodies were damaged here and copied again", r.Repaired))
		}
		if r.Locked > 0 {
			row(w, "not opened", fmt.Sprintf("%d bodies were copied that no key at hand opens (mssd keys list)", r.Locked))
		}
		for _, id := range doc.Damaged {
			row(w, "not copied", "message "+id+": its body is damaged or missing in the store (mssd trace "+id+")")
		}
		if n := doc.DamagedAll - int64(len(doc.Damaged)); n > 0 {
			row(w, "not copied", fmt.Sprintf("and %d more", n))
		}
		for _, o := range r.Opens {
			for _, a := range o.BALs {
				row(w, "still opens", fmt.Sprintf("generation %s: the mail of %s, which was destroyed (mssd backup prune)", o.Generation, a))
			}
		}
		if r.Removed > 0 {
			row(w, "removed", fmt.Sprintf("%d generations that were broken off", r.Removed))
		}
		row(w, "took", took.Round(time.Millisecond))
	})
	if err == nil && r.DamagedAll+r.Locked > 0 {
		err = silentError{}
	}
	return err
}

// generationDoc is a generation in JSON.
type generationDoc struct {
	Generation string `json:"generation"`
	ID         string `json:"id,omitempty"`
	Moment     string `json:"moment,omitempty"`
	Messages   int64  `json:"messages"`
	Bodies     int64  `json:"bodies"`
	Octets     int64  `json:"octets"`
	Damaged    int64  `json:"damaged"`
	MasterKey  string `json:"master_key,omitempty"`
	Error      string `json:"error,omitempty"`
}

func newBackupList() *cobra.Command {
	var ask asking
	var dir string
	c := &cobra.Command{
		Use:   "list [--dir DIR]",
		Short: "List the backups that the store knows of, or those in a folder",
		Long: "List the backups that the store knows of, destroyed and broken-off ones among them; with --dir the generations in a folder of\n" +
			"backups, for which no daemon is needed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir != "" {
				return listGenerations(&ask, cmd, dir)
			}
			list, err := ask.client().Backups(cmd.Context())
			if err != nil {
				return err
			}
			return ask.print(cmd.OutOrStdout(), list, func(w io.Writer) {
				row(w, "ID", "MOMENT", "STATE", "WHERE")
				for _, b := range list {
					row(w, b.ID, b.Began.Format(time.RFC3339), b.State, b.Label)
					for _, a := range b.Opens {
						row(w, "", "", "", "still opens the mail of "+a+", which was destroyed")
					}
				}
			})
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "folder of backups")
	return ask.flags(c)
}

func listGenerations(ask *asking, cmd *cobra.Command, dir string) error {
	d, err := backup.Open(dir, backup.Look)
	if err != nil {
		return err
	}
	defer d.Close()
	all, err := d.Generations()
	if err != nil {
		return err
	}
	docs := []generationDoc{}
	bad := false
	for _, g := range all {
		doc := generationDoc{Generation: g.Name}
		if g.Err != nil {
			doc.Error, bad = g.Err.Error(), true
		} else {
			m := g.Manifest
			doc = generationDoc{g.Name, m.ID, m.Time.Format(time.RFC3339), m.Messages, m.Bodies, m.Contents.Octets, m.Damaged, m.MasterKey, ""}
		}
		docs = append(docs, doc)
	}
	err = ask.print(cmd.OutOrStdout(), docs, func(w io.Writer) {
		row(w, "GENERATION", "MESSAGES", "BODIES", "SIZE", "MASTER KEY", "")
		for _, g := range docs {
			if g.Error != "" {
				row(w, g.Generation, "-", "-", "-", "-", g.Error)
				continue
			}
			note := ""
			if g.Damaged > 0 {
				note = fmt.Sprintf("%d bodies could not be copied", g.Damaged)
			}
			row(w, g.Generation, g.Messages, g.Bodies, octets(g.Octets), g.MasterKey, note)
		}
	})
	if err == nil && bad {
		err = silentError{}
	}
	return err
}

func newBackupVerify() *cobra.Command {
	var ask asking
	var key, generation string
	var quiet bool
	c := &cobra.Command{
		Use:   "verify DIR",
		Short: "Read a folder of backups through and compare everything with its sums",
		Long: "Read everything that the generations in a folder name and compare it with the sums taken when it was copied. With\n" +
			"--master-key the signature of each manifest is verified too: without it, who can write to the folder could have put\n" +
			"another backup there. Exit status 1 when something is wrong. mssd restore --rehearse tries even more.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := backup.Open(args[0], backup.Read)
			if err != nil {
				return err
			}
			defer d.Close()
			p := newProgress(cmd.ErrOrStderr(), quiet || ask.json, backupOctets...)
			v, err := backup.Verify(cmd.Context(), d, generation, key, p.tell)
			p.end()
			if err != nil {
				return err
			}
			err = ask.print(cmd.OutOrStdout(), v, func(w io.Writer) { showVerified(w, v) })
			if err == nil && len(v.Faults) > 0 {
				err = silentError{}
			}
			return err
		},
	}
	c.Flags().StringVar(&key, "master-key", "", "file of the master key, to verify the signatures")
	c.Flags().StringVar(&generation, "generation", "", "only this one (default: all)")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	c.Flags().BoolVar(&ask.json, "json", false, "print JSON")
	return c
}

func showVerified(w io.Writer, v backup.Verified) {
	signed := "signatures not verified (--master-key)"
	if v.Signed {
		signed = "signatures verified"
	}
	fmt.Fprintf(w, "%d generations, %d bodies (%s) read; %s\n", v.Generations, v.Bodies, octets(v.Octets), signed)
	if v.Damaged > 0 {
		fmt.Fprintf(w, "%d bodies were damaged or missing in the store when a generation was made\n", v.Damaged)
	}
	for _, f := range v.Faults {
		fmt.Fprintln(w, "  "+f)
	}
	if len(v.Faults) == 0 {
		fmt.Fprintln(w, "no fault found")
		return
	}
	fmt.Fprintf(w, "%d faults found; a run of mssd backup --verify-all copies damaged bodies again while the store has them; of a damaged generation only the others are of use\n", len(v.Faults))
}

func newBackupPrune() *cobra.Command {
	var to backupTarget
	var keep int
	c := &cobra.Command{
		Use:   "prune DIR --keep N",
		Short: "Remove old generations, and the bodies that only they need",
		Long: "Remove all but the newest N generations in a folder of backups, then the bodies that none of those left names, and tell\n" +
			"the store, so that it knows which backups can still open the mail of a destroyed BAL. Nothing is removed while a\n" +
			"generation cannot be read.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keep < 1 {
				return usageError{errors.New("--keep says how many generations stay; expected 1 or more")}
			}
			d, err := backup.Open(args[0], backup.Write)
			if err != nil {
				return err
			}
			defer d.Close()
			src, done, err := to.source(cmd) // before: what goes must be told
			if err != nil {
				return err
			}
			p := to.progress(cmd)
			r, err := backup.Prune(cmd.Context(), d, keep, p.tell)
			p.end()
			untold := tellForgotten(cmd.Context(), src, r.IDs)
			if err := errors.Join(err, done()); err != nil {
				return err
			}
			if err := to.print(cmd.OutOrStdout(), r, func(w io.Writer) {
				for _, g := range r.Generations {
					row(w, "removed", g)
				}
				row(w, "kept", fmt.Sprintf("%d generations", r.Kept))
				row(w, "bodies removed", fmt.Sprintf("%d (%s)", r.Bodies, octets(r.Octets)))
			}); err != nil {
				return err
			}
			return untold
		},
	}
	c.Flags().IntVar(&keep, "keep", 0, "how many generations stay")
	return to.flags(c)
}

// tellForgotten tells the store which backups are gone. One that it never knew needs no telling.
func tellForgotten(ctx context.Context, src backup.Source, ids []trace.ID) error {
	var left []string
	var last error
	for _, id := range ids {
		err := src.Forget(ctx, id)
		var p *admin.Problem
		if err == nil || errors.Is(err, store.ErrNoBackup) || errors.As(err, &p) && p.Status == 404 {
			continue
		}
		left, last = append(left, id.String()), err
	}
	if last == nil {
		return nil
	}
	return fmt.Errorf("removed, but the store could not be told that these backups are gone: %w; say so with mssd backup forget %s", last, strings.Join(left, " "))
}

func newBackupForget() *cobra.Command {
	var ask asking
	c := &cobra.Command{
		Use:   "forget ID...",
		Short: "Tell the store that a backup was destroyed",
		Long: "Tell the store that a backup, and every copy that was made of it, was destroyed: the mail of a destroyed BAL is called\n" +
			"shredded once no backup is left that can open it. mssd backup prune does so itself.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ids []trace.ID
			for _, a := range args {
				id, err := trace.ParseID(a)
				if err != nil {
					return usageError{fmt.Errorf("%q: %w", a, err)}
				}
				ids = append(ids, id)
			}
			for _, id := range ids {
				if err := ask.client().Forget(cmd.Context(), id); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "backup %s: destroyed\n", id)
			}
			return nil
		},
	}
	c.Flags().StringVar(&ask.socket, "socket", defaultSocket, "unix socket of the daemon")
	return c
}
