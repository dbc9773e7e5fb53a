package imapd

import (
	"slices"

	"mssd/imapd/wire"
	"mssd/store"
)

// window is the messages of a set that FETCH (PARTIAL …) shows (RFC 9394, Section 3.3): places count among those that exist.
// CHANGEDSINCE looks at these (Section 3.4).
func window(runs []store.Run, w wire.Window) []store.Run {
	from, to := w.Cut(runsCount(runs))
	if from == to {
		return nil
	}
	if from > 0 {
		_, runs = cutRuns(slices.Clone(runs), uint32(from))
	}
	first, _ := cutRuns(slices.Clone(runs), uint32(to-from))
	return first
}
