package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// document is an invented mail of about n octets with a document in base64, which hardly packs.
func document(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	pdf := make([]byte, n*3/4)
	for i := range pdf {
		pdf[i] = byte(r.Uint32())
	}
	text := base64.StdEncoding.EncodeToString(pdf)
	var b bytes.Buffer
	b.WriteString("From: Labo <labo@operator.example>\r\nTo: <pharmacie@bal.example>\r\nSubject: compte rendu\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for len(text) > 0 && b.Len() < n {
		k := min(76, len(text))
		b.WriteString(text[:k] + "\r\n")
		text = text[k:]
	}
	return b.Bytes()
}

// flushes is how many flushes the disk under a directory has done, for whomever; -1 where the kernel does not say.
func flushes(dir string) int64 {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return -1
	}
	major, minor := st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00
	b, _ := os.ReadFile("/proc/diskstats")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 18 && f[0] == fmt.Sprint(major) && f[1] == fmt.Sprint(minor) {
			var n int64
			fmt.Sscan(f[18], &n)
			return n
		}
	}
	return -1
}

// slowFS makes each sync take longer.
type slowFS struct {
	store.FileSystem
	more time.Duration
}

func (x slowFS) SyncDir(p string) error { time.Sleep(x.more); return x.FileSystem.SyncDir(p) }
func (x slowFS) SyncAll() error         { time.Sleep(x.more); return x.FileSystem.SyncAll() }
func (x slowFS) Create(p string) (store.File, error) {
	f, err := x.FileSystem.Create(p)
	return slowFile{f, x.more}, err
}

type slowFile struct {
	store.File
	more time.Duration
}

func (f slowFile) Sync() error { time.Sleep(f.more); return f.File.Sync() }

// BenchmarkSlowSync delivers 5 KB on a disk where each sync takes 1 ms more: a commit of the index has two. The ratio of
// 50 writers to one shows how well commits are shared.
func BenchmarkSlowSync(b *testing.B) {
	var one float64
	for _, writers := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("%dwriters", writers), func(b *testing.B) {
			const more = time.Millisecond
			s, err := store.OpenWith(store.Options{Dir: filepath.Join(b.TempDir(), "s"), Create: true},
				func(f store.FileSystem) store.FileSystem { return slowFS{f, more} })
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			bal := storetest.AddBAL(b, s, "a@bal.example", store.ORG)
			in, _ := s.Mailbox(bal.ID, "INBOX")
			s.SetCommit(func(tx *bolt.Tx) error { time.Sleep(2 * more); return tx.Commit() })
			b.ResetTimer()
			deliverMany(b, s, []store.Mailbox{in}, mail(5<<10), writers)
			rate := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "msg/s")
			if writers == 1 {
				one = rate
			} else if one > 0 {
				b.ReportMetric(rate/one, "times-one")
			}
		})
	}
}

