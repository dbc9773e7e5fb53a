package directory

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// The content synchronisation of RFC 4533: the server first tells what changed since our cookie (refresh), then every change
// as it is made (persist). Keys are entryUUIDs: a DN may change. Each session has a connection of its own, for results are
// handed over by the goroutine that reads the socket, and one long search holds up every other.

const (
	maxResume  = 20_000 // entries that one resumption may bring; more are cheaper to read as a new content
	maxBatch   = 1_000  // changes applied in one step
	maxCookie  = 16 << 10
	fullEvery  = 24 * time.Hour // then the whole content is read anew: no feed of changes is trusted to tell of each deletion
	syncBuffer = 256            // results between the socket and us
)

var (
	// errNoSync says that the server does not offer the control.
	errNoSync = errors.New("directory: the server offers no content synchronisation")
	// errReload says that our cookie is of no use: the content is to be read from nothing.
	errReload = errors.New("directory: the server cannot go on from our cookie")
	// errFullDue ends a session that has lasted so long that the content is read anew.
	errFullDue = errors.New("directory: a full reading is due")
)

// session is one search with the sync control, from the first result to the end of the connection.
type session struct {
	d *Directory
	f *feed
	l *LDAPConfig

	cookie []byte // that was sent; nil: from nothing
	next   []byte // that stands for what was received

	// Of a content from nothing.
	b    *builder
	read reading
	seed maphash.Seed
	once map[uint64]struct{} // hashes of the keys in b
	late []change            // what came twice, or is gone again

	// Of a resumption.
	changes   []change
	named     map[[16]byte]struct{} // keys that the server told to be there
	deletes   map[string]struct{}
	sweep     bool // what was not named is gone
	any       bool // the server said something
	unusables int  // entries without address or type; what is held of them stays
}

// synchronise brings the feed in step with the server; with persist it then follows it until something ends the session.
// errNoSync: nothing was done.
func (d *Directory) synchronise(ctx context.Context, f *feed, persist bool) error {
	l := d.cfg.LDAP
	var cookie []byte
	if held := f.image.Load(); held != nil && held.keyed() && !f.fresh {
		cookie = l.ownCookie(held.cookie)
	}
	err := d.runSession(ctx, f, cookie, persist)
	if errors.Is(err, errReload) && cookie != nil {
		d.cfg.Log.Info("directory content is read anew", "feed", f.name, "why", err)
		err = d.runSession(ctx, f, nil, persist)
	}
	return err
}

