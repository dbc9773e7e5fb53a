package imapd

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// TestMetadataPersons: what one person of a BAL keeps for themselves no other sees; what is shared a reader sees and cannot
// change.
func TestMetadataPersons(t *testing.T) {
	w := newWorld(t, nil)
	hash := w.store.Members(w.bal.ID)[0].PasswordHash
	w.commit(store.PutMember{Address: balAddress, Member: store.Member{ID: "local:zoe", Role: store.Writer, PasswordHash: hash}})
	owner, writer, reader := w.login(ownerName, ""), w.login("zoe%"+balAddress, ""), w.login(readerName, "")
	owner.ok(`SETMETADATA INBOX (/shared/comment "commun" /private/comment "d'Anne")`)
	owner.ok(`SETMETADATA "" (/shared/comment "la BAL" /private/comment "d'Anne")`)
	reader.ok(`SETMETADATA INBOX (/private/comment "de Luc")`)
	get := func(s *session, box, entries, want string) {
		t.Helper()
		if un := s.ok("GETMETADATA " + box + " " + entries); strings.Join(un, "|") != want {
			s.fail("got %q, want %q", un, want)
		}
	}
	get(owner, "INBOX", "(/shared/comment /private/comment)", `* METADATA INBOX (/shared/comment "commun" /private/comment "d'Anne")`)
	get(writer, "INBOX", "(/shared/comment /private/comment)", `* METADATA INBOX (/shared/comment "commun" /private/comment NIL)`)
	get(reader, "INBOX", "(/shared/comment /private/comment)", `* METADATA INBOX (/shared/comment "commun" /private/comment "de Luc")`)
	get(reader, `""`, "(/shared/comment /private/comment)", `* METADATA "" (/shared/comment "la BAL" /private/comment NIL)`)
	reader.want(`SETMETADATA INBOX (/private/comment "autre" /shared/comment "x")`, "NO [NOPERM]")
	reader.want(`SETMETADATA INBOX (/shared/comment NIL)`, "NO [NOPERM]")
	writer.want(`SETMETADATA "" (/shared/comment "x")`, "NO [NOPERM]")
	writer.ok(`SETMETADATA INBOX (/shared/comment "de Zo")`)
	get(reader, "INBOX", "(/shared/comment /private/comment)", `* METADATA INBOX (/shared/comment "de Zo" /private/comment "de Luc")`)
	if s := w.logs.String(); strings.Contains(s, "commun") || strings.Contains(s, "/comment") {
		t.Error("the log tells of it")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	told := 0
	for _, e := range w.events {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "{act metadata}") || strings.Contains(text, "Value:metadata") {
			told++
		} else if strings.Contains(text, "commun") {
			t.Errorf("the trace tells of it: %s", text)
		}
	}
	if told != 3 {
		t.Errorf("%d changes of shared entries are in the trace, want 3", told)
	}
}

// TestMetadataBounds: what is over a bound is refused with its code, and nothing of the command is done.
func TestMetadataBounds(t *testing.T) {
	w := newWorld(t, nil)
	s := w.login(ownerName, "")
	long := strings.Repeat("x", store.MaxAnnotation)
	s.ok(fmt.Sprintf("SETMETADATA INBOX (/private/long {%d+}\r\n%s)", len(long), long))
	s.send(fmt.Sprintf("x SETMETADATA INBOX (/private/first \"x\" /private/long {%d}\r\n", len(long)+1))
	s.line()
	s.send(long + "x)\r\n")
	if _, tagged := s.until("x"); !strings.HasPrefix(tagged, "NO [METADATA MAXSIZE 4096]") {
		s.fail("got %q", tagged)
	}
	if un := s.ok("GETMETADATA INBOX /private/first"); len(un) != 1 || !strings.HasSuffix(un[0], "(/private/first NIL)") {
		s.fail("got %q", un)
	}
	for n := 0; n < 180; n += 90 {
		var cmd strings.Builder
		for i := range 90 {
			fmt.Fprintf(&cmd, " /shared/vendor/%d \"x\"", n+i)
		}
		s.ok("SETMETADATA INBOX (" + cmd.String()[1:] + ")")
	}
	var more strings.Builder
	for i := range 20 {
		fmt.Fprintf(&more, " /private/more/%d \"x\"", i)
	}
	s.want("SETMETADATA INBOX ("+more.String()[1:]+")", "NO [METADATA TOOMANY]")
	if un := s.ok("GETMETADATA (DEPTH 1) INBOX /private/more"); len(un) != 0 {
		s.fail("a part was kept: %q", un)
	}
	s.want("GETMETADATA INBOX ("+strings.Repeat("/private/a ", 200)+"/private/b)", "BAD")
}

