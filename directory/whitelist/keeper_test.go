package whitelist

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mssd/tlsconf"
)

// bench is a keeper's surroundings: a file, a state folder and a clock that a test moves.
type bench struct {
	t     *testing.T
	s     *space
	cfg   KeeperConfig
	base  time.Time
	clock struct {
		sync.Mutex
		now time.Time
	}
}

func newBench(t *testing.T) *bench {
	dir := t.TempDir()
	b := &bench{t: t, s: newSpace(t), base: made()}
	b.clock.now = time.Now()
	b.cfg = KeeperConfig{File: filepath.Join(dir, "list.xml"), StateDir: filepath.Join(dir, "state"), Load: b.s.options(), Now: b.now}
	return b
}

func (b *bench) now() time.Time {
	b.clock.Lock()
	defer b.clock.Unlock()
	return b.clock.now
}

func (b *bench) pass(d time.Duration) {
	b.clock.Lock()
	defer b.clock.Unlock()
	b.clock.now = b.clock.now.Add(d)
}

// put replaces the file by a list of n domains made at base + after.
func (b *bench) put(n int, after time.Duration) {
	b.t.Helper()
	b.putDoc(b.s.list(b.t, domains(n), b.base.Add(after)))
}

func (b *bench) putDoc(doc []byte) {
	b.t.Helper()
	if err := errors.Join(os.WriteFile(b.cfg.File+".new", doc, 0o600), os.Rename(b.cfg.File+".new", b.cfg.File)); err != nil {
		b.t.Fatal(err)
	}
}

func domains(n int) []Binding {
	var out []Binding
	for i := range n {
		out = append(out, Binding{"d" + strings.Repeat("x", i) + ".test", "CN=smtp.test,O=A,C=FR", ""})
	}
	return out
}

func (b *bench) keeper() *Keeper {
	b.t.Helper()
	k, err := NewKeeper(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return k
}

func TestKeeperFirstStart(t *testing.T) {
	b := newBench(t)
	if _, err := NewKeeper(b.cfg); !errors.Is(err, ErrNoListYet) {
		t.Errorf("without a list: %v", err)
	}
	b.cfg.NoListYet = true
	k := b.keeper()
	if err := k.Usable(); !errors.Is(err, ErrUnavailable) || k.Current() != nil || k.Age() != 0 {
		t.Errorf("usable without a list: %v", err)
	}
	if a := k.Judge(t.Context(), "d.test", dn(t, "CN=smtp.test,O=A,C=FR"), b.now()); a != CannotTell {
		t.Errorf("without a list: %v", a)
	}
	b.put(3, 0)
	b.pass(2 * time.Minute)
	if a := k.Judge(t.Context(), "d.test", dn(t, "CN=smtp.test,O=A,C=FR"), b.now()); a != Bound {
		t.Errorf("after the list came: %v", a)
	}
}

// TestKeeperNewAnchors: anchors that could not be read at the start are taken at the next reload.
func TestKeeperNewAnchors(t *testing.T) {
	b := newBench(t)
	var now *tlsconf.Anchors
	given := b.cfg.Load.Anchors
	b.cfg.Load.Anchors, b.cfg.Load.AnchorsNow = nil, func() *tlsconf.Anchors { return now }
	b.cfg.NoListYet = true
	b.put(3, 0)
	k := b.keeper()
	if k.Current() != nil || k.Usable() == nil {
		t.Fatal("a list was taken without anchors")
	}
	now = given
	if err := k.Reload(t.Context()); err != nil || k.Usable() != nil || k.Current().Domains() != 3 {
		t.Errorf("with anchors: %v, %v", err, k.Usable())
	}
}

func TestKeeperJudge(t *testing.T) {
	b := newBench(t)
	b.put(3, 0)
	k := b.keeper()
	ours, other := dn(t, "CN=smtp.test,O=A,C=FR"), dn(t, "CN=other.test,O=A,C=FR")
	since := b.now()
	for _, tt := range []struct {
		domain string
		want   Answer
	}{{"d.test", Bound}, {"D.TEST", Bound}, {"none.test", NotListed}} {
		if got := k.Judge(t.Context(), tt.domain, ours, since); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.domain, got, tt.want)
		}
	}
	if got := k.Judge(t.Context(), "d.test", other, since); got != NotBound {
		t.Errorf("other certificate: %v", got)
	}
	if k.KnowsDN(t.Context(), ours, since) != Bound || k.KnowsDN(t.Context(), other, since) != NotBound {
		t.Error("KnowsDN is wrong")
	}
}

