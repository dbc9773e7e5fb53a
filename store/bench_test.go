package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"mssd/message"
	"mssd/store"
	"mssd/store/storetest"
	"mssd/trace"
)

// mail is an invented message of about n octets.
func mail(n int) []byte {
	head := "From: Labo <labo@operator.example>\r\nTo: <pharmacie@bal.example>\r\nSubject: =?utf-8?q?r=C3=A9sultat?=\r\n" +
		"Message-ID: <a1@operator.example>\r\nDate: Mon, 1 Jun 2026 10:00:00 +0200\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
	line := []byte("Une ligne de texte sans importance pour remplir le message jusqu'au bout.\r\n")
	return append([]byte(head), bytes.Repeat(line, max(n-len(head), 0)/len(line)+1)...)
}

// countingFS counts the syncs of bodies.
type countingFS struct {
	store.FileSystem
	syncs *atomic.Int64
}

func (c countingFS) SyncDir(p string) error { c.syncs.Add(1); return c.FileSystem.SyncDir(p) }
func (c countingFS) SyncAll() error         { c.syncs.Add(1); return c.FileSystem.SyncAll() }
func (c countingFS) Create(p string) (store.File, error) {
	f, err := c.FileSystem.Create(p)
	return countingFile{f, c.syncs}, err
}

type countingFile struct {
	store.File
	syncs *atomic.Int64
}

func (f countingFile) Sync() error { f.syncs.Add(1); return f.File.Sync() }

func cpu() int64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return r.Utime.Nano() + r.Stime.Nano()
}

// written is what this process gave to the disk, in octets, without what the file system writes for itself.
func written() (n int64) {
	b, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "write_bytes: %d", &n)
	}
	return n
}

// BenchmarkDeliver keeps its stores until all is measured, or for good where MSSD_BENCH_KEEP names a directory: a
// file system without a journal (ext4) is slow to make files where many were removed within minutes.
func BenchmarkDeliver(b *testing.B) {
	dir := os.Getenv("MSSD_BENCH_KEEP")
	if dir == "" {
		dir = b.TempDir()
	}
	for _, each := range []bool{false, true} {
		for _, size := range []int{5 << 10, 282 << 10} {
			for _, writers := range []int{1, 10, 50} {
				how := "syncfs"
				if each {
					how = "fsync"
				}
				b.Run(fmt.Sprintf("%s/%dKB/%dwriters", how, size>>10, writers), func(b *testing.B) { benchDeliver(b, dir, each, size, writers) })
			}
		}
	}
}

func benchDeliver(b *testing.B, dir string, each bool, size, writers int) {
	var syncs, commits atomic.Int64
	dir, err := os.MkdirTemp(dir, "s")
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.OpenWith(store.Options{Dir: filepath.Join(dir, "s"), Create: true, SyncEach: each}, func(f store.FileSystem) store.FileSystem { return countingFS{f, &syncs} })
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var boxes []store.Mailbox
	for i := range 20 {
		bal := storetest.AddBAL(b, s, store.Address(fmt.Sprintf("bal%d@bal.example", i)), store.ORG)
		m, _ := s.Mailbox(bal.ID, "INBOX")
		boxes = append(boxes, m)
	}
	s.CountCommits(&commits)
	raw := mail(size)
	if size > 100<<10 {
		raw = document(size)
	}
	b.SetBytes(int64(len(raw)))
	syncs.Store(0)
	b.ResetTimer()
	start, disk := cpu(), written()
	flushed := flushes(dir)
	deliverMany(b, s, boxes, raw, writers)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(cpu()-start)/float64(b.N)/1e6, "cpu-ms/msg")
	b.ReportMetric(float64(syncs.Load()+2*commits.Load())/float64(b.N), "syncs/msg") // a commit of bbolt is two
	if flushed >= 0 {
		b.ReportMetric(float64(flushes(dir)-flushed)/float64(b.N), "flushes/msg")
	}
	b.ReportMetric(float64(written()-disk)/float64(b.N)/1024, "disk-KB/msg")
	b.ReportMetric(float64(b.N)/float64(max(commits.Load(), 1)), "msg/commit")
}

// deliverOne does what delivery does: scan, body, row, prefix, once, events.
func deliverOne(s *store.Store, to store.Mailbox, raw []byte, n int64) error {
	bl, err := s.NewBlob()
	if err != nil {
		return err
	}
	defer bl.Abort()
	sc := message.NewScanner()
	for i := 0; i < len(raw); i += 32 << 10 {
		p := raw[i:min(i+32<<10, len(raw))]
		sc.Write(p)
		if _, err := bl.Write(p); err != nil {
			return err
		}
	}
	meta, text := sc.Finish()
	if err := bl.Finish(meta, text); err != nil {
		return err
	}
	key := [32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), 1}
	bal, err := s.BALByID(to.BAL)
	if err != nil {
		return err
	}
	_, err = s.Commit(context.Background(), &store.Batch{Blob: bl, Once: &store.Once{Key: key},
		Ops: []store.Op{store.AddMessage{Ref: to.Ref, Prefix: bytes.Repeat([]byte("Received: x\r\n"), 30), Delivery: true}},
		Events: []trace.Event{{Kind: trace.Recipient, BAL: string(bal.Address), Attrs: []trace.Attr{{Key: trace.KeyDirectory, Value: "known"}}},
			{Kind: trace.Committed, BAL: string(bal.Address), Mailbox: uint32(to.Mailbox), Attrs: []trace.Attr{{Key: trace.KeySize, Value: "5000"}}}}})
	if err == nil {
		s.Confirm(bl.ID())
	}
	return err
}

