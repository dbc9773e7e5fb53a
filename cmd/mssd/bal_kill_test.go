package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKillDeclare kills the daemon (-9) while a file of BALs is being declared, and while an export to the directory is acknowledged:
// the same file, given again, makes the rest. Each BAL is there once, with its owner; what was acknowledged is in no other export.
func TestKillDeclare(t *testing.T) {
	const n = 300
	kills := 3
	if rounds, err := strconv.Atoi(os.Getenv("MSSD_CRASH_ROUNDS")); err == nil {
		kills = max(kills, rounds/10) // of each command; more would find it done
	}
	h := newHouse(t, "")
	h.start("--create")
	table := "bal,kind,state,structure,owner\n"
	for i := range n {
		table += fmt.Sprintf("bal%03d@test-officines.mssante.fr,ORG,active,990000119,rpps:99900000052\n", i)
	}
	must(t, os.WriteFile(h.path("bals.csv"), []byte(table), 0o600))
	broken := 0
	// again gives a command some times while the daemon is killed, then until it is done; it returns what that said.
	again := func(args ...string) string {
		t.Helper()
		for range kills {
			done := make(chan error, 1)
			go func() {
				_, err := h.run(args...)
				done <- err
			}()
			time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond) // the moment of the kill, at random
			h.kill()
			if <-done != nil {
				broken++
			}
			h.start()
		}
		out, err := h.run(args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return out
	}
	out := again("bal", "declare", h.path("bals.csv"))
	var added, there int
	if _, err := fmt.Sscanf(out, "%d added, %d there already", &added, &there); err != nil || added+there != n {
		t.Errorf("in the end: %s (%v)", out, err)
	}
	if out, err := h.run("bal", "list"); err != nil || strings.Count(out, " active ") != n {
		t.Errorf("%d BALs, want %d: %v", strings.Count(out, " active "), n, err)
	}
	if out, err := h.run("member", "export"); err != nil || strings.Count(out, ",rpps:99900000052,owner,") != n {
		t.Errorf("%d owners, want %d: %v", strings.Count(out, ",owner,"), n, err)
	}

	export, err := h.run("directory", "publish")
	if err != nil || strings.Count(export, "|ajout|") != n {
		t.Fatalf("%d additions in the export, want %d: %v", strings.Count(export, "|ajout|"), n, err)
	}
	must(t, os.WriteFile(h.path("export.txt"), []byte(export), 0o600))
	out = again("directory", "publish", "--ack", h.path("export.txt"))
	if _, err := fmt.Sscanf(out, "%d noted, %d known already", &added, &there); err != nil || added+there != n {
		t.Errorf("in the end: %s (%v)", out, err)
	}
	if out, err := h.run("directory", "publish"); err != nil || strings.Count(out, "\n") != 1 {
		t.Errorf("after the acknowledgement: %v\n%s", err, out)
	}
	t.Logf("%d of %d commands were broken off", broken, 2*kills)
	if out, err := h.run("fsck"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	must(t, h.stop())
}
