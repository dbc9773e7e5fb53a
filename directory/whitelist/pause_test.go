package whitelist

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkReloadRealList puts the real list in force again and again, while one goroutine asks questions without a break: how long
// a reload takes, disk included, and how long the slowest questions wait for it.
func BenchmarkReloadRealList(b *testing.B) {
	doc := realList(b)
	k, err := NewKeeper(KeeperConfig{StateDir: b.TempDir(), NoListYet: true, Load: Options{NoChain: true}})
	if err != nil {
		b.Fatal(err)
	}
	if err := k.take(doc, held{proven: time.Now()}, true); err != nil {
		b.Fatal(err)
	}
	d := dn(b, "CN=smtps2.ens.atos-infogerance.fr,OU=318003502400041,O=CNAM,ST=Paris (75),C=FR")
	stop := make(chan struct{})
	var waits []time.Duration
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond): // a busy loop would measure the scheduler
			}
			began := time.Now()
			if a := k.Judge(b.Context(), "patient.mssante.fr", d, began); a != Bound {
				b.Errorf("%v", a)
				return
			}
			waits = append(waits, time.Since(began))
		}
	})
	for b.Loop() {
		if err := k.take(doc, held{proven: time.Now()}, true); err != nil {
			b.Fatal(err)
		}
	}
	close(stop)
	asking.Wait()
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "µs/question(p99)")
	b.ReportMetric(float64(waits[len(waits)-1].Microseconds()), "µs/question(max)")
}
