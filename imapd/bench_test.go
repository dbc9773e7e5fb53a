package imapd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mssd/message"
	"mssd/store"
)

// fill puts n messages of about size octets into a new mailbox.
func (w *world) fill(box string, n, size int) {
	w.t.Helper()
	w.commit(createOp(w, box))
	ref := w.box(box).Ref
	line := strings.Repeat("Zeile und noch mehr davon, gut. ", 2) + "\r\n"
	for i := range n {
		raw := fmt.Sprintf("Message-ID: <%d@exemple.test>\r\n", i) + mail + strings.Repeat(line, max(0, size-len(mail))/len(line))
		blob := must[*store.Blob](w.t, "blob")(w.store.NewBlob())
		meta, text, err := message.Scan(io.TeeReader(strings.NewReader(raw), blob))
		if err != nil {
			w.t.Fatal(err)
		}
		if err := blob.Finish(meta, text); err != nil {
			w.t.Fatal(err)
		}
		must[*store.Result](w.t, "commit")(w.store.Commit(context.Background(), &store.Batch{Blob: blob,
			Ops: []store.Op{store.AddMessage{Ref: ref, Message: blob.ID(), Prefix: []byte(prefix)}}}))
	}
}

func benchWorld(b *testing.B) *world {
	return newWorld(b, func(s *Server) { s.Log, s.MaxConnsPerAddr = slog.New(slog.DiscardHandler), 5000 })
}

// pipe sends a command and throws its responses away until the tagged one.
func (s *session) pipe(b *testing.B, cmd string) {
	if _, err := io.WriteString(s.nc, "x "+cmd+"\r\n"); err != nil {
		b.Fatal(err)
	}
	s.drain(b)
}

func (s *session) drain(b *testing.B) {
	for {
		l, err := s.br.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			b.Fatal(err)
		}
		if len(l) > 4 && l[0] == 'x' && l[1] == ' ' && (l[2] == 'O' || l[2] == 'N') {
			if l[2] == 'N' {
				b.Fatalf("%s", l)
			}
			return
		}
		if n := literal(l); n > 0 {
			if _, err := s.br.Discard(n); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// literal is the length announced at the end of a line, 0 for none.
func literal(l []byte) int {
	n, mul := 0, 1
	if len(l) < 5 || l[len(l)-3] != '}' {
		return 0
	}
	for i := len(l) - 4; i >= 0 && l[i] != '{'; i-- {
		n += int(l[i]-'0') * mul
		mul *= 10
	}
	return n
}

func (s *session) forBench() *session {
	_ = s.nc.SetDeadline(time.Time{})
	s.br = bufio.NewReaderSize(s.nc, 64<<10)
	return s
}

// BenchmarkFetchOne: bodies one command each, over TLS.
func BenchmarkFetchOne(b *testing.B) {
	for _, size := range []int{5 << 10, 200 << 10} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			w := benchWorld(b)
			n := 500
			w.fill("B", n, size)
			b.SetBytes(int64(size))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				s := w.login(ownerName, "B").forBench()
				for i := 0; pb.Next(); i++ {
					s.pipe(b, fmt.Sprintf("UID FETCH %d BODY.PEEK[]", i%n+1))
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkFetchRange: all bodies in one command.
func BenchmarkFetchRange(b *testing.B) {
	for _, size := range []int{5 << 10, 200 << 10} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			w := benchWorld(b)
			n := 500
			w.fill("B", n, size)
			b.SetBytes(int64(size * n))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				s := w.login(ownerName, "B").forBench()
				for pb.Next() {
					s.pipe(b, "UID FETCH 1:* BODY.PEEK[]")
				}
			})
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkBig: questions about 10,000 messages.
func BenchmarkBig(b *testing.B) {
	w := benchWorld(b)
	w.fill("B", 10000, 2000)
	s := w.login(ownerName, "B").forBench()
	for _, c := range []struct{ name, cmd string }{
		{"flags", "FETCH 1:* FLAGS"},
		{"overview", "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"},
		{"status", "STATUS B (MESSAGES UNSEEN UIDNEXT)"},
		{"search-unseen", "UID SEARCH UNSEEN"},
		{"search-from", "UID SEARCH FROM durand"},
		{"search-text", "UID SEARCH TEXT introuvable"},
		{"sort-date", "SORT (DATE) UTF-8 ALL"},
		{"sort-subject", "SORT (SUBJECT) UTF-8 ALL"},
		{"sort-from-size", "SORT (FROM REVERSE SIZE) UTF-8 ALL"},
		{"thread", "THREAD REFERENCES UTF-8 ALL"},
		{"store", "STORE 1 +FLAGS (\\Seen)"},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				s.pipe(b, c.cmd)
			}
		})
	}
}
