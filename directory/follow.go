package directory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// keepLDAP follows the server, or reads it page by page again and again where it cannot be followed, until ctx ends.
func (d *Directory) keepLDAP(ctx context.Context, f *feed) {
	for ctx.Err() == nil {
		var again, broke bool
		_ = d.attempt(ctx, f, func() (*image, error) { // logged there, and shown by Status
			f.broke = false
			img, err := d.readLDAP(ctx, f, true)
			again, broke = f.fresh && errors.Is(err, errUnchanged), f.broke
			return img, err
		})
		wait := f.wait(d.cfg.RetryAfter)
		switch {
		case again:
			continue
		case broke:
			// It worked until now: a server that restarts is soon there again.
			wait = d.cfg.RetryAfter/20 + time.Duration(rand.Int64N(int64(d.cfg.RetryAfter)/20+1))
		}
		f.pause(ctx, d.cfg.Now().Add(wait), wait)
	}
}

// readLDAP brings the image in step: errUnchanged where that was done by changes, an image where it was read in pages.
func (d *Directory) readLDAP(ctx context.Context, f *feed, persist bool) (*image, error) {
	if d.cfg.LDAP.NoSync {
		return d.readPages(ctx)
	}
	err := d.synchronise(ctx, f, persist)
	switch {
	case errors.Is(err, errNoSync):
		if !f.toldNoSync {
			d.cfg.Log.Info("the directory server offers no content synchronisation, it is read in pages", "feed", f.name)
			f.toldNoSync = true
		}
		return d.readPages(ctx)
	case errors.Is(err, errFullDue):
		f.fresh = true
		return nil, errUnchanged
	case err == nil:
		return nil, errUnchanged
	}
	return nil, err
}

// follow applies changes as they come. It returns when the session is of no more use, always with an error.
func (s *session) follow(ctx context.Context, events <-chan syncEvent) error {
	var activity atomic.Uint64
	probes := make(chan probeResult)
	go s.l.probe(ctx, s.d.cfg.Now, &activity, probes)
	full := time.NewTimer(s.l.fullEvery)
	defer full.Stop()
	s.f.broke = true
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-full.C:
			return errFullDue
		case p := <-probes:
			if p.err != nil {
				return p.err
			}
			if err := s.commit(nil, p.asked); err != nil {
				return err
			}
			s.f.inStep(p.asked, true)
		case e := <-events:
			activity.Add(1)
			batch, end := s.drain(e, events)
			if err := s.commit(batch, s.d.cfg.Now()); err != nil {
				return err
			}
			if end != nil {
				return end
			}
		}
	}
}

// drain gathers the changes of an event and of those that wait behind it; end is why no further one will come.
func (s *session) drain(e syncEvent, events <-chan syncEvent) (batch []change, end error) {
	for {
		switch {
		case e.ended:
			return batch, s.ended(e.err)
		case e.done != nil:
			return batch, s.ended(nil)
		case e.entry && e.state != nil:
			batch = s.live(batch, e)
		case e.info != nil:
			batch = s.liveInfo(batch, e.info)
		}
		if len(batch) >= maxBatch {
			return batch, nil
		}
		select {
		case e = <-events:
		default:
			return batch, nil
		}
	}
}

func (s *session) live(batch []change, e syncEvent) []change {
	s.keep(e.state.cookie)
	switch e.state.state {
	case stateDelete:
		return append(batch, change{key: string(e.state.id[:])})
	case statePresent:
		return batch
	}
	c, err := e.change()
	if err != nil {
		// What is held of it stays until the next full reading, where such entries are counted and judged together.
		if s.unusables++; s.unusables == 1 {
			s.d.cfg.Log.Warn("a changed entry of the directory cannot be used, the former one stays", "feed", s.f.name, "err", err)
		}
		return batch
	}
	return append(batch, c)
}

func (s *session) liveInfo(batch []change, i *syncInfo) []change {
	switch {
	case i.kind == infoCookie:
		s.keep(i.cookie)
	case i.kind == infoSet && i.flag:
		for _, id := range i.ids {
			batch = append(batch, change{key: string(id[:])})
		}
	}
	return batch
}

// commit applies a batch. An empty one notes that the image was in step at that time.
func (s *session) commit(batch []change, at time.Time) error {
	if held := s.f.image.Load(); at.Before(held.generated) {
		at = held.generated // a probe that was asked before the change that was answered first
	}
	return s.d.change(s.f, batch, s.l.keptCookie(s.next), at)
}

// probeResult is what came of one look at the server from beside.
type probeResult struct {
	asked time.Time
	err   error // the server, or the stream of changes, is dead
}

// probe asks the server for its state on a connection of its own, a third of ProgressTimeout at a time, until ctx ends: a
// server that is frozen keeps its connections, and so does its kernel. Two questions in a row without an answer are its
// death; any answer, even a refusal, is a sign of life.
//
// It also notices a stream that is dead while the server lives: the server's CSN moves, and still nothing comes.
func (l *LDAPConfig) probe(ctx context.Context, now func() time.Time, activity *atomic.Uint64, out chan<- probeResult) {
	third := l.ProgressTimeout / 3
	var p prober
	defer p.close()
	tick := time.NewTicker(third)
	defer tick.Stop()
	var last struct {
		known, waiting bool
		csn            string
		activity       uint64 // before the server was asked
	}
	fails := 0
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		asked, before := now(), activity.Load()
		csn, err := p.ask(ctx, l, third)
		if err != nil {
			if fails++; fails < 2 {
				continue
			}
			err = fmt.Errorf("%w: no answer for %v: %w", ErrUnavailable, l.ProgressTimeout, err)
		} else {
			fails = 0
			switch {
			case last.waiting && before == last.activity:
				err = fmt.Errorf("%w: the server changes and sends nothing", ErrUnavailable)
			case last.known && csn != last.csn && activity.Load() == last.activity:
				last.waiting = true
			default:
				last.waiting = false
			}
			last.known, last.csn, last.activity = true, csn, before
		}
		if err == nil && last.waiting {
			continue // whether we are in step shows at the next look
		}
		select {
		case out <- probeResult{asked, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// prober is the connection of probe.
type prober struct{ conn *ldap.Conn }

func (p *prober) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// ask gives the CSNs of the server, "" where it does not show them.
func (p *prober) ask(ctx context.Context, l *LDAPConfig, limit time.Duration) (csn string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if p.conn == nil || p.conn.IsClosing() {
		if p.conn, err = l.dial(ctx); err != nil {
			return "", err
		}
	}
	conn := p.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	conn.SetTimeout(limit)
	res, err := conn.Search(ldap.NewSearchRequest(l.BaseDN, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false,
		"(objectClass=*)", []string{"contextCSN"}, nil))
	switch {
	case err != nil && !answered(err):
		p.close()
		return "", err
	case err != nil || len(res.Entries) == 0:
		return "", nil
	}
	csns := res.Entries[0].GetAttributeValues("contextCSN")
	sort.Strings(csns)
	return strings.Join(csns, ";"), nil
}