func (d *Directory) runSession(ctx context.Context, f *feed, cookie []byte, persist bool) error {
	l := d.cfg.LDAP
	began := d.cfg.Now()
	conn, err := l.dialStream(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{d: d, f: f, l: l, cookie: cookie}
	if cookie == nil {
		s.b, s.seed, s.once = d.newBuilder(f, 0), maphash.MakeSeed(), make(map[uint64]struct{})
		s.read = reading{cfg: l, b: s.b}
		defer func() {
			if s.b != nil {
				s.b.abandon()
			}
		}()
	} else {
		s.named, s.deletes = make(map[[16]byte]struct{}), make(map[string]struct{})
	}
	mode := ldap.SyncRequestModeRefreshOnly
	if persist {
		mode = ldap.SyncRequestModeRefreshAndPersist
	}
	if err := conn.search(l, ldap.NewControlSyncRequest(mode, cookie, false)); err != nil {
		return err
	}
	events := pump(ctx, conn, l.Attributes.wire())
	if err := s.refresh(ctx, events); err != nil {
		return err
	}
	if err := s.apply(began); err != nil {
		return err
	}
	if !persist {
		return nil
	}
	f.inStep(d.cfg.Now(), true)
	defer f.following.Store(false)
	return s.follow(ctx, events)
}

// syncEvent is one result of the search, or its end.
type syncEvent struct {
	entry bool
	row   record   // of an entry, all but its addresses
	mails [][]byte // these
	state *syncState
	info  *syncInfo
	done  *syncInfo
	page  []byte // cookie of paged results, with ended
	ended bool   // the last event; with done the search ended in good order
	err   error  // with ended
}

// pump drains a search into a queue of ours until ctx ends or it does; the last event is its end.
func pump(ctx context.Context, conn *stream, names *attributeNames) <-chan syncEvent {
	events := make(chan syncEvent, syncBuffer)
	go func() {
		for {
			var e syncEvent
			msg, err := conn.next()
			if err == nil {
				e, err = names.parseEvent(msg)
			}
			if err != nil {
				e = syncEvent{ended: true, err: err}
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
			if e.ended {
				return
			}
		}
	}()
	return events
}

// refresh takes the first stage, to its end.
func (s *session) refresh(ctx context.Context, events <-chan syncEvent) error {
	silence := time.NewTimer(s.l.ProgressTimeout)
	defer silence.Stop()
	for {
		var e syncEvent
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-silence.C:
			return fmt.Errorf("%w: no progress for %v", ErrUnavailable, s.l.ProgressTimeout)
		case e = <-events:
		}
		silence.Reset(s.l.ProgressTimeout)
		if e.ended && (e.err != nil || e.done == nil) {
			if e.err == nil {
				return errNoSync // it ended in good order, without the control that belongs there
			}
			return s.ended(e.err)
		}
		complete, err := s.take(e)
		if err != nil || complete {
			return err
		}
	}
}

// ended says what the end of a search means.
func (s *session) ended(err error) error {
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultUnavailableCriticalExtension):
		return errNoSync
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultSyncRefreshRequired, ldap.LDAPResultUnwillingToPerform) && s.cookie != nil:
		// OpenLDAP also answers the second where our cookie is newer than what it holds: it was set back.
		return fmt.Errorf("%w: %w", errReload, err)
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultSizeLimitExceeded, ldap.LDAPResultTimeLimitExceeded, ldap.LDAPResultAdminLimitExceeded):
		return fmt.Errorf("%w: %w", ErrPartial, err)
	case err != nil && !answered(err):
		return fmt.Errorf("%w: the connection ended: %w", ErrUnavailable, err)
	case err != nil:
		return fmt.Errorf("search below %q: %w", s.l.BaseDN, err)
	}
	return fmt.Errorf("%w: the connection ended", ErrUnavailable)
}

// answered reports whether an error is the server's word; else the connection failed.
func answered(err error) bool {
	var e *ldap.Error
	return errors.As(err, &e) && (e.ResultCode < ldap.ErrorNetwork || e.ResultCode >= ldap.LDAPResultSyncRefreshRequired)
}

// take is one result of the first stage; complete: it was its end.
func (s *session) take(e syncEvent) (complete bool, err error) {
	switch {
	case e.entry && e.state == nil:
		return false, errNoSync // it ignores the control, critical as it is
	case e.entry:
		s.any = true
		return false, s.entry(e)
	case e.info != nil:
		return s.info(e.info)
	case e.done != nil:
		s.keep(e.done.cookie)
		s.sweep = s.sweep || !e.done.flag
		return true, nil
	}
	return false, nil // a referral: what it points at is not ours to read
}

