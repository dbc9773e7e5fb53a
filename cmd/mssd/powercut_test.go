package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"mssd/store"
	"mssd/store/crashtest"
)

// answer is a 250 as its sender saw it: letter n was acknowledged when so many octets had come over its connection.
type answer struct {
	letter int
	port   int
	octets int64
}

// cutLetters are what the senders of TestPowerCutDaemon send.
const cutLetters, cutSenders = 24, 4

func cutLetter(n int, addrs []string) []byte {
	return letter(n, 500+n%5*9000, addrs[n%len(addrs)])
}

// powerCut is what is known of a run of the daemon.
type powerCut struct {
	t       *testing.T
	h       *house
	users   map[string][2]string
	addrs   []string
	answers []answer
	calls   []*crashtest.Call
	before  string // copy of the data directory as it was before the run
	numbers map[[32]byte]int
	uids    map[int]store.UID // of each letter, at the end of the run

	mu    sync.Mutex
	tried map[crashtest.Class]int
	lost  int
	first error // why the first state was lost
}

// TestPowerCutDaemon runs the daemon under strace while operators deliver over TLS, and cuts the power at each boundary of
// each of its system calls. What its clients knew at that moment is exact: an answer counts from the write call on that
// sends its last octet, which is found by counting the octets of each connection. Some of the disks are given to the
// daemon itself, and the senders send again what they saw no 250 for.
func TestPowerCutDaemon(t *testing.T) {
	strace := needStrace(t)
	share, lots, restarts := uint64(8), 4, 2
	if os.Getenv("MSSD_CRASH_ROUNDS") != "" {
		share, lots, restarts = 1, 60, 40
	}
	p := &powerCut{t: t, h: newHouse(t, ""), users: map[string][2]string{}, numbers: map[[32]byte]int{}, tried: map[crashtest.Class]int{}}
	p.run(strace)
	states, err := p.replay(share, lots, restarts, nil)
	must(t, err)
	if p.lost > 0 {
		t.Errorf("%d states lost something; the first: %v", p.lost, p.first)
	}
	table := crashtest.Table{}
	table.Add("the daemon, deliveries over SMTP", p.tried, p.lost)
	t.Logf("power cuts, states tried:\n%s", table)
	if !t.Failed() {
		p.restart(states)
	}

	// Without the syncs of the bodies the same must find that mail is lost.
	p.tried, p.lost = map[crashtest.Class]int{}, 0
	_, err = p.replay(8, 2, 0, func(_, path string) bool { return !strings.HasSuffix(path, ".db") })
	must(t, err)
	if p.lost == 0 {
		t.Errorf("with no body synced nothing was lost in %v states", p.tried)
	}
}

