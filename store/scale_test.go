package store_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mssd/store"
	"mssd/store/storetest"
)

// scaleDir is where a big store is made: in MSSD_SCALE_DIR, where it stays to be measured again, or in a directory of
// the test.
func scaleDir(b *testing.B, name string) string {
	if d := os.Getenv("MSSD_SCALE_DIR"); d != "" {
		return filepath.Join(d, name)
	}
	return filepath.Join(b.TempDir(), name)
}

// sizes are those of the list in MSSD_SCALE under a name, else def: MSSD_SCALE="bals=100,20000 messages=1000000".
func sizes(name string, def ...int) (list []int) {
	for _, f := range strings.Fields(os.Getenv("MSSD_SCALE")) {
		if v, ok := strings.CutPrefix(f, name+"="); ok {
			for _, n := range strings.Split(v, ",") {
				if i, err := strconv.Atoi(n); err == nil {
					list = append(list, i)
				}
			}
			return list
		}
	}
	return def
}

// BenchmarkScaleBALs makes a store with more and more BALs of 500 messages each, and measures it in a process of its
// own: open after a clean end and after a kill, memory, what sessions ask for, deliveries.
func BenchmarkScaleBALs(b *testing.B) {
	dir := scaleDir(b, "bals")
	for _, n := range sizes("bals", 100, 400) {
		b.Run(fmt.Sprintf("%dBALs", n), func(b *testing.B) {
			fillMore(b, dir, func(s *store.Store, f *storetest.Filling) {
				made := len(s.BALs()) - 1
				f.BALs(b, made, n-made, 500, func(_ string, done, total int64) { b.Logf("%d of %d BALs made", done, total) })
			})
			measure(b, dir, "b000000@remplissage.example")
		})
	}
}

// BenchmarkScaleMessages does the same with one BAL and more and more messages.
func BenchmarkScaleMessages(b *testing.B) {
	dir := scaleDir(b, "messages")
	for _, n := range sizes("messages", 1000, 10000) {
		b.Run(fmt.Sprintf("%dmessages", n), func(b *testing.B) {
			fillMore(b, dir, func(s *store.Store, f *storetest.Filling) {
				f.BALs(b, 0, 2-len(s.BALs()), 0, nil)
				bal, err := s.BAL("b000000@remplissage.example")
				if err != nil {
					b.Fatal(err)
				}
				f.InBAL(b, bal.Address, n-int(bal.Messages))
			})
			measure(b, dir, "b000000@remplissage.example")
		})
	}
}

