package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"mssd/directory"
	"mssd/trace"
)

// AcceptFeed asks for the refused reading of a feed to be put in force.
type AcceptFeed struct {
	Feed string `json:"feed"`
}

func (s *Server) mirror() (*directory.Directory, error) {
	if s.Directory == nil {
		return nil, &Problem{http.StatusNotFound, "this daemon mirrors no directory", "see [directory.ldap] and [directory.extraction] of the configuration"}
	}
	return s.Directory, nil
}

func (s *Server) directoryStatus(r *http.Request) (any, error) {
	d, err := s.mirror()
	if err != nil {
		return nil, err
	}
	s.Store.Record(event(r, trace.Admin, "directory status"))
	return d.Status(), nil
}

// directoryAccept puts the refused reading of a feed in force: the very one that the status reports.
func (s *Server) directoryAccept(r *http.Request) (any, error) {
	d, err := s.mirror()
	if err != nil {
		return nil, err
	}
	var req AcceptFeed
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	st, err := d.Accept(req.Feed)
	switch {
	case errors.Is(err, directory.ErrNoFeed):
		return nil, &Problem{http.StatusNotFound, "no feed of this name is configured", "mssd directory status names the feeds"}
	case errors.Is(err, directory.ErrNothingRefused):
		return nil, &Problem{http.StatusConflict, "this feed has no refused reading", "mssd directory status shows what was refused, and why"}
	case err != nil:
		return nil, err
	}
	s.Store.Record(event(r, trace.Admin, "directory accept", trace.Attr{Key: trace.KeySource, Value: st.Name},
		trace.Attr{Key: trace.KeyGeneration, Value: strconv.FormatUint(st.Generation, 10)},
		trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(st.Rows)}))
	return st, nil
}

// AcceptDirectory puts the refused reading of a feed in force.
func (c *Client) AcceptDirectory(ctx context.Context, feed string) (directory.FeedStatus, error) {
	return call[directory.FeedStatus](ctx, c, "POST", "/v1/directory/accept", AcceptFeed{feed})
}
