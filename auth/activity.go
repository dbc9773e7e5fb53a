package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mssd/store"
	"mssd/tlsconf/fetch"
)

// Bounds of what is made of activities.
const (
	maxPlaces    = 64 // structures of one person looked at
	maxTold      = 10_000
	toldFor      = 24 * time.Hour // after which a person is compared with a BAL again
	maxUserinfos = 4              // questions at a time
)

// Activity is what the activities of a person, as the issuer tells them, say of the structure of a BAL (its FINESS, SIRET or
// SIREN number). It is advice and never a right: of preparers and locums nothing may be recorded.
type Activity string

// The advice there is.
const (
	ActivityHere      Activity = "here"      // one is in that structure
	ActivityElsewhere Activity = "elsewhere" // all are in others
	ActivityNone      Activity = "none"      // none is recorded
)

// refPro is the part of SubjectRefPro that names structures.
type refPro struct {
	Exercises []struct {
		Activities []struct {
			Siret    string `json:"numeroSiretSite"`
			Siren    string `json:"numeroSirenSite"`
			Finess   string `json:"numeroFinessSite"`
			FinessEJ string `json:"numeroFinessetablissementJuridique"`
		} `json:"activities"`
	} `json:"exercices"`
}

// places are the structures of a SubjectRefPro, as "FINESS:750000001"; nil: it is not there, or of a form that is not known.
func places(raw json.RawMessage) []string {
	var r *refPro
	if len(raw) == 0 || json.Unmarshal(raw, &r) != nil || r == nil {
		return nil
	}
	list := []string{}
	for _, e := range r.Exercises {
		for _, a := range e.Activities {
			for _, n := range [...]struct{ kind, number string }{{"SIRET", a.Siret}, {"SIREN", a.Siren}, {"FINESS", a.Finess}, {"FINESS", a.FinessEJ}} {
				p := n.kind + ":" + strings.ToUpper(n.number)
				if n.number != "" && len(n.number) <= 20 && len(list) < maxPlaces && !slices.Contains(list, p) {
					list = append(list, p)
				}
			}
		}
	}
	return list
}

// compareActivities holds places to the structure of a BAL, "FINESS:750000001" or the number alone.
func compareActivities(places []string, structure string) Activity {
	structure = strings.ToUpper(strings.TrimSpace(structure))
	bare := !strings.Contains(structure, ":")
	for _, p := range places {
		_, number, _ := strings.Cut(p, ":")
		if p == structure || bare && number == structure {
			return ActivityHere
		}
	}
	if len(places) == 0 {
		return ActivityNone
	}
	return ActivityElsewhere
}

// told remembers who was compared with which BAL lately. The zero value is empty.
type told struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (t *told) first(key string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.at[key]; ok && now.Sub(at) < toldFor {
		return false
	}
	if t.at == nil || len(t.at) >= maxTold {
		t.at = make(map[string]time.Time) // the worst of it: some are told twice a day
	}
	t.at[key] = now
	return true
}

func (t *told) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.at, key)
}

// advise compares, once a day, the activities of a person who is in with the structures of the BALs. Nobody waits for it.
func (a *Authenticator) advise(id identity, token string, grants []Grant) {
	if a.cfg.Advise == nil || id.places == nil && !a.cfg.PSC.cfg.Userinfo {
		return
	}
	key := func(bal store.BAL) string { return id.person + " " + string(bal.Address) }
	var bals []store.BAL
	for _, g := range grants {
		if g.BAL.Structure != "" && a.advised.first(key(g.BAL), a.cfg.Now()) {
			bals = append(bals, g.BAL)
		}
	}
	tell := func(places []string) {
		for _, bal := range bals {
			a.cfg.Advise(id.person, bal.Address, compareActivities(places, bal.Structure))
		}
	}
	if id.places != nil || len(bals) == 0 {
		tell(id.places)
		return
	}
	forget := func() {
		for _, bal := range bals {
			a.advised.forget(key(bal))
		}
	}
	started := a.cfg.PSC.userinfo(token, id.person, func(places []string, err error) {
		if err != nil {
			forget()
			a.cfg.PSC.cfg.Log.Warn("the issuer of tokens does not tell activities", "err", err)
			return
		}
		tell(places)
	})
	if !started {
		forget()
	}
}

// userinfo asks the issuer in the background what else it knows of the person of a token (OpenID Connect Core 1.0, Section
// 5.3), and gives done the structures they work in. It reports whether there was room for one more question. Failures
// mean nothing for logins.
func (p *PSC) userinfo(token, person string, done func(places []string, err error)) bool {
	p.asides.Lock()
	defer p.asides.Unlock()
	if p.closed || p.aside >= maxUserinfos {
		return false
	}
	p.aside++
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Timeout)
		defer cancel()
		done(p.askUserinfo(ctx, token, person))
		p.asides.Lock()
		p.aside--
		p.asides.Unlock()
	}()
	return true
}

func (p *PSC) askUserinfo(ctx context.Context, token, person string) ([]string, error) {
	where := p.cfg.UserinfoURL
	if where == "" {
		m, err := p.issuer.discover(ctx)
		if err != nil {
			return nil, err
		}
		where = m.UserinfoURL
	}
	if fetch.Check(where, false) != nil {
		return nil, errors.New("it names no endpoint for user information")
	}
	body, err := p.issuer.exchangeAs(ctx, where, token)
	if err != nil {
		return nil, err
	}
	var c claims
	if json.Unmarshal(body, &c) != nil {
		return nil, errors.New("not an answer with user information")
	}
	// OpenID Connect Core 1.0, Section 5.3.2: an answer about somebody else is not used.
	if id, err := c.identity(); err != nil || id.person != person {
		return nil, fmt.Errorf("the answer is about another person, or none: %v", cmp.Or(err, ErrCredentials))
	}
	if list := places(c.RefPro); list != nil {
		return list, nil
	}
	return []string{}, nil
}
