package imapd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mssd/auth"
	"mssd/imapd/wire"
	"mssd/store"
)

// TestMissingBlob: a message whose body is gone is refused alone; the others are answered, and the session goes on.
func TestMissingBlob(t *testing.T) {
	w := newWorld(t, nil)
	w.unsound = true // the store is damaged on purpose
	for _, subject := range []string{"un", "deux", "trois"} {
		w.deliver("INBOX", "Subject: "+subject+"\r\n\r\ncorps\r\n")
	}
	s := w.login(ownerName, "INBOX")
	removeBlob(t, w.dir, 2)
	un := s.want("FETCH 1:3 (UID BODY.PEEK[TEXT])", "NO [UNAVAILABLE]")
	expect(s, un, "* 1 FETCH (UID 1 BODY[TEXT] {7}\r\ncorps\r\n)", "* 3 FETCH (UID 3 BODY[TEXT] {7}\r\ncorps\r\n)")
	expect(s, s.ok("FETCH 2 FLAGS"), `* 2 FETCH (FLAGS (\Recent))`)
}

// removeBlob removes the body that was stored as the nth: their names are in order of time.
func removeBlob(t *testing.T, dir string, n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil || len(files) < n {
		t.Fatalf("%d bodies, %v", len(files), err)
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	if err := os.Remove(files[n-1]); err != nil {
		t.Fatal(err)
	}
}

// TestSearchLong: a word behind the bound of the stored words is found, in text, in base64 and in a header.
func TestSearchLong(t *testing.T) {
	w := newWorld(t, nil)
	long := strings.Repeat("des mots et encore des mots différents\r\n", 2000)
	w.deliver("INBOX", mail+long+"aiguille\r\n")
	w.deliver("INBOX", mail+long)
	w.deliver("INBOX", "X-Long: "+strings.Repeat("mot ", 20000)+"\r\n tête\r\n"+mail)
	s := w.login(ownerName, "INBOX")
	for _, c := range []struct{ key, want string }{
		{"BODY AIGUILLE", "* SEARCH 1"},
		{"TEXT aiguille", "* SEARCH 1"},
		{"NOT BODY aiguille", "* SEARCH 2 3"},
		{"BODY differents", "* SEARCH 1 2"},
		{"OR BODY aiguille HEADER X-Long tete", "* SEARCH 1 3"},
		{"SUBJECT aiguille", "* SEARCH"},
		{`HEADER X-Long ""`, "* SEARCH 3"},
	} {
		expect(s, s.ok("SEARCH "+c.key), c.want)
	}
}

// TestSearchFoldedPrefix: a field of ours that is folded is searched whole.
func TestSearchFoldedPrefix(t *testing.T) {
	w := newWorld(t, nil)
	if _, err := w.deliverBehind(foldedPrefix, "INBOX", mail); err != nil {
		t.Fatal(err)
	}
	w.deliver("INBOX", mail)
	s := w.login(ownerName, "INBOX")
	for _, text := range []string{"smtp.exemple.test", "by mss.exemple.test", "06akkcvta0000; fri", "(127.0.0.1) by"} {
		expect(s, s.ok(`SEARCH HEADER Received "`+text+`"`), "* SEARCH 1")
	}
	expect(s, s.ok(`SEARCH HEADER Received "ailleurs"`), "* SEARCH")
}

// TestNamespace: with several BALs the first has plain names, the others stand under their address; no new name of the first
// BAL can look like one of another.
func TestNamespace(t *testing.T) {
	grant := func(id store.BALID, a store.Address) auth.Grant {
		return auth.Grant{BAL: store.BAL{ID: id, Address: a}}
	}
	two := namespace{grants: []auth.Grant{grant(1, "a@exemple.test"), grant(2, "b@exemple.test")}}
	one := namespace{grants: two.grants[:1]}
	for _, c := range []struct {
		in   namespace
		name string
		bal  store.BALID
		box  string

		taken bool
	}{
		{one, "inbox", 1, "INBOX", false},
		{one, "inbox/x", 1, "INBOX/x", false},
		{one, "Other Users/b@exemple.test/INBOX", 1, "Other Users/b@exemple.test/INBOX", true},
		{two, "Sent", 1, "Sent", false},
		{two, "Other", 1, "Other", false},
		{two, "Other Usersx/INBOX", 1, "Other Usersx/INBOX", false},
		{two, "Other Users/B@exemple.test/inbox", 2, "INBOX", false},
		{two, "other users/b@exemple.test/Dossier/x", 2, "Dossier/x", false},
		{two, "Other Users/c@exemple.test/INBOX", 1, "Other Users/c@exemple.test/INBOX", true},
		{two, "Other Users/b@exemple.test", 1, "Other Users/b@exemple.test", true},
		{two, "Other Users/b@exemple.test/", 1, "Other Users/b@exemple.test/", true},
		{two, "Other Users/", 1, "Other Users/", true},
		{two, "Other Users", 1, "Other Users", true},
		{two, "Other Users/a@exemple.test/INBOX", 1, "Other Users/a@exemple.test/INBOX", true},
	} {
		if p := c.in.resolve(c.name); p.grant.BAL.ID != c.bal || p.name != c.box || p.taken != c.taken {
			t.Errorf("%q: BAL %d %q %v, want %d %q %v", c.name, p.grant.BAL.ID, p.name, p.taken, c.bal, c.box, c.taken)
		}
	}
	if got := two.show(1, "INBOX"); got != "Other Users/b@exemple.test/INBOX" {
		t.Errorf("shown as %q", got)
	}
}

// TestListSeveral: every level above the mailboxes of a further BAL is listed, for clients that descend with "%".
func TestListSeveral(t *testing.T) {
	w := newWorld(t, nil)
	const second = "cabinet@exemple.test"
	w.commit(
		store.PutBAL{BAL: store.BAL{Address: second, Kind: store.ORG, State: store.Active, Listing: store.Published}, Create: true},
		store.PutMember{Address: second, Member: store.Member{ID: "local:anne", Role: store.Owner}})
	other := must[store.BAL](t, "bal")(w.store.BAL(second))
	grants := []auth.Grant{{BAL: w.bal, Role: store.Owner}, {BAL: other, Role: store.Owner}}
	for _, c := range []struct {
		pattern string
		want    []string
	}{
		{"O%", []string{`* LIST (\NonExistent \Noselect \HasChildren) "/" "Other Users"`}},
		{`"Other Users/%"`, []string{`* LIST (\NonExistent \Noselect \HasChildren) "/" "Other Users/cabinet@exemple.test"`}},
		{`"Other Users/%/S%"`, []string{`* LIST (\HasNoChildren) "/" "Other Users/cabinet@exemple.test/Sent"`}},
	} {
		s := &sink{}
		conn := &conn{srv: w.srv, out: out{nc: s}, ctx: t.Context(),
			user: &user{who: &auth.Principal{Person: "local:anne", Grants: grants}, names: namespace{grants}}}
		if _, err := conn.cmdList(&wire.Command{Name: "LIST", Args: []byte(`"" ` + c.pattern)}); err != nil {
			t.Fatal(err)
		}
		_ = conn.out.flush()
		if got := strings.TrimSpace(s.String()); got != strings.Join(c.want, "\r\n") {
			t.Errorf("LIST %s:\n%s\nwant\n%s", c.pattern, got, strings.Join(c.want, "\r\n"))
		}
	}
}