// The file that the list was read from proves it current, however long ago it was read; a file that is gone, changed or
// refused does not, and then no is not said for good.
func TestKeeperProof(t *testing.T) {
	b := newBench(t)
	b.put(3, 0)
	k := b.keeper()
	ours, other := dn(t, "CN=smtp.test,O=A,C=FR"), dn(t, "CN=other.test,O=A,C=FR")
	b.pass(30 * 24 * time.Hour)
	if got := k.Judge(t.Context(), "d.test", other, b.now()); got != NotBound || k.Age() != 0 || k.Usable() != nil {
		t.Errorf("file unchanged: %v, age %v, %v", got, k.Age(), k.Usable())
	}

	// Another list appears: the next no reads it, once a minute at most.
	b.pass(time.Hour)
	b.putDoc(b.s.list(t, append(domains(3), Binding{"new.test", other.String(), ""}), b.base.Add(time.Second)))
	if got := k.Judge(t.Context(), "new.test", other, b.now()); got != Bound || k.Generation() != 3 {
		t.Errorf("after a change: %v, generation %d", got, k.Generation())
	}
	b.putDoc(b.s.list(t, append(domains(4), Binding{"new.test", other.String(), ""}), b.base.Add(2*time.Second)))
	b.pass(time.Second)
	if got := k.Judge(t.Context(), "dxxx.test", other, b.now()); got != CannotTell || k.Generation() != 3 {
		t.Errorf("changed again within the minute: %v, generation %d", got, k.Generation())
	}
	b.pass(time.Minute)
	if got := k.Judge(t.Context(), "dxxx.test", other, b.now()); got != NotBound || k.Generation() != 4 {
		t.Errorf("a minute later: %v, generation %d", got, k.Generation())
	}

	// A bad file: what is bound stays bound, no is not said for good, the error names the file.
	b.putDoc([]byte("garbage"))
	b.pass(2 * time.Minute)
	if got := k.Judge(t.Context(), "none.test", ours, b.now()); got != CannotTell {
		t.Errorf("with a bad file: %v", got)
	}
	if got := k.Judge(t.Context(), "d.test", ours, b.now()); got != Bound {
		t.Errorf("with a bad file, bound: %v", got)
	}
	if err := k.Warning(); err == nil || !strings.Contains(err.Error(), b.cfg.File) {
		t.Errorf("warning: %v", err)
	}

	// It is gone for long: past Defer nothing is said any more, until it is back.
	if err := os.Remove(b.cfg.File); err != nil {
		t.Fatal(err)
	}
	b.pass(25 * time.Hour)
	if err := k.Usable(); err != nil || k.Warning() == nil {
		t.Errorf("after a day: usable %v, warning %v", err, k.Warning())
	}
	b.pass(6 * 24 * time.Hour)
	if got := k.Judge(t.Context(), "d.test", ours, b.now()); got != CannotTell || !errors.Is(k.Usable(), ErrUnavailable) {
		t.Errorf("after a week: %v, %v", got, k.Usable())
	}
	b.putDoc(b.s.list(t, domains(4), b.base.Add(3*time.Second)))
	b.pass(2 * time.Minute)
	if got := k.Judge(t.Context(), "d.test", ours, b.now()); got != Bound || k.Usable() != nil || k.Warning() != nil {
		t.Errorf("back again: %v, %v, %v", got, k.Usable(), k.Warning())
	}
}

