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
	rebuild, force, quiet bool
}

func (m *mending) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&m.rebuild, "rebuild", false, "make index.db anew from the bodies and the keys, for a stopped store whose index is lost")
	f.BoolVar(&m.force, "force", false, "with --rebuild: also where index.db can be read; it is set aside")
	f.BoolVarP(&m.quiet, "quiet", "q", false, "print no progress")
}

// run mends a stopped store; done is false when it was told to look only.
func (m *mending) run(cmd *cobra.Command, ask *asking, dir, key string) (done bool, err error) {
	if m.force && !m.rebuild {
		return true, errors.New("--force belongs to --rebuild")
	}
	if !m.rebuild {
		return false, nil
	}
	if dir == "" {
		return true, errors.New("the folder of the store must be known: give --config or --dir")
	}
	p := newProgress(cmd.ErrOrStderr(), m.quiet || ask.json)
	out, err := store.Rebuild(cmd.Context(), store.RebuildOptions{Dir: dir, MasterKey: key, Force: m.force, Progress: p.tell})
	p.end()
	if err != nil {
		return true, mendError(dir, err)
	}
	return true, ask.print(cmd.OutOrStdout(), out, func(w io.Writer) { showRebuilt(w, out) })
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
