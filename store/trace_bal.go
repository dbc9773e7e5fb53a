package store

import (
	"context"

	"mssd/trace"
)

// maxHistory is the most events in the history of a BAL; of more the latest are given.
const maxHistory = 10_000

// TraceOfBAL is what was done to a BAL and to who may open it, in order: the events of kinds BAL and Member. It looks through
// the trace since the BAL was made, a page at a time.
func (s *Store) TraceOfBAL(ctx context.Context, b BAL) (events []trace.Event, err error) {
	if err := s.flush(ctx); err != nil && s.Err() == nil {
		return nil, err
	}
	look := func(e trace.Event) {
		if e.BAL != string(b.Address) || e.Kind != trace.BAL && e.Kind != trace.Member {
			return
		}
		if len(events) >= 2*maxHistory {
			events = append(events[:0], events[maxHistory:]...)
		}
		events = append(events, e)
	}
	from, err := s.traceStart(b.Created.Add(-traceSlack))
	for err == nil && from != 0 {
		if err = ctx.Err(); err == nil {
			from, err = s.tracePage(from, look)
		}
	}
	return events[max(0, len(events)-maxHistory):], err
}
