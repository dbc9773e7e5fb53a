package imapd

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/tls"
	"crypto/x509"

	"mssd/store"
)

// copies makes a mailbox with n messages, which are those of another one over and over.
func (w *world) copies(from, to string, n int) {
	w.t.Helper()
	if _, err := w.store.Mailbox(w.bal.ID, to); err != nil {
		w.commit(createOp(w, to))
	}
	src, dst := w.box(from), w.box(to).Ref
	for n > 0 {
		k := min(n, int(src.Messages))
		w.commit(store.Copy{From: src.Ref, Runs: []store.Run{{First: 1, Count: uint32(k)}}, To: dst})
		n -= k
	}
}

// BenchmarkPoll: what a client does that asks again every minute, on 50,000 messages (at most 10 ms: issue 6).
func BenchmarkPoll(b *testing.B) {
	w := benchWorld(b)
	w.fill("S", 1000, 2000)
	w.copies("S", "B", 50_000)
	s := w.login(ownerName, "").forBench()
	since := time.Now().Add(-24 * time.Hour).Format("2-Jan-2006")
	for _, c := range []struct{ name, before string }{
		{"all-unseen", "NOOP"},
		{"ten-unseen", `UID STORE 1:49990 +FLAGS.SILENT (\Seen)`},
	} {
		s.pipe(b, "SELECT B")
		s.pipe(b, c.before)
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				s.pipe(b, "STATUS B (MESSAGES UNSEEN UIDNEXT UIDVALIDITY)")
				s.pipe(b, "EXAMINE B")
				s.pipe(b, "UID SEARCH UNSEEN SINCE "+since)
				s.pipe(b, "CLOSE")
			}
		})
	}
}

