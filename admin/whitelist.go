package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"mssd/directory/whitelist"
	"mssd/trace"
)

// partnersSince is how far back a preview looks.
const partnersSince = 30 * 24 * time.Hour

// WhiteList says what is known of the white list in force.
type WhiteList struct {
	Version   string    `json:"version,omitempty"` // "" there is none
	Generated time.Time `json:"generated,omitzero"`
	Rows      int       `json:"rows"`
	Domains   int       `json:"domains"`
	DNs       int       `json:"dns"`
	Age       int64     `json:"age_seconds"` // since it was last proven to be the newest
	Usable    string    `json:"not_usable,omitempty"`
	LastError string    `json:"last_error,omitempty"`
	Partners  int       `json:"partners"`          // seen in the last 30 days
	Outlook   string    `json:"outlook,omitempty"` // of a list just accepted, see Keeper.Outlook
}

// Preview says whom a list would refuse.
type Preview struct {
	Version string              `json:"version"`
	Seen    int                 `json:"seen"` // partners of the last 30 days
	Refused []whitelist.Refused `json:"refused"`
}

// takesLists says that a request carries a list, which is larger than other requests.
func takesLists(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/whitelist/")
}

func (s *Server) lists() (*whitelist.Keeper, error) {
	if s.List == nil {
		return nil, &Problem{http.StatusNotFound, "this daemon has no white list", "see [whitelist] of the configuration"}
	}
	return s.List, nil
}

func (s *Server) whitelistStatus(r *http.Request) (any, error) {
	k, err := s.lists()
	if err != nil {
		return nil, err
	}
	s.Store.Record(event(r, trace.Admin, "whitelist status"))
	doc := WhiteList{Age: int64(k.Age().Seconds())}
	if l := k.Current(); l != nil {
		doc.Version, doc.Generated, doc.Rows, doc.Domains, doc.DNs = l.Version(), l.Generated(), l.Rows(), l.Domains(), l.DNs()
	}
	if err := k.Usable(); err != nil {
		doc.Usable = err.Error()
	}
	if err := k.LastError(); err != nil {
		doc.LastError = err.Error()
	}
	if s.Partners != nil {
		doc.Partners = len(s.Partners.List(s.Now().Add(-partnersSince)))
	}
	return doc, nil
}

func (s *Server) whitelistFind(r *http.Request) (any, error) {
	k, err := s.lists()
	if err != nil {
		return nil, err
	}
	q := r.URL.Query().Get("q")
	if len(q) < 2 {
		return nil, badRequest("%q is too short; expected a part of a domain or of a DN, two characters at least", q)
	}
	s.Store.Record(event(r, trace.Admin, "whitelist find"))
	l := k.Current()
	if l == nil {
		return nil, &Problem{http.StatusNotFound, "there is no white list yet", "mssd health says why"}
	}
	found := l.Find(q)
	if found == nil {
		found = []whitelist.Entry{}
	}
	return found, nil
}

// whitelistAccept puts a list in force that is older than the one held or lacks many of its domains. Its signature is
// checked all the same.
func (s *Server) whitelistAccept(r *http.Request) (any, error) {
	k, err := s.lists()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "mssd-list-*.xml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r.Body)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, listTooLarge(err)
	}
	before := k.Current()
	if err := k.Accept(r.Context(), f.Name()); err != nil {
		return nil, badRequest("the list is refused: %s", strings.ReplaceAll(err.Error(), f.Name(), "it"))
	}
	l := k.Current()
	s.Store.Record(event(r, trace.Admin, "whitelist accept", trace.Attr{Key: trace.KeyListVersion, Value: l.Version()},
		trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(l.Domains())}))
	doc, err := s.whitelistStatus(r)
	if state, ok := doc.(WhiteList); ok {
		state.Outlook = k.Outlook(before)
		doc = state
	}
	return doc, err
}

// whitelistPreview tries a list on the partners that were seen. The list is not kept.
func (s *Server) whitelistPreview(r *http.Request) (any, error) {
	if s.Partners == nil {
		return nil, &Problem{http.StatusNotFound, "this daemon does not remember its partners", ""}
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, listTooLarge(err)
	}
	l, err := whitelist.Load(b, whitelist.Options{NoChain: true}) // nothing is put in force
	if err != nil {
		return nil, badRequest("the list cannot be read: %v", err)
	}
	s.Store.Record(event(r, trace.Admin, "whitelist preview", trace.Attr{Key: trace.KeyListVersion, Value: l.Version()}))
	doc := Preview{Version: l.Version()}
	doc.Refused, doc.Seen = s.Partners.Preview(l, s.Now().Add(-partnersSince))
	return doc, nil
}

func listTooLarge(err error) error {
	if errors.As(err, new(*http.MaxBytesError)) {
		return badRequest("the list is larger than %d octets", whitelist.MaxSize)
	}
	return err
}

// WhiteList is the state of the white list.
func (c *Client) WhiteList(ctx context.Context) (WhiteList, error) {
	return call[WhiteList](ctx, c, "GET", "/v1/whitelist", nil)
}

// FindInList looks domains and DNs up in the list in force.
func (c *Client) FindInList(ctx context.Context, q string) ([]whitelist.Entry, error) {
	return call[[]whitelist.Entry](ctx, c, "GET", "/v1/whitelist/find?q="+url.QueryEscape(q), nil)
}

// AcceptList puts a list in force, whatever it is compared with the one held.
func (c *Client) AcceptList(ctx context.Context, list []byte) (WhiteList, error) {
	return post[WhiteList](ctx, c, "/v1/whitelist/accept", list)
}

// PreviewList says whom a list would refuse.
func (c *Client) PreviewList(ctx context.Context, list []byte) (Preview, error) {
	return post[Preview](ctx, c, "/v1/whitelist/preview", list)
}

// post sends octets that are no JSON.
func post[T any](ctx context.Context, c *Client, path string, octets []byte) (out T, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mssd"+path, bytes.NewReader(octets))
	if err != nil {
		return out, err
	}
	resp, err := c.send(req)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if out, err = decodeAnswer[T](resp.Body); err != nil {
		return out, fmt.Errorf("%s: %w", c.Socket, err)
	}
	return out, nil
}