// A no needs a proof since the question arose: without one in reach it is CannotTell.
func TestKeeperNoNeedsProof(t *testing.T) {
	b := newBench(t)
	b.put(3, 0)
	b.keeper()
	b.cfg.File = "" // only the copy is left
	k := b.keeper()
	ours := dn(t, "CN=smtp.test,O=A,C=FR")
	b.pass(time.Minute)
	if got := k.Judge(t.Context(), "d.test", ours, b.now()); got != Bound {
		t.Errorf("bound: %v", got)
	}
	if got := k.Judge(t.Context(), "none.test", ours, b.now()); got != CannotTell {
		t.Errorf("not listed: %v", got)
	}
	if got := k.KnowsDN(t.Context(), dn(t, "CN=x"), b.now()); got != CannotTell {
		t.Errorf("unknown DN: %v", got)
	}
	if proven, err := k.Refresh(t.Context()); proven || err == nil {
		t.Errorf("refresh without a source: %v, %v", proven, err)
	}
}

func TestKeeperRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		n      int
		after  time.Duration
		want   error
		change func(*bench)
	}{
		{name: "older", n: 10, after: -time.Second, want: ErrOlder},
		{name: "too many gone", n: 7, after: time.Second, want: ErrLoss},
		{name: "as many as allowed gone", n: 8, after: time.Second},
		{name: "more domains", n: 12, after: time.Second},
		{name: "same date", n: 11},
		{name: "bad signature", n: 10, after: time.Second, want: ErrSignature, change: func(b *bench) {
			doc, err := os.ReadFile(b.cfg.File)
			if err != nil {
				b.t.Fatal(err)
			}
			b.putDoc([]byte(strings.Replace(string(doc), "smtp.test", "evil.test", 1)))
		}},
		{name: "other signer", n: 10, after: time.Second, want: ErrSigner, change: func(b *bench) {
			b.cfg.Load.SignerNames = []string{"someone.else"}
		}},
		{name: "cut off", n: 10, after: time.Second, want: errAny, change: func(b *bench) {
			doc, err := os.ReadFile(b.cfg.File)
			if err != nil {
				b.t.Fatal(err)
			}
			b.putDoc(doc[:len(doc)/2])
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.put(10, 0)
			k := b.keeper()
			old := k.Current()
			b.put(tt.n, tt.after)
			if tt.change != nil {
				tt.change(b)
				k.cfg.Load = b.cfg.Load
			}
			err := k.Reload(t.Context())
			if tt.want == nil {
				if err != nil || k.Current() == old || k.Current().Domains() != tt.n || k.Generation() != 3 {
					t.Errorf("not accepted: %v", err)
				}
				return
			}
			if err == nil || tt.want != errAny && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), b.cfg.File) {
				t.Errorf("got %v, want %v naming the file", err, tt.want)
			}
			if k.Current() != old || k.Generation() != 2 {
				t.Error("the old list did not stay")
			}
			if got := k.Judge(t.Context(), "d.test", dn(t, "CN=smtp.test,O=A,C=FR"), b.now()); got != Bound {
				t.Errorf("the old list is not in force: %v", got)
			}
			// An operator may override age and loss, never the signature.
			err = k.Accept(t.Context(), b.cfg.File)
			if overridable := tt.want == ErrOlder || tt.want == ErrLoss; overridable != (err == nil) {
				t.Errorf("Accept: %v", err)
			}
		})
	}
}

var errAny = errors.New("any")

