package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// keysKillChild runs in its own process until it is killed: it says what it begins and what is done.
func keysKillChild(dir string) {
	var err error
	opt := store.Options{Dir: filepath.Join(dir, "s"), MasterKey: filepath.Join(dir, "a.key")}
	switch os.Getenv("MSSD_KEYS_KILL_WHAT") {
	case "rotate":
		for from, to := "a.key", "b.key"; err == nil; from, to = to, from {
			err = store.Rekey(opt.Dir, filepath.Join(dir, from), filepath.Join(dir, to))
			fmt.Println("done", to)
		}
	case "destroy":
		err = destroyAll(opt)
	}
	fmt.Println("error", err)
	os.Exit(1)
}

func destroyAll(opt store.Options) error {
	s, err := store.Open(opt)
	if err != nil {
		return err
	}
	fmt.Println("begin")
	for _, b := range s.BALs() {
		if b.State == store.Destroyed {
			continue
		}
		fmt.Println("begin", b.Address)
		if _, err := s.DestroyBAL(ctx, b.Address); err != nil {
			return err
		}
		fmt.Println("done", b.Address)
	}
	select {} // the rest goes in the background
}

// killKeys runs the child until it has said n lines, kills it, and yields what it said.
func killKeys(t *testing.T, dir, what string, n int) (said []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "MSSD_KEYS_KILL_CHILD="+dir, "MSSD_KEYS_KILL_WHAT="+what)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if strings.HasPrefix(sc.Text(), "error") {
			t.Errorf("child: %s", sc.Text())
		}
		said = append(said, sc.Text())
		if len(said) == n {
			cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	if ctx.Err() != nil {
		t.Fatalf("the child was too slow; it said %d lines", len(said))
	}
	return said
}

// TestKillKeys kills a process in the midst of changes of the master key: one of the two opens every slot.
func TestKillKeys(t *testing.T) {
	k := newKeysStore(t)
	dir := t.TempDir()
	for from, to := range map[string]string{k.opt.MasterKey: "a.key", k.next: "b.key"} {
		k.must(os.Rename(from, filepath.Join(dir, to)))
	}
	k.must(os.Rename(k.opt.Dir, filepath.Join(dir, "s")))
	k.opt.Dir, k.opt.MasterKey, k.next = filepath.Join(dir, "s"), filepath.Join(dir, "a.key"), filepath.Join(dir, "b.key")
	done := 0
	for round := range 6 {
		k.must(store.Rekey(k.opt.Dir, filepath.Join(dir, strings.Fields(k.state())[0]), filepath.Join(dir, "a.key")))
		done += len(killKeys(t, dir, "rotate", 1+3*round))
		state := strings.Fields(k.state())
		if len(state) != 2 {
			t.Fatalf("round %d: %q", round, state)
		}
		k.reads(filepath.Join(dir, state[0]))
	}
	t.Logf("%d changes in 6 rounds", done)
}

// TestKillDestroy kills a process that destroys BALs: what it said to be destroyed is, what it was at is destroyed or as
// it was, and the next start goes on.
func TestKillDestroy(t *testing.T) {
	dir := t.TempDir()
	opt := store.Options{Dir: filepath.Join(dir, "s"), MasterKey: filepath.Join(dir, "a.key"), Create: true, NoSync: true}
	s := storetest.Open(t, opt)
	const bals, messages = 12, 30
	for i := range bals {
		b := storetest.AddBAL(t, s, store.Address(fmt.Sprintf("b%02d@bal.example", i)), store.ORG)
		for range messages {
			fill(t, s, box(t, s, b.ID, "INBOX").Ref, 50, 0) // more than one commit of a wipe
		}
		do(t, s, store.SetBALState{Address: b.Address, State: store.Closed})
	}
	s.Close()
	opt.Create, opt.NoSync = false, false
	destroyed := map[store.Address]bool{}
	for round, n := range []int{1, 2, 4, 6, 9} {
		for _, l := range killKeys(t, dir, "destroy", n) {
			if addr, ok := strings.CutPrefix(l, "done "); ok {
				destroyed[store.Address(addr)] = true
			}
		}
		s, err := store.Open(opt)
		if err != nil {
			t.Fatal(err)
		}
		storetest.Check(t, s)
		for _, b := range s.BALs() {
			switch {
			case b.State == store.Closed && !destroyed[b.Address]:
				if r := rows(t, s, box(t, s, b.ID, "INBOX").Ref); len(r) != 50*messages || !strings.HasSuffix(read(t, s, b.ID, r[0].Message), raw) {
					t.Errorf("round %d: %s has %d messages", round, b.Address, len(r))
				}
			case b.State != store.Destroyed:
				t.Errorf("round %d: %s is %v", round, b.Address, b.State)
			case destroyed[b.Address] && !b.Destroyed.KeyGone:
				t.Errorf("round %d: %s was called destroyed and has its key", round, b.Address)
			}
		}
		if err := errors.Join(s.FinishDestroying(ctx), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if len(destroyed) < 3 {
		t.Errorf("only %d destroyed", len(destroyed))
	}
	opt.Create = false
	s = storetest.Open(t, opt)
	for _, b := range s.BALs() {
		if b.State == store.Destroyed && !b.Destroyed.Wiped {
			t.Errorf("%s: %+v", b.Address, b.Destroyed)
		}
	}
}
