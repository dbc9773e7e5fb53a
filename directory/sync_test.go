package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sync/errgroup"

	"mssd/directory/slapdtest"
)

const (
	moulinBAL = "pharmacie.du.moulin@test-officines.mssante.fr"
	newBAL    = "nouvelle@test-officines.mssante.fr"
)

// mirror is a directory of one server, with its log.
type mirror struct {
	*Directory
	t   *testing.T
	cfg Config
	log *lockedBuffer
	end func() // of Run; nil: it does not run
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newMirror(t *testing.T, l LDAPConfig) *mirror {
	t.Helper()
	m := &mirror{t: t, log: &lockedBuffer{}}
	m.cfg = Config{LDAP: &l, StateDir: t.TempDir(), RetryAfter: 20 * time.Millisecond, LiveDeadline: 10 * time.Second, Log: slog.New(slog.NewTextHandler(m.log, nil))}
	m.Directory = open(t, m.cfg)
	t.Cleanup(m.stop)
	return m
}

func (m *mirror) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	m.end = func() { cancel(); <-done }
	m.wait("following", func() bool { return m.feeds[0].following.Load() })
}

func (m *mirror) stop() {
	if m.end != nil {
		m.end()
		m.end = nil
	}
}

// reopen ends the mirror and opens it again from what it left on disk.
func (m *mirror) reopen() {
	m.t.Helper()
	m.stop()
	_ = m.Close()
	m.Directory = open(m.t, m.cfg)
}

func (m *mirror) refresh() {
	m.t.Helper()
	if err := m.Refresh(context.Background()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mirror) wait(what string, ok func() bool) {
	m.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("%s: not within 30 s: %+v\n%s", what, m.Status().Feeds[0], m.log)
		}
	}
}

func (m *mirror) knows(address string) bool { return len(m.Lookup(address)) > 0 }

// sessions counts the contents read from nothing and the resumptions that the log tells of.
func (m *mirror) sessions() (full, resumed int) {
	s := m.log.String()
	return strings.Count(s, `msg="directory image"`), strings.Count(s, `msg="directory in step"`)
}

func TestSyncFollowsChanges(t *testing.T) {
	s := slapdtest.Start(t)
	m := newMirror(t, LDAPConfig{URL: s.URL, Filter: "(&(mail=*)(!(TypeBAL=CAB)))"})
	m.run()
	if !m.knows(moulinBAL) {
		t.Fatal("the first content is not there")
	}
	s.AddBAL(newBAL, "ORG", "990000999")
	m.wait("add", func() bool { return m.knows(newBAL) })
	s.Set(newBAL, "IdentifiantPM", "990000888")
	m.wait("modify", func() bool { e := m.Lookup(newBAL); return len(e) == 1 && e[0].StructureID == "990000888" })
	const renamed = "renommee@test-officines.mssante.fr"
	s.Rename(newBAL, renamed)
	m.wait("rename", func() bool { return m.knows(renamed) })
	if m.knows(newBAL) {
		t.Error("a renamed BAL is still known by its former address")
	}
	s.Set(renamed, "TypeBAL", "CAB")
	m.wait("out of the filter", func() bool { return !m.knows(renamed) })
	s.Set(renamed, "TypeBAL", "ORG")
	m.wait("into the filter", func() bool { return m.knows(renamed) })
	s.Set(moulinBAL, "mail", moulinBAL, "second@test-officines.mssante.fr")
	m.wait("a second address", func() bool { return m.knows("second@test-officines.mssante.fr") && m.knows(moulinBAL) })
	cookie := func() string { return string(m.feeds[0].image.Load().cookie) }
	before := cookie()
	s.AddBAL("cabinet@test-officines.mssante.fr", "CAB", "")
	m.wait("a cookie for what does not concern us", func() bool { return cookie() != before })
	s.DeleteBAL(renamed)
	m.wait("delete", func() bool { return !m.knows(renamed) })
	if full, _ := m.sessions(); full != 1 {
		t.Errorf("%d contents were read, want the first one only\n%s", full, m.log)
	}
	if st := m.Status().Feeds[0]; !st.Following || st.LastError != "" || st.Rows != 25 { // 25 entries less the CAB, and the second address
		t.Errorf("%+v", st)
	}
	// What we keep is what we knew.
	s.Kill()
	m.reopen()
	if !m.knows("second@test-officines.mssante.fr") || m.knows(renamed) {
		t.Error("the changes are not on disk")
	}
}

