package store_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// lossChild delivers, expunges, brings back and sweeps, and says what was acknowledged: a line with an act and the id
// of the message. What is expunged is let go after one to two seconds.
func lossChild(dir string) {
	s, in := childStore(store.Options{Dir: dir, RetainExpunged: 2 * time.Second, Aging: true})
	lines := make(chan string)
	for worker := range 4 {
		go func() {
			for n := 0; ; n++ {
				b, err := s.NewBlob()
				childFail(err)
				_, err = io.WriteString(b, killBody(b.ID()))
				childFail(err)
				childFail(b.Finish(nil, emptyText))
				res, err := s.Commit(ctx, &store.Batch{Blob: b, Ops: []store.Op{store.AddMessage{Ref: in, Flags: store.Deleted}}})
				childFail(err)
				id, uid := res.ID, res.Ops[0].New[0].First
				lines <- "in " + id.String()
				if (n+worker)%4 == 0 {
					continue
				}
				_, err = s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Expunge{Ref: in, Runs: one(uid)}}})
				childFail(err)
				lines <- "out " + id.String()
				if (n+worker)%4 == 1 {
					continue
				}
				page, err := s.Expunged(ctx, in.BAL, store.ExpungedID{}, 1000)
				childFail(err)
				for _, e := range page {
					if e.UID == uid {
						res, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Undelete{BAL: in.BAL, Which: []store.ExpungedID{e.ExpungedID}}}})
						childFail(err)
						if len(res.Ops[0].Undeleted) == 1 {
							lines <- "back " + id.String()
						}
					}
				}
			}
		}()
	}
	go func() {
		for {
			_, err := s.Sweep(ctx, false)
			childFail(err)
		}
	}()
	for l := range lines {
		fmt.Println(l)
	}
}

// TestKillLoss kills a process that expunges, brings back and lets go: what was last acknowledged of a message holds, it
// is there once at most, with the right octets, and nothing lies about that nobody has.
func TestKillLoss(t *testing.T) {
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("MSSD_CRASH_ROUNDS")); err == nil {
		rounds = n
	}
	const fresh = 10 // rounds that one store lives: each reads all of it
	var dir string
	var last map[string]string
	messages, purged := 0, 0
	for round := range rounds {
		if round%fresh == 0 {
			messages += len(last)
			dir, last = filepath.Join(t.TempDir(), "s"), map[string]string{}
		}
		from := time.Now()
		runKilled(t, "MSSD_STORE_LOSS_CHILD="+dir, func(act string, id trace.ID) { last[id.String()] = act }, func(lines int) bool {
			return lines > 300+round*77%400 && time.Since(from) > 2500*time.Millisecond // long enough for some to be let go
		})
		s, err := store.Open(store.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		storetest.Check(t, s)
		bal, err := s.BAL("a@bal.example")
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]int{}
		see := func(id store.MessageID) {
			there[id.String()]++
			if read(t, s, bal.ID, id) != killBody(id) {
				t.Errorf("message %s has other octets", id)
			}
		}
		for _, r := range rows(t, s, box(t, s, bal.ID, "INBOX").Ref) {
			see(r.Message)
		}
		for _, e := range expunged(t, s, bal.ID) {
			see(e.Message)
		}
		for id, act := range last {
			switch n := there[id]; {
			case n == 0 && act == "out":
				purged++
				delete(last, id)
			case n != 1:
				t.Errorf("round %d: message %s, last acknowledged %q, is there %d times", round, id, act, n)
			}
		}
		// What was on its way when it was killed is done or not; from here on it is as it was found.
		for _, r := range rows(t, s, box(t, s, bal.ID, "INBOX").Ref) {
			last[r.Message.String()] = "back"
		}
		for _, e := range expunged(t, s, bal.ID) {
			last[e.Message.String()] = "out"
		}
		if err := s.SweepNow(); err != nil { // as a tool: by age nothing goes
			t.Fatal(err)
		}
		if n := len(bodies(t, dir)); n != len(there) {
			t.Errorf("round %d: %d bodies for %d messages", round, n, len(there))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d messages in %d rounds; %d times one was gone for good", messages+len(last), rounds, purged)
}
