package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"mssd/message"
	"mssd/store"
	"mssd/store/storetest"
)

// TestTextForms: texts of before S2 are read as new ones are; what is damaged, or says that it is huge, is none.
func TestTextForms(t *testing.T) {
	s := storetest.New(t)
	text := message.Text{Header: []byte("sujet: essai\n"), Body: bytes.Repeat([]byte("bonjour "), 500)}
	raw, err := text.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := store.PackText(raw)
	for form, v := range map[string][]byte{"zstd": enc.EncodeAll(raw, nil), "S2": packed, "S2 of little": store.PackText(raw[:0])} {
		got, err := s.UnpackText(v)
		if form == "S2 of little" {
			if err == nil {
				t.Error("nothing is read as a text")
			}
			continue
		}
		if err != nil || !bytes.Equal(got.Header, text.Header) || !bytes.Equal(got.Body, text.Body) {
			t.Errorf("%s: %d octets, %v", form, len(got.Body), err)
		}
	}
	for form, v := range map[string][]byte{
		"nothing":  {},
		"cut off":  packed[:len(packed)-1],
		"huge":     append([]byte{packed[0]}, binary.AppendUvarint(nil, 1<<31)...),
		"too long": store.PackText(make([]byte, 300<<10)),
		"other":    {2, 3, 4},
	} {
		if _, err := s.UnpackText(v); err == nil {
			t.Errorf("%s is read as a text", form)
		}
	}
}

// TestTextsInOrder: over many pages each message has its own words, whether they are in memory or not; who stops is not called again,
// and a question that is over ends.
func TestTextsInOrder(t *testing.T) {
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
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	for range 2 { // from the file, then from memory
		seen := 0
		if err := s.Texts(ctx, ids, func(i int, text message.Text) bool {
			want := fmt.Sprintf("lettre%d", i)
			if i == 300 {
				want = ""
			}
			if i != seen || strings.TrimSpace(string(text.Body)) != want {
				t.Fatalf("place %d, the call of number %d: %q", i, seen, text.Body)
			}
			seen++
			return true
		}); err != nil || seen != n {
			t.Fatalf("%d texts, %v", seen, err)
		}
	}
	for _, stop := range []int{0, 255, 256, 600} {
		calls := 0
		if err := s.Texts(ctx, ids, func(i int, _ message.Text) bool { calls++; return i < stop }); err != nil || calls != stop+1 {
			t.Errorf("stopped at %d after %d calls, %v", stop, calls, err)
		}
	}
	over, cancel := context.WithCancel(ctx)
	if err := s.Texts(over, ids, func(i int, _ message.Text) bool { cancel(); return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.Texts(ctx, nil, func(int, message.Text) bool { return true }); err != nil {
		t.Errorf("of none: %v", err)
	}
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
		seen := 0
		if err := s.Headers(ctx, ids, func(i int, h message.Text) bool {
			found, _ := h.Field("subject", []byte(fmt.Sprintf("lettre%d", i)))
			body, known := h.BodyContains([]byte("corps"))
			if !found || body || known {
				t.Errorf("%s: message %d: field %v, body %v %v", when, i, found, body, known)
			}
			seen++
			return true
		}); err != nil || seen != n {
			t.Errorf("%s: %d, %v", when, seen, err)
		}
	}
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	check("from the file")
	check("from memory")
	s.Close()
	s = storetest.Open(t, store.Options{Dir: opt.Dir})
	if err := s.Texts(ctx, ids, func(int, message.Text) bool { return true }); err != nil {
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
