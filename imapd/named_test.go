package imapd

import (
	"context"
	"strings"
	"testing"
	"time"

	"mssd/store"
	"mssd/trace"
)

// A refused password is recorded with its reason, the BAL and the member that the name stands for; a name that leads to no
// BAL, which may be a password in the wrong field, is not. The client is told the same each time.
func TestRefusedPasswordsNameTheBAL(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MaxFailures, s.MaxCommands = 20, 20 })
	s := w.dial()
	answers := map[string]bool{}
	try := func(user string) {
		t.Helper()
		_, tagged := s.cmd(`LOGIN "` + user + `" wrong`)
		answers[tagged] = true
	}
	try("anne%" + balAddress)
	try("nobody%" + balAddress)
	try("typed-password@exemple.test")
	w.commit(store.SetBALState{Address: balAddress, State: store.Suspended})
	try("anne%" + balAddress)
	if len(answers) != 1 {
		t.Errorf("the client can tell them apart: %v", answers)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.srv.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	w.commit(store.SetBALState{Address: balAddress, State: store.Active}) // takes along what was recorded
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, e := range w.events {
		if e.Kind != trace.LoginRefused {
			continue
		}
		member := "no member"
		if e.Attr(trace.KeyMember) != "" {
			member = "a member"
		}
		got = append(got, e.Attr(trace.KeyReason)+" "+e.BAL+" "+member)
		if e.Person != "" || strings.Contains(e.Line(), "typed-password") {
			t.Errorf("%s", e.Line())
		}
	}
	a := balAddress
	want := []string{"WrongPassword " + a + " a member", "NoSuchMember " + a + " no member", "Credentials  no member", "BALNotActive " + a + " a member"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("recorded:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
