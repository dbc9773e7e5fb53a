package imapd

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mssd/auth"
	"mssd/auth/psctest"
	"mssd/store"
	"mssd/trace"
)

const (
	hugoID = "899900000052" // writer of the BAL
	zoeID  = "899900000060" // nobody's member
)

// newPSCWorld is a front that takes tokens of a real OpenID provider.
func newPSCWorld(t testing.TB, change func(*Server)) (*world, *psctest.Provider) {
	t.Helper()
	provider := psctest.New(t)
	psc, err := auth.NewPSC(provider.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(psc.Close)
	w := newWorld(t, func(s *Server) {
		s.Auth = auth.New(auth.Config{Store: s.Store, Argon: auth.Params{Time: 1, MemoryKiB: 64, Threads: 1}, Log: s.Log, PSC: psc, MaxSession: time.Hour})
		s.Mechanisms = []string{auth.XOAuth2, auth.OAuthBearer, auth.Plain}
		if change != nil {
			change(s)
		}
	})
	w.commit(store.PutMember{Address: balAddress, Member: store.Member{ID: "rpps:99900000052", Role: store.Writer}})
	return w, provider
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func xoauth2(user, token string) string {
	return base64Of("user=" + user + "\x01auth=Bearer " + token + "\x01\x01")
}

func oauthbearer(user, token string) string {
	return base64.StdEncoding.EncodeToString([]byte("n,a=" + user + ",\x01host=imap.exemple.test\x01port=143\x01auth=Bearer " + token + "\x01\x01"))
}

// start begins a command and returns the first line of what comes back.
func (s *session) start(text string) (tag, line string) {
	s.t.Helper()
	s.tag++
	tag = fmt.Sprintf("t%d", s.tag)
	s.send(tag + " " + text + "\r\n")
	return tag, s.line()
}

func TestTokenLogin(t *testing.T) {
	w, provider := newPSCWorld(t, nil)
	for name, c := range map[string]struct {
		mechanism string
		message   func(user, token string) string
		initial   bool
	}{
		"XOAUTH2 with initial response":        {"XOAUTH2", xoauth2, true},
		"XOAUTH2 without":                      {"xoauth2", xoauth2, false},
		"OAUTHBEARER with an initial response": {"OAUTHBEARER", oauthbearer, true},
		"OAUTHBEARER without":                  {"OAUTHBEARER", oauthbearer, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.dial()
			if l := s.line(); !strings.Contains(l, "AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=PLAIN]") {
				t.Errorf("greeting %q", l)
			}
			message := c.message("Pharmacie@exemple.test", provider.Token(psctest.Claims{NameID: hugoID, Username: hugoID}))
			if c.initial {
				s.want("AUTHENTICATE "+c.mechanism+" "+message, "OK [CAPABILITY IMAP4rev1")
			} else {
				tag, l := s.start("AUTHENTICATE " + c.mechanism)
				if l != "+ " {
					s.fail("challenge %q", l)
				}
				s.send(message + "\r\n")
				if _, end := s.until(tag); !strings.HasPrefix(end, "OK [CAPABILITY IMAP4rev1") {
					s.fail("end %q", end)
				}
			}
			s.ok("SELECT INBOX")
			s.ok("LOGOUT")
		})
	}
	s := w.login(ownerName, "INBOX") // passwords go on
	s.ok("LOGOUT")
}

// TestTokenRefusalDialogue: a challenge that tells why, whatever answer, the refusal, and the connection goes on.
func TestTokenRefusalDialogue(t *testing.T) {
	w, provider := newPSCWorld(t, func(s *Server) { s.MaxFailures = 50 })
	for _, c := range []struct{ name, mechanism, message, status string }{
		{"expired", "XOAUTH2", xoauth2(balAddress, provider.Token(psctest.Claims{Username: hugoID, Expires: time.Now().Add(-time.Hour)})), "401"},
		{"no right", "XOAUTH2", xoauth2(balAddress, provider.Token(psctest.Claims{Username: zoeID})), "401"},
		{"no BAL", "XOAUTH2", xoauth2("nobody@exemple.test", provider.Token(psctest.Claims{Username: hugoID})), "401"},
		{"no token", "XOAUTH2", xoauth2(balAddress, "x"), "401"},
		{"no right", "OAUTHBEARER", oauthbearer(balAddress, provider.Token(psctest.Claims{Username: zoeID})), "invalid_token"},
	} {
		for _, answer := range []string{"", "AQ==", "*", "!!!", "eA=="} {
			for _, initial := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s %s %q %v", c.mechanism, c.name, answer, initial), func(t *testing.T) {
					s := w.dial()
					s.line()
					tag, l := "", ""
					if initial {
						tag, l = s.start("AUTHENTICATE " + c.mechanism + " " + c.message)
					} else {
						if tag, l = s.start("AUTHENTICATE " + c.mechanism); l != "+ " {
							s.fail("challenge %q", l)
						}
						s.send(c.message + "\r\n")
						l = s.line()
					}
					text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(l, "+ "))
					var fault struct{ Status string }
					if err != nil || json.Unmarshal(text, &fault) != nil || fault.Status != c.status {
						s.fail("the challenge is %q", l)
					}
					s.send(answer + "\r\n")
					if l := s.line(); !strings.HasPrefix(l, tag+" NO [AUTHENTICATIONFAILED] ") {
						s.fail("the refusal is %q", l)
					}
					// The line is kept: the client comes with a new token.
					s.ok("NOOP")
					s.ok("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, provider.Token(psctest.Claims{Username: hugoID})))
					s.ok("LOGOUT")
				})
			}
		}
	}
}

