package imapd

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"mssd/store"
)

// BenchmarkAppend: letters of 4 KB (literals are sent without waiting), one by one and 20 in a command, from one session
// and from ten. The store waits for the disk, as in service.
func BenchmarkAppend(b *testing.B) {
	body := mail + strings.Repeat("Zeile und noch mehr davon, gut. \r\n", (4000-len(mail))/34)
	for _, sessions := range []int{1, 10} {
		for _, each := range []int{1, 20} {
			b.Run(fmt.Sprintf("sessions=%d/each=%d", sessions, each), func(b *testing.B) {
				w := newWorldOn(b, func(s *Server) { s.Log, s.MaxConnsPerAddr = slog.New(slog.DiscardHandler), 5000 }, store.Options{})
				var all []*session
				for range sessions {
					all = append(all, w.login(ownerName, "").forBench())
				}
				b.ResetTimer()
				var wg sync.WaitGroup
				for no, s := range all {
					wg.Go(func() {
						bodies := make([]string, each)
						for k := range (b.N + sessions - 1) / sessions {
							for i := range bodies {
								bodies[i] = fmt.Sprintf("Message-ID: <%d.%d.%d@exemple.test>\r\n", no, k, i) + body
							}
							s.pipe(b, multi("Archive", "", bodies...))
						}
					})
				}
				wg.Wait()
				n := (b.N + sessions - 1) / sessions * sessions * each
				if got := int(w.box("Archive").Messages); got < n {
					b.Fatalf("%d messages, want %d", got, n)
				}
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}
