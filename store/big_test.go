package store_test

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"mssd/store"
	"mssd/store/storetest"
)

// BenchmarkBigMailbox carries out one operation on 100,000 messages; everybody else waits that long.
func BenchmarkBigMailbox(b *testing.B) {
	const n = 100000
	all := []store.Run{{First: 1, Count: n}}
	for _, c := range []struct {
		name string
		ops  func(in, to store.Ref) []store.Op
	}{
		{"flags", func(in, _ store.Ref) []store.Op {
			return []store.Op{store.StoreFlags{Ref: in, Runs: all, Mode: store.Add, Flags: store.Seen}}
		}},
		{"expunge", func(in, _ store.Ref) []store.Op { return []store.Op{store.Expunge{Ref: in, Runs: all}} }},
		{"move", func(in, to store.Ref) []store.Op { return []store.Op{store.Move{From: in, Runs: all, To: to}} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s, err := store.Open(store.Options{Dir: filepath.Join(b.TempDir(), "s"), Create: true, NoSync: true})
				if err != nil {
					b.Fatal(err)
				}
				bal := storetest.AddBAL(b, s, "grand@bal.example", store.ORG)
				in, to := box(b, s, bal.ID, "Archive").Ref, box(b, s, bal.ID, "Trash").Ref
				for range n / 500 {
					batch := &store.Batch{}
					bl := storetest.NewBlob(b, s, raw)
					batch.Blob = bl
					for range 500 {
						batch.Ops = append(batch.Ops, store.AddMessage{Ref: in, Flags: store.Deleted, Delivery: true})
					}
					if _, err := s.Commit(ctx, batch); err != nil {
						b.Fatal(err)
					}
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				start := time.Now()
				b.StartTimer()
				do(b, s, c.ops(in, to)...)
				b.StopTimer()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/1e6, "MB")
				b.ReportMetric(time.Since(start).Seconds()*1e3, "ms")
				s.Close()
				b.StartTimer()
			}
		})
	}
}
