package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"

	"mssd/message"
	"mssd/store"
	"mssd/store/storetest"
)

// TestTextForms: texts of former versions are read as new ones are; what is damaged, or says that it is huge, is none.
func TestTextForms(t *testing.T) {
	s := storetest.New(t)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	s2 := store.PackText(make([]byte, 20<<10))
	for words, packed := range map[int]bool{1: false, 500: false, 2000: true} {
		text := message.Text{Header: []byte("sujet: essai\n"), Body: bytes.Repeat([]byte("bonjour "), words)}
		raw, err := text.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		now := store.PackText(raw)
		if packed != (now[0] == s2[0]) || packed != (len(now) < len(raw)) {
			t.Errorf("%d octets are stored as %d", len(raw), len(now))
		}
		for form, v := range map[string][]byte{"zstd": enc.EncodeAll(raw, nil), "now": now} {
			got, err := s.UnpackText(v)
			if err != nil || !bytes.Equal(got.Header, text.Header) || !bytes.Equal(got.Body, text.Body) {
				t.Errorf("%s: %d octets, %v", form, len(got.Body), err)
			}
		}
		if _, err := s.UnpackText(now[:len(now)-1]); err == nil {
			t.Errorf("%d octets of %d are read as a text", len(now)-1, len(now))
		}
	}
	for form, v := range map[string][]byte{
		"nothing":    {},
		"form alone": store.PackText(nil),
		"huge":       append([]byte{s2[0]}, binary.AppendUvarint(nil, 1<<31)...),
		"too long":   store.PackText(make([]byte, 300<<10)),
		"other":      {99, 3, 4},
	} {
		if _, err := s.UnpackText(v); err == nil {
			t.Errorf("%s is read as a text", form)
		}
	}
}

// TestTextsEach: over many pages each message is shown once with its own words, and a question that is over ends.
func TestTextsEach(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	const n = 700
	var ids []store.MessageID
	for i := range n {
		id, _ := storetest.Deliver(t, s, b.ID, fmt.Sprintf("Subject: x\r\n\r\nlettre%d\r\n", i))
		ids = append(ids, id)
	}
	ids[300] = 1 << 60 // there is no such message
	check := func(s *store.Store) {
		t.Helper()
		var seen [n]atomic.Int32
		if err := s.Texts(ctx, ids, func(i int, text message.Text) {
			want := fmt.Sprintf("lettre%d", i)
			if i == 300 {
				want = ""
			}
			if got := strings.TrimSpace(string(text.Body)); got != want {
				t.Errorf("place %d: %q", i, got)
			}
			seen[i].Add(1)
		}); err != nil {
			t.Error(err)
		}
		for i := range seen {
			if calls := seen[i].Load(); calls != 1 {
				t.Errorf("place %d was shown %d times", i, calls)
			}
		}
	}
	check(s) // some wait to be written
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	check(s)
	over, cancel := context.WithCancel(ctx)
	var calls atomic.Int32
	if err := s.Texts(over, ids, func(int, message.Text) { calls.Add(1); cancel() }); !errors.Is(err, context.Canceled) || calls.Load() == n {
		t.Errorf("cancelled: %v after %d", err, calls.Load())
	}
	if err := s.Texts(ctx, nil, func(int, message.Text) { t.Error("shown") }); err != nil {
		t.Errorf("of none: %v", err)
	}
	defer func() {
		if p := recover(); p != "judged" {
			t.Errorf("the panic of a caller on another goroutine: %v", p)
		}
	}()
	_ = s.Texts(ctx, ids, func(int, message.Text) { panic("judged") })
}

// TestHeaders: a header is the same whether the text was in memory, was unpacked for it, or is in memory itself; it holds no body.
func TestHeaders(t *testing.T) {
	opt := store.Options{Dir: filepath.Join(t.TempDir(), "s"), Create: true}
	s := storetest.Open(t, opt)
	b := storetest.AddBAL(t, s, "a@bal.example", store.ORG)
	const n = 300
	var ids []store.MessageID
	for i := range n {
		id, _ := storetest.Deliver(t, s, b.ID, fmt.Sprintf("Subject: lettre%d\r\n\r\ncorps\r\n", i))
		ids = append(ids, id)
	}
	check := func(when string) {
		t.Helper()
		var seen atomic.Int32
		if err := s.Headers(ctx, ids, func(i int, h message.Text) {
			found, _ := h.Field("subject", []byte(fmt.Sprintf("lettre%d", i)))
			body, known := h.BodyContains([]byte("corps"))
			if !found || body || known {
				t.Errorf("%s: message %d: field %v, body %v %v", when, i, found, body, known)
			}
			seen.Add(1)
		}); err != nil || seen.Load() != n {
			t.Errorf("%s: %d, %v", when, seen.Load(), err)
		}
	}
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	check("from the file")
	check("from memory")
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	if err := s.Texts(ctx, ids, func(int, message.Text) {}); err != nil {
		t.Fatal(err)
	}
	check("beside texts")
	if text, err := s.Text(ctx, ids[0]); err != nil || !bytes.Contains(text.Body, []byte("corps")) {
		t.Errorf("the text after that: %q, %v", text.Body, err)
	}
	if h, err := s.Header(ctx, ids[1]); err != nil || len(h.Header) == 0 || len(h.Body) > 0 {
		t.Errorf("one alone: %v", err)
	}
	for _, f := range []func(context.Context, store.MessageID) (message.Text, error){s.Header, s.Text} {
		if _, err := f(ctx, 1<<60); !errors.Is(err, store.ErrNoMessage) {
			t.Errorf("of no message: %v", err)
		}
	}
}
