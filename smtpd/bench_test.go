package smtpd

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mssd/store"
)

// benchMessage has a text and, above 5 KB, a PDF of random octets in base64.
func benchMessage(size int) []byte {
	var b bytes.Buffer
	b.WriteString("From: <" + patient + ">\r\nTo: <" + pharmacy + ">\r\nSubject: Ordonnance\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n" +
		strings.Repeat("Bonjour, voici une ordonnance a preparer pour ce soir.\r\n", 20) +
		"--b\r\nContent-Type: application/pdf; name=o.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	raw := make([]byte, 57)
	r := rand.New(rand.NewPCG(1, 2))
	for b.Len() < size-10 {
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(raw) + "\r\n")
	}
	b.WriteString("--b--\r\n")
	return b.Bytes()
}

// BenchmarkDeliver is the whole path on a real store: TLS on, kept connections, mutual certificates.
// cpu-ms/msg counts client and server.
func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{5_000, 200_000} {
		for _, senders := range []int{1, 50} {
			for _, how := range []string{"DATA", "BDAT"} {
				b.Run(fmt.Sprintf("%dKB/senders=%d/%s", size/1000, senders, how), func(b *testing.B) {
					benchDeliver(b, benchMessage(size), senders, how)
				})
			}
		}
	}
}

func benchDeliver(b *testing.B, msg []byte, senders int, how string) {
	w := newWorld(b, func(s *Server) { s.Log = slog.New(slog.DiscardHandler) })
	ops := []store.Op{}
	for i := range senders {
		ops = append(ops, store.PutBAL{Create: true, BAL: store.BAL{Address: store.Address(fmt.Sprintf("p%d@officine.test", i)),
			Kind: store.ORG, State: store.Active, Listing: store.Published}})
	}
	must(w.store.Commit(b.Context(), &store.Batch{Ops: ops}))(b)
	peers := make([]*peer, senders)
	for i := range peers {
		peers[i] = w.secure("patient")
		_ = peers[i].conn.SetDeadline(time.Now().Add(10 * time.Minute))
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	b.SetBytes(int64(len(msg)))
	cpu := cpuTime()
	b.ResetTimer()
	for i, p := range peers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				benchOne(b, p, msg, fmt.Sprintf("p%d@officine.test", i), n, how)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric((cpuTime()-cpu).Seconds()*1000/float64(b.N), "cpu-ms/msg")
	for _, p := range peers {
		p.cmd("QUIT", "221")
	}
}

func benchOne(b *testing.B, p *peer, msg []byte, to string, n int64, how string) {
	head := fmt.Sprintf("Message-ID: <%d@patient.mssante.test>\r\n", n)
	envelope := "MAIL FROM:<" + patient + ">\r\nRCPT TO:<" + to + ">\r\n"
	bw := bufio.NewWriterSize(p.conn, 16<<10)
	if how == "DATA" {
		bw.WriteString(envelope + "DATA\r\n")
		bw.Flush()
	} else {
		fmt.Fprintf(bw, "%sBDAT %d LAST\r\n", envelope, len(head)+len(msg))
	}
	if how == "DATA" {
		for _, want := range []string{"250", "250", "354"} {
			p.expect(want)
		}
	}
	bw.WriteString(head)
	bw.Write(msg)
	if how == "DATA" {
		bw.WriteString(".\r\n")
	}
	bw.Flush()
	if how == "BDAT" {
		p.expect("250")
		p.expect("250")
	}
	p.expect("250 2.0.0")
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
