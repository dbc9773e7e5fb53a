package admin

import (
	"context"
	"net/http"
	"time"

	"mssd/store"
	"mssd/trace"
)

// Settled says that every address that was given after the backup from which the store was restored is here.
type Settled struct {
	Backup time.Time `json:"backup"` // its moment
}

// AddressesSettled says so: from then on addresses are given as in other stores.
func (c *Client) AddressesSettled(ctx context.Context) (Settled, error) {
	return call[Settled](ctx, c, http.MethodPost, "/v1/restored/settled", nil)
}

func (s *Server) settled(r *http.Request) (any, error) {
	mark, ok, err := s.Store.Restored()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &Problem{http.StatusConflict, "this store was not restored from a backup", "nothing is to be done"}
	}
	_, err = s.Store.Commit(r.Context(), &store.Batch{Ops: []store.Op{store.AddressesSettled{}}, Events: []trace.Event{event(r, trace.Admin, "bal settled")}})
	return Settled{mark.Moment}, err
}
