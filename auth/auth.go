package auth

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"mssd/store"
	"mssd/tlsconf"
)

// What can go wrong. Test with errors.Is.
var (
	ErrCredentials = errors.New("auth: wrong user or password")
	ErrThrottled   = errors.New("auth: too many failed logins")
	ErrUnavailable = errors.New("auth: not possible for now")
	ErrPrivacy     = errors.New("auth: not without TLS") // for the fronts: they know whether there is TLS
	ErrSessionOver = errors.New("auth: the session has lasted as long as it may")
	ErrWithdrawn   = errors.New("auth: the right is not in force any more")
)

// Config says what logins are checked against. Zero values take the default named.
type Config struct {
	Store       *store.Store  // needed
	Argon       Params        // cost of the work done for an unknown user; DefaultParams
	MaxParallel int           // hashes at a time; GOMAXPROCS
	Cache       time.Duration // how long a verified password is remembered; 5 min, negative never
	MaxWait     time.Duration // for a turn to hash; 10 s
	Log         *slog.Logger  // nil: none
	Now         func() time.Time
	// UserFree and AddrFree are the failures that cost nothing, per user and per network address; 5 and 100.
	UserFree, AddrFree int
	PSC                *PSC // verifies access tokens; nil: none are taken
	// JudgeCert judges the certificates that a peer shows, and CertKinds are the kinds of BALs that they open; nil: none.
	JudgeCert  func(context.Context, []*x509.Certificate) tlsconf.Verdict
	CertKinds  []store.Kind
	MaxSession time.Duration // after which a session begun with a token ends; 0: never
	// Advise is told, once a day, what the activities of a person who is in say of the BAL's structure; nil: nobody. It must not
	// block.
	Advise func(person string, bal store.Address, what Activity)
}

// Grant is one BAL that a principal may open.
type Grant struct {
	BAL  store.BAL
	Role store.Role

	member string // id of the member in this BAL; "": the Person of the principal
}

// Principal is who logged in.
type Principal struct {
	Person string    // id of the member
	Grants []Grant   // at least one; the first is the BAL named at login, or that of a person who came as themselves
	Method string    // "password", "scram", "psc" or "certificate"
	Until  time.Time // when the session ends at the latest; zero: no such end

	certs   []*x509.Certificate // of a login with a certificate
	judged  atomic.Int64        // when they were last, Unix nanoseconds
	refused atomic.Bool         // they were then, for good
}

// LogValue gives what may be logged: the person and the addresses of the BALs.
func (p *Principal) LogValue() slog.Value {
	if p == nil {
		return slog.Value{}
	}
	bals := make([]string, len(p.Grants))
	for i, g := range p.Grants {
		bals[i] = string(g.BAL.Address)
	}
	return slog.GroupValue(slog.String("person", p.Person), slog.Any("bal", bals), slog.String("method", p.Method))
}

// Authenticator checks logins and rights. It is safe for use by many goroutines.
type Authenticator struct {
	cfg   Config
	dummy hash          // worked on for users that do not exist
	turns chan struct{} // one slot per hash at a time
	// strangers are the slots of those whose address their member has never logged in from: half of turns. Whoever has them
	// hash all day keeps nobody waiting who comes from where they always come from.
	strangers chan struct{}
	cache     cache
	users     throttle
	addrs     throttle
	known     throttle // members at addresses from which they have logged in
	origins   origins

	advised told     // who was compared with which BAL
	forgers throttle // addresses that bring tokens the issuer never made
	persons throttle // whom their token names, on BALs that they may not open
}

// personFree is how often a person may try a BAL that they may not open before they wait: their software tries each BAL it
// knows, and goes on trying one whose right has ended.
const personFree = 60

