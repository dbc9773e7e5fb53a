package admin

import (
	"context"
	"net/http"
	"time"

	"mssd/tlsconf"
	"mssd/trace"
)

// Certs is everything of the trust that ends, the soonest first.
type Certs struct {
	Now   time.Time      `json:"now"` // of the daemon's clock
	Dates []tlsconf.Date `json:"dates"`
}

func (s *Server) certs(r *http.Request) (any, error) {
	doc := Certs{Now: s.Now().UTC(), Dates: []tlsconf.Date{}}
	if s.Dates != nil {
		doc.Dates = append(doc.Dates, s.Dates()...)
	}
	s.Store.Record(event(r, trace.Admin, "certs"))
	return doc, nil
}

// Certs asks what ends and when.
func (c *Client) Certs(ctx context.Context) (Certs, error) {
	return call[Certs](ctx, c, "GET", "/v1/certs", nil)
}
