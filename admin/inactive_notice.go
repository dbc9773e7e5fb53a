package admin

import (
	"context"
	"net/http"
	"strconv"

	"mssd/delivery"
	"mssd/trace"
)

// Notify asks that the BALs which nobody has used for so many days be told of it, each once.
type Notify struct {
	Days int `json:"days"`
}

// NotifyInactive tells BALs of their inactivity by a mail into their INBOX.
func (c *Client) NotifyInactive(ctx context.Context, days int) (delivery.NoticesSent, error) {
	return call[delivery.NoticesSent](ctx, c, http.MethodPost, "/v1/inactive/notices", Notify{days})
}

func (s *Server) notifyInactive(r *http.Request) (any, error) {
	var req Notify
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	if req.Days < 1 || req.Days > maxInactiveDays {
		return nil, badRequest("%d; expected a number of days, 1 to %d", req.Days, maxInactiveDays)
	}
	if s.Notices == nil {
		return nil, &Problem{http.StatusServiceUnavailable, "this daemon sends no notices", "compare mssd version with mssd health"}
	}
	done, err := s.Notices.Send(r.Context(), req.Days, asker(r))
	if err != nil {
		return nil, err
	}
	s.Store.Record(event(r, trace.Admin, "bal inactive, notify", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(done.Sent)}))
	return done, nil
}
