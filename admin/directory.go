package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"mssd/directory"
	"mssd/store"
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
	return DirectoryStatus{d.Status(), PendingOf(s.Store)}, nil
}

// DirectoryStatus is the mirror's state, and what the directory is to be told.
type DirectoryStatus struct {
	directory.Status
	Publication Pending `json:"publication"`
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

// directoryFind searches what is mirrored. What was looked for is a person's name perhaps: it is not recorded.
func (s *Server) directoryFind(r *http.Request) (any, error) {
	d, err := s.mirror()
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	search := directory.Search{Name: q.Get("name"), Town: q.Get("town"), Structure: q.Get("structure"), Person: q.Get("person"),
		Profession: q.Get("profession"), Kind: q.Get("kind"), Domain: q.Get("domain")}
	if n := q.Get("limit"); n != "" {
		if search.Limit, err = strconv.Atoi(n); err != nil {
			return nil, badRequest("%q; expected a number of entries", n)
		}
	}
	found, err := d.Find(r.Context(), search)
	switch {
	case errors.Is(err, directory.ErrSearch):
		return nil, badRequest("%v", err)
	case err != nil:
		return nil, err
	}
	s.Store.Record(event(r, trace.Admin, "directory find", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(len(found.Entries))}))
	return found, nil
}

// directoryAudit compares our BALs with the directory.
func (s *Server) directoryAudit(r *http.Request) (any, error) {
	d, err := s.mirror()
	if err != nil {
		return nil, err
	}
	var ours []directory.Own
	for _, b := range s.Store.BALs() {
		ours = append(ours, directory.Own{Address: string(b.Address), Kind: b.Kind.String(), Structure: b.Structure,
			Listing: b.Listing.String(), Open: b.State == store.Active || b.State == store.Suspended})
	}
	doc := d.Audit(ours)
	s.Store.Record(event(r, trace.Admin, "directory audit", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(doc.Problems)}))
	return doc, nil
}

// FindInDirectory searches what is mirrored.
func (c *Client) FindInDirectory(ctx context.Context, s directory.Search) (directory.Found, error) {
	q := url.Values{}
	for name, v := range map[string]string{"name": s.Name, "town": s.Town, "structure": s.Structure, "person": s.Person,
		"profession": s.Profession, "kind": s.Kind, "domain": s.Domain} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if s.Limit != 0 {
		q.Set("limit", strconv.Itoa(s.Limit))
	}
	return call[directory.Found](ctx, c, "GET", "/v1/directory/find?"+q.Encode(), nil)
}

// AuditDirectory compares our BALs with the directory.
func (c *Client) AuditDirectory(ctx context.Context) (directory.Audit, error) {
	return call[directory.Audit](ctx, c, "GET", "/v1/directory/audit", nil)
}
