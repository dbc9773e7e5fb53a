package admin

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"mssd/store"
	"mssd/trace"
)

func TestSilent(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	bal := func(a string, made int, st store.State) store.BAL {
		return store.BAL{Address: store.Address(a), Kind: store.ORG, State: st, Listing: store.Published, Created: ago(made)}
	}
	bals := []store.BAL{bal("new", 3, store.Active), bal("never", 50, store.Active), bal("busy", 90, store.Active), bal("left", 90, store.Active),
		bal("edge", 90, store.Active), bal("shut", 90, store.Suspended), bal("planned", 90, store.Declared)}
	for _, c := range []struct {
		name    string
		logins  store.Logins
		want    []string
		unknown int
	}{
		{"the trace reaches back", store.Logins{Since: ago(100), Last: map[store.Address]time.Time{"busy": ago(1), "left": ago(60), "edge": ago(30)}},
			[]string{"left", "never", "edge"}, 0},
		{"the trace was begun anew long ago", store.Logins{Since: ago(40), Last: map[store.Address]time.Time{"busy": ago(1)}}, []string{"edge", "left", "never"}, 0},
		{"the trace was begun anew", store.Logins{Since: ago(10), Last: map[store.Address]time.Time{"busy": ago(1)}}, nil, 3},
	} {
		got := silent(bals, c.logins, now, 30)
		var names []string
		for _, b := range got.BALs {
			names = append(names, b.Address)
		}
		if !slices.Equal(names, c.want) || got.Unknown != c.unknown {
			t.Errorf("%s: %v, %d unknown, want %v, %d", c.name, names, got.Unknown, c.want, c.unknown)
		}
	}
}

func TestInactive(t *testing.T) {
	at := time.Now()
	h := open(t, func(s *Server) { s.Now = func() time.Time { return at } })
	h.addBAL(t, "used@officines.example")
	h.addBAL(t, "silent@officines.example")
	login := at.Add(20 * 24 * time.Hour)
	h.store.Record(trace.Event{Kind: trace.Login, BAL: "used@officines.example", Person: "local:owner", Time: login})
	at = at.Add(40*24*time.Hour + time.Minute)
	got, err := h.Inactive(t.Context(), 30)
	if err != nil || len(got.BALs) != 1 || got.BALs[0].Address != "silent@officines.example" || got.BALs[0].LastLogin != nil || got.Unknown != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = h.Inactive(t.Context(), 15)
	if err != nil || len(got.BALs) != 2 || got.BALs[1].LastLogin == nil || !got.BALs[1].LastLogin.Equal(login) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, days := range []int{0, -1, maxInactiveDays + 1} {
		if _, err := h.Inactive(t.Context(), days); status(err) != http.StatusBadRequest {
			t.Errorf("%d days: %v", days, err)
		}
	}
}
