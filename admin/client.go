package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"syscall"
)

// Client asks a daemon over its socket.
type Client struct {
	Socket string // path of the unix socket
}

const maxAnswer = 256 << 20 // octets: the list of a million BALs fits

// ErrNoDaemon says that nobody answers on the socket.
var ErrNoDaemon = errors.New("no daemon answers")

// BALs lists every BAL.
func (c *Client) BALs(ctx context.Context) ([]BAL, error) {
	return call[[]BAL](ctx, c, "GET", "/v1/bals", nil)
}

// BAL shows one BAL with members and mailboxes.
func (c *Client) BAL(ctx context.Context, address string) (BAL, error) {
	return call[BAL](ctx, c, "GET", "/v1/bals/"+url.PathEscape(address), nil)
}

// AddBAL creates a BAL.
func (c *Client) AddBAL(ctx context.Context, b NewBAL) (Made, error) {
	return call[Made](ctx, c, "POST", "/v1/bals", b)
}

// AddMember adds a member to a BAL.
func (c *Client) AddMember(ctx context.Context, address string, m NewMember) (Made, error) {
	return call[Made](ctx, c, "POST", "/v1/bals/"+url.PathEscape(address)+"/members", m)
}

// EndMember ends a membership.
func (c *Client) EndMember(ctx context.Context, address, id string) (Made, error) {
	return call[Made](ctx, c, "DELETE", "/v1/bals/"+url.PathEscape(address)+"/members/"+url.PathEscape(id), nil)
}

// TraceByID is the life of one message.
func (c *Client) TraceByID(ctx context.Context, id string) (Trace, error) {
	return call[Trace](ctx, c, "GET", "/v1/trace?id="+url.QueryEscape(id), nil)
}

// TraceByMessageID is the life of every message with that Message-ID.
func (c *Client) TraceByMessageID(ctx context.Context, id string) (Trace, error) {
	return call[Trace](ctx, c, "GET", "/v1/trace?message_id="+url.QueryEscape(id), nil)
}

// DirectoryStatus is the mirror's state, as the directory describes it.
func (c *Client) DirectoryStatus(ctx context.Context) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, c, "GET", "/v1/directory", nil)
}

// Health is how the daemon does.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, "GET", "/v1/health", nil)
}

// Fsck looks at the whole store while it serves; with bodies it also opens each body to its last octet.
func (c *Client) Fsck(ctx context.Context, bodies bool) (Check, error) {
	path := "/v1/fsck"
	if bodies {
		path += "?bodies"
	}
	return call[Check](ctx, c, "POST", path, nil)
}

// Reload reads certificates, revocation lists and the white list again.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	return call[Reloaded](ctx, c, "POST", "/v1/reload", nil)
}

func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	return callAs[T](ctx, c, "", method, path, body)
}

// callAs is call for a person, whose access token comes with the request; "" nobody's.
func callAs[T any](ctx context.Context, c *Client, token, method, path string, body any) (T, error) {
	var out T
	resp, done, err := c.openAs(ctx, token, method, path, body)
	if err != nil {
		return out, err
	}
	defer done()
	if out, err = decodeAnswer[T](resp.Body); err != nil {
		return out, c.broken(err)
	}
	return out, nil
}

func decodeAnswer[T any](r io.Reader) (out T, err error) {
	answer, err := io.ReadAll(io.LimitReader(r, maxAnswer))
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("the answer cannot be read: %w", err)
	}
	return out, nil
}

// open sends a request; the answer is read as it comes, and done ends it.
func (c *Client) open(ctx context.Context, method, path string, body any) (_ *http.Response, done func(), err error) {
	return c.openAs(ctx, "", method, path, body)
}

func (c *Client) openAs(ctx context.Context, token, method, path string, body any) (_ *http.Response, done func(), err error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://mssd"+path, in)
	if err != nil {
		return nil, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.send(req)
	if err != nil {
		return nil, nil, err
	}
	return resp, func() { resp.Body.Close() }, nil
}

// explain says why the socket could not be reached and what to do.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w; is it running? (systemctl status mssd; --socket names another one)", c.Socket, ErrNoDaemon)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: you may not open this socket; run as root or as the daemon's user", c.Socket)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: the daemon went away while it was asked; see its log and whether it runs (systemctl status mssd), then ask again", c.Socket)
	}
	return fmt.Errorf("%s: %w", c.Socket, err)
}
