package directory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Directory is the mirror. It is safe for use by many goroutines.
type Directory struct {
	cfg        Config
	feeds      []*feed
	live       *live // nil: no LDAP to ask
	extraction []*webSource
	later      chan laterQuestion
	generation atomic.Uint64
	finding    chan struct{} // one search at a time
}

// feed is one source of rows and the image made from it.
type feed struct {
	name  string
	kinds string // types of BAL that it carries; "" all
	every time.Duration
	read  func(ctx context.Context) (*image, error) // errUnchanged: the image in force is right, if need be by changes
	image atomic.Pointer[image]                     // nil: none yet

	following  atomic.Bool // its changes arrive as they are made
	refreshing sync.Mutex  // one reading at a time; guards what follows
	fresh      bool        // the next session reads everything
	broke      bool        // the session that ended had been following
	toldNoSync bool

	sink          sync.Mutex // guards what follows, and who may replace image
	journal       *journal   // of the image; nil: nothing was changed yet
	journalBroken bool       // the next change makes a new base
	recorded      time.Time  // the last moment in step that is written down
	damaged       bool       // the file of the image is: it must not become the previous one
	refused       *image     // where nothing is kept on disk
	refusedStamp  string

	mu       sync.Mutex // guards what follows
	lastTry  time.Time
	lastGood time.Time
	nextTry  time.Time
	lastErr  error
	saveErr  error // the image in force is not on disk
	refusal  *Refusal
	failures int
}

// Refusal is a reading that a gate kept out.
type Refusal struct {
	At        time.Time `json:"at"`
	Why       string    `json:"why"`
	Rows      int       `json:"rows"`
	Generated time.Time `json:"generated"`
	Changes   bool      `json:"changes,omitempty"`  // changes that a server told; else a whole reading
	NotKept   string    `json:"not_kept,omitempty"` // why it cannot be accepted
}

// errUnchanged says that the source is what the held image was made from.
var errUnchanged = errors.New("directory: unchanged")

// errStillRefused says that the source is what was refused before.
var errStillRefused = errors.New("directory: still the reading that was refused")

// Open loads the images kept under StateDir. It fails for a faulty configuration only: a missing feed or image makes
// answers of CannotTell. Run fills the images.
func Open(cfg Config) (*Directory, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Directory{cfg: cfg, finding: make(chan struct{}, 1)}
	if l := cfg.LDAP; l != nil && l.PasswordFile != "" && !l.StartTLS && strings.HasPrefix(l.URL, "ldap:") {
		cfg.Log.Warn("the password for the directory goes over the network in clear: set starttls or ldaps", "feed", "ldap")
	}
	if cfg.LDAP != nil {
		d.live = newLive(*cfg.LDAP, cfg)
		d.later = make(chan laterQuestion, maxLater)
		f := &feed{name: "ldap", every: cfg.LDAP.Every}
		f.read = func(ctx context.Context) (*image, error) { return d.readLDAP(ctx, f, false) }
		d.feeds = append(d.feeds, f)
	}
	if cfg.Extraction != nil {
		// The public extraction holds no APP and no CAB: its silence about them says nothing.
		d.extraction = newSources(cfg.Extraction)
		d.feeds = append(d.feeds, &feed{name: "extraction", kinds: "PER ORG", every: cfg.Extraction.Every, read: d.readExtraction})
	}
	if cfg.StateDir != "" {
		sweepDrafts(cfg.StateDir)
	}
	for _, f := range d.feeds {
		d.open(f)
	}
	return d, nil
}

// Close ends the connection for live questions and closes files. It does not end Run: cancel its context.
func (d *Directory) Close() error {
	for _, f := range d.feeds {
		f.sink.Lock()
		f.journal.close()
		f.journal, f.journalBroken = nil, true
		f.sink.Unlock()
	}
	if d.live != nil {
		d.live.close()
	}
	return nil
}

// Run reads each feed at once and then again and again, until ctx ends.
func (d *Directory) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, f := range d.feeds {
		if f.name == "ldap" {
			wg.Go(func() { d.keepLDAP(ctx, f) })
			wg.Go(func() { d.askLater(ctx) })
		} else {
			wg.Go(func() { d.keep(ctx, f) })
		}
	}
	wg.Wait()
}

func (d *Directory) keep(ctx context.Context, f *feed) {
	for ctx.Err() == nil {
		_ = d.refresh(ctx, f) // logged there, and shown by Status
		wait := f.wait(d.cfg.RetryAfter)
		f.pause(ctx, d.cfg.Now().Add(wait), wait)
	}
}

