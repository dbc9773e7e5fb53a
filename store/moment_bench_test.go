package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// BenchmarkMoment takes a moment of a large store while ten writers deliver 5 KB, and says what the deliveries notice:
// their 50th and 99th percentile and the longest, before and during, how long the copy took, and how much index.db grew.
// MSSD_BENCH_ROWS rows (1,000,000 by default) are in the index, with as much trace as they would have.
func BenchmarkMoment(b *testing.B) {
	rows := 1_000_000
	if s := os.Getenv("MSSD_BENCH_ROWS"); s != "" {
		var err error
		if rows, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	dir := filepath.Join(b.TempDir(), "store")
	fillStore(b, dir, rows)
	s, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	bal, err := s.BAL("grande@bench.test")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		d := deliverAll(b, s, bal.ID, 10)
		time.Sleep(3 * time.Second)
		before := d.cut()
		grown := fileSize(b, filepath.Join(dir, "index.db"))
		began := time.Now()
		m, err := s.Moment(context.Background(), nil)
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		during := d.cut()
		grown = fileSize(b, filepath.Join(dir, "index.db")) - grown
		d.stop()
		b.Logf("%d rows, index %d MiB: copied in %v, index.db grew by %d MiB", rows, m.IndexSize>>20, took.Round(time.Millisecond), grown>>20)
		b.Logf("before: %s", describe(before))
		b.Logf("during: %s", describe(during))
		b.ReportMetric(float64(percentile(during, 99))/1e6, "p99-ms")
		b.ReportMetric(took.Seconds(), "copy-s")
		m.Close()
	}
}

func fileSize(t testing.TB, path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	if len(d) == 0 {
		return 0
	}
	return d[(len(d)-1)*p/100]
}

func describe(d []time.Duration) string {
	return fmt.Sprintf("%d deliveries, p50 %v, p99 %v, longest %v", len(d), percentile(d, 50).Round(10*time.Microsecond),
		percentile(d, 99).Round(10*time.Microsecond), percentile(d, 100).Round(10*time.Microsecond))
}

// fillStore makes a store with one large mailbox and a trace.
func fillStore(b *testing.B, dir string, rows int) {
	s, err := store.Open(store.Options{Dir: dir, Create: true, NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	bal := storetest.AddBAL(b, s, "grande@bench.test", store.ORG)
	storetest.Deliver(b, s, bal.ID, "From: a@b.test\r\n\r\nx\r\n")
	inbox, err := s.Mailbox(bal.ID, "INBOX")
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for have := 1; have < rows; {
		n := min(have, rows-have, 100_000)
		if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.Copy{From: inbox.Ref, To: inbox.Ref, Runs: []store.Run{{First: 1, Count: uint32(n)}}}}}); err != nil {
			b.Fatal(err)
		}
		have += n
	}
	fill := strings.Repeat("1", 500)
	for range rows / 1000 {
		batch := &store.Batch{}
		for range 1000 {
			batch.Events = append(batch.Events, trace.Event{Kind: trace.Fetched, BAL: "grande@bench.test", UIDs: fill})
		}
		if _, err := s.Commit(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if f, err := os.Open(filepath.Join(dir, "index.db")); err == nil {
		f.Sync()
		f.Close()
	}
}

// deliveries go on until stop and note how long each took.
type deliveries struct {
	mu   sync.Mutex
	took []time.Duration
	quit chan struct{}
	wg   sync.WaitGroup
}

func (d *deliveries) cut() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.took
	d.took = nil
	return t
}

func (d *deliveries) stop() { close(d.quit); d.wg.Wait() }

func deliverAll(b *testing.B, s *store.Store, bal store.BALID, writers int) *deliveries {
	raw := "From: a@b.test\r\n\r\n" + strings.Repeat("Une ligne de la lettre, toujours la meme.\r\n", 120)
	d := &deliveries{quit: make(chan struct{})}
	for range writers {
		d.wg.Go(func() {
			for {
				select {
				case <-d.quit:
					return
				default:
				}
				began := time.Now()
				storetest.Deliver(b, s, bal, raw)
				d.mu.Lock()
				d.took = append(d.took, time.Since(began))
				d.mu.Unlock()
			}
		})
	}
	return d
}
