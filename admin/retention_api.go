package admin

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Deleted is a message that was expunged and can come back.
type Deleted struct {
	ID       string    `json:"id"`
	At       time.Time `json:"at"`      // when it was expunged
	Mailbox  string    `json:"mailbox"` // where it was, by the name of then; "" where it cannot be read
	Date     time.Time `json:"date"`    // internal date
	SaveDate time.Time `json:"save_date"`
	Size     int64     `json:"size"`
	Subject  string    `json:"subject,omitempty"` // only when it is asked for
}

// DeletedPage is a page of them, the oldest first.
type DeletedPage struct {
	Messages []Deleted `json:"messages"`
	Next     string    `json:"next,omitempty"` // where to go on; "" at the end
}

// Undelete asks for messages to come back: by IDs, or those expunged since a moment, or all. Mailbox narrows the latter
// two; To is where they go, "": where they were.
type Undelete struct {
	IDs     []string   `json:"ids,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
	All     bool       `json:"all,omitempty"`
	Mailbox string     `json:"mailbox,omitempty"`
	To      string     `json:"to,omitempty"`
}

// Undeleted says what came back.
type Undeleted struct {
	Address  string          `json:"address"`
	Messages int             `json:"messages"`
	Gone     int             `json:"gone"` // asked for, and not there (any more)
	Into     []UndeletedInto `json:"into"`
}

// UndeletedInto is one mailbox into which messages came back.
type UndeletedInto struct {
	Mailbox  string `json:"mailbox"`
	Messages int    `json:"messages"`
}

// Hold asks for a legal hold.
type Hold struct {
	Reason string `json:"reason"`
}

// SetRetention asks for a retention: Days, None, or Default (that of the mailbox's special use).
type SetRetention struct {
	Mailbox string `json:"mailbox"`
	Days    int    `json:"days,omitempty"`
	None    bool   `json:"none,omitempty"`
	Default bool   `json:"default,omitempty"`
}

// SetQuota asks for limits; 0 is none, nil leaves one as it is.
type SetQuota struct {
	Octets   *int64 `json:"octets,omitempty"`
	Messages *int64 `json:"messages,omitempty"`
}

// Sweep asks for a sweep now.
type Sweep struct {
	TrustClock bool `json:"trust_clock,omitempty"`
}

// Swept is what a sweep did.
type Swept struct {
	Retired int    `json:"retired"` // expunged for their age
	Purged  int    `json:"purged"`  // expunged messages let go for good
	Bodies  int    `json:"bodies"`  // files removed
	Waits   string `json:"waits,omitempty"`
}

// Deleted lists the expunged messages of a BAL after an id, "" for the first page.
func (c *Client) Deleted(ctx context.Context, address, after string, subjects bool) (DeletedPage, error) {
	q := url.Values{}
	if after != "" {
		q.Set("after", after)
	}
	if subjects {
		q.Set("subjects", "true")
	}
	return call[DeletedPage](ctx, c, http.MethodGet, balPath(address, "/expunged?"+q.Encode()), nil)
}

// Undelete brings messages back.
func (c *Client) Undelete(ctx context.Context, address string, u Undelete) (Undeleted, error) {
	return call[Undeleted](ctx, c, http.MethodPost, balPath(address, "/undelete"), u)
}

// Hold begins a legal hold.
func (c *Client) Hold(ctx context.Context, address, reason string) (BAL, error) {
	return call[BAL](ctx, c, http.MethodPut, balPath(address, "/hold"), Hold{reason})
}

// Release ends a legal hold.
func (c *Client) Release(ctx context.Context, address string) (BAL, error) {
	return call[BAL](ctx, c, http.MethodDelete, balPath(address, "/hold"), nil)
}

// SetRetention sets after how long the messages of a mailbox are expunged.
func (c *Client) SetRetention(ctx context.Context, address string, r SetRetention) (BAL, error) {
	return call[BAL](ctx, c, http.MethodPut, balPath(address, "/retention"), r)
}

// SetQuota sets the limits of a BAL.
func (c *Client) SetQuota(ctx context.Context, address string, q SetQuota) (BAL, error) {
	return call[BAL](ctx, c, http.MethodPut, balPath(address, "/quota"), q)
}

// Sweep does now what the daemon does every hour.
func (c *Client) Sweep(ctx context.Context, trustClock bool) (Swept, error) {
	return call[Swept](ctx, c, http.MethodPost, "/v1/sweep", Sweep{trustClock})
}

func balPath(address, more string) string { return "/v1/bals/" + url.PathEscape(address) + more }
