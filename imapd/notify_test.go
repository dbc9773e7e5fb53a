package imapd

import (
	"fmt"
	"strings"
	"testing"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// severalBALs is a session of somebody with two BALs; what it says goes to the sink.
func severalBALs(t *testing.T, w *world) (*conn, *sink, store.BAL) {
	t.Helper()
	const second = "cabinet@exemple.test"
	w.commit(
		store.PutBAL{BAL: store.BAL{Address: second, Kind: store.ORG, State: store.Active, Listing: store.Published}, Create: true},
		store.PutMember{Address: second, Member: store.Member{ID: "local:anne", Role: store.Owner}})
	other := must[store.BAL](t, "bal")(w.store.BAL(second))
	s := &sink{}
	c := &conn{srv: w.srv, log: w.srv.Log, out: out{nc: s}, ctx: t.Context(), user: &user{
		who:   &auth.Principal{Person: "local:anne", Grants: []auth.Grant{{BAL: w.bal, Role: store.Owner}, {BAL: other, Role: store.Owner}}},
		names: namespace{[]auth.Grant{{BAL: w.bal, Role: store.Owner}, {BAL: other, Role: store.Owner}}}}}
	t.Cleanup(c.endNotify)
	return c, s, other
}

// TestNotifyRights: the mailboxes of a BAL whose right ends are told of once, then nothing; when it comes back they are
// told of again, and watched (RFC 5465, Section 5.9).
func TestNotifyRights(t *testing.T) {
	w := newWorld(t, nil)
	c, s, other := severalBALs(t, w)
	said := func() string {
		t.Helper()
		c.tellOthers()
		_ = c.out.flush()
		text := strings.TrimSpace(s.String())
		s.Reset()
		return text
	}
	if _, err := c.cmdNotify(&wire.Command{Name: "NOTIFY", Args: []byte("SET (SUBTREE \"Other Users\" (MailboxName)) (MAILBOXES \"Other Users/cabinet@exemple.test/Sent\" (MessageNew MessageExpunge))")}); err != nil {
		t.Fatal(err)
	}
	member := store.Member{ID: "local:anne", Role: store.Owner}
	for _, st := range []struct {
		name string
		op   store.Op
		want []string
	}{
		{"in the other BAL", store.CreateMailbox{BAL: other.ID, Name: "Suivi"}, []string{`* LIST (\HasNoChildren) "/" "Other Users/cabinet@exemple.test/Suivi"`}},
		{"in the first", store.CreateMailbox{BAL: w.bal.ID, Name: "Suivi"}, nil},
		{"the right ends", store.EndMember{Address: other.Address, Member: "local:anne"}, []string{`\NonExistent \NoAccess) "/" "Other Users/cabinet@exemple.test/INBOX"`, "/Archive", "/Sent", "/Suivi"}},
		{"afterwards", store.CreateMailbox{BAL: other.ID, Name: "Secret"}, nil},
		{"it comes back", store.PutMember{Address: other.Address, Member: member}, []string{`(\HasNoChildren \Subscribed) "/" "Other Users/cabinet@exemple.test/INBOX"`, "/Suivi", "/Secret"}},
		{"watched again", store.CreateMailbox{BAL: other.ID, Name: "Encore"}, []string{"/Encore"}},
	} {
		w.commit(st.op)
		got := said()
		if (got == "") != (st.want == nil) {
			t.Errorf("%s: %q", st.name, got)
		}
		for _, want := range st.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q in it", st.name, got, want)
			}
		}
	}
}

// TestNotifyOverflow: who does not read in time is told that there was more, and then nothing; asking again helps.
func TestNotifyOverflow(t *testing.T) {
	w := newWorld(t, nil)
	c, s, _ := severalBALs(t, w)
	ask := &wire.Command{Name: "NOTIFY", Args: []byte("SET (PERSONAL (MailboxName))")}
	if _, err := c.cmdNotify(ask); err != nil {
		t.Fatal(err)
	}
	var ops []store.Op
	for i := range 2100 {
		ops = append(ops, store.CreateMailbox{BAL: w.bal.ID, Name: fmt.Sprint("D", i)})
	}
	w.commit(ops...)
	c.tellOthers()
	w.commit(store.CreateMailbox{BAL: w.bal.ID, Name: "Un"})
	c.tellOthers()
	_ = c.out.flush()
	if got := s.String(); !strings.HasPrefix(got, "* OK [NOTIFICATIONOVERFLOW]") || strings.Count(got, "\n") != 1 {
		t.Errorf("%.200q", got)
	}
	s.Reset()
	if _, err := c.cmdNotify(ask); err != nil {
		t.Fatal(err)
	}
	w.commit(store.CreateMailbox{BAL: w.bal.ID, Name: "Deux"})
	c.tellOthers()
	_ = c.out.flush()
	if got := s.String(); got != "* LIST (\\HasNoChildren) \"/\" Deux\r\n" {
		t.Errorf("afterwards %.200q", got)
	}
	names := strings.Repeat(" x", maxNotifyNames+1)[1:]
	_, err := c.cmdNotify(&wire.Command{Name: "NOTIFY", Args: []byte("SET (MAILBOXES (" + names + ") (MailboxName))")})
	if r, _ := respond(err); r.status != statusNO || r.code != "NOTIFICATIONOVERFLOW" {
		t.Errorf("too many names: %+v", r)
	}
}

// TestNotifyEnds: a session that waits between commands ends when its right does, with NOTIFY too.
func TestNotifyEnds(t *testing.T) {
	w := newWorld(t, nil)
	s := w.login(readerName, "INBOX")
	s.ok("NOTIFY SET (SELECTED (MessageNew MessageExpunge)) (PERSONAL (MessageNew MessageExpunge))")
	w.commit(store.EndMember{Address: balAddress, Member: "local:luc"})
	if l := s.line(); !strings.HasPrefix(l, "* BYE") {
		s.fail("got %q", l)
	}
	if l := s.line(); l != "" {
		s.fail("the connection goes on: %q", l)
	}
	// The server ends: a session that listens hears BYE.
	s = w.login(ownerName, "INBOX")
	s.ok("NOTIFY SET (SELECTED (MessageNew MessageExpunge))")
	go w.stop()
	if l := s.line(); !strings.HasPrefix(l, "* BYE") {
		s.fail("got %q", l)
	}
}

// TestNotifyAnnotations: what a person notes for themselves is told to nobody else.
func TestNotifyAnnotations(t *testing.T) {
	w := newWorld(t, nil)
	c, s, other := severalBALs(t, w)
	if _, err := c.cmdNotify(&wire.Command{Name: "NOTIFY", Args: []byte("SET (SUBTREE (INBOX \"Other Users\") (MailboxMetadataChange))")}); err != nil {
		t.Fatal(err)
	}
	note := func(bal store.BALID, person, entry string) {
		t.Helper()
		m := must[store.Mailbox](t, "mailbox")(w.store.Mailbox(bal, "INBOX"))
		w.commit(store.PutAnnotation{Ref: m.Ref, Annotation: store.Annotation{Person: person, Entry: entry, Value: "x"}})
	}
	note(w.bal.ID, "local:luc", "/comment")
	c.tellOthers()
	note(w.bal.ID, "local:anne", "/comment")
	note(w.bal.ID, "", "/comment")
	note(other.ID, "", "/vendor/x")
	c.tellOthers()
	_ = c.out.flush()
	want := "* METADATA INBOX /private/comment /shared/comment\r\n* METADATA \"Other Users/cabinet@exemple.test/INBOX\" /shared/vendor/x\r\n"
	if got := s.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