// run makes BALs, then delivers to the daemon under strace until it is told to stop.
func (p *powerCut) run(strace string) {
	t, h := p.t, p.h
	h.start("--create")
	for i := range 2 {
		a := fmt.Sprintf("pharmacie%d@test-officines.mssante.fr", i)
		user, password := h.addBAL(a, "ORG")
		p.users[a], p.addrs = [2]string{user, password}, append(p.addrs, a)
	}
	must(t, h.stop())
	p.before = filepath.Join(h.dir, "before")
	must(t, os.CopyFS(p.before, os.DirFS(h.path("data"))))

	log := h.path("strace.log")
	h.under = crashtest.Command(strace, log)
	h.start()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for s := range cutSenders {
		wg.Go(func() {
			c, err := h.dial()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.quit()
			for n := s; n < cutLetters; n += cutSenders {
				if _, err := c.send("274990000000145@"+patientDomain, []string{p.addrs[n%len(p.addrs)]}, cutLetter(n, p.addrs)); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				p.answers = append(p.answers, answer{n, c.wire.LocalAddr().(*net.TCPAddr).Port, c.wire.read})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	must(t, h.stop())
	h.under = nil
	f, err := os.Open(log)
	must(t, err)
	defer f.Close()
	p.calls, err = crashtest.Parse(f)
	must(t, err)
	for n := range cutLetters {
		p.numbers[sha256.Sum256(cutLetter(n, p.addrs))] = n
	}
	after := filepath.Join(h.dir, "after") // looking at a store changes it
	must(t, os.CopyFS(after, os.DirFS(h.path("data"))))
	p.uids, err = p.letters(after, nil)
	must(t, err)
	if len(p.uids) != cutLetters || t.Failed() {
		t.Fatalf("%d letters of %d are there", len(p.uids), cutLetters)
	}
}

type cutState struct {
	state crashtest.State
	acked map[int]bool
}

// replay tries the states, and yields some of those it tried.
func (p *powerCut) replay(share uint64, lots, samples int, forget func(call, path string) bool) (kept []cutState, err error) {
	d := crashtest.NewDisk(p.h.path("data"))
	if err := d.Load(p.before); err != nil {
		return nil, err
	}
	d.Forget = forget
	rng := rand.New(rand.NewPCG(3, 4))
	sent := map[int]int64{} // octets written to each connection
	acked := map[int]bool{}
	seen := map[[32]byte]int{}
	jobs := make(chan cutState, 16)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for j := range jobs {
				p.try(j)
			}
		})
	}
	count := 0
	err = d.Replay(p.calls, func(o crashtest.Output) {
		sent[o.Port] += int64(len(o.Data))
		for _, a := range p.answers {
			if a.port == o.Port && sent[o.Port] >= a.octets && !acked[a.letter] {
				now := map[int]bool{a.letter: true}
				for n := range acked {
					now[n] = true
				}
				acked = now
			}
		}
	}, func() error {
		d.States(rng, lots, func(s crashtest.State) {
			sum := s.Hash()
			if n, again := seen[sum]; again && n == len(acked) {
				return
			}
			seen[sum] = len(acked)
			if count++; uint64(count)%share != 0 {
				return
			}
			j := cutState{s, acked}
			if i := rng.IntN(count); i < samples { // a sample of all of them
				if len(kept) < samples {
					kept = append(kept, j)
				} else {
					kept[i] = j
				}
			}
			jobs <- j
		})
		return nil
	})
	close(jobs)
	wg.Wait()
	if err != nil {
		return nil, err
	}
	if len(acked) != cutLetters {
		return nil, fmt.Errorf("the trace has %d of %d answers", len(acked), cutLetters)
	}
	if forget == nil {
		if err := d.Same(p.h.path("data")); err != nil {
			return nil, fmt.Errorf("the model is not the disk: %w", err)
		}
	}
	return kept, nil
}

func (p *powerCut) try(j cutState) {
	top := ""
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		top = "/dev/shm"
	}
	dir, err := os.MkdirTemp(top, "mssd-cut-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = j.state.Write(dir)
	}
	if err == nil {
		_, err = p.letters(dir, j.acked)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried[j.state.Class]++
	if err != nil {
		if p.lost++; p.lost == 1 {
			p.first = fmt.Errorf("%s, %d letters acknowledged: %w", j.state.Class, len(j.acked), err)
		}
	}
}

// letters opens the store in a directory and finds the letters in it: those acknowledged, under the UIDs that they have at
// the end of the run, and no other message than what was sent, each once.
func (p *powerCut) letters(dir string, acked map[int]bool) (uids map[int]store.UID, err error) {
	s, err := store.Open(store.Options{Dir: dir, NoSync: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	problems, err := s.Check(context.Background())
	if err != nil || len(problems) > 0 {
		return nil, fmt.Errorf("check: %v %w", problems, err)
	}
	uids = map[int]store.UID{}
	for _, b := range s.BALs() {
		in, err := s.Mailbox(b.ID, "INBOX")
		if err != nil {
			return nil, err
		}
		var failed error
		if err := s.Rows(context.Background(), in.Ref, []store.Run{{First: 1, Count: ^uint32(0)}}, func(r store.Row) bool {
			n, err := p.letterOf(s, b.ID, r.Message)
			if _, twice := uids[n]; twice && err == nil {
				err = fmt.Errorf("letter %d is there twice", n)
			}
			uids[n] = r.UID
			failed = err
			return err == nil
		}); err != nil || failed != nil {
			return nil, errors.Join(err, failed)
		}
	}
	for n := range acked {
		if uid, there := uids[n]; !there || uid != p.uids[n] {
			return nil, fmt.Errorf("letter %d was acknowledged: there %v, UID %d, want %d", n, there, uid, p.uids[n])
		}
	}
	return uids, nil
}

func (p *powerCut) letterOf(s *store.Store, bal store.BALID, id store.MessageID) (int, error) {
	c, err := s.OpenMessage(bal, id)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	b := make([]byte, c.BlobSize())
	if n, err := c.ReadAt(b, int64(len(c.Prefix()))); n != len(b) {
		return 0, err
	}
	n, ok := p.numbers[sha256.Sum256(b)]
	if !ok {
		return 0, fmt.Errorf("message %s is none of the letters", id)
	}
	return n, nil
}

// restart starts the daemon on disks that a crash left; the senders send again what they saw no 250 for.
func (p *powerCut) restart(states []cutState) {
	t, h := p.t, p.h
	for _, j := range states {
		must(t, os.RemoveAll(h.path("data")))
		must(t, os.Mkdir(h.path("data"), 0o700))
		must(t, j.state.Write(h.path("data")))
		h.start()
		c, err := h.dial()
		must(t, err)
		for n := range cutLetters {
			if j.acked[n] {
				continue
			}
			if _, err := c.send("274990000000145@"+patientDomain, []string{p.addrs[n%len(p.addrs)]}, cutLetter(n, p.addrs)); err != nil {
				t.Fatalf("letter %d sent again: %v", n, err)
			}
		}
		c.quit()
		for i, a := range p.addrs {
			got := fetchHashes(t, h, p.users[a][0], p.users[a][1])
			for n := i; n < cutLetters; n += len(p.addrs) {
				if sum := sha256.Sum256(cutLetter(n, p.addrs)); got[sum] != 1 {
					t.Errorf("letter %d is there %d times after %d answers and a power cut (%s)", n, got[sum], len(j.acked), j.state.Class)
				}
			}
		}
		must(t, h.stop())
	}
	t.Logf("the daemon started on %d of the disks; what got no 250 was sent again, each letter is there once", len(states))
}

// needStrace finds strace, and skips the test where processes may not be traced.
func needStrace(t *testing.T) string {
	t.Helper()
	p := need(t, "strace")
	if why := crashtest.Forbidden(p); why != "" {
		t.Skip("processes may not be traced here (a container without the right): " + why)
	}
	return p
}