func TestKeeperSurvivesRestart(t *testing.T) {
	b := newBench(t)
	b.put(5, 0)
	b.keeper()
	copies := func() []string {
		names, err := filepath.Glob(filepath.Join(b.cfg.StateDir, "list", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if n := len(copies()); n != 2 {
		t.Fatalf("state folder has %q", copies())
	}
	if err := os.Remove(b.cfg.File); err != nil {
		t.Fatal(err)
	}
	// Anchors are missing too: what was accepted stays accepted. The age goes on.
	b.cfg.Load.Anchors = nil
	b.pass(2 * time.Hour)
	k := b.keeper()
	if k.Current() == nil || k.Current().Domains() != 5 || !k.Current().ChainChecked() || k.Age() != 2*time.Hour || k.Usable() != nil {
		t.Fatalf("after a restart: age %v, %v", k.Age(), k.Usable())
	}
	// An older list than the copy is refused after a restart too.
	b.cfg.Load = b.s.options()
	b.put(5, -30*time.Second)
	k = b.keeper()
	if err := k.LastError(); !errors.Is(err, ErrOlder) || !k.Current().Generated().Equal(b.base) {
		t.Errorf("older after a restart: %v", err)
	}
	// A damaged copy is not used, but it is no first start either.
	for _, name := range copies() {
		if strings.HasSuffix(name, ".xml") {
			if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(b.cfg.File); err != nil {
		t.Fatal(err)
	}
	k = b.keeper()
	if err := k.Usable(); !errors.Is(err, ErrUnavailable) || k.Current() != nil {
		t.Errorf("with a damaged copy: %v", err)
	}
}

// A crash between the copy and its record leaves the list accepted before.
func TestKeeperCrashWhileKeeping(t *testing.T) {
	b := newBench(t)
	b.put(5, 0)
	k := b.keeper()
	if err := k.writeState("list-0123456789abcdef.xml", []byte("half a list")); err != nil {
		t.Fatal(err)
	}
	b.cfg.File = ""
	if k = b.keeper(); k.Current() == nil || k.Current().Domains() != 5 {
		t.Errorf("after a crash: %v", k.Usable())
	}
}

// A list taken without a look at its signer is not taken up by a start that wants one.
func TestKeeperNoChainIsNotInherited(t *testing.T) {
	b := newBench(t)
	b.put(5, 0)
	b.cfg.Load = Options{NoChain: true}
	if k := b.keeper(); k.Current().ChainChecked() {
		t.Error("chain said to be checked")
	}
	b.cfg.File, b.cfg.Load = "", b.s.options()
	if k := b.keeper(); k.Current() != nil {
		t.Error("taken up")
	}
}

func TestKeeperConfigFaults(t *testing.T) {
	for name, change := range map[string]func(*KeeperConfig){
		"no state folder": func(c *KeeperConfig) { c.StateDir = "" },
		"loss over 1":     func(c *KeeperConfig) { c.MaxLoss = 2 },
		"warn over defer": func(c *KeeperConfig) { c.Warn = 10 * 24 * time.Hour },
		"poll too short":  func(c *KeeperConfig) { c.Poll = time.Millisecond },
	} {
		b := newBench(t)
		b.put(1, 0)
		change(&b.cfg)
		if _, err := NewKeeper(b.cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Questions, refreshes and new lists at once; the race detector looks on.
func TestKeeperConcurrent(t *testing.T) {
	b := newBench(t)
	b.put(5, 0)
	k := b.keeper()
	ours := dn(t, "CN=smtp.test,O=A,C=FR")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got := k.Judge(t.Context(), "d.test", ours, b.now()); got != Bound {
					t.Errorf("bound: %v", got)
				}
				k.Judge(t.Context(), "none.test", ours, b.now())
				b.pass(10 * time.Second)
			}
		})
	}
	for i := range 5 {
		b.put(5, time.Duration(i)*time.Second)
		if err := k.Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// A question whose session ends does not wait for a refresh.
func TestKeeperAskCancelled(t *testing.T) {
	b := newBench(t)
	b.put(5, 0)
	k := b.keeper()
	b.pass(2 * time.Minute)
	k.reading.Lock() // the source hangs
	b.put(6, time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := k.Judge(ctx, "none.test", dn(t, "CN=x"), b.now()); got != CannotTell {
		t.Errorf("while the source hangs: %v", got)
	}
	k.reading.Unlock()
	if _, err := k.Refresh(t.Context()); err != nil { // joins the one under way
		t.Error(err)
	}
	if n := k.Current().Domains(); n != 6 {
		t.Errorf("the refresh under way was lost: %d domains", n)
	}
}

func TestAnswerNames(t *testing.T) {
	for a, want := range map[Answer]string{CannotTell: "cannot_tell", Bound: "bound", NotBound: "not_bound", NotListed: "not_listed", 9: "answer_9"} {
		if a.String() != want {
			t.Errorf("%d: %s, want %s", a, a, want)
		}
	}
}
