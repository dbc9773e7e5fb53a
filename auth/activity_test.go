package auth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/auth/psctest"
	"mssd/store"
)

// works is the claim of a person who works in structures, given as "numeroFinessSite=750000001".
func works(at ...string) map[string]any {
	var list []map[string]any
	for _, a := range at {
		key, number, _ := strings.Cut(a, "=")
		list = append(list, map[string]any{key: number})
	}
	return map[string]any{"SubjectRefPro": map[string]any{"exercices": []any{map[string]any{"codeProfession": "21", "activities": list}}}}
}

// TestActivities: what the issuer says of a person's activities is compared with the structure of the BAL, and keeps nobody out.
func TestActivities(t *testing.T) {
	const here = "FINESS:750000001"
	for _, c := range []struct {
		name, structure string
		claims          psctest.Claims
		userinfo        bool
		want            auth.Activity // "": nothing is told
	}{
		{"site", here, psctest.Claims{Extra: works("numeroSiretSite=73282932000074", "numeroFinessSite=750000001")}, false, auth.ActivityHere},
		{"legal entity", here, psctest.Claims{Extra: works("numeroFinessetablissementJuridique=750000001")}, false, auth.ActivityHere},
		{"bare number", "73282932000074", psctest.Claims{Extra: works("numeroSiretSite=73282932000074")}, false, auth.ActivityHere},
		{"letters", "finess:2a0000001", psctest.Claims{Extra: works("numeroFinessSite=2A0000001")}, false, auth.ActivityHere},
		{"another place", here, psctest.Claims{Extra: works("numeroFinessSite=750000002")}, false, auth.ActivityElsewhere},
		{"the number as another kind", here, psctest.Claims{Extra: works("numeroSirenSite=750000001")}, false, auth.ActivityElsewhere},
		{"no activity", here, psctest.Claims{Extra: works()}, false, auth.ActivityNone},
		{"not told", here, psctest.Claims{}, false, ""},
		{"another form", here, psctest.Claims{Extra: map[string]any{"SubjectRefPro": "21"}}, false, ""},
		{"another form within", here, psctest.Claims{Extra: map[string]any{"SubjectRefPro": map[string]any{"exercices": 3}}}, false, ""},
		{"a BAL without structure", "", psctest.Claims{Extra: works("numeroFinessSite=750000001")}, false, ""},
		{"asked for", here, psctest.Claims{Info: works("numeroFinessSite=750000001")}, true, auth.ActivityHere},
		{"asked for, elsewhere", here, psctest.Claims{Info: works("numeroFinessSite=750000003")}, true, auth.ActivityElsewhere},
		{"asked for, nothing there", here, psctest.Claims{}, true, auth.ActivityNone},
		{"about another person", here, psctest.Claims{Info: map[string]any{"SubjectNameID": lucID}}, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newPSC(t, func(p *auth.PSCConfig) { p.Userinfo = c.userinfo })
			told := w.advised(c.structure)
			c.claims.Username = anneID
			w.in(pharmacy, w.p.Token(c.claims))
			w.in(pharmacy, w.p.Token(c.claims)) // told once
			w.psc.Close()                       // what is asked in the background is over
			close(told)
			var got []auth.Activity
			for a := range told {
				got = append(got, a)
			}
			if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || got[0] != c.want) {
				t.Errorf("told %q, want %q", got, c.want)
			}
		})
	}
}

// advised gives the pharmacy a structure and is where advice comes out.
func (w *pscWorld) advised(structure string) chan auth.Activity {
	w.t.Helper()
	bal, err := w.st.BAL(pharmacy)
	if err != nil {
		w.t.Fatal(err)
	}
	bal.Structure = structure
	if _, err := w.st.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.PutBAL{BAL: bal}}}); err != nil {
		w.t.Fatal(err)
	}
	told := make(chan auth.Activity, 100)
	w.a = auth.New(auth.Config{Store: w.st, PSC: w.psc, Argon: cheap, Now: w.now, Advise: func(person string, bal store.Address, what auth.Activity) {
		if person != "rpps:99900000052" || bal != pharmacy {
			w.t.Errorf("advice about %s and %s", person, bal)
		}
		told <- what
	}})
	return told
}

// TestActivitiesAreAskedAgain: a day later, and when the issuer failed; a dead endpoint keeps nobody out and is not waited for.
func TestActivitiesAreAskedAgain(t *testing.T) {
	w := newPSC(t, func(p *auth.PSCConfig) {
		p.Userinfo, p.Introspect = true, false
		p.UserinfoURL = strings.TrimSuffix(p.Issuer, "/") + "/userinfo"
	})
	told := w.advised("FINESS:750000001")
	token := func() string {
		return w.p.Token(psctest.Claims{Username: anneID, Info: works("numeroFinessSite=750000001"), Expires: w.now().Add(5 * time.Minute)})
	}
	w.in(pharmacy, token()) // the keys are known from here on
	if a := <-told; a != auth.ActivityHere {
		t.Fatal(a)
	}
	w.forward(25 * time.Hour)
	w.in(pharmacy, token())
	if a := <-told; a != auth.ActivityHere {
		t.Fatal(a)
	}
	w.forward(23 * time.Hour)
	w.in(pharmacy, token())
	w.forward(2 * time.Hour)
	w.in(team, token()) // the keys are renewed; this BAL has no structure
	w.p.Break(500)
	asked := w.p.Calls("/userinfo")
	w.in(pharmacy, token())
	for end := time.Now().Add(time.Minute); w.p.Calls("/userinfo") == asked; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the issuer was not asked again after a day")
		}
	}
	w.p.Break(0)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		w.in(pharmacy, token())
		select {
		case a := <-told:
			if a != auth.ActivityHere {
				t.Fatal(a)
			}
			return
		default:
		}
		if time.Now().After(end) {
			t.Fatal("after a failure the issuer is not asked again")
		}
	}
}