func TestTokenMessagesThatAreNone(t *testing.T) {
	w, provider := newPSCWorld(t, nil)
	good := provider.Token(psctest.Claims{Username: hugoID})
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	s := w.dial()
	s.line()
	for _, c := range []struct{ mechanism, message string }{
		{"XOAUTH2", "="},
		{"XOAUTH2", b64("user=" + balAddress)},
		{"XOAUTH2", b64("user=" + balAddress + "\x01auth=Bearer " + good)},
		{"XOAUTH2", b64("user=" + balAddress + "\x01auth=Basic " + good + "\x01\x01")},
		{"XOAUTH2", b64("auth=Bearer " + good + "\x01\x01")},
		{"XOAUTH2", b64("user=" + balAddress + "\x01user=" + balAddress + "\x01auth=Bearer " + good + "\x01\x01")},
		{"XOAUTH2", b64("user=" + balAddress + "\x01auth=Bearer \x01\x01")},
		{"OAUTHBEARER", b64("user=" + balAddress + "\x01auth=Bearer " + good + "\x01\x01")},
		{"OAUTHBEARER", b64("p=tls-unique,a=" + balAddress + ",\x01auth=Bearer " + good + "\x01\x01")},
		{"OAUTHBEARER", b64("n,a=,\x01auth=Bearer " + good + "\x01\x01")},
		{"OAUTHBEARER", b64("n,a=a=3Fb,\x01auth=Bearer " + good + "\x01\x01")},
	} {
		s.want("AUTHENTICATE "+c.mechanism+" "+c.message, "BAD ")
	}
	s.want("AUTHENTICATE EXTERNAL =", "NO This mechanism is not offered")
	s.ok("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, good))
}

// TestTokenLines: a token of 11 kB fits into a line, with initial response and without; a line of more than 16 KiB ends the
// connection, for its rest must not be taken for commands.
func TestTokenLines(t *testing.T) {
	w, provider := newPSCWorld(t, nil)
	noise := make([]byte, 4800)
	_, _ = rand.Read(noise)
	big := provider.Token(psctest.Claims{Username: hugoID, Extra: map[string]any{"SubjectRefPro": fmt.Sprintf("%x", noise)[:7600]}})
	if len(big) < 10_500 || len(big) > 12<<10 {
		t.Fatalf("the token has %d octets", len(big))
	}
	s := w.dial()
	s.line()
	s.ok("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, big))
	s = w.dial()
	s.line()
	tag, _ := s.start("AUTHENTICATE OAUTHBEARER")
	s.send(oauthbearer(balAddress, big) + "\r\n")
	if _, end := s.until(tag); !strings.HasPrefix(end, "OK") {
		s.fail("%q", end)
	}
	s = w.dial()
	s.line()
	_, _ = s.start("AUTHENTICATE XOAUTH2")
	s.send(strings.Repeat("QUFB", 5<<10) + "\r\n")
	if l := s.line(); !strings.HasPrefix(l, "* BYE") {
		s.fail("after a line of 20 KiB: %q", l)
	}
}

// TestIssuerDown: it is not the client's fault, and it is told so; the connection stays.
func TestIssuerDown(t *testing.T) {
	w, provider := newPSCWorld(t, nil)
	warm := provider.Token(psctest.Claims{Username: hugoID})
	s := w.dial()
	s.line()
	s.ok("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, warm))
	provider.Break(http.StatusServiceUnavailable)
	s = w.dial()
	s.line()
	for range 10 { // more than MaxFailures
		s.want("AUTHENTICATE XOAUTH2 "+xoauth2(balAddress, provider.Token(psctest.Claims{Username: hugoID})), "NO [UNAVAILABLE]")
	}
	s.ok("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, warm))
}

func TestFrontWithoutPasswords(t *testing.T) {
	w, _ := newPSCWorld(t, func(s *Server) { s.Mechanisms = []string{auth.XOAuth2} })
	s := w.dial()
	if l := s.line(); !strings.Contains(l, "AUTH=XOAUTH2 LOGINDISABLED]") || strings.Contains(l, "PLAIN") {
		t.Errorf("greeting %q", l)
	}
	s.want(`LOGIN "`+ownerName+`" "`+password+`"`, "NO ")
	s.want("AUTHENTICATE PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+ownerName+"\x00"+password)), "NO This mechanism is not offered")
	s.want("AUTHENTICATE OAUTHBEARER", "NO This mechanism is not offered")
}

// TestTokenSessionEndsWithItsRight: an IDLE session is told at once, without a command of its own.
func TestTokenSessionEndsWithItsRight(t *testing.T) {
	w, provider := newPSCWorld(t, nil)
	s := w.dial()
	s.line()
	s.ok("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, provider.Token(psctest.Claims{Username: hugoID})))
	s.ok("SELECT INBOX")
	if _, l := s.start("IDLE"); l != "+ idling" {
		s.fail("IDLE: %q", l)
	}
	w.commit(store.EndMember{Address: balAddress, Member: "rpps:99900000052"})
	if l := s.line(); !strings.HasPrefix(l, "* BYE ") {
		s.fail("after the right has ended: %q", l)
	}
}

// TestTokensAreNotWritten: no token stands in the log, down to debug, nor in any file of the store; the trace says who was let
// in and who was not, and why.
func TestTokensAreNotWritten(t *testing.T) {
	w, provider := newPSCWorld(t, func(s *Server) { s.MaxFailures = 50 })
	tokens := []string{
		provider.Token(psctest.Claims{Username: zoeID}),
		provider.Token(psctest.Claims{Username: hugoID, Expires: time.Now().Add(-time.Hour)}),
		provider.Token(psctest.Claims{Username: hugoID}),
	}
	s := w.dial()
	s.line()
	for _, token := range tokens[:2] {
		tag, _ := s.start("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, token))
		s.send("\r\n")
		s.until(tag)
	}
	s.want("AUTHENTICATE "+tokens[2], "NO ") // in the wrong place
	s.want(tokens[2]+" "+tokens[2], "BAD ")
	s.want("AUTHENTICATE XOAUTH2 "+tokens[2], "BAD ")
	s.ok("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, tokens[2]))
	s.ok("LOGOUT")
	var got []string
	w.commit(store.SetBALState{Address: balAddress, State: store.Active}) // takes along what was recorded
	w.mu.Lock()
	events := slices.Clone(w.events)
	w.mu.Unlock()
	for _, e := range events {
		got = append(got, fmt.Sprintf("%v person=%s bal=%s reason=%s method=%s", e.Kind, e.Person, e.BAL, e.Attr(trace.KeyReason), e.Attr(trace.KeyMethod)))
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"person=rpps:99900000060 bal=" + balAddress + " reason=NoRight",
		"reason=TokenExpired",
		"person=rpps:99900000052 bal=" + balAddress + " reason= method=psc",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the trace does not say %q:\n%s", want, all)
		}
	}
	w.stop()
	written := w.logs.String()
	if err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		written += path + string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i, token := range tokens {
		for _, part := range strings.Split(token, ".")[1:] {
			if strings.Contains(strings.ToLower(written), strings.ToLower(part)) {
				t.Errorf("token %d was written", i)
			}
		}
	}
}

// BenchmarkTokenLogin is what a workstation does every few minutes: connect, resume TLS, log in with a token that another of
// its connections brought before, and go.
func BenchmarkTokenLogin(b *testing.B) {
	w, provider := newPSCWorld(b, nil)
	message := "a AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, provider.Token(psctest.Claims{Username: hugoID})) + "\r\n"
	b.RunParallel(func(pb *testing.PB) {
		cfg := w.client.Clone()
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for pb.Next() {
			nc, err := tls.Dial("tcp", w.addr, cfg)
			if err != nil {
				b.Error(err)
				return
			}
			s := newSession(b, nc)
			s.line()
			s.send(message)
			if _, end := s.until("a"); !strings.HasPrefix(end, "OK") {
				b.Error(end)
				return
			}
			nc.Close()
		}
	})
}

// TestSilentSessionsEnd: a session that waits in no command is told within a second too: when its right is withdrawn, when the
// BAL is suspended, and when it has lasted as long as it may.
func TestSilentSessionsEnd(t *testing.T) {
	var skipped atomic.Int64 // ahead of the clock, ns
	provider := psctest.New(t)
	psc, err := auth.NewPSC(provider.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(psc.Close)
	w := newWorld(t, func(s *Server) {
		s.Mechanisms = []string{auth.XOAuth2}
		s.Auth = auth.New(auth.Config{Store: s.Store, Log: s.Log, PSC: psc, MaxSession: time.Hour,
			Now: func() time.Time { return time.Now().Add(time.Duration(skipped.Load())) }})
	})
	member := store.PutMember{Address: balAddress, Member: store.Member{ID: "rpps:99900000052", Role: store.Writer}}
	for name, c := range map[string]struct {
		end  func()
		text string
	}{
		"right withdrawn": {func() { w.commit(store.EndMember{Address: balAddress, Member: "rpps:99900000052"}) }, "Your right to this mailbox has ended"},
		"BAL suspended":   {func() { w.commit(store.SetBALState{Address: balAddress, State: store.Suspended}) }, "Your right to this mailbox has ended"},
		"right over": {func() {
			m := member
			m.Member.Until = time.Now().Add(50 * time.Millisecond)
			w.commit(m)
		}, "Your right to this mailbox has ended"},
		"session over": {func() { skipped.Store(int64(time.Hour)) }, "The session has lasted"},
	} {
		t.Run(name, func(t *testing.T) {
			skipped.Store(0)
			w.commit(store.SetBALState{Address: balAddress, State: store.Active}, member)
			var sessions []*session
			for _, box := range []string{"", "INBOX"} {
				s := w.dial()
				s.line()
				s.ok("AUTHENTICATE XOAUTH2 " + xoauth2(balAddress, provider.Token(psctest.Claims{Username: hugoID})))
				if box != "" {
					s.ok("SELECT " + box)
				}
				s.ok("NOOP")
				sessions = append(sessions, s)
			}
			c.end()
			for _, s := range sessions {
				if l := s.line(); !strings.HasPrefix(l, "* BYE "+c.text) {
					s.fail("%q", l)
				}
				if l := s.line(); l != "" {
					s.fail("the connection goes on: %q", l)
				}
			}
		})
	}
}
