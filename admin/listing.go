package admin

import (
	"context"
	"net/http"

	"mssd/store"
	"mssd/trace"
)

// SetListing asks for another listing of a BAL.
type SetListing struct {
	Listing string `json:"listing"` // published, unlisted
}

// SetListing says whether a BAL is meant to stand in the directory. Nothing is published by it.
func (c *Client) SetListing(ctx context.Context, address, listing string) (BAL, error) {
	return call[BAL](ctx, c, http.MethodPut, balPath(address, "/listing"), SetListing{listing})
}

func (s *Server) setListing(r *http.Request) (any, error) {
	var req SetListing
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	l, err := store.ParseListing(req.Listing)
	if err != nil {
		return nil, badRequest("%q is no listing; expected published or unlisted", req.Listing)
	}
	b, err := s.Store.BAL(address(r.PathValue("address")))
	if err != nil {
		return nil, err
	}
	if b.State == store.Destroyed {
		return nil, store.ErrDestroyed
	}
	ev := balEvent(r, trace.BAL, "bal listing", b, trace.Attr{Key: trace.KeyState, Value: l.String()})
	batch := &store.Batch{Ops: []store.Op{store.SetListing{Address: b.Address, Listing: l}}, Events: []trace.Event{ev}}
	if _, err := s.Store.Commit(r.Context(), batch); err != nil {
		return nil, err
	}
	if b, err = s.Store.BAL(b.Address); err != nil {
		return nil, err
	}
	return s.bal(b), nil
}