// New makes an Authenticator. Costs out of bounds are replaced by the default ones.
func New(cfg Config) *Authenticator {
	cfg.Argon = cfg.Argon.withDefaults()
	if cfg.Argon.check() != nil {
		cfg.Argon = DefaultParams()
	}
	if cfg.MaxParallel <= 0 {
		cfg.MaxParallel = runtime.GOMAXPROCS(0)
	}
	if cfg.Cache == 0 {
		cfg.Cache = 5 * time.Minute
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.UserFree <= 0 {
		cfg.UserFree = 5
	}
	if cfg.AddrFree <= 0 {
		cfg.AddrFree = 100
	}
	return &Authenticator{
		cfg:   cfg,
		dummy: hash{Params: cfg.Argon, salt: make([]byte, saltLen), tag: make([]byte, tagLen)},
		turns: make(chan struct{}, cfg.MaxParallel),

		strangers: make(chan struct{}, max(1, cfg.MaxParallel/2)),
		cache:     newCache(cfg.Cache),
		users:     throttle{free: cfg.UserFree, first: time.Second, most: 5 * time.Minute, forget: 15 * time.Minute, max: 10_000},
		addrs:     throttle{free: cfg.AddrFree, first: time.Second, most: 5 * time.Minute, forget: 15 * time.Minute, max: 10_000},

		known: throttle{free: cfg.AddrFree, first: time.Second, most: 5 * time.Minute, forget: 15 * time.Minute, max: 10_000},

		forgers: throttle{free: cfg.AddrFree, first: time.Second, most: 5 * time.Minute, forget: 15 * time.Minute, max: 10_000},
		persons: throttle{free: personFree, first: time.Second, most: 5 * time.Minute, forget: 15 * time.Minute, max: 10_000},
	}
}

// Password checks a user name and a password given from an address of the network.
func (a *Authenticator) Password(ctx context.Context, user, password string, remote netip.Addr) (*Principal, error) {
	now := a.cfg.Now()
	c := a.resolve(user, now)
	t := a.attempt(user, c, remote, now)
	refused := func(err error) (*Principal, error) {
		why := c.why(false)
		if errors.Is(err, ErrThrottled) {
			why = "throttled"
		}
		a.cfg.Log.Warn("login refused", "bal", c.logBAL(), "remote", remote, "err", why)
		return nil, c.refused(err)
	}
	g := a.guess(t, c, password)
	switch {
	case a.tried(t, g):
		return refused(ErrCredentials)
	case a.blocked(t, now):
		return refused(ErrThrottled)
	case c.ok() && t.known && a.cache.has(c.key(), password, c.stamp(), now):
		a.succeeded(t, now)
		return a.welcome(c), nil
	case c.later:
		a.cfg.Log.Warn("login refused", "bal", c.logBAL(), "remote", remote, "err", store.ErrUnavailable)
		return nil, ErrUnavailable
	}
	match, err := a.verify(ctx, c, t, password)
	switch {
	case errors.Is(err, ErrThrottled):
		return refused(err)
	case err != nil:
		return nil, err
	case !match || !c.ok():
		a.failed(t, g, now)
		a.cfg.Log.Warn("login refused", "bal", c.logBAL(), "remote", remote, "err", c.why(match))
		return nil, c.refused(ErrCredentials)
	}
	a.succeeded(t, now)
	a.cache.put(c.key(), password, c.stamp(), now)
	return a.welcome(c), nil
}

// verify does the work of one hash whatever the user name led to.
func (a *Authenticator) verify(ctx context.Context, c candidate, t attempt, password string) (bool, error) {
	timer := time.NewTimer(a.cfg.MaxWait)
	defer timer.Stop()
	slots := []chan struct{}{a.strangers, a.turns}
	if t.known {
		slots = slots[1:]
	}
	for _, slot := range slots {
		select {
		case slot <- struct{}{}:
			defer func() { <-slot }()
		case <-ctx.Done():
			return false, errors.Join(ErrUnavailable, ctx.Err())
		case <-timer.C:
			a.cfg.Log.Warn("login refused", "bal", c.logBAL(), "err", "too many logins at a time")
			return false, ErrUnavailable
		}
	}
	if a.blocked(t, a.cfg.Now()) {
		return false, ErrThrottled
	}
	h := a.dummy
	usable := c.member.PasswordHash != "" && len(password) <= maxPassword && password != ""
	if usable {
		stored, err := parsePHC(c.member.PasswordHash)
		if err != nil {
			a.cfg.Log.Error("stored password hash is not usable", "bal", c.logBAL(), "err", err)
			usable = false
		} else {
			h = stored
		}
	}
	if len(password) > maxPassword {
		password = password[:maxPassword]
	}
	return h.matches(password) && usable, nil
}

func (a *Authenticator) welcome(c candidate) *Principal {
	return &Principal{Person: c.member.ID, Method: "password", Grants: []Grant{{BAL: c.bal, Role: c.member.Role}}}
}

// Check says whether a grant of a principal is still in force: the BAL open, the membership on, the role not lowered.
// It is asked before each operation and answered from memory.
func (a *Authenticator) Check(p *Principal, g Grant) error {
	bal, err := a.cfg.Store.BALByID(g.BAL.ID)
	if err != nil || p == nil {
		return ErrWithdrawn
	}
	if bal.State != store.Active {
		return ErrWithdrawn
	}
	now := a.cfg.Now()
	if !p.Until.IsZero() && !now.Before(p.Until) {
		return ErrSessionOver
	}
	if !a.stillTrusted(p, now) {
		return ErrWithdrawn
	}
	// Roles count down: Owner may all that Writer may, Writer all that Reader may.
	if m, ok := a.cfg.Store.Member(bal.ID, cmp.Or(g.member, p.Person)); ok && m.Active(now) && m.Role != 0 && m.Role <= g.Role {
		return nil
	}
	return ErrWithdrawn
}

// throttleUser is the key of a user: the member found, else the name as given, cut to a bound.
func throttleUser(user string, c candidate) string {
	if c.found {
		return c.key()
	}
	user = strings.ToLower(user)
	return "?" + user[:min(len(user), 320)]
}

// throttleAddr is the key of a network address; of IPv6 the network counts, since a site has 2^64 addresses to try.
func throttleAddr(remote netip.Addr) string {
	remote = remote.Unmap().WithZone("")
	if remote.Is6() {
		if p, err := remote.Prefix(64); err == nil {
			return p.String()
		}
	}
	return remote.String()
}
