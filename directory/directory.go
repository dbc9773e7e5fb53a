// Package directory mirrors the Annuaire Santé and says what its answer means for a recipient of ours.
//
// Feeds (an LDAP server, the public extraction) are read into images: immutable, compact, one for each feed, swapped
// atomically and saved under the state folder, so that a start needs no network. RCPT asks Decide, which looks into the
// images, and gets known, unknown or cannot tell, and from the policy table an action. Only where that action would refuse
// is the LDAP server itself asked, within a deadline.
//
// Invariants:
//  1. An address is known when any live image knows it; it is gone only when every feed that had it lost it. An image is
//     live until it is CannotTellAfter old.
//  2. An absence becomes "unknown" only when proven: by a live question, or, where no server can be asked, by an image
//     younger than StaleAfter of a feed that carries this kind of BAL. Everything else is "cannot tell".
//  3. A feed that is empty, damaged or lost more than MaxLoss of its addresses is refused whole; its old image stays.
//  4. A look-up takes no lock, does not allocate, and never waits for the network.
//
// It does not know our BALs: the caller says kind, structure and listing. Content sync (RFC 4533), download of the
// extraction and search by name join it later.
//
// Security: the LDAP server and the extraction are believed about addresses; their sizes are bounded. Addresses of
// patients are never asked for here. An attacker who can alter a feed can make mail to a published BAL be refused, which
// the loss gate bounds, and cannot make us accept mail for a BAL that we do not hold.
//
// Standards: RFC 4511 (LDAP), RFC 2696 (paged results); the facts on the Annuaire are those of docs/trust.md.
package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Directory needs. With neither LDAP nor Extraction every answer is CannotTell.
type Config struct {
	LDAP            *LDAPConfig
	Extraction      *ExtractionConfig
	StateDir        string        // where images are saved; "" not at all
	Policy          Policy        // zero: DefaultPolicy
	StaleAfter      time.Duration // 0: 48 h
	CannotTellAfter time.Duration // 0: 15 days
	LiveDeadline    time.Duration // 0: 300 ms
	MaxLoss         float64       // share of its addresses that a feed may lose at once; 0: 0.20
	Log             *slog.Logger  // nil: slog.Default()
	Now             func() time.Time
}

// Directory is the mirror. It is safe for concurrent use.
type Directory struct {
	cfg   Config
	log   *slog.Logger
	feeds []*feed
	live  *liveLDAP // nil: no server to ask
}

// feed is one source and its present image.
type feed struct {
	name  string        // "ldap" or "extraction"; also the name of its file under StateDir
	kinds string        // kinds that it carries, "" all
	every time.Duration // between two readings
	read  func(ctx context.Context, held *image) (*image, error)

	image atomic.Pointer[image] // nil: none yet

	mu      sync.Mutex // one reading at a time; guards what follows
	lastErr error
	lastTry time.Time
	nextTry time.Time
	fails   int
}

// errUnchanged is what a feed's read returns when it holds the newest.
var errUnchanged = errors.New("unchanged")

