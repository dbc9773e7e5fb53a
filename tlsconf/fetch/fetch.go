// Package fetch asks for documents that stand at a URL and change now and then: white list, revocation lists,
// extraction of the directory.
//
// A Source asks with the validators of the copy that its owner keeps (RFC 9110, Section 13.1), so that an unchanged
// document costs one short answer, and yields the octets of a new one. The owner judges these, keeps them, and then
// says so (Tag), so that a document that was refused is asked for again. Pace says when to ask next.
//
// Invariants:
//  1. Nothing is asked of another host than the one configured, or its sisters where these are allowed (Sisters), and never
//     in clear where the URL says https.
//  2. A document has at most MaxSize octets, a request ends within Timeout.
//
// It does not judge documents and writes no file.
//
// Security: the answer is hostile until its signature was checked by the owner: size, time and redirections are
// bounded, compression is not asked for.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// Errors of Get, for errors.Is.
var (
	ErrTooLarge = errors.New("fetch: document is too large")
	ErrStatus   = errors.New("fetch: unexpected status")
	ErrURL      = errors.New("fetch: not a URL of this kind")
)

const (
	defaultTimeout = time.Minute
	maxRedirects   = 3
	maxValidator   = 1024 // octets of an ETag that is kept
)

// Source is one document. Fields are set before the first Get.
type Source struct {
	URL     string
	Roots   func() *x509.CertPool // of the server's certificate, asked at each connection; nil: those of the system
	MaxSize int64                 // octets; required
	Timeout time.Duration         // of one request, answer included; 0: 1 min
	Agent   string                // User-Agent; "" none
	// Sisters follows a redirection to another host under the same parent of at least three labels, over the same scheme:
	// from www.data.example.org to static.data.example.org.
	Sisters bool

	client *http.Client
}

// Tag is what a server gave to tell one version of the document from the next. The zero Tag is that of no version.
type Tag struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
}

// Check says what is wrong with a URL; https only where insecure is false.
func Check(raw string, insecure bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %q", ErrURL, raw)
	case u.Scheme != "https" && !(insecure && u.Scheme == "http"), u.Host == "", u.User != nil, u.Fragment != "":
		want := "https://host/path"
		if insecure {
			want = "http://host/path or https://host/path"
		}
		return fmt.Errorf("%w: %q, expected %s", ErrURL, raw, want)
	}
	return nil
}

// Get asks whether there is another version than that of tag. body is nil when there is none.
func (s *Source) Get(ctx context.Context, tag Tag) (body []byte, next Tag, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	resp, err := s.ask(ctx, http.MethodGet, tag)
	if err != nil || resp == nil {
		return nil, tag, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, s.MaxSize+1))
	if err != nil {
		return nil, tag, plain(err)
	}
	if int64(len(body)) > s.MaxSize {
		return nil, tag, s.tooLarge()
	}
	if body == nil {
		body = []byte{}
	}
	return body, tagOf(resp), nil
}

// Info is what a server says of a document.
type Info struct {
	Tag
	Name string // of the file (Content-Disposition, RFC 6266), no path in it; "" not said
	Size int64  // octets; -1 not said
}

// Head asks for the Info alone. A server that does not know the question gives ErrStatus.
func (s *Source) Head(ctx context.Context) (Info, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	resp, err := s.ask(ctx, http.MethodHead, Tag{})
	if err != nil {
		return Info{}, err
	}
	defer resp.Body.Close()
	return infoOf(resp), nil
}

// Save is Get for a document too large for memory: it goes to w. ok is false when there is no other version than that of
// tag. After an error w holds a part of it.
func (s *Source) Save(ctx context.Context, tag Tag, w io.Writer) (info Info, ok bool, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	resp, err := s.ask(ctx, http.MethodGet, tag)
	if err != nil || resp == nil {
		return Info{}, false, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(w, io.LimitReader(resp.Body, s.MaxSize+1))
	switch {
	case err != nil:
		return Info{}, false, plain(err)
	case n > s.MaxSize:
		return Info{}, false, s.tooLarge()
	}
	info = infoOf(resp)
	info.Size = n
	return info, true, nil
}

func (s *Source) tooLarge() error {
	return fmt.Errorf("%w: more than %d octets", ErrTooLarge, s.MaxSize)
}

func (s *Source) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	return context.WithTimeout(ctx, timeout)
}