func (s *session) info(i *syncInfo) (complete bool, err error) {
	switch i.kind {
	case infoDelete:
		s.keep(i.cookie)
		return i.flag, nil
	case infoPresent:
		s.keep(i.cookie)
		s.sweep = true
		return i.flag, nil
	case infoSet:
		s.any = true
		// Its cookie is not one to go on from: it stands for a part of the refresh.
		for _, id := range i.ids {
			if err := s.id(id, i.flag); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// id takes a key that the server says to be there, or gone.
func (s *session) id(id [16]byte, gone bool) error {
	switch {
	case gone:
		s.gone(string(id[:]))
	case s.b == nil:
		s.named[id] = struct{}{}
	}
	if len(s.named) > s.l.MaxRows || len(s.deletes) > s.l.MaxRows {
		return fmt.Errorf("%w: more than %d entries", ErrTooLarge, s.l.MaxRows)
	}
	return nil
}

func (s *session) gone(key string) {
	if s.b != nil {
		s.late = append(s.late, change{key: key})
		return
	}
	s.deletes[key] = struct{}{}
	s.changes = append(s.changes, change{key: key})
}

// entry takes an entry of the first stage. Add and modify are one thing: a resumption sends what was modified as added.
func (s *session) entry(e syncEvent) error {
	id := e.state.id
	key := string(id[:])
	switch e.state.state {
	case stateDelete:
		return s.id(id, true)
	case statePresent:
		return s.id(id, false)
	}
	if s.b != nil {
		return s.load(key, e)
	}
	s.named[id] = struct{}{}
	if len(s.changes) >= maxResume {
		return fmt.Errorf("%w: it sends more than %d entries", errReload, maxResume)
	}
	if c, err := e.change(); err != nil {
		s.unusables++
	} else {
		s.changes = append(s.changes, c)
	}
	return nil
}

// load puts an entry into the new content, a second word on the same one into what is applied to it afterwards. Two keys
// of one hash only make the first of them such a word, which is right, too.
func (s *session) load(key string, e syncEvent) error {
	h := maphash.String(s.seed, key)
	if _, again := s.once[h]; !again {
		s.once[h] = struct{}{}
		return s.read.take(e.state.id[:], e.row, e.mails)
	}
	if len(s.late) >= maxResume {
		return fmt.Errorf("%w: the server sends entries over and over", ErrFormat)
	}
	if c, err := e.change(); err == nil {
		s.late = append(s.late, c)
	}
	return nil
}

// change is what an entry says of its key.
func (e *syncEvent) change() (change, error) {
	c := change{key: string(e.state.id[:])}
	if err := usableRow(&e.row, e.mails); err != nil {
		return c, err
	}
	for _, mail := range e.mails {
		r := e.row
		r[fieldAddress] = mail
		c.rows = append(c.rows, &r)
	}
	if !c.valid() {
		return c, fmt.Errorf("%w: one of its fields", ErrTooLarge)
	}
	return c, nil
}

// keep notes the cookie of a result.
func (s *session) keep(cookie []byte) {
	if len(cookie) > 0 && len(cookie) <= maxCookie {
		s.next = mergeCookies(s.next, cookie)
	}
}

// apply puts the outcome of the first stage in force, all of it or nothing.
func (s *session) apply(began time.Time) error {
	if s.b != nil {
		return s.adopt(began)
	}
	if len(s.next) == 0 {
		// With nothing new the server need not send one. A server that took nonsense for a cookie sends everything, and none.
		if s.any {
			return fmt.Errorf("%w: it gave no new one", errReload)
		}
		s.next = s.cookie
	}
	held := s.f.image.Load()
	cs := s.changes[:0:0]
	for _, c := range s.changes {
		if len(c.rows) > 0 || held.holds(c.key) {
			cs = append(cs, c)
		}
	}
	if s.sweep {
		swept := make(map[string]struct{})
		held.eachKey(func(key []byte) {
			if len(key) != 16 {
				return // not of this server
			}
			_, dup := swept[string(key)]
			if _, named := s.named[[16]byte(key)]; !named && !dup {
				swept[string(key)] = struct{}{}
				cs = append(cs, change{key: string(key)})
			}
		})
	}
	if err := s.d.change(s.f, cs, s.l.keptCookie(s.next), began); err != nil {
		return err
	}
	s.d.cfg.Log.Info("directory in step", "feed", s.f.name, "changes", len(cs), "unusable", s.unusables,
		"rows", s.f.image.Load().rows(), "dur", s.d.cfg.Now().Sub(began))
	return nil
}

// adopt puts a content from nothing in force.
func (s *session) adopt(began time.Time) error {
	if len(s.next) == 0 {
		s.d.cfg.Log.Warn("the directory server gives no cookie: each session reads everything", "feed", s.f.name)
	}
	img, err := s.b.image()
	if err != nil {
		return err
	}
	s.b, s.once = nil, nil
	img.generated, img.cookie = began, s.l.keptCookie(s.next)
	img.faults, img.firstFault, img.doubt = s.read.faults, s.read.firstFault, s.read.faultShare()
	if err := s.d.adopt(s.f, img); err != nil {
		return err
	}
	s.f.fresh = false
	if len(s.late) > 0 {
		if err := s.d.change(s.f, s.late, img.cookie, began); err != nil {
			return err
		}
	}
	s.late = nil
	s.d.cfg.Log.Info("directory image", "feed", s.f.name, "rows", s.f.image.Load().rows(), "faults", img.faults,
		"generation", img.generation, "dur", s.d.cfg.Now().Sub(began))
	return nil
}

// holds reports whether an image has rows under a key.
func (img *image) holds(key string) bool {
	if img.delta != nil {
		if rows, ok := img.delta.keys[key]; ok {
			return len(rows) > 0
		}
	}
	found := false
	img.findKey(key, func(int) { found = true })
	return found
}

// inStep notes that the feed is as the server has it.
func (f *feed) inStep(now time.Time, following bool) {
	f.following.Store(following)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastTry, f.lastGood, f.lastErr, f.failures = now, now, nil, 0
	f.nextTry = time.Time{}
}

// scope stands for what a cookie is of: with another server, base, filter or attribute it says nothing.
func (l *LDAPConfig) scope() string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{l.URL, l.BaseDN, l.Filter}, l.Attributes.names()...), "\x00")))
	return string(sum[:8])
}

