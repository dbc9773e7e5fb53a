package main

import (
	"os"
	"strings"
	"testing"
)

// After a restore the operator is told which addresses may be missing; none is given to somebody else before that is settled.
func TestAddressesAfterRestore(t *testing.T) {
	h := newHouse(t, "")
	key := h.withMasterKey()
	h.start("--create")
	const before, since, other = "pharmacie@test-officines.mssante.fr", "depuis@test-officines.mssante.fr", "autre@test-officines.mssante.fr"
	do := func(good bool, want string, args ...string) {
		t.Helper()
		out, err := h.run(args...)
		if (err == nil) != good || !strings.Contains(out, want) {
			t.Errorf("%v: %v, want %q\n%s", args, err, want, out)
		}
	}
	add := func(a string, more ...string) []string {
		return append([]string{"bal", "add", a, "--kind", "ORG", "--no-member"}, more...)
	}
	do(true, "created", add(before)...)
	do(true, "took", "backup", h.path("backup"), "--create")
	do(true, "created", add(since)...)
	do(false, "was not restored", "bal", "settled")
	h.kill()
	out, err := h.plain("restore", "--from", h.path("backup"), "--to", h.path("restored"), "--master-key", key, "--lost-from", h.dataDir())
	if err != nil || !strings.Contains(out, since+": it is not here") || !strings.Contains(out, "mssd bal settled") {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	h.moveTo(h.path("restored"))
	h.start()
	do(true, "mssd bal settled", "health")
	do(false, "restored from a backup", add(since)...)
	must(t, os.WriteFile(h.path("bals.csv"), []byte("bal,kind,owner\n"+before+",ORG,\n"+since+",ORG,rpps:99900000052\n"), 0o600))
	do(false, "line 3: "+since+": this store was restored", "bal", "declare", h.path("bals.csv"), "--dry-run")
	do(false, "nothing was done", "bal", "declare", h.path("bals.csv"))
	do(true, "1 added, 1 there already", "bal", "declare", h.path("bals.csv"), "--after-restore")
	do(false, "restored from a backup", add(other)...)
	do(true, "given again", "bal", "settled")
	do(true, "created", add(other)...)
	if out, err := h.run("health"); err != nil || strings.Contains(out, "settled") {
		t.Errorf("health: %v\n%s", err, out)
	}
	must(t, h.stop())
}
