package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/mailfile"
	"mssd/store"
	"mssd/store/crashtest"
)

// importCut is what is known of an import into a daemon under strace.
type importCut struct {
	t      *testing.T
	h      *house
	source string
	before string   // the data directory before the import
	order  []string // the messages, in the order of their answers
	calls  []*crashtest.Call

	mu    sync.Mutex
	tried map[crashtest.Class]int
	lost  int
	first error
}

const importAddress = "pharmacie@test-officines.mssante.fr"

// importAnswer is what stands in each answer to a message of an import.
const importAnswer = `"outcome":"stored"`

// importKey is how a message of an import is told from others.
func importKey(mailbox string, seen bool, body []byte) string {
	return fmt.Sprintf("%s %v %x", mailbox, seen, sha256.Sum256(body))
}

// TestPowerCutImport runs the daemon under strace while mail is imported, and cuts the power at each boundary of each of
// its system calls. What the command was told is stored is there, once, in its mailbox, with its flag; beside it nothing
// but whole messages of the source. Some of the disks are given to the daemon: the same import again ends the work.
func TestPowerCutImport(t *testing.T) {
	strace := needStrace(t)
	share, lots, restarts := uint64(8), 4, 1
	if os.Getenv("MSSD_CRASH_ROUNDS") != "" {
		share, lots, restarts = 1, 60, 20
	}
	p := &importCut{t: t, h: newHouse(t, ""), source: filepath.Join(t.TempDir(), "mail"), tried: map[crashtest.Class]int{}}
	p.write(14)
	p.run(strace)
	states, err := p.replay(share, lots, restarts, nil)
	must(t, err)
	if p.lost > 0 {
		t.Errorf("%d states lost something; the first: %v", p.lost, p.first)
	}
	table := crashtest.Table{}
	table.Add("the daemon, bal import", p.tried, p.lost)
	t.Logf("power cuts, states tried:\n%s", table)
	p.again(states)

	// Without the syncs of the bodies the same must find that mail is lost.
	p.tried, p.lost = map[crashtest.Class]int{}, 0
	_, err = p.replay(8, 2, 0, func(_, path string) bool { return !strings.HasSuffix(path, ".db") })
	must(t, err)
	if p.lost == 0 {
		t.Errorf("with no body synced nothing was lost in %v states", p.tried)
	}
}

// write makes a Maildir with two mailboxes.
func (p *importCut) write(messages int) {
	t := p.t
	when := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range messages {
		dir := filepath.Join(p.source, []string{"cur", ".Patients.2024/cur"}[i%2])
		must(t, os.MkdirAll(dir, 0o700))
		name := filepath.Join(dir, fmt.Sprintf("%d.M1P1.test:2,%s", i, []string{"S", "", ""}[i%3]))
		must(t, os.WriteFile(name, letter(i, 300+i%4*30_000, "x@example.test"), 0o600))
		must(t, os.Chtimes(name, when, when))
	}
	src, err := mailfile.Open(p.source)
	must(t, err)
	defer src.Close()
	must(t, src.Each(func(m mailfile.Message, open func() (io.ReadCloser, error)) error {
		f, err := open()
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		p.order = append(p.order, importKey(m.Mailbox, strings.Contains(fmt.Sprint(m.Flags), "Seen"), b))
		return err
	}))
	if len(p.order) != messages {
		t.Fatalf("the source has %d messages", len(p.order))
	}
}

func (p *importCut) run(strace string) {
	t, h := p.t, p.h
	h.start("--create")
	h.addBAL(importAddress, "ORG")
	must(t, h.stop())
	p.before = filepath.Join(h.dir, "before")
	must(t, os.CopyFS(p.before, os.DirFS(h.path("data"))))
	log := h.path("strace.log")
	h.under = crashtest.Command(strace, log)
	h.start()
	if out, err := h.run("bal", "import", importAddress, p.source); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, h.stop())
	h.under = nil
	f, err := os.Open(log)
	must(t, err)
	defer f.Close()
	p.calls, err = crashtest.Parse(f)
	must(t, err)
	after := filepath.Join(h.dir, "after") // looking at a store changes it
	must(t, os.CopyFS(after, os.DirFS(h.path("data"))))
	must(t, p.look(after, len(p.order)))
}

