package whitelist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"mssd/tlsconf"
	"mssd/tlsconf/fetch"
)

const (
	defaultWarn    = 24 * time.Hour
	defaultDefer   = 7 * 24 * time.Hour
	defaultPoll    = time.Hour
	defaultMaxLoss = 0.2
	refreshPause   = time.Minute     // between two refreshes that were asked for by a question
	refreshWait    = 5 * time.Second // of a question for a refresh
	stateFolder    = "list"
)

// Answer of the list to a question about a peer.
type Answer uint8

const (
	CannotTell Answer = iota // no list, or none proven current: temporary
	Bound                    // the list binds this domain to this DN (KnowsDN: it binds some domain)
	NotBound                 // a list proven current says no
	NotListed                // a list proven current does not have the domain
)

var answerNames = [...]string{"cannot_tell", "bound", "not_bound", "not_listed"}

// String is the name of the answer, for logs and traces.
func (a Answer) String() string {
	if int(a) >= len(answerNames) {
		return fmt.Sprintf("answer_%d", uint8(a))
	}
	return answerNames[a]
}

// Errors of the Keeper, for errors.Is.
var (
	ErrNoListYet   = errors.New("no white list has ever been accepted")
	ErrUnavailable = errors.New("white list not usable now")
	ErrOlder       = errors.New("white list is older than the one held")
	ErrLoss        = errors.New("too many domains are gone from the white list")
)

// KeeperConfig says where lists come from and how long one is good for.
type KeeperConfig struct {
	File      string        // the list; "": see Source
	Source    *fetch.Source // where the list is fetched from when there is no File; with neither, only the copy in StateDir is left
	StateDir  string        // a folder "list" is made in it; required
	Load      Options       // who may sign
	Warn      time.Duration // age from which Usable is still nil but Warning is not; zero is 24 h
	Defer     time.Duration // age from which the list is not used; zero is 7 days
	MaxLoss   float64       // share of domains that a new list may lack, 0 to 1; zero is 0.2
	NoListYet bool          // a first start without any list is wanted
	Poll      time.Duration // between two looks of Run; zero is 1 h

	Log *slog.Logger     // Optional.
	Now func() time.Time // Optional.
}

// Keeper holds the list in force. It is safe for concurrent use; questions are answered from memory.
//
// The age of a list is the time since it was last proven to be the newest. A file proves it as often as it is read and
// found to be what was loaded.
type Keeper struct {
	cfg KeeperConfig

	reading sync.Mutex // one list is read and compared at a time; taken before mu

	mu       sync.Mutex // guards what follows; held for moments only
	held     held
	flight   chan struct{} // closed at the end of the refresh under way, nil when none is
	lastAsk  time.Time     // start of the last refresh
	lastErr  error         // of it
	proofErr error         // why the last look at the file proved nothing
}

// held is the list in force and what is known of it.
type held struct {
	list       *List
	generation uint64
	proven     time.Time // when it was last proven to be the newest
	tag        fetch.Tag // of the version at the URL, where it came from there
	file       fileID    // of the file that it was read from or compared with; zero: not from a file
}

// fileID tells whether a file is still the one that was read.
type fileID struct {
	size    int64
	modTime int64 // ns
	inode   uint64
}

// NewKeeper takes up the copy of an earlier run, then the file. A file that is missing or refused is no error when there
// is a copy, or was one: Usable tells. Without any list ever, it is ErrNoListYet, unless that is wanted.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	k := &Keeper{cfg: cfg}
	k.held.generation = 1
	known, err := k.takeUp()
	if err != nil {
		return nil, err
	}
	if cfg.File == "" && (cfg.Source == nil || known) { // Run asks the source in a moment
		if !known && !cfg.NoListYet {
			return nil, ErrNoListYet
		}
		return k, nil
	}
	if err := k.look(context.Background()); err != nil {
		if !known && !cfg.NoListYet {
			return nil, fmt.Errorf("%w: %w", ErrNoListYet, err)
		}
		k.lastErr = err
		k.cfg.Log.Error("white list not accepted", "err", err)
	}
	k.lastAsk = k.cfg.Now()
	return k, nil
}

