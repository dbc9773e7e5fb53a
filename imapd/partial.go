package imapd

import (
	"slices"

	"mssd/store"
)

// part is the messages of a set that FETCH (PARTIAL …) shows (RFC 9394, Section 3.3): places count among those that
// exist, and with CHANGEDSINCE among those that changed.
func (f *fetch) part(runs []store.Run) ([]store.Run, error) {
	if f.args.HasChangedSince {
		var changed []store.Run
		err := f.srv.Store.Rows(f.ctx, f.sel.ref, runs, func(r store.Row) bool {
			if uint64(r.ModSeq) > f.args.ChangedSince {
				changed = addRun(changed, r.UID, 1)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
		runs = f.sel.view.hold(changed)
	}
	from, to := f.args.Partial.Cut(runsCount(runs))
	if from == to {
		return nil, nil
	}
	if from > 0 {
		_, runs = cutRuns(slices.Clone(runs), uint32(from))
	}
	first, _ := cutRuns(slices.Clone(runs), uint32(to-from))
	return first, nil
}