// deliverMany delivers b.N times.
func deliverMany(b *testing.B, s *store.Store, boxes []store.Mailbox, raw []byte, writers int) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := deliverOne(s, boxes[int(n)%len(boxes)], raw, n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkBodies reads sealed bodies of 282 KB: whole ones, and 64 KiB from anywhere.
func BenchmarkBodies(b *testing.B) {
	const n = 100
	s, err := store.Open(store.Options{Dir: filepath.Join(b.TempDir(), "s"), Create: true, NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	bal := storetest.AddBAL(b, s, "a@bal.example", store.ORG)
	raw := document(282 << 10)
	var ids []store.MessageID
	for range n {
		id, _ := storetest.Deliver(b, s, bal.ID, string(raw))
		ids = append(ids, id)
	}
	buf := make([]byte, 64<<10)
	b.Run("whole", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for i := 0; b.Loop(); i++ {
			c, err := s.OpenMessage(bal.ID, ids[i%n])
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{io.NewSectionReader(c, 0, c.Size())}, buf); err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("partial", func(b *testing.B) {
		r := rand.New(rand.NewPCG(3, 4))
		b.SetBytes(int64(len(buf)))
		for i := 0; b.Loop(); i++ {
			c, err := s.OpenMessage(bal.ID, ids[i%n])
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.ReadAt(buf, r.Int64N(c.Size()-int64(len(buf)))); err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
}

// BenchmarkOthersWait carries out one operation on 100,000 messages while ten writers deliver elsewhere, and says how
// long the longest delivery took.
func BenchmarkOthersWait(b *testing.B) {
	const n = 100000
	all := []store.Run{{First: 1, Count: n}}
	for _, c := range []struct {
		name string
		do   func(s *store.Store, in, to store.Ref) error
	}{
		{"flags", commitOp(func(in, _ store.Ref) store.Op {
			return store.StoreFlags{Ref: in, Runs: all, Mode: store.Add, Flags: store.Deleted}
		})},
		{"copy", commitOp(func(in, to store.Ref) store.Op { return store.Copy{From: in, Runs: all, To: to} })},
		{"move", commitOp(func(in, to store.Ref) store.Op { return store.Move{From: in, Runs: all, To: to} })},
		{"rename-inbox", commitOp(func(in, _ store.Ref) store.Op { return store.RenameMailbox{Ref: in, To: "Autrefois"} })},
		{"delete", func(s *store.Store, in, to store.Ref) error {
			return s.DeleteMailbox(ctx, to, trace.Event{Kind: trace.Mailbox}, trace.Event{Kind: trace.Expunged})
		}},
		{"expunge", func(s *store.Store, in, _ store.Ref) error {
			if err := commitOp(func(in, _ store.Ref) store.Op {
				return store.StoreFlags{Ref: in, Runs: all, Mode: store.Add, Flags: store.Deleted}
			})(s, in, in); err != nil {
				return err
			}
			return s.Expunge(ctx, store.Expunge{Ref: in, Runs: all})
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				s, err := store.Open(store.Options{Dir: filepath.Join(b.TempDir(), "s"), Create: true})
				if err != nil {
					b.Fatal(err)
				}
				f := storetest.NewFilling(b, s, 2000)
				f.BALs(b, 0, 11, 0, nil)
				f.InBAL(b, "b000000@remplissage.example", n)
				var boxes []store.Mailbox
				for i := range 11 {
					bal, err := s.BAL(store.Address(fmt.Sprintf("b%06d@remplissage.example", i)))
					if err != nil {
						b.Fatal(err)
					}
					boxes = append(boxes, box(b, s, bal.ID, "INBOX"))
				}
				to := box(b, s, boxes[0].BAL, "Archive").Ref
				if c.name == "delete" { // INBOX stays
					do(b, s, store.Move{From: boxes[0].Ref, Runs: all, To: to})
				}
				ctx, cancel := context.WithCancel(ctx)
				var longest, count atomic.Int64
				var wg sync.WaitGroup
				for i := range 10 {
					wg.Go(func() {
						for k := int64(0); ctx.Err() == nil; k++ {
							start := time.Now()
							if err := deliverOne(s, boxes[i+1], mail(5<<10), k<<8|int64(i)); err != nil {
								b.Error(err)
								return
							}
							count.Add(1)
							for d := int64(time.Since(start)); ; {
								old := longest.Load()
								if d <= old || longest.CompareAndSwap(old, d) {
									break
								}
							}
						}
					})
				}
				time.Sleep(300 * time.Millisecond)
				quiet := longest.Swap(0)
				start := time.Now()
				b.StartTimer()
				if err := c.do(s, boxes[0].Ref, to); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(time.Since(start).Seconds()*1e3, "ms")
				cancel()
				wg.Wait()
				b.ReportMetric(float64(quiet)/1e6, "longest-before-ms")
				b.ReportMetric(float64(longest.Load())/1e6, "longest-delivery-ms")
				s.Close()
				b.StartTimer()
			}
		})
	}
}

func commitOp(op func(in, to store.Ref) store.Op) func(*store.Store, store.Ref, store.Ref) error {
	return func(s *store.Store, in, to store.Ref) error {
		_, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{op(in, to)}})
		return err
	}
}