// Open makes the mirror from the images saved under StateDir. A missing or damaged image is no error: the feed is read
// again by Run. Errors: a configuration that cannot be used.
func Open(cfg Config) (*Directory, error) {
	setDefault(&cfg.StaleAfter, 48*time.Hour)
	setDefault(&cfg.CannotTellAfter, 15*24*time.Hour)
	setDefault(&cfg.LiveDeadline, 300*time.Millisecond)
	setDefault(&cfg.MaxLoss, 0.20)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Policy = cfg.Policy.withDefaults()
	d := &Directory{cfg: cfg, log: cfg.Log}
	if c := cfg.LDAP; c != nil {
		if err := c.prepare(); err != nil {
			return nil, err
		}
		d.feeds = append(d.feeds, &feed{name: "ldap", every: c.Every, read: c.read(cfg.Now)})
		d.live = newLive(c, cfg.LiveDeadline, cfg.Now)
	}
	if c := cfg.Extraction; c != nil {
		if err := c.prepare(); err != nil {
			return nil, err
		}
		// The public extraction carries no APP and no CAB: its silence about them says nothing.
		d.feeds = append(d.feeds, &feed{name: "extraction", kinds: "PER ORG", every: c.Every, read: c.read})
	}
	if cfg.StateDir == "" {
		return d, nil
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	for _, f := range d.feeds {
		img, err := loadImage(d.stateFile(f))
		switch {
		case err == nil:
			f.image.Store(img)
		case !errors.Is(err, os.ErrNotExist):
			d.log.Warn("saved image of the directory not usable, the feed will be read again", "feed", f.name, "err", err)
		}
	}
	return d, nil
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Run reads the feeds, each in its rhythm, until ctx ends; failures are tried again sooner, with back-off.
func (d *Directory) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, f := range d.feeds {
		wg.Go(func() { d.runFeed(ctx, f) })
	}
	wg.Wait()
}

func (d *Directory) runFeed(ctx context.Context, f *feed) {
	for ctx.Err() == nil {
		err := d.refresh(ctx, f)
		f.mu.Lock()
		wait := f.every
		if err != nil {
			wait = min(f.every, time.Second<<min(f.fails, 10))
		}
		f.nextTry = d.cfg.Now().Add(wait)
		f.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// Refresh reads every feed now. The error names each feed that failed and why; its old image stays.
func (d *Directory) Refresh(ctx context.Context) error {
	var errs []error
	for _, f := range d.feeds {
		errs = append(errs, d.refresh(ctx, f))
	}
	return errors.Join(errs...)
}

// refresh reads one feed, judges what came and swaps it in.
func (d *Directory) refresh(ctx context.Context, f *feed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastTry = d.cfg.Now()
	held := f.image.Load()
	img, err := f.read(ctx, held)
	if errors.Is(err, errUnchanged) {
		f.lastErr, f.fails = nil, 0
		return nil
	}
	if err == nil {
		err = d.gate(held, img)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = fmt.Errorf("directory: feed %s: %w", f.name, err)
		f.lastErr = err
		f.fails++
		d.log.Warn("feed of the directory refused, the old image stays", "feed", f.name, "err", err)
		return err
	}
	img.Generation = 1
	if held != nil {
		img.Generation = held.Generation + 1
	}
	if d.cfg.StateDir != "" {
		if err := img.save(d.stateFile(f)); err != nil {
			d.log.Warn("image of the directory not saved", "feed", f.name, "err", err)
		}
	}
	f.image.Store(img)
	f.lastErr, f.fails = nil, 0
	d.log.Info("directory read", "feed", f.name, "generation", img.Generation, "rows", len(img.rows), "dur", d.cfg.Now().Sub(f.lastTry))
	return nil
}

// gate refuses an image that is empty or lost too much against the one held.
func (d *Directory) gate(held, img *image) error {
	if len(img.rows) == 0 {
		return errors.New("it holds no address; refused")
	}
	if held == nil || held.addresses == 0 {
		return nil
	}
	lost := held.missingIn(img)
	if share := float64(lost) / float64(held.addresses); share > d.cfg.MaxLoss {
		return fmt.Errorf("it lost %d of %d addresses (%.1f %%, at most %.1f %% are taken); refused", lost, held.addresses, share*100, d.cfg.MaxLoss*100)
	}
	return nil
}

func (d *Directory) stateFile(f *feed) string { return d.cfg.StateDir + "/" + f.name + ".image" }

// Lookup returns the holders of an address in the live images, in the order of the feeds.
func (d *Directory) Lookup(address string) []Entry {
	var all []Entry
	for _, f := range d.feeds {
		if img := d.liveImage(f); img != nil {
			for i := img.first(address); i != none; i = img.rows[i].next {
				all = append(all, img.entry(i))
			}
		}
	}
	return all
}

// liveImage is the feed's image unless it is too old to say anything.
func (d *Directory) liveImage(f *feed) *image {
	img := f.image.Load()
	if img == nil || d.cfg.Now().Sub(img.Time) > d.cfg.CannotTellAfter {
		return nil
	}
	return img
}

// Decide answers for one recipient of ours. It waits for the network only where the policy would refuse, LiveDeadline
// at most.
func (d *Directory) Decide(ctx context.Context, q Query) Decision {
	dec := d.fromImages(q)
	dec.Action = d.cfg.Policy.action(q.Listing, dec.Answer)
	if dec.Answer != Unknown && !(dec.Answer == CannotTell && dec.unproven) {
		return dec
	}
	if d.cfg.Policy.action(q.Listing, Unknown).Refuses() && d.live != nil {
		dec = d.ask(ctx, q, dec)
		dec.Action = d.cfg.Policy.action(q.Listing, dec.Answer)
	}
	return dec
}

// fromImages answers from memory.
func (d *Directory) fromImages(q Query) Decision {
	dec := Decision{Answer: CannotTell, Note: "no image of the directory"}
	for _, f := range d.feeds {
		img := f.image.Load()
		if img == nil {
			continue
		}
		age := d.cfg.Now().Sub(img.Time)
		if age > d.cfg.CannotTellAfter {
			if dec.Source == "" {
				dec = Decision{Answer: CannotTell, Source: f.name, Generation: img.Generation, Age: age, Note: "the image is too old"}
			}
			continue
		}
		answer, note := img.match(q)
		now := Decision{Answer: answer, Source: f.name, Generation: img.Generation, Age: age, Note: note}
		if answer == Unknown {
			switch {
			case f.kinds != "" && !strings.Contains(f.kinds, strings.ToUpper(q.Kind)):
				now.Answer, now.Note, now.unproven = CannotTell, "this feed carries no BAL of this kind", true
			case age > d.cfg.StaleAfter:
				now.Answer, now.Note, now.unproven = CannotTell, "the image is too old to prove an absence", true
			}
		}
		if better(now, dec) {
			dec = now
		}
	}
	return dec
}

// better reports whether a says more than b: known, known otherwise, unknown, cannot tell.
func better(a, b Decision) bool {
	if a.Answer != b.Answer {
		return a.Answer < b.Answer
	}
	return b.Source == "" || a.Age < b.Age
}

// ask puts the question to the server itself, and keeps what the images said where it does not answer.
func (d *Directory) ask(ctx context.Context, q Query, dec Decision) Decision {
	entries, err := d.live.find(ctx, q.Address)
	dec.Live = true
	if err != nil {
		dec.Answer, dec.Note = CannotTell, "the live question failed: "+err.Error()
		return dec
	}
	dec.Source, dec.Age, dec.unproven = "ldap live", 0, false
	dec.Answer, dec.Note = matchEntries(q, entries)
	return dec
}

// Close ends the connection kept for live questions.
func (d *Directory) Close() {
	if d.live != nil {
		d.live.close()
	}
}
