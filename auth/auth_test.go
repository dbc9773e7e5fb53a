package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mssd/auth"
	"mssd/store"
	"mssd/store/storetest"
)

var (
	cheap  = auth.Params{Time: 1, MemoryKiB: 64, Threads: 1}
	office = netip.MustParseAddr("192.0.2.7")
	start  = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
)

const (
	pharmacy store.Address = "pharmacie@officine.test"
	team     store.Address = "equipe@officine.test"
	secret                 = "Tres-Secret-42"
	secret2                = "Autre-Secret-43"
)

// world is a store with two BALs, a clock and a captured log.
type world struct {
	t   *testing.T
	st  *store.Store
	a   *auth.Authenticator
	now time.Time
	log bytes.Buffer
	mu  sync.Mutex
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, st: storetest.New(t), now: start}
	w.a = auth.New(auth.Config{Store: w.st, Argon: cheap, Now: func() time.Time { return w.now },
		Log: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	storetest.AddBAL(t, w.st, pharmacy, store.ORG)
	storetest.AddBAL(t, w.st, team, store.ORG)
	w.put(pharmacy, store.Member{ID: "rpps:99900000052", Role: store.Owner}, secret)
	w.put(pharmacy, store.Member{ID: "local:lecteur", Role: store.Reader}, "")
	w.put(team, store.Member{ID: "rpps:99900000052", Role: store.Owner}, secret)
	w.put(team, store.Member{ID: "local:anne", Role: store.Writer, Until: start.Add(time.Hour)}, secret2)
	return w
}

func (w *world) put(a store.Address, m store.Member, password string) {
	w.t.Helper()
	if password != "" {
		h, err := auth.HashPassword(cheap, password)
		if err != nil {
			w.t.Fatal(err)
		}
		m.PasswordHash = h
	}
	w.commit(store.PutMember{Address: a, Member: m})
}

func (w *world) commit(op store.Op) {
	w.t.Helper()
	if _, err := w.st.Commit(context.Background(), &store.Batch{Ops: []store.Op{op}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) login(user, password string) (*auth.Principal, error) {
	return w.a.Password(context.Background(), user, password, office)
}

func TestPassword(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		user, password, person string
		role                   store.Role
	}{
		{"pharmacie@officine.test", secret, "rpps:99900000052", store.Owner},
		{"Pharmacie@OFFICINE.test", secret, "rpps:99900000052", store.Owner},
		{"99900000052%pharmacie@officine.test", secret, "rpps:99900000052", store.Owner},
		{"rpps:99900000052%equipe@officine.test", secret, "rpps:99900000052", store.Owner},
		{"Anne%equipe@officine.test", secret2, "local:anne", store.Writer},
		{"pharmacie@officine.test", "tres-secret-42", "", 0},
		{"pharmacie@officine.test", "", "", 0},
		{"pharmacie@officine.test", strings.Repeat("x", 5000), "", 0},
		{"equipe@officine.test", secret, "", 0}, // two members have a password
		{"anne%equipe@officine.test", secret, "", 0},
		{"lecteur%pharmacie@officine.test", "", "", 0},
		{"nobody%equipe@officine.test", secret, "", 0},
		{"nobody@officine.test", secret, "", 0},
		{"%pharmacie@officine.test", secret, "", 0},
		{"", "", "", 0},
		{strings.Repeat("a", 10000), secret, "", 0},
	} {
		p, err := w.login(c.user, c.password)
		if c.person == "" {
			if !errors.Is(err, auth.ErrCredentials) || p != nil {
				t.Errorf("%.40q: got %v, %v", c.user, p, err)
			}
			w.now = w.now.Add(time.Minute) // past the throttle
			continue
		}
		if err != nil || p.Person != c.person || len(p.Grants) != 1 || p.Grants[0].Role != c.role || p.Method != "password" {
			t.Errorf("%q: got %+v, %v", c.user, p, err)
		}
	}
}

func TestClosedBALLooksLikeWrongPassword(t *testing.T) {
	w := newWorld(t)
	p, err := w.login(string(pharmacy), secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []store.State{store.Suspended, store.Closed} {
		w.commit(store.SetBALState{Address: pharmacy, State: state})
		if _, err := w.login(string(pharmacy), secret); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("%v: got %v", state, err)
		}
		if err := w.a.Check(p, p.Grants[0]); !errors.Is(err, auth.ErrWithdrawn) {
			t.Errorf("%v: the open session goes on: %v", state, err)
		}
		if want := "the BAL is " + state.String(); !strings.Contains(w.log.String(), want) || !strings.Contains(w.log.String(), string(pharmacy)) {
			t.Errorf("the log does not say %q:\n%s", want, w.log.String())
		}
	}
}

// What was verified a moment ago opens a destroyed BAL no more than what was not.
func TestDestroyedBALLooksLikeWrongPassword(t *testing.T) {
	w := newWorld(t)
	p, err := w.login(string(pharmacy), secret)
	if err != nil {
		t.Fatal(err)
	}
	w.commit(store.SetBALState{Address: pharmacy, State: store.Closed})
	if _, err := w.st.DestroyBAL(context.Background(), pharmacy); err != nil {
		t.Fatal(err)
	}
	if _, err := w.login(string(pharmacy), secret); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("got %v", err)
	}
	if err := w.a.Check(p, p.Grants[0]); !errors.Is(err, auth.ErrWithdrawn) {
		t.Errorf("the open session goes on: %v", err)
	}
}

func TestMembershipAndCache(t *testing.T) {
	w := newWorld(t)
	const user = "anne%equipe@officine.test"
	p, err := w.login(user, secret2)
	if err != nil {
		t.Fatal(err)
	}
	g := p.Grants[0]
	if err := w.a.Check(p, g); err != nil {
		t.Errorf("just logged in: %v", err)
	}
	if err := w.a.Check(p, auth.Grant{BAL: g.BAL, Role: store.Owner}); !errors.Is(err, auth.ErrWithdrawn) {
		t.Errorf("a writer is no owner: %v", err)
	}
	// Each change below makes the remembered login worthless within its five minutes.
	w.put(team, store.Member{ID: "local:anne", Role: store.Reader}, secret)
	if _, err := w.login(user, secret2); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("old password after a change: %v", err)
	}
	if err := w.a.Check(p, g); !errors.Is(err, auth.ErrWithdrawn) {
		t.Errorf("role lowered: %v", err)
	}
	if p, err = w.login(user, secret); err != nil || p.Grants[0].Role != store.Reader {
		t.Fatalf("new password: %v", err)
	}
	w.commit(store.EndMember{Address: team, Member: "local:anne"})
	if _, err := w.login(user, secret); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("after the end: %v", err)
	}
	if err := w.a.Check(p, p.Grants[0]); !errors.Is(err, auth.ErrWithdrawn) {
		t.Errorf("after the end: %v", err)
	}
	w.put(team, store.Member{ID: "local:anne", Role: store.Writer, From: start.Add(time.Minute), Until: start.Add(2 * time.Minute)}, secret2)
	for _, c := range []struct {
		after time.Duration
		want  error
	}{{59 * time.Second, auth.ErrCredentials}, {time.Minute, nil}, {2*time.Minute - 1, nil}, {2 * time.Minute, auth.ErrCredentials}} {
		w.now = start.Add(c.after)
		if _, err := w.login(user, secret2); !errors.Is(err, c.want) {
			t.Errorf("after %v: got %v, want %v", c.after, err, c.want)
		}
	}
}

