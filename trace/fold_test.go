package trace

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// told is of how many refusals the events tell.
func told(t *testing.T, events []Event) (n int) {
	t.Helper()
	for _, e := range events {
		if v := e.Attr(KeyCount); v != "" {
			m, err := strconv.Atoi(v)
			if err != nil {
				t.Fatal(err)
			}
			n += m
		} else {
			n++
		}
	}
	return n
}

// One subscriber has 2^64 addresses: refusals from them are alike.
func TestFoldingOfOneNetwork(t *testing.T) {
	now, n := time.Now(), 0
	f := Folding{Record: func(Event) { n++ }, Now: func() time.Time { return now }}
	for i := range 10_000 {
		a := netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
		f.Add(Alike{Who: Network(a), Cmd: "MAIL", Code: "5.7.0"}, Event{})
	}
	if n != FoldAfter {
		t.Errorf("%d events of one network, expected %d", n, FoldAfter)
	}
	if Network(netip.MustParseAddr("192.0.2.1")) == Network(netip.MustParseAddr("192.0.2.2")) {
		t.Error("two IPv4 addresses are one")
	}
}

// Whoever has a /48 has 65536 networks, and days: the trace grows by some events a minute, tells of every refusal, and an
// operator that is known has its events one by one meanwhile.
func TestFoldingOfManyNetworks(t *testing.T) {
	now := time.Now()
	var got, known []Event
	f := Folding{Now: func() time.Time { return now }, Record: func(e Event) {
		if e.BAL != "" {
			known = append(known, e)
		} else {
			got = append(got, e)
		}
	}}
	const minutes, each = 6 * 60, 1500
	for m := range minutes {
		for i := range each {
			a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, byte((m*each + i) >> 8), byte(i)})
			f.Add(Alike{Who: Network(a), Cmd: "LOGIN", Code: "Credentials"}, Event{Kind: LoginRefused})
		}
		if len(f.kinds) > foldKinds {
			t.Fatalf("%d kinds held", len(f.kinds))
		}
		f.Add(Alike{Who: "an operator", Known: true, Cmd: "RCPT", Code: "5.1.1"}, Event{Kind: Refused, BAL: "x@y.test"})
		now = now.Add(foldWindow)
	}
	f.Flush()
	if len(got) > 600+minutes*12 {
		t.Errorf("%d events of six hours", len(got))
	}
	if n := told(t, got); n != minutes*each {
		t.Errorf("the events tell of %d refusals, want %d", n, minutes*each)
	}
	if len(known) != minutes {
		t.Errorf("%d events of the operator that is known, want %d", len(known), minutes)
	}
}

// An operator that sends what is refused, day and night, has some events a minute, and they name it.
func TestFoldingOfAnOperator(t *testing.T) {
	now := time.Now()
	var got []Event
	f := Folding{Now: func() time.Time { return now }, Record: func(e Event) { got = append(got, e) }}
	const minutes, each, codes = 3 * 60, 100, 5
	for range minutes {
		for i := range each * codes {
			f.Add(Alike{Who: "an operator", Known: true, Cmd: "RCPT", Code: strconv.Itoa(i % codes)},
				Event{Kind: Refused, Attrs: []Attr{{Key: KeyOperatorDN, Value: "an operator"}}})
		}
		now = now.Add(foldWindow)
	}
	f.Flush()
	if n := told(t, got); n != minutes*each*codes || len(got) > 6000+minutes*(120+codes) {
		t.Errorf("%d events tell of %d refusals, want %d", len(got), n, minutes*each*codes)
	}
	for _, e := range got {
		if e.Attr(KeyOperatorDN) == "" {
			t.Fatalf("an event names nobody: %+v", e)
		}
	}
}

func TestFoldingIsBounded(t *testing.T) {
	now := time.Now()
	var got []Event
	f := Folding{Record: func(e Event) { got = append(got, e) }, Now: func() time.Time { return now }}
	const kinds = 3 * foldKinds // more commands and codes than there are
	for i := range kinds {
		f.Add(Alike{Who: "x", Known: i%2 == 0, Code: fmt.Sprint(i)}, Event{Kind: Refused})
	}
	if len(f.kinds) > 2*foldKinds+2 {
		t.Errorf("%d kinds held", len(f.kinds))
	}
	f.Flush()
	if n := told(t, got); n != kinds {
		t.Errorf("the events tell of %d refusals, want %d", n, kinds)
	}
	// A clock that is set back, and a quiet hour, begin anew.
	for _, d := range []time.Duration{-time.Hour, 2 * time.Hour} {
		now = now.Add(d)
		got = nil
		f.Add(Alike{Who: "0", Known: true, Cmd: "MAIL"}, Event{Kind: Refused})
		f.Flush()
		if n := told(t, got); n != 1 {
			t.Errorf("%v later: %d", d, n)
		}
	}
}
