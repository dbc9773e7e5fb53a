package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"mssd/store/crashtest"
)

const crashWord = "crash-child" // first argument of the process that runs a scenario

// crashLong is set by `make crash`: all states that were made, not a share of them.
var crashLong = os.Getenv("MSSD_CRASH_ROUNDS") != ""

// position is how far a scenario had come at the moment of a power cut, as its clients know.
type position struct {
	Begun, Done int             // steps, by number; -1 none
	Acked       map[string]bool // "step mail" acknowledged
}

func (p *position) hear(line string) error {
	var n, i int
	switch {
	case sscan(line, "S %d\n", &n):
		p.Begun = n
	case sscan(line, "D %d\n", &n):
		p.Done = n
	case sscan(line, "A %d %d\n", &n, &i):
		p.Acked[ackKey(n, i)] = true
	default:
		return fmt.Errorf("scenario says %q", line)
	}
	return nil
}

func sscan(s, format string, to ...any) bool {
	n, err := fmt.Sscanf(s, format, to...)
	return err == nil && n == len(to)
}

func ackKey(step, mail int) string { return fmt.Sprint(step, mail) }

// key tells positions apart.
func (p *position) key() string { return fmt.Sprint(p.Begun, p.Done, len(p.Acked)) }

// job is one state to try at a position.
type job struct {
	state crashtest.State
	pos   position
}

// explorer tries the states of one scenario.
type explorer struct {
	t        *testing.T
	scenario string
	ledger   crashLedger
	share    uint64 // one in so many of the states is tried
	spoilt   bool   // something was taken out: try states in a process of their own, until one fails
	lots     int    // states of each class that is drawn by lot, at a moment
	keep     int    // so many of the states that lost something are kept in sample
	sample   []job
	offered  int

	mu      sync.Mutex
	tried   map[crashtest.Class]int
	seen    map[[40]byte]bool
	failed  int
	failure string // the first
}

// TestPowerCut cuts the power at each boundary of each system call of each scenario. What stands in the table that it
// prints is in docs/durability.md.
func TestPowerCut(t *testing.T) {
	table := crashtest.Table{}
	for _, name := range crashOrder[:few(len(crashOrder))] {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			x := newExplorer(t, name)
			x.explore(nil)
			if x.failed > 0 {
				t.Errorf("%d states lost something; the first: %s", x.failed, x.failure)
			}
			table.Add(name, x.tried, x.failed)
		})
	}
	t.Logf("power cuts, states tried:\n%s", table)
}

// few is how many of n cases are tried: under the race detector, which has nothing to find here, the first two. `make test`
// runs all of them without it.
func few(n int) int {
	if raceDetector {
		return 2
	}
	return n
}

func newExplorer(t *testing.T, scenario string) *explorer {
	x := &explorer{t: t, scenario: scenario, share: 4, lots: 6, tried: map[crashtest.Class]int{}, seen: map[[40]byte]bool{}}
	switch {
	case crashLong:
		x.share, x.lots = 1, 100
	case raceDetector:
		x.share = 20
	}
	return x
}

// explore runs the scenario under strace and tries the states of its last phase. spoil, for tests of this test, changes
// what is replayed.
func (x *explorer) explore(spoil spoiler) {
	t := x.t
	top := t.TempDir()
	dir, ledger := filepath.Join(top, "root", "s"), filepath.Join(top, "ledger")
	if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	var traces [][]*crashtest.Call
	for phase := range crashScenarios[x.scenario] {
		traces = append(traces, runTraced(t, filepath.Join(top, "log"), os.Args[0], crashWord, x.scenario, fmt.Sprint(phase), dir, ledger))
	}
	b, err := os.ReadFile(ledger)
	if err == nil {
		err = json.Unmarshal(b, &x.ledger)
	}
	x.ledger.path = ledger
	if err != nil {
		t.Fatal(err)
	}
	jobs := make(chan job, 64)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for j := range jobs {
				x.try(j)
			}
		})
	}
	err = x.replay(filepath.Dir(dir), traces, spoil, jobs)
	close(jobs)
	wg.Wait()
	if err != nil && !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