func TestThrottle(t *testing.T) {
	w := newWorld(t)
	for i := range 6 {
		if _, err := w.login(string(pharmacy), fmt.Sprint("wrong", i)); !errors.Is(err, auth.ErrCredentials) {
			t.Fatalf("failure %d: %v", i, err)
		}
	}
	if _, err := w.login(string(pharmacy), secret); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("after six failures: %v", err)
	}
	if _, err := w.login("99900000052%pharmacie@officine.test", secret); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("the other name of this member: %v", err)
	}
	if _, err := w.login("anne%equipe@officine.test", secret2); err != nil {
		t.Errorf("a colleague at the same address: %v", err)
	}
	w.now = w.now.Add(time.Second)
	if _, err := w.login(string(pharmacy), "wrong"); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("a second later: %v", err)
	}
	w.now = w.now.Add(time.Second)
	if _, err := w.login(string(pharmacy), secret); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("the wait does not grow: %v", err)
	}
	w.now = w.now.Add(time.Second)
	if _, err := w.login(string(pharmacy), secret); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	for i := range 50 {
		_, _ = w.login(string(pharmacy), fmt.Sprint("wrong again", i))
	}
	if _, err := w.login(string(pharmacy), secret); err != nil {
		t.Errorf("a workstation that is in is locked out by guesses: %v", err)
	}
}

func TestThrottlePerAddress(t *testing.T) {
	w := newWorld(t)
	var err error
	for i := range 200 {
		if _, err = w.login(fmt.Sprintf("user%d@officine.test", i), "wrong"); errors.Is(err, auth.ErrThrottled) {
			if i < 100 {
				t.Errorf("throttled after %d failures", i)
			}
			break
		}
	}
	if !errors.Is(err, auth.ErrThrottled) {
		t.Error("200 users tried from one address, and no throttle")
	}
	if _, err := w.a.Password(context.Background(), string(pharmacy), secret, netip.MustParseAddr("198.51.100.1")); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
}

// TestSharedAddress is a hospital behind one address: 30 workstations that each log in, some after a mistake, all day.
func TestSharedAddress(t *testing.T) {
	w := newWorld(t)
	for i := range 30 {
		a := store.Address(fmt.Sprintf("poste%d@officine.test", i))
		storetest.AddBAL(t, w.st, a, store.ORG)
		w.put(a, store.Member{ID: "local:poste", Role: store.Writer}, secret)
	}
	for hour := range 8 {
		for i := range 30 {
			user := fmt.Sprintf("poste%d@officine.test", i)
			for range 2 {
				if _, err := w.login(user, "mistake"); !errors.Is(err, auth.ErrCredentials) {
					t.Fatalf("hour %d, %s, mistake: %v", hour, user, err)
				}
			}
			if _, err := w.login(user, secret); err != nil {
				t.Fatalf("hour %d, %s: %v", hour, user, err)
			}
		}
		w.now = w.now.Add(time.Hour)
	}
}

