package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"mssd/store"
)

// mending is what fsck is told to do besides looking.
type mending struct {
	repair, dryRun, dropLost bool
	rebuild, force, quiet    bool
}

func (m *mending) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&m.repair, "repair", false, "mend the index of a stopped store, as far as this needs no guess")
	f.BoolVar(&m.dryRun, "dry-run", false, "with --repair: only say what would be done")
	f.BoolVar(&m.dropLost, "drop-lost", false, "with --repair: take away messages whose body is missing or damaged; within, --bodies finds out")
	f.BoolVar(&m.rebuild, "rebuild", false, "make index.db anew from the bodies and the keys, for a stopped store whose index is lost")
	f.BoolVar(&m.force, "force", false, "with --rebuild: also where index.db can be read; it is set aside")
	f.BoolVarP(&m.quiet, "quiet", "q", false, "print no progress")
}

// run mends a stopped store; done is false when it was told to look only.
func (m *mending) run(cmd *cobra.Command, ask *asking, dir, key string, bodies bool) (done bool, err error) {
	switch {
	case m.force && !m.rebuild:
		return true, usageError{errors.New("--force belongs to --rebuild")}
	case (m.dryRun || m.dropLost) && !m.repair:
		return true, usageError{errors.New("--dry-run and --drop-lost belong to --repair")}
	case m.repair && m.rebuild:
		return true, errors.New("either --repair or --rebuild")
	case !m.repair && !m.rebuild:
		return false, nil
	case dir == "":
		return true, errors.New("the folder of the store must be known: give --config or --dir")
	case m.repair:
		return true, m.mend(cmd, ask, dir, key, bodies)
	}
	p := newProgress(cmd.ErrOrStderr(), m.quiet || ask.json)
	out, err := store.Rebuild(cmd.Context(), store.RebuildOptions{Dir: dir, MasterKey: key, Force: m.force, Progress: p.tell})
	p.end()
	if err != nil {
		return true, mendError(dir, err)
	}
	return true, ask.print(cmd.OutOrStdout(), out, func(w io.Writer) { showRebuilt(w, out) })
}

// mend is --repair.
func (m *mending) mend(cmd *cobra.Command, ask *asking, dir, key string, bodies bool) error {
	p := newProgress(cmd.ErrOrStderr(), m.quiet || ask.json)
	out, err := store.Repair(cmd.Context(), store.RepairOptions{Dir: dir, MasterKey: key, DryRun: m.dryRun, DropLost: m.dropLost, Bodies: bodies, Progress: p.tell})
	p.end()
	if err != nil {
		return mendError(dir, err)
	}
	if err := ask.print(cmd.OutOrStdout(), out, func(w io.Writer) { showRepaired(w, out, m.dryRun) }); err != nil {
		return err
	}
	if m.dryRun && out.Count > 0 || len(out.Unavailable) > 0 || slices.ContainsFunc(out.Lost, func(l store.LostRow) bool { return !l.Dropped }) {
		return silentError{} // something stays wrong
	}
	return nil
}

func showRepaired(w io.Writer, r *store.Repaired, dryRun bool) {
	for _, c := range r.Changes {
		fmt.Fprintln(w, "  "+c)
	}
	if n := r.Count - len(r.Changes); n > 0 {
		fmt.Fprintf(w, "  and %d more\n", n)
	}
	kept := 0
	for _, l := range r.Lost {
		if !l.Dropped {
			kept++
			fmt.Fprintf(w, "  body lost: message %s of %s, mailbox %d, UID %d: %s\n", l.Message, l.BAL, l.Mailbox, l.UID, l.Reason)
		}
	}
	for _, a := range r.Unavailable {
		fmt.Fprintf(w, "  BAL %s is unavailable, its key does not open: nothing of it was mended. Bring the file keys back from a backup\n", a)
	}
	switch {
	case r.Count == 0:
		fmt.Fprintln(w, "nothing to mend")
	case dryRun:
		fmt.Fprintf(w, "%d things would be mended; nothing was changed\n", r.Count)
	default:
		fmt.Fprintf(w, "%d things mended; the former index is kept as %s\n", r.Count, r.Kept)
	}
	if r.Report != "" {
		fmt.Fprintf(w, "what was set aside stands in %s\n", r.Report)
	}
	if kept > 0 {
		fmt.Fprintf(w, "%d messages stay without their body: bring the files back from a backup; --drop-lost takes the messages away, but for BALs on hold\n", kept)
	}
}

func mendError(dir string, err error) error {
	switch {
	case errors.Is(err, store.ErrLocked):
		return fmt.Errorf("%s: a process has this store open; stop the daemon first", dir)
	case errors.Is(err, store.ErrReadable):
		return fmt.Errorf("%s: %w; mssd fsck --repair mends it, --rebuild --force sets it aside all the same", dir, err)
	}
	return fmt.Errorf("%s: %w", dir, err)
}

func showRebuilt(w io.Writer, r *store.Rebuilt) {
	fmt.Fprintf(w, "index.db was made anew: %d BALs, %d messages in their INBOX, from %d bodies\n", r.BALs, r.Messages, r.Bodies)
	if r.Kept != "" {
		fmt.Fprintf(w, "the former index is kept as %s\n", r.Kept)
	}
	if r.Destroyed > 0 {
		fmt.Fprintf(w, "%d BALs were destroyed before: their mail was not looked for\n", r.Destroyed)
	}
	for _, n := range r.Unopened {
		fmt.Fprintf(w, "slot %d of keys does not open: its BAL is missing. Bring keys back from a backup and run this again with --force\n", n)
	}
	if r.LostCount > 0 {
		fmt.Fprintf(w, "%d bodies that no key opens, or that are damaged, lie in the folder lost:\n", r.LostCount)
	}
	for _, l := range r.Lost {
		fmt.Fprintf(w, "  %s: %s\n", l.ID, l.Reason)
	}
	fmt.Fprint(w, `What only the index knew is gone. Now, before the daemon is started:
  a backup of the store, even an old one, is better: mssd restore. Without one:
  every BAL is active, its mail is all in INBOX, unread; also what was moved, deleted or sent from here;
  nobody may log in: add the members again (mssd member add), then set states, quotas, holds and listings.
`)
}
