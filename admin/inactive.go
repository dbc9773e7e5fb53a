package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"mssd/store"
	"mssd/trace"
)

// maxInactiveDays bounds the days asked for: a hundred years.
const maxInactiveDays = 36_500

// Inactive says which active BALs nobody has logged in to for so many days.
type Inactive struct {
	Days int           `json:"days"`
	BALs []InactiveBAL `json:"bals"` // those that are silent the longest first
	// Unknown counts the BALs of which no login is known, and which the trace does not cover for so many days: it was begun
	// anew, at TraceSince.
	Unknown    int       `json:"unknown"`
	TraceSince time.Time `json:"trace_since,omitzero"`
}

// InactiveBAL is one of them.
type InactiveBAL struct {
	Address   string     `json:"address"`
	Kind      string     `json:"kind"`
	Listing   string     `json:"listing"`
	LastLogin *time.Time `json:"last_login,omitempty"` // none is known
	Since     time.Time  `json:"since"`                // no login since: that one, or the BAL was made, or the trace begins
	Messages  int64      `json:"messages"`
}

// Inactive lists the BALs without a login for so many days.
func (c *Client) Inactive(ctx context.Context, days int) (Inactive, error) {
	return call[Inactive](ctx, c, http.MethodGet, "/v1/inactive?days="+strconv.Itoa(days), nil)
}

func (s *Server) inactive(r *http.Request) (any, error) {
	days, err := strconv.Atoi(r.URL.Query().Get("days"))
	if err != nil || days < 1 || days > maxInactiveDays {
		return nil, badRequest("%q; expected a number of days, 1 to %d", r.URL.Query().Get("days"), maxInactiveDays)
	}
	logins, err := s.Store.LastLogins(r.Context())
	if err != nil {
		return nil, err
	}
	doc := silent(s.Store.BALs(), logins, s.Now(), days)
	s.Store.Record(event(r, trace.Admin, "bal inactive", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(len(doc.BALs))}))
	return doc, nil
}

// silent picks the active BALs without a login for so many days.
func silent(bals []store.BAL, logins store.Logins, now time.Time, days int) Inactive {
	doc := Inactive{Days: days, BALs: []InactiveBAL{}, TraceSince: logins.Since}
	before := now.AddDate(0, 0, -days)
	for _, b := range bals {
		if b.State != store.Active {
			continue
		}
		one := InactiveBAL{Address: string(b.Address), Kind: b.Kind.String(), Listing: b.Listing.String(), Messages: b.Messages, Since: b.Created}
		last, known := logins.Last[b.Address]
		if known {
			one.LastLogin, one.Since = &last, last
		} else if logins.Since.After(one.Since) {
			one.Since = logins.Since
		}
		switch {
		case !one.Since.After(before):
			doc.BALs = append(doc.BALs, one)
		case !known && !b.Created.After(before):
			doc.Unknown++
		}
	}
	slices.SortFunc(doc.BALs, func(a, b InactiveBAL) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Address, b.Address)
	})
	return doc
}
