package auth_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/store/storetest"
)

// watched is a world whose sessions are watched, with a clock that a test may set while they are.
type watched struct {
	*world
	sessions auth.Sessions
	ahead    atomic.Int64 // of start, nanoseconds
}

func newWatched(t *testing.T) *watched {
	w := &watched{world: &world{t: t, st: storetest.New(t)}}
	w.sessions.Auth = auth.New(auth.Config{Store: w.st, Argon: cheap, Now: func() time.Time { return start.Add(time.Duration(w.ahead.Load())) }})
	for _, a := range []store.Address{pharmacy, team} {
		storetest.AddBAL(t, w.st, a, store.ORG)
		w.put(a, store.Member{ID: "rpps:99900000052", Role: store.Owner}, "")
		w.put(a, store.Member{ID: "local:anne", Role: store.Owner}, "")
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		w.sessions.Watch(done)
	}()
	t.Cleanup(func() {
		close(done)
		<-stopped
	})
	return w
}

// add enters a session; what ends it comes out of the channel.
func (w *watched) add(person string, a store.Address, until time.Time) (*auth.Session, chan error) {
	w.t.Helper()
	bal, err := w.st.BAL(a)
	if err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan error, 2)
	p := &auth.Principal{Person: person, Grants: []auth.Grant{{BAL: bal, Role: store.Owner}}, Until: until}
	return w.sessions.Add(p, func(err error) { ended <- err }), ended
}

// TestSilentSessionsEnd: a session that asks nothing is ended, once and with the reason, when its right is over; that of a colleague,
// and that of the same person on another BAL, go on.
func TestSilentSessionsEnd(t *testing.T) {
	member := store.Member{ID: "rpps:99900000052"}
	for name, c := range map[string]struct {
		end  func(w *watched)
		want error
	}{
		"right withdrawn": {func(w *watched) { w.commit(store.EndMember{Address: pharmacy, Member: member.ID}) }, auth.ErrWithdrawn},
		"role lowered": {func(w *watched) {
			w.put(pharmacy, store.Member{ID: member.ID, Role: store.Reader}, "")
		}, auth.ErrWithdrawn},
		"membership over": {func(w *watched) {
			w.put(pharmacy, store.Member{ID: member.ID, Role: store.Owner, Until: start.Add(time.Minute)}, "")
			w.ahead.Store(int64(time.Minute))
		}, auth.ErrWithdrawn},
		"session over": {func(w *watched) { w.ahead.Store(int64(time.Hour)) }, auth.ErrSessionOver},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatched(t)
			gone, ended := w.add(member.ID, pharmacy, start.Add(time.Hour))
			_, colleague := w.add("local:anne", pharmacy, time.Time{})
			_, elsewhere := w.add(member.ID, team, time.Time{})
			c.end(w)
			if err := waitFor(t, ended); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if gone.Remove() {
				t.Error("the session was still there after its end")
			}
			// One more that ends tells that all were looked at again.
			w.commit(store.EndMember{Address: team, Member: "local:anne"})
			_, last := w.add("local:anne", team, time.Time{})
			waitFor(t, last)
			if len(ended)+len(colleague)+len(elsewhere) != 0 {
				t.Errorf("ended again %d, colleague %d, elsewhere %d times", len(ended), len(colleague), len(elsewhere))
			}
		})
	}
}

// TestSuspensionEndsAll: a BAL that is suspended has no session left, whosever it was.
func TestSuspensionEndsAll(t *testing.T) {
	w := newWatched(t)
	_, one := w.add("rpps:99900000052", pharmacy, time.Time{})
	_, two := w.add("local:anne", pharmacy, time.Time{})
	_, elsewhere := w.add("local:anne", team, time.Time{})
	w.commit(store.SetBALState{Address: pharmacy, State: store.Suspended})
	for _, c := range []chan error{one, two} {
		if err := waitFor(t, c); !errors.Is(err, auth.ErrWithdrawn) {
			t.Error(err)
		}
	}
	if len(elsewhere) != 0 {
		t.Error("the session on another BAL ended too")
	}
}

// TestSessionRemoved: a session that left is not called any more, and of all who take one out, the watch among them, one is
// told that it was there.
func TestSessionRemoved(t *testing.T) {
	var never *auth.Session
	if never.Remove() {
		t.Error("a session that never logged in was there")
	}
	w := newWatched(t)
	left, leftEnd := w.add("local:anne", team, time.Time{})
	if !left.Remove() || left.Remove() {
		t.Error("a session is not there once")
	}
	w.commit(store.EndMember{Address: team, Member: "local:anne"})
	for range 200 {
		s, ended := w.add("local:anne", team, time.Time{})
		var removed atomic.Int32
		var wg sync.WaitGroup
		wg.Go(w.sessions.EndOver)
		wg.Go(w.sessions.EndOver)
		wg.Go(func() {
			if s.Remove() {
				removed.Add(1)
			}
		})
		wg.Wait()
		if n := int(removed.Load()) + len(ended); n != 1 {
			t.Fatalf("%d were told", n)
		}
	}
	if len(leftEnd) != 0 {
		t.Error("a session that had left was ended")
	}
}

func waitFor(t *testing.T, c chan error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case err := <-c:
		return err
	case <-ctx.Done():
		t.Fatal("the session goes on")
		return nil
	}
}
