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

// Inactive says which active BALs nobody has used for so many days.
type Inactive struct {
	Days int           `json:"days"`
	BALs []InactiveBAL `json:"bals"` // those that are silent the longest first
	// Unknown counts the older BALs that were not used either, as far as is known, but whose days are counted from later on,
	// the last of them from KnownSince: they became active then, or their records were made anew (mssd fsck --rebuild).
	Unknown    int       `json:"unknown"`
	KnownSince time.Time `json:"known_since,omitzero"`
}

// InactiveBAL is one of them.
type InactiveBAL struct {
	Address   string     `json:"address"`
	Kind      string     `json:"kind"`
	Listing   string     `json:"listing"`
	LastLogin *time.Time `json:"last_login,omitempty"` // or reading of mail, up to an hour behind; none is known
	Since     time.Time  `json:"since"`                // no login since: that one, or the BAL became active, or nobody knows more
	Noticed   *time.Time `json:"noticed,omitempty"`    // when a notice of it came into its INBOX
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
	bals, err := s.Store.Usage(r.Context())
	if err != nil {
		return nil, err
	}
	doc := silent(bals, s.Now(), days)
	s.Store.Record(event(r, trace.Admin, "bal inactive", trace.Attr{Key: trace.KeyCount, Value: strconv.Itoa(len(doc.BALs))}))
	return doc, nil
}

// silent picks the active BALs that nobody has used for so many days.
func silent(bals []store.BAL, now time.Time, days int) Inactive {
	doc := Inactive{Days: days, BALs: []InactiveBAL{}}
	before := now.AddDate(0, 0, -days)
	for _, b := range bals {
		one := InactiveBAL{Address: string(b.Address), Kind: b.Kind.String(), Listing: b.Listing.String(), Messages: b.Messages, Since: b.Silent()}
		if !b.Use.Last.IsZero() {
			one.LastLogin = &b.Use.Last
		}
		if !b.Use.Noticed.IsZero() {
			one.Noticed = &b.Use.Noticed
		}
		switch {
		case b.Inactive(now, days):
			doc.BALs = append(doc.BALs, one)
		case b.State == store.Active && b.Use.Last.IsZero() && b.Use.Since.After(b.Created) && !b.Created.After(before):
			doc.Unknown++
			if b.Use.Since.After(doc.KnownSince) {
				doc.KnownSince = b.Use.Since
			}
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
