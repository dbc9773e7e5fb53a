package whitelist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mssd/tlsconf"
)

const (
	maxPartners   = 10_000
	savePartners  = 5 * time.Minute // at most so much is forgotten by a kill
	partnersFile  = "partners.json"
	maxPartnersIO = 64 << 20 // octets of the file
)

// Partner is an operator that spoke for a domain, and was let in.
type Partner struct {
	Domain string    `json:"domain"` // of the sender; "" for mail without one
	DN     string    `json:"dn"`
	Serial string    `json:"serial"`           // of the certificate last seen
	Ends   time.Time `json:"ends"`             // NotAfter of it
	Issuer string    `json:"issuer,omitempty"` // of it, see tlsconf.IssuerText
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	// Mails holds how many messages were stored on Day, a number of days since 1970 (UTC), on the day before, and so on; 30
	// days at most.
	Day   int64    `json:"day,omitempty"`
	Mails []uint32 `json:"mails,omitempty"`
}

const (
	mailDays = 30
	oneDay   = 24 * time.Hour
)

func dayOf(t time.Time) int64 { return t.Unix() / int64(oneDay/time.Second) }

// count adds a message that was stored now.
func (e *Partner) count(now time.Time) {
	today := dayOf(now)
	switch ahead := today - e.Day; {
	case len(e.Mails) == 0, ahead >= mailDays, ahead < -1: // the clock was wrong then, or is now
		e.Mails, e.Day = []uint32{0}, today
	case ahead > 0:
		e.Mails, e.Day = append(make([]uint32, ahead, mailDays), e.Mails...), today
		e.Mails = e.Mails[:min(len(e.Mails), mailDays)]
	}
	if e.Mails[0] < math.MaxUint32 {
		e.Mails[0]++
	}
}

// PerDay is how many messages came in a day: of the last 30 days, or since it was first seen.
func (e *Partner) PerDay(now time.Time) float64 {
	sum, today := 0.0, dayOf(now)
	for i, n := range e.Mails {
		if day := e.Day - int64(i); day <= today && day > today-mailDays {
			sum += float64(n)
		}
	}
	return sum / float64(min(max(today-dayOf(e.First)+1, 1), mailDays))
}

// Partners remembers who spoke for which domain, and with which certificate, so that a new list can be tried on them
// before it comes into force. It is kept in a file of its own: losing it loses no mail. It is safe for concurrent use.
type Partners struct {
	file string
	now  func() time.Time
	log  *slog.Logger

	mu      sync.Mutex
	seen    map[partnerKey]*Partner
	changed bool
}

type partnerKey struct{ domain, dn string }

// OpenPartners reads what an earlier run left in a folder. A file that cannot be read is begun anew.
func OpenPartners(dir string, now func() time.Time, log *slog.Logger) *Partners {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Partners{file: filepath.Join(dir, partnersFile), now: now, log: log, seen: map[partnerKey]*Partner{}}
	if err := tlsconf.CleanUp(p.file); err != nil {
		log.Warn("leftovers not removed", "err", err)
	}
	if err := p.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("partners seen earlier are forgotten", "err", err)
	}
	return p
}

func (p *Partners) load() error {
	st, err := os.Stat(p.file)
	if err != nil {
		return err
	}
	if st.Size() > maxPartnersIO {
		return fmt.Errorf("%s: larger than %d octets", p.file, maxPartnersIO)
	}
	b, err := os.ReadFile(p.file)
	if err != nil {
		return err
	}
	var list []*Partner
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	for _, e := range list {
		if e == nil || len(p.seen) >= maxPartners {
			continue
		}
		e.Mails = e.Mails[:min(len(e.Mails), mailDays)]
		dn, err := tlsconf.ParseDN(e.DN)
		if err != nil {
			continue
		}
		p.seen[partnerKey{e.Domain, dn.Key()}] = e
	}
	return nil
}

// Seen notes that a peer with this verdict spoke for a domain and was let in.
func (p *Partners) Seen(domain string, v tlsconf.Verdict) { p.note(domain, v, false) }

// Stored counts a message of a peer that was let in.
func (p *Partners) Stored(domain string, v tlsconf.Verdict) { p.note(domain, v, true) }

func (p *Partners) note(domain string, v tlsconf.Verdict, stored bool) {
	if v.Leaf == nil || v.DN.IsZero() {
		return
	}
	domain, now := strings.ToLower(domain), p.now().UTC().Truncate(time.Second)
	k := partnerKey{domain, v.DN.Key()}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.seen[k]
	if e == nil {
		if len(p.seen) >= maxPartners {
			p.forgetOldest()
		}
		e = &Partner{Domain: domain, DN: v.DN.String(), First: now}
		p.seen[k] = e
	}
	if now.Sub(e.Last) >= time.Minute || e.Serial != v.Serial || e.Issuer == "" {
		e.Last, e.Serial, e.Ends, p.changed = now, v.Serial, v.Leaf.NotAfter.UTC(), true
		e.Issuer = tlsconf.IssuerText(v.Leaf)
	}
	if stored {
		e.count(now)
		p.changed = true
	}
}

// forgetOldest makes room; p.mu is held.
func (p *Partners) forgetOldest() {
	var oldest partnerKey
	var at time.Time
	for k, e := range p.seen {
		if at.IsZero() || e.Last.Before(at) {
			oldest, at = k, e.Last
		}
	}
	delete(p.seen, oldest)
}

// List is everybody seen since, by domain.
func (p *Partners) List(since time.Time) []Partner {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []Partner{}
	for _, e := range p.seen {
		if !e.Last.Before(since) {
			c := *e
			c.Mails = slices.Clone(e.Mails)
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b Partner) int {
		if c := strings.Compare(a.Domain, b.Domain); c != 0 {
			return c
		}
		return strings.Compare(a.DN, b.DN)
	})
	return list
}

// Refused is a partner that a list would turn away.
type Refused struct {
	Partner
	Listed bool     `json:"listed"` // the domain is in the list, for others
	DNs    []string `json:"dns"`    // for whom
}

// Preview says who of those seen since would be refused by a list.
func (p *Partners) Preview(l *List, since time.Time) (refused []Refused, seen int) {
	list := p.List(since)
	refused = []Refused{}
	for _, e := range list {
		dn, err := tlsconf.ParseDN(e.DN)
		if err != nil || l.Bound(e.Domain, dn) || e.Domain == "" && l.KnowsDN(dn) {
			continue
		}
		refused = append(refused, Refused{e, l.Listed(e.Domain), texts(l.domains[e.Domain].names())})
	}
	return refused, len(list)
}

// Run saves now and then until the context ends, and then once more.
func (p *Partners) Run(ctx context.Context) {
	tick := time.NewTicker(savePartners)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.save()
			return
		case <-tick.C:
			p.save()
		}
	}
}

func (p *Partners) save() {
	p.mu.Lock()
	changed := p.changed
	p.changed = false
	p.mu.Unlock()
	if !changed {
		return
	}
	b, err := json.MarshalIndent(p.List(time.Time{}), "", " ")
	if err == nil {
		err = tlsconf.ReplaceFile(p.file, append(b, '\n'))
	}
	if err != nil {
		p.log.Warn("partners not saved", "err", err)
		p.mu.Lock()
		p.changed = true
		p.mu.Unlock()
	}
}
