package delivery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mssd/message"
	"mssd/store"
	"mssd/trace"
)

const letter = "From: <274999999999999@patient.mssante.test>\r\nSubject: x\r\nMessage-ID: <1@x.test>\r\n\r\nbonjour\r\n"

// open makes a store with n BALs and a Delivery on it; the store is checked at the end.
func open(t testing.TB, n int) (*Delivery, *store.Store, []Recipient, string) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(store.Options{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if problems, err := st.Check(context.Background()); err != nil || len(problems) > 0 {
			t.Errorf("store after the test: %v %v", err, problems)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	var ops []store.Op
	for i := range n {
		ops = append(ops, store.PutBAL{Create: true, BAL: store.BAL{
			Address: store.Address(fmt.Sprintf("bal%d@officine.test", i)), Kind: store.ORG, State: store.Active, Listing: store.Published}})
	}
	if _, err := st.Commit(context.Background(), &store.Batch{Ops: ops}); err != nil {
		t.Fatal(err)
	}
	var rcpts []Recipient
	for _, b := range st.BALs() {
		rcpts = append(rcpts, Recipient{BAL: b, Address: message.Address(b.Address)})
	}
	return New(Config{Store: st, Hostname: "mx.operateur.test"}), st, rcpts, dir
}

func spoolOf(t testing.TB, st *store.Store, msg string) *Spool {
	t.Helper()
	sp, err := NewSpool(st, true, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(sp, msg); err != nil {
		t.Fatal(err)
	}
	if err := sp.Finish(); err != nil {
		t.Fatal(err)
	}
	return sp
}

// files counts the files below dir/sub.
func files(t testing.TB, dir, sub string) (n int) {
	t.Helper()
	_ = filepath.WalkDir(filepath.Join(dir, sub), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}

func TestDeliverToSeveralShares(t *testing.T) {
	d, st, rcpts, dir := open(t, 3)
	in := testIncoming(t)
	in.Recipients = append(append([]Recipient{}, rcpts...), rcpts[0]) // one twice
	sp := spoolOf(t, st, letter)
	if sp.SHA256() != sha256.Sum256([]byte(letter)) || sp.Size() != int64(len(letter)) {
		t.Error("hash or size of the spool are not those of the message")
	}
	before := files(t, dir, "blobs")
	id, dup, err := d.Deliver(t.Context(), sp, in)
	if err != nil || dup {
		t.Fatalf("Deliver: %v, duplicate %v", err, dup)
	}
	if n := files(t, dir, "blobs") - before; n != 1 {
		t.Errorf("%d bodies on disk for one message, want 1", n)
	}
	if n := files(t, dir, "spool"); n != 0 {
		t.Errorf("%d files left in the spool", n)
	}
	for _, r := range rcpts {
		c, err := st.OpenMessage(r.BAL.ID, id)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		c.Close()
		if !bytes.HasSuffix(got, []byte("+0000\r\n"+letter)) {
			t.Errorf("%s reads:\n%s", r.BAL.Address, got)
		}
		for _, o := range rcpts {
			if strings.Contains(string(got), string(o.BAL.Address)) {
				t.Errorf("the copy of %s names %s", r.BAL.Address, o.BAL.Address)
			}
		}
	}
	evs, err := st.Trace(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	count := map[trace.Kind]int{}
	for _, e := range evs {
		count[e.Kind]++
		if e.Kind == trace.Committed && e.UIDs != "1" {
			t.Errorf("committed event without its UID: %s", e.Line())
		}
		if strings.Contains(e.Line(), "274999999999999") {
			t.Errorf("the trace names a patient: %s", e.Line())
		}
	}
	if count[trace.Judged] != 1 || count[trace.Recipient] != 3 || count[trace.Committed] != 3 {
		t.Errorf("events: %v", count)
	}
	ids, err := st.TraceByMessageID(t.Context(), "<1@x.test>")
	if err != nil || len(ids) != 1 || ids[0] != id {
		t.Errorf("by Message-ID: %v %v, want %v", ids, err, id)
	}
}

func TestDeliverOnce(t *testing.T) {
	d, st, rcpts, _ := open(t, 1)
	in := testIncoming(t)
	in.Recipients = rcpts
	first, _, err := d.Deliver(t.Context(), spoolOf(t, st, letter), in)
	if err != nil {
		t.Fatal(err)
	}
	again, dup, err := d.Deliver(t.Context(), spoolOf(t, st, letter), in)
	if err != nil || !dup || again != first {
		t.Errorf("repetition: %v %v %v, want the first id %v", again, dup, err, first)
	}
	st.Confirm(first)
	third, dup, err := d.Deliver(t.Context(), spoolOf(t, st, letter), in)
	if err != nil || dup || third == first {
		t.Errorf("after the confirmation: %v %v %v, want a new message", third, dup, err)
	}
}

func TestSpoolAbortLeavesNothing(t *testing.T) {
	d, st, rcpts, dir := open(t, 1)
	for name, run := range map[string]func(*Spool) error{
		"abort":     func(sp *Spool) error { sp.Abort(); _, err := sp.Write([]byte("x")); return err },
		"bare LF":   func(sp *Spool) error { _, err := sp.Write([]byte("\n")); sp.Abort(); return err },
		"CR at end": func(sp *Spool) error { _, _ = sp.Write([]byte("x\r")); return sp.Finish() },
		"too large": func(sp *Spool) error { _, err := sp.Write(make([]byte, 2000)); sp.Abort(); return err },
		"nobody": func(sp *Spool) error {
			_ = sp.Finish()
			_, _, err := d.Deliver(t.Context(), sp, testIncomingTo(t))
			return err
		},
		"cancelled?": func(sp *Spool) error {
			_ = sp.Finish()
			sp.Abort()
			_, _, err := d.Deliver(t.Context(), sp, testIncomingTo(t, rcpts...))
			return err
		},
	} {
		sp, err := NewSpool(st, true, Limits{Size: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if err := run(sp); err == nil {
			t.Errorf("%s: no error", name)
		}
		if n := files(t, dir, "spool"); n != 0 {
			t.Errorf("%s: %d files left in the spool", name, n)
		}
	}
	sp, _ := NewSpool(st, true, Limits{Size: 1000})
	if _, err := sp.Write(make([]byte, 1001)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("err = %v, want ErrTooLarge", err)
	}
	if _, err := sp.Write([]byte("x")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("the fault is not sticky: %v", err)
	}
	sp.Abort()
}

func testIncomingTo(t testing.TB, rcpts ...Recipient) *Incoming {
	in := testIncoming(t)
	in.Recipients = rcpts
	return in
}

// FuzzSpool: whatever is taken is stored octet by octet, in any windows; whatever is refused leaves nothing.
func FuzzSpool(f *testing.F) {
	f.Add([]byte(letter), uint8(3))
	f.Add([]byte("A: b\r\n\r\n\x00"), uint8(1))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"), uint8(7))
	d, st, rcpts, dir := open(f, 1)
	f.Fuzz(func(t *testing.T, msg []byte, n uint8) {
		sp, err := NewSpool(st, true, Limits{Size: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		for rest := msg; len(rest) > 0 && err == nil; {
			k := min(int(n)+1, len(rest))
			_, err = sp.Write(rest[:k])
			rest = rest[k:]
		}
		if ferr := sp.Finish(); err != nil && !errors.Is(ferr, err) {
			t.Fatalf("Finish after %v: %v", err, ferr)
		} else if ferr != nil {
			if left := files(t, dir, "spool"); left != 0 {
				t.Fatalf("refused, and %d files left", left)
			}
			return
		}
		id, _, err := d.Deliver(t.Context(), sp, testIncomingTo(t, rcpts...))
		if err != nil {
			t.Fatal(err)
		}
		c, err := st.OpenMessage(rcpts[0].BAL.ID, id)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, _ := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if !bytes.HasSuffix(got, msg) {
			t.Fatalf("stored %q, sent %q", got, msg)
		}
	})
}

// BenchmarkDelivery is one message into one BAL of a real store, without any network; cases of 50 run
// deliveries side by side, so that commits are shared.
func BenchmarkDelivery(b *testing.B) {
	for _, size := range []int{5_000, 200_000} {
		for _, parallel := range []int{1, 50} {
			b.Run(fmt.Sprintf("%dKB/parallel=%d", size/1000, parallel), func(b *testing.B) {
				d, st, rcpts, _ := open(b, 1)
				msg := []byte(letter + strings.Repeat(strings.Repeat("bonjour ", 9)+"\r\n", size/74))
				b.SetBytes(int64(len(msg)))
				b.SetParallelism(max(1, parallel/2))
				one := func() {
					sp, err := NewSpool(st, true, Limits{})
					if err != nil {
						b.Error(err)
						return
					}
					for rest := msg; len(rest) > 0; {
						n := min(16<<10, len(rest))
						_, _ = sp.Write(rest[:n])
						rest = rest[n:]
					}
					_ = sp.Finish()
					id, _, err := d.Deliver(context.Background(), sp, testIncomingTo(b, rcpts...))
					if err != nil {
						b.Error(err)
					}
					st.Confirm(id)
				}
				if parallel == 1 {
					for b.Loop() {
						one()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			})
		}
	}
}