// ask sends one request. A nil response without an error: there is no other version than that of tag.
func (s *Source) ask(ctx context.Context, method string, tag Tag) (*http.Response, error) {
	if s.client == nil {
		s.client = s.newClient()
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	req.Header.Set("User-Agent", s.Agent)
	if tag.ETag != "" {
		req.Header.Set("If-None-Match", tag.ETag)
	}
	if tag.LastModified != "" {
		req.Header.Set("If-Modified-Since", tag.LastModified)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	switch {
	case ctx.Err() != nil: // an answer to our hanging up is none
		err = plain(ctx.Err())
	case resp.StatusCode == http.StatusNotModified && tag != Tag{}:
		_ = resp.Body.Close()
		return nil, nil
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("%w: %s, expected 200 or 304", ErrStatus, resp.Status)
	case resp.ContentLength > s.MaxSize:
		err = fmt.Errorf("%w: %d octets, %d are allowed", ErrTooLarge, resp.ContentLength, s.MaxSize)
	}
	if err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func tagOf(resp *http.Response) Tag {
	return Tag{validator(resp, "ETag"), validator(resp, "Last-Modified")}
}

func infoOf(resp *http.Response) Info {
	info := Info{Tag: tagOf(resp), Size: resp.ContentLength}
	if _, params, err := mime.ParseMediaType(validator(resp, "Content-Disposition")); err == nil {
		// Invalid characters are the server's: a name with any of them is none.
		if name := path.Base(strings.ReplaceAll(params["filename"], "\\", "/")); name != "." && name != ".." && name != "/" && printable(name) {
			info.Name = name
		}
	}
	return info
}

func validator(resp *http.Response, name string) string {
	v := resp.Header.Get(name)
	if len(v) > maxValidator || !printable(v) {
		return ""
	}
	return v
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// plain takes the words of net/http off an error: they repeat the URL, which its owner names.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("fetch: %w", err)
}

func (s *Source) newClient() *http.Client {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		DisableKeepAlives:      true, // asked once an hour, and the roots may have changed meanwhile
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if s.Roots != nil {
		// The pool is looked up at each handshake: anchors are read again while we run.
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second},
				Config: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: s.Roots()}}
			return d.DialContext(ctx, network, addr)
		}
		t.Proxy = nil // a proxy would be dialled in the same way
	}
	return &http.Client{Transport: t, CheckRedirect: s.redirected}
}

// redirected follows a redirection only where it stays with the host, or its sisters, and the scheme that were configured.
func (s *Source) redirected(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	stays := req.URL.Host == first.Host || s.Sisters && sisters(req.URL.Host, first.Host)
	if len(via) > maxRedirects || !stays || req.URL.Scheme != first.Scheme {
		return fmt.Errorf("redirected to %s://%s, which is not followed: name the new place in the configuration", req.URL.Scheme, req.URL.Host)
	}
	return nil
}

// sisters reports whether two hosts stand under the same parent of three labels or more, both at the usual port.
func sisters(a, b string) bool {
	_, parent, _ := strings.Cut(strings.ToLower(b), ".")
	if strings.Count(parent, ".") < 2 || strings.Contains(parent, ":") {
		return false
	}
	_, other, _ := strings.Cut(strings.ToLower(a), ".")
	return other == parent
}

// Pace says when to ask next: Every after a success, sooner after a failure, later after each further one. The zero
// value is not usable; one goroutine uses it.
type Pace struct {
	Every time.Duration
	fails int
}

// minBackOff is the wait after a first failure; it doubles up to Every.
const minBackOff = 30 * time.Second

// Next is how long to wait after an attempt, with a tenth of it left to chance, so that not all operators ask at once.
func (p *Pace) Next(err error) time.Duration {
	wait := p.Every
	if err == nil {
		p.fails = 0
	} else {
		wait = min(p.Every, minBackOff<<min(p.fails, 16))
		p.fails++
	}
	return wait - time.Duration(rand.Int64N(int64(wait)/10+1))
}