func TestNoSecretsInLog(t *testing.T) {
	w := newWorld(t)
	for _, u := range []string{string(pharmacy), string(team), "nobody@officine.test", secret, secret + "@officine.test"} {
		for _, p := range []string{secret, secret2, "x" + secret} {
			principal, err := w.login(u, p)
			slog.New(slog.NewTextHandler(w, nil)).Info("login", "who", principal, "err", err)
		}
	}
	w.commit(store.PutMember{Address: pharmacy, Member: store.Member{ID: "rpps:99900000052", Role: store.Owner, PasswordHash: "$argon2id$broken"}})
	w.now = w.now.Add(time.Hour)
	if _, err := w.login(string(pharmacy), secret); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("broken hash: %v", err)
	}
	out := w.log.String()
	if !strings.Contains(out, "wrong password") || !strings.Contains(out, "not usable") {
		t.Fatalf("the log says nothing:\n%s", out)
	}
	for _, s := range []string{"Secret", "secret-", "argon2id$broken"} {
		if strings.Contains(out, s) {
			t.Errorf("the log holds %q:\n%s", s, out)
		}
	}
}

func TestParallel(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			user, password := string(pharmacy), secret
			if i%4 == 0 {
				user, password = fmt.Sprintf("nobody%d@officine.test", i), "wrong"
			}
			p, err := w.login(user, password)
			if i%4 != 0 && (err != nil || w.a.Check(p, p.Grants[0]) != nil) {
				t.Errorf("login: %v", err)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	busy := auth.New(auth.Config{Store: w.st, Argon: auth.Params{Time: 1, MemoryKiB: 1 << 16}, MaxParallel: 1, Cache: -1})
	if _, err := busy.Password(ctx, string(pharmacy), secret, office); err != nil && !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestEqualWork: an unknown user, a wrong password and a closed BAL cost one hash each.
func TestEqualWork(t *testing.T) {
	st := storetest.New(t)
	costly := auth.Params{Time: 2, MemoryKiB: 32 << 10, Threads: 1}
	a := auth.New(auth.Config{Store: st, Argon: costly, Cache: -1})
	for _, addr := range []store.Address{pharmacy, team} {
		storetest.AddBAL(t, st, addr, store.ORG)
		h, err := auth.HashPassword(costly, secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Commit(context.Background(), &store.Batch{Ops: []store.Op{
			store.PutMember{Address: addr, Member: store.Member{ID: "local:x", Role: store.Owner, PasswordHash: h}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Commit(context.Background(), &store.Batch{Ops: []store.Op{store.SetBALState{Address: team, State: store.Closed}}}); err != nil {
		t.Fatal(err)
	}
	// The work, not the time: others use this machine too.
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	fastest := func(user, password string) time.Duration {
		best := time.Hour
		for i := range 3 {
			began := spent()
			from := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}) // the same from the same address is not worked on
			if _, err := a.Password(context.Background(), user, password, from); !errors.Is(err, auth.ErrCredentials) {
				t.Fatal(err)
			}
			best = min(best, spent()-began)
		}
		return best
	}
	wrong := fastest(string(pharmacy), "wrong")
	for user, password := range map[string]string{"nobody@officine.test": "wrong", string(team): secret, "a%" + string(pharmacy): "wrong"} {
		// Without the work it would take microseconds.
		if took := fastest(user, password); took < wrong/5 {
			t.Errorf("%s: %v, a wrong password %v", user, took, wrong)
		}
	}
}

func TestUserName(t *testing.T) {
	w := newWorld(t)
	for _, addr := range []store.Address{pharmacy, team} {
		bal, err := w.st.BAL(addr)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range w.st.Members(bal.ID) {
			if m.PasswordHash == "" {
				continue
			}
			password := secret
			if m.ID == "local:anne" {
				password = secret2
			}
			user := auth.UserName(addr, m, w.st.Members(bal.ID), w.now)
			if p, err := w.login(user, password); err != nil || p.Person != m.ID {
				t.Errorf("%s: %v", user, err)
			}
		}
	}
}

func BenchmarkCachedLogin(b *testing.B) {
	st := storetest.New(b)
	storetest.AddBAL(b, st, pharmacy, store.ORG)
	h, err := auth.HashPassword(cheap, secret)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := st.Commit(context.Background(), &store.Batch{Ops: []store.Op{
		store.PutMember{Address: pharmacy, Member: store.Member{ID: "local:x", Role: store.Owner, PasswordHash: h}}}}); err != nil {
		b.Fatal(err)
	}
	a := auth.New(auth.Config{Store: st, Argon: cheap})
	for b.Loop() {
		if _, err := a.Password(context.Background(), string(pharmacy), secret, office); err != nil {
			b.Fatal(err)
		}
	}
}