func fillMore(b *testing.B, dir string, fill func(*store.Store, *storetest.Filling)) {
	b.Helper()
	s, err := store.Open(store.Options{Dir: dir, Create: true, NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	fill(s, storetest.NewFilling(b, s, 5000))
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(dir, "index.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(st.Size())/1e6, "index-MB")
}

// measure runs the child of scaleChild: clean, cold, killed, killed and cold.
func measure(b *testing.B, dir, addr string) {
	b.Helper()
	for range b.N {
		forgetCache(b, dir)
		report(b, "cold-", child(b, dir, addr, "open"))
		report(b, "", child(b, dir, addr, "all"))
		child(b, dir, addr, "kill")
		report(b, "killed-", child(b, dir, addr, "open"))
		child(b, dir, addr, "kill")
		forgetCache(b, dir)
		report(b, "killed-cold-", child(b, dir, addr, "open"))
	}
	b.ReportMetric(0, "ns/op")
}

func report(b *testing.B, prefix string, values map[string]float64) {
	for k, v := range values {
		b.ReportMetric(v, prefix+k)
	}
}

// forgetCache makes the kernel read the index from the disk again.
func forgetCache(b *testing.B, dir string) {
	f, err := os.Open(filepath.Join(dir, "index.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	_ = f.Sync()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}

// child opens the store in another process and yields what it measured; "kill" ends it by a kill.
func child(b *testing.B, dir, addr, what string) map[string]float64 {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MSSD_STORE_SCALE_CHILD="+dir, "MSSD_STORE_SCALE_ADDR="+addr, "MSSD_STORE_SCALE_WHAT="+what)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	values := map[string]float64{}
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		name, v, _ := strings.Cut(sc.Text(), " ")
		if name == "ready" {
			cmd.Process.Kill()
			break
		}
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			b.Fatalf("child: %s", sc.Text())
		}
		values[name] = f
	}
	if err := cmd.Wait(); err != nil && what != "kill" {
		b.Fatal(err)
	}
	return values
}

// scaleChild measures one store.
func scaleChild(dir string) {
	addr, what := store.Address(os.Getenv("MSSD_STORE_SCALE_ADDR")), os.Getenv("MSSD_STORE_SCALE_WHAT")
	if p := os.Getenv("MSSD_STORE_SCALE_PROFILE"); p != "" {
		f, err := os.Create(p)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			panic(err)
		}
	}
	start, used := time.Now(), cpu()
	s, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		panic(err)
	}
	pprof.StopCPUProfile()
	fmt.Println("open-ms", time.Since(start).Seconds()*1e3)
	fmt.Println("open-cpu-ms", float64(cpu()-used)/1e6)
	anon, all := rss()
	fmt.Println("anon-MB", anon)
	fmt.Println("rss-MB", all)
	bal, err := s.BAL(addr)
	if err != nil {
		panic(err)
	}
	in, err := s.Mailbox(bal.ID, "INBOX")
	if err != nil {
		panic(err)
	}
	switch what {
	case "select":
		askChild(s, in)
	case "kill":
		if _, err := tryDeliver(s, in.Ref, raw); err != nil {
			panic(err)
		}
		fmt.Println("ready")
		select {}
	case "all":
		askChild(s, in)
		deliverChild(s)
		_, all = rss()
		fmt.Println("after-rss-MB", all)
	}
	if err := s.Close(); err != nil {
		panic(err)
	}
	os.Exit(0)
}

// rss is the memory of this process, in MB: its own, and with the pages of files.
func rss() (anon, all float64) {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "RssAnon: %g", &kb); n == 1 {
			anon = kb / 1e3
		}
		if n, _ := fmt.Sscanf(line, "VmRSS: %g", &kb); n == 1 {
			all = kb / 1e3
		}
	}
	return anon, all
}

// askChild measures what sessions ask for.
func askChild(s *store.Store, in store.Mailbox) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	once := func(name string, fn func()) {
		start := time.Now()
		fn()
		fmt.Println(name, time.Since(start).Seconds()*1e6)
	}
	often := func(name string, fn func()) {
		const n = 1000
		start := time.Now()
		for range n {
			fn()
		}
		fmt.Println(name, time.Since(start).Seconds()*1e6/n)
	}
	sel := func() { _, err := s.Snapshot(in.Ref, true); must(err) }
	once("first-select-us", sel)
	often("select-us", sel)
	often("status-us", func() { _, err := s.Mailbox(in.BAL, "INBOX"); must(err) })
	often("fetch100-us", func() {
		must(s.Rows(ctx, in.Ref, []store.Run{{First: max(in.UIDNext, 101) - 100, Count: 100}}, func(store.Row) bool { return true }))
	})
	often("flag-us", func() {
		_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.StoreFlags{Ref: in.Ref, Runs: one(in.UIDNext / 2), Mode: store.Replace, Flags: store.Flag(time.Now().UnixNano() & 1)}}})
		must(err)
	})
}

// deliverChild measures deliveries of 5 KB to BALs all over the store.
func deliverChild(s *store.Store) {
	var boxes []store.Mailbox
	all := s.BALs()
	for i := 0; i < len(all); i += max(len(all)/200, 1) {
		m, err := s.Mailbox(all[i].ID, "INBOX")
		if err != nil {
			panic(err)
		}
		boxes = append(boxes, m)
	}
	body := mail(5 << 10)
	for _, writers := range []int{1, 10, 50} {
		var n atomic.Int64
		var wg sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		start := time.Now()
		for range writers {
			wg.Go(func() {
				for time.Since(start) < 2*time.Second {
					i := n.Add(1)
					at := time.Now()
					if err := deliverOne(s, boxes[int(i)%len(boxes)], body, i+int64(writers)<<24); err != nil {
						panic(err)
					}
					mu.Lock()
					took = append(took, time.Since(at))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		fmt.Printf("deliver%d/s %g\n", writers, float64(n.Load())/time.Since(start).Seconds())
		slices.Sort(took)
		fmt.Printf("deliver%d-p99-us %g\n", writers, took[len(took)*99/100].Seconds()*1e6)
	}
}