// TestSyncResumes: what was changed while we were away comes by the cookie that lies on disk, also when the server has lost
// its log of sessions (then it names all that is still there), and when only entries changed that do not concern us.
func TestSyncResumes(t *testing.T) {
	s := slapdtest.StartWith(t, []slapdtest.Option{slapdtest.Database("syncprov-checkpoint 1 1")}, slapdtest.LDIF(newBAL, "ORG", ""))
	m := newMirror(t, LDAPConfig{URL: s.URL, Filter: "(&(mail=*)(!(TypeBAL=CAB)))"})
	m.refresh()
	m.reopen()
	m.refresh() // nothing changed
	for _, lost := range []bool{false, true} {
		late := fmt.Sprintf("tard.%v@test-officines.mssante.fr", lost)
		s.AddBAL(late, "ORG", "")
		s.AddBAL("cabinet."+late, "CAB", "") // not ours
		s.Set(moulinBAL, "IdentifiantPM", fmt.Sprintf("99000070%d", len(late)))
		if lost {
			s.DeleteBAL(newBAL)
			s.Stop()
			s.Restart()
		} else {
			s.Rename(newBAL, "x."+newBAL)
			s.Rename("x."+newBAL, newBAL)
		}
		m.reopen()
		m.refresh()
		if e := m.Lookup(moulinBAL); len(e) != 1 || e[0].StructureID != fmt.Sprintf("99000070%d", len(late)) || !m.knows(late) || m.knows("cabinet."+late) {
			t.Errorf("session log lost %v: %+v", lost, e)
		}
		if m.knows(newBAL) == lost {
			t.Errorf("session log lost %v: the deleted one is known: %v", lost, m.knows(newBAL))
		}
	}
	s.AddBAL("cabinet.seul@test-officines.mssante.fr", "CAB", "")
	m.refresh()
	m.refresh()
	if full, resumed := m.sessions(); full != 1 || resumed != 5 {
		t.Errorf("%d contents and %d resumptions, want 1 and 5\n%s", full, resumed, m.log)
	}
}

