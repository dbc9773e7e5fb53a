package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mssd/auth"
	"mssd/store"
	"mssd/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is what Server asks of the program around it.
type daemon struct {
	mu       sync.Mutex
	degraded []string
	faults   []error
	reloads  int
}

func (d *daemon) Addresses() map[string]string { return map[string]string{"smtp": "127.0.0.1:25"} }

func (d *daemon) Reload(context.Context) []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reloads++
	return d.faults
}

func (d *daemon) Degraded() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.degraded
}

var loopback = netip.MustParseAddr("127.0.0.1")

type house struct {
	*Client
	server *Server
	store  *store.Store
	daemon *daemon
	log    *strings.Builder
}

// open serves a real store on a real socket; the store is checked at the end.
func open(t *testing.T, set ...func(*Server)) *house {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(store.Options{Dir: filepath.Join(dir, "data"), Create: true, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{Client: &Client{Socket: filepath.Join(dir, "s")}, store: st, daemon: &daemon{}, log: &strings.Builder{}}
	h.server = &Server{Store: st, Fronts: h.daemon, Argon: auth.Params{Time: 1, MemoryKiB: 64, Threads: 1}, Version: "test",
		Log: slog.New(slog.NewTextHandler(&lockedWriter{w: h.log}, nil))}
	for _, f := range set {
		f(h.server)
	}
	h.server.setup() // a test may call a handler before the goroutine below has run
	l, err := Listen(h.Socket, false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(l) }()
	t.Cleanup(func() {
		if err := h.server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Error(err)
		}
		problems, err := st.Check(context.Background())
		if err != nil || len(problems) > 0 {
			t.Errorf("check: %v %v", problems, err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (h *house) addBAL(t *testing.T, address string) Made {
	t.Helper()
	made, err := h.AddBAL(t.Context(), NewBAL{Address: address, Kind: "ORG", Member: &NewMember{ID: "local:owner"}})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestBALLife(t *testing.T) {
	h := open(t)
	made := h.addBAL(t, "Pharmacie@Officines.Example")
	if made.BAL.Address != "pharmacie@officines.example" || made.BAL.State != "active" || made.BAL.Listing != "published" {
		t.Errorf("made %+v", made.BAL)
	}
	if len(made.Password) < 20 || made.User != "pharmacie@officines.example" {
		t.Errorf("user %q, password of %d characters", made.User, len(made.Password))
	}
	b, err := h.BAL(t.Context(), "pharmacie@officines.example")
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Members) != 1 || b.Members[0].Role != "owner" || !b.Members[0].HasPassword || len(b.Mailboxes) < 6 {
		t.Errorf("shown %+v", b)
	}
	app, err := h.AddBAL(t.Context(), NewBAL{Address: "appli@officines.example", Kind: "app"})
	if err != nil || app.BAL.Listing != "unlisted" || app.Password != "" || len(app.BAL.Members) != 0 {
		t.Errorf("APP without a member: %+v, %v", app, err)
	}
	list, err := h.BALs(t.Context())
	if err != nil || len(list) != 2 || list[0].Address != "appli@officines.example" {
		t.Errorf("list %+v, %v", list, err)
	}
}

// The password that is shown opens the BAL; the one of a member that was ended does not.
func TestPasswordOpensTheBAL(t *testing.T) {
	h := open(t)
	made := h.addBAL(t, "pharmacie@officines.example")
	second, err := h.AddMember(t.Context(), "pharmacie@officines.example", NewMember{ID: "rpps:99900000911", Password: "correct horse battery"})
	if err != nil || second.Password != "" {
		t.Fatalf("%+v, %v", second, err)
	}
	b, err := h.store.BAL("pharmacie@officines.example")
	if err != nil {
		t.Fatal(err)
	}
	a := auth.New(auth.Config{Store: h.store, Argon: h.server.Argon, Log: slog.New(slog.DiscardHandler)})
	login := func(user, password string) error {
		_, err := a.Password(t.Context(), user, password, loopback)
		return err
	}
	if err := login(second.User, "correct horse battery"); err != nil {
		t.Errorf("%s: %v", second.User, err)
	}
	owner := auth.UserName("pharmacie@officines.example", h.store.Members(b.ID)[0], h.store.Members(b.ID), time.Now())
	if err := login(owner, made.Password); err != nil {
		t.Errorf("%s: %v", owner, err)
	}
	if _, err := h.EndMember(t.Context(), "pharmacie@officines.example", "rpps:99900000911"); err != nil {
		t.Fatal(err)
	}
	if err := login(second.User, "correct horse battery"); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("an ended member logs in: %v", err)
	}
	if s := h.log.String(); strings.Contains(s, made.Password) || strings.Contains(s, "correct horse") {
		t.Errorf("the log holds a password:\n%s", s)
	}
}

func TestRefusals(t *testing.T) {
	h := open(t)
	h.addBAL(t, "pharmacie@officines.example")
	day := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	add := func(b NewBAL) func() error {
		return func() error { _, err := h.AddBAL(t.Context(), b); return err }
	}
	member := func(m NewMember) func() error {
		return func() error { _, err := h.AddMember(t.Context(), "pharmacie@officines.example", m); return err }
	}
	for _, c := range []struct {
		name   string
		do     func() error
		status int
		text   string
	}{
		{"same address", add(NewBAL{Address: "PHARMACIE@officines.example", Kind: "ORG"}), 409, "there already"},
		{"no domain", add(NewBAL{Address: "pharmacie", Kind: "ORG"}), 400, "is no address of a BAL"},
		{"two dots", add(NewBAL{Address: "phar..macie@officines.example", Kind: "ORG"}), 400, "is no address of a BAL"},
		{"space", add(NewBAL{Address: "phar macie@officines.example", Kind: "ORG"}), 400, "is no address of a BAL"},
		{"percent, which separates member and address", add(NewBAL{Address: "a%b@officines.example", Kind: "ORG"}), 400, "is no address of a BAL"},
		{"patients' domain", add(NewBAL{Address: "a@patient.mssante.fr", Kind: "ORG"}), 400, "belongs to the patient platform"},
		{"kind", add(NewBAL{Address: "b@officines.example", Kind: "X"}), 400, "is no kind of BAL"},
		{"listing", add(NewBAL{Address: "b@officines.example", Kind: "ORG", Listing: "red"}), 400, "is no listing"},
		{"quota", add(NewBAL{Address: "b@officines.example", Kind: "ORG", QuotaOctets: -1}), 400, "a quota is negative"},
		{"bad member takes the BAL with it", add(NewBAL{Address: "b@officines.example", Kind: "ORG", Member: &NewMember{ID: "x"}}), 400, "is no member id"},
		{"rpps of 10 digits", member(NewMember{ID: "rpps:9990000091"}), 400, "rpps: and 11 digits"},
		{"role", member(NewMember{ID: "local:a", Role: "boss"}), 400, "is no role"},
		{"ends before it begins", member(NewMember{ID: "local:a", From: &day, Until: &day}), 400, "before it begins"},
		{"short password", member(NewMember{ID: "local:a", Password: "short"}), 400, "has 5 characters"},
		{"control character", member(NewMember{ID: "local:a", Password: "long enough\x00 but not typable"}), 400, "control character"},
		{"member twice", member(NewMember{ID: "local:owner"}), 409, "is a member of this BAL already"},
		{"no such BAL", func() error { _, err := h.BAL(t.Context(), "x@officines.example"); return err }, 404, "no such BAL"},
		{"no such member", func() error { _, err := h.EndMember(t.Context(), "pharmacie@officines.example", "local:x"); return err }, 404, "no such member"},
		{"trace id", func() error { _, err := h.TraceByID(t.Context(), "!"); return err }, 400, "not an id"},
		{"unknown trace", func() error { _, err := h.TraceByID(t.Context(), "0123456789ABC"); return err }, 404, "knows nothing"},
		{"no directory", func() error { _, err := h.DirectoryStatus(t.Context()); return err }, 404, "mirrors no directory"},
		{"another version", func() error {
			_, err := call[Made](t.Context(), h.Client, "POST", "/v1/bals", map[string]int{"colour": 1})
			return err
		}, 400, "colour"},
		{"unknown request", func() error { _, err := call[Made](t.Context(), h.Client, "GET", "/v2/x", nil); return err }, 404, "no such request"},
		{"too long", func() error {
			_, err := h.AddBAL(t.Context(), NewBAL{Address: strings.Repeat("a", maxRequest), Kind: "ORG"})
			return err
		}, 400, "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.do()
			var p *Problem
			if !errors.As(err, &p) || p.Status != c.status || !strings.Contains(p.Error(), c.text) {
				t.Errorf("%v, want status %d and %q", err, c.status, c.text)
			}
		})
	}
	if _, err := h.store.BAL("b@officines.example"); !errors.Is(err, store.ErrNoBAL) {
		t.Errorf("a refused request left a BAL: %v", err)
	}
}

// Only root, our own user and those of AllowUIDs come in.
func TestUsers(t *testing.T) {
	h := open(t, func(s *Server) { s.AllowUIDs = []uint32{4242} })
	ask := func(ctx context.Context) int {
		w := httptest.NewRecorder()
		h.server.guard(h.server.routes()).ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/health", nil))
		return w.Code
	}
	as := func(uid uint32) context.Context { return context.WithValue(t.Context(), uidKey{}, uid) }
	for uid, want := range map[uint32]int{0: http.StatusOK, uint32(os.Getuid()): http.StatusOK, 4242: http.StatusOK, 4243: http.StatusForbidden} {
		if got := ask(as(uid)); got != want {
			t.Errorf("uid %d: %d, want %d", uid, got, want)
		}
	}
	if got := ask(t.Context()); got != http.StatusForbidden {
		t.Errorf("a peer that the kernel does not name: %d", got)
	}
}

func TestPeerUIDIsTheKernels(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if uid, err := peerUID(s); err != nil || int(uid) != os.Getuid() {
		t.Errorf("%d, %v", uid, err)
	}
}

// Every act stands in the trace with who did it.
func TestActsAreTraced(t *testing.T) {
	h := open(t)
	id := h.store.NewID()
	h.store.Record(trace.Event{ID: id, Kind: trace.Committed})
	if problems, err := h.Fsck(t.Context(), true); err != nil || len(problems.Problems) > 0 {
		t.Fatalf("%+v, %v", problems, err)
	}
	read := func() []TraceEvent {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; {
			doc, err := h.TraceByID(t.Context(), id.String())
			if err == nil && len(doc.Messages[0].Events) > 1 {
				return doc.Messages[0].Events
			}
			if time.Now().After(end) {
				t.Fatalf("the look at the trace is not in it: %+v, %v", doc, err)
			}
		}
	}
	last := read()[1]
	if last.Kind != "admin" || last.Attrs[trace.KeyAct] != "trace read" || !strings.HasPrefix(last.Person, "unix:") {
		t.Errorf("%+v", last)
	}
}

func TestHealthAndReload(t *testing.T) {
	h := open(t)
	got, err := h.Health(t.Context())
	if err != nil || got.Status != "ok" || got.PID != os.Getpid() || got.Fronts["smtp"] == "" {
		t.Errorf("%+v, %v", got, err)
	}
	h.daemon.mu.Lock()
	h.daemon.degraded, h.daemon.faults = []string{"white list: none"}, []error{errors.New("a.pem: no certificate")}
	h.daemon.mu.Unlock()
	if got, err = h.Health(t.Context()); err != nil || got.Status != "degraded" || len(got.Reasons) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	kept, err := h.Reload(t.Context())
	if err != nil || len(kept.Kept) != 1 || h.daemon.reloads != 1 {
		t.Errorf("%+v, %v, %d", kept, err, h.daemon.reloads)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	first, err := Listen(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := Listen(path, false); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
		t.Errorf("a second one: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close() // as after kill -9: the file stays, nobody answers
	again, err := Listen(path, false)
	if err != nil {
		t.Fatalf("after a dead daemon: %v", err)
	}
	again.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, false); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("over a file: %v", err)
	}
}

func TestNoDaemon(t *testing.T) {
	c := &Client{Socket: filepath.Join(t.TempDir(), "s")}
	if _, err := c.Health(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("%v", err)
	}
}
