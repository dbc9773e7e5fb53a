package store_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// repairChild repairs a store as TestKillRepair wants it.
func repairChild(dir string) {
	_, err := store.Repair(ctx, store.RepairOptions{Dir: dir, DropLost: true, Bodies: true})
	childFail(err)
	os.Exit(0)
}

// TestKillRepair kills a repair that drops a damaged message, at moments all over its work: the store is as before or as
// after, the sound messages are there, and the damaged body is never gone.
func TestKillRepair(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	s := storetest.Open(t, store.Options{Dir: base, Create: true, NoSync: true})
	a := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	rotten := deliverTo(t, s, letterTo(0), a)
	for i := range 20 {
		deliverTo(t, s, letterTo(i+1), a)
	}
	s.Close()
	was := spoilFrame(t, base, rotten)
	run := func(dir string, after time.Duration) (took time.Duration) {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "MSSD_STORE_REPAIR_CHILD="+dir)
		start := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait()
		return time.Since(start)
	}
	whole := time.Minute
	for range 3 { // how long it takes when nobody kills it
		dir := filepath.Join(t.TempDir(), "s")
		copyWide(t, base, dir)
		whole = min(whole, run(dir, time.Minute))
	}
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("MSSD_CRASH_ROUNDS")); err == nil {
		rounds = max(rounds, 4*n)
	}
	done := 0
	for round := range rounds {
		dir := filepath.Join(t.TempDir(), "s")
		copyWide(t, base, dir)
		run(dir, whole*time.Duration(round+1)/time.Duration(rounds+rounds/4))
		s, err := store.Open(store.Options{Dir: dir, NoSync: true})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		n := len(rows(t, s, box(t, s, a.ID, "INBOX").Ref))
		if n == 20 {
			done++
		}
		if n != 20 && n != 21 {
			t.Errorf("round %d: %d messages", round, n)
		}
		sweep(t, s)
		s.Close()
		among, _ := os.ReadFile(filepath.Join(dir, store.BodyFile(rotten)))
		aside, _ := os.ReadFile(filepath.Join(dir, "lost", rotten.String()))
		if n == 21 && !bytes.Equal(among, was) || n == 20 && !bytes.Equal(aside, was) {
			t.Errorf("round %d, %d messages: the damaged body has %d octets among the bodies, %d in lost/; want %d", round, n, len(among), len(aside), len(was))
		}
		if out := repair(t, store.RepairOptions{Dir: dir, DropLost: true, Bodies: true}); n == 20 && out.Count != 0 || n == 21 && out.Bodies != 1 {
			t.Errorf("round %d: the next repair: %+v", round, out)
		}
		s = storetest.Open(t, store.Options{Dir: dir, NoSync: true})
		storetest.Check(t, s)
		s.Close()
	}
	t.Logf("%d of %d repairs were done before the kill", done, rounds)
}
