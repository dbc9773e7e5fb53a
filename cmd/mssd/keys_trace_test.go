package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"mssd/store"
	"mssd/trace"
)

// TestKeysAreTraced changes the keys of a stopped store: each act is in the trace, with who did it. Where the index is
// gone the keys are changed all the same, and people are told to note it.
func TestKeysAreTraced(t *testing.T) {
	h := newHouse(t, "")
	h.start("--create")
	h.addBAL("pharmacie@test-officines.mssante.fr", "ORG")
	must(t, h.stop())
	run := func(args ...string) string {
		t.Helper()
		out, err := h.plain(append([]string{"keys"}, args...)...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return out
	}
	key := h.path("data/master.key")
	run("make", h.path("next.key"))
	run("recovery-make", h.path("r.private"), h.path("r.public"))
	run("recovery-set", h.path("r.public"), "--dir", h.path("data"), "--master-key", key)
	run("rotate", "--dir", h.path("data"), "--master-key", key, "--to", h.path("next.key"))
	run("recover", "--dir", h.path("data"), "--recovery-key", h.path("r.private"), "--new-master-key", h.path("third.key"))
	if out := run("recovery-unset", "--dir", h.path("data"), "--master-key", h.path("third.key")); strings.Contains(out, "trace") {
		t.Errorf("the index is there, and yet: %s", out)
	}
	var acts []string
	_, err := store.EventsSince(h.path("data"), 0, func(e trace.Event) {
		if act := e.Attr(trace.KeyAct); strings.HasPrefix(act, "keys ") {
			if !strings.HasPrefix(e.Person, "unix:") || e.Kind != trace.Admin {
				t.Errorf("%s: %+v", act, e)
			}
			acts = append(acts, act)
		}
	})
	must(t, err)
	if want := []string{"keys recovery-set", "keys rotate", "keys recover", "keys recovery-unset"}; !slices.Equal(acts, want) {
		t.Errorf("in the trace: %q, want %q", acts, want)
	}
	must(t, os.Remove(h.path("data/index.db")))
	if out := run("recovery-set", h.path("r.public"), "--dir", h.path("data"), "--master-key", h.path("third.key")); !strings.Contains(out, "the trace could not be told (keys recovery-set)") {
		t.Errorf("without an index: %s", out)
	}
}
