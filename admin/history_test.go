package admin

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"mssd/trace"
)

// The life of a BAL is told from its declaration to after its destruction, each step with time, actor, state and reason.
func TestHistory(t *testing.T) {
	h := open(t)
	h.addBAL(t, "other@officines.example")
	if _, err := h.DeclareBALs(t.Context(), Declare{Rows: []DeclareRow{{BAL: there, Kind: "ORG", Owner: "local:anne"}}}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ state, reason string }{{"active", ""}, {"suspended", "contract 26/7"}, {"closed", "  end of activity "}} {
		if _, err := h.SetState(t.Context(), there, step.state, step.reason); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"a\nb", strings.Repeat("x", maxReason+1), "patient 199010000000001"} {
		if _, err := h.SetState(t.Context(), there, "active", bad); status(err) != http.StatusBadRequest {
			t.Errorf("reason %q: %v", bad, err)
		}
		if _, err := h.Destroy(t.Context(), there, false, bad); status(err) != http.StatusBadRequest {
			t.Errorf("reason %q: %v", bad, err)
		}
	}
	if _, err := h.Destroy(t.Context(), there, false, "request 12"); err != nil {
		t.Fatal(err)
	}
	if err := h.store.FinishDestroying(context.Background()); err != nil {
		t.Fatal(err)
	}
	events, err := h.History(t.Context(), there)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bal declare declared ", "member add  ", "bal resume active ", "bal suspend suspended contract 26/7",
		"bal close closed end of activity", "bal destroy destroyed request 12", "bal wiped destroyed "}
	var got []string
	me := Person(uint32(os.Getuid()))
	for _, e := range events {
		got = append(got, e.Attrs[trace.KeyAct]+" "+e.Attrs[trace.KeyState]+" "+e.Attrs[trace.KeyReason])
		if e.Person != me && e.Attrs[trace.KeyAct] != "bal wiped" || e.Person == "" || e.Time.IsZero() || e.BAL != there {
			t.Errorf("%+v", e)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("history:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := h.History(t.Context(), "x@officines.example"); status(err) != http.StatusNotFound {
		t.Errorf("no such BAL: %v", err)
	}
}