// TestSyncTenThousandChanges: they come in one resumption, while we were away and while we follow.
func TestSyncTenThousandChanges(t *testing.T) {
	const many = 6300
	name := func(i int) string { return fmt.Sprintf("bal%d@test-officines.mssante.fr", i) }
	ldif := make([]string, many)
	for i := range ldif {
		ldif[i] = slapdtest.LDIF(name(i), "ORG", "990000119")
	}
	s := slapdtest.StartWith(t, []slapdtest.Option{func(conf string) string {
		return strings.Replace(conf, "overlay syncprov", "dbnosync\noverlay syncprov", 1)
	}}, ldif...)
	m := newMirror(t, LDAPConfig{URL: s.URL})
	m.cfg.MaxLoss = 1
	m.reopen()
	m.refresh()
	// change modifies n BALs, adds n and deletes n/2, on four connections.
	change := func(from, n int) {
		t.Helper()
		var workers errgroup.Group
		for w := range 4 {
			workers.Go(func() error {
				c, err := ldap.DialURL(s.URL)
				if err != nil {
					return err
				}
				defer c.Close()
				if err := c.Bind(slapdtest.Admin, slapdtest.Password); err != nil {
					return err
				}
				for i := w; i < n; i += 4 {
					mod := ldap.NewModifyRequest(slapdtest.DN(name(from+i)), nil)
					mod.Replace("TypeBAL", []string{"APP"})
					add := ldap.NewAddRequest(slapdtest.DN(name(many+from+i)), nil)
					add.Attribute("objectClass", []string{"balMSSante"})
					add.Attribute("mail", []string{name(many + from + i)})
					add.Attribute("TypeBAL", []string{"ORG"})
					err := errors.Join(c.Modify(mod), c.Add(add))
					if i%2 == 0 {
						err = errors.Join(err, c.Del(ldap.NewDelRequest(slapdtest.DN(name(from+n+i/2)), nil)))
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := workers.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	there := func(from, n int) bool {
		for i := range n {
			e := m.Lookup(name(from + i))
			if len(e) != 1 || e[0].Kind != "APP" || !m.knows(name(many+from+i)) || m.knows(name(from+n+i/2)) {
				return false
			}
		}
		return true
	}
	change(0, 4000)
	m.refresh()
	if !there(0, 4000) {
		t.Fatal("what was changed while we were away is not there")
	}
	m.run()
	change(6000, 200)
	m.wait("what is changed while we follow", func() bool { return there(6000, 200) })
	if full, resumed := m.sessions(); full != 1 || resumed != 2 {
		t.Errorf("%d contents and %d resumptions, want 1 and 2\n%s", full, resumed, m.log)
	}
	m.reopen()
	if !there(0, 4000) || !there(6000, 200) {
		t.Error("what is kept is not what was known")
	}
}

// TestSyncOutages: the server is killed, restarted, frozen; what is held stays, and each time we are in step again.
func TestSyncOutages(t *testing.T) {
	s := slapdtest.Start(t)
	m := newMirror(t, LDAPConfig{URL: s.URL, ProgressTimeout: 600 * time.Millisecond, ConnectTimeout: time.Second})
	m.run()
	down := func() bool { return !m.feeds[0].following.Load() }
	s.Kill()
	m.wait("killed", down)
	if st := m.Status(); !st.Usable || !m.knows(moulinBAL) {
		t.Errorf("killed: %+v", st)
	}
	s.Restart()
	s.AddBAL(newBAL, "ORG", "")
	m.wait("back", func() bool { return m.knows(newBAL) })
	m.wait("following again", func() bool { return !down() })
	s.Freeze()
	m.wait("frozen", down)
	m.wait("told", func() bool { return m.Status().Feeds[0].LastError != "" })
	if !m.knows(newBAL) {
		t.Error("frozen: the image is gone")
	}
	s.Thaw()
	s.DeleteBAL(newBAL)
	m.wait("thawed", func() bool { return !m.knows(newBAL) && !down() && m.Status().Feeds[0].LastError == "" })
}

// TestSyncStaysIdle: a healthy stream on which nothing happens is not ended, and the image does not grow old.
func TestSyncStaysIdle(t *testing.T) {
	s := slapdtest.Start(t)
	m := newMirror(t, LDAPConfig{URL: s.URL, ProgressTimeout: 3 * time.Second, ConnectTimeout: 2 * time.Second})
	m.run()
	first := m.Status().Feeds[0].Generated
	m.wait("in step longer than any timeout", func() bool { return m.Status().Feeds[0].Generated.Sub(first) > 5*time.Second })
	if full, resumed := m.sessions(); full != 1 || resumed != 0 {
		t.Errorf("%d contents, %d resumptions\n%s", full, resumed, m.log)
	}
}

// TestSyncFullReading: once in a while the content is read from nothing, while we follow.
func TestSyncFullReading(t *testing.T) {
	s := slapdtest.Start(t)
	m := newMirror(t, LDAPConfig{URL: s.URL, fullEvery: 200 * time.Millisecond})
	m.run()
	m.wait("three contents", func() bool { full, _ := m.sessions(); return full >= 3 })
	s.AddBAL(newBAL, "ORG", "")
	m.wait("still following", func() bool { return m.knows(newBAL) })
	if st := m.Status().Feeds[0]; st.LastError != "" {
		t.Error(st.LastError)
	}
}

// TestSyncCookieOfNoUse: with nonsense for a cookie, or that of another server, base or filter, the content is read anew.
func TestSyncCookieOfNoUse(t *testing.T) {
	s := slapdtest.Start(t)
	for name, spoil := range map[string]func(l *LDAPConfig, img *image){
		"nonsense":          func(l *LDAPConfig, img *image) { img.cookie = l.keptCookie([]byte("nonsense")) },
		"binary":            func(l *LDAPConfig, img *image) { img.cookie = l.keptCookie([]byte{0, 0xff, 1}) },
		"of another filter": func(l *LDAPConfig, img *image) { l.Filter = "(mail=*)" },
		"newer than all": func(l *LDAPConfig, img *image) {
			img.cookie = l.keptCookie([]byte("rid=000,csn=20990101000000.000000Z#000000#000#000000"))
		},
		"older than all": func(l *LDAPConfig, img *image) {
			img.cookie = l.keptCookie([]byte("rid=000,csn=20010101000000.000000Z#000000#000#000000"))
		},
		"none, as after pages": func(l *LDAPConfig, img *image) { img.cookie = nil },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t, LDAPConfig{URL: s.URL, Filter: "(mail=*officines*)"})
			m.refresh()
			spoiled := *m.feeds[0].image.Load()
			spoil(m.Directory.cfg.LDAP, &spoiled)
			m.feeds[0].image.Store(&spoiled)
			s.AddBAL("x."+newBAL, "ORG", "")
			s.DeleteBAL("x." + newBAL)
			s.AddBAL(newBAL, "ORG", "")
			defer s.DeleteBAL(newBAL)
			m.refresh()
			if !m.knows(newBAL) || m.knows("x."+newBAL) || !m.knows(moulinBAL) {
				t.Errorf("not in step\n%s", m.log)
			}
			if img := m.feeds[0].image.Load(); m.Directory.cfg.LDAP.ownCookie(img.cookie) == nil {
				t.Error("no cookie is held afterwards")
			}
			m.refresh()
		})
	}
}

// TestSyncNotOffered: the control is refused (result code 12), the server is read in pages.
func TestSyncNotOffered(t *testing.T) {
	s := slapdtest.StartWith(t, []slapdtest.Option{slapdtest.Without("overlay", "syncprov", "moduleload syncprov")})
	m := newMirror(t, LDAPConfig{URL: s.URL, Every: 20 * time.Millisecond, PageSize: 7})
	m.refresh()
	if m.Status().Feeds[0].Rows != 25 || m.feeds[0].image.Load().keyed() {
		t.Errorf("%+v", m.Status().Feeds[0])
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	m.end = func() { cancel(); <-done }
	s.AddBAL(newBAL, "ORG", "")
	m.wait("the next reading", func() bool { return m.knows(newBAL) })
	if n := strings.Count(m.log.String(), "offers no content"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// TestSyncHalf: half of the content is refused and kept out, whether it vanished at once or entry by entry; the cookie of
// before stays, so that nothing is taken as seen. The operator may accept it.
func TestSyncHalf(t *testing.T) {
	var ldif []string
	for i := range 40 {
		ldif = append(ldif, slapdtest.LDIF(fmt.Sprintf("bal%d@test-officines.mssante.fr", i), "ORG", ""))
	}
	s := slapdtest.Start(t, ldif...)
	m := newMirror(t, LDAPConfig{URL: s.URL})
	m.refresh()
	for i := range 30 {
		s.DeleteBAL(fmt.Sprintf("bal%d@test-officines.mssante.fr", i))
	}
	for range 2 {
		if err := m.Refresh(context.Background()); !errors.Is(err, ErrLoss) {
			t.Fatalf("got %v", err)
		}
		if !m.knows("bal0@test-officines.mssante.fr") || m.Status().Feeds[0].Rows != 65 {
			t.Error("the image is gone")
		}
	}
	m.reopen()
	if err := m.Refresh(context.Background()); !errors.Is(err, ErrLoss) {
		t.Fatalf("after a restart: %v", err)
	}
	if _, err := m.Accept("ldap"); err != nil {
		t.Fatal(err)
	}
	if m.knows("bal0@test-officines.mssante.fr") || !m.knows("bal35@test-officines.mssante.fr") {
		t.Error("accepted, and not in force")
	}
	s.AddBAL(newBAL, "ORG", "")
	m.refresh()
	if !m.knows(newBAL) {
		t.Error("it does not go on after it was accepted")
	}
	if full, _ := m.sessions(); full != 1 {
		t.Errorf("%d contents were read\n%s", full, m.log)
	}
}

// TestSyncCut: a server that cuts its answers off, and one whose schema we do not know.
func TestSyncCut(t *testing.T) {
	s := slapdtest.StartWith(t, []slapdtest.Option{func(conf string) string {
		return strings.Replace(conf, "limits * size=unlimited", "limits * size=5", 1)
	}})
	m := newMirror(t, LDAPConfig{URL: s.URL})
	if err := m.Refresh(context.Background()); !errors.Is(err, ErrPartial) || m.Status().Usable {
		t.Errorf("cut: %v", err)
	}
	s = slapdtest.Start(t)
	m = newMirror(t, LDAPConfig{URL: s.URL, Attributes: Attributes{Kind: "employeeType"}})
	if err := m.Refresh(context.Background()); !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrFormat) || m.Status().Usable {
		t.Errorf("schema: %v", err)
	}
	// While we follow, an entry that cannot be used does not take away what is held of it.
	m = newMirror(t, LDAPConfig{URL: s.URL, Attributes: Attributes{Kind: "description"}, Filter: "(description=*)"})
	s.AddBAL(newBAL, "ORG", "")
	s.Set(newBAL, "description", "ORG")
	m.cfg.MaxLoss = 1
	m.run()
	s.Set(newBAL, "description", "not a type")
	m.wait("told", func() bool { return strings.Contains(m.log.String(), "cannot be used") })
	if !m.knows(newBAL) {
		t.Error("one faulty entry made a BAL unknown")
	}
	if strings.Contains(m.log.String(), newBAL) {
		t.Error("the log quotes an entry")
	}
}

func TestMergeCookies(t *testing.T) {
	const one, one2, two = "20261122041300.000000Z#000000#001#000000", "20261122041301.000000Z#000000#001#000000", "20261122041200.000000Z#000000#002#000000"
	for _, c := range []struct{ old, latest, want string }{
		{"", "rid=000,csn=" + one, "rid=000,csn=" + one},
		{"rid=000,csn=" + one + ";" + two, "rid=000,csn=" + one2, "rid=000,csn=" + one2 + ";" + two},
		{"rid=000,csn=" + one2, "rid=000,csn=" + one, "rid=000,csn=" + one2},
		{"rid=000,csn=" + one, "rid=000,sid=002,csn=" + two, "rid=000,sid=002,csn=" + one + ";" + two},
		{"rid=000,csn=" + one, "opaque#cookie#of 389", "opaque#cookie#of 389"},
		{"opaque", "rid=000,csn=" + one, "rid=000,csn=" + one},
		{"rid=000,csn=" + one, "rid=000,csn=" + two + ",delcsn=" + one, "rid=000,csn=" + two + ",delcsn=" + one},
		{"rid=000,csn=" + one, "csn=broken", "csn=broken"},
	} {
		if got := string(mergeCookies([]byte(c.old), []byte(c.latest))); got != c.want {
			t.Errorf("%q and %q: %q, want %q", c.old, c.latest, got, c.want)
		}
	}
}