// keptCookie is how a cookie is kept, ownCookie the cookie in it; nil if it is of another scope.
func (l *LDAPConfig) keptCookie(cookie []byte) []byte {
	if len(cookie) == 0 {
		return nil
	}
	return append([]byte(l.scope()), cookie...)
}

func (l *LDAPConfig) ownCookie(kept []byte) []byte {
	if raw, ok := strings.CutPrefix(string(kept), l.scope()); ok && raw != "" {
		return []byte(raw)
	}
	return nil
}

// mergeCookies gives the cookie after a further one. That of OpenLDAP holds a CSN for each provider, and an event may carry
// the one of its own provider only: the others must not be lost. Any other cookie replaces the former.
func mergeCookies(old, latest []byte) []byte {
	a, ok1 := parseCookie(string(old))
	b, ok2 := parseCookie(string(latest))
	if !ok1 || !ok2 {
		return latest
	}
	for sid, csn := range b.csns {
		if csn > a.csns[sid] { // a CSN begins with its time in fixed width
			a.csns[sid] = csn
		}
	}
	for _, sid := range b.order {
		if !slices.Contains(a.order, sid) {
			a.order = append(a.order, sid)
		}
	}
	parts := make([]string, 0, len(a.order))
	for _, sid := range a.order {
		parts = append(parts, a.csns[sid])
	}
	return []byte(b.head + "csn=" + strings.Join(parts, ";"))
}

type openLDAPCookie struct {
	head  string // what stands before the CSNs, "rid=001," or the like
	order []string
	csns  map[string]string // by server id
}

// parseCookie reads "rid=001,sid=001,csn=20261122…Z#000000#001#000000;…"; ok is false for any other form.
func parseCookie(s string) (c openLDAPCookie, ok bool) {
	head, list, found := strings.Cut(s, "csn=")
	if !found || strings.ContainsAny(list, ",=") || strings.Contains(head, "delcsn") {
		return c, false
	}
	c.head, c.csns = head, make(map[string]string)
	for csn := range strings.SplitSeq(list, ";") {
		parts := strings.Split(csn, "#")
		if len(parts) != 4 {
			return c, false
		}
		if _, again := c.csns[parts[2]]; !again {
			c.order = append(c.order, parts[2])
		}
		c.csns[parts[2]] = csn
	}
	return c, true
}