var errEnough = errors.New("one is enough")

// runTraced runs a program under strace and reads the trace.
func runTraced(t *testing.T, log string, program ...string) []*crashtest.Call {
	t.Helper()
	line := crashtest.Command(needStrace(t), log, program...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Env = io.Discard, append(os.Environ(), quickEnd)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls, err := crashtest.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

func needStrace(t testing.TB) string {
	t.Helper()
	p, err := exec.LookPath("strace")
	if err == nil {
		if why := crashtest.Forbidden(p); why != "" {
			t.Skip("processes may not be traced here (a container without the right): " + why)
		}
		return p
	}
	if os.Getenv("CI") != "" {
		t.Fatal("strace is not installed; `make test` installs it")
	}
	t.Skip("strace is not installed; `make test` installs it")
	return ""
}

func (x *explorer) replay(root string, traces [][]*crashtest.Call, spoil spoiler, jobs chan job) error {
	d := crashtest.NewDisk(root)
	pos := position{Begun: -1, Done: -1, Acked: map[string]bool{}}
	rng := rand.New(rand.NewPCG(1, 2))
	var heard error
	for i, calls := range traces {
		last := i == len(traces)-1
		if last && spoil != nil {
			calls = spoil(d, calls)
		}
		err := d.Replay(calls, func(o crashtest.Output) {
			if o.FD == 1 {
				heard = errors.Join(heard, pos.hear(string(o.Data)))
			}
		}, func() error {
			if last {
				d.States(rng, x.lots, func(s crashtest.State) { x.offer(s, pos, jobs) })
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.spoilt && x.failed > 0 {
				return errEnough
			}
			return heard
		})
		if err != nil {
			return err
		}
	}
	if spoil != nil {
		return nil
	}
	if err := d.Same(root); err != nil {
		return fmt.Errorf("the model is not the disk: %w", err)
	}
	if pos.Done != len(x.ledger.Steps)-1 {
		return fmt.Errorf("%d of %d steps are in the trace", pos.Done+1, len(x.ledger.Steps))
	}
	return nil
}

// offer hands a state over that was not tried at this position before.
func (x *explorer) offer(s crashtest.State, pos position, jobs chan job) {
	var k [40]byte
	sum := s.Hash()
	copy(k[:], sum[:])
	h := fnv.New64a()
	io.WriteString(h, pos.key())
	h.Sum(k[:32])
	h.Write(sum[:])
	x.mu.Lock()
	again := x.seen[k]
	x.seen[k] = true
	x.mu.Unlock()
	if again || h.Sum64()%x.share != 0 {
		return
	}
	pos.Acked = maps.Clone(pos.Acked)
	j := job{s, pos}
	if s.Class != crashtest.Kept && s.Class != crashtest.Synced {
		if x.offered++; len(x.sample) < x.keep {
			x.sample = append(x.sample, j)
		} else if i := h.Sum64() / x.share % uint64(x.offered); i < uint64(x.keep) {
			x.sample[i] = j
		}
	}
	jobs <- j
}

// try opens the store on a disk as a crash left it.
func (x *explorer) try(j job) {
	dir, err := os.MkdirTemp(scratch(), "mssd-crash-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = j.state.Write(dir)
	}
	if err == nil {
		compare := x.ledger.compare
		if x.spoilt {
			compare = x.ledger.compareOutside
		}
		err = compare(filepath.Join(dir, "s"), &j.pos)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tried[j.state.Class]++
	if err != nil {
		x.failed++
		if x.failure == "" {
			x.failure = fmt.Sprintf("%s, step %d begun, %d done, %v on the disk: %v", j.state.Class, j.pos.Begun, j.pos.Done, j.state.Files(), err)
		}
	}
}

// scratch is a directory in memory where there is one: states are many and short-lived.
func scratch() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return ""
}
