package store_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mssd/store/crashtest"
)

// TestPowerCutTwice starts the store on disks that a power cut left, under strace, and cuts the power in that start too.
func TestPowerCutTwice(t *testing.T) {
	table := crashtest.Table{}
	for _, name := range []string{"deliver in groups", "BALs", "expunged mail, sweep", "destruction of a BAL"} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			x := newExplorer(t, name)
			x.keep = 1
			if crashLong {
				x.keep = 25
			}
			x.lots, x.share = 4, max(x.share, 2)
			x.explore(nil)
			x.tried, x.share, x.keep = map[crashtest.Class]int{}, max(1, x.share/4), 0
			for _, j := range x.sample {
				x.again(j)
			}
			if x.failed > 0 {
				t.Errorf("%d states lost something; the first: %s", x.failed, x.failure)
			}
			table.Add(fmt.Sprintf("%s, then in the next start (%d disks)", name, len(x.sample)), x.tried, x.failed)
		})
	}
	t.Logf("second power cuts, states tried:\n%s", table)
}

// again starts the store on a disk and tries what a power cut in this start leaves.
func (x *explorer) again(first job) {
	t := x.t
	top := t.TempDir()
	root := filepath.Join(top, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := first.state.Write(root); err != nil {
		t.Fatal(err)
	}
	d := crashtest.NewDisk(root)
	if err := d.Load(root); err != nil {
		t.Fatal(err)
	}
	calls := runTraced(t, filepath.Join(top, "log"), os.Args[0], crashWord, "next start", "0", filepath.Join(root, "s"), filepath.Join(top, "ledger"))
	x.seen = map[[40]byte]bool{}
	jobs := make(chan job, 64)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for j := range jobs {
				x.try(j)
			}
		})
	}
	rng := rand.New(rand.NewPCG(5, 6))
	err := d.Replay(calls, nil, func() error {
		d.States(rng, x.lots, func(s crashtest.State) { x.offer(s, first.pos, jobs) })
		return nil
	})
	close(jobs)
	wg.Wait()
	if err == nil {
		err = d.Same(root)
	}
	if err != nil {
		t.Fatal(err)
	}
}
