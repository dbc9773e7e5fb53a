package auth_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mssd/auth"
	"mssd/store"
)

var elsewhere = netip.MustParseAddr("198.51.100.77")

func (w *world) from(remote netip.Addr, user, password string) (*auth.Principal, error) {
	return w.a.Password(w.t.Context(), user, password, remote)
}

// TestGuessesWhileTheOwnerIsIn: that somebody has just logged in gives a stranger no guess more, and takes nothing from who is in.
func TestGuessesWhileTheOwnerIsIn(t *testing.T) {
	w := newWorld(t)
	looked := 0
	for i := range 50 {
		if _, err := w.login(string(pharmacy), secret); err != nil {
			t.Fatalf("the owner, after %d guesses: %v", i, err)
		}
		_, err := w.from(elsewhere, string(pharmacy), fmt.Sprint("guess", i))
		if errors.Is(err, auth.ErrCredentials) {
			looked++
		}
	}
	if looked > 6 {
		t.Errorf("%d guesses were looked at", looked)
	}
	if _, err := w.from(elsewhere, string(pharmacy), secret); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("the guess that is right, among many: %v", err)
	}
}

// TestGuessesAtATime: of many guesses that come at the same moment no more are looked at than one after the other.
func TestGuessesAtATime(t *testing.T) {
	w := newWorld(t)
	w.a = auth.New(auth.Config{Store: w.st, Argon: cheap, MaxParallel: 2, MaxWait: time.Hour,
		Now: func() time.Time { return start }})
	costly, err := auth.HashPassword(auth.Params{Time: 3, MemoryKiB: 32 << 10, Threads: 1}, secret)
	if err != nil {
		t.Fatal(err)
	}
	w.put(pharmacy, store.Member{ID: "rpps:99900000052", Role: store.Owner, PasswordHash: costly}, "")
	var all sync.WaitGroup
	var looked atomic.Int64
	for i := range 100 {
		all.Go(func() {
			if _, err := w.from(elsewhere, string(pharmacy), fmt.Sprint("guess", i)); errors.Is(err, auth.ErrCredentials) {
				looked.Add(1)
			}
		})
	}
	all.Wait()
	if n := looked.Load(); n > 8 {
		t.Errorf("%d guesses were looked at", n)
	}
}

// TestOldPassword: a workstation that nobody has told the new password tries the old one every minute, for a day. It keeps nobody out,
// neither at its own address nor elsewhere.
func TestOldPassword(t *testing.T) {
	for _, remote := range []netip.Addr{office, elsewhere} {
		w := newWorld(t)
		if _, err := w.login(string(pharmacy), secret); err != nil {
			t.Fatal(err)
		}
		w.put(pharmacy, store.Member{ID: "rpps:99900000052", Role: store.Owner}, secret2)
		for i := range 24 * 60 {
			w.now = w.now.Add(time.Minute)
			if _, err := w.from(remote, string(pharmacy), secret); !errors.Is(err, auth.ErrCredentials) {
				t.Fatalf("the old password: %v", err)
			}
			if i%10 != 0 {
				continue
			}
			at := office
			if i%100 == 0 {
				at = netip.AddrFrom4([4]byte{203, 0, 113, byte(i / 10)}) // on the way
			}
			if _, err := w.from(at, string(pharmacy), secret2); err != nil {
				t.Fatalf("minute %d, the new password from %v: %v", i, at, err)
			}
		}
		w.put(pharmacy, store.Member{ID: "rpps:99900000052", Role: store.Owner}, secret)
		if _, err := w.from(remote, string(pharmacy), secret); err != nil {
			t.Errorf("the old password, which is the new one again: %v", err)
		}
	}
}

// TestFloodFromOneAddress: somebody behind the address of a hospital tries thousands of passwords of others. Who logged in from there before
// goes on doing so, long after what was remembered of their password is forgotten.
func TestFloodFromOneAddress(t *testing.T) {
	w := newWorld(t)
	w.a = auth.New(auth.Config{Store: w.st, Argon: cheap, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler)})
	if _, err := w.login(string(pharmacy), secret); err != nil {
		t.Fatal(err)
	}
	throttled := 0
	for i := range 3000 {
		w.now = w.now.Add(time.Second)
		if _, err := w.login(fmt.Sprintf("personne%d@officine.test", i%700), fmt.Sprint("x", i)); errors.Is(err, auth.ErrThrottled) {
			throttled++
		}
		if i%100 == 0 {
			if _, err := w.login(string(pharmacy), secret); err != nil {
				t.Fatalf("after %d: %v", i, err)
			}
		}
	}
	if throttled < 2500 {
		t.Errorf("only %d of 3000 had to wait", throttled)
	}
	if _, err := w.login("anne%"+string(team), secret2); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("who was never there before waits with the others: %v", err)
	}
	// At this member, from their own address: bounded too.
	looked := 0
	for i := range 1000 {
		if _, err := w.login(string(pharmacy), fmt.Sprint("y", i)); errors.Is(err, auth.ErrCredentials) {
			looked++
		}
	}
	if looked > 101 {
		t.Errorf("%d guesses at a member from their own address", looked)
	}
}

// TestStrangersHash: who has passwords of strangers hashed all the time keeps nobody waiting who comes from where they always come from.
func TestStrangersHash(t *testing.T) {
	w := newWorld(t)
	w.a = auth.New(auth.Config{Store: w.st, Argon: auth.Params{Time: 4, MemoryKiB: 32 << 10, Threads: 1}, MaxParallel: 2, MaxWait: time.Hour, Cache: -1,
		Now: func() time.Time { return start }})
	if _, err := w.login(string(pharmacy), secret); err != nil {
		t.Fatal(err)
	}
	const n = 40
	var all sync.WaitGroup
	var done atomic.Int64
	begun := make(chan struct{}, n)
	for i := range n {
		all.Go(func() {
			begun <- struct{}{}
			_, _ = w.from(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), fmt.Sprintf("personne%d@officine.test", i), "x")
			done.Add(1)
		})
	}
	for range n {
		<-begun
	}
	if _, err := w.login(string(pharmacy), secret); err != nil {
		t.Fatal(err)
	}
	if left := n - done.Load(); left < n/2 {
		t.Errorf("%d strangers were served first", n-left)
	}
	all.Wait()
}