// pause waits for the next reading, or for the end of ctx.
func (f *feed) pause(ctx context.Context, until time.Time, wait time.Duration) {
	f.mu.Lock()
	f.nextTry = until
	f.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// wait is the time to the next reading: the usual one, or a back-off that doubles with each failure. A tenth is left
// to chance, so that the operators of a country do not all ask at the same second.
func (f *feed) wait(first time.Duration) time.Duration {
	f.mu.Lock()
	n := f.failures
	f.mu.Unlock()
	wait := f.every
	if n > 0 {
		wait = min(first<<min(n-1, 16), f.every)
	}
	return wait - time.Duration(rand.Int64N(int64(wait)/10+1))
}

// Refresh reads all feeds now, not beside Run. The error names each feed that failed and
// why; its old image stays.
func (d *Directory) Refresh(ctx context.Context) error {
	var errs []error
	for _, f := range d.feeds {
		errs = append(errs, d.refresh(ctx, f))
	}
	return errors.Join(errs...)
}

func (d *Directory) refresh(ctx context.Context, f *feed) error {
	return d.attempt(ctx, f, func() (*image, error) { return f.read(ctx) })
}

// attempt does one reading, puts it in force and notes how it went.
func (d *Directory) attempt(ctx context.Context, f *feed, read func() (*image, error)) error {
	f.refreshing.Lock()
	defer f.refreshing.Unlock()
	start := time.Now()
	img, err := read()
	if err == nil {
		err = d.adopt(f, img)
	}
	if ctx.Err() != nil && err != nil {
		return ctx.Err() // our own end is no fault of the feed
	}
	unchanged := errors.Is(err, errUnchanged)
	f.mu.Lock()
	f.lastTry = d.cfg.Now()
	if err == nil || unchanged {
		f.lastGood, f.lastErr, f.failures = f.lastTry, nil, 0
	} else {
		err = fmt.Errorf("%s: %w", f.name, err)
		f.lastErr = err
		f.failures++
	}
	f.mu.Unlock()
	switch {
	case unchanged:
		return nil
	case err != nil:
		d.cfg.Log.Warn("directory feed not read, the old image stays", "feed", f.name, "err", err)
		return err
	}
	d.cfg.Log.Info("directory image", "feed", f.name, "rows", img.rows(), "faults", img.faults,
		"generation", img.generation, "dur", time.Since(start))
	return nil
}

// Lookup gives the rows of an address in all live feeds, without repetition.
func (d *Directory) Lookup(address string) []Entry {
	var rows []Entry
	now := d.cfg.Now()
	for _, f := range d.feeds {
		if img := f.image.Load(); img != nil && img.age(now) <= d.cfg.CannotTellAfter {
			rows = img.appendEntries(rows, address)
		}
	}
	return unique(rows)
}

// view is an image with its age at one moment. The zero view is none.
type view struct {
	*image
	old time.Duration
}

// look gathers what the live feeds say of an address, and the youngest image that the answer rests on: one that knows the
// address, or, if none does, one that carries this kind of BAL ("" any) and would know it. It takes no lock and does not
// allocate.
func (d *Directory) look(q *Query) (m match, from view) {
	var low [maxField]byte
	addr := appendLower(low[:0], q.Address[:min(len(q.Address), maxField/2)])
	now := d.cfg.Now()
	for _, f := range d.feeds {
		img := f.image.Load()
		if img == nil {
			continue
		}
		v := view{img, img.age(now)}
		if v.old > d.cfg.CannotTellAfter {
			continue
		}
		before := m.rows
		img.each(addr, func(r row) bool { m.take(q, r); return true })
		switch found := m.rows > before; {
		case found && before == 0:
			from = v
		case !found && (before > 0 || !f.carries(q.Kind)):
		case from.image == nil || v.old < from.old:
			from = v
		}
	}
	return m, from
}

func (f *feed) carries(kind string) bool {
	return f.kinds == "" || kind == "" || strings.Contains(f.kinds, strings.ToUpper(kind))
}

func unique(rows []Entry) []Entry {
	out := rows[:0]
	for _, e := range rows {
		dup := false
		for _, o := range out {
			dup = dup || o == e
		}
		if !dup {
			out = append(out, e)
		}
	}
	return out
}

// Decide answers for a recipient. It asks the LDAP server only where the policy would not accept otherwise.
func (d *Directory) Decide(ctx context.Context, q Query) Decision {
	dec := d.fromImage(&q)
	dec.Action = d.cfg.Policy.Action(q.Sender, q.Listing, dec.Answer)
	if dec.Action.accepts() || d.live == nil {
		return dec
	}
	dec = d.askLive(ctx, &q, dec)
	dec.Action = d.cfg.Policy.Action(q.Sender, q.Listing, dec.Answer)
	return dec
}

func (d *Directory) fromImage(q *Query) Decision {
	m, img := d.look(q)
	if img.image == nil {
		return Decision{Answer: CannotTell, Sender: q.Sender, Note: d.whyNothing()}
	}
	dec := Decision{Sender: q.Sender, Source: img.source, Generation: img.generation, Age: img.old}
	if dec.Answer, dec.Note = m.answer(); dec.Answer == Unknown && d.live == nil && img.old > d.cfg.StaleAfter {
		dec.Answer, dec.Note = CannotTell, "the image is too old to say unknown"
	}
	return dec
}

func (d *Directory) whyNothing() string {
	note := "no image"
	for _, f := range d.feeds {
		if img := f.image.Load(); img != nil {
			if img.age(d.cfg.Now()) <= d.cfg.CannotTellAfter {
				return "no feed carries this type of BAL"
			}
			note = "the image is too old"
		}
	}
	return note
}
