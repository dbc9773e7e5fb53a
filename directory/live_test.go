package directory

import (
	"context"
	"fmt"
	"testing"
	"time"

	"mssd/directory/slapdtest"
)

// TestLater: the server itself is asked about what was accepted without its word; nobody waits for it.
func TestLater(t *testing.T) {
	s := slapdtest.Start(t)
	m := newMirror(t, LDAPConfig{URL: s.URL, NoSync: true})
	m.refresh()
	s.AddBAL(newBAL, "ORG", "990000999") // after the reading: the image does not know it
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	told := make(chan Decision, 10)
	tell := func(dec Decision) { told <- dec }
	ask := func(address, listing string) Decision {
		q := Query{Address: address, Kind: "ORG", Structure: "990000999", Listing: listing}
		dec := m.Decide(ctx, q)
		m.Later(q, dec, tell)
		return dec
	}
	if dec := ask(newBAL, "unlisted"); dec.Answer != Unknown || dec.Live || dec.Action != Accept {
		t.Fatalf("%+v", dec)
	}
	ask(moulinBAL, "unlisted")                                 // known with another structure
	ask("absente@test-officines.mssante.fr", "unlisted")       // not there, then either
	known := ask(newBAL, "published")                          // asked inside RCPT: not again
	ask("lgo.reception@test-officines.mssante.fr", "unlisted") // another type
	m.Later(Query{Address: moulinBAL}, Decision{Answer: Known, Action: Accept}, tell)
	m.Later(Query{Address: moulinBAL}, Decision{Answer: Unknown, Action: Refuse550}, tell)
	m.Later(Query{Address: moulinBAL}, Decision{}, tell)
	if known.Answer != Known || !known.Live {
		t.Errorf("a published one is asked at once: %+v", known)
	}
	select {
	case dec := <-told:
		t.Fatalf("it was asked inside the call: %+v", dec)
	default:
	}
	go func() { m.askLater(ctx); close(done) }()
	for _, want := range []Answer{Known, KnownOther, Unknown, KnownOther} {
		select {
		case dec := <-told:
			if dec.Answer != want || dec.Action == 0 || !dec.Live || dec.Source != "ldap-live" {
				t.Errorf("got %+v, want %v", dec, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing told, want %v", want)
		}
	}
	cancel()
	<-done
	if len(told) > 0 {
		t.Errorf("more was asked: %+v", <-told)
	}
	// Nobody works them off: the rest is dropped, and counted.
	for range maxLater + 7 {
		m.Later(Query{Address: newBAL}, Decision{Answer: Unknown, Action: Accept}, tell)
	}
	if st := m.Status().Live; st.Dropped != 7 {
		t.Errorf("%+v", st)
	}
}

// TestLiveCancelled: a peer that goes away while its question is under way says nothing of the server.
func TestLiveCancelled(t *testing.T) {
	s := slapdtest.Start(t)
	m := newMirror(t, LDAPConfig{URL: s.URL})
	m.refresh()
	s.Freeze()
	for i := range breakAfter + 1 {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(10*time.Millisecond, cancel)
		q := Query{Address: fmt.Sprintf("inconnue%d@test-officines.mssante.fr", i), Kind: "ORG"}
		if dec := m.Decide(ctx, q); dec.Answer != CannotTell || dec.Action != AcceptNote {
			t.Fatalf("%+v", dec)
		}
	}
	if st := m.Status().Live; st.Refrains {
		t.Errorf("peers that went away opened the circuit breaker: %+v", st)
	}
	s.Thaw()
	m.wait("an answer", func() bool {
		return m.Decide(context.Background(), Query{Address: "encore@test-officines.mssante.fr", Kind: "ORG"}).Answer == Unknown
	})
}

// TestNegativeCache: what was not there is not asked again for a while, unless the image changed.
func TestNegativeCache(t *testing.T) {
	s := slapdtest.Start(t)
	m := newMirror(t, LDAPConfig{URL: s.URL, NoSync: true})
	m.refresh()
	asked := func() uint64 {
		t.Helper()
		if dec := m.Decide(context.Background(), Query{Address: "Absente@test-officines.mssante.fr", Kind: "ORG"}); dec.Answer != Unknown || dec.Action != Refuse550 {
			t.Fatalf("%+v", dec)
		}
		return m.Status().Live.Asked
	}
	if first := asked(); asked() != first {
		t.Error("asked again")
	}
	before := asked()
	m.refresh()
	if asked() != before+1 {
		t.Error("not asked again after another reading")
	}
}