// BenchmarkChange: STORE, COPY and MOVE of one message each, durable, by one session and by ten with a mailbox each.
func BenchmarkChange(b *testing.B) {
	const sessions = 10
	for _, cmd := range []string{"STORE", "COPY", "MOVE"} {
		for _, n := range []int{1, sessions} {
			b.Run(fmt.Sprintf("%s/%d", cmd, n), func(b *testing.B) {
				w := newWorldOn(b, func(s *Server) { s.Log = slog.New(slog.DiscardHandler) }, store.Options{})
				w.fill("S", 100, 2000)
				w.commit(createOp(w, "T"))
				var ss []*session
				for i := range n {
					w.copies("S", fmt.Sprint("M", i), 1000)
					ss = append(ss, w.login(ownerName, fmt.Sprint("M", i)).forBench())
				}
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ResetTimer()
				var wg sync.WaitGroup
				for k, s := range ss {
					wg.Go(func() {
						for i := 0; left.Add(-1) >= 0; i++ {
							switch {
							case cmd == "STORE":
								s.pipe(b, fmt.Sprintf("UID STORE %d %cFLAGS.SILENT (\\Flagged)", i%1000+1, "+-"[i/1000%2]))
							case cmd == "COPY":
								s.pipe(b, fmt.Sprintf("UID COPY %d T", i%1000+1))
							default:
								if i > 0 && i%1000 == 0 {
									w.copies("S", fmt.Sprint("M", k), 1000)
									s.pipe(b, "NOOP")
								}
								s.pipe(b, fmt.Sprintf("UID MOVE %d T", i+1))
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

// The idlers of BenchmarkIdlers: issue 6 wants at most 40 kB each, and a notice within 20 ms in 99 of 100 cases.
const (
	idlers       = 2000
	idleBoxes    = 100 // a mailbox of 1,000 messages for 20 of them
	idleServer   = "MSSD_IDLE_SERVER"
	idleMessages = 1000
)

// TestIdleServer is the server of BenchmarkIdlers, in a process of its own: its memory is that of a server, without the
// other ends of its connections. It does what lines on its standard input say, and is nothing where nobody asks for it.
func TestIdleServer(t *testing.T) {
	if os.Getenv(idleServer) == "" {
		return
	}
	w := newWorld(t, func(s *Server) { s.Log, s.MaxConnsPerAddr = slog.New(slog.DiscardHandler), 2*idlers })
	w.fill("S", idleMessages, 500)
	for i := range idleBoxes {
		w.copies("S", fmt.Sprint("B", i), idleMessages)
	}
	fmt.Println(w.addr, w.ca)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, box, _ := strings.Cut(in.Text(), " ")
		if verb == "deliver" {
			w.deliver(box, mail)
			fmt.Println(time.Now().UnixNano()) // 250 is said now
			continue
		}
		debug.FreeOSMemory() // as the runtime does by itself when nothing happens for some minutes
		fmt.Println("settled")
	}
}

// idleProcess is the other process.
type idleProcess struct {
	cmd  *exec.Cmd
	in   io.Writer
	out  *bufio.Scanner
	addr string
	tls  *tls.Config
}

func startIdleServer(b *testing.B) *idleProcess {
	p := &idleProcess{cmd: exec.Command(os.Args[0], "-test.run", "^TestIdleServer$")}
	p.cmd.Env = append(os.Environ(), idleServer+"=1")
	in := must[io.WriteCloser](b, "stdin")(p.cmd.StdinPipe())
	out := must[io.ReadCloser](b, "stdout")(p.cmd.StdoutPipe())
	p.in, p.out = in, bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = p.cmd.Wait()
	})
	addr, ca, _ := strings.Cut(p.say(b, ""), " ")
	pem := must[[]byte](b, "authority")(os.ReadFile(ca))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	p.addr, p.tls = addr, &tls.Config{RootCAs: pool, ServerName: "localhost"}
	return p
}

// say gives the process a line, "" none, and returns its answer.
func (p *idleProcess) say(b *testing.B, line string) string {
	b.Helper()
	if line != "" {
		fmt.Fprintln(p.in, line)
	}
	if !p.out.Scan() {
		b.Fatalf("the server's process ended: %v", p.out.Err())
	}
	return p.out.Text()
}

// pss is what the process holds of the memory, kB, pages that are shared in proportion.
func (p *idleProcess) pss(b *testing.B) float64 {
	b.Helper()
	text := must[[]byte](b, "smaps_rollup")(os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid)))
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			return must[float64](b, "Pss")(strconv.ParseFloat(f[1], 64))
		}
	}
	b.Fatal("no Pss")
	return 0
}

// BenchmarkIdlers: 2,000 TLS sessions in IDLE on mailboxes of 1,000 messages. What each costs the server's process, at once
// (kB-at-once) and when it has settled (kB/session); and how long after a delivery is acknowledged its 20 idlers have
// read of it. The same of sessions that wait between commands, after NOTIFY for two mailboxes.
func BenchmarkIdlers(b *testing.B) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		b.Skip("no /proc/self/smaps_rollup")
	}
	b.Run("idle", func(b *testing.B) { benchIdlers(b, "IDLE") })
	b.Run("notify", func(b *testing.B) {
		benchIdlers(b, "NOTIFY SET (SELECTED (MessageNew MessageExpunge)) (MAILBOXES INBOX (MessageNew MessageExpunge))")
	})
}

func benchIdlers(b *testing.B, wait string) {
	for b.Loop() {
		p := startIdleServer(b)
		p.say(b, "settle")
		before := p.pss(b)
		heard := make(chan time.Time, idlers)
		watching := p.idle(b, wait, heard)
		atOnce := p.pss(b)
		p.say(b, "settle")
		b.ReportMetric((p.pss(b)-before)/idlers, "kB/session")
		b.ReportMetric((atOnce-before)/idlers, "kB-at-once")
		var took []time.Duration
		for range 200 {
			box := rand.IntN(idleBoxes)
			said := must[int64](b, "time")(strconv.ParseInt(p.say(b, fmt.Sprint("deliver B", box)), 10, 64))
			for range idlers / idleBoxes {
				took = append(took, (<-heard).Sub(time.Unix(0, said)))
			}
		}
		slices.Sort(took)
		b.ReportMetric(max(0, took[len(took)/2].Seconds()*1000), "notice-p50-ms")
		b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "notice-p99-ms")
		for _, c := range watching {
			c.Close()
		}
	}
}

// idle opens the sessions, each of which waits with a command; heard gets a time for each EXISTS that comes.
func (p *idleProcess) idle(b *testing.B, wait string, heard chan<- time.Time) (open []io.Closer) {
	for i := range idlers {
		nc, err := tls.Dial("tcp", p.addr, p.tls)
		if err != nil {
			b.Fatal(err)
		}
		s := newSession(b, nc)
		s.line()
		s.ok(`LOGIN "` + ownerName + `" "` + password + `"`)
		s.ok(fmt.Sprint("SELECT B", i%idleBoxes))
		s.send("i " + wait + "\r\n")
		s.line()
		s.forBench()
		s.br = bufio.NewReaderSize(nc, 512)
		open = append(open, nc)
		go func() {
			for {
				l, err := s.br.ReadSlice('\n')
				if err != nil {
					return
				}
				if strings.HasSuffix(string(l), "EXISTS\r\n") {
					heard <- time.Now()
				}
			}
		}()
	}
	return open
}
