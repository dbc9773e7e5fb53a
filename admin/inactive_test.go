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
	bal := func(a string, made int, st store.State, since, last int) store.BAL {
		b := store.BAL{Address: store.Address(a), Kind: store.ORG, State: st, Listing: store.Published, Created: ago(made), Use: store.Use{Since: ago(since)}}
		if last > 0 {
			b.Use.Last = ago(last)
		}
		return b
	}
	got := silent([]store.BAL{bal("new", 3, store.Active, 3, 0), bal("never", 50, store.Active, 50, 0), bal("busy", 90, store.Active, 90, 1),
		bal("left", 90, store.Active, 90, 60), bal("edge", 90, store.Active, 90, 30), bal("shut", 90, store.Suspended, 90, 0),
		bal("planned", 90, store.Declared, 90, 0), bal("resumed", 90, store.Active, 10, 60), bal("rebuilt", 90, store.Active, 12, 0)}, now, 30)
	var names []string
	for _, b := range got.BALs {
		names = append(names, b.Address)
	}
	if want := []string{"left", "never", "edge"}; !slices.Equal(names, want) || got.Unknown != 1 || !got.KnownSince.Equal(ago(12)) {
		t.Errorf("%v, %d unknown since %v; want %v, 1 since %v", names, got.Unknown, got.KnownSince, want, ago(12))
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
	if err != nil || len(got.BALs) != 2 || got.BALs[1].LastLogin == nil || !got.BALs[1].LastLogin.Equal(login.Truncate(time.Second)) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, days := range []int{0, -1, maxInactiveDays + 1} {
		if _, err := h.Inactive(t.Context(), days); status(err) != http.StatusBadRequest {
			t.Errorf("%d days: %v", days, err)
		}
	}
}
