package tlsconf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"mssd/tlsconf/fetch"
)

const (
	defaultCRLEvery = time.Hour
	beforeRenewal   = 10 * time.Minute // a list is asked for so long before its nextUpdate
	soonest         = time.Minute      // between two questions to one URL
)

// crlURL is a place that lists are fetched from. Its copy on disk is replaced by lists only that verify and are not
// older.
type crlURL struct {
	source fetch.Source
	file   string     // of the copy; its tag stands beside it, in JSON
	fetch  sync.Mutex // guards pace and due
	pace   fetch.Pace
	due    bool // the copy is newer than what is in force: the reload that was to take it failed

	mu      sync.Mutex
	err     error // of the last attempt
	renewal time.Time
}

// openURLs prepares the places that are configured.
func (j *Judge) openURLs() error {
	if len(j.cfg.CRLURLs) == 0 {
		return nil
	}
	if j.cfg.CRLDir == "" {
		return errors.New("revocation lists are to be fetched, and no folder is configured for them")
	}
	if err := os.MkdirAll(j.cfg.CRLDir, 0o700); err != nil {
		return err
	}
	for _, copies := range []string{"*.crl", "*.crl.json"} {
		if err := CleanUp(filepath.Join(j.cfg.CRLDir, copies)); err != nil {
			return err
		}
	}
	if j.cfg.CRLEvery == 0 {
		j.cfg.CRLEvery = defaultCRLEvery
	}
	if j.cfg.CRLEvery < soonest {
		return fmt.Errorf("revocation lists are to be fetched every %v, expected %v at least", j.cfg.CRLEvery, soonest)
	}
	for _, raw := range j.cfg.CRLURLs {
		if err := fetch.Check(raw, true); err != nil { // the lists are signed (RFC 5280, Section 4.2.1.13)
			return err
		}
		sum := sha256.Sum256([]byte(raw))
		j.urls = append(j.urls, &crlURL{
			source: fetch.Source{URL: raw, Roots: j.webRoots, MaxSize: maxCRLFile, Agent: "mssd"},
			file:   filepath.Join(j.cfg.CRLDir, fmt.Sprintf("%x.crl", sum[:8])), pace: fetch.Pace{Every: j.cfg.CRLEvery},
		})
	}
	return nil
}

// webRoots are the authorities of web servers: those of the system and ours.
func (j *Judge) webRoots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, c := range j.Anchors().Certs() {
		pool.AddCert(c)
	}
	return pool
}

// Run fetches revocation lists until ctx ends: at once, then at the configured pace and before each list ends.
func (j *Judge) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, u := range j.urls {
		all.Go(func() {
			for {
				wait := j.fetchOne(ctx, u)
				select {
				case <-ctx.Done():
					return
				case <-time.After(wait):
				}
			}
		})
	}
	all.Wait()
}

// Fetch asks every place once, now, and takes the lists that are new.
func (j *Judge) Fetch(ctx context.Context) error {
	var faults []error
	for _, u := range j.urls {
		j.fetchOne(ctx, u)
		if err := u.lastError(); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// fetchOne asks one place, and says how long to wait before the next question.
func (j *Judge) fetchOne(ctx context.Context, u *crlURL) time.Duration {
	u.fetch.Lock()
	defer u.fetch.Unlock()
	err := j.take(ctx, u)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("revocation list from %s: %w", u.source.URL, err)
		j.cfg.Log.Warn("revocation list not fetched", "err", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
	wait := u.pace.Next(err)
	if left := u.renewal.Add(-beforeRenewal).Sub(j.cfg.Now()); err == nil && !u.renewal.IsZero() && left < wait {
		wait = max(left, soonest)
	}
	return wait
}

// take fetches a list, and puts it in force when it is a new one that verifies. A copy that could not be put in force
// is tried again each time, whatever the place answers: it will say 304 to it.
func (j *Judge) take(ctx context.Context, u *crlURL) error {
	err := j.renew(ctx, u)
	if !u.due {
		return err
	}
	if rerr := j.Reload(); rerr != nil {
		return errors.Join(err, fmt.Errorf("kept, and not in force: %w", rerr))
	}
	u.due = false
	return err
}

// renew replaces the copy by what is fetched, when that is a new list that verifies.
func (j *Judge) renew(ctx context.Context, u *crlURL) error {
	anchors := j.Anchors()
	if anchors.Empty() {
		return errNoAnchors
	}
	held, err := u.load(anchors)
	tag := u.tag()
	if err != nil || held == nil {
		tag = fetch.Tag{} // there is nothing that could be unchanged
	}
	body, next, err := u.source.Get(ctx, tag)
	if err != nil || body == nil {
		return err
	}
	c, err := parseCRL(body, anchors)
	if err != nil {
		return err
	}
	if held != nil && !held.followedBy(c) {
		return fmt.Errorf("it is %s, and %s is held: at one URL stands one list; delete %s if this is meant", c.kindText(), held.kindText(), u.file)
	}
	if held != nil && (held.issuer.Equal(c.issuer) && held.newer(c) || !held.issuer.Equal(c.issuer) && held.thisUpdate.After(c.thisUpdate)) {
		return fmt.Errorf("it is older (of %s) than the one held (of %s)", day(c.thisUpdate), day(held.thisUpdate))
	}
	if err := u.keep(body, next); err != nil {
		return err
	}
	u.due = true
	j.cfg.Log.Info("revocation list fetched", "issuer", subjectText(c.issuer), "revoked", len(c.revoked), "next", c.nextUpdate)
	return nil
}

// followedBy says whether a list may stand in the place of c: whoever is in between could else put a list of others,
// genuine but useless, in the place of the one that is needed. An authority's key may change.
func (c *crl) followedBy(o *crl) bool {
	return bytes.Equal(c.issuer.RawSubject, o.issuer.RawSubject) && (c.base == nil) == (o.base == nil) && c.scope.identity == o.scope.identity
}

func (c *crl) kindText() string {
	kind := "a full list"
	if c.base != nil {
		kind = "a delta list"
	}
	if s := c.scope.String(); s != "" {
		kind += " (" + s + ")"
	}
	return kind + " of " + subjectText(c.issuer)
}

// load reads the copy; nil: there is none yet.
func (u *crlURL) load(anchors *Anchors) (*crl, error) {
	c, err := loadCRL(u.file, anchors)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("copy of the revocation list from %s: %w", u.source.URL, err)
	}
	u.mu.Lock()
	u.renewal = c.nextUpdate
	u.mu.Unlock()
	return c, nil
}

func (u *crlURL) lastError() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (u *crlURL) tagFile() string { return u.file + ".json" }

func (u *crlURL) tag() (t fetch.Tag) {
	b, err := readBounded(u.tagFile(), 64<<10)
	if err != nil || json.Unmarshal(b, &t) != nil {
		return fetch.Tag{}
	}
	return t
}

// keep replaces the copy, durably. The tag goes first: one without its document is worse than the other way round.
func (u *crlURL) keep(body []byte, tag fetch.Tag) error {
	if err := os.Remove(u.tagFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := ReplaceFile(u.file, body); err != nil {
		return err
	}
	b, err := json.Marshal(tag)
	if err != nil {
		return err
	}
	return ReplaceFile(u.tagFile(), b)
}