// TestMetadataBinary: a literal8 brings octets that no string has, and they come back in one (RFC 5464, Section 5).
func TestMetadataBinary(t *testing.T) {
	s := newWorld(t, nil).login(ownerName, "")
	s.ok("SETMETADATA INBOX (/private/icon ~{5+}\r\na\x00\r\nb /private/note ~{3}\r\nabc)")
	s.send("x GETMETADATA INBOX (/private/icon /private/note)\r\n")
	want := "* METADATA INBOX (/private/icon ~{5}\r\na\x00\r\nb /private/note \"abc\")\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.br, got); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	s.want("SETMETADATA INBOX (/private/icon ~\"a\")", "BAD")
}

// TestMetadataGoIMAP: a client that we did not write.
func TestMetadataGoIMAP(t *testing.T) {
	w := newWorld(t, nil)
	c, err := imapclient.DialTLS(w.addr, &imapclient.Options{TLSConfig: w.client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ownerName, password).Wait(); err != nil {
		t.Fatal(err)
	}
	value := []byte("à moi\r\nseul")
	if err := c.SetMetadata("Sent", map[string]*[]byte{"/private/comment": &value}).Wait(); err != nil {
		t.Fatal(err)
	}
	small := uint32(5)
	for _, opt := range []*imapclient.GetMetadataOptions{nil, {Depth: imapclient.GetMetadataDepthInfinity}} {
		got, err := c.GetMetadata("Sent", []string{"/private/comment"}, opt).Wait()
		if err != nil || got.Mailbox != "Sent" || got.Entries["/private/comment"] == nil || string(*got.Entries["/private/comment"]) != string(value) {
			t.Errorf("%+v: %+v, %v", opt, got, err)
		}
	}
	if got, err := c.GetMetadata("Sent", []string{"/private/comment"}, &imapclient.GetMetadataOptions{MaxSize: &small}).Wait(); err != nil || len(got.Entries) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.SetMetadata("Sent", map[string]*[]byte{"/private/comment": nil}).Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestMetadataNobody: a session without a person has no private entries, and is not shown the shared ones in their place.
func TestMetadataNobody(t *testing.T) {
	w := newWorld(t, nil)
	w.commit(store.PutAnnotation{Ref: w.box("INBOX").Ref, Annotation: store.Annotation{Entry: "/comment", Value: "commun"}})
	at := annotated{ref: w.box("INBOX").Ref, box: w.box("INBOX")}
	nc := &sink{}
	c := &conn{srv: w.srv, out: out{nc: nc}, ctx: t.Context(), user: &user{who: &auth.Principal{}}}
	if _, err := c.metadataLine(wire.GetMetadata{Mailbox: "INBOX", Entries: []string{"/private/comment", "/shared/comment"}, MaxSize: -1}, at); err != nil {
		t.Fatal(err)
	}
	_ = c.out.flush()
	if got := nc.String(); got != "* METADATA INBOX (/private/comment NIL /shared/comment commun)\r\n" && got != "* METADATA INBOX (/private/comment NIL /shared/comment \"commun\")\r\n" {
		t.Errorf("got %q", got)
	}
	if err := c.mayAnnotate(at, nobody, "/comment"); err != errNoPrivate {
		t.Errorf("set: %v", err)
	}
}
