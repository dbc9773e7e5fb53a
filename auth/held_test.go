package auth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mssd/auth"
	"mssd/auth/psctest"
	"mssd/store"
	"mssd/store/storetest"
)

func (w *pscWorld) commit(op store.Op) {
	w.t.Helper()
	if _, err := w.st.Commit(context.Background(), &store.Batch{Ops: []store.Op{op}}); err != nil {
		w.t.Fatal(err)
	}
}

// opened are the BALs of a principal with their roles, in order.
func opened(p *auth.Principal) (list []string) {
	for _, g := range p.Grants {
		list = append(list, fmt.Sprint(g.BAL.Address, " ", g.Role))
	}
	return list
}

// TestThemselves: who names nobody, or themselves in any of the forms of their identifier, has all they hold; whoever names
// somebody else has nothing.
func TestThemselves(t *testing.T) {
	w := newPSC(t, nil)
	anne, luc := w.p.Token(psctest.Claims{NameID: anneID, Username: anneID}), w.p.Token(psctest.Claims{Username: lucID})
	both := []string{string(pharmacy) + " owner", string(team) + " reader"}
	for user, token := range map[string]string{"": anne, anneID: anne, "99900000052": anne, "RPPS:99900000052": anne} {
		if p := w.in(store.Address(user), token); !slices.Equal(opened(p), both) || p.Person != "rpps:99900000052" || p.Method != "psc" || p.Until.IsZero() {
			t.Errorf("%q opens %q: %+v", user, opened(p), p)
		}
	}
	for _, user := range []store.Address{"", lucID, "759900015", "adeli:759900015"} {
		if p := w.in(user, luc); !slices.Equal(opened(p), []string{string(team) + " writer"}) || p.Person != "adeli:759900015" {
			t.Errorf("%q opens %q as %s", user, opened(p), p.Person)
		}
	}
	// A BAL that is named is opened alone.
	if p := w.in(team, anne); !slices.Equal(opened(p), both[1:]) {
		t.Errorf("the team opens %q", opened(p))
	}
	for user, token := range map[string]string{anneID: luc, lucID: anne, "99900000052 ": anne, "9900000052": anne, "8": anne, "rpps:": anne, "local:99900000052": anne, "%": anne, "@": anne} {
		w.out(store.Address(user), token, "NoBAL")
	}
	w.out("", w.p.Token(psctest.Claims{Username: "899900000061"}), "NoRight")
	w.out("", w.p.Token(psctest.Claims{Username: "899900000060"}), "RightNotInForce")
	w.commit(store.SetBALState{Address: team, State: store.Suspended})
	w.out("", luc, "BALNotActive")
	if p := w.in("", anne); !slices.Equal(opened(p), both[:1]) {
		t.Errorf("with a suspended BAL: %q", opened(p))
	}
	// A person without any BAL is held back as one who tries those of others.
	for range 70 {
		_, _ = w.login("", luc)
	}
	if _, err := w.login("", luc); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("after 70 refusals: %v", err)
	}
}

// TestOrderOfBALs: the own PER first, then what the person may do most with, then the address; a hundred at most.
func TestOrderOfBALs(t *testing.T) {
	w := newPSC(t, nil)
	anne := w.p.Token(psctest.Claims{NameID: anneID, Username: anneID})
	me := func(r store.Role) store.Member { return store.Member{ID: "rpps:99900000052", Role: r} }
	for _, c := range []struct {
		a    store.Address
		kind store.Kind
		role store.Role
	}{{"a.colleague@officine.test", store.PER, store.Writer}, {"z.anne@officine.test", store.PER, store.Owner}, {"b@officine.test", store.ORG, store.Writer}, {"a@officine.test", store.CAB, store.Reader}} {
		storetest.AddBAL(t, w.st, c.a, c.kind)
		w.commit(store.PutMember{Address: c.a, Member: me(c.role)})
	}
	want := []string{"z.anne@officine.test owner", string(pharmacy) + " owner", "a.colleague@officine.test writer", "b@officine.test writer", "a@officine.test reader", string(team) + " reader"}
	if p := w.in("", anne); !slices.Equal(opened(p), want) {
		t.Errorf("opened %q\nwant   %q", opened(p), want)
	}
	for i := range 110 {
		a := store.Address(fmt.Sprintf("x%03d@officine.test", i))
		storetest.AddBAL(t, w.st, a, store.ORG)
		w.commit(store.PutMember{Address: a, Member: me(store.Writer)})
	}
	p := w.in("", anne)
	if len(p.Grants) != 100 || p.Grants[0].BAL.Address != "z.anne@officine.test" {
		t.Errorf("%d BALs opened, the first %s", len(p.Grants), p.Grants[0].BAL.Address)
	}
	w.in("x109@officine.test", anne) // by its name
}