func BenchmarkRead(b *testing.B) {
	const n = 50000
	s, err := store.Open(store.Options{Dir: filepath.Join(b.TempDir(), "s"), Create: true, NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	bal := storetest.AddBAL(b, s, "grand@bal.example", store.ORG)
	box, _ := s.Mailbox(bal.ID, "INBOX")
	bl := storetest.NewBlob(b, s, string(mail(1000)))
	batch := &store.Batch{Blob: bl}
	for range n {
		batch.Ops = append(batch.Ops, store.AddMessage{Ref: box.Ref, Delivery: true})
	}
	if _, err := s.Commit(context.Background(), batch); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	b.Run("Rows10000", func(b *testing.B) {
		for b.Loop() {
			got := 0
			_ = s.Rows(ctx, box.Ref, []store.Run{{First: 1, Count: 10000}}, func(store.Row) bool { got++; return true })
			if got != 10000 {
				b.Fatal(got)
			}
		}
	})
	b.Run("Snapshot50000", func(b *testing.B) {
		for b.Loop() {
			if snap, err := s.Snapshot(box.Ref, false); err != nil || snap.Messages != n {
				b.Fatal(snap, err)
			}
		}
	})
	b.Run("Changes", func(b *testing.B) {
		w := s.Watch(box.Ref)
		defer w.Close()
		m, _ := s.MailboxByRef(box.Ref)
		if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.StoreFlags{Ref: box.Ref, Runs: []store.Run{{First: 5, Count: 1}}, Mode: store.Add, Flags: store.Flagged}}}); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if ch, err := s.Changes(box.Ref, m.HighestModSeq); err != nil || len(ch.Rows) != 1 {
				b.Fatal(ch, err)
			}
		}
	})
	b.Run("StoreFlags", func(b *testing.B) {
		uid := store.UID(0)
		for b.Loop() {
			uid = uid%n + 1
			if _, err := s.Commit(ctx, &store.Batch{Ops: []store.Op{store.StoreFlags{Ref: box.Ref, Runs: []store.Run{{First: uid, Count: 1}}, Mode: store.Add, Flags: store.Seen}}}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTexts goes through the words of 10,000 messages of 5 KB, as SEARCH TEXT does: the first time after a start,
// and again.
func BenchmarkTexts(b *testing.B) {
	const n = 10000
	opt := store.Options{Dir: filepath.Join(b.TempDir(), "s"), Create: true, NoSync: true}
	s, err := store.Open(opt)
	if err != nil {
		b.Fatal(err)
	}
	bal := storetest.AddBAL(b, s, "grand@bal.example", store.ORG)
	var wg sync.WaitGroup
	words := []string{"ordonnance", "posologie", "comprimé", "matin", "soir", "pharmacie", "renouvellement", "docteur", "patient", "durée"}
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				var body bytes.Buffer
				body.WriteString("From: Labo <labo@operator.example>\r\nSubject: essai\r\n\r\n")
				for j := 0; body.Len() < 5000; j++ {
					fmt.Fprintf(&body, "%s %d %s, ", words[(i*7+j*j)%10], i*j, words[(i+j*3)%10])
					if j%8 == 7 {
						body.WriteString("\r\n")
					}
				}
				storetest.Deliver(b, s, bal.ID, body.String())
			}
		})
	}
	wg.Wait()
	box, _ := s.Mailbox(bal.ID, "INBOX")
	var ids []store.MessageID
	_ = s.Rows(context.Background(), box.Ref, []store.Run{{First: 1, Count: n}}, func(r store.Row) bool { ids = append(ids, r.Message); return true })
	search := func(b *testing.B) {
		b.Helper()
		if err := s.Texts(context.Background(), ids, func(_ int, t message.Text) {
			if found, _ := t.Contains([]byte("introuvable")); found {
				b.Error("found")
			}
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("cold", func(b *testing.B) {
		spent := int64(0)
		for b.Loop() {
			b.StopTimer()
			s.Close()
			if s, err = store.Open(opt); err != nil {
				b.Fatal(err)
			}
			start := cpu()
			b.StartTimer()
			search(b)
			spent += cpu() - start
		}
		b.ReportMetric(float64(spent)/float64(b.N)/1e6, "cpu-ms/op")
	})
	b.Run("warm", func(b *testing.B) {
		start := cpu()
		for b.Loop() {
			search(b)
		}
		b.ReportMetric(float64(cpu()-start)/float64(b.N)/1e6, "cpu-ms/op")
	})
	b.Run("header", func(b *testing.B) {
		for b.Loop() {
			_ = s.Headers(context.Background(), ids, func(_ int, t message.Text) {
				if found, _ := t.Field("subject", []byte("introuvable")); found {
					b.Error("found")
				}
			})
		}
	})
	s.Close()
}