func (c *KeeperConfig) check() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Load.Now == nil {
		c.Load.Now = c.Now
	}
	c.Warn, c.Defer, c.Poll = orElse(c.Warn, defaultWarn), orElse(c.Defer, defaultDefer), orElse(c.Poll, defaultPoll)
	if c.MaxLoss == 0 {
		c.MaxLoss = defaultMaxLoss
	}
	switch {
	case c.StateDir == "":
		return errors.New("white list: no state folder is configured")
	case c.MaxLoss < 0 || c.MaxLoss > 1:
		return fmt.Errorf("white list: share of domains that may be lost is %v, expected 0 to 1", c.MaxLoss)
	case c.Warn < 0 || c.Defer < c.Warn:
		return fmt.Errorf("white list: warn after %v and defer after %v, expected 0 < warn <= defer", c.Warn, c.Defer)
	case c.Poll < time.Second:
		return fmt.Errorf("white list: poll every %v, expected a second at least", c.Poll)
	}
	return os.MkdirAll(filepath.Join(c.StateDir, stateFolder), 0o700)
}

func orElse(d, zero time.Duration) time.Duration {
	if d == 0 {
		return zero
	}
	return d
}

// Run looks at the source every Poll until the context ends, at a URL also at once, and sooner after a failure.
func (k *Keeper) Run(ctx context.Context) error {
	pace := fetch.Pace{Every: k.cfg.Poll}
	wait := k.cfg.Poll
	if k.cfg.File == "" && k.cfg.Source != nil && k.lastAsked().IsZero() {
		wait = 0
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		err := k.Reload(ctx)
		if err != nil && ctx.Err() == nil {
			k.cfg.Log.Error("white list not refreshed", "err", err)
		}
		if wait = k.cfg.Poll; k.cfg.File == "" {
			wait = pace.Next(err)
		}
	}
}

func (k *Keeper) lastAsked() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lastAsk
}

// look asks the source that is configured.
func (k *Keeper) look(ctx context.Context) error {
	switch {
	case k.cfg.File != "":
		return k.read(k.cfg.File, false)
	case k.cfg.Source != nil:
		return k.download(ctx)
	}
	return errors.New("white list: no source is configured")
}

// Current is the list held, nil if none; it may be too old to be used, see Usable.
func (k *Keeper) Current() *List { return k.snapshot().list }

// Generation grows whenever another list comes into force.
func (k *Keeper) Generation() uint64 { return k.snapshot().generation }

func (k *Keeper) snapshot() held {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held
}

// Age is the time since the list was last proven to be the newest; zero without a list.
func (k *Keeper) Age() time.Duration {
	k.proveFile()
	h := k.snapshot()
	if h.list == nil {
		return 0
	}
	return max(0, k.cfg.Now().Sub(h.proven))
}

// Until is when the list held can no longer be used, if it is not proven to be the newest once more; zero without one.
func (k *Keeper) Until() time.Time {
	k.proveFile()
	h := k.snapshot()
	if h.list == nil {
		return time.Time{}
	}
	return h.proven.Add(k.cfg.Defer)
}

// Usable is nil when questions can be answered; else it wraps ErrUnavailable and says why.
func (k *Keeper) Usable() error {
	k.proveFile()
	h := k.snapshot()
	switch age := k.cfg.Now().Sub(h.proven); {
	case h.list == nil:
		return errors.Join(fmt.Errorf("%w: there is no list", ErrUnavailable), k.LastError())
	case age > k.cfg.Defer:
		return errors.Join(fmt.Errorf("%w: not proven current for %v", ErrUnavailable, age.Round(time.Minute)), k.LastError())
	}
	return nil
}

