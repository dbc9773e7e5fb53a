package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	breakAfter   = 5                // failures in a row that open the circuit breaker
	breakFor     = 30 * time.Second // then no question is asked; one question tries again after it
	maxNegatives = 10_000           // addresses remembered as not there
	maxLiveRows  = 50               // rows of one address
)

// live asks the LDAP server about single addresses, on one kept connection.
type live struct {
	cfg      LDAPConfig
	deadline time.Duration
	negative time.Duration
	now      func() time.Time
	slots    chan struct{} // one for each question at a time

	connecting sync.Mutex // one dial at a time

	mu        sync.Mutex // guards what follows
	conn      *ldap.Conn // nil: none
	closed    bool
	failures  int       // in a row
	openUntil time.Time // circuit breaker
	gone      map[string]time.Time
	asked     uint64
	failed    uint64

	drops atomic.Uint64 // questions for the trace that had no room
}

func newLive(l LDAPConfig, cfg Config) *live {
	l.ConnectTimeout = cfg.LiveDeadline
	return &live{cfg: l, deadline: cfg.LiveDeadline, negative: cfg.NegativeFor, now: cfg.Now,
		slots: make(chan struct{}, cfg.LiveLimit), gone: make(map[string]time.Time)}
}

type liveAnswer struct {
	rows []Entry
	err  error
}

// ask gives the rows of an address, none if the server says that there is none. It returns when ctx ends, at the latest.
func (l *live) ask(ctx context.Context, address string) ([]Entry, error) {
	address = string(appendLower(nil, address))
	if known, err := l.before(address); known || err != nil {
		return nil, err
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, l.notAsked(fmt.Errorf("%w: too many questions at a time", ErrUnavailable))
	}
	done := make(chan liveAnswer, 1)
	go func() {
		// A question that outlives its deadline keeps its slot: their number stays bounded.
		defer func() { <-l.slots }()
		rows, err := l.question(ctx, address)
		done <- liveAnswer{rows, err}
	}()
	select {
	case a := <-done:
		return a.rows, l.after(address, a.err, a.err == nil && len(a.rows) == 0)
	case <-ctx.Done():
		err := fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, l.notAsked(err) // who asked went away: that says nothing of the server
		}
		return nil, l.after(address, err, false)
	}
}

// notAsked counts a question that failed for a reason other than the server.
func (l *live) notAsked(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed++
	return err
}

// before answers without a question: a remembered "not there", or the open breaker.
func (l *live) before(address string) (gone bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if until, ok := l.gone[address]; ok && now.Before(until) {
		return true, nil
	}
	if l.closed {
		return false, fmt.Errorf("%w: closed", ErrUnavailable)
	}
	if now.Before(l.openUntil) {
		return false, fmt.Errorf("%w: the server did not answer lately", ErrUnavailable)
	}
	if l.failures >= breakAfter {
		l.openUntil = now.Add(breakFor) // this one tries, the others wait for what it finds
	}
	l.asked++
	return false, nil
}

// after counts an outcome and returns its error.
func (l *live) after(address string, err error, gone bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if err != nil {
		l.failed++
		if l.failures++; l.failures >= breakAfter {
			l.openUntil = now.Add(breakFor)
		}
		return err
	}
	l.failures, l.openUntil = 0, time.Time{}
	if gone {
		if len(l.gone) >= maxNegatives {
			clear(l.gone)
		}
		l.gone[address] = now.Add(l.negative)
	}
	return nil
}

// question asks on the kept connection. One that ended while it was idle is no failure: it is made anew, once.
func (l *live) question(ctx context.Context, address string) ([]Entry, error) {
	for {
		conn, kept, err := l.connection(ctx)
		if err != nil {
			return nil, err
		}
		rows, err := l.search(conn, address)
		if err == nil {
			return rows, nil
		}
		l.drop(conn)
		if !kept || ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

func (l *live) connection(ctx context.Context) (conn *ldap.Conn, kept bool, err error) {
	l.connecting.Lock()
	defer l.connecting.Unlock()
	l.mu.Lock()
	conn = l.conn
	l.mu.Unlock()
	if conn != nil && !conn.IsClosing() {
		return conn, true, nil
	}
	if conn, err = l.cfg.dial(ctx); err != nil {
		return nil, false, err
	}
	conn.SetTimeout(l.deadline)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil, false, fmt.Errorf("%w: closed", ErrUnavailable)
	}
	l.conn = conn
	return conn, false, nil
}

func (l *live) search(conn *ldap.Conn, address string) ([]Entry, error) {
	// RFC 4515, Section 3: the address goes in escaped.
	filter := fmt.Sprintf("(%s=%s)", l.cfg.Attributes.Mail, ldap.EscapeFilter(address))
	res, err := conn.Search(ldap.NewSearchRequest(l.cfg.BaseDN, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxLiveRows, 0, false,
		filter, l.cfg.Attributes.names(), nil))
	if err != nil {
		return nil, err
	}
	b := newBuilder(len(res.Entries))
	for _, e := range res.Entries {
		if err := l.cfg.Attributes.addEntry(b, e); err != nil {
			return nil, err
		}
	}
	img, err := b.image()
	if err != nil {
		return nil, err
	}
	// The server may match more loosely than we do, or hold several addresses in one entry.
	return img.appendEntries(nil, address), nil
}

func (l *live) drop(conn *ldap.Conn) {
	l.mu.Lock()
	if l.conn == conn {
		l.conn = nil
	}
	l.mu.Unlock()
	_ = conn.Close()
}

// forget drops what is remembered as not there: a new image is in force.
func (l *live) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.gone)
}

func (l *live) close() {
	l.mu.Lock()
	conn := l.conn
	l.conn, l.closed = nil, true
	l.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

func (l *live) status() *LiveStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &LiveStatus{Asked: l.asked, Failed: l.failed, Refrains: l.now().Before(l.openUntil), Dropped: l.drops.Load()}
}
