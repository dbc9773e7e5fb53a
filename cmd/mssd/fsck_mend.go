package main

import (
	"errors"
	"fmt"
	"io"

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
	if m.dryRun && out.Count > 0 || len(out.Unavailable) > 0 || out.Rows > out.Dropped {
		return silentError{} // something stays wrong
	}
	return nil
}

const mostTold = 100 // messages without a body that are named

func showRepaired(w io.Writer, r *store.Repaired, dryRun bool) {
	for _, m := range r.Changes {
		for _, c := range m.First {
			fmt.Fprintln(w, "  "+c)
		}
		if n := m.Count - len(m.First); n > 0 {
			fmt.Fprintf(w, "  and %d more like these\n", n)
		}
	}
	kept, told := r.Rows-r.Dropped, 0
	for _, l := range r.Lost {
		if !l.Dropped && told < mostTold {
			told++
			fmt.Fprintf(w, "  body lost: message %s of %s, mailbox %d, UID %d: %s\n", l.Message, l.BAL, l.Mailbox, l.UID, l.Reason)
		}
	}
	if kept > told {
		fmt.Fprintf(w, "  and %d more messages whose body is lost\n", kept-told)
	}
	for _, a := range r.Unavailable {
		fmt.Fprintf(w, "  BAL %s is unavailable, its key does not open: nothing of it was mended. Bring the file keys back from a backup\n", a)
	}
	switch {
	case r.Count == 0:
		fmt.Fprintln(w, "nothing to mend")
	case dryRun:
		fmt.Fprintf(w, "%s would be mended; nothing was changed\n", counted(r.Count, "thing", "things"))
	default:
		fmt.Fprintf(w, "%s mended; the former index is kept as %s\n", counted(r.Count, "thing", "things"), r.Kept)
	}
	if r.Report != "" {
		fmt.Fprintf(w, "what was set aside or dropped stands in %s\n", r.Report)
	}
	if r.Bodies > 0 {
		where := "lie in the folder lost now"
		if dryRun {
			where = "would go into the folder lost"
		}
		fmt.Fprintf(w, "%s %s: nothing removes them but you\n", counted(r.Bodies, "damaged body", "damaged bodies"), where)
	}
	if kept > 0 {
		fmt.Fprintf(w, "%s without a body: bring the files back from a backup; --drop-lost takes the messages away, but for BALs on hold\n", counted(kept, "message stays", "messages stay"))
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
	fmt.Fprintf(w, "index.db was made anew: %s, %s in their INBOX, from %s\n", counted(r.BALs, "BAL", "BALs"), messages(r.Messages), counted(r.Bodies, "body", "bodies"))
	if r.Kept != "" {
		fmt.Fprintf(w, "the former index is kept as %s\n", r.Kept)
	}
	if r.Destroyed > 0 {
		fmt.Fprintf(w, "%s destroyed before: their mail was not looked for\n", counted(r.Destroyed, "BAL was", "BALs were"))
	}
	for _, n := range r.Unopened {
		fmt.Fprintf(w, "slot %d of keys does not open: its BAL is missing. Bring keys back from a backup and run this again with --force\n", n)
	}
	showEmpty(w, r.Empty)
	if r.LostCount > 0 {
		fmt.Fprintf(w, "%s in the folder lost: no key opens them, or they are damaged:\n", counted(r.LostCount, "body lies", "bodies lie"))
	}
	for _, l := range r.Lost {
		fmt.Fprintf(w, "  %s: %s\n", l.ID, l.Reason)
	}
	fmt.Fprint(w, `What only the index knew is gone. Now, before the daemon is started:
  a backup of the store, even an old one, is better: mssd restore. Without one:
  every BAL with mail is active, its mail is all in INBOX, unread; also what was moved, deleted or sent from here;
  nobody may log in: add the members again (mssd member add), then set states, quotas, holds and listings.
`)
}

// showEmpty names BALs without mail after a rebuild.
func showEmpty(w io.Writer, addrs []store.Address) {
	if len(addrs) == 0 {
		return
	}
	fmt.Fprintf(w, "%s without any mail: suspended (450), for its creation may have been broken off before anybody was told of it. mssd bal resume ADDRESS, or mssd bal close ADDRESS:\n", counted(len(addrs), "BAL", "BALs"))
	const named = 20
	for _, a := range addrs[:min(len(addrs), named)] {
		fmt.Fprintf(w, "  %s\n", a)
	}
	if more := len(addrs) - named; more > 0 {
		fmt.Fprintf(w, "  and %d more: mssd bal list\n", more)
	}
}