// Warning is not nil when someone should look: no list in use, not proven current for some time, or rows unreadable.
func (k *Keeper) Warning() error {
	if err := k.Usable(); err != nil {
		return err
	}
	h := k.snapshot()
	if age := k.cfg.Now().Sub(h.proven); age > k.cfg.Warn {
		return fmt.Errorf("white list not proven current for %v", age.Round(time.Minute))
	}
	if n := len(h.list.Faults()); n > 0 {
		return fmt.Errorf("white list has %d rows that cannot be read, the first: %w", n, h.list.Faults()[0])
	}
	return k.LastError()
}

// LastError is why the last refresh gave nothing, nil if it did.
func (k *Keeper) LastError() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return errors.Join(k.lastErr, k.proofErr)
}

// Reload reads the source now, whenever it was read last. On an error the list held stays.
func (k *Keeper) Reload(ctx context.Context) error {
	_, err := k.refresh(ctx, 0)
	return err
}

// Refresh asks the source whether the list held is the newest, at most once a minute and once at a time. Proven says
// whether it is, as of a moment not before the call, or before the call within that minute.
func (k *Keeper) Refresh(ctx context.Context) (proven bool, err error) {
	return k.refresh(ctx, refreshPause)
}

// refresh joins the refresh under way or starts one, unless one started less than pause ago.
func (k *Keeper) refresh(ctx context.Context, pause time.Duration) (proven bool, err error) {
	began := k.cfg.Now()
	k.mu.Lock()
	done := k.flight
	if done == nil {
		// A clock set back must not stop refreshes for as long.
		if since := began.Sub(k.lastAsk); since < pause && since >= 0 {
			defer k.mu.Unlock()
			return !k.held.proven.Before(k.lastAsk), k.lastErr
		}
		done = make(chan struct{})
		k.flight, k.lastAsk = done, began
		go k.fly(done)
	}
	k.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held.list != nil && k.lastErr == nil, k.lastErr
}

// fly does one refresh. It goes on when who asked for it has gone.
func (k *Keeper) fly(done chan struct{}) {
	err := k.look(context.Background()) // the source bounds its time
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flight, k.lastErr = nil, err
	close(done)
}

// Accept takes the list of a file although it is older than the one held or lacks many of its domains: an operator's
// decision. The signature is checked all the same.
func (k *Keeper) Accept(ctx context.Context, file string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return k.read(file, true)
}

// Judge says whether the list binds a domain to a DN. Yes is said at once. Before no is said, the list must be proven
// current since the question could arise, that is since the peer connected: the source is asked, for at most 5 s.
func (k *Keeper) Judge(ctx context.Context, domain string, dn tlsconf.DN, since time.Time) Answer {
	return k.ask(ctx, since, func(l *List) Answer {
		switch {
		case l.Bound(domain, dn):
			return Bound
		case l.Doubtful(domain):
			return CannotTell
		case !l.Listed(domain):
			return NotListed
		}
		return NotBound
	})
}

// KnowsDN says whether any domain is bound to a DN, for mail without a sender: Bound, NotBound or CannotTell.
func (k *Keeper) KnowsDN(ctx context.Context, dn tlsconf.DN, since time.Time) Answer {
	return k.ask(ctx, since, func(l *List) Answer {
		switch {
		case l.KnowsDN(dn):
			return Bound
		case len(l.Faults()) > 0:
			return CannotTell
		}
		return NotBound
	})
}

func (k *Keeper) ask(ctx context.Context, since time.Time, look func(*List) Answer) Answer {
	h := k.snapshot()
	if k.inForce(h) {
		if a := look(h.list); a == Bound {
			return a
		}
	}
	k.proveFile()
	if h = k.snapshot(); !k.inForce(h) || h.proven.Before(since) {
		wait, cancel := context.WithTimeout(ctx, refreshWait)
		defer cancel()
		// Whatever comes of it shows in what is held afterwards.
		_, _ = k.Refresh(wait)
		h = k.snapshot()
	}
	if !k.inForce(h) {
		return CannotTell
	}
	a := look(h.list)
	if a != Bound && h.proven.Before(since) {
		return CannotTell
	}
	return a
}

func (k *Keeper) inForce(h held) bool {
	return h.list != nil && k.cfg.Now().Sub(h.proven) <= k.cfg.Defer
}