// TestCheckOfSeveral: the right on each BAL is asked for itself.
func TestCheckOfSeveral(t *testing.T) {
	w := newPSC(t, nil)
	// Written in small letters, and in another BAL in capitals: the same person.
	luc := w.p.Token(psctest.Claims{Username: "07599A0015"})
	w.commit(store.PutMember{Address: pharmacy, Member: store.Member{ID: "adeli:7599a0015", Role: store.Owner}})
	w.commit(store.PutMember{Address: team, Member: store.Member{ID: "adeli:7599A0015", Role: store.Writer, Until: w.now().Add(time.Hour)}})
	p := w.in("", luc)
	check := func(what string, want ...error) {
		t.Helper()
		for i, g := range p.Grants {
			if err := w.a.Check(p, g); !errors.Is(err, want[i]) || want[i] == nil && err != nil {
				t.Errorf("%s: %s: %v, want %v", what, g.BAL.Address, err, want[i])
			}
		}
	}
	if len(p.Grants) != 2 {
		t.Fatalf("opened %q", opened(p))
	}
	check("at first", nil, nil)
	w.commit(store.PutMember{Address: pharmacy, Member: store.Member{ID: "adeli:7599a0015", Role: store.Reader}})
	check("role lowered", auth.ErrWithdrawn, nil)
	w.commit(store.PutMember{Address: pharmacy, Member: store.Member{ID: "adeli:7599a0015", Role: store.Owner}})
	w.forward(2 * time.Hour)
	check("its day is over", nil, auth.ErrWithdrawn)
	w.forward(3 * time.Hour)
	check("session too long", auth.ErrSessionOver, auth.ErrSessionOver)
}

// TestAdviceOfSeveral: the issuer is asked once for the activities, whatever number of BALs they are compared with.
func TestAdviceOfSeveral(t *testing.T) {
	w := newPSC(t, func(c *auth.PSCConfig) {
		c.Userinfo, c.UserinfoURL = true, strings.TrimSuffix(c.Issuer, "/")+"/userinfo"
	})
	told := make(chan string, 10)
	w.a = auth.New(auth.Config{Store: w.st, PSC: w.psc, Argon: cheap, Now: w.now,
		Advise: func(person string, bal store.Address, what auth.Activity) {
			told <- fmt.Sprint(person, " ", bal, " ", what)
		}})
	for a, structure := range map[store.Address]string{pharmacy: "FINESS:750000001", team: "FINESS:750000002"} {
		bal, err := w.st.BAL(a)
		if err != nil {
			t.Fatal(err)
		}
		bal.Structure = structure
		w.commit(store.PutBAL{BAL: bal})
	}
	w.in("", w.p.Token(psctest.Claims{NameID: anneID, Username: anneID, Info: works("numeroFinessSite=750000001")}))
	var got []string
	for range 2 {
		select {
		case s := <-told:
			got = append(got, s)
		case <-time.After(20 * time.Second):
			t.Fatalf("told only of %q", got)
		}
	}
	slices.Sort(got)
	if n := w.p.Calls("/userinfo"); n != 1 || got[0] != "rpps:99900000052 "+string(team)+" elsewhere" || got[1] != "rpps:99900000052 "+string(pharmacy)+" here" {
		t.Errorf("told %q after %d questions", got, n)
	}
}
