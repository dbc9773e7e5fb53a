package admin

import (
	"context"
	"errors"
	"net/http"

	"mssd/store"
	"mssd/trace"
)

// History is what was done to a BAL and to its members, as the trace has it, the oldest first.
func (c *Client) History(ctx context.Context, address string) ([]TraceEvent, error) {
	return call[[]TraceEvent](ctx, c, http.MethodGet, balPath(address, "/history"), nil)
}

// history answers for a BAL that was destroyed, or is unavailable, too.
func (s *Server) history(r *http.Request) (any, error) {
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil && !(errors.Is(err, store.ErrUnavailable) && b.Address != "") {
		return nil, err
	}
	s.Store.Record(balEvent(r, trace.Admin, "bal history", b))
	events, err := s.Store.TraceOfBAL(r.Context(), b)
	if err != nil {
		return nil, err
	}
	list := []TraceEvent{}
	for _, e := range events {
		list = append(list, traceEvent(e))
	}
	return list, nil
}