type importState struct {
	state crashtest.State
	told  int // so many messages were answered
}

// replay tries the states, and yields some of those it tried.
func (p *importCut) replay(share uint64, lots, samples int, forget func(call, path string) bool) (kept []importState, err error) {
	d := crashtest.NewDisk(p.h.path("data"))
	if err := d.Load(p.before); err != nil {
		return nil, err
	}
	d.Forget = forget
	rng := rand.New(rand.NewPCG(7, 8))
	seen := map[[32]byte]int{}
	jobs := make(chan importState, 16)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for j := range jobs {
				p.try(j)
			}
		})
	}
	told, count := 0, 0
	err = d.Replay(p.calls, func(o crashtest.Output) {
		if o.Port == 0 {
			told += bytes.Count(o.Data, []byte(importAnswer))
		}
	}, func() error {
		d.States(rng, lots, func(s crashtest.State) {
			sum := s.Hash()
			if n, again := seen[sum]; again && n == told {
				return
			}
			seen[sum] = told
			if count++; uint64(count)%share != 0 {
				return
			}
			j := importState{s, told}
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
	if told != len(p.order) {
		return nil, fmt.Errorf("the trace has %d of %d answers", told, len(p.order))
	}
	if forget == nil {
		if err := d.Same(p.h.path("data")); err != nil {
			return nil, fmt.Errorf("the model is not the disk: %w", err)
		}
	}
	return kept, nil
}

func (p *importCut) try(j importState) {
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
		err = p.look(dir, j.told)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried[j.state.Class]++
	if err != nil {
		if p.lost++; p.lost == 1 {
			p.first = fmt.Errorf("%s, %d messages answered: %w", j.state.Class, j.told, err)
		}
	}
}

// look opens the store in a directory: the first messages of the source are there, and nothing but whole ones of it.
func (p *importCut) look(dir string, told int) (err error) {
	s, err := store.Open(store.Options{Dir: dir, NoSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if problems, err := s.Check(context.Background()); err != nil || len(problems) > 0 {
		return fmt.Errorf("check: %v %w", problems, err)
	}
	left := map[string]bool{}
	for _, k := range p.order {
		left[k] = true
	}
	bal, err := s.BAL(importAddress)
	if err != nil {
		return err
	}
	boxes, err := s.Mailboxes(bal.ID)
	if err != nil {
		return err
	}
	for _, m := range boxes {
		var rows []store.Row
		if !m.Created {
			continue
		}
		if err := s.Rows(context.Background(), m.Ref, []store.Run{{First: 1, Count: ^uint32(0)}}, func(r store.Row) bool { rows = append(rows, r); return true }); err != nil {
			return err
		}
		for _, r := range rows {
			c, err := s.OpenMessage(bal.ID, r.Message)
			if err != nil {
				return err
			}
			b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
			if err := errors.Join(err, c.Close()); err != nil {
				return err
			}
			k := importKey(m.Name, r.Flags&store.Seen != 0, b)
			if !left[k] {
				return fmt.Errorf("message %s in %s is there twice, or none of the source", r.Message, m.Name)
			}
			delete(left, k)
		}
	}
	for _, k := range p.order[:told] {
		if left[k] {
			return fmt.Errorf("%d messages were answered, one of them is not there", told)
		}
	}
	return nil
}

// again starts the daemon on disks that a crash left, and imports once more.
func (p *importCut) again(states []importState) {
	t, h := p.t, p.h
	for _, j := range states {
		must(t, os.RemoveAll(h.path("data")))
		must(t, os.Mkdir(h.path("data"), 0o700))
		must(t, j.state.Write(h.path("data")))
		h.start()
		if out, err := h.run("bal", "import", importAddress, p.source); err != nil {
			t.Errorf("again, after %d answers and a power cut: %v\n%s", j.told, err, out)
		}
		must(t, h.stop())
		must(t, p.look(h.path("data"), len(p.order)))
	}
	t.Logf("the daemon started on %d of the disks; after the same import again each message is there once", len(states))
}
