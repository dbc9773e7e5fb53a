package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/trace"
)

// What children that are killed in mid-work have in common, and those who kill them.

// childFail ends a child that cannot go on; its parent reads why.
func childFail(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// childStore opens the store of a child, made the first time, and yields the INBOX of its BAL.
func childStore(opt store.Options) (*store.Store, store.Ref) {
	opt.Create = true
	s, err := store.Open(opt)
	childFail(err)
	bal, err := s.BAL("a@bal.example")
	if err != nil {
		_, err = s.Commit(ctx, &store.Batch{Ops: []store.Op{store.PutBAL{Create: true, BAL: store.BAL{Address: "a@bal.example", Kind: store.ORG, State: store.Active, Listing: store.Published}}}})
		childFail(err)
		bal, err = s.BAL("a@bal.example")
		childFail(err)
	}
	in, err := s.Mailbox(bal.ID, "INBOX")
	childFail(err)
	return s, in.Ref
}

// killBody is the body of a message, told by its id.
func killBody(id trace.ID) string {
	return fmt.Sprintf("Subject: %s\r\n\r\n%s", id, strings.Repeat(id.String(), 300))
}

// runKilled runs a child and shows what it acknowledged: a line with the id of a message at its end. When enough says so
// it is killed, and what it had said before is read on.
func runKilled(t *testing.T, env string, acknowledged func(act string, id trace.ID), enough func(lines int) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(out)
	for n := 1; sc.Scan(); n++ {
		if text, ok := strings.CutPrefix(sc.Text(), "error"); ok {
			t.Errorf("child: %s", text)
			break
		}
		act, text, ok := strings.Cut(sc.Text(), " ")
		if !ok {
			act, text = "", sc.Text()
		}
		id, err := trace.ParseID(text)
		if err != nil {
			break // a line cut by the kill
		}
		acknowledged(act, id)
		if enough(n) {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
