package trace

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestIDText(t *testing.T) {
	for _, c := range []struct {
		id   ID
		want string
	}{{0, "0000000000000"}, {1, "0000000000001"}, {32, "0000000000010"}, {math.MaxUint64, "FZZZZZZZZZZZZ"}} {
		if got := c.id.String(); got != c.want {
			t.Errorf("%d: %s, want %s", c.id, got, c.want)
		}
		for _, s := range []string{c.want, strings.ToLower(c.want)} {
			if got, err := ParseID(s); err != nil || got != c.id {
				t.Errorf("ParseID(%s) = %d, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"", "1", "00000000000000", "G000000000000", "000000000000U", "000000000000-", "00000000000é"} {
		if id, err := ParseID(s); !errors.Is(err, ErrID) {
			t.Errorf("ParseID(%q) = %d, %v", s, id, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("0ABCDEFGHJKMN")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != strings.ToUpper(s) {
			t.Fatalf("%q is %s", s, id)
		}
	})
}

func TestIDTime(t *testing.T) {
	at := time.Date(2026, 11, 22, 22, 43, 14, 123e6, time.UTC)
	if got := NewSource(0, func() time.Time { return at }).Next().Time(); !got.Equal(at) {
		t.Errorf("%v, want %v", got, at)
	}
	if got := ID(math.MaxUint64).Time(); got.Year() != 2577 {
		t.Errorf("the last id is of %v", got)
	}
}

// A clock that steps back, or stands still, must not give an ID twice or out of order.
func TestSourceGrowsWhenTheClockStepsBack(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := NewSource(0, func() time.Time { return now })
	last := s.Next()
	for _, step := range []time.Duration{0, -time.Hour, 0, -50 * 365 * 24 * time.Hour, time.Millisecond, 51 * 365 * 24 * time.Hour} {
		now = now.Add(step)
		if id := s.Next(); id <= last {
			t.Fatalf("after a step of %v: %s, before %s", step, id, last)
		} else {
			last = id
		}
	}
	if id := NewSource(last, func() time.Time { return now.Add(-time.Hour) }).Next(); id <= last {
		t.Errorf("after a restart: %s, before %s", id, last)
	}
}

func TestSourceConcurrent(t *testing.T) {
	s := NewSource(0, nil)
	var mu sync.Mutex
	var all []ID
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var own []ID
			for range 1000 {
				own = append(own, s.Next())
			}
			if !slices.IsSorted(own) {
				t.Error("not in order within a goroutine")
			}
			mu.Lock()
			all = append(all, own...)
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 8000 {
		t.Errorf("%d different ids of 8000", n)
	}
}

var event = Event{
	Seq: 7, ID: 0x1234567890abcdef, Time: time.Date(2026, 11, 22, 22, 43, 14, 123456789, time.UTC), Kind: Fetched, Conn: 12,
	Person: "rpps:10000000001", BAL: "pharmacie@parc.mssante.test", Mailbox: 3, UIDs: "1:40,55",
	Attrs: []Attr{{KeyClient, "LGO 1.0\nfake line"}, {KeyReason, "Bound"}},
}

func TestEventRoundTrip(t *testing.T) {
	for k := range Kind(len(kinds)) {
		if !k.Valid() {
			continue
		}
		e := event
		e.Kind = k
		b, err := e.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseEvent(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got)\n%s", k, d)
		}
		if back, ok := ParseKind(k.String()); !ok || back != k {
			t.Errorf("ParseKind(%s) = %s, %t", k, back, ok)
		}
		for i := range b {
			if _, err := ParseEvent(b[:i]); err == nil {
				t.Fatalf("%s: cut at %d it is still read", k, i)
			}
		}
		if _, err := ParseEvent(append(b, 0)); err == nil {
			t.Errorf("%s: read with an octet too many", k)
		}
	}
}

func TestEventRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Event)
		want   error
	}{
		{"kind", func(e *Event) { e.Kind = 0 }, ErrKind},
		{"kind beyond", func(e *Event) { e.Kind = 200 }, ErrKind},
		{"key", func(e *Event) { e.Attrs = []Attr{{"subject", "x"}} }, ErrKey},
		{"key twice", func(e *Event) { e.Attrs = []Attr{{KeySize, "1"}, {KeySize, "2"}} }, ErrKey},
		{"value", func(e *Event) { e.Attrs = []Attr{{KeyNote, strings.Repeat("x", maxValue+1)}} }, ErrTooLong},
		{"uids", func(e *Event) { e.UIDs = strings.Repeat("1", maxUIDs+1) }, ErrTooLong},
	} {
		e := event
		c.change(&e)
		if b, err := e.AppendBinary(nil); !errors.Is(err, c.want) || len(b) > 0 {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := ParseEvent([]byte{9, 1}); !errors.Is(err, ErrVersion) {
		t.Errorf("version 9: %v", err)
	}
}

func TestLine(t *testing.T) {
	want := `2026-11-22 22:43:14.123Z 14D2PF2B2QK7F read  bal=pharmacie@parc.mssante.test  mailbox=3  uid=1:40,55` +
		`  person=rpps:10000000001  reason=Bound  client="LGO 1.0\nfake line"  conn=12`
	want = strings.Replace(want, "14D2PF2B2QK7F", event.ID.String(), 1)
	if got := event.Line(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := (Event{Kind: System, Time: event.Time}).Line(); got != "2026-11-22 22:43:14.123Z ------------- daemon" {
		t.Errorf("got %s", got)
	}
}

func TestKeysAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range keys {
		if seen[k] || k == "" {
			t.Errorf("key %q", k)
		}
		seen[k] = true
	}
}

func FuzzParseEvent(f *testing.F) {
	b, err := event.AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvent(b)
		if err != nil {
			return
		}
		again, err := e.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		e2, err := ParseEvent(again)
		if err != nil || !cmp.Equal(e, e2) {
			t.Fatalf("not the same again: %v", err)
		}
		if l := e.Line(); strings.ContainsAny(l, "\r\n") {
			t.Fatalf("more than one line: %q", l)
		}
	})
}
