package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"mssd/admin"
)

// tableDone is what a table brought about: parts of it are added up.
type tableDone[D any] interface {
	*D
	fmt.Stringer
	Add(D)
	RowFaults() []admin.MemberFault
}

// sender sends some rows of a table to be looked at, or to be done.
type sender[R, D any] func(ctx context.Context, rows []R, dry bool) (D, error)

// sendTable sends the rows in parts of most rows. Broken off between two parts, the same file does the rest.
func sendTable[R, D any, P tableDone[D]](ctx context.Context, what string, rows []R, most int, dry bool, send sender[R, D]) (all D, err error) {
	for part := range slices.Chunk(rows, most) {
		done, err := send(ctx, part, dry)
		if err != nil {
			return all, err
		}
		P(&all).Add(done)
		if f := P(&done).RowFaults(); !dry && len(f) > 0 {
			return all, fmt.Errorf("%s were changed by others meanwhile; line %d: %s; until there: %s; give the command again", what, f[0].Line, f[0].Text, P(&all))
		}
	}
	return all, nil
}

// doTable has all rows of a file looked at and then, unless it is a dry run or a row is faulty, all of them done, by send.
func doTable[D any, P tableDone[D]](cmd *cobra.Command, ask *asking, dry bool, send func(dry bool) (D, error)) error {
	done, err := send(true)
	if err == nil && len(P(&done).RowFaults()) == 0 && !dry {
		done, err = send(false)
	}
	if err != nil {
		return err
	}
	if err := ask.print(cmd.OutOrStdout(), done, func(w io.Writer) { printDone(w, P(&done).RowFaults(), P(&done), dry) }); err != nil {
		return err
	}
	if len(P(&done).RowFaults()) > 0 {
		return silentError{}
	}
	return nil
}
