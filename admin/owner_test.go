package admin

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/auth/psctest"
	"mssd/trace"
)

const (
	annePerson, bobPerson = "rpps:99900000052", "rpps:99900000060"
	anneNational          = "899900000052"
	bobNational           = "899900000060"
)

// withPSC is a house whose daemon takes the tokens of a provider; Anne owns its BAL, Bob writes.
func withPSC(t *testing.T) (*house, *psctest.Provider) {
	t.Helper()
	provider := psctest.New(t)
	psc, err := auth.NewPSC(provider.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(psc.Close)
	h := open(t, func(s *Server) { s.Auth = auth.New(auth.Config{Store: s.Store, PSC: psc}) })
	if _, err := h.AddBAL(t.Context(), NewBAL{Address: auditBAL, Kind: "ORG", Member: &NewMember{ID: annePerson, NoPassword: true}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.AddMember(t.Context(), auditBAL, NewMember{ID: bobPerson, NoPassword: true}); err != nil {
		t.Fatal(err)
	}
	return h, provider
}

// coded is the status and the code of a refusal.
func coded(t *testing.T, err error) (int, string) {
	t.Helper()
	var p *OwnerProblem
	if !errors.As(err, &p) {
		t.Errorf("%v; want a refusal with a code", err)
		return 0, ""
	}
	return p.Status, p.Code
}

// An owner adds, changes and ends members under her own name; the trace names her, and the program that spoke for her.
func TestOwnerManagesMembers(t *testing.T) {
	h, provider := withPSC(t)
	token := provider.Token(psctest.Claims{Username: anneNational})
	var after uint64
	h.fresh(t, &after)
	list, err := h.OwnerMembers(t.Context(), token, auditBAL)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	until := time.Now().Add(24 * time.Hour).Truncate(time.Second)
	made, err := h.OwnerAdd(t.Context(), token, strings.ToUpper(auditBAL), NewMember{ID: "local:stagiaire", Role: "reader", Until: &until})
	if err != nil || made.Password == "" || made.User != auditBAL || len(made.Members) != 3 {
		t.Fatalf("%v, %v", made.Members, err)
	}
	if made, err = h.OwnerChange(t.Context(), token, auditBAL, bobPerson, ChangeMember{Role: "owner"}); err != nil {
		t.Fatal(err)
	}
	for _, m := range made.Members {
		switch {
		case m.ID == bobPerson && m.Role != "owner", m.ID == "local:stagiaire" && (m.Until == nil || !m.Until.Equal(until) || !m.HasPassword):
			t.Errorf("member %+v", m)
		}
	}
	// Bob is an owner from now on.
	bob := provider.Token(psctest.Claims{Username: bobNational})
	if made, err = h.OwnerEnd(t.Context(), bob, auditBAL, annePerson); err != nil {
		t.Fatal(err)
	}
	if status, code := coded(t, second(h.OwnerMembers(t.Context(), token, auditBAL))); status != http.StatusForbidden || code != "NoRight" {
		t.Errorf("who is an owner no more lists the members: %d %s", status, code)
	}
	me := Person(uint32(os.Getuid()))
	acts := map[string]string{"owner: member list": annePerson, "member add": annePerson, "member change": annePerson, "member end": bobPerson}
	for _, e := range h.fresh(t, &after) {
		act := e.Attr(trace.KeyAct)
		if want, ok := acts[act]; ok && e.Attr(trace.KeyCode) == "" {
			if e.Person != want || e.Attr(trace.KeyClient) != me || e.BAL != auditBAL {
				t.Errorf("traced as %s", e.Line())
			}
			delete(acts, act)
		}
	}
	if len(acts) > 0 {
		t.Errorf("not in the trace: %v", acts)
	}
}

// Each refusal has a code, and stands in the trace with who tried and why, as far as that is known. Nothing is changed by it, and
// no token is written anywhere.
func TestOwnerRefusals(t *testing.T) {
	h, provider := withPSC(t)
	if _, err := h.AddBAL(t.Context(), NewBAL{Address: "autre@officines.example", Kind: "ORG", Member: &NewMember{ID: bobPerson, NoPassword: true}}); err != nil {
		t.Fatal(err)
	}
	anne := provider.Token(psctest.Claims{Username: anneNational})
	bob := provider.Token(psctest.Claims{Username: bobNational})
	over := provider.Token(psctest.Claims{Username: anneNational, Expires: time.Now().Add(-time.Hour)})
	forged := anne[:len(anne)-8] + strings.Repeat("A", 8)
	until := time.Now().Add(time.Hour)
	me := Person(uint32(os.Getuid()))
	cases := []struct {
		name   string
		do     func() error
		status int
		code   string
		person string
		reason string
	}{
		{"no token", func() error { return second(h.OwnerMembers(t.Context(), "", auditBAL)) }, 401, "NoToken", me, "NoToken"},
		{"forged", func() error { return second(h.OwnerMembers(t.Context(), forged, auditBAL)) }, 401, "TokenSignature", me, "TokenSignature"},
		{"over", func() error { return second(h.OwnerEnd(t.Context(), over, auditBAL, bobPerson)) }, 401, "TokenExpired", me, "TokenExpired"},
		{"writer lists", func() error { return second(h.OwnerMembers(t.Context(), bob, auditBAL)) }, 403, "NotOwner", bobPerson, "NotOwner"},
		{"writer makes himself an owner", func() error {
			return second(h.OwnerChange(t.Context(), bob, auditBAL, bobPerson, ChangeMember{Role: "owner"}))
		}, 403, "NotOwner", bobPerson, "NotOwner"},
		{"writer ends the owner", func() error { return second(h.OwnerEnd(t.Context(), bob, auditBAL, annePerson)) }, 403, "NotOwner", bobPerson, "NotOwner"},
		{"another BAL", func() error {
			return second(h.OwnerAdd(t.Context(), anne, "autre@officines.example", NewMember{ID: annePerson, Role: "owner", NoPassword: true}))
		}, 403, "NoRight", annePerson, "NoRight"},
		{"no BAL", func() error { return second(h.OwnerMembers(t.Context(), anne, "x@y.example")) }, 403, "NoRight", annePerson, "NoBAL"},
		{"last owner ends", func() error { return second(h.OwnerEnd(t.Context(), anne, auditBAL, annePerson)) }, 409, "LastOwner", annePerson, "LastOwner"},
		{"last owner gets an end", func() error {
			return second(h.OwnerChange(t.Context(), anne, auditBAL, annePerson, ChangeMember{Role: "owner", Until: &until}))
		}, 409, "LastOwner", annePerson, "LastOwner"},
		{"there already", func() error {
			return second(h.OwnerAdd(t.Context(), anne, auditBAL, NewMember{ID: bobPerson, NoPassword: true}))
		}, 409, "MemberExists", annePerson, "MemberExists"},
		{"no such member", func() error { return second(h.OwnerEnd(t.Context(), anne, auditBAL, "local:x")) }, 404, "NoMember", annePerson, "NoMember"},
		{"no member id", func() error {
			return second(h.OwnerAdd(t.Context(), anne, auditBAL, NewMember{ID: "x", NoPassword: true}))
		}, 400, "BadRequest", annePerson, "BadRequest"},
		{"no role", func() error {
			return second(h.OwnerChange(t.Context(), anne, auditBAL, bobPerson, ChangeMember{}))
		}, 400, "BadRequest", annePerson, "BadRequest"},
		{"a certificate", func() error {
			return second(h.OwnerAdd(t.Context(), anne, auditBAL, NewMember{ID: "cert:CN=x.example"}))
		}, 400, "BadRequest", annePerson, "BadRequest"},
	}
	before, err := h.BAL(t.Context(), auditBAL)
	if err != nil {
		t.Fatal(err)
	}
	var after uint64
	written := ""
	for _, c := range cases {
		h.fresh(t, &after)
		status, code := coded(t, c.do())
		if status != c.status || code != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, status, code, c.status, c.code)
		}
		events := h.fresh(t, &after)
		if len(events) != 1 || events[0].Person != c.person || events[0].Attr(trace.KeyReason) != c.reason || events[0].Attr(trace.KeyCode) == "" {
			t.Errorf("%s: traced as %v", c.name, events)
		}
		for _, e := range events {
			written += e.Line()
		}
	}
	if now, err := h.BAL(t.Context(), auditBAL); err != nil || len(now.Members) != len(before.Members) || now.Members[0].ID != before.Members[0].ID || now.Members[1].Role != before.Members[1].Role {
		t.Errorf("members were %v and are %v, %v", before.Members, now.Members, err)
	}
	if _, err := h.SetState(t.Context(), auditBAL, "suspended", ""); err != nil {
		t.Fatal(err)
	}
	if _, code := coded(t, second(h.OwnerMembers(t.Context(), anne, auditBAL))); code != "NoRight" {
		t.Errorf("suspended: %s", code)
	}
	provider.Break(http.StatusInternalServerError)
	fresh := provider.Token(psctest.Claims{Username: anneNational})
	if status, code := coded(t, second(h.OwnerMembers(t.Context(), fresh, auditBAL))); status != http.StatusServiceUnavailable || code != "Unavailable" {
		t.Errorf("issuer down: %d %s", status, code)
	}
	for _, token := range []string{anne, bob, over, forged, fresh} {
		parts := strings.Split(token, ".")
		for what, text := range map[string]string{"trace": written, "log": h.log.String()} {
			if strings.Contains(text, parts[1]) || strings.Contains(text, parts[2]) {
				t.Errorf("a token stands in the %s", what)
			}
		}
	}
}

// Where no issuer is configured nobody is believed.
func TestOwnerWithoutIssuer(t *testing.T) {
	for name, set := range map[string]func(*Server){"no authenticator": func(*Server) {}, "no issuer": func(s *Server) { s.Auth = auth.New(auth.Config{Store: s.Store}) }} {
		h := open(t, set)
		h.addBAL(t, auditBAL)
		if status, code := coded(t, second(h.OwnerMembers(t.Context(), "x.y.z", auditBAL))); status != http.StatusServiceUnavailable || code != "NoIssuer" {
			t.Errorf("%s: %d %s", name, status, code)
		}
	}
}
